"""Choices and defaults of searches; imports only the standard library, so that command lines start fast."""

import dataclasses

SCORINGS = ("masked", "renormalised")
DEFAULT_SCORING = "masked"
PRECISIONS = ("float32", "bf16", "fp16", "int8")
BEAM, RERANKED_BEAM = 30, 200
"""Default beam width without and with a dense head, which can raise items from low ranks of the beam."""


@dataclasses.dataclass(frozen=True)
class TuningSettings:
    """Settings of :func:`cart_fairseq.tuning.tune`.

    Attributes:
        candidates: the items that compete: ``split`` or ``all``.
        beam: beam width; None for the retriever's default.
        scoring: one of :data:`SCORINGS`.
        discounts: level discounts to compare, each in (0, 1].
        weights: weights of the dense score to compare, each at least 0.
        keep: write the best values into the checkpoint.

    Raises:
        ValueError: a value is out of range.
    """

    candidates: str = "split"
    beam: int | None = None
    scoring: str = DEFAULT_SCORING
    discounts: tuple[float, ...] = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6)
    weights: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0)  # fmt: skip
    keep: bool = True

    def __post_init__(self) -> None:
        if self.beam is not None and self.beam < 1:
            raise ValueError(f"--beam is {self.beam}; it must be at least 1")
        if not self.weights or not min(self.weights) >= 0:
            raise ValueError(f"--weights {' '.join(map(str, self.weights))}: each must be at least 0")
        if not self.discounts or not all(0 < discount <= 1 for discount in self.discounts):
            raise ValueError(f"--discounts {' '.join(map(str, self.discounts))}: each must be above 0 and at most 1")


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """Settings of :func:`cart_fairseq.evaluation.evaluate`.

    Attributes:
        subset: the measured subset of the data-bin or of the queries' file (default: from the generation file's name).
        candidates: ``all``, ``split`` or the name of a candidate set (default: the candidate set of the queries' split,
            or the whole catalogue for a generation file with an item outside that set).
        beam, precision, scoring, dense_weight, level_discount: options of the search with a checkpoint, see
            :meth:`cart_fairseq.retriever.CartRetriever.from_pretrained`.

    Raises:
        ValueError: the beam is below 1.
    """

    subset: str | None = None
    candidates: str | None = None
    beam: int | None = None
    precision: str = "float32"
    scoring: str = DEFAULT_SCORING
    dense_weight: float | None = None
    level_discount: float | None = None

    def __post_init__(self) -> None:
        if self.beam is not None and self.beam < 1:
            raise ValueError(f"--beam is {self.beam}; it must be at least 1")
