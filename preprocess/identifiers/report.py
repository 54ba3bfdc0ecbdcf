"""Figures on a set of semantic values: collisions, utilisation and perplexity of every level, collapsed levels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.catalogue.positions import Position
from preprocess.data.arguments import flag


def measure(codes: NDArray[np.int32], positions: Sequence[Position]) -> dict[str, Any]:
    """Figures of `report.json` that follow from the values alone.

    Args:
        codes: (N, C) int32, the semantic values, unique token excluded.
        positions: the C positions.

    Returns:
        items; unique_codes; collision_rate, the share of items whose code another item has too; max_collisions, the
        most items on one code; levels, for each position `name`, `size`, `used` values, `utilisation` (used / size),
        `perplexity` (exp of the entropy of its values) and `prefix_perplexity` (the same of all values up to it).
    """
    levels = []
    prefix = np.zeros(len(codes), dtype=np.int64)
    for position, column in zip(positions, codes.T, strict=True):
        counts = np.bincount(column, minlength=position.size)
        prefix = np.unique(prefix * position.size + column, return_inverse=True)[1]
        used = int((counts > 0).sum())
        levels.append(
            {
                "name": position.name,
                "size": position.size,
                "used": used,
                "utilisation": used / position.size,
                "perplexity": perplexity(counts),
                "prefix_perplexity": perplexity(np.bincount(prefix)),
            }
        )
    shared = np.bincount(prefix)
    return {
        "items": len(codes),
        "unique_codes": len(shared),
        "collision_rate": float(shared[shared > 1].sum() / len(codes)),
        "max_collisions": int(shared.max()),
        "levels": levels,
    }


def perplexity(counts: NDArray[np.int64]) -> float:
    """exp of the entropy of counts: how many equally frequent values would be as spread."""
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def collapsed_levels(report: dict[str, Any], tree: bool) -> list[dict[str, Any]]:
    """Levels whose perplexity is under a quarter of its bound, min(size, items), each with name, perplexity and bound.

    In a tree, values below the first level number the children of one node and mean nothing across nodes. There the
    perplexity of the path up to the level is compared with min(number of possible paths, items).
    """
    possible, collapsed = 1, []
    for level in report["levels"]:
        possible = possible * level["size"] if tree else level["size"]
        found = level["prefix_perplexity"] if tree else level["perplexity"]
        limit = min(possible, report["items"])
        if found < limit / 4:
            collapsed.append({"name": level["name"], "perplexity": found, "bound": limit})
    return collapsed


def refuse_collapse(report: dict[str, Any], tree: bool) -> None:
    """Raise where levels have collapsed, see `collapsed_levels`.

    Raises:
        ValueError: naming every collapsed level.
    """
    collapsed = [
        f"level {level['name']} has collapsed: perplexity {level['perplexity']:.1f} of at most {level['bound']}"
        for level in collapsed_levels(report, tree)
    ]
    if collapsed:
        raise ValueError(
            f"{'; '.join(collapsed)}. Items on such a level can hardly be told apart; look for duplicate or degenerate "
            "embeddings, use a smaller --kmeans-clusters or --codebook-size, or build anyway with --allow-collapse"
        )


def report_text(report: dict[str, Any]) -> str:
    """The report as text, for people."""
    lines = [f"{'level':<8}{'size':>8}{'used':>8}{'utilisation':>14}{'perplexity':>13}"]
    for level in report["levels"]:
        lines.append(
            f"{level['name']:<8}{level['size']:>8}{level['used']:>8}{level['utilisation']:>14.1%}"
            f"{level['perplexity']:>13.1f}"
        )
    lines += [
        "",
        f"items                 {report['items']}",
        f"distinct codes        {report['unique_codes']} ({report['unique_codes'] / report['items']:.1%})",
        f"items sharing a code  {report['collision_rate']:.1%}, at most {report['max_collisions']} on one",
        f"reconstruction error  {report['reconstruction_error']:.3f} of the variance",
        f"time, peak memory     {report['seconds']:.1f} s, {report['peak_memory_bytes'] / 2**20:.0f} MiB",
    ]
    for level in report.get("collapsed", ()):
        lines.append(
            f"collapsed             {level['name']}: perplexity {level['perplexity']:.1f} of at most {level['bound']}"
        )
    if "faithful" in report:
        given = [f"{flag(name)} {value}" for name, value in report["faithful"]["departures"].items()]
        lines.append(f"as in the paper       {'all settings but ' + ', '.join(given) if given else 'all settings'}")
    if "nearest_free" in report:
        moves = report["nearest_free"]
        lines.append(
            f"moved to free codes   {sum(moves['moved'].values())} items; before, {moves['before']['collision_rate']:.1%} shared "
            f"a code; costs {moves['extra_reconstruction_error']:.3f} of the variance"
        )
    return "\n".join(lines)
