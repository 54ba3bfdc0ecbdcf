"""Which items are captioned: those of the chosen splits whose modality the captioner accepts."""

import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preprocess.captioners.captioner import Captioner, Target
from preprocess.captioners.settings import CaptionSettings
from preprocess.data.fields import MODALITIES


def targets_of(items: Sequence[dict[str, Any]], folder: Path, splits: Sequence[str] | None) -> list[Target]:
    """Return the items of some splits, or all items.

    Args:
        folder: the folder to which `media` are relative.
        splits: the splits; None: all items.
    """
    targets = []
    for row, item in enumerate(items):
        if splits is None or item.get("split") in splits:
            media = folder / item["media"] if item.get("media") else None
            targets.append(Target(row, item["item_id"], item.get("modality") or modality_of(media), media))
    return targets


def modality_of(media: Path | None) -> str | None:
    """Return the modality of a media file by its name; None if the name does not say.

    >>> modality_of(Path("a/rain.wav")), modality_of(Path("notes.txt"))
    ('audio', None)
    """
    kind = (mimetypes.guess_type(media.name)[0] or "").partition("/")[0] if media else ""
    return kind if kind in MODALITIES else None


def within_reach(
    everyone: Sequence[Target], captioner: Captioner, settings: CaptionSettings, source: Path
) -> list[Target]:
    """Return the items whose modality the captioner accepts.

    Args:
        source: items.jsonl, for messages.

    Raises:
        ValueError: there are none.
    """
    able = captioner.modalities
    targets = [target for target in everyone if able is None or target.modality in able]
    if not targets:
        fields = {"modality": sorted(able or ()), "split": settings.splits or ()}
        wanted = ", ".join(f"{field} {' or '.join(values)}" for field, values in fields.items() if values)
        raise ValueError(
            f"{source}: no item that {settings.captioner} can caption ({wanted}); give the items their "
            f"{' and '.join(field for field, values in fields.items() if values)}"
        )
    return targets
