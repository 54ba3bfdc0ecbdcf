"""Writes what searching with a checkpoint reads beside it into the data-bin: priors, prefix statistics, item vectors.

A search computes what is missing itself, in memory, and that takes longer the larger the catalogue is.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cart_fairseq.base.files import remove_scratch
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.queries.item_priors import has_priors, mean_share, prior_bias, prior_names, store_priors
from cart_fairseq.search.dense.outdated import EMBEDDINGS, IDENTIFIERS, note_made_for, remove_outdated
from cart_fairseq.search.dense.stored_arrays import copy_stored, folder_to_write, stored_folder
from cart_fairseq.search.dense.stored_statistics import (
    EXACT_ITEMS,
    statistics_key,
    statistics_names,
    store_statistics,
)
from cart_fairseq.search.dense.stored_vectors import store_vectors, vectors_name
from cart_fairseq.tasks.opening import open_models


def renewal(path: str | Path, data: str | Path) -> Callable[[], bool]:
    """Load a checkpoint before an update of its data-bin; return what writes the files of its searches after the update.

    So a wrong checkpoint is refused while nothing has changed.

    Args:
        path: the checkpoint, an ensemble ``a.pt:b.pt``, or a MODEL folder that is also the data-bin.
        data: the data-bin.

    Returns:
        A function that opens the data-bin again and returns the result of :func:`store_search_files`.

    Raises:
        ValueError: the checkpoint cannot be read or does not belong to the data-bin.
    """
    models, _ = open_models(path, data)
    return lambda: store_search_files(models, DataBin(data))


def store_search_files(models: Sequence[Any], data: DataBin) -> bool:
    """Write what a search with these models reads; nothing is written for models without a dense head.

    Returns:
        False if the data-bin cannot be written to; a warning says so.
    """
    if data.dense_items is None or any(model.dense is None for model in models):
        return True
    try:
        write_search_files(models, data, mean_share(models) > 0)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}; each search computes priors, statistics and vectors itself"
        print(f"warning: {reason}", file=sys.stderr)
        return False
    return True


def write_search_files(models: Sequence[Any], data: DataBin, priors: bool, source: DataBin | None = None) -> None:
    """Write what a search with models that have dense heads reads.

    What is stored for earlier states of the catalogue is removed.

    Args:
        models: the models.
        data: their data-bin, with embeddings.
        priors: whether priors are written.
        source: a data-bin with the same items and vocabulary. What it holds of these files is copied, and its training
            captions are used; None: the data-bin itself.

    Raises:
        OSError: the data-bin cannot be written to.
        ValueError: there are no training captions for priors; or a file that is copied is damaged.
    """
    items = data.dense_items
    assert items is not None
    for model in models:
        model.eval()
    remove_scratch(folder_to_write(items))  # of a process that was killed here
    before = None if source is None else source.dense_items
    if before is not None:
        for name in (vectors_name(models, items), *prior_names(models, data)):
            copy_stored(name, before, items)
    store_vectors(models, data)
    if priors:
        store_priors(models, data, source)
    bias = prior_bias(models, data)
    if before is not None:
        for name in statistics_names(models, data, bias):
            copy_stored(name, before, items)
    store_statistics(models, data, bias)
    stored = folder_to_write(items)
    bank, priors_folder = prior_names(models, data)
    note_made_for(stored / vectors_name(models, items), data, [EMBEDDINGS])
    note_made_for(stored / bank, data, [])  # of the model alone
    for name in (priors_folder, *statistics_names(models, data, bias)):
        note_made_for(stored / name, data, [IDENTIFIERS, EMBEDDINGS])
    remove_outdated(data.root)


def is_renewed(models: Sequence[Any], data: DataBin) -> bool:
    """Whether the first search with these models has no statistics of a large catalogue to compute."""
    items = data.dense_items
    if not models or items is None or len(data.trie) <= EXACT_ITEMS or any(model.dense is None for model in models):
        return True
    stored = stored_folder(items)
    if stored is None or (mean_share(models) and not has_priors(models, data)):
        return False
    return (stored / statistics_key(models, items, data.trie, prior_bias(models, data))[:16]).is_dir()
