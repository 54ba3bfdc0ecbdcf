"""Captions whose words are an item's identifier (``build_identifiers --scheme semantic``): the data-bin trains on them.

A query with the words of its item's identifier would find the item by copying. So such a caption is not held out for
measuring, and with ``--index-captions exclude`` the identifiers of valid and test items may not come from index captions.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.data.roles import Caption
from preprocess.identifiers.schemes.caption_words import caption_codes, from_tensor

SEMANTIC = "semantic"


def identifier_captions(bundle: IdentifierBundle, train: Sequence[Caption], source: Path) -> set[int]:
    """Row numbers of the captions that must stay in training: those with the words of their item's identifier.

    Args:
        train: the captions that are trained on, before any is held out.
        source: captions.jsonl, for messages.

    Returns:
        Empty for identifiers of other schemes.

    Raises:
        ValueError: an item has no caption in `train` with the words of its identifier.
    """
    if bundle.codec_settings.get("scheme") != SEMANTIC:
        return set()
    codes = np.asarray(bundle.values[:, : len(bundle.semantic_positions)])
    words = from_tensor(bundle.codec_tensors()["semantic.words"])
    found = caption_codes([caption.text for caption in train], words, codes.shape[1])
    owners = np.array([caption.item_row for caption in train], dtype=np.int64)
    same = np.flatnonzero((found == codes[owners]).all(axis=1))
    named = np.zeros(len(bundle), dtype=bool)
    named[owners[same]] = True
    named[bundle.removed] = True
    without = np.flatnonzero(~named)
    if len(without):
        raise ValueError(
            f"{source}: item {bundle.item_id(int(without[0]))!r} has no training caption with the words of its identifier in "
            f"{bundle.directory} ({len(without)} of {len(bundle)} items have none); give the captions that the identifiers "
            "were built from and --index-captions include, or build identifiers with another --scheme"
        )
    return {train[place].number for place in same.tolist()}
