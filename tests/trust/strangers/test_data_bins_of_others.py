"""Tables and data sets of a stranger's data-bin: no larger in memory than their files allow, and of its dictionaries."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import TASK, run, train_flags

from cart_fairseq.base import parquet
from cart_fairseq.base.parquet import read_table, write_table
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.tasks.held_sequences import open_sequences

OLD = Path(__file__).resolve().parents[2] / "compatibility"
SCHEMA = pa.schema([("item_id", pa.string()), ("split", pa.string()), ("record", pa.string())])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / "plain" / "data-bin", tmp_path / "data-bin"))


def long_texts(path: Path) -> None:
    """48 records of 4 MB, which are one."""
    table = pq.read_table(path)
    record = pa.array(["x" * (4 << 20)] * len(table))
    pq.write_table(table.set_column(2, "record", record), path, compression="zstd")


def one_long_text(path: Path) -> None:
    table = pq.read_table(path)
    ids = pa.array(["x" * (120 << 20), *(f"item {row}" for row in range(1, len(table)))])
    pq.write_table(table.set_column(0, "item_id", ids), path, compression="zstd", use_dictionary=False)


def many_rows(path: Path) -> None:
    table = pa.table({name: pa.array(["x"]).take(pa.array(np.zeros(1 << 23, np.int32))) for name in SCHEMA.names})
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("damage", "column"), [(long_texts, "_records"), (one_long_text, "id_column"), (many_rows, "split_column")]
)
def test_a_small_table_of_items_fills_no_memory(data: Path, damage: Callable[[Path], None], column: str):
    bundle = data / "identifiers"
    damage(bundle / "item_ids.parquet")
    manifest = (bundle / "manifest.json").read_text()
    size = (bundle / "item_ids.parquet").stat().st_size
    assert size < 1 << 20
    kept = IdentifierBundle.load(OLD / "plain" / "data-bin" / "identifiers").manifest["files"]["item_ids.parquet"][
        "bytes"
    ]
    (bundle / "manifest.json").write_text(manifest.replace(f'"bytes": {kept}', f'"bytes": {size}'))
    before = pa.total_allocated_bytes()
    opened = IdentifierBundle.load(bundle)
    with pytest.raises(CatalogueError, match=r"item_ids\.parquet: damaged \((would take|8,388,608 rows for 48)"):
        getattr(opened, column)
    assert pa.total_allocated_bytes() - before < 64 << 20


def test_a_small_table_of_queries_fills_no_memory(data: Path):
    path = data / "queries.test.parquet"
    many = 1 << 24
    table = pa.table({"item_row": pa.array(np.zeros(many, np.int64))})
    pq.write_table(table, path)
    with pytest.raises(ValueError, match="would take 128 MiB of memory"):
        read_table(path, ["item_row"])


def test_tables_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts = ["a", None, "längere", "a", ""] * 1000
    table = pa.table({"number": pa.array(range(5000)), "text": texts, "kind": ["one"] * 5000})
    odd = tmp_path / "~" / "caf\udce9"
    odd.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for path in (odd / "table.parquet", Path("~") / "table.parquet"):
        write_table(table, path)
        assert read_table(path).equals(table)
        assert read_table(path, ["text"], 5000)["text"].to_pylist() == texts
        with pytest.raises(ValueError, match="5,000 rows for 3 identifiers"):
            read_table(path, ["text"], 3)
    with pytest.raises(FileNotFoundError, match="missing"):
        read_table(odd / "missing")
    assert (tmp_path / "~" / "table.parquet").is_file()
    monkeypatch.setattr(parquet, "ALWAYS", 0)
    monkeypatch.setattr(parquet, "EXPANDED", 1)
    with pytest.raises(ValueError, match="more than a file of its size should"):
        read_table(odd / "table.parquet")


def test_the_threads_of_pyarrow_hold_no_python_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Or Python may abort at its end, when one of them lets go of it: "terminate called without an active exception"."""
    sources = []

    class Watched(pq.ParquetFile):
        def __init__(self, source, **kwargs):
            sources.append(source)
            super().__init__(source, **kwargs)

    path = tmp_path / "table.parquet"
    write_table(pa.table({"text": ["a"]}), path)
    monkeypatch.setattr(pq, "ParquetFile", Watched)
    read_table(path)
    with parquet.parquet_file(path) as table:
        assert table.read().num_rows == 1
    assert len(sources) == 3
    assert all(isinstance(source, pa.OSFile) for source in sources)


def flipped(path: Path, symbol: int, value: int) -> None:
    symbols = np.fromfile(path, np.int32)
    symbols[symbol] = value
    symbols.tofile(path)


@pytest.mark.parametrize(
    ("side", "symbol", "value"),
    [("query", 3, 1 << 20), ("query", 0, -1), ("id", 0, 1), ("id", 1, 1 << 30), ("id", -1, 4)],
    ids=["too large", "negative", "padding", "another position", "no end"],
)
@pytest.mark.parametrize("command", ["generate", "train"])
def test_symbols_of_no_dictionary_are_named(
    data: Path, tmp_path: Path, side: str, symbol: int, value: int, command: str
):
    if command == "train" and symbol not in (1, 3):
        pytest.skip("the same check, tried by generate")
    subset = "test" if command == "generate" else "train"
    path = data / f"{subset}.query-id.{side}.bin"
    flipped(path, symbol, value)
    if command == "train":
        said = run(*train_flags(data, tmp_path / "save", "--max-epoch", 1), fails=True)
    else:
        flags = [data, *TASK, "--path", OLD / "plain.pt", "--gen-subset", "test", "--cpu"]
        said = run(*flags, module="fairseq_cli.generate", fails=True)
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(f"error: {path}: holds something else than ")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [(9, struct.pack("<Q", 2), "of version 2"), (17, b"\x06", "and type 6"), (17, b"\x63", "and type 99")],
)
def test_an_index_of_another_kind_is_named(data: Path, place: int, value: bytes, said: str, capsys):
    index = data / "test.query-id.query.idx"
    content = bytearray(index.read_bytes())
    content[place : place + len(value)] = value
    index.write_bytes(content)
    with pytest.raises(CatalogueError, match=said):
        open_sequences(DataBin(data).files, "test.query-id.query")
    assert "Exception ignored" not in capsys.readouterr().err


def test_a_codec_that_is_no_object_is_named(data: Path):
    bundle = IdentifierBundle.load(data / "identifiers")
    for content in ("[]", '"x"', "true"):
        (data / "identifiers" / "codec.json").write_text(content)
        manifest = dict(bundle.manifest)
        manifest["files"] = {**manifest["files"], "codec.json": {"bytes": len(content)}}
        with pytest.raises(CatalogueError, match=r"codec\.json: holds .*, not an object"):
            _ = IdentifierBundle.load(data / "identifiers", manifest).codec_settings
