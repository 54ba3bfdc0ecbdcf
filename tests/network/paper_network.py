"""A forward pass written from the paper (CART 3.4, Eq. 2-5) in plain float64, one query at a time.

It takes its weights from the model's state dict by name, and nothing else from the project. It knows no batches, no padding,
no caches and no heads side by side.
"""

import math
from typing import Any

import torch
from conftest import make_model
from torch import Tensor

PAD, EOS = 1, 2
POSITIONS, QUERY_LENGTHS = 4, (6, 2, 9)


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
        """E_1 … E_S, each (T, D); normalised where the layers normalise their inputs, unless raw ones are asked for."""
        x, states = self.embed("encoder", tokens), []
        heads, kept = self.options["encoder_attention_heads"], self.kept["dropout"]
        for layer in range(self.states):
            name = f"encoder.layers.{layer}"
            if self.options["encoder_normalize_before"]:
                y = self.layer_norm(f"{name}.self_attn_layer_norm", x)
                x = x + kept * self.attention(f"{name}.self_attn", heads, y, y)
                x = x + kept * self.feed_forward(name, self.layer_norm(f"{name}.final_layer_norm", x))
                raw = self.options["encoder_states"] == "raw"
                states.append(x if raw else self.layer_norm("encoder.layer_norm", x))
            else:
                x = x + kept * self.attention(f"{name}.self_attn", heads, x, x)
                x = self.layer_norm(f"{name}.self_attn_layer_norm", x)
                x = self.layer_norm(f"{name}.final_layer_norm", x + kept * self.feed_forward(name, x))
                states.append(x)
        return states

    def fuse(self, name: str, y: Tensor, states: list[Tensor]) -> Tensor:
        """G(Y, Z) + L(Y, E(q)), Eq. 2-5, or plain cross-attention: Y (L, C) -> (L, C)."""

        kind, count = self.options["fusion"], len(states)

        def cross(memory: Tensor, place: int) -> Tensor:
            own = f".{place}" if self.options["fusion_attention"] == "separate" else ""
            return self.attention(f"{name}.attention{own}", self.options["decoder_attention_heads"], y, memory)

        if kind == "none":
            return cross(states[-1], 0)
        fused = torch.zeros_like(y)
        if "coarse" in kind:
            context = cross(self.linear("decoder.coarse_memory.linear", torch.cat(states, 1)), 0)
            gate = 1 / (1 + (-context).exp())
            fused = fused + (context * gate if self.options["coarse_gating"] == "self" else gate) / count
        if "fine" in kind:
            width = y.size(1)
            if self.options["fusion_bias"] == "single":
                assert self.weights[f"{name}.gate_bias"].shape == (width,), "Eq. 5: one bias b"
                biases = self.weights[f"{name}.gate_bias"].repeat(count)
            else:
                biases = self.weights[f"{name}.gate_query.bias"]
            halves = self.weights[f"{name}.gate_query.weight"]
            assert biases.shape == (count * width,), "Eq. 5: a bias b_i for each encoder state"
            total = torch.zeros_like(y)
            for i in range(count):
                own = slice(i * width, (i + 1) * width)
                w_i = torch.cat([halves[own], self.weights[f"{name}.gate_context"][i].T], 1)
                context = cross(states[i], i + ("coarse" in kind))
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
            before_attention, feeds = x, not self.options["no_decoder_ffn"]
            as_query = self.options["fusion_query"] == "decoder-input"
            if self.options["decoder_normalize_before"]:
                y = self.layer_norm(f"{name}.self_attn_layer_norm", x)
                x = x + kept * self.attention(f"{name}.self_attn", heads, y, y, causal=True)
                y = self.layer_norm(f"{name}.fusion_layer_norm", before_attention if as_query else x)
                x = x + kept * self.fuse(f"{name}.fusion", y, states)
                if feeds:
                    x = x + kept * self.feed_forward(name, self.layer_norm(f"{name}.final_layer_norm", x))
            else:
                x = x + kept * self.attention(f"{name}.self_attn", heads, x, x, causal=True)
                x = self.layer_norm(f"{name}.self_attn_layer_norm", x)
                fused = self.fuse(f"{name}.fusion", before_attention if as_query else x, states)
                x = self.layer_norm(f"{name}.fusion_layer_norm", x + kept * fused)
                if feeds:
                    x = self.layer_norm(f"{name}.final_layer_norm", x + kept * self.feed_forward(name, x))
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
        "fusion_attention": "shared",
        "fusion_bias": "per-state",
        "fusion_query": "after-self-attention",
        "encoder_states": "normed",
        "no_decoder_ffn": False,
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
