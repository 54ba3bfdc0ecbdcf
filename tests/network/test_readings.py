"""Other readings of the paper than the defaults: each against the forward pass of `paper_network`, alone and together."""

import copy
import itertools

import numpy as np
import pytest
import torch
from conftest import ITEMS, make_batch, make_bundle, make_captions, make_model, setup_task
from paper_network import PAD, QUERY_LENGTHS, assert_equal, build, expected, full, incremental, queries

from cart_fairseq.criterions.cart_rdrop import CARTRDropCriterion
from cart_fairseq.models.flags import DEFAULTS
from cart_fairseq.network.config import (
    ENCODER_STATES,
    FUSION_ATTENTIONS,
    FUSION_BIASES,
    FUSION_QUERIES,
    FUSIONS,
)
from cart_fairseq.network.dropout import Dropout
from cart_fairseq.network.precision import convert
from preprocess.data_bin.build import binarize

CHOICES = {
    "fusion_attention": FUSION_ATTENTIONS,
    "fusion_bias": FUSION_BIASES,
    "fusion_query": FUSION_QUERIES,
    "encoder_states": ENCODER_STATES,
    "no_decoder_ffn": (False, True),
}
"""Option -> its values; the first is the default."""
READINGS = [{name: value} for name, values in CHOICES.items() for value in values[1:]]
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
ALL = COMBINATIONS[-1]
PRE, POST = ({f"{side}_normalize_before": before for side in ("encoder", "decoder")} for before in (True, False))


def has_effect(options) -> bool:
    """Whether the architecture takes these options; others are refused, see below."""
    fine = "fine" in options.get("fusion", "coarse-fine")
    return (fine or (options.get("fusion_attention") != "separate" and options.get("fusion_bias") != "single")) and (
        options.get("encoder_normalize_before", True) or options.get("encoder_states") != "raw"
    )


def name_of(options) -> str:
    return " ".join(f"{value}" if value is not True else name for name, value in options.items()) or "default"


def assert_equals_the_reference(task, options, lengths=QUERY_LENGTHS, rows=2) -> None:
    model, reference = build(task, **options)
    source, prefix = queries(task, lengths, rows)
    wanted = expected(reference, source, prefix)
    assert wanted.std() > 0.1
    assert_equal(full(model, source, prefix), wanted)
    assert_equal(incremental(model, source, prefix), wanted)


def test_the_defaults_are_the_first_choices():
    assert {name: DEFAULTS[name] for name in CHOICES} == COMBINATIONS[0]


@pytest.mark.parametrize(
    "options",
    filter(has_effect, ({"fusion": fusion, **reading} for fusion in FUSIONS for reading in READINGS)),
    ids=name_of,
)
def test_each_reading_with_every_fusion_depth_and_place_of_the_norms(task, options):
    cases = [
        {"encoder_layers": states, **norms, **options}
        for states, norms in itertools.product((1, 2, 3), (PRE, POST, {**PRE, "decoder_normalize_before": False}))
    ]
    for case in filter(has_effect, cases):
        assert_equals_the_reference(task, case)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=name_of)
def test_every_combination(task, combination):
    assert_equals_the_reference(task, combination)


@pytest.mark.parametrize("reading", [*READINGS, ALL], ids=name_of)
def test_options_of_both_branches_apply_in_every_reading(task, reading):
    assert_equals_the_reference(task, {"coarse_gating": "self", "fine_scaling": "sqrt", **reading})


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("lengths", [(1,), (40, 7, 33)])
def test_short_and_long_queries_with_few_and_many_rows(task, lengths, rows):
    for reading in (*READINGS, ALL):
        assert_equals_the_reference(task, reading, lengths, rows)


@pytest.mark.parametrize("reading", [*READINGS, ALL], ids=name_of)
def test_queries_with_different_numbers_of_rows_that_change_places(task, reading):
    """As in a search: row r is the nth of its query, and after two steps continues another row of the same query."""
    model, reference = build(task, **reading)
    source, prefix = queries(task, rows=2)
    owners, nth = torch.tensor([0, 1, 1, 1, 2, 2]), torch.tensor([0, 0, 1, 2, 0, 1])
    order = torch.tensor([0, 3, 1, 1, 5, 4])
    states = [reference.encode(tokens[tokens != PAD]) for tokens in source]
    state: dict = {}
    with torch.no_grad():
        encoded = model.encoder(source, source.ne(PAD).sum(1))
        slots = nth * len(source) + owners
        for at in range(2):
            model.decoder.extract_features(prefix[:, : at + 1], encoded, state, slots)
        model.decoder.reorder_beams(state, order)
        continued = torch.cat([prefix[order, :2], prefix[:, 2:3]], 1)
        features = model.decoder.extract_features(continued, encoded, state, slots)
        found = model.decoder.project(features[:, -1])
    wanted = [reference.decode(row, states[owner])[-1] for row, owner in zip(continued, owners, strict=True)]
    assert_equal(found, torch.stack(wanted))


@pytest.mark.parametrize("reading", [{}, *READINGS, ALL], ids=name_of)
def test_rows_with_a_memory_each_change_places(task, reading):
    """As fairseq's own search has them, which goes on without queries that are done."""
    model, reference = build(task, **reading)
    source, prefix = queries(task)
    order = torch.tensor([2, 0])
    state: dict = {}
    with torch.no_grad():
        encoded = model.encoder(source, source.ne(PAD).sum(1))
        model.decoder(prefix[:, :1], encoded, state)
        model.decoder.reorder_rows(state, order)
        kept = {
            name: [part.index_select(int(name != "encoder_padding_mask"), order) for part in parts]
            for name, parts in encoded.items()
        }
        found = model.decoder(prefix[order, :2], kept, state)[0]
    assert_equal(found, expected(reference, source[order], prefix[order, :2])[:, -1:])


@pytest.mark.parametrize("reading", [*READINGS, ALL], ids=name_of)
def test_dropout_is_where_the_transformer_has_it(task, monkeypatch, reading):
    """Dropout is replaced by a factor that tells its rate, so that the result shows where it was applied."""
    monkeypatch.setattr(Dropout, "forward", lambda self, x: x * (1 + self.p))
    rates = {"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3}
    for norms in (PRE, POST):
        options = {**reading, **norms}
        if has_effect(options):
            model, reference = build(task, **rates, **options)
            reference.kept = {name: 1 + rate for name, rate in rates.items()}
            source, prefix = queries(task)
            assert_equal(full(model, source, prefix), expected(reference, source, prefix))


@pytest.mark.parametrize("reading", [*READINGS, ALL], ids=name_of)
def test_every_parameter_learns_and_a_checkpoint_opens(task, reading):
    model = make_model(task, encoder_layers=3, decoder_embed_dim=24, **reading).train()
    loss, _, logged = CARTRDropCriterion(task, 0.15, 0.0).train()(model, make_batch(task, "train"))
    loss.backward()
    assert logged["consistency"] > 0
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    other, batch = make_model(task, 1, encoder_layers=3, decoder_embed_dim=24, **reading), make_batch(task)["net_input"]
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(**batch)[0], model.eval()(**batch)[0])


@pytest.mark.parametrize("reading", [*READINGS, ALL], ids=name_of)
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16", "int8"])
def test_a_search_finds_the_scores_of_whole_identifiers(task, reading, precision):
    model, batch = make_model(task, decoder_embed_dim=24, **reading), make_batch(task)["net_input"]
    symbols = torch.from_numpy(task.data.bundle.symbols())
    prefix = torch.cat([symbols.new_full((ITEMS, 1), task.id_dict.eos()), symbols[:, :-1]], 1)
    with torch.no_grad():
        encoded = model.encoder(batch["src_tokens"])
        logits = model.decoder(prefix.repeat(len(batch["src_tokens"]), 1), encoded)[0].unflatten(0, (-1, ITEMS))
    wanted = logits.log_softmax(-1).gather(3, symbols.expand(len(logits), -1, -1).unsqueeze(3)).sum((2, 3))
    reduced = convert(copy.deepcopy(model), precision)
    found = task.search_with([reduced], ITEMS).search(batch, task.data.trie)
    atol, rtol = (1e-4, 0.0) if precision == "float32" else (0.5, 0.05)
    torch.testing.assert_close(found.scores.gather(1, found.rows.argsort(1)), wanted, atol=atol, rtol=rtol)


@pytest.fixture
def dense_task(tmp_path):
    """The small world with embeddings of the items."""
    make_bundle(tmp_path / "identifiers")
    np.save(tmp_path / "embeddings.npy", np.random.default_rng(0).standard_normal((ITEMS, 6), dtype=np.float32))
    captions = make_captions(tmp_path / "captions.jsonl")
    binarize(tmp_path / "identifiers", captions, tmp_path / "data-bin", embeddings=tmp_path / "embeddings.npy")
    task = setup_task(tmp_path / "data-bin")
    for split in ("train", "test"):
        task.load_dataset(split)
    return task


@pytest.mark.parametrize("reading", [*READINGS, ALL], ids=name_of)
def test_a_dense_head_reads_the_last_state_of_every_reading(dense_task, reading):
    model = make_model(dense_task, dense_dim=8, **reading)
    batch = make_batch(dense_task)["net_input"]
    with torch.no_grad():
        encoded = model.encoder(batch["src_tokens"])
        assert encoded["encoder_out"][0] is encoded["encoder_states"][-1]
        weighted = [dense_task.search_with([model], ITEMS, dense_weight=weight) for weight in (0.0, 2.0)]
        alone, together = (search.search(batch, dense_task.data.trie) for search in weighted)
    assert not torch.equal(alone.rows, together.rows)
    loss, _, logged = CARTRDropCriterion(dense_task, 0.15, 0.0).train()(model.train(), make_batch(dense_task, "train"))
    loss.backward()
    assert logged["contrastive"] > 0
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion_attention": "separate", "fusion": "none"}, "--fusion-attention is separate.* --fusion none"),
        ({"fusion_attention": "separate", "fusion": "coarse"}, "--fusion-attention is separate.* --fusion coarse;"),
        ({"fusion_bias": "single", "fusion": "none"}, "--fusion-bias is single.* --fusion none"),
        ({"fusion_bias": "single", "fusion": "coarse"}, "--fusion-bias is single.* --fusion coarse;"),
        ({"encoder_states": "raw", "encoder_normalize_before": False}, "a post-norm encoder has no final layer norm"),
        *(({name: "other"}, f"--{name.replace('_', '-')} is 'other'") for name in [*CHOICES][:4]),
    ],
    ids=str,
)
def test_options_without_effect_and_unknown_ones_are_refused(task, options, message):
    with pytest.raises(ValueError, match=message):
        make_model(task, **options)
