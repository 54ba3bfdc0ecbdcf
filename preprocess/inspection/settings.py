"""Settings of `inspect_identifiers`, with the default of every flag of its command. Imports the standard library only."""

from dataclasses import dataclass
from pathlib import Path

from cart_fairseq.base.checks import Settings
from preprocess.data.arguments import check_numbers


@dataclass(frozen=True)
class InspectionSettings(Settings):
    """Settings of `inspect_identifiers`. Every field is also a flag of the command.

    Attributes:
        embeddings: the embeddings, or the folder of a join, that the bundle was built from. None: no neighbours and no
            t-SNE.
        media: the folder that the items' media paths are relative to. None: no pictures and players.
        media_within: only files in this folder are shown. None: those in `media`. For items whose paths lead out of their
            folder, as `preprocess.annotations` writes them (`../images/1.jpg`), or through a link.
        captions: `captions.jsonl`; an item is shown with its first caption.
        sample: number of items in the t-SNE plot, and of items whose neighbours are searched.
        neighbours: number of nearest neighbours of an item.
        groups: number of prefixes of each length to show.
        items: number of items of each prefix to show.
        file_mib: size in MiB above which a media file is left out.
        total_mib: largest size in MiB of all media files together.
        seed: seed of every sample.

    Raises:
        ValueError: a value is out of range; the message names its flag.
    """

    embeddings: str | Path | None = None
    media: str | Path | None = None
    media_within: str | Path | None = None
    captions: str | Path | None = None
    sample: int = 2000
    neighbours: int = 10
    groups: int = 4
    items: int = 8
    file_mib: int = 4
    total_mib: int = 32
    seed: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "sample", "neighbours", "groups", "items", "file_mib", "total_mib")
        check_numbers(self, "seed", at_least=0)
