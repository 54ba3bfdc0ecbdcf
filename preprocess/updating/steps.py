"""The steps `add`, `remove` and `compact`: changes of a catalogue that leave every other identifier as it is.

A trained checkpoint therefore goes on. The trie, candidate sets and subsets of a data-bin follow its bundle. An update
that is killed at any moment leaves the old state or the new one, and the same call finishes it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cart_fairseq.base.checks import checks_settings, is_encodable, short
from cart_fairseq.base.files import digest
from cart_fairseq.base.wording import counted
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.identifiers.codec import load_codec
from preprocess.identifiers.goodness_of_fit import baseline, fit_of
from preprocess.updating.bundle import REPORT, add_segment, merge_segments, remove_rows
from preprocess.updating.change import Change, Target, Updated, apply_change
from preprocess.updating.drift import drift_text
from preprocess.updating.joining import joined_rows
from preprocess.updating.new_items import NewItems, refuse_known
from preprocess.updating.placement import place
from preprocess.updating.renewing import with_renewal
from preprocess.updating.settings import AddSettings

SHOWN = 3
"""Items on full codes that the summary names."""


@checks_settings
def add(
    target: str | Path,
    embeddings: str | Path,
    items: str | Path,
    settings: AddSettings = AddSettings(),
    captions: str | Path | None = None,
    path: str | Path | None = None,
) -> Updated:
    """Give new items identifiers: their codes by the codec of the catalogue, and the next free unique tokens.

    Args:
        target: a data-bin, a MODEL folder or an identifier bundle.
        embeddings: (n, D) of the new items, in any form that `build_identifiers` reads. A data-bin that was made from a
            join joins them itself. For a bundle that was built from a join: a join made with `like`.
        items: `items.jsonl` of the new items.
        settings: see `AddSettings`.
        captions: `captions.jsonl` of the new items, for a data-bin that joins them. None: they have no captions.
        path: a checkpoint, or an ensemble ``a.pt:b.pt``, whose searches the data-bin is made ready for: what they read
            beside it is written, too. None: the models of a MODEL folder; without models each search computes it.

    Returns:
        The bundle and a summary that compares the new items with the old ones. The bundle's folder `segments/` has the
        full report.

    Raises:
        ValueError: an item is already in the catalogue, the embeddings have another width, no code has room for an
            item, a file is damaged, or another process is updating the target.
    """
    of_items, of_captions = Path(items), None if captions is None else Path(captions)

    def update() -> Updated:
        opened = Target.at(Path(target))
        with joined_rows(opened.data_bin, Path(embeddings), of_items, of_captions, settings.embedding_column) as rows:
            new = NewItems.read(IdentifierBundle.load(opened.identifiers), rows, of_items, settings)
            return apply_change(opened, new.key, lambda bundle: add_items(bundle, new))

    return with_renewal(Path(target), path, update)


def remove(target: str | Path, item_ids: Sequence[str], path: str | Path | None = None) -> Updated:
    """Take items out of the catalogue. Their identifiers stay reserved until `compact`.

    Args:
        target: a data-bin, a MODEL folder or an identifier bundle.
        item_ids: ids of the items to take out.
        path: see `add`.

    Raises:
        ValueError: an item is not in the catalogue, none is given, none would be left, or another process is updating
            the target.
    """
    if isinstance(item_ids, str):
        raise ValueError(f"item_ids is {short(item_ids)}; give a list of item ids")
    ids = list(item_ids)
    if not ids:
        raise ValueError("item_ids is empty; name the items to remove")
    for number, each in enumerate(ids):
        if not isinstance(each, str) or not is_encodable(each):
            raise ValueError(f"item id {number} is {short(each)}; give a text in valid Unicode")
    key = digest(["remove", ids])
    return with_renewal(
        Path(target), path, lambda: apply_change(Target.at(Path(target)), key, lambda bundle: remove_items(bundle, ids))
    )


def compact(target: str | Path, path: str | Path | None = None) -> Updated:
    """Merge what was added with the rest, forget removed items, and free their identifiers.

    Args:
        target: a data-bin, a MODEL folder or an identifier bundle.
        path: see `add`.

    Raises:
        ValueError: another process is updating the target.
    """
    return with_renewal(Path(target), path, lambda: apply_change(Target.at(Path(target)), digest(["compact"]), merge))


def add_items(bundle: IdentifierBundle, new: NewItems) -> Change:
    """The operation of `add`."""
    refuse_known(bundle, new.items)
    codec = load_codec(bundle)
    codes = codec.encode(new.embeddings)
    placement = place(bundle, codec, new.embeddings, codes)
    in_catalogue = len(bundle) - len(bundle.removed) + len(new.items)
    added = len(bundle) - bundle.parts[0].items + len(new.items)
    report: dict[str, Any] = {
        "new": fit_of(codec, new.embeddings, codes),
        "shared": float(placement.shared.mean()),
        "moved": float(placement.moved.mean()),
        "added_share": min(1.0, added / in_catalogue),
        "old_collision_rate": bundle.report.get("collision_rate"),
        "moves": [
            {"item_id": new.items[row]["item_id"], "from": codes[row].tolist(), "to": placement.values[row].tolist()}
            for row in np.flatnonzero(placement.moved).tolist()
        ],
    }
    old = baseline(codec, new.reference) if new.reference is not None else bundle.report.get("fit")
    if old is not None:
        report["old"] = old
    manifest = add_segment(bundle, placement.values, new.items, report)
    revision, moves = manifest["revision"], report["moves"]
    lines = [drift_text(report), ""]
    lines += [f"{move['item_id']}: code {move['from']} is full, took {move['to']}" for move in moves[:SHOWN]]
    if len(moves) > SHOWN:
        lines.append(f"… {len(moves)} in all, see {manifest['segments'][-1][0]}{REPORT}")
    lines.append(f"added {counted(len(new.items), 'item')}, {in_catalogue:,} in the catalogue (revision {revision})")
    return Change(manifest, None, "\n".join(lines), new.dense)


def remove_items(bundle: IdentifierBundle, item_ids: Sequence[str]) -> Change:
    """The operation of `remove`."""
    rows = bundle.rows_of(item_ids)
    left = len(bundle) - len(bundle.removed) - len(rows)
    if not left:
        raise ValueError(f"{bundle.directory}: no item would be left; delete the folder instead")
    manifest = remove_rows(bundle, rows)
    new_row = np.arange(len(bundle))
    new_row[np.union1d(bundle.removed, rows)] = -1
    summary = f"removed {counted(len(rows), 'item')}, {left:,} in the catalogue (revision {manifest['revision']})"
    return Change(manifest, new_row, summary)


def merge(bundle: IdentifierBundle) -> Change | None:
    """The operation of `compact`."""
    if len(bundle.parts) == 1 and not len(bundle.removed):
        return None
    new_row = np.full(len(bundle), -1)
    new_row[bundle.kept] = np.arange(len(bundle.kept))
    manifest = merge_segments(bundle)
    freed, revision = len(bundle.removed), manifest["revision"]
    summary = f"{len(bundle.kept):,} items in one part, {freed:,} identifiers freed (revision {revision})"
    return Change(manifest, new_row, summary)
