"""Fewer bits: what is converted, and that rankings and scores stay near those of float32."""

import copy

import pytest
import torch
from conftest import make_batch, make_model

from cart_fairseq.network.precision import convert
from cart_fairseq.settings import SCORINGS


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
@pytest.mark.parametrize("scoring", SCORINGS)
def test_scores_stay_near_float32(task, precision, scoring):
    model, batch = make_model(task), make_batch(task)
    exact = task.search_with([model], 24, scoring=scoring).search(batch["net_input"], task.data.trie)
    reduced = convert(copy.deepcopy(model), precision)
    found = task.search_with([reduced], 24, scoring=scoring).search(batch["net_input"], task.data.trie)
    assert found.scores.dtype == torch.float32
    by_row = [x.scores.gather(1, x.rows.argsort(1)) for x in (exact, found)]
    torch.testing.assert_close(*by_row, atol=0.5, rtol=0.05)
    assert not torch.equal(*by_row)


def test_what_is_converted(task):
    model = make_model(task)
    assert {p.dtype for p in convert(copy.deepcopy(model), "bf16").parameters()} == {torch.bfloat16}
    assert {p.dtype for p in convert(copy.deepcopy(model).half(), "float32").parameters()} == {torch.float32}
    quantised = convert(copy.deepcopy(model), "int8")
    assert quantised.decoder.layers[0].fc1.weight().dtype == torch.qint8
    assert quantised.decoder.output_projection.weight.dtype == torch.float32
    with pytest.raises(ValueError, match="'int4'; it must be one of"):
        convert(model, "int4")


def test_a_converted_model_still_knows_its_data(task):
    for precision in ("bf16", "fp16"):
        kept = convert(make_model(task), precision).data_fingerprint
        assert bytes(kept.byte().tolist()) == task.data_fingerprint
