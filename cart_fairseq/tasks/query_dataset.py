"""The fairseq data set of tokenised queries and identifiers."""

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
    """The data of a dense head's training examples.

    Attributes:
        items: features of items and captions.
        item_rows: (N,) int64, the item row of each query.
        companions: draws another caption of a query's item.
    """

    items: DenseItems
    item_rows: np.ndarray
    companions: Companions


class QueryIdentifierDataset(FairseqDataset):
    """Queries and, if known, their target identifiers.

    Args:
        queries: indexable, 1-d int64 tensors that end in ``</s>``.
        query_sizes: the N lengths of the queries.
        identifiers: indexable, 1-d int64 tensors of J symbols and fairseq's ``</s>``, which is dropped; or None.
        pad: the padding symbol of both dictionaries.
        eos: ``</s>``, the last symbol of a query and the first of the decoder's input.
        candidates: name of the candidate set of these queries.
        max_query_tokens: the length to which longer queries are cut, including ``</s>``, which is kept.
        shuffle: draw a new order and new batches in each epoch.
        pairs: (n,) int64, the query of each example, if some queries are repeated; None: example i is query i.
        dense: data of a dense head's examples, in training. A repeated query counts once per epoch for the dense head.
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
        """Make a batch of examples.

        Returns:
            ``id`` (B,) int64; ``net_input`` with ``src_tokens`` (B, T), padded on the right, ``src_lengths`` (B,) and,
            with identifiers, ``prev_output_tokens`` (B, J), all int64; ``target`` (B, J) int64 or None; the numbers of
            queries and tokens, the candidate set and the epoch. With ``dense`` there are ``item_rows`` (B,) int64, and
            ``net_input`` has ``items`` (B,) int64, the same but -1 for a query that is left out of the dense loss, and
            ``item_features`` (B, D) float32.
        """
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
            taught = self.first[batch["id"].numpy()]  # once per epoch: repeated queries lowered the dense head's recall
            if items.captions is not None:  # a caption without features has no known word
                taught &= companions.known[pairs]
            rows = np.where(taught, rows, -1)
            batch["item_rows"] = torch.from_numpy(item_rows[pairs])
            batch["net_input"] |= {"items": torch.from_numpy(rows), "item_features": features}
        return batch

    def num_tokens(self, index: int) -> int:
        """The query's length in symbols, which ``--max-tokens`` counts."""
        return int(self.sizes[index])

    def size(self, index: int) -> tuple[int, int]:
        """The lengths of query and identifier for fairseq's length filter.

        The identifier's is 0, because it always fits; a single number would be compared with both limits.
        """
        return int(self.sizes[index]), 0

    def ordered_indices(self) -> np.ndarray:
        """Indices sorted by length, so that batches have little padding; equal lengths are shuffled in each epoch."""
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
        """Make batches of consecutive indices, without fairseq's rounding of batch sizes to multiples of 8.

        If neither ``max_tokens`` nor ``max_sentences`` is given, a batch has at most ``MAX_BATCH`` queries.
        """
        if max_tokens is None and max_sentences is None:
            max_sentences = MAX_BATCH
        return super().batch_by_size(indices, max_tokens, max_sentences, required_batch_size_multiple=1)

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """False if shuffling, so that each epoch has new batches."""
        return not self.shuffle

    def set_epoch(self, epoch: int) -> None:
        """Store the epoch's number; fairseq calls this at the beginning of each epoch."""
        self.epoch = epoch
