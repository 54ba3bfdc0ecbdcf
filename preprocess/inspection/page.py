"""The step `inspect_identifiers`: a report on the identifiers of a catalogue as one HTML file (CART 4.4 and Figure 5)."""

import html
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.checks import checks_settings
from cart_fairseq.base.files import replacing
from cart_fairseq.base.reading import read_jsonl
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.data.embeddings import Embeddings, RowSubset, open_embeddings
from preprocess.data.joined_folder import identifier_rows
from preprocess.identifiers.prefix_groups import PrefixGroups
from preprocess.identifiers.report import measure
from preprocess.inspection import sections
from preprocess.inspection.agreement import neighbour_agreement
from preprocess.inspection.html import document
from preprocess.inspection.media import MediaShelf
from preprocess.inspection.plots import COLOURS, tsne_plot, utilisation_plot
from preprocess.inspection.settings import InspectionSettings


@dataclass(frozen=True)
class Inspection:
    """What `inspect_identifiers` has written.

    Attributes:
        path: the HTML file.
        size: size of the file in bytes.
        shelf: counts of the media files that are part of it, were left out, or were not found.
    """

    path: Path
    size: int
    shelf: MediaShelf

    @property
    def summary(self) -> str:
        """The result as text."""
        lines = [f"{self.path}: {self.size / 2**20:.1f} MiB; open it in a browser"]
        if self.shelf.folder is not None:
            found = self.shelf
            lines.append(f"media: {found.embedded} shown, {found.left_out} left out, {found.missing} not found")
        return "\n".join(lines)


@checks_settings
def inspect_identifiers(
    bundle: str | Path, output: str | Path, settings: InspectionSettings = InspectionSettings()
) -> Inspection:
    """Write an HTML report: use of every level, collisions, items that share a prefix, neighbours and t-SNE.

    Args:
        bundle: the folder of an identifier bundle.
        output: the HTML file to write.
        settings: see `InspectionSettings`.

    Raises:
        ValueError: a file is missing or damaged, or the embeddings are not those of the bundle; matplotlib is not
            installed.
    """
    media = Path(settings.media) if settings.media is not None else None
    if media is not None and not media.is_dir():
        raise ValueError(f"{media}: no such folder; --media is the folder of items.jsonl")
    within = Path(settings.media_within) if settings.media_within is not None else None
    if within is not None and not within.is_dir():
        raise ValueError(f"{within}: no such folder; --media-within is a folder that holds the media")
    shelf = MediaShelf(media, settings.file_mib << 20, settings.total_mib << 20, within)
    report = Report(IdentifierBundle.load(bundle), shelf, settings)
    text = document(report.title, sections.STYLE, "\n".join(report.sections()))
    with replacing(output) as new:
        new.write_text(text, encoding="utf-8")
    return Inspection(Path(output), len(text.encode()), shelf)


class Report:
    """The report on a bundle.

    Args:
        shelf: hands out the media of items.

    Attributes:
        positions: the C positions that carry meaning.
        codes: (n, C) int32, the values of the items that are in the catalogue.
        groups: for each prefix length 1 … C, the items by their prefixes.
    """

    def __init__(self, bundle: IdentifierBundle, shelf: MediaShelf, settings: InspectionSettings):
        self.bundle, self.shelf, self.settings = bundle, shelf, settings
        self.title = f"Identifiers of {len(bundle.kept):,} items"
        self.positions = bundle.semantic_positions
        self.codes: NDArray[np.int32] = np.asarray(bundle.values[bundle.kept, : len(self.positions)])
        self.groups = [PrefixGroups.of(self.codes[:, : length + 1]) for length in range(len(self.positions))]
        self.embeddings = embeddings_of(bundle, Path(settings.embeddings)) if settings.embeddings else None
        self.captions = first_captions(Path(settings.captions)) if settings.captions else {}

    def sections(self) -> list[str]:
        """HTML of all sections, in order."""
        measured = measure(self.codes, self.positions)
        counts = [
            np.bincount(column, minlength=position.size)
            for column, position in zip(self.codes.T, self.positions, strict=True)
        ]
        last = len(self.groups) - 1
        names = " ".join(position.name for position in self.bundle.positions)
        return [
            f"<h1>{self.title}</h1>",
            f'<p class="soft">{html.escape(self.bundle.directory.name)}: {html.escape(names)}</p>',
            sections.overview(measured, self.bundle.report),
            sections.levels(measured, [utilisation_plot(count) for count in counts]),
            sections.collisions(self.groups[last], self.show(last, self.groups[last].largest(self.settings.groups))),
            *self.near(),
            *self.prefixes(),
        ]

    def near(self) -> list[str]:
        """Neighbour agreement and t-SNE."""
        embeddings, settings = self.embeddings, self.settings
        if embeddings is None:
            return ['<p class="soft">Neighbours and t-SNE need the embeddings: give --embeddings.</p>']
        if len(embeddings) == 1:
            return ['<p class="soft">One item has no neighbours.</p>']
        found = neighbour_agreement(embeddings, self.codes, settings.neighbours, settings.sample, settings.seed)
        neighbours, sample = min(settings.neighbours, len(embeddings) - 1), min(settings.sample, len(embeddings))
        parts = [sections.agreement(found, neighbours, sample)]
        # One and two tokens, as longer prefixes hold too few items to see.
        groups = self.groups[:2]
        names = [[self.name(n, group) for group in grouped.largest(len(COLOURS))] for n, grouped in enumerate(groups)]
        plotted = tsne_plot(embeddings, groups, names, settings.sample, settings.seed)
        heading = "<h2>Items with the same prefix, by t-SNE</h2>\n"
        if plotted is None:
            return [*parts, f'{heading}<p class="soft">Too few items, or all alike: nothing to see.</p>']
        text = (
            f"<p>{sample:,} embeddings; those of the largest prefixes of one token and of two in colour, all others "
            "grey. Good identifiers give patches of one colour.</p>"
        )
        description = "Scatter plot of item embeddings, coloured by prefix"
        return [*parts, heading + text + sections.plot(plotted, description)]

    def prefixes(self) -> list[str]:
        """Items that share a prefix, side by side."""
        parts = ["<h2>Items that share a prefix</h2>\n<p>Prefixes of items drawn by chance.</p>"]
        for length, grouped in enumerate(self.groups):
            chosen = grouped.drawn(self.settings.groups, self.settings.seed)
            if chosen:
                title = "the first token" if length == 0 else f"the first {length + 1} tokens"
                parts.append(f"<h3>Sharing {title}</h3>{self.show(length, chosen)}")
        return parts

    def show(self, length: int, chosen: list[int]) -> str:
        """Some groups of items that share a prefix of `length` + 1 tokens."""
        grouped, most = self.groups[length], self.settings.items
        return "".join(
            sections.group(self.name(length, group), grouped.rows(group), most, self.card) for group in chosen
        )

    def name(self, length: int, group: int) -> str:
        """The prefix of a group, as the dictionary spells it."""
        row = self.groups[length].rows(group)[0]
        return sections.prefix_name(self.positions, self.codes[row, : length + 1])

    def card(self, place: int) -> str:
        """One item, given its place among those in the catalogue: picture or player, id, caption, identifier."""
        row = int(self.bundle.kept[place])
        item = self.bundle.record(row)
        caption = self.captions.get(item["item_id"], "")
        parts = [self.shelf.show(item, caption or item["item_id"]), html.escape(item["item_id"])]
        if caption:
            parts.append(f'<br><span class="soft">{html.escape(caption)}</span>')
        name = sections.prefix_name(self.bundle.positions, self.bundle.values[row])
        return "".join([*parts, f"<br><code>{html.escape(name)}</code>"])


def embeddings_of(bundle: IdentifierBundle, path: Path) -> Embeddings:
    """The embeddings at `path`, or of a join's folder, one row for each of the bundle's items without removed items.

    Raises:
        ValueError: their number or width is not the bundle's.
    """
    embeddings = open_embeddings(identifier_rows(path))
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


def first_captions(path: Path) -> dict[str, str]:
    """Item id -> its first caption that is not a held-out query."""
    found: dict[str, str] = {}
    for row in read_jsonl(path):
        if row.get("role") != "query":
            found.setdefault(str(row.get("item_id")), str(row.get("text", "")))
    return found
