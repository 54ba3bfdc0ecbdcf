"""The model against a forward pass written from the paper, in plain float64: `paper_network`."""

import itertools

import pytest
import torch
from paper_network import PAD, QUERY_LENGTHS, assert_equal, build, expected, full, incremental, queries

from cart_fairseq.network.dropout import Dropout

FUSION_OPTIONS: list[dict[str, str]] = [
    {"fusion": "none"},
    *({"fusion": "coarse", "coarse_gating": gating} for gating in ("sigmoid", "self")),
    *({"fusion": "fine", "fine_scaling": scaling} for scaling in ("none", "sqrt")),
    *(
        {"fusion": "coarse-fine", "coarse_gating": gating, "fine_scaling": scaling}
        for gating, scaling in itertools.product(("sigmoid", "self"), ("none", "sqrt"))
    ),
]


@pytest.mark.parametrize("options", FUSION_OPTIONS, ids=lambda options: " ".join(options.values()))
@pytest.mark.parametrize("states", [1, 2, 3])
def test_the_model_is_the_paper_s_for_every_fusion(task, states, options):
    for before in (True, False):
        norms = {"encoder_normalize_before": before, "decoder_normalize_before": before}
        model, reference = build(task, encoder_layers=states, **options, **norms)
        source, prefix = queries(task, rows=2)
        wanted = expected(reference, source, prefix)
        assert wanted.std() > 0.1
        assert_equal(full(model, source, prefix), wanted)
        assert_equal(incremental(model, source, prefix), wanted)


@pytest.mark.parametrize(
    "options",
    [
        {"encoder_normalize_before": False},
        {"decoder_normalize_before": False},
        {"decoder_layers": 1},
        {"decoder_layers": 3},
        {"share_decoder_input_output_embed": True},
        {"encoder_attention_heads": 1, "decoder_attention_heads": 6},
        {"decoder_embed_dim": 16, "decoder_attention_heads": 4},
    ],
    ids=str,
)
def test_other_options_of_the_architecture(task, options):
    model, reference = build(task, **options)
    source, prefix = queries(task)
    wanted = expected(reference, source, prefix)
    assert_equal(full(model, source, prefix), wanted)
    assert_equal(incremental(model, source, prefix), wanted)


@pytest.mark.parametrize(
    "options",
    [
        {"encoder_learned_pos": False, "decoder_learned_pos": False},
        {"encoder_learned_pos": False},
        {"decoder_learned_pos": False},
        {"activation_fn": "gelu"},
    ],
    ids=str,
)
def test_what_is_computed_in_float32_within_a_float64_model(task, options):
    model, reference = build(task, **options)
    source, prefix = queries(task)
    wanted = expected(reference, source, prefix)
    assert_equal(full(model, source, prefix), wanted, atol=1e-5)
    assert_equal(incremental(model, source, prefix), wanted, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("lengths", [(1,), (3,), (40, 7, 33)])
def test_short_and_long_queries_with_few_and_many_rows(task, lengths, rows):
    """The cheaper of two ways to attend is chosen by these sizes; each must be right."""
    model, reference = build(task)
    source, prefix = queries(task, lengths, rows)
    wanted = expected(reference, source, prefix)
    assert_equal(full(model, source, prefix), wanted)
    assert_equal(incremental(model, source, prefix), wanted)


def test_queries_with_different_numbers_of_rows(task):
    """As a search has them: row r is the nth of its query, at place n B + query of the grid."""
    model, reference = build(task)
    source, prefix = queries(task, rows=2)
    owners = torch.tensor([0, 1, 1, 1, 2, 2])
    nth = torch.tensor([0, 0, 1, 2, 0, 1])
    states = [reference.encode(tokens[tokens != PAD]) for tokens in source]
    wanted = torch.stack(
        [reference.decode(tokens, states[owner]) for tokens, owner in zip(prefix, owners, strict=True)]
    )
    state: dict = {}
    with torch.no_grad():
        encoded = model.encoder(source, source.ne(PAD).sum(1))
        slots = nth * len(source) + owners
        steps = [
            model.decoder.extract_features(prefix[:, : at + 1], encoded, state, slots) for at in range(prefix.size(1))
        ]
        found = torch.stack([model.decoder.project(step[:, -1]) for step in steps], 1)
        part = model.decoder.project(steps[0][:, -1], 5, 11)
    assert_equal(found, wanted)
    assert_equal(part, wanted[:, 0, 5:11])


def test_beams_change_places_between_steps(task):
    """Row i continues row ``order[i]``; every query keeps its own rows."""
    model, reference = build(task)
    source, prefix = queries(task, rows=3)
    order = torch.tensor([2, 0, 0, 3, 5, 4, 7, 7, 8])
    state: dict = {}
    with torch.no_grad():
        encoded = model.encoder(source, source.ne(PAD).sum(1))
        for at in range(2):
            model.decoder(prefix[:, : at + 1], encoded, state)
        model.decoder.reorder_beams(state, order)
        continued = torch.cat([prefix[order, :2], prefix[:, 2:3]], 1)
        found = model.decoder(continued, encoded, state)[0]
    assert_equal(found, expected(reference, source, continued)[:, -1:])


def test_encoder_states_are_e_1_to_e_s(task):
    for before in (True, False):
        model, reference = build(task, encoder_layers=3, encoder_normalize_before=before)
        source, _ = queries(task)
        with torch.no_grad():
            found = model.encoder(source, source.ne(PAD).sum(1))
        assert len(found["encoder_states"]) == 3
        assert_equal(found["encoder_out"][0], found["encoder_states"][-1])
        for row, length in enumerate(QUERY_LENGTHS):
            assert found["encoder_padding_mask"][0][row].tolist() == [False] * length + [True] * (9 - length)
            for state, wanted in zip(found["encoder_states"], reference.encode(source[row, :length]), strict=True):
                assert_equal(state[:length, row], wanted)


@pytest.mark.parametrize("before", [True, False])
def test_dropout_is_where_the_transformer_has_it(task, monkeypatch, before):
    """Embeddings, every residual branch, attention weights and the feed-forward's hidden layer, each with its own rate.

    Dropout is replaced by a factor that tells its rate, so that the result shows where it was applied.
    """
    monkeypatch.setattr(Dropout, "forward", lambda self, x: x * (1 + self.p))
    rates = {"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3}
    norms = {"encoder_normalize_before": before, "decoder_normalize_before": before}
    model, reference = build(task, **rates, **norms)
    reference.kept = {name: 1 + rate for name, rate in rates.items()}
    for lengths in ((2, 1), QUERY_LENGTHS):  # attention has two ways, one for short queries
        source, prefix = queries(task, lengths)
        wanted = expected(reference, source, prefix)
        assert_equal(full(model, source, prefix), wanted)
        assert_equal(incremental(model, source, prefix), wanted)
