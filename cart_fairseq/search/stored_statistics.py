"""Prefix statistics in the data-bin: one folder for each state of item towers, catalogue and biases."""

import errno
import hashlib
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.catalogue.trie import IdentifierTrie
from cart_fairseq.search.item_vectors import item_vectors, kept
from cart_fairseq.search.prefix_statistics import PrefixStatistics, compute_statistics

EXACT_ITEMS = 1 << 16
"""Largest number of candidates whose scores are all computed for each query; above, masses are estimated."""
STORED = "search"
"""The folder in a data-bin, whose folders are named by the first digits of :func:`statistics_key`."""


def statistics_of(
    models: Sequence[Any], items: DenseItems, trie: IdentifierTrie, bias: Tensor | None, stored: Path | None
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
            if (stored / key[:16]).is_dir():
                return PrefixStatistics.open(stored / key[:16], key).to(trie.rows.device)
        return compute_statistics(trie, partial(item_vectors, models, items), bias)

    return kept(models, trie, "statistics", bias, opened)


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
        The folder of the statistics; None if none are needed: the catalogue is small, or a model has no dense head.

    Raises:
        OSError: the data-bin cannot be written to.
    """
    items = data.dense_items
    if items is None or len(data.trie) <= exact_items or any(model.dense is None for model in models):
        return None
    key = statistics_key(models, items, data.trie, bias)
    folder = folder_to_write(items) / key[:16]
    if not folder.is_dir():
        compute_statistics(data.trie, partial(item_vectors, models, items), bias).save(folder, key)
    return folder


def folder_to_write(items: DenseItems) -> Path:
    """Return the folder in the data-bin for what depends on a checkpoint.

    Raises:
        OSError: it is a link, which could lead out of a foreign data-bin.
    """
    folder = items.folder / STORED
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "is a link, and nothing is written through it", str(folder))
    return folder


def statistics_key(models: Sequence[Any], items: DenseItems, trie: IdentifierTrie, bias: Tensor | None) -> str:
    """Hexadecimal SHA-256 of what statistics depend on: item towers, identifiers, features of items, bias."""
    weights = io.BytesIO()
    torch.save([(model.dense.item_tower.state_dict(), model.dense.share_logit.data) for model in models], weights)
    digest = hashlib.sha256(weights.getbuffer())
    for tensor in (trie.rows, *trie.values, *trie.first_child, torch.empty(0) if bias is None else bias):
        digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    step = max(1, len(items.embeddings) // 1024)
    digest.update(items.embeddings[::step].tobytes())
    digest.update(str((items.embeddings.shape, items.texts)).encode())
    return digest.hexdigest()
