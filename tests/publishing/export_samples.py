"""A model with a dense head as checkpoint, data-bin and MODEL folder, and what searches of two of them have in common."""

from pathlib import Path
from typing import Any

from changing import dense_world

from cart_fairseq import CartRetriever
from cart_fairseq.publishing.exporting import export
from cart_fairseq.queries.hit import Hit
from cart_fairseq.steps.tuning import DISCOUNT_STATE, SHARE_STATE, WEIGHT_STATE, keep

TEXTS = ["red dog", "a blue bird sleeps", "old tree near the house", "zebra 😀"]


def dense_model(root: Path) -> Path:
    """A world with a dense head and a share of priors, and its MODEL folder."""
    dense_world(root)
    keep(checkpoint(root), {SHARE_STATE: 0.5, DISCOUNT_STATE: 0.9, WEIGHT_STATE: 2.0})
    export(checkpoint(root), root / "data-bin", root / "MODEL")
    return root


def checkpoint(root: Path) -> Path:
    return root / "save" / "checkpoint_best.pt"


def opened(path: Path, data: Path | None = None, **options: Any) -> CartRetriever:
    return CartRetriever.from_pretrained(path, data, device="cpu", precision="float32", **options)


def hits(retriever: CartRetriever, queries: Any = TEXTS, **options: Any) -> list[list[Hit]]:
    found = retriever.search(queries, k=20, **options)
    assert all(row for row in found)
    return found


def assert_same(model: Path, path: Path | str, data: Path, queries: Any = TEXTS, **options: Any) -> None:
    """Ids, scores, probabilities and records are equal, to the last bit."""
    expected = hits(CartRetriever.from_pretrained(path, data, device="cpu", precision="float32", **options), queries)
    assert hits(opened(model, **options), queries) == expected
