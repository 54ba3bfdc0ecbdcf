"""The priors of a data-bin's items for a model, stored in the data-bin or computed; see :mod:`cart_fairseq.search.dense.priors`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from cart_fairseq.base.files import replacing
from cart_fairseq.base.progress import Progress
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dictionary import PAD
from cart_fairseq.queries.codec import QueryCodec
from cart_fairseq.search.batching import batches
from cart_fairseq.search.decoding import stop_training
from cart_fairseq.search.dense.item_vectors import head_shares, item_vectors, kept, query_vectors
from cart_fairseq.search.dense.outdated import opened_if_there
from cart_fairseq.search.dense.priors import QueryBank, bank_captions, item_priors
from cart_fairseq.search.dense.stored_arrays import (
    ENCODER,
    check_finite,
    digest_of,
    folder_to_write,
    may_be_read,
    open_array,
    save_arrays,
    stored_folder,
)
from cart_fairseq.search.dense.stored_statistics import statistics_key

BANK, PRIORS = "queries", "priors"
OF_QUERIES = (ENCODER, "dense.query_tower.", "dense.log_scale", "dense.share_logit")
"""Beginnings of the names of weights that queries' vectors depend on."""


def prior_bias(
    models: Sequence[Any], data: DataBin, share: float | None = None, weight: float | None = None
) -> Tensor | None:
    """Return what priors add to the dense score of each item at weight 1: minus share x prior.

    The same tensor is returned until the models change.

    Args:
        models: the models of a search.
        data: their data-bin.
        share: the share of the prior, at least 0; None for the mean of the models' own.
        weight: of the dense score, as in the search; None for the models' own. A prior is of the score that is searched by.

    Returns:
        (N,) float32 by item row, on the device of the models; None if the share is 0 or a model has no dense head.

    Raises:
        ValueError: stored priors are damaged, or the data-bin has no training queries to compute them from.
    """
    if data.dense_items is None or any(model.dense is None for model in models):
        return None
    if share is None:
        share = mean_share(models)
    if share == 0:
        return None
    stop_training(models)  # as a search does; priors are computed before it
    name = f"bias {share:.9g} {head_shares(models, weight)}"
    return kept(models, data.trie, name, None, lambda: -share * priors_of(models, data, weight))


def mean_share(models: Sequence[Any]) -> float:
    """The share of priors of models with dense heads: the mean of their own."""
    return sum(float(model.dense.prior_share) for model in models) / len(models)


def priors_of(models: Sequence[Any], data: DataBin, weight: float | None = None) -> Tensor:
    """Open the stored priors of all items, or compute them: (N,) float32 by item row, 0 for removed items.

    Args:
        models, data, weight: see :func:`prior_bias`.
    """
    shares = head_shares(models, weight)
    return kept(models, data.trie, f"{PRIORS} {shares}", None, lambda: _open_or_compute(models, data, weight))


def store_priors(models: Sequence[Any], data: DataBin, source: DataBin | None = None) -> None:
    """Write priors, and the stored queries that they are computed from, into the data-bin.

    Args:
        models: models with a dense head.
        data: their data-bin.
        source: a data-bin with the same vocabulary that has the training captions; None: ``data`` has them.

    Raises:
        OSError: the data-bin cannot be written to.
        ValueError: there are no training captions.
    """
    assert data.dense_items is not None
    bank_folder, priors_folder = (folder_to_write(data.dense_items) / name for name in prior_names(models, data))
    if not bank_folder.is_dir():
        bank = _bank_of(models, source or data)
        with replacing(bank_folder, directory=True) as new:
            save_arrays(new, {"vectors": bank.vectors.numpy(), "item_ids": np.array(bank.item_ids)})
    if not priors_folder.is_dir():
        with replacing(priors_folder, directory=True) as new:
            save_arrays(new, {PRIORS: priors_of(models, data).cpu().numpy()})


def has_priors(models: Sequence[Any], data: DataBin) -> bool:
    """Whether a data-bin with embeddings holds the priors of its items for these models."""
    folder = _stored(models, data, 1)
    return folder is not None and may_be_read(folder)


def prior_names(models: Sequence[Any], data: DataBin, weight: float | None = None) -> tuple[str, str]:
    """The names of the folders of stored queries and priors, which depend on what the arrays are computed from."""
    shares = head_shares(models, weight)
    return kept(models, data.trie, f"names {shares}", None, lambda: _compute_names(models, data, shares))


def _compute_names(models: Sequence[Any], data: DataBin, shares: tuple[float, ...]) -> tuple[str, str]:
    assert data.dense_items is not None
    bank = digest_of(models, OF_QUERIES, data.fingerprint[16:].hex())  # of the query vocabulary
    unequal = [] if set(shares) == {1.0} else [str(shares)]
    priors = digest_of([], (), bank, statistics_key(models, data.dense_items, data.trie, None), *unequal)
    return f"{BANK}.{bank[:16]}", f"{PRIORS}.{priors[:16]}"


def _stored(models: Sequence[Any], data: DataBin, place: int, weight: float | None = None) -> Path | None:
    """The folder of stored queries (0) or priors (1), if there may be one."""
    assert data.dense_items is not None
    stored = stored_folder(data.dense_items)
    return None if stored is None else stored / prior_names(models, data, weight)[place]


def _open_or_compute(models: Sequence[Any], data: DataBin, weight: float | None) -> Tensor:
    """Open stored priors, or compute them; see :func:`priors_of`.

    Raises:
        CatalogueError: stored priors are damaged.
    """
    device = next(models[0].parameters()).device
    folder = _stored(models, data, 1, weight)
    if folder is not None:
        shape = [len(data.bundle)]
        found = opened_if_there(folder, lambda: open_array(folder, PRIORS, np.float32, shape, mapped=True))
        if found is not None:
            check_finite(folder, PRIORS, found)
            return torch.from_numpy(found).to(device)
    stored = _bank_of(models, data)
    shares = zip(models, head_shares(models, weight), strict=True)
    scale = torch.cat([torch.full((model.dense.width,), share) for model, share in shares])
    bank = QueryBank((stored.vectors * scale).to(device), _rows(data, stored.item_ids).to(device))
    rows = data.trie.rows.long().to(device)
    priors = torch.zeros(len(data.bundle), device=device)
    assert data.dense_items is not None
    priors[rows] = item_priors(bank, partial(item_vectors, models, data.dense_items), rows)
    return priors


class _Bank(NamedTuple):
    """Stored queries, on the CPU: vectors (Q, D) float32 at equal weights, and the id of the item that each describes."""

    vectors: Tensor
    item_ids: list[str]


def _bank_of(models: Sequence[Any], data: DataBin) -> _Bank:
    """Open the stored queries, or compute them; they are kept in memory until the models change."""
    return kept(models, data.trie, BANK, None, lambda: _open_or_compute_bank(models, data))


def _open_or_compute_bank(models: Sequence[Any], data: DataBin) -> _Bank:
    folder = _stored(models, data, 0)
    found = None if folder is None else opened_if_there(folder, lambda: _open_bank(models, folder))
    return _compute_bank(models, data) if found is None else found


def _open_bank(models: Sequence[Any], folder: Path) -> _Bank:
    width = sum(model.dense.width for model in models)
    vectors = open_array(folder, "vectors", np.float32, [None, width])
    check_finite(folder, "vectors", vectors)
    return _Bank(torch.from_numpy(vectors), open_array(folder, "item_ids", np.str_, [len(vectors)]).tolist())


@torch.no_grad()
def _compute_bank(models: Sequence[Any], data: DataBin) -> _Bank:
    """Compute the vectors of training captions.

    Raises:
        ValueError: the data-bin has none.
    """
    if "train" not in data.subsets:
        raise ValueError(
            f"{data.root}: has no training captions, nor stored ones for this model that may be read in its folder search/, so "
            "there are no priors; search with prior_share 0, or export the model again with python -m cart_fairseq.export"
        )
    table = data.queries("train", ("text", "role", "item_row"))
    table, codec = table.take(bank_captions(table["role"].to_numpy())), QueryCodec(data)
    symbols = [codec.symbols(text) for text in table["text"].to_pylist()]
    device = next(models[0].parameters()).device
    parts, order = [], []
    with Progress(len(symbols), "queries of the priors", "queries") as progress:
        for numbers, net_input in batches(symbols, PAD, device):
            members = [(model, model.encoder(**net_input)) for model in models]
            parts.append(query_vectors(members, 1.0).vectors.cpu())
            order += numbers.tolist()
            progress.update(len(numbers))
    return _Bank(torch.cat(parts), data.bundle.id_column.take(table["item_row"].take(order)).to_pylist())


def _rows(data: DataBin, item_ids: Sequence[str]) -> Tensor:
    """Rows of items, (n,) int64; -1 for items that are not in the catalogue any more."""
    import pyarrow.compute as pc  # here, because most searches need none of it

    wanted = pa.array(item_ids, pa.string())
    known = wanted.unique()
    place = pc.index_in(data.bundle.id_column, value_set=known)
    there = np.setdiff1d(np.flatnonzero(place.is_valid().to_numpy()), data.bundle.removed)
    row_of = np.full(len(known), -1)
    row_of[place.take(there).to_numpy()] = there
    return torch.from_numpy(row_of[pc.index_in(wanted, value_set=known).to_numpy()])
