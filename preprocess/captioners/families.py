"""Families of captioners by name, one file each: what `generate_captions --captioner FAMILY[:NAME_OR_PATH]` names.

==================  =================================  =============  =======================================
family              models                             modalities     unless named
==================  =================================  =============  =======================================
blip                BLIP                               image, video   Salesforce/blip-image-captioning-large
blip2               BLIP-2                             image, video   Salesforce/blip2-opt-2.7b
image-text-to-text  any such model of `transformers`   image, video   HuggingFaceTB/SmolVLM-Instruct
whisper             Whisper trained to describe sound  audio          MU-NLPC/whisper-small-audio-captioning
neighbours          none: borrows captions             any
==================  =================================  =============  =======================================
"""

from pathlib import Path
from typing import NamedTuple

from preprocess.data.fields import BORROWED

CHECKPOINTS = {
    "blip": "Salesforce/blip-image-captioning-large",
    "blip2": "Salesforce/blip2-opt-2.7b",
    "image-text-to-text": "HuggingFaceTB/SmolVLM-Instruct",
    "whisper": "MU-NLPC/whisper-small-audio-captioning",
}
"""Family -> the checkpoint that is used unless another is named."""
FAMILIES = (*CHECKPOINTS, BORROWED)


class CaptionerName(NamedTuple):
    """A captioner.

    Attributes:
        family: one of `FAMILIES`.
        checkpoint: a name on the hub, or a folder; empty for `neighbours`.
    """

    family: str
    checkpoint: str

    @property
    def source(self) -> str:
        """What its captions give as their source: the family and the checkpoint, a folder without its path."""
        if not self.checkpoint:
            return self.family
        path = Path(self.checkpoint)
        return f"{self.family}:{path.resolve().name if path.is_dir() else self.checkpoint}"


def named(spec: str) -> CaptionerName:
    """The captioner of `FAMILY[:NAME_OR_PATH]`.

    >>> named("blip2").checkpoint, named("whisper:models/whisper").checkpoint
    ('Salesforce/blip2-opt-2.7b', 'models/whisper')

    Raises:
        ValueError: there is no such family, or it has no checkpoints.
    """
    family, _, name = spec.partition(":")
    if family not in FAMILIES:
        raise ValueError(f"--captioner {spec}: unknown family {family!r}; use one of {', '.join(FAMILIES)}")
    if family == BORROWED and name:
        raise ValueError(f"--captioner {spec}: neighbours has no checkpoints; give --embeddings")
    return CaptionerName(family, name or CHECKPOINTS.get(family, ""))
