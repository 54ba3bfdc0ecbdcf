"""Time several contenders in alternation, so that other load on the machine affects all of them equally."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cart_fairseq.base.progress import Progress


@dataclass(frozen=True)
class Contender:
    """Something to time.

    Attributes:
        name: name in the tables.
        run: does the work once and returns facts about it (``decoder_rows`` …). Of facts whose name ends in
            ``_seconds``, the median is kept. Of others, the last is kept.
    """

    name: str
    run: Callable[[], dict[str, Any]]


def interleaved(
    contenders: Sequence[Contender], repeats: int, label: str, limit: float = math.inf
) -> list[dict[str, Any]]:
    """Run every contender once as a warm-up, and then in ``repeats`` rounds of one run each.

    Args:
        contenders: in the order of the runs.
        repeats: number of rounds.
        label: of the progress bar.
        limit: seconds after which no further round begins; the first one always runs.

    Returns:
        For each contender: its name, all ``seconds``, their ``median``, ``min`` and ``max``, and its facts.

    Raises:
        ValueError: ``repeats`` is below 1.
    """
    if repeats < 1:
        raise ValueError(f"--repeats {repeats} must be at least 1")
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    facts: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in contenders}
    began = time.perf_counter()
    with Progress((repeats + 1) * len(contenders), label, "runs") as progress:
        for turn in range(repeats + 1):
            if turn > 1 and time.perf_counter() - began > limit:
                break
            for contender in contenders:
                progress.note(contender.name)
                start = time.perf_counter()
                found = contender.run()
                elapsed = time.perf_counter() - start
                if turn:
                    seconds[contender.name].append(elapsed)
                    facts[contender.name].append(found)
                progress.update()
    return [
        {"contender": name, **_summary(each), **_merged(facts[name]), "seconds": each} for name, each in seconds.items()
    ]


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}


def _merged(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: statistics.median(each[key] for each in facts) if key.endswith("_seconds") else value
        for key, value in facts[-1].items()
    }
