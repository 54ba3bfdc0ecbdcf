"""The model against a forward pass written from the paper (CART 3.4, Eq. 2-5) in plain float64, one query at a time.

The reference takes its weights from the model's state dict by name, and nothing else from the project. It knows no batches,
no padding, no caches and no heads side by side.
"""

import itertools
import math
from typing import Any

import pytest
import torch
from conftest import make_model
from torch import Tensor

from cart_fairseq.network.dropout import Dropout

PAD, EOS = 1, 2
POSITIONS, QUERY_LENGTHS = 4, (6, 2, 9)
FUSION_OPTIONS: list[dict[str, str]] = [
    {"fusion": "none"},
    *({"fusion": "coarse", "coarse_gating": gating} for gating in ("sigmoid", "self")),
    *({"fusion": "fine", "fine_scaling": scaling} for scaling in ("none", "sqrt")),
    *(
        {"fusion": "coarse-fine", "coarse_gating": gating, "fine_scaling": scaling}
        for gating, scaling in itertools.product(("sigmoid", "self"), ("none", "sqrt"))
    ),
]


class Reference:
    """The forward pass of one query and one identifier.

    Args:
        weights: the model's state dict.
        options: the architecture's options that the model was built with.
    """

    def __init__(self, weights: dict[str, Tensor], options: dict[str, Any]):
        self.weights = {name: tensor.detach().double() for name, tensor in weights.items()}
        self.options = options
        self.states = options["encoder_layers"]
        self.kept = {"dropout": 1.0, "attention_dropout": 1.0, "activation_dropout": 1.0}
        """What dropout multiplies the elements with that it keeps; here it keeps all of them."""

    def linear(self, name: str, x: Tensor, bias: bool = True) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + (self.weights[f"{name}.bias"] if bias else 0)

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        normal = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return normal * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(self, name: str, heads: int, y: Tensor, memory: Tensor, causal: bool = False) -> Tensor:
        """softmax(Q Kᵀ / √d) V for each head of width d: y (L, C), memory (T, D) -> (L, C)."""
        query, key = self.linear(f"{name}.query", y), self.linear(f"{name}.key", memory, bias=False)
        value = self.linear(f"{name}.value", memory)
        width = query.size(1) // heads
        mixed = []
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            rows = []
            for at in range(len(y)):
                seen = at + 1 if causal else len(memory)
                scores = key[:seen, own] @ query[at, own] / math.sqrt(width)
                share = scores.exp() / scores.exp().sum() * self.kept["attention_dropout"]
                rows.append(share @ value[:seen, own])
            mixed.append(torch.stack(rows))
        return self.linear(f"{name}.output", torch.cat(mixed, 1))

    def embed(self, side: str, tokens: Tensor) -> Tensor:
        """Symbols and positions, which count from the padding symbol on: (L,) -> (L, C)."""
        symbols = self.weights[f"{side}.embed_tokens.weight"]
        width = symbols.size(1)
        numbers = torch.arange(len(tokens)) + PAD + 1
        if self.options[f"{side}_learned_pos"]:
            positions = self.weights[f"{side}.embed_positions.weight"][numbers]
        else:
            rates = 10000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2 - 1))
            angles = numbers[:, None] * rates
            positions = torch.cat([angles.sin(), angles.cos()], 1)
        return (math.sqrt(width) * symbols[tokens] + positions) * self.kept["dropout"]

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        hidden = self.linear(f"{name}.fc1", x)
        if self.options["activation_fn"] == "gelu":
            hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        else:
            hidden = hidden.clamp(min=0)
        return self.linear(f"{name}.fc2", hidden * self.kept["activation_dropout"])

    def encode(self, tokens: Tensor) -> list[Tensor]:
        """E_1 … E_S, each (T, D); normalised where the layers normalise their inputs."""
        x, states = self.embed("encoder", tokens), []
        heads, kept = self.options["encoder_attention_heads"], self.kept["dropout"]
        for layer in range(self.states):
            name = f"encoder.layers.{layer}"
            if self.options["encoder_normalize_before"]:
                y = self.layer_norm(f"{name}.self_attn_layer_norm", x)
                x = x + kept * self.attention(f"{name}.self_attn", heads, y, y)
                x = x + kept * self.feed_forward(name, self.layer_norm(f"{name}.final_layer_norm", x))
                states.append(self.layer_norm("encoder.layer_norm", x))
            else:
                x = x + kept * self.attention(f"{name}.self_attn", heads, x, x)
                x = self.layer_norm(f"{name}.self_attn_layer_norm", x)
                x = self.layer_norm(f"{name}.final_layer_norm", x + kept * self.feed_forward(name, x))
                states.append(x)
        return states

    def fuse(self, name: str, y: Tensor, states: list[Tensor]) -> Tensor:
        """G(Y, Z) + L(Y, E(q)), Eq. 2-5, or plain cross-attention: Y (L, C) -> (L, C)."""

        def cross(memory: Tensor) -> Tensor:
            return self.attention(f"{name}.attention", self.options["decoder_attention_heads"], y, memory)

        kind, count = self.options["fusion"], len(states)
        if kind == "none":
            return cross(states[-1])
        fused = torch.zeros_like(y)
        if "coarse" in kind:
            context = cross(self.linear("decoder.coarse_memory.linear", torch.cat(states, 1)))
            gate = 1 / (1 + (-context).exp())
            fused = fused + (context * gate if self.options["coarse_gating"] == "self" else gate) / count
        if "fine" in kind:
            width = y.size(1)
            biases = self.weights[f"{name}.gate_query.bias"]
            halves = self.weights[f"{name}.gate_query.weight"]
            assert biases.shape == (count * width,), "Eq. 5: a bias b_i for each encoder state"
            total = torch.zeros_like(y)
            for i in range(count):
                own = slice(i * width, (i + 1) * width)
                w_i = torch.cat([halves[own], self.weights[f"{name}.gate_context"][i].T], 1)
                context = cross(states[i])
                alpha = 1 / (1 + (-(torch.cat([y, context], 1) @ w_i.T + biases[own])).exp())
                total = total + alpha * context
            fused = fused + (total / math.sqrt(count) if self.options["fine_scaling"] == "sqrt" else total)
        return fused

    def decode(self, tokens: Tensor, states: list[Tensor]) -> Tensor:
        """Logits (L, V) of an identifier's symbols after each of ``tokens`` (L,)."""
        x = self.embed("decoder", tokens)
        heads, kept = self.options["decoder_attention_heads"], self.kept["dropout"]
        for layer in range(self.options["decoder_layers"]):
            name = f"decoder.layers.{layer}"
            if self.options["decoder_normalize_before"]:
                y = self.layer_norm(f"{name}.self_attn_layer_norm", x)
                x = x + kept * self.attention(f"{name}.self_attn", heads, y, y, causal=True)
                x = x + kept * self.fuse(f"{name}.fusion", self.layer_norm(f"{name}.fusion_layer_norm", x), states)
                x = x + kept * self.feed_forward(name, self.layer_norm(f"{name}.final_layer_norm", x))
            else:
                x = x + kept * self.attention(f"{name}.self_attn", heads, x, x, causal=True)
                y = self.layer_norm(f"{name}.self_attn_layer_norm", x)
                y = self.layer_norm(f"{name}.fusion_layer_norm", y + kept * self.fuse(f"{name}.fusion", y, states))
                x = self.layer_norm(f"{name}.final_layer_norm", y + kept * self.feed_forward(name, y))
        if self.options["decoder_normalize_before"]:
            x = self.layer_norm("decoder.layer_norm", x)
        shared = self.options["share_decoder_input_output_embed"]
        return x @ self.weights["decoder.embed_tokens.weight" if shared else "decoder.output_projection.weight"].T


def build(task, **changes) -> tuple[Any, Reference]:
    """A float64 model whose every weight is random, biases and layer norms too, and its reference.

    Encoder and decoder differ in width and heads.
    """
    options: dict[str, Any] = {
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 3,
        "decoder_embed_dim": 12,
        "decoder_ffn_embed_dim": 20,
        "encoder_normalize_before": True,
        "decoder_normalize_before": True,
        "encoder_learned_pos": True,
        "decoder_learned_pos": True,
        "share_decoder_input_output_embed": False,
        "activation_fn": "relu",
        "fusion": "coarse-fine",
        "coarse_gating": "sigmoid",
        "fine_scaling": "none",
        **changes,
    }
    model = make_model(task, **options).double()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.5 if parameter.dim() == 1 else 1.5 / math.sqrt(parameter.size(-1))
            parameter.normal_(0, spread, generator=draw)
            if name.endswith("layer_norm.weight"):
                parameter.add_(1)
    return model, Reference(model.state_dict(), options)


def queries(task, lengths=QUERY_LENGTHS, rows: int = 1) -> tuple[Tensor, Tensor]:
    """Source tokens (B, T), padded on the right, and ``rows`` prefixes of each query, (B rows, POSITIONS)."""
    draw = torch.Generator().manual_seed(2)
    source = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        source[row, :length] = torch.randint(3, len(task.source_dictionary), (length,), generator=draw)
    prefix = torch.randint(3, len(task.target_dictionary), (len(lengths) * rows, POSITIONS), generator=draw)
    prefix[:, 0] = EOS
    return source, prefix


def expected(reference: Reference, source: Tensor, prefix: Tensor) -> Tensor:
    """The reference's logits (R, L, V), every query on its own and without its padding."""
    rows = len(prefix) // len(source)
    states = [reference.encode(tokens[tokens != PAD]) for tokens in source]
    return torch.stack([reference.decode(tokens, states[row // rows]) for row, tokens in enumerate(prefix)])


def full(model, source: Tensor, prefix: Tensor) -> Tensor:
    """The model's logits, all positions at once."""
    with torch.no_grad():
        return model(source, source.ne(PAD).sum(1), prefix)[0]


def incremental(model, source: Tensor, prefix: Tensor) -> Tensor:
    """The model's logits, position by position."""
    state: dict = {}
    with torch.no_grad():
        encoded = model.encoder(source, source.ne(PAD).sum(1))
        steps = [model.decoder(prefix[:, : at + 1], encoded, state)[0] for at in range(prefix.size(1))]
    return torch.cat(steps, 1)


def assert_equal(found: Tensor, wanted: Tensor, atol: float = 1e-9) -> None:
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, wanted, atol=atol, rtol=0)


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


def test_rows_with_a_memory_each_change_places(task):
    """As fairseq's own search has them, which goes on without queries that are done."""
    model, reference = build(task)
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
