"""Write queries and their results as one self-contained HTML page (step 5 of `make demo`).

    python examples/demo/page.py PAGE FOLDER [FOLDER ...] [--queries 12] [--shown 5] [--subset test]

Each FOLDER becomes a section. It contains data/, with items.jsonl, captions.jsonl and their media, and run/, the output
of `examples/own_data/run.sh`: the TREC run and qrels of the subset, and metrics.json. Queries are random, so failures
are shown, too. Pictures, sounds and clips are embedded in the page. Their alternative texts are their captions.
"""

import argparse
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from cart_fairseq.base.files import inside, replacing
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_json, read_jsonl
from preprocess.inspection.html import data_uri, document, medium, tiles

METRICS = {"recall_at_1": "recall@1", "recall_at_5": "recall@5", "recall_at_10": "recall@10", "mrr_at_10": "MRR@10"}
NAMES = {"image": "picture", "audio": "sound", "video": "clip"}
STYLE = """
main { max-width: 60rem; }
p { max-width: 44rem; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .9rem; padding: 1rem 1.25rem 1.1rem;
  margin-bottom: 1rem; }
h2 { font-size: 1.45rem; margin: 0; }
h3 { font-size: 1.05rem; font-weight: 600; margin: 0 0 .75rem; }
ol, .missed { display: flex; flex-wrap: wrap; gap: .75rem; list-style: none; margin: 0; padding: 0; }
.missed { border-top: 1px dashed var(--line); margin-top: .9rem; padding-top: .9rem; align-items: center; }
section { border-top: 1px solid var(--line); padding-top: 1.5rem; margin-top: 2.5rem; }
nav { display: flex; gap: 1.25rem; }
a { color: inherit; }
figure { margin: 0; width: 8.6rem; padding: .35rem; border: 2px solid transparent; border-radius: .7rem; }
figure.right { border-color: var(--good); background: var(--good-soft); }
figure.sound { width: 16.5rem; }
audio { display: block; width: 100%; height: 2.5rem; }
img, video { display: block; width: 100%; height: auto; aspect-ratio: 1; object-fit: contain; border-radius: .4rem;
  border: 1px solid var(--line); }
figcaption { font-size: .8rem; padding-top: .3rem; }
.right figcaption { color: var(--good); font-weight: 650; }
"""
"""CSS in addition to `preprocess.inspection.html.STYLE`."""


@dataclass(frozen=True)
class Shown:
    """A query of the page: its text, the found items with the best first, and the correct item."""

    text: str
    found: list[str]
    wanted: str


def read_columns(path: Path, columns: int) -> list[list[str]]:
    """Read the lines of a TREC file, split into columns.

    Raises:
        ValueError: the file is missing or a line has another number of columns.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); run examples/own_data/run.sh first") from None
    rows = [line.split() for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) != columns:
            raise ValueError(f"{path}, line {number}: {len(row)} columns, expected {columns}; write it again")
    return rows


def read_results(data: Path, out: Path, subset: str) -> list[Shown]:
    """Read all queries of a subset with their results, in the order of the qrels.

    Raises:
        ValueError: a file is missing or damaged, or a query of the qrels is not in captions.jsonl.
    """
    texts = {row.get("caption_id") or f"q{i}": row["text"] for i, row in enumerate(read_jsonl(data / "captions.jsonl"))}
    scored: dict[str, list[tuple[float, str]]] = {}
    for query, _, item, _, score, _ in read_columns(out / f"run.{subset}.trec", 6):
        scored.setdefault(unquote(query), []).append((-float(score), unquote(item)))
    shown = []
    for query, _, item, _ in read_columns(out / f"qrels.{subset}.trec", 4):
        name = unquote(query)
        if name not in texts:
            raise ValueError(f"{out}/qrels.{subset}.trec: query {name!r} is not in {data}/captions.jsonl; another OUT?")
        shown.append(Shown(texts[name], [found for _, found in sorted(scored.get(name, []))], unquote(item)))
    return shown


def figure(uri: str, description: str, caption: str, right: bool) -> str:
    """Return the HTML of a picture, clip or sound. The correct item has a frame and a mark, a sound its caption."""
    classes = ["right"] * right
    if uri.startswith("data:audio"):
        classes.append("sound")
        caption += f": {description}"
    mark = f' class="{" ".join(classes)}"' if classes else ""
    return f"<figure{mark}>{medium(uri, description)}<figcaption>{html.escape(caption)}</figcaption></figure>"


def article(shown: Shown, best: int, uris: dict[str, str], descriptions: dict[str, str]) -> str:
    """Return the HTML of a query with its best items. If the correct item is not among them, it is added below."""
    parts = [f"<article>\n<h3>“{html.escape(shown.text)}”</h3>\n<ol>"]
    for rank, item in enumerate(shown.found[:best], start=1):
        right = item == shown.wanted
        caption = f"{rank} · asked for ✓" if right else str(rank)
        parts.append(f"<li>{figure(uris[item], descriptions[item], caption, right)}</li>")
    parts.append("</ol>")
    if shown.wanted not in shown.found[:best]:
        place = (
            f"came at rank {shown.found.index(shown.wanted) + 1}" if shown.wanted in shown.found else "was not found"
        )
        parts.append(
            f'<div class="missed">{figure(uris[shown.wanted], descriptions[shown.wanted], "asked for ✓", True)}'
            f'<span class="soft">This one {place}.</span></div>'
        )
    return "\n".join([*parts, "</article>"])


def media_file(data: Path, item: dict[str, Any]) -> Path:
    """Return the path of an item's media, which must lie in the folder of its list.

    Raises:
        ValueError: it does not.
    """
    path = inside(data, str(item["media"]))
    if path is None:
        raise ValueError(
            f"{data}/items.jsonl: media of item {item['item_id']!r} is {item['media']!r}, outside of {data}; put it there"
        )
    return path


@dataclass(frozen=True)
class Section:
    """A section of the page: its name in the plural, its HTML, and its metrics in percent."""

    name: str
    text: str
    metrics: dict[str, Any]


def section(data: Path, out: Path, subset: str, queries: int, best: int, seed: int = 1) -> Section:
    """Make the section of one FOLDER.

    Raises:
        ValueError: a file is missing or damaged, or an item has no media.
    """
    results = read_results(data, out, subset)
    metrics: dict[str, Any] = read_json(out / "metrics.json").get(subset, {})
    order = np.sort(np.random.default_rng(seed).permutation(len(results))[:queries])
    chosen = [results[i] for i in order]
    needed = {item for shown in chosen for item in [*shown.found[:best], shown.wanted]}
    descriptions: dict[str, str] = {}
    for caption in read_jsonl(data / "captions.jsonl"):
        if caption.get("role") != "query":
            descriptions.setdefault(caption["item_id"], caption["text"])
    items = {item["item_id"]: item for item in read_jsonl(data / "items.jsonl")}
    for name in sorted(needed):
        if "media" not in items.get(name, {}):
            raise ValueError(f"{data}/items.jsonl: item {name!r} is not there or has no media; another OUT?")
    kinds = {NAMES.get(item.get("modality", ""), "item") for item in items.values()}
    kind = kinds.pop() if len(kinds) == 1 else "item"
    uris = {name: data_uri(media_file(data, items[name])) for name in needed}
    described = {name: descriptions.get(name, name) for name in needed}
    figures = {label: f"{metrics[key]:.1f} %" for key, label in METRICS.items() if key in metrics}
    articles = "\n".join(article(shown, best, uris, described) for shown in chosen)
    text = f"""<section id="{kind}s">
<h2>{kind.capitalize()}s</h2>
{tiles(figures)}
<p class="soft">Measured on {len(results):,} queries, {metrics.get("candidates", len(items)):,} {kind}s competing. Below,
{len(chosen)} of these queries, drawn by chance, with the best {best} {kind}s each, best first.</p>
{articles}
</section>"""
    return Section(f"{kind}s", text, {"queries": len(results), "candidates": len(items), **metrics})


def page(sections: Sequence[Section]) -> str:
    """Return the HTML of the page."""
    names = [part.name for part in sections]
    title = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])).capitalize() + " found by text"
    links = "".join(f'<a href="#{name}">{name.capitalize()}</a>' for name in names)
    parts = "\n".join(part.text for part in sections)
    body = f"""<h1>{title}</h1>
<p>The model reads a query and writes the identifier of an item, one symbol after the other; it never compares the query
with items. It has seen every item described, but none of the phrasings asked here.</p>
<nav>{links}</nav>
{parts}"""
    return document(f"CART: {title[0].lower() + title[1:]}", STYLE, body)


def table(sections: Sequence[Section]) -> str:
    """Return the metrics of all sections as text, in percent."""
    lines = [f"{'':<10}{'queries':>9}{'candidates':>12}" + "".join(f"{label:>10}" for label in METRICS.values())]
    for part in sections:
        figures = "".join(f"{part.metrics[key]:>10.1f}" for key in METRICS if key in part.metrics)
        lines.append(f"{part.name:<10}{part.metrics['queries']:>9,}{part.metrics['candidates']:>12,}{figures}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(description="Write queries and their results as an HTML page.")
    parser.add_argument("page", type=Path, help="HTML file to write")
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="folder with data/ and run/ of one kind"
    )
    parser.add_argument("--subset", default="test", help="subset of the queries (default: test)")
    parser.add_argument("--queries", type=int, default=12, help="queries to show per folder (default: 12)")
    parser.add_argument("--shown", type=int, default=5, help="items to show per query (default: 5)")
    args = parser.parse_args(argv)
    if args.queries < 1 or args.shown < 1:
        parser.error("--queries and --shown must be at least 1")
    sections = [section(f / "data", f / "run", args.subset, args.queries, args.shown) for f in args.folders]
    with replacing(args.page) as new:
        new.write_text(page(sections), encoding="utf-8")
    print(f"{args.subset} queries, in percent:\n\n{table(sections)}\n")
    shown = sum(part.text.count("<article>") for part in sections)
    print(f"{args.page}: {shown} queries with what was found; open it in a browser")


if __name__ == "__main__":
    run_script(main)
