"""Items that words of a caption name (``build_identifiers --scheme semantic``): the data-bin must train on that caption.

A query with the words of its item's identifier would find it by copying. So the caption that names an item is not held
out for measuring, and with ``--index-captions exclude`` no index caption of a valid or test item may name it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.data.roles import Caption
from preprocess.identifiers.schemes.caption_words import caption_codes, from_tensor

SEMANTIC = "semantic"


def naming_captions(bundle: IdentifierBundle, train: Sequence[Caption], source: Path) -> set[int]:
    """Row numbers of the captions that may not be held out, as they alone are what their item is named by.

    Args:
        train: the captions that are trained on, before any is held out.
        source: captions.jsonl, for messages.

    Returns:
        Empty where captions name no items.

    Raises:
        ValueError: an item is named by no caption that is trained on.
    """
    if bundle.codec_settings.get("scheme") != SEMANTIC:
        return set()
    codes = np.asarray(bundle.values[:, : len(bundle.semantic_positions)])
    words = from_tensor(bundle.codec_tensors()["semantic.words"])
    found = caption_codes([caption.text for caption in train], words, codes.shape[1])
    owners = np.array([caption.item_row for caption in train], dtype=np.int64)
    naming = np.flatnonzero((found == codes[owners]).all(axis=1))
    count = np.bincount(owners[naming], minlength=len(bundle))
    count[bundle.removed] = 1
    unnamed = np.flatnonzero(count == 0)
    if len(unnamed):
        raise ValueError(
            f"{source}: item {bundle.item_id(int(unnamed[0]))!r} has no training caption with the words that "
            f"{bundle.directory} names it by ({len(unnamed)} of {len(bundle)} items have none); give the captions that the "
            "identifiers were built from and --index-captions include, or build identifiers with another --scheme"
        )
    return {train[place].number for place in naming.tolist() if count[owners[place]] == 1}
