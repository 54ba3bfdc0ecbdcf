"""How the world is put into words: phrasings to train on, and other phrasings, never trained on, to ask with.

Training uses three wordings (sets of synonyms), each in frames of its own. Queries use frames of their own, and mix the
wordings, so that neither the frame nor the company a word is in has been seen; every single word has. The frames and
synonyms themselves are in `picture_words.py`, `sound_words.py` and `clip_words.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Describable(Protocol):
    """What one picture, sound or clip contains."""

    def slots(self, noun: str, wordings: tuple[int, int, int]) -> dict[str, str]:
        """What stands in the slots of a frame."""
        ...


@dataclass(frozen=True)
class Phrasing:
    """A frame and how its slots are filled.

    Attributes:
        frame: text with slots, which the scene fills.
        noun: how a thing or an event of the scene is named, with slots of its own.
        wordings: which set of synonyms each of three kinds of words comes from.
    """

    frame: str
    noun: str
    wordings: tuple[int, int, int]

    def describe(self, scene: Describable) -> str:
        """The scene in words."""
        return self.frame.format(**scene.slots(self.noun, self.wordings))


def captions(
    scene: Describable, phrasings: Sequence[Phrasing], count: int, generator: np.random.Generator
) -> list[str]:
    """The scene in `count` different phrasings, drawn without replacement."""
    return [phrasings[i].describe(scene) for i in generator.permutation(len(phrasings))[:count]]
