"""Writes what searching with a checkpoint reads beside it into the data-bin: priors, prefix statistics, item vectors.

A search computes what is missing itself, in memory, and that takes longer the larger the catalogue is.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cart_fairseq.base.files import remove_scratch
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.queries.item_priors import has_priors, mean_share, prior_bias, store_priors
from cart_fairseq.search.dense.stored_arrays import folder_to_write, stored_folder
from cart_fairseq.search.dense.stored_statistics import EXACT_ITEMS, statistics_key, store_statistics
from cart_fairseq.search.dense.stored_vectors import store_vectors


def renewal(path: str | Path, data: str | Path) -> Callable[[], bool]:
    """Load a checkpoint before an update of its data-bin; return what writes the files of its searches after the update.

    So a wrong checkpoint is refused while nothing has changed.

    Args:
        path: the checkpoint, or an ensemble ``a.pt:b.pt``.
        data: the data-bin.

    Returns:
        A function that opens the data-bin again and returns the result of :func:`store_search_files`.

    Raises:
        ValueError: the checkpoint cannot be read or does not belong to the data-bin.
    """
    from cart_fairseq.tasks.checkpoints import load_models  # fairseq takes seconds to import

    models, _ = load_models(path, data)
    return lambda: store_search_files(models, DataBin(data))


def store_search_files(models: Sequence[Any], data: DataBin) -> bool:
    """Write what a search with these models reads; nothing is written for models without a dense head.

    Returns:
        False if the data-bin cannot be written to; a warning says so.
    """
    if data.dense_items is None or any(model.dense is None for model in models):
        return True
    for model in models:
        model.eval()
    try:
        remove_scratch(folder_to_write(data.dense_items))  # of a process that was killed here
        store_vectors(models, data)
        if mean_share(models):
            store_priors(models, data)
        store_statistics(models, data, prior_bias(models, data))
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}; each search computes priors, statistics and vectors itself"
        print(f"warning: {reason}", file=sys.stderr)
        return False
    return True


def is_renewed(models: Sequence[Any], data: DataBin) -> bool:
    """Whether the first search with these models has no statistics of a large catalogue to compute."""
    items = data.dense_items
    if not models or items is None or len(data.trie) <= EXACT_ITEMS or any(model.dense is None for model in models):
        return True
    stored = stored_folder(items)
    if stored is None or (mean_share(models) and not has_priors(models, data)):
        return False
    return (stored / statistics_key(models, items, data.trie, prior_bias(models, data))[:16]).is_dir()
