"""Damage is noticed: `preprocess.verify` reads every byte, and commands check what they write on from."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from changing import embed, make_data_bin, new_items
from conftest import ITEMS, write_jsonl
from safetensors import safe_open
from safetensors.torch import save_file

from cart_fairseq import CartRetriever
from cart_fairseq.base.files import sha256
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.loading.checkpoint import read_checkpoint
from cart_fairseq.search.dense.stored_arrays import save_arrays
from preprocess import verify as command
from preprocess.data_bin.build import binarize
from preprocess.join.build import join_captions
from preprocess.join.settings import JoinSettings
from preprocess.updating.steps import add, compact, remove
from preprocess.verifying.whole import verify

OLD = Path(__file__).resolve().parents[1] / "compatibility"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data-bin that has dense features, a later part, removed items and arrays of a model."""
    folder = tmp_path_factory.mktemp("made")
    shutil.rmtree(make_data_bin(folder))
    np.save(folder / "embeddings.npy", embed(ITEMS, 0))
    data = folder / "data-bin"
    binarize(folder / "identifiers", folder / "captions.jsonl", data, embeddings=folder / "embeddings.npy")
    add(data, *new_items(folder / "new", 5))
    remove(data, ["item 2"])
    (data / "search" / "priors.0").mkdir(parents=True)
    save_arrays(data / "search" / "priors.0", {"priors": np.ones(5, np.float32)})
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "data-bin", tmp_path / "data-bin"))


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def names(folder: Path) -> list[str]:
    without = ("update.lock", "checksums.json")
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name not in without)


def assert_noticed(place: Path, file: Path, flips: int) -> None:
    kept, draw = file.read_bytes(), random.Random(str(file.name))
    for _ in range(flips):
        bit = draw.randrange(8 * len(kept))
        flip(file, bit)
        with pytest.raises(ValueError, match=r".") as error:
            verify(place)
        assert place.name in str(error.value), bit
        file.write_bytes(kept)


def test_a_flipped_bit_in_any_file_of_a_data_bin_is_noticed(data: Path):
    found = verify(data)
    assert (found.kind, found.unknown) == ("data-bin", ())
    files = names(data)
    assert found.checked == len(files)
    assert {"identifiers/codec.safetensors", "dense.embeddings.npy", "search/priors.0/priors.npy"} <= {*files}
    for name in files:
        assert_noticed(data, data / name, 12 if name.endswith("manifest.json") else 2)
    assert verify(data) == found
    bundle = verify(data / "identifiers")
    assert bundle.kind == "bundle"
    assert bundle.checked == len(names(data / "identifiers"))


def test_a_data_bin_of_a_join_is_a_data_bin(made: Path, tmp_path: Path):
    settings = JoinSettings(text_dim=4, pca=4)
    write_jsonl(made / "items.jsonl", [{"item_id": f"item {i}"} for i in range(ITEMS)])
    given = made / "embeddings.npy", made / "items.jsonl", made / "captions.jsonl"
    join_captions(*given, tmp_path / "joined", settings)
    data = tmp_path / "data-bin"
    binarize(made / "identifiers", made / "captions.jsonl", data, embeddings=tmp_path / "joined")
    assert (data / "join.json").is_file()
    assert verify(data).kind == "data-bin"
    with pytest.raises(
        ValueError, match=r"data-bin: holds '.*', which is not of this command; choose another --output"
    ):
        join_captions(*given, data, settings)
    assert verify(data).kind == "data-bin"


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"item 7"', b'"item 7}'), (b'"item 7"', b'"item \xff"'), (b'{"item_id": "item 7"', b'["item_id", "item 7"')],
)
def test_a_damaged_record_of_an_item_names_its_file(data: Path, old: bytes, new: bytes):
    path = data / "identifiers" / "item_ids.parquet"
    table = pq.read_table(path)
    records = [text.encode() for text in table["record"].to_pylist()]
    records[7] = records[7].replace(old, new)
    assert new in records[7]
    column = pa.array(records, pa.binary())
    table = table.set_column(2, "record", pa.Array.from_buffers(pa.string(), len(column), column.buffers()))
    pq.write_table(table, path)
    replace_size(data / "identifiers", path.name)
    bundle = IdentifierBundle.load(data / "identifiers")
    with pytest.raises(CatalogueError, match=r"identifiers/item_ids\.parquet: .*; build it again"):
        bundle.record(7)


def test_a_damaged_text_of_a_query_names_its_file(data: Path):
    path = data / "queries.train.parquet"
    table = pq.read_table(path)
    texts = pa.array([b"\xff" + text.encode() for text in table["text"].to_pylist()], pa.binary())
    place = table.schema.get_field_index("text")
    table = table.set_column(place, "text", pa.Array.from_buffers(pa.string(), len(texts), texts.buffers()))
    pq.write_table(table, path)
    replace_size(data, path.name)
    with pytest.raises(CatalogueError, match=r"queries\.train\.parquet: "):
        DataBin(data).queries("train")


def test_strays_beside_stored_arrays_are_passed_over(data: Path):
    found = verify(data)
    (data / "search" / "notes.txt").write_text("mine\n")
    (data / "search" / ".vectors.0.abcd1234.tmp").mkdir()
    assert verify(data) == found


def test_a_flipped_bit_in_a_join_is_noticed(tmp_path: Path):
    join = Path(shutil.copytree(OLD / "joined", tmp_path / "joined"))
    assert (verify(join).kind, verify(join).unknown) == ("join", ())
    for name in names(join):
        if name != "join.json":
            assert_noticed(join, join / name, 3)


def complaint(path: Path) -> str:
    try:
        verify(path)
    except ValueError as error:
        return str(error)
    return ""


def test_a_flipped_bit_in_a_checkpoint_is_noticed_or_changes_nothing(tmp_path: Path):
    path = tmp_path / "checkpoint.pt"
    shutil.copy(OLD / "plain.pt", path)
    assert verify(path).kind == "checkpoint"
    whole, kept = read_checkpoint(path)["model"], path.read_bytes()
    draw, noticed = random.Random(1), 0
    for _ in range(40):
        flip(path, draw.randrange(8 * len(kept)))
        said = complaint(path)
        if said:
            noticed += 1
            assert said.startswith(f"{path}: ")
        else:
            found = read_checkpoint(path)["model"]
            assert found.keys() == whole.keys()
            assert all(torch.equal(found[name], whole[name]) for name in whole)
        path.write_bytes(kept)
    assert noticed > 20


def test_searching_refuses_a_checkpoint_whose_checksum_is_wrong(tmp_path: Path):
    path = tmp_path / "checkpoint.pt"
    shutil.copy(OLD / "plain.pt", path)
    weight = next(value for value in read_checkpoint(path)["model"].values() if value.numel() > 50)
    place = path.read_bytes().find(weight.numpy().tobytes())
    flip(path, 8 * place)  # the least of a weight
    with pytest.raises(ValueError, match=r"its part .* is damaged, its checksum differs; give another checkpoint"):
        CartRetriever.from_pretrained(path, data=OLD / "plain" / "data-bin")


def test_several_damaged_files_are_named_at_once(data: Path):
    for name in ("dict.query.txt", "identifiers/item_ids.parquet"):
        flip(data / name, 999)
    with pytest.raises(ValueError, match=r"2 files are damaged: .*dict\.query\.txt, .*item_ids\.parquet; the first: "):
        verify(data)


def test_what_has_no_checksum_is_named(data: Path, capsys: pytest.CaptureFixture[str]):
    manifest = read_json(data / "manifest.json")
    del manifest["files"]["trie.safetensors"]["sha256"], manifest["checksum"]
    (data / "manifest.json").write_text(json.dumps(manifest))
    np.save(data / "candidates.mine.npy", np.array([1]))
    (data / "search" / "priors.0" / "checksums.json").unlink()
    command.main([str(data), str(OLD / "plain.pt")])
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{data}: data-bin, ")
    unknown = "manifest.json, candidates.mine.npy, trie.safetensors, search/priors.0/priors.npy"
    assert second == f"not checked, because no checksum was recorded: {unknown}"
    assert third.startswith(f"{OLD / 'plain.pt'}: checkpoint, ")
    with pytest.raises(ValueError, match="neither a bundle, a data-bin, a join"):
        verify(data / "search")


def content(folder: Path) -> dict[str, str]:
    return {name: sha256(folder / name) for name in names(folder)}


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("identifiers/codec.safetensors", ("add", "remove", "compact")),
        ("identifiers/item_ids.parquet", ("add", "remove", "compact")),
        ("dense.embeddings.npy", ("add", "remove", "compact")),
        ("queries.train.parquet", ("remove", "compact")),
        ("train.query-id.query.bin", ("remove", "compact")),
    ],
)
def test_nothing_is_written_on_from_a_damaged_file(data: Path, tmp_path: Path, name: str, steps: tuple[str, ...]):
    calls: dict[str, Any] = {
        "add": lambda: add(data, *new_items(tmp_path / "more", 3, first=50)),
        "remove": lambda: remove(data, ["item 1"]),
        "compact": lambda: compact(data),
    }
    flip(data / name, 8 * (data / name).stat().st_size - 80)
    before = content(data)
    for step in steps:
        with pytest.raises(ValueError, match=Path(name).name):
            calls[step]()
        left = content(data)
        assert {key: left[key] for key in before} == before
        assert read_json(data / "identifiers" / "manifest.json")["revision"] == 2
    flip(data / name, 8 * (data / name).stat().st_size - 80)
    calls[steps[-1]]()
    verify(data)


def wide(data: Path) -> None:
    with safe_open(data / "trie.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["trie"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dictionary
    facts["width"][0], facts["sizes"][0] = 1 << 30, (1 << 31) - 1
    save_file(tensors, data / "trie.safetensors", metadata={"trie": json.dumps(facts)})


def replace_size(data: Path, name: str) -> None:
    """Let the manifest have the size that a file has now."""
    manifest = read_json(data / "manifest.json")
    manifest["files"][name]["bytes"] = (data / name).stat().st_size
    (data / "manifest.json").write_text(json.dumps(manifest))


def test_numbers_are_checked_before_memory_is_taken_for_them(data: Path):
    path, header = data / "identifiers" / "manifest.json", data / "identifiers" / "removed.000002.npy"
    kept = path.read_text()
    manifest = json.loads(kept)
    manifest["positions"][-1]["size"] += 1 << 30
    path.write_text(json.dumps(manifest))
    with pytest.raises(CatalogueError, match=r"manifest\.json: damaged \(dict\.id\.txt has .* need"):
        IdentifierBundle.load(path.parent)
    path.write_text(kept)
    content = header.read_bytes()
    header.write_bytes(content.replace(b"(1,), }" + b" " * 10, b"(99999999999,), }"))
    with pytest.raises(CatalogueError, match=r"removed\.000002\.npy"):
        IdentifierBundle.load(path.parent)
    header.write_bytes(content)
    wide(data)
    replace_size(data, "trie.safetensors")
    with pytest.raises(CatalogueError, match=r"trie\.safetensors"):
        _ = DataBin(data).trie
    for rows in (np.array([-1, 2]), np.array([1, 10**9]), np.array([0.5])):
        np.save(data / "candidates.mine.npy", rows)
        with pytest.raises(CatalogueError, match=r"candidates\.mine\.npy: .* expected item rows from 0 to"):
            DataBin(data).candidates("mine")
