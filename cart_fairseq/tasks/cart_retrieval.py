"""Task ``cart_retrieval``: data, search and retrieval metrics for fairseq's commands (CART 3.5, appendix D)."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask, register_task
from torch import Tensor

from cart_fairseq.catalogue.data_bin import REMEDY, DataBin
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.measuring.labels import METRIC_NAMES
from cart_fairseq.measuring.metrics import QUERIES, metric_counts, metrics_from_counts
from cart_fairseq.network.model import UNTRAINED
from cart_fairseq.network.precision import convert
from cart_fairseq.queries.codec import QueryCodec
from cart_fairseq.queries.item_priors import prior_bias
from cart_fairseq.search.generator import IdentifierGenerator
from cart_fairseq.search.setup import make_generator
from cart_fairseq.tasks.held_sequences import open_sequences
from cart_fairseq.tasks.query_dataset import DenseExamples, QueryIdentifierDataset
from cart_fairseq.tasks.retrieval_options import CartRetrievalConfig, check_options
from cart_fairseq.training.allocator import keep_freed_memory
from cart_fairseq.training.companions import Companions
from cart_fairseq.training.symbol_vectors import fit_symbol_vectors


@register_task("cart_retrieval", dataclass=CartRetrievalConfig)
class CartRetrievalTask(FairseqTask):
    """Generate the identifier of the item that a text query describes.

    Args:
        cfg: the task's options.
        data: the opened data-bin.
        query_dict, id_dict: source and target dictionary.
    """

    def __init__(self, cfg: CartRetrievalConfig, data: DataBin, query_dict: Dictionary, id_dict: Dictionary):
        super().__init__(cfg)
        self.data = data
        self.query_dict = query_dict
        self.id_dict = id_dict
        self.generator: IdentifierGenerator | None = None

    @classmethod
    def setup_task(cls, cfg: CartRetrievalConfig, **kwargs: Any) -> "CartRetrievalTask":
        """Open the data-bin.

        Raises:
            CatalogueError: the data-bin or its identifier bundle is damaged.
            ValueError: an option is out of range.
        """
        check_options(cfg)
        keep_freed_memory()
        torch.set_float32_matmul_precision(str(cfg.float32_matmul_precision))
        paths = utils.split_paths(cfg.data)
        if len(paths) != 1:
            raise CatalogueError(
                f"found {len(paths)} data-bins in {cfg.data!r}; give one, in a folder without a colon in its name"
            )
        data = DataBin(paths[0])
        data.refuse_without_captions()
        dictionaries = []
        for name in ("dict.query.txt", "dict.id.txt"):
            with data.files.reading(name) as path:
                dictionaries.append(Dictionary.load(str(path)))
        expected = int(data.bundle.offsets[-1]) + data.bundle.positions[-1].size
        if len(dictionaries[1]) != expected:
            raise CatalogueError(
                f"{data.directory}/dict.id.txt: {len(dictionaries[1])} symbols, but the identifiers need {expected}; "
                f"{REMEDY}"
            )
        return cls(cfg, data, *dictionaries)

    @property
    def source_dictionary(self) -> Dictionary:
        """The query vocabulary."""
        return self.query_dict

    @property
    def target_dictionary(self) -> Dictionary:
        """The identifier symbols."""
        return self.id_dict

    @property
    def data_fingerprint(self) -> bytes:
        """The bytes by which a checkpoint identifies its identifiers and vocabulary."""
        return self.data.fingerprint

    @property
    def max_query_tokens(self) -> int:
        """The length, including ``</s>``, to which longer queries are cut."""
        return int(self.data.manifest["inputs"]["max_query_tokens"])

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Make a model. Where training begins and its dense head reads symbols, their vectors are fitted to the captions.

        Raises:
            ValueError: see :meth:`cart_fairseq.models.cart.CARTModel.build_model`.
        """
        model = super().build_model(cfg, from_checkpoint)
        bag = None if model.dense is None else model.dense.bag
        items = self.data.dense_items
        if from_checkpoint or bag is None or items is None or items.captions is None:
            return model
        queries = open_sequences(self.data.files, "train.query-id.query")
        queries.check_queries(len(self.query_dict))
        with torch.no_grad():
            bag.vectors.weight.copy_(fit_symbol_vectors(queries, items.captions, len(self.query_dict)))
        return model

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> None:
        """Load the examples of ``train``, ``valid`` or ``test``.

        Raises:
            FileNotFoundError: the data-bin has no such subset. fairseq expects this type when it looks for more shards.
        """
        prefix = f"{split}.query-id"
        if f"{prefix}.query.idx" not in self.data.files:
            raise FileNotFoundError(
                f"{self.data.directory}: no subset {split!r}; binarise query captions of this split, or train with "
                "--disable-validation"
            )
        queries, identifiers = (open_sequences(self.data.files, f"{prefix}.{side}") for side in ("query", "id"))
        queries.check_queries(len(self.query_dict))
        bundle = self.data.bundle
        identifiers.check_identifiers(bundle.offsets, [position.size for position in bundle.positions])
        measured = str(self.cfg.candidates) == "split" and split != "train"
        training: dict[str, Any] = self._training_examples() if split == "train" else {}
        self.datasets[split] = QueryIdentifierDataset(
            queries,
            queries.sizes,
            identifiers,
            self.query_dict.pad(),
            self.query_dict.eos(),
            split if measured else "all",
            self.max_query_tokens,
            shuffle=split == "train",
            **training,
        )

    def begin_epoch(self, epoch: int, model: Any) -> None:
        """Note in a new model which items it knows: those of the data-bin when it was binarised.

        A model that is trained further keeps its note, unless ``--know-added-items`` is given.
        """
        super().begin_epoch(epoch, model)
        if model.revision == UNTRAINED or self.cfg.know_added_items:
            model.revision = int(self.data.manifest.get("revision", 0))
            model.history = self.data.manifest.get("history", "")

    def _training_examples(self) -> dict[str, Any]:
        """Arguments of the training data set: repeated examples (``pairs``), the dense head's data (``dense``)."""
        examples: dict[str, Any] = {}
        columns = self.data.queries("train", ("item_row", "role"))
        if self.cfg.index_repeats > 1:
            index = np.flatnonzero(columns["role"].to_numpy() == "index")
            every = [np.arange(len(columns)), *[index] * (self.cfg.index_repeats - 1)]
            examples["pairs"] = np.concatenate(every)
        if self.data.dense_items is not None:
            item_rows = columns["item_row"].to_numpy()
            examples["dense"] = DenseExamples(self.data.dense_items, item_rows, self.companions)
        return examples

    @functools.cached_property
    def companions(self) -> Companions:
        """Draws companion captions from the training captions that have features.

        Raises:
            ValueError: the data-bin holds no embeddings of the items.
        """
        items = self.data.dense_items
        if items is None:
            raise ValueError(f"{self.data.directory} holds no embeddings of the items; binarise with --embeddings")
        item_rows = self.data.queries("train", ("item_row",))["item_row"].to_numpy()
        return Companions(item_rows, items.known_captions(len(item_rows)))

    def build_dataset_for_inference(
        self, src_tokens: list[Tensor], src_lengths: list[int], **kwargs: Any
    ) -> QueryIdentifierDataset:
        """Make a data set of queries without identifiers that search the whole catalogue, for fairseq-interactive.

        Args:
            src_tokens: 1-d int64 tensors that end in ``</s>``.
            src_lengths: their lengths.

        Raises:
            ValueError: lexical constraints are given.
        """
        if kwargs.get("constraints") is not None:
            raise ValueError("--constraints does not apply to identifiers; leave it out")
        pad, eos = self.query_dict.pad(), self.query_dict.eos()
        return QueryIdentifierDataset(src_tokens, np.array(src_lengths), None, pad, eos, "all", self.max_query_tokens)

    def build_generator(
        self, models: Any, args: Any, seq_gen_cls: Any = None, extra_gen_cls_kwargs: Any = None, **kwargs: Any
    ) -> Any:
        """Make the trie-constrained generator, or fairseq's scorer for ``--score-reference``.

        Raises:
            ValueError: a generation option does not apply to constrained identifier search.
        """
        if getattr(args, "score_reference", False):
            return super().build_generator(models, args)
        unfit = {
            "sampling": False,
            "diverse_beam_groups": -1,
            "diversity_rate": -1.0,
            "match_source_len": False,
            "no_repeat_ngram_size": 0,
            "prefix_size": 0,
            "lm_path": None,
            "constraints": None,
            "print_alignment": None,
            "retain_iter_history": False,
            "print_step": False,
        }
        for option, neutral in unfit.items():
            value = getattr(args, option, neutral)
            if value != neutral:
                flag = "--" + option.replace("_", "-")
                raise ValueError(f"{flag} {value} does not apply to constrained identifier search; leave it out")
        models = [convert(model, str(self.cfg.inference_precision)) for model in models]
        return self.search_with(models, getattr(args, "beam", 30), getattr(args, "temperature", 1.0))

    def search_with(
        self,
        models: Sequence[Any],
        beam: int,
        temperature: float = 1.0,
        scoring: str | None = None,
        dense_weight: float | None = None,
        level_discount: float | None = None,
        prior_share: float | None = None,
    ) -> IdentifierGenerator:
        """Make a search with one model or an ensemble; an argument that is None takes the task's option."""
        dense_weight = self.cfg.dense_weight if dense_weight is None else dense_weight
        share = self.cfg.prior_share if prior_share is None else prior_share
        return make_generator(
            models,
            self.data,
            beam,
            temperature,
            scoring or str(self.cfg.beam_scoring),
            dense_weight,
            self.cfg.level_discount if level_discount is None else level_discount,
            not self.cfg.no_lookahead,
            None if dense_weight == 0 else prior_bias(models, self.data, share, dense_weight),
        )

    def build_bpe(self, args: Any) -> QueryCodec:
        """Make the codec with which fairseq's commands encode queries and decode identifiers to item ids."""
        return QueryCodec(self.data)

    def valid_step(self, sample: dict[str, Any], model: Any, criterion: Any) -> tuple[Any, Any, dict[str, Any]]:
        """Compute the loss and run the constrained beam search; its metric counts are added to the logging output."""
        loss, sample_size, logging_output = super().valid_step(sample, model, criterion)
        generator = self.search_with([model], self.cfg.eval_beam)
        found = generator.search(sample["net_input"], *self.data.search_space(sample["candidates"]))
        hit = (found.tokens == sample["target"].unsqueeze(1)).all(2) & found.scores.isfinite()
        ranks = torch.where(hit.any(1), hit.int().argmax(1) + 1, 0)
        logging_output.update({f"_{name}": count for name, count in metric_counts(ranks).items()})
        return loss, sample_size, logging_output

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """Log recall and MRR in percent, from counts summed over batches and workers."""
        super().reduce_metrics(logging_outputs, criterion)
        counts = {name: sum(log.get(f"_{name}", 0) for log in logging_outputs) for name in (QUERIES, *METRIC_NAMES)}
        if counts[QUERIES]:
            for name, count in counts.items():
                metrics.log_scalar_sum(f"_{name}", float(count))
            for name in METRIC_NAMES:
                metrics.log_derived(name, lambda meters, name=name: _percentage(meters, name))

    def max_positions(self) -> None:
        """Return None: no limit, because the data set cuts long queries itself."""
        return None


def _percentage(meters: Any, name: str) -> float:
    counts = {key: meters[f"_{key}"].sum for key in (QUERIES, *METRIC_NAMES)}
    return round(metrics_from_counts(counts)[name], 2)
