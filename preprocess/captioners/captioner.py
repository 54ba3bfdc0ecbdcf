"""The interface of captioners, and the items that they caption."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Target:
    """An item to caption.

    Attributes:
        row: row in items.jsonl, from 0.
        item_id: id of the item.
        modality: image, audio or video. None if neither the item nor the name of its media file says.
        media: its media file, or None.
    """

    row: int
    item_id: str
    modality: str | None
    media: Path | None

    @property
    def file(self) -> Path:
        """The media file.

        Raises:
            ValueError: the item has none.
        """
        if self.media is None:
            raise ValueError(f"item {self.item_id!r}: has no media to caption; add its file to items.jsonl")
        return self.media


class Captioner(Protocol):
    """Writes captions of items."""

    @property
    def modalities(self) -> frozenset[str] | None:
        """Modalities of the items that it can caption; None: any."""

    @property
    def batch_size(self) -> int:
        """Items per batch, if the settings have no other number."""

    def load(self, target: Target) -> Any:
        """Read what `caption` needs for an item. It is called from several threads.

        Raises:
            ValueError: it cannot be read; the message names the file.
        """

    def caption(self, targets: Sequence[Target], loaded: Sequence[Any]) -> list[list[str]]:
        """Return captions of each item of a batch, the best first if there is an order. Duplicates are allowed.

        The captions depend on the item and the settings only, except that rounding may differ between batches.
        """
