"""Tables and ratios of the retrieval benchmark."""

from collections.abc import Sequence
from typing import Any

REFERENCE = "fairseq"
SPEED = [  # (contender, reference) whose ratio of speeds is reported
    ("masked", REFERENCE),
    ("renormalised", REFERENCE),
    ("masked-bf16", REFERENCE),
    ("renormalised-bf16", REFERENCE),
    ("masked", "huggingface"),
    ("renormalised", "huggingface"),
    ("masked", "clip+flat"),
    ("renormalised", "clip+flat"),
    ("masked", "blip"),
    ("masked", "blip-128"),
    ("masked", "blip2"),
    ("masked", "blip2-128"),
]


def medians(catalogue: dict[str, Any]) -> dict[str, float]:
    """Return the median seconds of each contender that ran at one catalogue size."""
    return {row["contender"]: row["median"] for row in catalogue["results"] if "median" in row}


def ratios(catalogues: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ratios of medians: ``what`` describes the ratio, ``items``, ``ratio``."""
    found = []
    for catalogue in catalogues:
        seconds, items = medians(catalogue), catalogue["items"]
        for name, other in SPEED:
            if name in seconds and other in seconds:
                what = f"{name}, times the speed of {other}, at {items:,} items"
                found.append({"what": what, "items": items, "ratio": seconds[other] / seconds[name]})
        if "masked" in seconds and "unmasked" in seconds:
            what = f"time with the mask on against off, at {items:,} items"
            found.append({"what": what, "items": items, "ratio": seconds["masked"] / seconds["unmasked"]})
    smallest, largest = (pick(catalogues, key=lambda each: each["items"]) for pick in (min, max))
    for name in ("masked", "renormalised"):
        first, last = medians(smallest).get(name), medians(largest).get(name)
        if first and last and smallest is not largest:
            what = f"{name}, throughput at {largest['items']:,} against {smallest['items']:,} items"
            found.append({"what": what, "items": largest["items"], "ratio": first / last})
    return found


def milliseconds(seconds: float) -> str:
    """Format a time in milliseconds, in scientific notation from 100 seconds, for a column of nine characters.

    >>> milliseconds(0.9532), milliseconds(16_000_000.0)
    ('953.2', '1.60e+10')
    """
    return f"{1000 * seconds:.1f}" if seconds < 100 else f"{1000 * seconds:.2e}"


def rate(value: float, digits: int = 1) -> str:
    """Format a speed or ratio with a number of decimals; values that would be 0 get two significant digits.

    >>> rate(105.84), rate(0.0000063), rate(0.004, 2)
    ('105.8', '6.3e-06', '0.004')
    """
    return f"{value:.{digits}f}" if value >= 10**-digits else f"{value:.2g}"


def table(catalogue: dict[str, Any], queries: int) -> str:
    """Return the figures of one catalogue size as text. Milliseconds are for the whole batch."""
    lines = [
        f"{catalogue['items']:,} items, {queries:,} queries in one batch (trie: {catalogue['trie_build_seconds']:.2f} s, "
        f"{catalogue['trie_bytes'] / catalogue['items']:.1f} bytes an item)",
        f"{'contender':<20}{'ms':>9}{'least':>9}{'most':>9}{'queries/s':>11}{'x fairseq':>11}{'rows':>7}{'recall@10':>11}",
    ]
    reference = medians(catalogue).get(REFERENCE)
    for row in catalogue["results"]:
        if "note" in row:
            lines.append(f"{row['contender']:<20}  {row['note']}")
            continue
        times = "".join(f"{milliseconds(row[key]):>9}" for key in ("median", "min", "max"))
        ratio = rate(reference / row["median"], 2) if reference else "-"
        rows = f"{sum(row['decoder_rows']):,}" if "decoder_rows" in row else "-"
        recall = f"{row['recall_at_10']:.1f}" if "recall_at_10" in row else "-"
        lines.append(
            f"{row['contender']:<20}{times}{rate(queries / row['median']):>11}{ratio:>11}{rows:>7}{recall:>11}"
        )
    encoders = {
        row["contender"].split("+")[0]: row["encoder_seconds"]
        for row in catalogue["results"]
        if "encoder_seconds" in row
    }
    if encoders:
        parts = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in encoders.items())
        lines.append(f"of which the text encoder: {parts}")
    for row in catalogue["results"]:
        if "measured_pairs" in row:
            lines.append(
                f"{row['contender']}: EXTRAPOLATED from {row['measured_pairs']:,} measured pairs of query and picture, "
                f"{1000 * row['pair_seconds']:.1f} ms each, to all {row['pairs']:,}"
            )
    check = catalogue.get("check")
    if isinstance(check, dict):
        lines.append(
            f"masked finds stock fairseq's items; scores differ by at most {check['largest_difference']:.1e}, "
            f"{check['tied_places']} places hold tied items in another order"
        )
    elif check:
        lines.append(f"masked against stock fairseq: {check}")
    return "\n".join(lines)
