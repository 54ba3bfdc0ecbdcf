"""Pairs of a tokenised query and an identifier, as fairseq batches them."""

from typing import Any, NamedTuple

import numpy as np
import torch
from fairseq.data import FairseqDataset
from torch import Tensor

from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.search.batching import net_input
from cart_fairseq.training.companions import Companions

MAX_BATCH = 1024


class DenseExamples(NamedTuple):
    """What training examples of a dense head are made of.

    Attributes:
        items: features of items and captions.
        item_rows: (N,) int64, the item of each query.
        companions: draws another caption of a query's item.
    """

    items: DenseItems
    item_rows: np.ndarray
    companions: Companions


class QueryIdentifierDataset(FairseqDataset):
    """Queries with, where they are known, the identifiers to write for them.

    Args:
        queries: indexable, 1-d int64 tensors that end in ``</s>``.
        query_sizes: the N lengths of the queries.
        identifiers: indexable, 1-d int64 tensors of J symbols and fairseq's ``</s>``, which is dropped; or None.
        pad: the padding symbol of both dictionaries.
        eos: ``</s>``; ends a query and begins the decoder's input.
        candidates: name of the candidate set that competes for these queries.
        max_query_tokens: longer queries are cut, ``</s>`` kept.
        shuffle: draw a new order, and new batches, each epoch.
        pairs: (n,) which query each example is, where some come several times; None: example i is query i.
        dense: what a dense head learns from, in training; a query teaches it once an epoch, however often it comes.
    """

    def __init__(
        self,
        queries: Any,
        query_sizes: np.ndarray,
        identifiers: Any,
        pad: int,
        eos: int,
        candidates: str,
        max_query_tokens: int,
        shuffle: bool = False,
        pairs: np.ndarray | None = None,
        dense: DenseExamples | None = None,
    ):
        self.queries = queries
        self.identifiers = identifiers
        self.pairs = np.arange(len(query_sizes)) if pairs is None else pairs
        self.dense = dense
        if dense is not None:
            self.first = np.zeros(len(self.pairs), dtype=bool)
            self.first[np.unique(self.pairs, return_index=True)[1]] = True
        self.sizes = np.minimum(np.asarray(query_sizes), max_query_tokens)[self.pairs]
        self.pad = pad
        self.eos = eos
        self.candidates = candidates
        self.shuffle = shuffle
        self.epoch = 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair = int(self.pairs[index])
        query = self.queries[pair].long()
        if len(query) > self.sizes[index]:
            query = torch.cat([query[: self.sizes[index] - 1], query[-1:]])
        target = None if self.identifiers is None else self.identifiers[pair].long()[:-1]
        return {"id": index, "query": query, "target": target}

    def __len__(self) -> int:
        return len(self.sizes)

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Batch examples: ``src_tokens`` (B, T) padded on the right, ``target`` (B, J), all int64."""
        if not samples:
            return {}
        queries = [sample["query"] for sample in samples]
        batch: dict[str, Any] = {
            "id": torch.tensor([sample["id"] for sample in samples]),
            "nsentences": len(samples),
            "net_input": net_input(queries, self.pad),
            "target": None,
            "candidates": self.candidates,
            "epoch": self.epoch,
        }
        if self.identifiers is not None:
            target: Tensor = torch.stack([sample["target"] for sample in samples])
            start = target.new_full((len(samples), 1), self.eos)
            batch["target"] = target
            batch["ntokens"] = target.numel()
            batch["net_input"]["prev_output_tokens"] = torch.cat([start, target[:, :-1]], dim=1)
        else:
            batch["ntokens"] = sum(len(query) for query in queries)
        if self.dense is not None:
            items, item_rows, companions = self.dense
            pairs = self.pairs[batch["id"].numpy()]
            draw = np.random.default_rng((self.epoch, *pairs[:2].tolist()))
            rows = item_rows[pairs]
            features = items.training_features(rows, companions.draw(pairs, draw))
            taught = self.first[batch["id"].numpy()]  # once an epoch is enough; more cost it recall
            if items.captions is not None:  # what a join does not know is borrowed: no word of the item itself
                taught &= companions.known[pairs]
            rows = np.where(taught, rows, -1)
            batch["net_input"] |= {"items": torch.from_numpy(rows), "item_features": features}
        return batch

    def num_tokens(self, index: int) -> int:
        """What ``--max-tokens`` counts: the query's symbols."""
        return int(self.sizes[index])

    def size(self, index: int) -> tuple[int, int]:
        """Length of a query, for fairseq's length filter; identifiers always fit. One number would be held against both limits."""
        return int(self.sizes[index]), 0

    def ordered_indices(self) -> np.ndarray:
        """Indices by length, so that batches hold little padding; ties in a new random order each epoch."""
        if not self.shuffle:
            return np.argsort(self.sizes, kind="stable")
        seed = np.random.randint(2**31)  # noqa: NPY002 - fairseq seeds the global generator with its --seed
        order = np.random.default_rng((seed, self.epoch)).permutation(len(self))
        return order[np.argsort(self.sizes[order], kind="stable")]

    def batch_by_size(
        self,
        indices: np.ndarray,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        required_batch_size_multiple: int = 1,
    ) -> Any:
        """Batches of consecutive indices, none left out: fairseq drops a last one that is no multiple of 8.

        Where nothing bounds a batch (fairseq-validate's default), ``MAX_BATCH`` queries do.
        """
        if max_tokens is None and max_sentences is None:
            max_sentences = MAX_BATCH
        return super().batch_by_size(indices, max_tokens, max_sentences, required_batch_size_multiple=1)

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """Batches are drawn anew each epoch when shuffling."""
        return not self.shuffle

    def set_epoch(self, epoch: int) -> None:
        """Called by fairseq at the beginning of each epoch."""
        self.epoch = epoch
