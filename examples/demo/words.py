"""Descriptions of scenes, in some phrasings for training and others for queries.

Training uses three wordings (sets of synonyms), each with its own frames. Queries use other frames and mix the
wordings. Training therefore contains every word of a query, but neither its frame nor its combination of words. The
frames and synonyms are in `picture_words.py`, `sound_words.py` and `clip_words.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Describable(Protocol):
    """The contents of a picture, sound or clip."""

    def slots(self, noun: str, wordings: tuple[int, int, int]) -> dict[str, str]:
        """Return the values of the slots of a frame."""
        ...


@dataclass(frozen=True)
class Phrasing:
    """A frame and the wordings of its slots.

    Attributes:
        frame: text with slots, which the scene fills.
        noun: text with slots that names a thing or an event of the scene.
        wordings: for each of three kinds of words, the number of the set of synonyms.
    """

    frame: str
    noun: str
    wordings: tuple[int, int, int]

    def describe(self, scene: Describable) -> str:
        """Return the description of a scene."""
        return self.frame.format(**scene.slots(self.noun, self.wordings))


def captions(
    scene: Describable, phrasings: Sequence[Phrasing], count: int, generator: np.random.Generator
) -> list[str]:
    """Describe the scene in `count` different phrasings, drawn without replacement."""
    return [phrasings[i].describe(scene) for i in generator.permutation(len(phrasings))[:count]]
