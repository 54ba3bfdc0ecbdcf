"""What the efficiency benchmarks search and with what: random identifiers, random queries, a model of random weights.

Time does not depend on what the weights have learned, so nothing has to be trained or downloaded.
"""

import argparse  # noqa: I001 - the order is meant
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import cart_fairseq.tasks.plugin  # noqa: F401 - before fairseq, whose import then keeps quiet about what it does not find
from fairseq.data import Dictionary
from torch import Tensor

from cart_fairseq.catalogue.dictionary import SPECIALS
from cart_fairseq.catalogue.identifiers import unique_tokens
from cart_fairseq.models.cart import CARTModel

VOCABULARY = 10_000


@dataclass(frozen=True)
class Catalogue:
    """N distinct random identifiers.

    Attributes:
        values: (N, J) int32.
        sizes: how many values each position can take.
        offsets: (J,) the first target-dictionary symbol of each position.
    """

    values: np.ndarray
    sizes: tuple[int, ...]
    offsets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.values)


def offsets_of(sizes: Sequence[int]) -> tuple[int, ...]:
    """The first target-dictionary symbol of each position."""
    return tuple(int(start) for start in len(SPECIALS) + np.cumsum([0, *sizes[:-1]]))


def random_catalogue(items: int, sizes: Sequence[int], seed: int) -> Catalogue:
    """Draw (k, v1 …) uniformly; the last position counts the items that share them, as in real identifiers.

    Raises:
        ValueError: there are fewer than 1 item or 2 positions, or more items than the positions can tell apart.
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
    """A batch of queries padded on the right, as the model reads them.

    Args:
        queries: Q, how many.
        tokens: their mean length, ``</s>`` included; lengths lie within a third of it.

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
    """As much of a task as building a model or a criterion needs: two dictionaries and a fingerprint."""
    query_dict, id_dict = Dictionary(), Dictionary()
    for number in range(VOCABULARY - len(query_dict)):
        query_dict.add_symbol(f"word{number}")
    for position, size in enumerate(sizes):
        for value in range(size):
            id_dict.add_symbol(f"<{position}_{value}>")
    return types.SimpleNamespace(source_dictionary=query_dict, target_dictionary=id_dict, data_fingerprint=b"")


def random_cart(task: Any, seed: int) -> CARTModel:
    """The architecture ``cart`` with its defaults, its output spread so that the scores of items differ clearly."""
    torch.manual_seed(seed)
    model = CARTModel.build_model(argparse.Namespace(), task)
    with torch.no_grad():
        model.decoder.output_projection.weight.mul_(3)
    return model.eval()
