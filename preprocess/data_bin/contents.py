"""What goes into a data-bin: the captions of each subset, and the items that compete for its queries."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cart_fairseq.base.wording import counted
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.data.fields import MEASURED, SUBSETS
from preprocess.data.roles import Caption, assign, candidate_rows, hold_out, resolve
from preprocess.data_bin.identifier_captions import identifier_captions
from preprocess.data_bin.settings import DataBinSettings


@dataclass(frozen=True)
class Contents:
    """The captions of a data-bin by subset, and its candidate sets.

    Attributes:
        subsets: train, valid and test, each with its captions in file order; valid and test may be empty.
        candidates: name -> (C,) int64 rows of the items that compete, ascending: `all`, and the measured sets that have
            queries or items.
        held_out: whether the valid queries are training captions that were held out.
        left_out: how many captions were left out because their item was removed.
    """

    subsets: dict[str, list[Caption]]
    candidates: dict[str, np.ndarray]
    held_out: bool
    left_out: int

    @property
    def measured(self) -> list[Caption]:
        """The captions that measure."""
        return [caption for subset in MEASURED for caption in self.subsets[subset]]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Queries and candidates of each subset that is not empty, as the manifest has them."""
        return {
            subset: {"queries": len(members), "candidates": len(self.candidates.get(subset, self.candidates["all"]))}
            for subset, members in self.subsets.items()
            if members
        }


def sort_captions(
    bundle: IdentifierBundle, rows: Sequence[Mapping[str, Any]], settings: DataBinSettings, source: Path
) -> Contents:
    """Sort captions into subsets, hold a valid set out where there are no valid queries, and find the candidate sets.

    Args:
        rows: the validated objects of ``captions.jsonl``, in order.
        source: that file, for messages.

    Raises:
        ValueError: a caption contradicts itself or its item, there is no caption to train on, or an identifier
            consists of words of a caption that is not trained on.
    """
    everyone = {item_id: row for row, item_id in enumerate(bundle.item_ids)} | bundle.row_of
    resolved = resolve(rows, everyone, bundle.splits, str(source))
    gone = set(bundle.removed.tolist())
    remaining = [caption for caption in resolved if caption.item_row not in gone]
    subsets = assign(remaining, settings.index_captions)
    needed = identifier_captions(bundle, subsets["train"], source)
    held_out = False
    if not subsets["valid"]:
        size, seed = settings.valid_size, settings.seed
        subsets["train"], subsets["valid"] = hold_out(subsets["train"], size, seed, needed)
        held_out = bool(subsets["valid"])
    if not subsets["train"]:
        raise ValueError(
            f"{source}: no caption to train on; give captions of training items the role 'train', "
            "or allow index captions (--index-captions include)"
        )
    return Contents(subsets, candidate_sets(bundle, subsets, held_out), held_out, len(resolved) - len(remaining))


def without_captions(bundle: IdentifierBundle) -> Contents:
    """The contents of a data-bin that has items alone."""
    subsets: dict[str, list[Caption]] = {name: [] for name in SUBSETS}
    return Contents(subsets, candidate_sets(bundle, subsets, False), False, 0)


def candidate_sets(
    bundle: IdentifierBundle, subsets: Mapping[str, Sequence[Caption]], held_out: bool
) -> dict[str, np.ndarray]:
    """The candidate sets of a data-bin; see `Contents`."""
    candidates = {"all": bundle.kept}
    for subset in MEASURED:
        if subsets[subset] or subset in bundle.splits:  # a split may have items only: queries may come later
            of_training = held_out and subset == "valid"
            candidates[subset] = candidate_rows(bundle.split_column, subset, of_training, bundle.removed)
    return candidates


def describe(contents: Contents, index_captions: str, symbols: int) -> str:
    """A table of the subsets, and the remarks that change what figures mean.

    Args:
        symbols: of the query vocabulary.
    """
    subsets, candidates = contents.subsets, contents.candidates
    lines = [f"{'subset':<8}{'queries':>10}{'items':>10}{'candidates':>12}"]
    for subset, members in subsets.items():
        items = len({caption.item_row for caption in members})
        competing = f"{len(candidates[subset]):,}" if subset in candidates else "-"
        lines.append(f"{subset:<8}{len(members):>10,}{items:>10,}{competing:>12}")
    roles = Counter(caption.role for caption in subsets["train"])
    lines.append(f"items in all: {len(candidates['all']):,}; query vocabulary: {symbols:,} symbols")
    lines.append(
        f"index captions of valid and test items: {index_captions} "
        f"(trained on: {roles['train']:,} train and {roles['index']:,} index captions)"
    )
    unseen = len(candidates["all"]) - len({caption.item_row for caption in subsets["train"]})
    if unseen:
        lines.append(
            f"{counted(unseen, 'item')} {'has' if unseen == 1 else 'have'} no training caption: only what their identifiers "
            "share leads to them"
        )
    if contents.held_out:
        lines.append("no valid queries given: the valid set is a fixed sample held out of the training captions")
    if not subsets["valid"]:
        lines.append("no valid queries, and nothing to hold out: fairseq-train needs --disable-validation")
    if not subsets["test"]:
        lines.append("no test queries")
    return "\n".join(lines)
