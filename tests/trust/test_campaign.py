"""`make trust` in small: a part runs alone, says what came of it, and a fault is one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).with_name("campaign")


def test_a_part_runs_alone_and_leaves_a_record(tmp_path: Path):
    command = [sys.executable, str(CAMPAIGN), "--parts", "limits", "partials", "--limits", "1", "--partials", "1"]
    command += ["--folder", str(tmp_path), "--json", str(tmp_path / "trust.json")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert (ended.returncode, ended.stderr) == (0, "")
    record = json.loads((tmp_path / "trust.json").read_text())
    assert record["counts"]["limit of file sizes, add"] == {"old or new, then done": 1}
    assert sum(record["counts"]["damaged join_captions.partial"].values()) == 1
    assert record["faults"] == []
    assert {"commit", "machine", "settings", "seconds", "skipped"} <= record.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["trust.json"]


UNFLUSHED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import worlds, mounts, power
from trials import Campaign
from cart_fairseq.base import disk

campaign = Campaign(Path(sys.argv[2]), 1)
power.STEPS = {"remove": worlds.STEPS["remove"]}
power.power_cuts(campaign, 2)
assert not campaign.faults, campaign.faults
disk.flush = lambda path: None
power.power_cuts(campaign, 2)
print(campaign.skipped or dict(campaign.counts["power cut after remove"]))
"""


def test_a_power_cut_loses_what_was_not_flushed(tmp_path: Path):
    command = [sys.executable, "-c", UNFLUSHED, str(CAMPAIGN), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = ended.stdout.splitlines()[-1]
    if "power cuts" in found:
        pytest.skip(found)
    assert found == "{'old or new, then done': 2, 'lost': 2}"
