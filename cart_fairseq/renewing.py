"""Writes what searching with a checkpoint reads beside it into the data-bin: priors, prefix statistics, item vectors.

A search computes what is missing itself, in memory, and that takes longer the larger the catalogue is.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.item_priors import mean_share, prior_bias, store_priors
from cart_fairseq.search.stored_statistics import store_statistics
from cart_fairseq.search.stored_vectors import store_vectors


def renew(path: str | Path, data: str | Path) -> bool:
    """Write the files of a checkpoint's searches into a data-bin, after an update of the data-bin.

    Args:
        path: the checkpoint, or an ensemble ``a.pt:b.pt``.
        data: the data-bin.

    Returns:
        False if the data-bin cannot be written to; a warning says so.

    Raises:
        ValueError: the checkpoint cannot be read or does not belong to the data-bin.
    """
    from cart_fairseq.tasks.checkpoints import load_models  # fairseq takes seconds to import

    models, opened = load_models(path, data)
    return store_search_files(models, opened)


def store_search_files(models: Sequence[Any], data: DataBin) -> bool:
    """Write what a search with these models reads; nothing is written for models without a dense head.

    Returns:
        False if the data-bin cannot be written to; a warning says so.
    """
    if data.dense_items is None or any(model.dense is None for model in models):
        return True
    try:
        store_vectors(models, data)
        if mean_share(models):
            store_priors(models, data)
        store_statistics(models, data, prior_bias(models, data))
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}; each search computes priors and statistics of prefixes itself"
        print(f"warning: {reason}", file=sys.stderr)
        return False
    return True
