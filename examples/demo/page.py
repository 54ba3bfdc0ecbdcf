"""Queries and the pictures found for them, as one HTML page that needs nothing else (step 3 of `make demo`).

    python examples/demo/page.py DATA OUT PAGE [--queries 24] [--pictures 5] [--subset test]

Reads DATA/{items,captions}.jsonl with the pictures they name, and what `examples/own_data/run.sh` left in OUT: the TREC
run and qrels of the subset, and metrics.json. Queries are drawn by chance, failures included. Pictures become part of
the page; their alternative texts are their captions.
"""

import argparse
import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from cart_fairseq.files import read_json, read_jsonl, replacing, run_script

METRICS = {"recall_at_1": "recall@1", "recall_at_5": "recall@5", "recall_at_10": "recall@10", "mrr_at_10": "MRR@10"}
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}
STYLE = """
:root { color-scheme: light dark; --page: #f6f5f2; --card: #fff; --ink: #1d1d22; --soft: #6a6a75; --line: #dedcd6;
  --good: #157a3d; --good-soft: #dff3e5; }
@media (prefers-color-scheme: dark) { :root { --page: #141418; --card: #1e1e24; --ink: #ececf0; --soft: #a2a2ae;
  --line: #34343d; --good: #5fd38a; --good-soft: #163523; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
p { margin: 0 0 1rem; max-width: 44rem; }
.soft, figcaption { color: var(--soft); }
dl { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.5rem 0 2rem; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: .6rem 1.1rem; }
dt { font-size: .8rem; color: var(--soft); }
dd { margin: 0; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .9rem; padding: 1rem 1.25rem 1.1rem;
  margin-bottom: 1rem; }
h2 { font-size: 1.05rem; font-weight: 600; margin: 0 0 .75rem; }
ol, .missed { display: flex; flex-wrap: wrap; gap: .75rem; list-style: none; margin: 0; padding: 0; }
.missed { border-top: 1px dashed var(--line); margin-top: .9rem; padding-top: .9rem; align-items: center; }
figure { margin: 0; width: 8.6rem; padding: .35rem; border: 2px solid transparent; border-radius: .7rem; }
figure.right { border-color: var(--good); background: var(--good-soft); }
img { display: block; width: 100%; height: auto; border-radius: .4rem; border: 1px solid var(--line); }
figcaption { font-size: .8rem; padding-top: .3rem; }
.right figcaption { color: var(--good); font-weight: 650; }
"""


@dataclass(frozen=True)
class Shown:
    """One query of the page: its text, the items found, best first, and the item asked for."""

    text: str
    found: list[str]
    wanted: str


def read_columns(path: Path, columns: int) -> list[list[str]]:
    """Lines of a TREC file, split into columns.

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
    """All queries of a subset with what was found, in the order of the qrels.

    Raises:
        ValueError: a file is missing or damaged, or a query of the qrels is not among the captions.
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


def data_uri(path: Path) -> str:
    """A picture's bytes as an address.

    Raises:
        ValueError: the file is missing or of a kind that browsers do not show.
    """
    if path.suffix.lower() not in MEDIA_TYPES:
        raise ValueError(f"{path}: not one of {', '.join(MEDIA_TYPES)}; only pictures can be shown")
    if not path.is_file():
        raise ValueError(f"{path}: no such picture, though items.jsonl names it; draw the world again")
    return f"data:{MEDIA_TYPES[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def figure(uri: str, description: str, caption: str, right: bool) -> str:
    """One picture; the right one is marked by a frame and in words."""
    mark = ' class="right"' if right else ""
    return (
        f'<figure{mark}><img src="{uri}" alt="{html.escape(description)}" width="128" height="128">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def article(shown: Shown, pictures: int, uris: dict[str, str], descriptions: dict[str, str]) -> str:
    """One query with its best pictures; the one asked for comes apart where it is not among them."""
    parts = [f"<article>\n<h2>“{html.escape(shown.text)}”</h2>\n<ol>"]
    for rank, item in enumerate(shown.found[:pictures], start=1):
        right = item == shown.wanted
        caption = f"{rank} · asked for ✓" if right else str(rank)
        parts.append(f"<li>{figure(uris[item], descriptions[item], caption, right)}</li>")
    parts.append("</ol>")
    if shown.wanted not in shown.found[:pictures]:
        place = (
            f"came at rank {shown.found.index(shown.wanted) + 1}" if shown.wanted in shown.found else "was not found"
        )
        parts.append(
            f'<div class="missed">{figure(uris[shown.wanted], descriptions[shown.wanted], "asked for ✓", True)}'
            f'<span class="soft">This one {place}.</span></div>'
        )
    return "\n".join([*parts, "</article>"])


def page(data: Path, out: Path, subset: str, queries: int, pictures: int, seed: int = 1) -> str:
    """The whole page."""
    results = read_results(data, out, subset)
    metrics: dict[str, Any] = read_json(out / "metrics.json").get(subset, {})
    order = np.sort(np.random.default_rng(seed).permutation(len(results))[:queries])
    chosen = [results[i] for i in order]
    needed = {item for shown in chosen for item in [*shown.found[:pictures], shown.wanted]}
    descriptions: dict[str, str] = {}
    for caption in read_jsonl(data / "captions.jsonl"):
        if caption.get("role") != "query":
            descriptions.setdefault(caption["item_id"], caption["text"])
    items = {item["item_id"]: item for item in read_jsonl(data / "items.jsonl")}
    for name in sorted(needed):
        if "media" not in items.get(name, {}):
            raise ValueError(f"{data}/items.jsonl: item {name!r} is not there or has no media; another OUT?")
    uris = {name: data_uri(data / items[name]["media"]) for name in needed}
    described = {name: descriptions.get(name, name) for name in needed}
    tiles = "".join(
        f"<div><dt>{label}</dt><dd>{metrics[key]:.1f} %</dd></div>" for key, label in METRICS.items() if key in metrics
    )
    articles = "\n".join(article(shown, pictures, uris, described) for shown in chosen)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>CART: pictures found by text</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>Pictures found by text</h1>
<p>The model reads a query and writes the identifier of a picture, one symbol after the other; it never compares the
query with pictures. It has seen every picture described, but none of the phrasings asked here.</p>
<dl>{tiles}</dl>
<p class="soft">Measured on {len(results):,} queries, {metrics.get("candidates", len(items)):,} pictures competing. Below,
{len(chosen)} of these queries, drawn by chance, with the best {pictures} pictures each, best first.</p>
{articles}
</main>
</body>
</html>
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(description="Show queries with the pictures retrieved.")
    parser.add_argument("data", type=Path, help="folder with items.jsonl, captions.jsonl and the pictures")
    parser.add_argument("out", type=Path, help="what examples/own_data/run.sh wrote")
    parser.add_argument("page", type=Path, help="HTML file to write")
    parser.add_argument("--subset", default="test", help="which queries (default: test)")
    parser.add_argument("--queries", type=int, default=24, help="how many queries to show (default: 24)")
    parser.add_argument("--pictures", type=int, default=5, help="how many pictures a query (default: 5)")
    args = parser.parse_args(argv)
    if args.queries < 1 or args.pictures < 1:
        parser.error("--queries and --pictures must be at least 1")
    text = page(args.data, args.out, args.subset, args.queries, args.pictures)
    with replacing(args.page) as new:
        new.write_text(text, encoding="utf-8")
    print(
        f"{args.page}: {min(args.queries, text.count('<article>'))} queries with their pictures; open it in a browser"
    )


if __name__ == "__main__":
    run_script(main)
