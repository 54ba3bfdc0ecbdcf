"""The interface of captioners, and the items that they caption."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Target:
    """An item to caption.

    Attributes:
        row: of items.jsonl, from 0.
        item_id: its name.
        modality: image, audio, video, or None where the item does not say and its media's name does not tell.
        media: its file; None where it has none.
    """

    row: int
    item_id: str
    modality: str | None
    media: Path | None

    @property
    def file(self) -> Path:
        """`media`.

        Raises:
            ValueError: it has none.
        """
        if self.media is None:
            raise ValueError(f"item {self.item_id!r}: has no media to caption; name its file in items.jsonl")
        return self.media


class Captioner(Protocol):
    """Writes captions of items."""

    @property
    def modalities(self) -> frozenset[str] | None:
        """Of the items that it can caption; None: any."""

    @property
    def batch_size(self) -> int:
        """Items at a time, unless the settings say otherwise."""

    def load(self, target: Target) -> Any:
        """Read what `caption` needs of an item; called from several threads.

        Raises:
            ValueError: it cannot be read; the message names the file.
        """

    def caption(self, targets: Sequence[Target], loaded: Sequence[Any]) -> list[list[str]]:
        """Texts for each of a batch of items, the best first where there is an order; duplicates are allowed.

        They depend on nothing but the item, the settings and, where rounding differs, the batch.
        """
