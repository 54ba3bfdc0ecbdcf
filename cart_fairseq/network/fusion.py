"""Coarse-to-fine feature fusion (CART 3.4, Eq. 2-5).

CART's decoder attends to the states of all encoder layers, E_1 … E_S, and to their coarse summary Z. Both branches
share the weights of one cross-attention C, so one batch of attention serves all S + 1 memories.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cart_fairseq.network.attention import Attention


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
    - the result is G + L, or the branch that ``kind`` names; without fusion it is C(Y, E_S).

    Args:
        kind: ``coarse-fine``, ``coarse``, ``fine`` or ``none``.
        num_states: S, the number of encoder layers.
        embed_dim: width of Y and of the result.
        encoder_dim: width of the memories.
        num_heads: heads of C.
        dropout: dropout probability of the attention weights of C.
        coarse_gating: ``sigmoid`` or ``self``.
        fine_scaling: ``none`` or ``sqrt``.
    """

    def __init__(
        self,
        kind: str,
        num_states: int,
        embed_dim: int,
        encoder_dim: int,
        num_heads: int,
        dropout: float,
        coarse_gating: str = "sigmoid",
        fine_scaling: str = "none",
    ):
        super().__init__()
        self.num_states = num_states
        self.coarse = "coarse" in kind
        self.fine = "fine" in kind
        self.coarse_gating = coarse_gating
        self.fine_scale = 1 / math.sqrt(num_states) if fine_scaling == "sqrt" else 1.0
        self.attention = Attention(embed_dim, num_heads, dropout, memory_dim=encoder_dim)
        if self.fine:
            # W_i [Y, C_i] = (Y half of W_i) Y + (C half of W_i) C_i; the Y halves of all i form one linear map
            self.gate_query = nn.Linear(embed_dim, num_states * embed_dim)
            self.gate_context = nn.Parameter(torch.empty(num_states, embed_dim, embed_dim))
            self.reset_gates()

    def reset_gates(self) -> None:
        """Initialise each W_i, which maps width 2 C to C, Xavier-uniformly, and the biases with zero."""
        bound = math.sqrt(6 / (3 * self.gate_context.size(-1)))
        nn.init.uniform_(self.gate_query.weight, -bound, bound)
        nn.init.zeros_(self.gate_query.bias)
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
            gate = torch.sigmoid(gate_query + gate_context)
            fused = fused + (gate * states).sum(0) * self.fine_scale
        return fused
