"""examples/own_data/run.sh from end to end, with processes of its own: names of any kind, stops and failures."""

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recipe_calls import Stopped, call, fairseq_calls, training_here
from recipe_samples import write_data

from cart_fairseq.base.reading import read_json

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "own_data" / "run.sh"
HOSTILE = '-it\'s "x" $(touch hacked) `id` [a]*?\n~ {1,2} #%s\\'
TINY = ("--arch", "cart_tiny", "--batch-size", "16", "--max-epoch", "1")
QUICK = {"IDENTIFIER_FLAGS": "--scheme residual-kmeans --kmeans-clusters 3 --codebook-size 3 --allow-collapse"}


def shell(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script as people call it, in a folder."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_FLAGS")}
    environment = {**kept, "PYTHON": sys.executable, "RECIPE": "cpu", **variables}
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=300
    )


def test_hostile_names_work_everywhere(tmp_path):
    """Data, output, and every variable of flags that this recipe reads; the same call again does nothing."""
    write_data(tmp_path / HOSTILE)
    dense = tmp_path / HOSTILE / "it's.npy"
    dense.write_bytes((tmp_path / HOSTILE / "embeddings.npy").read_bytes())
    variables = {
        "IDENTIFIER_FLAGS": f"{QUICK['IDENTIFIER_FLAGS']} --embedding-column {shlex.quote(HOSTILE)}",
        "BINARIZE_FLAGS": f"--valid-size 0 --embeddings {shlex.quote(str(dense))}",
    }
    out = f"{HOSTILE}.out"
    done = shell(tmp_path, HOSTILE, out, *TINY, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done training in" in (tmp_path / out / "checkpoints" / "train.log").read_text()
    found = read_json(tmp_path / out / "metrics.json")
    assert (found["test"]["queries"], found["test"]["candidates"]) == (20, 20)
    assert sorted(path.name for path in (tmp_path / out).iterdir()) == [
        *("checkpoints", "data-bin", "identifiers", "metrics.json", "qrels.test.trec", "results"),
        *("run.json", "run.test.trec"),
    ]
    names = [f"generate-test.{kind}" for kind in ("log", "txt")] + ["metrics.test.json"]
    assert sorted(path.name for path in (tmp_path / out / "results" / "split").iterdir()) == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([HOSTILE, out])
    with training_here() as trainings:
        again = call("own_data/run", tmp_path / HOSTILE, tmp_path / out, *TINY, **variables, RECIPE="cpu")
    assert not trainings.calls
    assert "checkpoints: complete, nothing to do" in again


@pytest.mark.parametrize("name", ["a:b", "${x}", "a\\'b"])
def test_names_that_fairseq_does_not_take_are_refused_at_once(tmp_path, name):
    data = write_data(tmp_path / "data")
    with pytest.raises(ValueError, match=r"in its path, and fairseq .*; choose a folder without it"):
        call("own_data/run", data, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_data_may_lie_in_a_folder_with_a_colon(tmp_path):
    data = write_data(tmp_path / "a:b${c}")
    with training_here(stop_at=tmp_path / "out" / "checkpoints"), pytest.raises(Stopped):
        call("own_data/run", data, tmp_path / "out", *TINY, **QUICK)


def test_shards_are_read_where_there_is_a_folder_of_them(tmp_path):
    data = write_data(tmp_path / "[data]")
    rows = np.load(data / "embeddings.npy")
    (data / "embeddings").mkdir()
    for number, part in enumerate(np.split(rows, 2)):
        np.save(data / "embeddings" / f"part-{number}.npy", part)
    (data / "embeddings.npy").unlink()
    with training_here(stop_at=tmp_path / "out" / "checkpoints"), pytest.raises(Stopped):
        call("own_data/run", data, tmp_path / "out", *TINY, **QUICK)
    assert len(np.load(tmp_path / "out" / "identifiers" / "identifiers.npy")) == 20


def test_bad_data_stops_run_sh_with_its_message(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/items.jsonl").write_text(json.dumps({"item_id": "a"}) + "\n" + "{\n")
    result = shell(tmp_path, "data", "out")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "items.jsonl, row 2: broken JSON" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "items.jsonl"]


def test_a_training_that_fails_shows_the_end_of_its_log(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    out.mkdir()
    with pytest.raises(SystemExit) as ended, contextlib.redirect_stderr(io.StringIO()) as said:
        fairseq_calls.train(data, out, ["--lr", "nonsense"])
    assert ended.value.code == 1
    assert "nonsense" in said.getvalue()
    assert len(said.getvalue().splitlines()) == fairseq_calls.LAST_LINES
    assert (out / "train.log").read_text().endswith(said.getvalue())


def test_a_search_that_fails_shows_the_end_of_its_log(tmp_path):
    with pytest.raises(SystemExit) as ended, contextlib.redirect_stderr(io.StringIO()) as said:
        fairseq_calls.search([str(tmp_path), "--task", "cart_retrieval", "--path", "none.pt"], tmp_path / "search.log")
    assert ended.value.code == 1
    assert re.search(r"none\.pt|manifest", said.getvalue())
    assert said.getvalue().strip() in (tmp_path / "search.log").read_text()
