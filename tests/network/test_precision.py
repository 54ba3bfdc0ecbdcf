"""Fewer bits: what is converted, and that rankings and scores stay near those of float32."""

import copy

import pytest
import torch
from conftest import make_batch, make_model

from cart_fairseq.base.settings import SCORINGS
from cart_fairseq.network import precision as precisions
from cart_fairseq.network.dense_head import DenseHead
from cart_fairseq.network.precision import convert, digest_of_encoder, gain


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


def test_the_dense_head_and_tuned_values_stay_exact(task):
    model = make_model(task)
    model.dense = DenseHead(model.decoder.output_projection.weight.size(1), 6, 8, 0.0, 0.3)
    model.level_discount.fill_(0.9)
    model.calibration.fill_(0.123)
    before = copy.deepcopy(model.state_dict())
    for precision in ("bf16", "fp16", "int8"):
        reduced = convert(copy.deepcopy(model), precision)
        assert torch.equal(reduced.level_discount, before["level_discount"])
        assert torch.equal(reduced.calibration, before["calibration"])
        assert {p.dtype for p in reduced.dense.parameters()} == {torch.float32}
        assert digest_of_encoder(reduced) == digest_of_encoder(model)
    assert digest_of_encoder(convert(copy.deepcopy(model), "bf16").float()) == digest_of_encoder(model)


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16", "int8"])
def test_a_halved_model_is_converted_like_any_other(task, precision):
    model, batch = make_model(task).half(), make_batch(task)  # as by --fp16 of fairseq-generate
    model.dense = DenseHead(model.decoder.output_projection.weight.size(1), 6, 8, 0.0, 0.3).half()
    reduced = convert(model, precision)
    assert reduced.level_discount.dtype == torch.float32
    assert {p.dtype for p in reduced.dense.parameters()} == {torch.float32}
    assert (
        task.search_with([reduced], 4, dense_weight=0)
        .search(batch["net_input"], task.data.trie)
        .scores.isfinite()
        .all()
    )


def test_a_loaded_model_is_not_halved(task):
    """Or stored item vectors and priors, which are computed from whole weights, would not be those of ``--fp16``."""
    model = make_model(task)
    model.load_state_dict(model.state_dict())
    assert {weight.dtype for weight in model.half().parameters()} == {torch.float32}
    assert {weight.dtype for weight in make_model(task).half().parameters()} == {torch.float16}


def test_there_is_no_way_back_from_int8(task):
    model = convert(make_model(task), "int8")
    assert convert(model, "int8") is model
    for precision in ("float32", "bf16", "auto"):
        with pytest.raises(ValueError, match="the model is in int8, from which there is no way back"):
            convert(model, precision)


@pytest.fixture
def probes(monkeypatch):
    """Gains of precisions by name, in place of the probe's."""
    gains = {"bf16": 2.0, "fp16": 0.01, "int8": 0.5}
    monkeypatch.setattr(precisions, "gain", lambda device, width, precision, rows=1: gains[precision])
    for cached in (precisions.fastest, precisions.warn_if_slow):
        cached.cache_clear()
    yield gains
    for cached in (precisions.fastest, precisions.warn_if_slow):
        cached.cache_clear()


@pytest.mark.parametrize(("gain", "chosen"), [(2.0, "bf16"), (1.11, "bf16"), (1.09, "float32"), (0.5, "float32")])
def test_auto_takes_bf16_where_it_is_a_tenth_faster(probes, gain, chosen):
    probes["bf16"] = gain
    assert precisions.fastest("cpu", 256) == chosen
    assert precisions.fastest("cpu", 64) == "float32"


def test_auto_says_what_it_chose(task, probes, caplog, monkeypatch):
    monkeypatch.setattr(precisions, "NARROW", 1)
    with caplog.at_level("INFO"):
        model = convert(make_model(task), "auto")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert "precision auto: bf16" in caplog.text


def test_a_slow_choice_is_said_once(task, probes, caplog):
    for _ in range(2):
        convert(make_model(task), "fp16")
        convert(make_model(task), "bf16")
        convert(make_model(task), "int8")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "precision fp16 is 100.0 times slower than float32 here; choose auto",
        "precision int8 is 2.0 times slower than float32 here; choose auto",
    ]


def test_the_probe_compares_two_precisions():
    assert gain("cpu", 8, "bf16") > 0
    assert gain("cpu", 8, "int8") > 0
    assert gain("cpu", 8, "bf16") == gain("cpu", 8, "bf16")  # once in a process
