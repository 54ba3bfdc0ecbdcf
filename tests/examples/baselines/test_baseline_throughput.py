"""The single tower of the retrieval benchmark: what it computes, and that what is extrapolated says so. No time is asserted."""

import json
from typing import Any

import pytest
import torch
from conftest import load_example

pytest.importorskip("transformers")
catalogue = load_example("efficiency", "catalogue")
cross_encoder = load_example("efficiency", "cross_encoder")
summary = load_example("efficiency", "summary")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """BLIP's text side and BLIP-2's Q-Former in miniature."""
    import transformers

    config, config2 = transformers.BlipTextConfig, transformers.Blip2QFormerConfig
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "encoder_hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
    }
    monkeypatch.setattr(transformers, "BlipTextConfig", lambda: config(**sizes, num_attention_heads=2))
    monkeypatch.setattr(
        transformers, "Blip2QFormerConfig", lambda **more: config2(**sizes, num_attention_heads=2, **more)
    )


def test_the_cross_encoders_have_their_real_shapes():
    """Sizes of the published models (blip-itm-base-coco, blip2-itm-vit-g), without building them."""
    import transformers

    blip, blip2 = transformers.BlipTextConfig(), transformers.Blip2QFormerConfig()
    assert (blip.hidden_size, blip.num_hidden_layers, blip.encoder_hidden_size) == (768, 12, 768)
    assert (blip2.hidden_size, blip2.num_hidden_layers, blip2.encoder_hidden_size) == (768, 12, 1408)
    assert blip2.cross_attention_frequency == 2
    assert cross_encoder.PATCHES == {"blip": (384 // 16) ** 2 + 1, "blip2": (224 // 14) ** 2 + 1}


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("kind", ["blip", "blip2"])
def test_the_cross_encoder_reads_text_and_picture_of_every_pair(kind):
    net_input = catalogue.random_queries(3, 6, 1)
    encoder = cross_encoder.CrossEncoder(kind, net_input, 5, 1)
    assert encoder.states.shape == (5, cross_encoder.PATCHES[kind], 24)
    assert encoder.mask.sum(1).tolist() == [int(net_input["src_lengths"][query]) for query in (0, 1, 2, 0, 1)]
    with torch.no_grad():
        for parameter in encoder.model.parameters():
            parameter.normal_(std=0.5)
    before = encoder.score()
    assert before.shape == (5,)
    encoder.states[1] += torch.randn(cross_encoder.PATCHES[kind], 24)
    encoder.texts[2, 0] += 1
    changed = (encoder.score() - before).abs() > 1e-5
    assert changed.tolist() == [False, True, True, False, False]


@pytest.mark.usefixtures("tiny")
def test_all_pairs_are_counted_and_multiplied():
    encoder = cross_encoder.CrossEncoder("blip2", catalogue.random_queries(100, 6, 1), 4, 1)
    everything = encoder.contender("blip2", 1_000_000).run()
    assert (everything["pairs"], everything["measured_pairs"]) == (100_000_000, 4)
    assert encoder.contender("blip2-128", 1_000_000).run()["pairs"] == 12_800
    assert encoder.contender("blip2-128", 50).run()["pairs"] == 5_000
    row = {"contender": "blip", "median": 2.0, "min": 1.0, "max": 3.0, "seconds": [2.0, 1.0, 3.0]}
    row |= {"pair_seconds": 0.5, "pairs": 4_000, "measured_pairs": 4}
    scaled = cross_encoder.extrapolated(row)
    assert [scaled[key] for key in ("median", "min", "max")] == [2_000.0, 1_000.0, 3_000.0]
    assert (scaled["seconds"], scaled["measured_seconds"]) == ([2_000.0, 1_000.0, 3_000.0], [2.0, 1.0, 3.0])
    measured = {"contender": "masked", "median": 2.0}
    assert cross_encoder.extrapolated(measured) is measured
    with pytest.raises(ValueError, match="--single-tower-pairs 0 must be at least 1"):
        cross_encoder.CrossEncoder("blip", catalogue.random_queries(3, 6, 1), 0, 1)


@pytest.mark.usefixtures("tiny")
def test_the_table_says_what_was_extrapolated(tmp_path, capsys):
    benchmark = load_example("efficiency", "benchmark")
    flags = [
        "--items",
        "300",
        "--queries",
        "3",
        "--query-tokens",
        "6",
        "--repeats",
        "1",
        "--sizes",
        "8",
        "8",
        "8",
        "16",
    ]
    flags += ["--contenders", "masked", "blip*", "--single-tower-pairs", "2", "--json", str(tmp_path / "out.json")]
    benchmark.main([*flags, "--beam", "4"])
    printed = capsys.readouterr().out
    assert "blip: EXTRAPOLATED from 2 measured pairs of query and picture" in printed
    assert "to all 900\n" in printed
    assert "blip2: EXTRAPOLATED from 2 measured pairs of query and picture" in printed
    assert "masked, times the speed of blip2-128, at 300 items" in printed
    rows = {
        row["contender"]: row for row in json.loads((tmp_path / "out.json").read_text())["catalogues"][0]["results"]
    }
    for name, pairs in (("blip", 900), ("blip-128", 384), ("blip2", 900), ("blip2-128", 384)):
        assert rows[name]["median"] == pytest.approx(rows[name]["measured_seconds"][0] * pairs / 2)
    assert "measured_pairs" not in rows["masked"]


def test_figures_fit_their_columns():
    assert [summary.milliseconds(value) for value in (0.9532, 16e6)] == ["953.2", "1.60e+10"]
    assert [summary.rate(value) for value in (105.84, 0.03, 6.3e-6)] == ["105.8", "0.03", "6.3e-06"]
    assert summary.rate(0.004, 2) == "0.004"


def test_without_transformers_the_remedy_is_named(monkeypatch):
    benchmark = load_example("efficiency", "benchmark")
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"blip-128 need transformers: pip install -e '.\[benchmark\]'"):
        benchmark.require(["masked", "blip-128"])
