"""Prefix statistics in the data-bin: one folder for each state of item towers, catalogue and biases."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.dense.item_vectors import item_vectors, kept
from cart_fairseq.search.dense.mixed_items import Items, MixedItems
from cart_fairseq.search.dense.outdated import opened_if_there
from cart_fairseq.search.dense.prefix_statistics import PrefixStatistics, compute_statistics
from cart_fairseq.search.dense.stored_arrays import digest_of, folder_to_write

EXACT_ITEMS = 1 << 16
"""Largest number of candidates whose scores are all computed for each query; above, masses are estimated."""
OF_ITEMS = ("dense.item_tower.", "dense.share_logit")
"""Beginnings of the names of weights that items' vectors depend on."""


def statistics_of(
    models: Sequence[Any], items: Items, trie: IdentifierTrie, bias: Tensor | None, stored: Path | None
) -> PrefixStatistics:
    """Open the stored statistics of a catalogue, or compute them; they are kept in memory until the models change.

    Args:
        models: models with a dense head.
        items: the features of the items.
        trie: the catalogue's trie.
        bias: (N,) float32, added to each item's dense score, by item row; None for no bias.
        stored: the folder with stored statistics; None for none.

    Raises:
        ValueError: the stored statistics are damaged.
    """

    def opened() -> PrefixStatistics:
        if stored is not None and stored.is_dir():
            key = statistics_key(models, items, trie, bias)
            folder = stored / key[:16]
            found = opened_if_there(folder, lambda: PrefixStatistics.open(folder, key, trie))
            if found is not None:
                return found.to(trie.rows.device)
        return compute_statistics(trie, partial(item_vectors, models, items), bias)

    name = "mixed statistics" if isinstance(items, MixedItems) else "statistics"
    return kept(models, trie, name, items.bias if isinstance(items, MixedItems) else bias, opened, head_only=True)


def store_statistics(
    models: Sequence[Any], data: DataBin, bias: Tensor | None = None, exact_items: int = EXACT_ITEMS
) -> Path | None:
    """Compute the statistics of a catalogue that is too large for exact masses, and write them into its data-bin.

    Args:
        models: the models.
        data: their data-bin.
        bias: see :func:`statistics_of`.
        exact_items: the largest number of items whose masses are exact.

    Returns:
        The folder of the statistics for texts; None if none are needed: the catalogue is small, or a model has no dense
        head. Statistics for mixed queries are written beside it, if the data-bin has embeddings for them.

    Raises:
        OSError: the data-bin cannot be written to.
    """
    items = data.dense_items
    if items is None or len(data.trie) <= exact_items or any(model.dense is None for model in models):
        return None
    for given, own_bias in _of_searches(items, bias):
        folder = _store(models, given, data.trie, own_bias, folder_to_write(items))
    return folder


def statistics_names(models: Sequence[Any], data: DataBin, bias: Tensor | None) -> list[str]:
    """Names of the folders that :func:`store_statistics` writes for a large catalogue."""
    items = data.dense_items
    assert items is not None
    return [statistics_key(models, given, data.trie, own)[:16] for given, own in _of_searches(items, bias)]


def _of_searches(items: DenseItems, bias: Tensor | None) -> list[tuple[Items, Tensor | None]]:
    """Items and biases of the statistics: for mixed queries, if the items have embeddings for them, and for texts."""
    mixed: list[tuple[Items, Tensor | None]] = [(MixedItems(items, bias), None)] if items.original_dim else []
    return [*mixed, (items, bias)]


def _store(models: Sequence[Any], items: Items, trie: IdentifierTrie, bias: Tensor | None, root: Path) -> Path:
    key = statistics_key(models, items, trie, bias)
    folder = root / key[:16]
    if not folder.is_dir():
        compute_statistics(trie, partial(item_vectors, models, items), bias).save(folder, key)
    return folder


def statistics_key(models: Sequence[Any], items: Items, trie: IdentifierTrie, bias: Tensor | None) -> str:
    """Hexadecimal SHA-256 of what statistics depend on: item towers, identifiers, features of items, bias."""
    plain = items.items if isinstance(items, MixedItems) else items
    features = f"{plain.checksum} {plain.texts}"
    if isinstance(items, MixedItems):
        bias, features = items.bias, f"{features} {items.width}"
    biases = [] if bias is None else [bias]
    return digest_of(models, OF_ITEMS, trie.rows, *trie.values, *trie.first_child, *biases, features)
