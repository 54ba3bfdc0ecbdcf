"""Coarse-to-fine feature fusion (CART 3.4, Eq. 2-5).

CART's decoder attends to the states of all encoder layers, E_1 … E_S, and to their coarse summary Z. By default both
branches share the weights of one cross-attention C, so one batch of attention serves all S + 1 memories.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cart_fairseq.network.attention import Attention, SeparateAttention
from cart_fairseq.network.config import NetworkConfig


class CoarseMemory(nn.Module):
    """Z = W[E_1, …, E_S] + b, a linear map of all encoder states (CART Eq. 2)."""

    def __init__(self, num_states: int, encoder_dim: int):
        super().__init__()
        self.linear = nn.Linear(num_states * encoder_dim, encoder_dim)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Map S states (T, B, C) to Z (T, B, C)."""
        return self.linear(torch.cat([*states], dim=-1))


class Fusion(nn.Module):
    """Coarse-to-fine fusion, which replaces the decoder layer's cross-attention (CART Eq. 3-5).

    The memories are Z, E_1, …, E_S in this order (``coarse``: Z; ``fine``: E_1, …, E_S; ``none``: the last encoder
    state). With C the cross-attention and sigma the sigmoid:

    - coarse, Eq. 3: G(Y, Z) = sigma(C(Y, Z)) / S; with ``coarse_gating="self"``, C(Y, Z) * sigma(C(Y, Z)) / S;
    - fine, Eq. 4-5: L(Y, E) = sum_i alpha_i * C(Y, E_i), alpha_i = sigma(W_i [Y, C(Y, E_i)] + b_i); with
      ``fine_scaling="sqrt"`` divided by sqrt(S), as in the M² Transformer;
    - the result is G + L, or the branch that ``fusion`` names; without fusion it is C(Y, E_S).

    The paper leaves two points open:

    - Eq. 3-5 have one symbol C, the default. §3.4.2 says that the encoder's layers "interact independently with
      the inputs of the decoder through cross-attention"; with ``fusion_attention="separate"`` each memory has a
      cross-attention of its own.
    - Eq. 5 prints W_i and b, and says "W_i is the learnable weight matrices and b is bias". The default has a bias b_i
      for each state, as earlier checkpoints do; with ``fusion_bias="single"`` there is one b, of width embed_dim.

    Args:
        cfg: sizes and options. S is the number of encoder layers, embed_dim the decoder's width.
    """

    attention: Attention | SeparateAttention

    def __init__(self, cfg: NetworkConfig):
        super().__init__()
        width, heads, states = cfg.decoder.embed_dim, cfg.decoder.attention_heads, cfg.encoder.layers
        self.num_states = states
        self.coarse = "coarse" in cfg.fusion
        self.fine = "fine" in cfg.fusion
        self.coarse_gating = cfg.coarse_gating
        self.fine_scale = 1 / math.sqrt(states) if cfg.fine_scaling == "sqrt" else 1.0
        if cfg.fusion_attention == "separate":
            memories = self.coarse + states * self.fine or 1
            self.attention = SeparateAttention(memories, width, heads, cfg.attention_dropout, cfg.encoder.embed_dim)
        else:
            self.attention = Attention(width, heads, cfg.attention_dropout, cfg.encoder.embed_dim)
        if self.fine:
            single = cfg.fusion_bias == "single"
            # W_i [Y, C_i] = (Y half of W_i) Y + (C half of W_i) C_i; the Y halves of all i form one linear map
            self.gate_query = nn.Linear(width, states * width, bias=not single)
            self.gate_context = nn.Parameter(torch.empty(states, width, width))
            self.gate_bias = nn.Parameter(torch.empty(width)) if single else None
            self.reset_gates()

    def reset_gates(self) -> None:
        """Initialise each W_i, which maps width 2 C to C, Xavier-uniformly, and the biases with zero."""
        bound = math.sqrt(6 / (3 * self.gate_context.size(-1)))
        nn.init.uniform_(self.gate_query.weight, -bound, bound)
        nn.init.zeros_(self.gate_query.bias if self.gate_bias is None else self.gate_bias)
        nn.init.uniform_(self.gate_context, -bound, bound)

    def fuse(self, query: Tensor, context: Tensor) -> Tensor:
        """Compute G + L from the attention outputs.

        Args:
            query: Y, (L, B, embed_dim).
            context: (M, L, B, embed_dim), C(Y, ·) for each of the M memories.

        Returns:
            (L, B, embed_dim).
        """
        if not (self.coarse or self.fine):
            return context[0]
        fused = torch.zeros_like(query)
        if self.coarse:
            gate = context[0].sigmoid()
            fused = (gate * context[0] if self.coarse_gating == "self" else gate) / self.num_states
        if self.fine:
            states = context[-self.num_states :]
            gate_query = self.gate_query(query).unflatten(-1, (self.num_states, -1)).movedim(-2, 0)
            gate_context = torch.bmm(states.flatten(1, 2), self.gate_context).view_as(states)
            logits = gate_query + gate_context
            gate = torch.sigmoid(logits if self.gate_bias is None else logits + self.gate_bias)
            fused = fused + (gate * states).sum(0) * self.fine_scale
        return fused
