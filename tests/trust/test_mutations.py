"""What commands do with damaged files and with files from other programs: one clear line, or the same result.

The table names for every command and file the ways to damage the file (`mutations.py`) and what is expected:

- refused: exit code 2 and one line that names the file and a remedy; nothing else is written.
- same: the result is that of the undamaged file.
"""

from pathlib import Path

import pytest
from mutations import ANY, COMMANDS, LINES, NPY, TEXT, WHOLE, Damage, bit, damage, link_world, make_world, row, value

from cart_fairseq.base.processes import run_script

READ = ("BOM", "CRLF")
"""Ways to save a text that make no difference."""


def fields(**wrong: list) -> dict[str, Damage]:
    """Values of fields in JSON; `...` removes the field."""
    return {f"{name} = {each!r}": value(name, to=each) for name, values in wrong.items() for each in values}


def some(ways: dict[str, Damage], *names: str) -> dict[str, Damage]:
    return {name: ways[name] for name in names}


BUNDLE = fields(
    files=[..., None, [1], -1, {"a": 1}],
    items=[..., None, "x"],
    positions=[None, "x", [1]],
    kind=[None],
    schema_version=[2, "1"],
)
DATA_BIN = fields(
    files=[..., None, [1]],
    counts=[..., None, {"a": 1}],
    inputs=[..., None, {"a": 1}],
    index_captions=[None, "x"],
    valid_held_out=[..., "x"],
    fingerprint=[..., None, 7],
    identifiers=["x", None],
    kind=[3],
)
JOIN = fields(
    settings=[..., None, [1], {"a": 1}], files=[None, "x", {"a": 1}], captions=[..., "x"], texts=[None], dimension=["x"]
)
ROWS = {
    "no item": row(1, item_id="nobody"),
    "a number for an id": row(1, item_id=7),
    "a text of one space": row(1, text=" "),
    "half a surrogate pair": row(1, text="\ud83d"),
    "another role": row(1, role="validation"),
}
REFUSED: list[tuple[str, str, dict[str, Damage]]] = [
    ("build", "in/embeddings.npy", {**ANY, **NPY}),
    ("build", "in/items.jsonl", {**ANY, **some(TEXT, "UTF-16", "Latin-1", "NUL"), **LINES}),
    ("build from a table", "in/table.parquet", {**ANY, "footer": bit(0.95), "magic": bit(1)}),
    ("build from Arrow", "in/table.arrow", {**ANY, "footer": bit(0.995), "schema": bit(0.95)}),
    ("binarize", "in/captions.jsonl", {**ANY, **some(TEXT, "UTF-16", "Latin-1", "NUL"), **LINES, **ROWS}),
    ("binarize", "bundle/manifest.json", {**ANY, **WHOLE, **BUNDLE}),
    ("add", "plain/identifiers/codec.json", some(ANY, "missing", "same size")),
    ("add", "plain/identifiers/codec.safetensors", some(ANY, "cut", "zeros")),
    ("add", "plain/identifiers/item_ids.parquet", some(ANY, "missing", "same size")),
    ("add", "in/new.npy", NPY),
    ("search", "data-bin/manifest.json", {**some(ANY, "empty", "gzip"), **some(WHOLE, "deep", "digits"), **DATA_BIN}),
    ("search", "data-bin/sentencepiece.model", some(ANY, "same size", "zeros")),
    ("search", "data-bin/dict.query.txt", some(ANY, "same size")),
    ("search", "data-bin/dense.captions.npy", some(ANY, "zeros")),
    ("search", "data-bin/trie.safetensors", some(ANY, "zeros")),
    ("search", "dense.pt", ANY),
    ("search", "in/queries.jsonl", {**some(ANY, "missing", "empty", "gzip"), **LINES}),
    ("measure", "in/generate-test.txt", some(ANY, "missing", "empty", "text", "gzip")),
    ("remove", "data-bin/manifest.json", DATA_BIN),
    ("remove", "data-bin/dense.embeddings.npy", some(ANY, "zeros")),
    ("remove", "data-bin/queries.train.parquet", some(ANY, "zeros")),
    ("remove", "data-bin/train.query-id.id.idx", some(ANY, "zeros")),
    ("remove", "in/ids.txt", some(ANY, "missing", "empty", "text", "gzip")),
    ("clotho", "in/clotho_captions_development.csv", {**ANY, **some(TEXT, "UTF-16", "Latin-1")}),
    ("karpathy", "in/dataset_flickr30k.json", {**ANY, **WHOLE}),
    ("join", "joined/join.json", {**some(ANY, "missing", "cut"), **JOIN}),
    ("join", "joined/join.safetensors", some(ANY, "missing", "zeros")),
    ("binarize a join", "joined/join.json", some(JOIN, "settings = None", "files = 'x'", "captions = 'x'")),
    ("binarize a join", "joined/captions.npy", some(ANY, "missing", "zeros")),
]
SAME = [
    *(
        (command, file, some(TEXT, *READ))
        for command, file in (
            ("build", "in/items.jsonl"),
            ("binarize", "in/captions.jsonl"),
            ("add", "in/new.jsonl"),
            ("search", "in/queries.jsonl"),
            ("measure", "in/generate-test.txt"),
            ("remove", "in/ids.txt"),
            ("clotho", "in/clotho_captions_development.csv"),
            ("karpathy", "in/dataset_flickr30k.json"),
        )
    ),
    ("binarize", "bundle/manifest.json", some(TEXT, *READ)),
]


def table(expected: list[tuple[str, str, dict[str, Damage]]]) -> list:
    return [
        pytest.param(command, file, way, id=f"{command}: {file}: {name}")
        for command, file, ways in expected
        for name, way in ways.items()
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutations") / "world"
    make_world(folder)
    return folder


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    link_world(world, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def outcome(command: str, capsys: pytest.CaptureFixture) -> tuple[int, str, str]:
    """Exit code, and what a command prints."""
    main, flags = COMMANDS[command]
    code = 0
    try:
        run_script(lambda: main(flags.split()))
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def result(command: str, out: str) -> object:
    """What a command has made: arrays and tables in its output, else what it printed."""
    made = [path for path in sorted(Path("out").rglob("*")) if path.suffix in (".npy", ".bin", ".parquet", ".jsonl")]
    return {str(path): path.read_bytes() for path in made} or out


@pytest.mark.parametrize(("command", "file", "way"), table(REFUSED))
def test_damaged_files_are_refused_in_one_line(here: Path, command: str, file: str, way: Damage, capsys):
    damage(Path(file), way)
    code, out, err = outcome(command, capsys)
    assert code == 2, (out, err)
    (line,) = err.splitlines()[-1:]
    assert line.startswith("error: ")
    assert file in line or f"{Path(file).parent}: " in line or f"{Path(file).parent}/" in line, line
    assert "; " in line, line
    assert "Traceback" not in err
    assert not list(here.glob("*.log"))
    assert not Path("out").exists()


@pytest.fixture(scope="module")
def expected(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Results of commands with undamaged files, filled when they are needed."""
    return {}


@pytest.mark.parametrize(("command", "file", "way"), table(SAME))
def test_ways_to_save_a_text_make_no_difference(
    world: Path, here: Path, expected: dict[str, object], command: str, file: str, way: Damage, capsys, monkeypatch
):
    if command not in expected:
        link_world(world, here / "whole")
        monkeypatch.chdir(here / "whole")
        code, out, err = outcome(command, capsys)
        assert code == 0, err
        expected[command] = result(command, out)
        monkeypatch.chdir(here / "here")
    damage(Path(file), way)
    code, out, err = outcome(command, capsys)
    assert code == 0, err
    assert result(command, out) == expected[command]


def test_the_table_is_long_enough():
    assert len(table(REFUSED)) + len(table(SAME)) >= 150
