"""The ablation recipe: its table holds what the runs measured, its shell parses, its flags exist."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "ablations"
NAMES = ["without-consistency", "without-fusion", "without-kmeans", "without-rqvae", "cart"]


def test_table_prints_every_line_s_own_figures(tmp_path):
    for place, name in enumerate(NAMES):
        (tmp_path / name / "identifiers").mkdir(parents=True)
        figures = {f"recall_at_{k}": k + place for k in (1, 5, 10)}
        metrics = {"valid": {**figures, "mrr_at_10": 50 + place}, "test": {**figures, "mrr_at_10": 0}}
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
        (tmp_path / name / "identifiers" / "report.json").write_text(json.dumps({"unique_codes": place, "items": 4}))
    command = [sys.executable, str(FOLDER / "table4.py"), str(tmp_path), "valid"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[2] == "| w/o consistency loss | 1.0 | 5.0 | 10.0 | 50.0 | 0.0 % |"
    assert lines[-1] == "| CART | 5.0 | 9.0 | 14.0 | 54.0 | 100.0 % |"
    assert len(lines) == 2 + len(NAMES)


@pytest.mark.parametrize("arguments", [[], ["only-data"]])
def test_wrong_calls_say_how_to_call(arguments):
    done = subprocess.run(["bash", str(FOLDER / "table4.sh"), *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_shell_names_every_line_of_the_table():
    shell = (FOLDER / "table4.sh").read_text()
    subprocess.run(["bash", "-n", str(FOLDER / "table4.sh")], check=True)
    assert [name for name in NAMES if f"line {name} " in shell] == NAMES
