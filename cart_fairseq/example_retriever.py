"""ExampleRetriever: ranks items by their likeness to examples, for catalogues without captions, from Python."""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cart_fairseq.base.checks import check_count, short
from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.loading.devices import device_of
from cart_fairseq.queries.candidates import Candidates, candidate_set, sets_of
from cart_fairseq.queries.hit import Hit
from cart_fairseq.queries.media_encoder import open_media_encoder
from cart_fairseq.queries.mixed_input import MixedInput, mixed_inputs
from cart_fairseq.queries.query import TEXT, Query, parts_of

BLOCK = 8192
"""Items that are compared at a time."""


class ExampleRetriever:
    """Searches a catalogue by example, without a trained model.

    The score of an item is the weighted mean of the cosines between its embedding and those of the query's parts. All
    items are compared, so the cost grows with the catalogue. Texts are not understood. The paper has text queries only.

    Args:
        data: the data-bin, made with ``--embeddings``.
        device: of the encoder for media files, and of the comparison (default: a GPU if there is one).

    Raises:
        ValueError: the data-bin has no embeddings from before they were joined with captions, or there is no such device.
    """

    def __init__(self, data: DataBin, device: str | torch.device | None = None):
        if data.dense_items is None or not data.dense_items.original_dim:
            raise ValueError(
                f"{data.directory}: has no embeddings by which items are compared with examples; binarise it with "
                "--embeddings"
            )
        self.data = data
        self.device = device_of(device)
        self._media_encoder: Any = None

    @classmethod
    def from_pretrained(cls, data: str | Path, device: str | torch.device | None = None) -> "ExampleRetriever":
        """Open a data-bin.

        Args:
            data: the data-bin.
            device: see the class.

        Raises:
            ValueError: the data-bin is missing or damaged; see also the class.
        """
        return cls(DataBin(data), device)

    def on(self, data: DataBin) -> "ExampleRetriever":
        """Return a retriever with the same options for another state of the data-bin."""
        found = copy.copy(self)
        found.data = data
        if data.manifest.get("encoder") != self.data.manifest.get("encoder"):
            found._media_encoder = None
        return found

    def candidate_set(self, candidates: Candidates) -> CandidateSet | None:
        """Prepare candidates once for several searches; see :meth:`CartRetriever.candidate_set`."""
        return candidate_set(self.data, candidates)

    def search(
        self,
        queries: Iterable[str | Query],
        k: int = 10,
        candidates: Candidates | Sequence[Candidates] = None,
        at_least: float | None = None,
    ) -> list[list[Hit]]:
        """Rank items for each query.

        Args:
            queries: a series of ``Query`` objects without texts.
            k: number of items per query; with fewer candidates, fewer items are returned.
            candidates: the items that may be found; see :meth:`CartRetriever.search`.
            at_least: None. It is there because :meth:`CartRetriever.search` has it; cosines are no probabilities.

        Returns:
            One list of hits per query, best first. Items that are part of a query are left out.

        Raises:
            ValueError: k is below 1; a query is empty, wrong or has a text; a candidate is unknown; there is no
                candidate; or ``at_least`` is given. The message names the query.
        """
        parts = parts_of(queries)
        check_count("k", k)
        for position, each in enumerate(parts):
            if any(part.kind == TEXT for part in each):
                raise ValueError(
                    f"query {position} asks with text, but no model was trained that reads texts; ask with item_id, "
                    "embedding or media"
                )
        if at_least is not None:
            raise ValueError(f"at_least is {short(at_least)}, but cosines are no probabilities; leave out at_least")
        if not parts:
            return []
        inputs = mixed_inputs(list(enumerate(parts)), self.data, None, self.encode_media)
        sets = sets_of(self.data, candidates, len(parts))
        groups: dict[int, list[int]] = {}
        for position, allowed in enumerate(sets):
            groups.setdefault(id(allowed), []).append(position)
        results: list[list[Hit]] = [[] for _ in parts]
        for positions in groups.values():
            found = self._rank([inputs[position] for position in positions], sets[positions[0]], k)
            for position, hits in zip(positions, found, strict=True):
                results[position] = hits
        return results

    def push_to_hub(self, repo_id: str, **_options: Any) -> str:
        """Raise ValueError: there is no model to publish; see :meth:`CartRetriever.push_to_hub`."""
        raise ValueError(
            f"{repo_id}: a catalogue without a trained model is no MODEL folder, so it is not pushed; train a model, export "
            "it with python -m cart_fairseq.export and push that"
        )

    def encode_media(self, paths: Sequence[str], seconds: float | None = None) -> Any:
        """Embed media files with the encoder that made the catalogue's embeddings; see :meth:`CartRetriever.encode_media`."""
        if self._media_encoder is None:
            self._media_encoder = open_media_encoder(self.data, str(self.device))
        return self._media_encoder(paths, seconds)

    @torch.inference_mode()
    def _rank(self, inputs: Sequence[MixedInput], candidates: CandidateSet | None, k: int) -> list[list[Hit]]:
        """The k best items of the candidates, for each query."""
        if candidates is None:
            rows = torch.from_numpy(self.data.bundle.kept)  # ascending
        else:
            rows = self.data.trie.rows[candidates.leaves].long().sort().values
        vectors = torch.from_numpy(np.stack([_sum_of(each) for each in inputs])).to(self.device)
        most = k + max(len(each.left_out) for each in inputs)
        best: list[tuple[Tensor, Tensor]] = []
        for block in rows.split(BLOCK):
            scores = vectors @ self._embeddings(block).T
            best.append(_best(scores, block.to(self.device).expand_as(scores), most))
        scores, found = (torch.cat(each, dim=1) for each in zip(*best, strict=True))
        scores, found = _best(scores, found, most)
        hits = []
        for query, values, places in zip(inputs, scores.tolist(), found.tolist(), strict=True):
            kept = [(row, score) for row, score in zip(places, values, strict=True) if row not in query.left_out]
            hits.append([self._hit(row, score) for row, score in kept[:k]])
        return hits

    def _embeddings(self, rows: Tensor) -> Tensor:
        """Embeddings of items (n,): (n, E) float32 of length 1."""
        assert self.data.dense_items is not None
        return self.data.dense_items.originals(rows.cpu().numpy()).to(self.device)

    def _hit(self, row: int, score: float) -> Hit:
        bundle = self.data.bundle
        return Hit(bundle.item_id(row), score, bundle.record(row), row)


def _sum_of(query: MixedInput) -> NDArray[np.float32]:
    """The weighted sum (E,) of the embeddings of a query's parts; their weights' magnitudes sum to 1."""
    return np.sum([weight * vector for vector, weight in query.embeddings], axis=0, dtype=np.float32)  # type: ignore[no-any-return]


def _best(scores: Tensor, rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The best scores of each query with their rows, best first; of equal ones those of earlier rows."""
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :most]
    return scores.gather(1, order), rows.gather(1, order)
