"""Choices and defaults of searches; imports nothing heavy, so that command lines start fast."""

import dataclasses
from typing import Any

from cart_fairseq.base.checks import Settings, check_count, is_number, short

CANDIDATES = ("split", "all")
SCORINGS = ("masked", "renormalised")
DEFAULT_SCORING = "masked"
AUTO = "auto"
CALIBRATION_PARAMETERS = 6
"""Length of a model's buffer ``calibration``, see :mod:`cart_fairseq.search.calibration`."""
PRECISIONS = (AUTO, "float32", "bf16", "fp16", "int8")
STORED_PRECISIONS = ("float32", "bf16", "fp16")
"""Precisions in which ``cart_fairseq.export`` stores weights."""
BEAM, RERANKED_BEAM = 30, 200
"""Default beam width; the second with a dense head but without look-ahead, where the head raises items from low ranks of
the beam, and for tuning."""


def check_search(
    beam: Any = None,
    scoring: Any = DEFAULT_SCORING,
    precision: Any = "float32",
    dense_weight: Any = None,
    level_discount: Any = None,
    temperature: Any = 1.0,
    prior_share: Any = None,
) -> None:
    """Check options of a search; None stands for a default.

    Raises:
        ValueError: a value is out of range or no number; the message names it as the flag of the commands.

    >>> check_search(beam=0)
    Traceback (most recent call last):
    ...
    ValueError: --beam is 0; it must be a whole number of at least 1
    """
    if beam is not None:
        check_count("--beam", beam)
    for name, value, choices in (("scoring", scoring, SCORINGS), ("precision", precision, PRECISIONS)):
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{name} is {short(value)}; it must be one of {', '.join(choices)}")
    if dense_weight is not None and not (is_number(dense_weight) and dense_weight >= 0):
        raise ValueError(f"--dense-weight is {short(dense_weight)}; it must be a number of at least 0")
    if level_discount is not None and not (is_number(level_discount) and 0 < level_discount <= 1):
        raise ValueError(f"--level-discount is {short(level_discount)}; it must be above 0 and at most 1")
    if prior_share is not None and not (is_number(prior_share) and 0 <= prior_share <= 1):
        raise ValueError(f"--prior-share is {short(prior_share)}; it must be in [0, 1]")
    if not (is_number(temperature) and temperature > 0):
        raise ValueError(f"--temperature is {short(temperature)}; it must be a number above 0")


@dataclasses.dataclass(frozen=True)
class TuningSettings(Settings):
    """Settings of :func:`cart_fairseq.steps.tuning.tune`.

    Attributes:
        candidates: the items that compete, one of :data:`CANDIDATES`.
        beam: beam width; None for :data:`BEAM` for identifiers alone and :data:`RERANKED_BEAM` with the dense head.
        scoring: one of :data:`SCORINGS`.
        discounts: level discounts to compare, each in (0, 1].
        weights: weights of the dense score to compare, each at least 0.
        shares: shares of the items' priors to compare, each in [0, 1].
        keep: write the best values into the checkpoint.

    Raises:
        ValueError: a value is out of range.
    """

    candidates: str = "split"
    beam: int | None = None
    scoring: str = DEFAULT_SCORING
    discounts: tuple[float, ...] = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6)
    weights: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0)  # fmt: skip
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    keep: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates not in CANDIDATES:
            raise ValueError(f"--candidates is {short(self.candidates)}; it must be one of {', '.join(CANDIDATES)}")
        check_search(self.beam, self.scoring)
        if not self.weights or min(self.weights) < 0:
            raise ValueError(f"--weights {' '.join(map(str, self.weights))}: each must be at least 0")
        if not self.shares or not all(0 <= share <= 1 for share in self.shares):
            raise ValueError(f"--shares {' '.join(map(str, self.shares))}: each must be in [0, 1]")
        if not self.discounts or not all(0 < discount <= 1 for discount in self.discounts):
            raise ValueError(f"--discounts {' '.join(map(str, self.discounts))}: each must be above 0 and at most 1")


@dataclasses.dataclass(frozen=True)
class EvaluationSettings(Settings):
    """Settings of :func:`cart_fairseq.steps.evaluation.evaluate`.

    Attributes:
        subset: the measured subset of the data-bin or of the queries' file (default: from the generation file's name).
        candidates: ``all``, ``split`` or the name of a candidate set (default: the candidate set of the queries' split,
            or the whole catalogue for a generation file with an item outside that set).
        beam, precision, scoring, dense_weight, level_discount, lookahead, prior_share: options of the search with a checkpoint, see
            :meth:`cart_fairseq.retriever.CartRetriever.from_pretrained`.

    Raises:
        ValueError: an option of the search is out of range.
    """

    subset: str | None = None
    candidates: str | None = None
    beam: int | None = None
    precision: str = AUTO
    scoring: str = DEFAULT_SCORING
    dense_weight: float | None = None
    level_discount: float | None = None
    lookahead: bool = True
    prior_share: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("subset", "candidates"):
            if getattr(self, name) == "":
                raise ValueError(f"--{name} is ''; give a name, or leave it out")
        check_search(
            self.beam,
            self.scoring,
            self.precision,
            self.dense_weight,
            self.level_discount,
            prior_share=self.prior_share,
        )


@dataclasses.dataclass(frozen=True)
class ExportSettings(Settings):
    """Settings of an export.

    Attributes:
        precision: of the stored weights of encoder and decoder: ``float32``, ``bf16`` or ``fp16``.

    Raises:
        ValueError: the precision is unknown.
    """

    precision: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision not in STORED_PRECISIONS:
            raise ValueError(
                f"--precision is {short(self.precision)}; it must be one of {', '.join(STORED_PRECISIONS)}"
            )
