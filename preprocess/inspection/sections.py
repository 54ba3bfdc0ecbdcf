"""The sections of the inspection report, and their style."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.catalogue.positions import Position
from preprocess.identifiers.prefix_groups import PrefixGroups
from preprocess.inspection.agreement import Agreement
from preprocess.inspection.html import embedded, medium, tiles

STYLE = """
h2 { font-size: 1.3rem; margin: 2.75rem 0 .5rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 0 0 .6rem; }
code { color: var(--mark); font-size: .92em; overflow-wrap: anywhere; }
.note { font-size: .8rem; margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 600; color: var(--soft); font-size: .85rem; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
.plot { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: .75rem; padding: .6rem; max-width: 100%; }
.plot img { display: block; max-width: 100%; height: auto; }
.plots .plot img { width: 21rem; }
.plot figcaption { color: #55555f; font-size: .85rem; }
.group { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: .9rem 1.1rem 1rem;
  margin-bottom: 1rem; }
.items { display: flex; flex-wrap: wrap; gap: .75rem; list-style: none; margin: 0; padding: 0; }
.items li { width: 9.5rem; font-size: .8rem; overflow-wrap: anywhere; }
.items img, .items video { display: block; width: 100%; max-height: 9.5rem; object-fit: contain; background: #fff;
  border: 1px solid var(--line); border-radius: .4rem; margin-bottom: .3rem; }
.items audio { width: 100%; margin-bottom: .3rem; }
"""
"""After `preprocess.inspection.html.STYLE`."""


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of plain texts."""
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def plot(png: bytes, description: str, caption: str = "") -> str:
    """A picture of a plot with its caption."""
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="plot">{medium(embedded("image/png", png), description)}{below}</figure>'


def prefix_name(positions: Sequence[Position], values: NDArray[np.int32]) -> str:
    """A prefix as the dictionary spells it: `<k_17> <v1_3>`."""
    return " ".join(position.symbol(int(value)) for position, value in zip(positions, values, strict=False))


def overview(measured: dict[str, Any], report: dict[str, Any]) -> str:
    """The figures that fit on tiles."""
    figures = {
        "scheme": str(report.get("scheme", "unknown")),
        "items": f"{measured['items']:,}",
        "distinct codes": f"{measured['unique_codes']:,}",
        "items sharing a code": f"{measured['collision_rate']:.1%}",
        "most items on a code": f"{measured['max_collisions']:,}",
    }
    if isinstance(report.get("reconstruction_error"), (int, float)):
        figures["reconstruction error"] = f"{report['reconstruction_error']:.3f} of the variance"
    return tiles(figures)


def levels(measured: dict[str, Any], plots: Sequence[bytes]) -> str:
    """Utilisation of every level, as a table and as histograms."""
    rows = [
        [
            level["name"],
            f"{level['size']:,}",
            f"{level['used']:,}",
            f"{level['utilisation']:.1%}",
            f"{level['perplexity']:.1f}",
            f"{level['prefix_perplexity']:.1f}",
        ]
        for level in measured["levels"]
    ]
    figures = "".join(
        plot(png, f"Bars: items of each value of level {row[0]}", f"{row[0]}: {row[2]} of {row[1]} values used")
        for row, png in zip(rows, plots, strict=True)
    )
    head = ["level", "size", "used", "utilisation", "perplexity", "perplexity of the prefix"]
    return (
        "<h2>Utilisation of every level</h2>\n<p>Perplexity is the number of equally frequent values that would be as "
        "spread. A level whose perplexity is far below its size hardly tells items apart.</p>"
        f'{html_table(head, rows)}<div class="plots">{figures}</div>'
    )


def collisions(groups: PrefixGroups, shown: str) -> str:
    """How many codes are shared by how many items, and the most crowded ones."""
    numbers, codes = np.unique(groups.sizes, return_counts=True)
    total = len(groups.order)
    rows = [[f"{n:,}", f"{c:,}", f"{n * c / total:.1%}"] for n, c in zip(numbers.tolist(), codes.tolist(), strict=True)]
    more = ""
    if len(rows) > 12:
        more = f'<p class="soft">… and {len(rows) - 12} more, up to {rows[-1][0]} items on one code.</p>'
    return (
        "<h2>Collisions</h2>\n<p>Items on one code differ in nothing but the unique token, which is counted and means "
        "nothing: the model can only learn it by heart.</p>"
        f"{html_table(['items on a code', 'such codes', 'share of all items'], rows[:12])}{more}{shown}"
    )


def agreement(found: Sequence[Agreement], neighbours: int, looked_at: int) -> str:
    """How often the nearest neighbours share a prefix, beside what chance would give."""
    rows = [[f"first {a.length}" if a.length > 1 else "first", f"{a.share:.1%}", f"{a.chance:.2%}"] for a in found]
    return (
        f"<h2>Nearest neighbours</h2>\n<p>Share of an item's {neighbours} nearest neighbours (Euclidean, among all "
        f"items) that have the same first tokens; a mean over {looked_at:,} items drawn by chance.</p>"
        f"{html_table(['same tokens', 'neighbours', 'any two items'], rows)}"
    )


def group(title: str, rows: NDArray[np.int64], most: int, card: Callable[[int], str]) -> str:
    """Items side by side, at most `most` of them."""
    cards = "".join(f"<li>{card(int(row))}</li>" for row in rows[:most])
    left = f", {most} of them shown" if len(rows) > most else ""
    return (
        f'<section class="group"><h3><code>{html.escape(title)}</code> <span class="soft">{len(rows):,} items{left}'
        f'</span></h3><ol class="items">{cards}</ol></section>'
    )
