"""examples/ablations/readings.sh: a reading changes what it says, a stopped call goes on, and the record has its facts."""

from pathlib import Path

import pytest
from conftest import load_example
from fairseq import options
from recipe_calls import Stopped, call, training_here
from recipe_samples import write_data

from cart_fairseq.base.files import sha256
from cart_fairseq.base.reading import read_json

ROOT = Path(__file__).resolve().parents[3]
readings = load_example("ablations", "readings")
TINY = ["--arch", "cart_tiny", "--batch-size", "16", "--max-update", "3"]
VARIABLES = {
    "JOIN_FLAGS": "--align 4",
    "IDENTIFIER_FLAGS": "--kmeans-clusters 3 --codebook-size 3",
    "BINARIZE_FLAGS": "--valid-size 0",
}


def parsed(name: str) -> dict:
    """What fairseq-train makes of a reading's flags."""
    flags = ["data-bin", "--user-dir", str(ROOT / "cart_fairseq"), "--task", "cart_retrieval", "--arch", "cart"]
    flags += [
        "--criterion",
        "cart_rdrop",
        "--lr-scheduler",
        "cosine",
        "--lr-shrink",
        "1",
        *readings.READINGS[name].flags,
    ]
    return vars(options.parse_args_and_arch(options.get_training_parser(), input_args=flags))


def test_a_reading_changes_one_option():
    default = parsed("default")
    changed = {
        name: {option: value for option, value in parsed(name).items() if default[option] != value}
        for name in readings.READINGS
    }
    assert changed == {
        "default": {},
        "separate": {"fusion_attention": "separate"},
        "single-bias": {"fusion_bias": "single"},
        "raw-states": {"encoder_states": "raw"},
        "decoder-input": {"fusion_query": "decoder-input"},
        "no-ffn": {"no_decoder_ffn": True},
        "restarts": {"lr_period_updates": 300},
        "self-gating": {"coarse_gating": "self"},
        "scaled": {"fine_scaling": "sqrt"},
    }


def test_every_reading_has_a_first_run_before_any_has_a_second():
    found = readings.runs([*readings.READINGS])
    first = len(readings.READINGS)
    assert found[0] == ("default", 1)
    assert {name for name, seed in found[:first] if seed == 1} == {*readings.READINGS}
    assert found[first:] == [("default", 2), ("default", 3)]


def test_a_stopped_comparison_goes_on_and_ends_with_the_record_and_its_table(tmp_path):
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    arguments, chosen = ("ablations/readings", data, out, *TINY), {"READINGS": "default no-ffn", **VARIABLES}
    with training_here(stop_at=out / "no-ffn-1" / "checkpoints"), pytest.raises(Stopped):
        call(*arguments, **chosen)
    assert not (out / "readings.json").exists()
    with training_here() as trainings:
        printed = call(*arguments, **chosen)
    assert [path.parent.name for path, _ in trainings.calls] == ["no-ffn-1", "default-2", "default-3"]

    found = read_json(out / "readings.json")
    assert {name: [run["seed"] for run in runs] for name, runs in found.items() if runs} == {
        "default": [1, 2, 3],
        "no-ffn": [1],
    }
    first, other = found["default"][0], found["no-ffn"][0]
    assert first.keys() >= {"command", "settings", "seed", "commit", "machine", "minutes"}
    assert other["command"].startswith("READINGS=no-ffn JOIN_FLAGS='--align 4' IDENTIFIER_FLAGS=")
    assert other["command"].endswith(f"bash examples/ablations/readings.sh DATA OUT {' '.join(TINY)}")
    assert str(tmp_path) not in (out / "readings.json").read_text()
    assert other["settings"]["reading"] == ["--no-decoder-ffn"]
    assert other["parameters"] < first["parameters"]
    digests = {sha256(folder / "data-bin" / "manifest.json") for folder in out.iterdir() if folder.is_dir()}
    assert digests == {run["data"] for runs in found.values() for run in runs}
    assert len(digests) == 1
    for name, run in (("default-1", first), ("no-ffn-1", other)):
        assert run["metrics"]["test"] == read_json(out / name / "results" / "split" / "metrics.test.json")

    shown = printed[printed.index("| reading |") :].splitlines()
    recall = [run["metrics"]["test"]["recall_at_1"] for run in found["default"]]
    assert shown[2].startswith(f"| default | {readings.report.mean_and_deviation(recall)} |")
    assert shown[2].endswith("| 3 |")
    assert shown[3].startswith("| no feed-forward after the fusion (3.4.2) |")
    assert shown[4].startswith("| decoder weights of each step (Eq. 6) | not built: ")
    assert len({line.count("|") for line in shown}) == 1


def test_an_unknown_reading_is_refused(tmp_path):
    with pytest.raises(ValueError, match="READINGS: no reading 'paper'; there are default, separate, "):
        call("ablations/readings", write_data(tmp_path / "data"), tmp_path / "out", READINGS="paper")


def test_a_finished_run_is_not_taken_for_one_of_other_flags(tmp_path):
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    out.mkdir()
    (out / "no-ffn-1.json").write_text('{"command": "READINGS=no-ffn bash examples/ablations/readings.sh DATA OUT"}')
    for flags, variables in ((TINY, {}), ([], {"BINARIZE_FLAGS": "--valid-size 0"})):
        with pytest.raises(ValueError, match=r"no-ffn-1.json: was made by 'READINGS=no-ffn bash .*', not by "):
            call("ablations/readings", data, out, *flags, READINGS="no-ffn", **variables)
    assert readings.report.is_recorded(out / "no-ffn-1.json", readings.command("no-ffn", []))
