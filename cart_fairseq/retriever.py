"""CartRetriever: text in, ranked items out, from Python."""

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq import checkpoint_utils, utils

from cart_fairseq.query_codec import QueryCodec
from cart_fairseq.sequence_generator import IdentifierGenerator
from cart_fairseq.task import CartRetrievalTask
from cart_fairseq.trie import IdentifierTrie

BATCH_SIZE = 256


@dataclass(frozen=True)
class Hit:
    """One retrieved item.

    Attributes:
        item_id: the item.
        score: the sum of its identifier's natural-log probabilities.
        record: everything ``items.jsonl`` says about it (``media``, ``split`` …).
    """

    item_id: str
    score: float
    record: dict[str, Any] = field(compare=False)


class CartRetriever:
    """Searches a catalogue with a trained model; made by :meth:`from_pretrained`.

    Args:
        models: trained ``cart`` models of one data-bin; several are an ensemble.
        task: the task they were trained with.
        beam: default beam width; at least as wide as the k asked for is used.
    """

    def __init__(self, models: Sequence[Any], task: CartRetrievalTask, beam: int = 30):
        self.task = task
        self.beam = beam
        self.models = list(models)
        self.device = next(self.models[0].parameters()).device
        self.codec = QueryCodec(task.data)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, data: str | Path, beam: int = 30, device: str | torch.device | None = None
    ) -> "CartRetriever":
        """Load a checkpoint, or an ensemble of several joined by colons.

        Args:
            path: ``checkpoint_best.pt``, or ``a.pt:b.pt``.
            data: the data-bin it was trained on.
            beam: beam width of searches.
            device: where to search; a GPU if there is one, unless given.

        Raises:
            ValueError: a checkpoint is missing, damaged, unsafe, not of this task, or belongs to other identifiers.
        """
        paths = utils.split_paths(str(path))
        for each in paths:
            if not Path(each).is_file():
                raise ValueError(f"{each}: no such checkpoint; train one with fairseq-train --task cart_retrieval")
        # precision is the caller's choice, not what the checkpoint happened to be trained with
        overrides = {"data": str(data), "float32_matmul_precision": torch.get_float32_matmul_precision()}
        try:
            models, _, task = checkpoint_utils.load_model_ensemble_and_task(paths, arg_overrides=overrides)
        except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"{path}: not a checkpoint that can be read in torch's safe mode ({reason}); give one that fairseq-train "
                "wrote, or train again"
            ) from None
        if not isinstance(task, CartRetrievalTask):
            raise ValueError(f"{path}: a checkpoint of task {type(task).__name__}, not of cart_retrieval")
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls([model.to(target).eval() for model in models], task, beam)

    def search(
        self, texts: Sequence[str], k: int = 10, candidates: str | Iterable[str] | None = None
    ) -> list[list[Hit]]:
        """Rank items for each query.

        Args:
            texts: queries.
            k: how many items each; fewer come back where there are fewer candidates.
            candidates: None for the whole catalogue, the name of a candidate set (``all``, ``valid``, ``test``), or the
                item ids that may be found.

        Returns:
            One list of hits a query, best first.

        Raises:
            ValueError: k is below 1, a query is empty, a candidate is unknown or there is none.
        """
        if isinstance(texts, str):
            raise ValueError("texts is one string; give a list of queries")
        if k < 1:
            raise ValueError(f"k is {k}; ask for at least 1 item")
        for row, text in enumerate(texts):
            if not text.strip():
                raise ValueError(f"query {row} is empty; give it some text")
        trie = self._trie(candidates)
        generator = IdentifierGenerator(self.models, self.task.trie, self.task.id_dict.eos(), max(self.beam, k))
        tokens = [
            self.task.query_dict.encode_line(self.codec.encode(text), add_if_not_exist=False).long() for text in texts
        ]
        dataset = self.task.build_dataset_for_inference(tokens, [len(t) for t in tokens])
        results: list[list[Hit]] = [[] for _ in texts]
        order = dataset.ordered_indices()
        for begin in range(0, len(order), BATCH_SIZE):
            batch = dataset.collater([dataset[int(i)] for i in order[begin : begin + BATCH_SIZE]])
            net_input = {key: value.to(self.device) for key, value in batch["net_input"].items()}
            found = generator.search(net_input, trie)
            rows, scores = found.rows[:, :k].tolist(), found.scores[:, :k].tolist()
            for query, query_rows, query_scores in zip(batch["id"].tolist(), rows, scores, strict=True):
                results[query] = [
                    self._hit(row, score)
                    for row, score in zip(query_rows, query_scores, strict=True)
                    if score > float("-inf")
                ]
        return results

    def _hit(self, row: int, score: float) -> Hit:
        bundle = self.task.data.bundle
        return Hit(bundle.item_ids[row], score, bundle.record(row))

    def _trie(self, candidates: str | Iterable[str] | None) -> IdentifierTrie:
        if candidates is None or isinstance(candidates, str):
            return self.task.trie(candidates or "all")
        row_of = self.task.data.bundle.row_of
        wanted = list(candidates)
        for item_id in wanted:
            if item_id not in row_of:
                raise ValueError(f"candidate {item_id!r} is not in the catalogue; check the item ids")
        return self.task.data.build_trie(np.unique([row_of[item_id] for item_id in wanted]).astype(np.int64))
