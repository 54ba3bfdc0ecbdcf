"""Flags and data of a trained run have changed: the run is refused first, and nothing in OUT changes."""

import shutil
from pathlib import Path

import pytest
from conftest import write_jsonl
from recipe_calls import Trainings, call, training_here
from recipe_samples import write_data

from cart_fairseq.base.files import sha256
from cart_fairseq.base.reading import read_jsonl

SMALL = "--scheme residual-kmeans --kmeans-clusters 3 --codebook-size 3 --allow-collapse"
TINY = ("--arch", "cart_tiny", "--batch-size", "16", "--max-update", "2")


def files(out: Path) -> dict[Path, tuple[int, str]]:
    found = (path for path in out.rglob("*") if path.is_file() and path.name != "lock")
    return {path: (path.stat().st_mtime_ns, sha256(path)) for path in found}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a small trained run."""
    folder = tmp_path_factory.mktemp("finished")
    run(write_data(folder / "data"), folder / "out")
    return folder


@pytest.fixture
def data(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished / "data", tmp_path / "data")


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished / "out", tmp_path / "out", symlinks=True)


def run(data: Path, out: Path, **variables: str) -> Trainings:
    with training_here() as trainings:
        call("own_data/run", data, out, *TINY, **{"RECIPE": "cpu", "IDENTIFIER_FLAGS": SMALL} | variables)
    return trainings


@pytest.mark.parametrize(
    ("variable", "flags", "output"),
    [
        ("IDENTIFIER_FLAGS", SMALL + " --codebooks 1", "identifiers"),
        ("IDENTIFIER_FLAGS", "--scheme atomic --allow-collapse", "identifiers"),
        ("BINARIZE_FLAGS", "--vocab-size 99", "data-bin"),
    ],
)
def test_other_flags_are_refused_before_anything_is_made_again(data, trained, variable, flags, output):
    before = files(trained)
    with pytest.raises(ValueError, match=f"checkpoints: holds a model trained on other data.*{output} was.*{variable}"):
        run(data, trained, **{variable: flags})
    assert files(trained) == before
    assert not run(data, trained).calls


@pytest.mark.parametrize(("name", "output"), [("items.jsonl", "identifiers"), ("captions.jsonl", "data-bin")])
def test_other_data_are_refused_too(data, trained, name, output):
    before, rows = files(trained), read_jsonl(data / name)
    write_jsonl(data / name, [row | {"note": "new"} for row in rows])
    with pytest.raises(ValueError, match=f"holds a model trained on other data .*{output} was made with other"):
        run(data, trained)
    assert files(trained) == before


def test_a_damaged_data_bin_is_made_again(data, trained):
    before, damaged = files(trained), trained / "data-bin" / "dict.query.txt"
    damaged.unlink()
    assert not run(data, trained).calls
    assert files(trained)[damaged][1] == before[damaged][1]


def test_without_a_checkpoint_everything_is_made_again(data, trained):
    (trained / "checkpoints" / "checkpoint_last.pt").unlink()
    assert len(run(data, trained, IDENTIFIER_FLAGS=SMALL + " --codebooks 1").calls) == 1
