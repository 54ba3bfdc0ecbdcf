"""Settings of `extract_embeddings`, with the default of every flag of its command. Standard library only."""

import os
from dataclasses import dataclass

from preprocess.data.arguments import check_choice, check_numbers
from preprocess.data.fields import MODALITIES, ON_ERROR

FAMILIES = {
    "imagebind": "imagebind",
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
class EmbeddingSettings:
    """Settings of `extract_embeddings`. Every field is also a flag of the command.

    Attributes:
        encoder: FAMILY or FAMILY:NAME_OR_PATH, see `preprocess.encoders.loading.load_encoder`.
        modality: of items that name none (image, audio or video); of texts: of the media that they are to find.
        frames: of a video, evenly spaced. None: the encoder's own number, else 12.
        batch_size: items or texts through the encoder at a time.
        workers: processes that read media, a batch each; 0: none.
        device: `auto` (cuda where there is one), cpu, cuda, or what else torch calls it.
        precision: of the encoder's matrix products, by autocast.
        on_error: what media that cannot be read do: `fail`, or `skip`: they are listed, and their items left out.
        dtype: of the embeddings written.

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

    def __post_init__(self) -> None:
        if self.modality is not None:
            check_choice(self, "modality", MODALITIES)
        check_numbers(self, "frames", "batch_size")
        check_numbers(self, "workers", at_least=0)
        check_choice(self, "precision", PRECISIONS)
        check_choice(self, "on_error", ON_ERROR)
        check_choice(self, "dtype", DTYPES)
