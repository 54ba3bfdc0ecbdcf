"""examples/identifiers/literal.sh: its variants are what they say, a stopped call goes on, and the record has its facts."""

import pytest
from conftest import load_example
from recipe_calls import Stopped, call, training_here
from recipe_samples import write_data

from cart_fairseq.base.reading import read_json
from preprocess import build_identifiers
from preprocess.data.arguments import settings_from
from preprocess.identifiers.fitting import fit_settings
from preprocess.identifiers.settings import IdentifierSettings

literal = load_example("identifiers", "literal")
TINY = ["--arch", "cart_tiny", "--batch-size", "16", "--max-update", "3"]
IDENTIFIERS = "--kmeans-clusters 3 --codebook-size 3 --latent-dim 4 --epochs 2"


def fitted(name: str) -> dict:
    """What a variant records."""
    needed = ["--embeddings", "e", "--items", "i", "--output", "o"]
    args = build_identifiers.parser().parse_args([*needed, *literal.VARIANTS[name].flags])
    found = fit_settings(settings_from(IdentifierSettings, args), 8000).record()
    return {**found.pop("training"), **found}


def test_a_variant_changes_what_it_says_and_all_changes_together_are_the_paper_s():
    ours = fitted("ours")
    changed = {
        name: {field: value for field, value in fitted(name).items() if ours.get(field) != value}
        for name in literal.VARIANTS
    }
    assert changed["sklearn-kmeans"] == {"kmeans": "sklearn-default", "centring": False}
    assert changed["codebooks"] == {"codebook_init": "random", "recentre": False, "reseed": False}
    assert changed["residuals"] == {"residual_scale": False}
    assert changed["batch"] == {"batch_size": 256}
    together = {field: value for name in list(changed)[2:] for field, value in changed[name].items()}
    assert changed["literal"] == {**together, "train_sample": 8000}


def test_a_stopped_comparison_goes_on_and_ends_with_the_record_and_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(literal, "SEEDS", 1)
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    arguments = ("identifiers/literal", data, out, *TINY)
    with training_here(stop_at=out / "ours-1" / "checkpoints"), pytest.raises(Stopped):
        call(*arguments, IDENTIFIER_FLAGS=IDENTIFIERS)
    assert not (out / "literal.json").exists()
    with training_here() as trainings:
        printed = call(*arguments, IDENTIFIER_FLAGS=IDENTIFIERS)
    assert [path.parent.name for path, _ in trainings.calls] == ["ours-1"]

    found = read_json(out / "literal.json")
    assert {name: [run["seed"] for run in runs] for name, runs in found.items() if runs} == {
        "literal": [1],
        "ours": [1],
    }
    first, ours = found["literal"][0], found["ours"][0]
    assert "' bash examples/identifiers/literal.sh DATA OUT --arch cart_tiny" in first["command"]
    assert first.keys() >= {"settings", "seed", "commit", "machine", "inputs_sha256", "minutes"}
    assert str(tmp_path) not in (out / "literal.json").read_text()
    assert first["identifiers"]["labels_of_scikit_learn"]
    assert first["settings"]["faithful"]["departures"]["epochs"] == 2
    assert ours["settings"]["faithful"] is None
    for name, run in (("literal-1", first), ("ours-1", ours)):
        report = read_json(out / name / "identifiers" / "report.json")
        assert run["identifiers"]["perplexity"] == {level["name"]: level["perplexity"] for level in report["levels"]}
        assert run["metrics"]["test"] == read_json(out / name / "results" / "split" / "metrics.test.json")
    recall = [run["metrics"]["test"]["recall_at_1"] for run in found["literal"]]
    assert f"| {literal.report.mean_and_deviation(recall)} |" in next(
        line for line in printed.splitlines() if "as in the paper" in line and "|" in line
    )


def test_an_unknown_variant_is_refused(tmp_path):
    with pytest.raises(ValueError, match="VARIANTS: no variant 'paper'; there are literal, ours, "):
        call("identifiers/literal", write_data(tmp_path / "data"), tmp_path / "out", VARIANTS="paper")


def test_a_finished_run_is_not_taken_for_one_of_other_flags(tmp_path):
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    out.mkdir()
    for seed in (1, 2, 3):
        (out / f"ours-{seed}.json").write_text('{"command": "bash examples/identifiers/literal.sh DATA OUT"}')
    for flags, variables in ((TINY, {}), ([], {"IDENTIFIER_FLAGS": IDENTIFIERS}), (["--nonsense"], {})):
        with pytest.raises(ValueError, match=r"ours-1.json: was made by 'bash .* OUT', not by .*; choose another OUT"):
            call("identifiers/literal", data, out, *flags, VARIANTS="ours", **variables)
    assert literal.report.is_recorded(out / "ours-1.json", literal.command([]))
