"""Look at a bundle's identifiers: `python -m preprocess.inspect_identifiers --help` (CART 4.4 and Figure 5).

Writes one HTML file that needs nothing else: use of every level, collisions, items that share a prefix side by side
with their pictures or players, and, given the embeddings, how far near items have like identifiers.
"""

import argparse
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.files import read_jsonl, replacing, run_script
from preprocess.data.arguments import positive
from preprocess.data.embeddings import Embeddings, RowSubset, open_embeddings
from preprocess.identifiers.prefix_groups import PrefixGroups
from preprocess.identifiers.report import measure
from preprocess.inspection import page as page
from preprocess.inspection.agreement import neighbour_agreement, semantic_positions
from preprocess.inspection.media import MediaShelf
from preprocess.inspection.plots import COLOURS, tsne_plot, utilisation_plot


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line; numbers are checked here."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.inspect_identifiers",
        description="Write an HTML report on the identifiers of a catalogue.",
    )
    add = parser.add_argument
    add("--identifiers", type=Path, required=True, help="folder of the identifier bundle")
    add("--output", type=Path, required=True, help="HTML file to write")
    add("--embeddings", type=Path, help="what the bundle was built from; without it no neighbours and no t-SNE")
    add("--media", type=Path, help="folder that the items' media paths are relative to; without it no pictures")
    add("--captions", type=Path, help="captions.jsonl; the first caption of an item is shown with it")
    add(
        "--sample",
        type=positive,
        default=2000,
        help="items in the t-SNE plot, and whose neighbours are searched (2000)",
    )
    add("--neighbours", type=positive, default=10, help="nearest neighbours of an item (10)")
    add("--groups", type=positive, default=4, help="prefixes of each length to show (4)")
    add("--items", type=positive, default=8, help="items of each prefix to show (8)")
    add("--file-mib", type=positive, default=4, help="larger media files are left out (4)")
    add("--total-mib", type=positive, default=32, help="media files of no more than this in all (32)")
    add("--seed", type=int, default=1, help="of everything that is drawn by chance (1)")
    args = parser.parse_args(argv)
    if args.seed < 0:
        parser.error(f"argument --seed: {args.seed} is negative")
    return args


def open_embeddings_of(bundle: IdentifierBundle, path: Path) -> Embeddings:
    """The embeddings at `path`, one row for each of the bundle's items; those of removed items are skipped.

    Raises:
        ValueError: their number or width is not the bundle's.
    """
    embeddings = open_embeddings(path)
    if len(embeddings) != len(bundle):
        raise ValueError(
            f"{path}: {len(embeddings)} rows, but {bundle.directory} has {len(bundle)} items, removed ones included; "
            "give the embeddings it was built from and, after them, those of items added later"
        )
    dimension = bundle.codec_settings.get("dimension", embeddings.shape[1])
    if embeddings.shape[1] != dimension:
        raise ValueError(
            f"{path}: width {embeddings.shape[1]}, but {bundle.directory} was built from width {dimension}"
        )
    return RowSubset(embeddings, bundle.kept) if len(bundle.removed) else embeddings


def first_captions(path: Path | None) -> dict[str, str]:
    """Item id -> its first caption that is not a held-out query; nothing without a file."""
    found: dict[str, str] = {}
    for row in read_jsonl(path) if path else []:
        if row.get("role") != "query":
            found.setdefault(str(row.get("item_id")), str(row.get("text", "")))
    return found


def card_of(bundle: IdentifierBundle, shelf: MediaShelf, captions: dict[str, str]) -> Callable[[int], str]:
    """What shows one item: its picture or player, its id, its caption, its identifier."""

    def card(row: int) -> str:
        item = bundle.record(row)
        caption = captions.get(item["item_id"], "")
        parts = [shelf.show(item, caption or item["item_id"]), html.escape(item["item_id"])]
        if caption:
            parts.append(f'<br><span class="soft">{html.escape(caption)}</span>')
        name = page.prefix_name(bundle.positions, bundle.values[row])
        return "".join([*parts, f"<br><code>{html.escape(name)}</code>"])

    return card


def near_sections(
    embeddings: Embeddings, codes: np.ndarray, groups: list[PrefixGroups], names: list[list[str]], args: Any
) -> list[str]:
    """Neighbour agreement and t-SNE."""
    if len(embeddings) == 1:
        return ['<p class="soft">One item has no neighbours.</p>']
    found = neighbour_agreement(embeddings, codes, args.neighbours, args.sample, args.seed)
    neighbours = min(args.neighbours, len(embeddings) - 1)
    sections = [page.agreement(found, neighbours, min(args.sample, len(embeddings)))]
    # One and two tokens, as longer prefixes hold too few items to see.
    plotted = tsne_plot(embeddings, groups[:2], names[:2], args.sample, args.seed)
    heading = "<h2>Items with the same prefix, by t-SNE</h2>\n"
    if plotted is None:
        return [*sections, f'{heading}<p class="soft">Too few items, or all alike: nothing to see.</p>']
    text = (
        f"<p>{min(args.sample, len(embeddings)):,} embeddings; those of the largest prefixes of one token and of two "
        "in colour, all others grey. Good identifiers give patches of one colour.</p>"
    )
    description = "Scatter plot of item embeddings, coloured by prefix"
    return [*sections, heading + text + page.plot(plotted, description)]


def build_page(bundle: IdentifierBundle, args: argparse.Namespace) -> tuple[str, MediaShelf]:
    """The report's HTML, and the shelf its media came from."""
    positions = semantic_positions(bundle.positions)
    kept = bundle.kept
    codes = np.asarray(bundle.values[kept, : len(positions)])
    embeddings = open_embeddings_of(bundle, args.embeddings) if args.embeddings else None
    shelf = MediaShelf(args.media, args.file_mib << 20, args.total_mib << 20)
    card_of_row = card_of(bundle, shelf, first_captions(args.captions))
    measured = measure(codes, positions)
    groups = [PrefixGroups.of(codes[:, : length + 1]) for length in range(len(positions))]

    def name(length: int, group: int) -> str:
        return page.prefix_name(positions, codes[groups[length].rows(group)[0], : length + 1])

    def card(place: int) -> str:
        return card_of_row(int(kept[place]))

    def show(length: int, chosen: list[int]) -> str:
        return "".join(page.group(name(length, g), groups[length].rows(g), args.items, card) for g in chosen)

    counts = [np.bincount(column, minlength=p.size) for column, p in zip(codes.T, positions, strict=True)]
    sections = [
        f"<h1>Identifiers of {len(kept):,} items</h1>",
        f'<p class="soft">{html.escape(bundle.directory.name)}: {html.escape(" ".join(p.name for p in bundle.positions))}'
        "</p>",
        page.overview(measured, bundle.report),
        page.levels(measured, [utilisation_plot(count) for count in counts]),
        page.collisions(groups[-1], show(len(groups) - 1, groups[-1].largest(args.groups))),
    ]
    if embeddings is None:
        sections.append('<p class="soft">Neighbours and t-SNE need the embeddings: give --embeddings.</p>')
    else:
        names = [[name(n, g) for g in grouped.largest(len(COLOURS))] for n, grouped in enumerate(groups[:2])]
        sections += near_sections(embeddings, codes, groups, names, args)
    sections.append("<h2>Items that share a prefix</h2>\n<p>Prefixes of items drawn by chance.</p>")
    for length, grouped in enumerate(groups):
        chosen = grouped.drawn(args.groups, args.seed)
        if chosen:
            title = "the first token" if length == 0 else f"the first {length + 1} tokens"
            sections.append(f"<h3>Sharing {title}</h3>{show(length, chosen)}")
    return page.page(f"Identifiers of {len(kept):,} items", sections), shelf


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parse(argv)
    if args.media is not None and not args.media.is_dir():
        raise ValueError(f"{args.media}: no such folder; --media is the folder of items.jsonl")
    text, shelf = build_page(IdentifierBundle.load(args.identifiers), args)
    with replacing(args.output) as new:
        new.write_text(text, encoding="utf-8")
    print(f"{args.output}: {len(text) / 2**20:.1f} MiB; open it in a browser")
    if args.media is not None:
        print(f"media: {shelf.embedded} shown, {shelf.left_out} left out, {shelf.missing} not found")


if __name__ == "__main__":
    run_script(main)
