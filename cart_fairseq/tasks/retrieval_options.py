"""Options of the task ``cart_retrieval``, which fairseq's commands take as flags."""

from dataclasses import dataclass, field
from typing import Any, Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import MISSING

from cart_fairseq.base.checks import check_count
from cart_fairseq.base.settings import AUTO, DEFAULT_SCORING, PRECISIONS, SCORINGS, check_search

MOST_BEAM, MOST_REPEATS = 10_000, 1_000
"""Checkpoints store these options, and memory for them is taken when a foreign one is validated."""

OF_SEARCHES = (
    "candidates",
    "eval_beam",
    "beam_scoring",
    "inference_precision",
    "dense_weight",
    "level_discount",
    "prior_share",
    "no_lookahead",
    "float32_matmul_precision",
)
"""Options that every search is given anew, or the model has. What a training was given is for its own validation."""


@dataclass
class CartRetrievalConfig(FairseqDataclass):
    """Options of the task ``cart_retrieval``."""

    data: str = field(default=MISSING, metadata={"help": "the data-bin, written by preprocess.binarize"})
    candidates: ChoiceEnum(["split", "all"]) = field(  # type: ignore[valid-type]
        default="split",
        metadata={
            "help": "items that compete in measuring: those of the measured split, or the catalogue (default: split)"
        },
    )
    eval_beam: int = field(
        default=30, metadata={"help": "beam width for the metrics in validation, from 10 to 10,000 (default: 30)"}
    )
    beam_scoring: ChoiceEnum(list(SCORINGS)) = field(  # type: ignore[valid-type]
        default=DEFAULT_SCORING,
        metadata={
            "help": "how the search scores symbols; masked: softmax over the whole vocabulary, then a mask; "
            "renormalised: softmax over the valid continuations, which needs no decoder step once one item is left "
            "(default: masked)"
        },
    )
    inference_precision: ChoiceEnum(list(PRECISIONS)) = field(  # type: ignore[valid-type]
        default=AUTO,
        metadata={
            "help": "precision of fairseq-generate and fairseq-interactive; auto: bf16 where a short probe finds it a "
            "tenth faster than float32; int8 works on CPUs only (default: auto)"
        },
    )
    dense_weight: Optional[float] = field(  # fairseq does not parse float | None
        default=None,
        metadata={
            "help": "weight of the dense score in ranking, for models with a dense head; 0: no dense score (default: "
            "the model's own, which is 1 unless given in training or set by cart_fairseq.tune)"
        },
    )
    level_discount: Optional[float] = field(
        default=None,
        metadata={
            "help": "weight of each symbol's score relative to the previous symbol's (1: equal), in ranking (default: "
            "the model's own, which is 1 unless set by cart_fairseq.tune)"
        },
    )
    prior_share: Optional[float] = field(
        default=None,
        metadata={
            "help": "share of the items' priors that is subtracted from the dense score; 0: no priors (default: the "
            "model's own, which is 0 unless set by cart_fairseq.tune)"
        },
    )
    no_lookahead: bool = field(
        default=False,
        metadata={"help": "the dense score only ranks the items found and does not guide the beam (default: False)"},
    )
    index_repeats: int = field(
        default=1,
        metadata={
            "help": "times per epoch that each index caption is trained on; more than 1 balances items that have one "
            "index caption with items that have several training captions (default: 1)"
        },
    )
    know_added_items: bool = field(
        default=False,
        metadata={
            "help": "in further training: items that were added to the catalogue before the data was binarised count as "
            "known, so that their own identifier scores rank them (default: False)"
        },
    )
    float32_matmul_precision: ChoiceEnum(["highest", "high", "medium"]) = field(  # type: ignore[valid-type]
        default="highest",
        metadata={
            "help": "argument of torch.set_float32_matmul_precision; lower is faster on processors with bf16 or tf32 "
            "units (default: highest)"
        },
    )


def check_options(cfg: Any) -> None:
    """Raise ValueError where an option of `CartRetrievalConfig` is out of range."""
    if not 10 <= cfg.eval_beam <= MOST_BEAM:
        raise ValueError(
            f"--eval-beam is {cfg.eval_beam}; recall_at_10 needs a beam of at least 10, and of at most {MOST_BEAM:,}"
        )
    check_count("--index-repeats", cfg.index_repeats)
    if cfg.index_repeats > MOST_REPEATS:
        raise ValueError(f"--index-repeats is {cfg.index_repeats}; it must be at most {MOST_REPEATS:,}")
    check_search(dense_weight=cfg.dense_weight, level_discount=cfg.level_discount, prior_share=cfg.prior_share)
