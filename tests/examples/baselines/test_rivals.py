"""examples/baselines/rivals.sh trains the paper's generative rivals from end to end, in miniature."""

import pytest
from recipe_calls import call, training_here
from recipe_samples import write_data

from cart_fairseq.files import read_json

TINY = ("--arch", "cart_tiny", "--batch-size", "16", "--max-epoch", "1", "--cpu")


@pytest.mark.parametrize("scheme", ["atomic", "structured"])
def test_rivals_are_trained_and_measured(tmp_path, scheme):
    data = write_data(tmp_path / "data")
    with training_here() as trainings:
        call("baselines/rivals", data, tmp_path / "out", *TINY, RECIPE="cpu", SCHEMES=scheme)
    assert len(trainings.calls) == 1
    record = read_json(tmp_path / "out" / scheme / "run.json")
    assert record["identifiers"]["scheme"] == scheme
    assert 0 <= record["metrics"]["split"]["test"]["recall_at_10"] <= 100
