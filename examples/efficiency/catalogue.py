"""Inputs of the efficiency benchmarks: random identifiers, random queries, and a model with random weights.

Time does not depend on the values of weights, so nothing has to be trained or downloaded.
"""

import argparse  # noqa: I001 - the order is intended
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import cart_fairseq.tasks.plugin  # noqa: F401 - before fairseq, so that its import prints no warnings
from fairseq.data import Dictionary
from torch import Tensor

from cart_fairseq.catalogue.dictionary import SPECIALS
from cart_fairseq.catalogue.positions import unique_tokens
from cart_fairseq.models.cart import CARTModel

VOCABULARY = 10_000


@dataclass(frozen=True)
class Catalogue:
    """N distinct random identifiers.

    Attributes:
        values: (N, J) int32.
        sizes: number of values of each position.
        offsets: (J,), the first target-dictionary symbol of each position.
    """

    values: np.ndarray
    sizes: tuple[int, ...]
    offsets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.values)


def offsets_of(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the first target-dictionary symbol of each position."""
    return tuple(int(start) for start in len(SPECIALS) + np.cumsum([0, *sizes[:-1]]))


def random_catalogue(items: int, sizes: Sequence[int], seed: int) -> Catalogue:
    """Draw (k, v1 …) uniformly. The last position numbers the items with equal codes, as in real identifiers.

    Raises:
        ValueError: there is no item, there are fewer than 2 positions, or too many items have equal codes.
    """
    if items < 1 or len(sizes) < 2:
        raise ValueError(
            f"--items {items} must be at least 1 and --sizes {' '.join(map(str, sizes))} at least two numbers"
        )
    codes = np.random.default_rng((seed, items)).integers(0, sizes[:-1], (items, len(sizes) - 1), dtype=np.int32)
    unique = unique_tokens(codes, sizes[-1])
    if unique.shape[1] > 1:
        raise ValueError(
            f"{items:,} items share codes of sizes {tuple(sizes[:-1])} more than {sizes[-1]} times; give larger --sizes"
        )
    return Catalogue(np.concatenate([codes, unique], axis=1), tuple(sizes), offsets_of(sizes))


def random_queries(queries: int, tokens: int, seed: int) -> dict[str, Tensor]:
    """Return a batch of random queries, padded on the right.

    Args:
        queries: Q, the number of queries.
        tokens: their mean length, including ``</s>``. Lengths differ from it by at most a third.

    Returns:
        ``src_tokens`` (Q, T) int64 and ``src_lengths`` (Q,) int64.
    """
    if queries < 1 or tokens < 2:
        raise ValueError(f"--queries {queries} must be at least 1 and --query-tokens {tokens} at least 2")
    specials = Dictionary()
    generator = torch.Generator().manual_seed(seed)
    spread = (tokens - 1) // 3
    lengths = torch.randint(tokens - spread, tokens + spread + 1, (queries,), generator=generator)
    texts = torch.randint(len(SPECIALS), VOCABULARY, (queries, int(lengths.max())), generator=generator)
    place = torch.arange(texts.size(1))
    texts[place == lengths.unsqueeze(1) - 1] = specials.eos()
    texts[place >= lengths.unsqueeze(1)] = specials.pad()
    return {"src_tokens": texts, "src_lengths": lengths}


def task_of(sizes: Sequence[int]) -> Any:
    """Return what models and criterions need of a task: two dictionaries and a fingerprint."""
    query_dict, id_dict = Dictionary(), Dictionary()
    for number in range(VOCABULARY - len(query_dict)):
        query_dict.add_symbol(f"word{number}")
    for position, size in enumerate(sizes):
        for value in range(size):
            id_dict.add_symbol(f"<{position}_{value}>")
    return types.SimpleNamespace(source_dictionary=query_dict, target_dictionary=id_dict, data_fingerprint=b"")


def random_cart(task: Any, seed: int) -> CARTModel:
    """Build the architecture ``cart`` with its defaults, and enlarge the output weights so that scores differ."""
    torch.manual_seed(seed)
    model = CARTModel.build_model(argparse.Namespace(), task)
    with torch.no_grad():
        model.decoder.output_projection.weight.mul_(3)
    return model.eval()
