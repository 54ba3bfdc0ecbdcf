"""CartRetriever: ranks items for text queries, from Python."""

import copy
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.base.checks import check_count
from cart_fairseq.base.settings import AUTO, BEAM, DEFAULT_SCORING, RERANKED_BEAM, check_search
from cart_fairseq.catalogue.candidates import CandidateSet
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dictionary import PAD
from cart_fairseq.loading.devices import device_of
from cart_fairseq.network.model import CART
from cart_fairseq.network.precision import convert
from cart_fairseq.queries.candidates import Candidates, candidate_set, sets_of
from cart_fairseq.queries.codec import QueryCodec
from cart_fairseq.queries.hit import Hit
from cart_fairseq.queries.item_priors import prior_bias
from cart_fairseq.queries.media_encoder import open_media_encoder
from cart_fairseq.queries.mixed_input import MixedInput, is_plain, mixed_batches, mixed_inputs, refuse_mixed
from cart_fairseq.queries.query import Part, Query, parts_of
from cart_fairseq.search.batching import batches
from cart_fairseq.search.calibration import calibration_of, check_at_least
from cart_fairseq.search.generator import IdentifierGenerator
from cart_fairseq.search.result import SearchResult, own_discount
from cart_fairseq.search.setup import make_generator
from cart_fairseq.tasks.opening import Source, open_source

_forked = threading.Event()
"""Set in a forked process until its first search: torch would wait for ever for threads, which a fork does not copy."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked.set)


class CartRetriever:
    """Searches a catalogue with a trained model. ``from_pretrained`` opens one from files.

    A retriever can be copied and pickled. A pickle is loaded where the data-bin is, in the same state. In a forked process
    a retriever searches on a CPU with one thread; processes that are started by ``spawn`` use all.

    Args:
        models: trained ``cart`` models of one data-bin; several form an ensemble.
        data: the models' data-bin.
        beam: beam width (default: 30, or 200 with a dense head but without look-ahead); a search for more items uses a
            wider beam.
        scoring: ``masked`` or ``renormalised``.
        dense_weight: weight of the dense score in ranking (default: the models' own).
        level_discount: weight of each symbol's score relative to the previous symbol's (default: the models' own).
        lookahead: whether the dense score guides the beam, or only ranks the items found.
        prior_share: share of the items' priors that is subtracted from the dense score (default: the models' own).

    Raises:
        ValueError: there is no model, or an option is out of range.
    """

    def __init__(
        self,
        models: Sequence[CART],
        data: DataBin,
        beam: int | None = None,
        scoring: str = DEFAULT_SCORING,
        dense_weight: float | None = None,
        level_discount: float | None = None,
        lookahead: bool = True,
        prior_share: float | None = None,
    ):
        check_search(beam, scoring, "float32", dense_weight, level_discount, prior_share=prior_share)
        if not models:
            raise ValueError(f"models is {models!r}; give at least one model")
        self.data = data
        self.dense_weight = dense_weight
        self.level_discount = own_discount(models) if level_discount is None else level_discount
        self.lookahead = lookahead
        self.prior_share = prior_share
        reranked = not lookahead and dense_weight != 0 and all(model.dense is not None for model in models)
        self.beam = beam or (RERANKED_BEAM if reranked else BEAM)
        self.scoring = scoring
        self.models = list(models)
        self.calibration = calibration_of(self.models, scoring, dense_weight, level_discount, prior_share, self.beam)
        self.device = next(self.models[0].parameters()).device
        self.codec = QueryCodec(data)
        self._media_encoder: Any = None
        self._source: Source | None = None

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        data: str | Path | None = None,
        beam: int | None = None,
        device: str | torch.device | None = None,
        precision: str = AUTO,
        scoring: str = DEFAULT_SCORING,
        dense_weight: float | None = None,
        level_discount: float | None = None,
        lookahead: bool = True,
        prior_share: float | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
    ) -> "CartRetriever":
        """Load a MODEL folder; or a checkpoint, or an ensemble of checkpoints, with its data-bin.

        Args:
            path: the folder that ``cart_fairseq.export`` wrote, or the name ``owner/name`` of one on the Hugging Face
                Hub, if nothing here has this path; with ``data``: ``checkpoint_best.pt``, or ``a.pt:b.pt``.
            data: the data-bin on which the models of a checkpoint were trained; None for a MODEL folder, which is
                opened without fairseq.
            beam: beam width (default: 30, or 200 with a dense head but without look-ahead).
            device: device of the search (default: a GPU if there is one).
            precision: ``float32``, ``bf16``, ``fp16``, or ``int8``, which works on CPUs only; ``auto``: ``bf16`` if a
                probe of a few milliseconds finds it a tenth faster than ``float32`` here.
            scoring: ``masked`` takes the softmax over all symbols and ignores invalid ones; ``renormalised`` takes it
                over the valid symbols alone.
            dense_weight: weight of the dense score in ranking, for models with a dense head; 0 ranks by identifiers
                alone (default: the models' own, which ``cart_fairseq.tune`` sets).
            level_discount: weight of each symbol's score relative to the previous symbol's; 1: equal (default: the
                models' own).
            lookahead: True: the dense score guides the beam; False: identifier scores alone guide it, and only the
                items found are ranked with the dense score.
            prior_share: share of the items' priors that is subtracted from the dense score; 0: no priors (default: the
                models' own, which ``cart_fairseq.tune`` sets).
            revision: branch, tag or commit on the Hub (default: ``main``).
            cache_dir: folder of downloads from the Hub (default: that of ``huggingface_hub``, see ``HF_HOME``).
            token: of an account on the Hub (default: that of ``hf auth login``).

        Raises:
            ValueError: the folder is no MODEL folder, or damaged; a checkpoint is missing, damaged, unsafe, of another
                task, or belongs to other identifiers; the Hub has no such model, or cannot be reached and its cache lacks
                it; an option is out of range; or there is no such device.
        """
        check_search(beam, scoring, precision, dense_weight, level_discount, prior_share=prior_share)
        target = device_of(device)
        models, opened, source = open_source(path, data, revision, cache_dir, token)
        models = [convert(model.to(target).eval(), precision) for model in models]
        made = cls(models, opened, beam, scoring, dense_weight, level_discount, lookahead, prior_share)
        made._source = source
        return made

    def push_to_hub(
        self,
        repo_id: str,
        private: bool | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> str:
        """Upload the MODEL folder to the Hugging Face Hub, in one commit; a checkpoint and its data-bin are exported first.

        The search's options, such as ``beam`` and ``precision``, are not part of it. Only files of a MODEL folder are
        uploaded; files of an earlier upload that are no longer part of it are removed.

        Args:
            repo_id: ``owner/name`` of the model on the Hub; it is made if need be.
            private: whether a new model is private (default: as the account is set). True: a public one is refused.
            commit_message: the message (default: one that names the number of items).
            revision: the branch to upload to, made if need be (default: ``main``).
            token: of an account on the Hub (default: that of ``hf auth login``).

        Returns:
            The address of the commit.

        Raises:
            ValueError: the models were not opened from files, or these have changed since or are damaged; the Hub refuses
                the upload; or ``huggingface_hub`` is not installed.
        """
        from cart_fairseq.publishing.uploading import push

        return push(self.data, self._source, repo_id, private, commit_message, revision, token)

    def on(self, data: DataBin) -> "CartRetriever":
        """Return a retriever with the same models and options for another state of the data-bin.

        Args:
            data: the data-bin, opened again; its identifiers and vocabulary are those of the models.
        """
        found = copy.copy(self)
        found.data, found.codec = data, QueryCodec(data)
        if data.manifest.get("encoder") != self.data.manifest.get("encoder"):
            found._media_encoder = None
        return found

    def candidate_set(self, candidates: Candidates) -> CandidateSet | None:
        """Prepare candidates once for several searches.

        Args:
            candidates: the name of a candidate set (``all``, ``valid``, ``test``), item ids, a set prepared before, or
                None for the whole catalogue.

        Returns:
            The set for ``search``; None if nothing restricts the search.

        Raises:
            ValueError: a name or an item id is unknown, or there is no candidate.
        """
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
            queries: texts and ``Query`` objects, in a list or another series; not one of them alone. Only models with
                a dense head answer queries that are not one text.
            k: number of items per query; with fewer candidates, fewer items are returned.
            candidates: the items that may be found: the name of a candidate set (``all``, ``valid``, ``test``), item
                ids, the result of ``candidate_set``, or None for the whole catalogue. Or a list with one entry per
                query, each None, item ids or a result of ``candidate_set``. A list of strings is item ids.
            at_least: leaves out hits whose probability is lower; between 0 and 1. None: no hit is left out.

        Returns:
            One list of hits per query, best first.

        Raises:
            ValueError: k is below 1; a query is empty, wrong or of a kind that the models do not answer; a candidate is
                unknown; there is no candidate; the model's scores are not finite; or ``at_least`` is out of range, or
                given although hits have no probability. The message names the query.
        """
        parts = parts_of(queries)
        check_count("k", k)
        if _forked.is_set():
            torch.set_num_threads(1)
            _forked.clear()
        if not parts:
            return []
        allowed = sets_of(self.data, candidates, len(parts))
        plain = [number for number, each in enumerate(parts) if is_plain(each)]
        others = [(number, each) for number, each in enumerate(parts) if not is_plain(each)]
        if at_least is not None:
            check_at_least(at_least, self.calibration, others[0][0] if others else None)
        results: list[list[Hit]] = [[] for _ in parts]
        if plain:
            generator = self._generator(max(self.beam, k))
            symbols = [self.codec.query(parts[number][0].value, number) for number in plain]
            for places, net_input in batches(symbols, PAD, self.device):
                numbers = [plain[place] for place in places.tolist()]
                sets = [allowed[number] for number in numbers]
                found = generator.search(net_input, self.data.trie, sets)
                self._keep(results, found, numbers, k, [len(self.data.trie if each is None else each) for each in sets])
        if others:
            self._search_mixed(results, others, k, allowed)
        if at_least is None:
            return results
        return [[hit for hit in hits if (hit.probability or 0.0) >= at_least] for hits in results]

    def _search_mixed(
        self,
        results: list[list[Hit]],
        queries: list[tuple[int, list[Part]]],
        k: int,
        allowed: Sequence[CandidateSet | None],
    ) -> None:
        """Search for queries that are not one text; fills in their places in the results."""
        reason = refuse_mixed(self.models, self.data, self.dense_weight)
        if reason is not None:
            position, parts = queries[0]
            raise ValueError(
                f"query {position} asks with {', '.join(dict.fromkeys(part.kind for part in parts))}, but {reason}"
            )
        inputs = mixed_inputs(queries, self.data, self.codec, self.encode_media)
        reading = all(model.reader is not None for model in self.models)
        groups: dict[tuple[bool, int], list[MixedInput]] = {}
        for each in inputs:  # no query's beam depends on what else is asked for
            groups.setdefault((each.is_decoded(reading), len(each.left_out)), []).append(each)
        for (decoded, more), group in groups.items():
            generator = self._generator(max(self.beam, k) + more)
            for batch, net_input, mixed in mixed_batches(group, self.device):
                numbers = [each.position for each in batch]
                sets = [allowed[number] for number in numbers]
                if decoded:
                    found = generator.search(net_input, self.data.trie, sets, mixed)
                else:
                    found = generator.rank(mixed, self.data.trie, sets)
                self._keep(results, found, numbers, k + more)
        for each in inputs:
            results[each.position] = [hit for hit in results[each.position] if hit.row not in each.left_out][:k]

    def encode_media(self, paths: Sequence[str], seconds: float | None = None) -> Any:
        """Embed media files with the encoder that made the catalogue's embeddings.

        Args:
            paths: of n files.
            seconds: how long reading them may take; None: however long it takes.

        Returns:
            (n, E) float32.

        Raises:
            ValueError: the data-bin names no encoder, it cannot be loaded, or a file cannot be read.
        """
        if self._media_encoder is None:
            self._media_encoder = open_media_encoder(self.data, str(self.device))
        return self._media_encoder(paths, seconds)

    def _generator(self, beam: int) -> IdentifierGenerator:
        weight = self.dense_weight
        return make_generator(
            self.models,
            self.data,
            beam,
            scoring=self.scoring,
            dense_weight=weight,
            level_discount=self.level_discount,
            lookahead=self.lookahead,
            bias=None if weight == 0 else prior_bias(self.models, self.data, self.prior_share, weight),
        )

    def _keep(
        self,
        results: list[list[Hit]],
        found: SearchResult,
        numbers: Sequence[int],
        k: int,
        sizes: Sequence[int] | None = None,
    ) -> None:
        """Put the k best items of the queries of these numbers into the results.

        ``sizes`` has the number of candidates of each query if hits get probabilities.
        """
        found = found.cpu()
        found.refuse_nothing(numbers)
        used = (found.scores > float("-inf")).numpy()
        self.data.refuse_wrong(found.rows.numpy()[used], found.tokens.numpy()[used])
        rows, scores = found.rows[:, :k].tolist(), found.scores[:, :k].tolist()
        probabilities: list[list[float | None]] = [[None] * len(each) for each in rows]
        if sizes is not None and self.calibration is not None:
            probabilities = self.calibration.probabilities(found.scores, torch.tensor(sizes))[:, :k].tolist()
        for number, *columns in zip(numbers, rows, scores, probabilities, strict=True):
            hits = zip(*columns, strict=True)
            results[number] = [self._hit(*hit) for hit in hits if hit[1] > float("-inf")]

    def _hit(self, row: int, score: float, probability: float | None) -> Hit:
        bundle = self.data.bundle
        return Hit(bundle.item_id(row), score, bundle.record(row), row, probability)
