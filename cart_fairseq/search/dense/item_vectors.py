"""Vectors of queries and items whose inner product is the dense score, for one dense head or those of an ensemble."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from cart_fairseq.search.dense.mixed_items import Items, MixedItems

BLOCK = 8192

Stamp = tuple[Any, ...]
T = TypeVar("T")


class QueryVectors(NamedTuple):
    """Vectors of B queries.

    Attributes:
        vectors: (B, D) float32; the inner product with an item's vector (:func:`item_vectors`) is the dense score at
            weight 1, in natural-log units. D is the sum of the heads' widths.
        weight: the weight of the dense score, at least 0: the mean over the models.
    """

    vectors: Tensor
    weight: float


def mean_weight(models: Sequence[Any], weight: float | None = None) -> float:
    """Return ``weight``, or the mean of the models' own weights of the dense score if it is None."""
    if weight is not None:
        return weight
    return sum(float(model.dense.weight) for model in models) / len(models)


def head_shares(models: Sequence[Any], weight: float | None = None) -> tuple[float, ...]:
    """What the score of each head counts in the sum, relative to the mean of all.

    Args:
        models: models with a dense head.
        weight: the weight of the dense score; None for each model's own.

    Returns:
        1 for each head if a weight is given, or if all have the same; else each head's own weight by the mean.
    """
    if weight is not None or len(models) == 1:
        return (1.0,) * len(models)
    own = [float(model.dense.weight) for model in models]
    mean = sum(own) / len(own)
    return (1.0,) * len(models) if len({*own}) == 1 else tuple(each / mean for each in own)


def query_vectors(members: Sequence[tuple[Any, dict[str, list[Tensor]]]], weight: float | None = None) -> QueryVectors:
    """Compute the vectors of a batch of queries: cosine x scale, weighted by the models' weights, is the dense score.

    Args:
        members: models with a dense head, each with its encoder's output for the B queries.
        weight: the weight of the dense score; None for each model's own.
    """
    models = [model for model, _ in members]
    parts = [
        model.dense.query(encoder_out).float() * (model.dense.scale().float() * share / len(members))
        for (model, encoder_out), share in zip(members, head_shares(models, weight), strict=True)
    ]
    return QueryVectors(torch.cat(parts, dim=1), mean_weight(models, weight))


def item_vectors(models: Sequence[Any], items: Items, rows: Tensor) -> Tensor:
    """Compute the vectors of items: (n,) int64 item rows -> (n, D) float32, on the device of the models."""
    if isinstance(items, MixedItems):
        return torch.cat([item_vectors(models, items.items, rows), items.columns(rows)], dim=1)
    blocks = []
    for block in rows.split(BLOCK):
        features = items.features(block.cpu().numpy())
        blocks.append(torch.cat([model.dense.item(features).float() for model in models], dim=1))
    return torch.cat(blocks)


_kept: "WeakKeyDictionary[Any, WeakKeyDictionary[Any, dict[str, tuple[Stamp, Any]]]]" = WeakKeyDictionary()
"""For the first model's dense head, each owner and name: a value of :func:`kept`, and what it was computed from."""


def kept(
    models: Sequence[Any],
    owner: Any,
    name: str,
    bias: Tensor | None,
    compute: Callable[[], T],
    head_only: bool = False,
) -> T:
    """Return what was computed before, or compute it; until weights of a model, their device or the bias change.

    Args:
        models: the models with dense heads.
        owner: what the value belongs to, such as a candidate set; the value is freed with it.
        name: of the value among those of the owner.
        bias: what the value depends on beside the models; None for nothing.
        compute: returns the value.
        head_only: whether the value depends on the models' dense heads alone; this is checked faster.
    """
    by_name = _kept.setdefault(models[0].dense, WeakKeyDictionary()).setdefault(owner, {})
    # the bias itself is a part, so that no other tensor can get its id while the value is kept
    stamp = (*(_stamp(model, model.dense if head_only else model) for model in models), _Same(bias))
    if name not in by_name or by_name[name][0] != stamp:
        by_name[name] = (stamp, compute())
    return by_name[name][1]


def kept_vectors(models: Sequence[Any], items: Items, rows: Tensor, owner: Any) -> Tensor:
    """Like :func:`item_vectors`, but computed once for each owner of the rows, see :func:`kept`."""
    if isinstance(items, MixedItems):
        mixed = items

        def widened() -> Tensor:
            return torch.cat([kept_vectors(models, mixed.items, rows, owner), mixed.columns(rows)], dim=1)

        return kept(models, owner, "mixed vectors", mixed.bias, widened, head_only=True)
    return kept(models, owner, "vectors", None, lambda: item_vectors(models, items, rows), head_only=True)


class _Same:
    """Equal if it holds the same tensor, unchanged."""

    def __init__(self, tensor: Tensor | None):
        self.tensor = tensor
        self.version = None if tensor is None else tensor._version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.tensor is other.tensor and self.version == other.version

    __hash__ = None  # type: ignore[assignment]


def _stamp(model: Any, part: Any) -> Stamp:
    """Return values that change when the weights of a part of a model or their device do.

    An optimiser may write through ``.data``, which leaves a tensor's version as it is; it does so between two calls of
    ``train``, which :attr:`DenseHead.trained` counts.
    """
    weights = ((id(weight), weight._version, weight.dtype, weight.device) for weight in _weights(part))
    return (ref(model.dense), model.dense.trained, *weights)


def _weights(part: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters of a module. Each search looks at them, and ``parameters`` takes twice as long."""
    modules: list[nn.Module | None] = [part]
    while modules:
        module = modules.pop()
        if module is not None:
            yield from (weight for weight in module._parameters.values() if weight is not None)
            modules += module._modules.values()
