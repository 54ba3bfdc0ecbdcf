"""Settings of `extract_embeddings`, with the default of every flag of its command. Standard library only."""

import os
from dataclasses import dataclass
from pathlib import Path

from cart_fairseq.base.checks import Settings
from preprocess.data.arguments import check_choice, check_numbers
from preprocess.data.fields import MODALITIES, ON_ERROR

FAMILIES = {
    "imagebind": "imagebind",
    "languagebind": "languagebind",
    "pe-av": "pe_av",
    "clip": "clip",
    "openclip": "openclip",
    "siglip": "siglip",
    "clap": "clap",
    "sentence-transformers": "sentences",
    "auto": "auto",
    "plain": "plain",
}
"""Name of a family -> its module in `preprocess.encoders.families`."""
PRECISIONS = ("float32", "float16", "bfloat16")
DTYPES = ("float16", "float32")
PROCESSES = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class EmbeddingSettings(Settings):
    """Settings of `extract_embeddings`. Every field is also a flag of the command.

    Attributes:
        encoder: `FAMILY` or `FAMILY:NAME_OR_PATH`. The families are the choices of `--encoder`.
        modality: `image`, `audio` or `video`: modality of items that name none. With texts: modality of the media that
            the texts are to find.
        frames: evenly spaced frames of a video. None: the encoder's own number, or 12 if it has none.
        batch_size: items or texts that the encoder embeds at a time.
        workers: processes that read media, a batch each. 0: none. Default: the number of processors, at most 8.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, or another name that torch knows.
        precision: of the encoder's matrix products: `float32`, `float16` or `bfloat16`, by autocast.
        on_error: for media that cannot be read: `fail` stops, `skip` leaves their items out and lists them.
        dtype: of the embeddings written: `float32` or `float16`.
        media_within: refuse items whose media lie outside of this folder, or have an absolute path. None: media may lie
            anywhere. For lists of strangers.

    Raises:
        ValueError: a value is out of range; the message names its flag.
    """

    encoder: str
    modality: str | None = None
    frames: int | None = None
    batch_size: int = 32
    workers: int = PROCESSES
    device: str = "auto"
    precision: str = "float32"
    on_error: str = "fail"
    dtype: str = "float32"
    media_within: str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modality is not None:
            check_choice(self, "modality", MODALITIES)
        check_numbers(self, "frames", "batch_size")
        check_numbers(self, "workers", at_least=0)
        check_choice(self, "precision", PRECISIONS)
        check_choice(self, "on_error", ON_ERROR)
        check_choice(self, "dtype", DTYPES)
