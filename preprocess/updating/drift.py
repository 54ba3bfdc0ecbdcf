"""Whether a frozen codec still fits new items, compared with the old ones.

A codec describes the catalogue that it was fitted on. Items of another kind lie further from its centres, lose more in
quantisation, and crowd on the same codes, where only their unique token tells them apart.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

RETRAIN_ERROR = 1.25
"""A new codec is advised above this ratio of new to old mean squared error, or 95th percentile of distances."""
RETRAIN_MOVED = 0.01
"""A new codec is advised if more than this share of the new items found their code full."""
RETRAIN_GROWTH = 0.5
"""A new codec is advised if more than this share of the catalogue was added since the build."""


def advice(report: dict[str, Any]) -> list[str]:
    """Sentences that say whether, and why, to build the identifiers again and train.

    Args:
        report: with `new` and perhaps `old` as `fit_of` measures them, `shared`, `old_collision_rate` and `moved`,
            shares of items, and `added_share`, that of all added items in the catalogue.
    """
    reasons = []
    new, old = report["new"], report.get("old")
    if old is not None:
        worse = (
            ("squared error", ratio(new["squared_error"], old["squared_error"])),
            (
                "95th percentile of distances to the nearest centre",
                ratio(new["centre_distance"]["p95"], old["centre_distance"]["p95"]),
            ),
        )
        reasons += [
            f"their {what} is {found:.2f} times that of the old ones" for what, found in worse if found > RETRAIN_ERROR
        ]
    if report["moved"] > RETRAIN_MOVED:
        reasons.append(f"{report['moved']:.1%} of them found their code full")
    if report["added_share"] > RETRAIN_GROWTH:
        reasons.append(f"{report['added_share']:.0%} of the catalogue was added since the codec was fitted")
    if reasons:
        return [f"Build the identifiers again and train: {reason}." for reason in reasons]
    if old is None:
        return ["How the old items fit is not known: give --reference, embeddings of old items, to compare with."]
    return ["The codec fits the new items about as well as the old ones: no need to build the identifiers again."]


def ratio(new: float, old: float) -> float:
    """new / old, where 0 / 0 is no change."""
    return 1.0 if new == old else float(np.divide(new, old)) if old else float("inf")


def drift_text(report: dict[str, Any]) -> str:
    """The report as text, for people."""
    columns = [("new items", report["new"])] + ([("old items", report["old"])] if "old" in report else [])
    lines = ["".join([f"{'':<34}", *(f"{name:>12}" for name, _ in columns)])]
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("items measured", lambda fit: f"{fit['items']:,}"),
        ("distance to nearest centre, mean", lambda fit: f"{fit['centre_distance']['mean']:.4g}"),
        ("distance to nearest centre, median", lambda fit: f"{fit['centre_distance']['p50']:.4g}"),
        ("distance to nearest centre, 95 %", lambda fit: f"{fit['centre_distance']['p95']:.4g}"),
        ("squared error of the code", lambda fit: f"{fit['squared_error']:.4g}"),
    ]
    for label, value in rows:
        lines.append("".join([f"{label:<34}", *(f"{value(fit):>12}" for _, fit in columns)]))
    collisions = f"{'items on the code of an old one':<34}{report['shared']:>12.1%}"
    if report.get("old_collision_rate") is not None:
        collisions += f"   (old items that share their code: {report['old_collision_rate']:.1%})"
    lines += [collisions, f"{'items that found their code full':<34}{report['moved']:>12.1%}"]
    return "\n".join([*lines, "", *advice(report)])
