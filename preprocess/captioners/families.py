"""Families of captioners, which `generate_captions --captioner FAMILY[:NAME_OR_PATH]` names.

==================  =================================  =============  =======================================
family              models                             modalities     default model
==================  =================================  =============  =======================================
blip                BLIP                               image, video   Salesforce/blip-image-captioning-large
blip2               BLIP-2                             image, video   Salesforce/blip2-opt-2.7b
image-text-to-text  any such model of `transformers`   image, video   HuggingFaceTB/SmolVLM-Instruct
whisper             Whisper trained to describe sound  audio          MU-NLPC/whisper-small-audio-captioning
neighbours          none: copies captions              any
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
"""Family -> its default checkpoint."""
FAMILIES = (*CHECKPOINTS, BORROWED)


class CaptionerName(NamedTuple):
    """A captioner.

    Attributes:
        family: one of `FAMILIES`.
        checkpoint: a name on the hub, or a folder. Empty for `neighbours`.
    """

    family: str
    checkpoint: str

    @property
    def source(self) -> str:
        """The `source` of its captions: the family and the name of the checkpoint, or of its folder."""
        if not self.checkpoint:
            return self.family
        path = Path(self.checkpoint)
        return f"{self.family}:{path.resolve().name if path.is_dir() else self.checkpoint}"


def named(spec: str) -> CaptionerName:
    """Parse `FAMILY[:NAME_OR_PATH]`.

    >>> named("blip2").checkpoint, named("whisper:models/whisper").checkpoint
    ('Salesforce/blip2-opt-2.7b', 'models/whisper')

    Raises:
        ValueError: there is no such family, or a name is given for `neighbours`.
    """
    family, _, name = spec.partition(":")
    if family not in FAMILIES:
        raise ValueError(f"--captioner {spec}: unknown family {family!r}; use one of {', '.join(FAMILIES)}")
    if family == BORROWED and name:
        raise ValueError(f"--captioner {spec}: neighbours uses no model; write neighbours and give --embeddings")
    return CaptionerName(family, name or CHECKPOINTS.get(family, ""))
