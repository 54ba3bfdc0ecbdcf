"""The contents of a clip, and the phrasings that describe it.

- Slots of a frame: {thing}, {first} and {second} (its two motions), {background}.
- Slots of a noun: {size}, {colour}, {shape}.
- Wordings are numbers of sets of synonyms for sizes, shapes and motions.
"""

from dataclasses import dataclass

from picture_words import PLAIN, WORDINGS, Thing
from words import Phrasing

MOTIONS: tuple[dict[str, str], ...] = (
    {
        "right": "moves right",
        "left": "moves left",
        "up": "moves up",
        "down": "moves down",
        "spin": "spins",
        "grow": "grows",
        "shrink": "shrinks",
        "flash": "flashes",
    },
    {
        "right": "goes to the right",
        "left": "goes to the left",
        "up": "rises",
        "down": "falls",
        "spin": "turns around",
        "grow": "gets bigger",
        "shrink": "gets smaller",
        "flash": "blinks",
    },
    {
        "right": "travels rightwards",
        "left": "travels leftwards",
        "up": "climbs",
        "down": "sinks",
        "spin": "rotates",
        "grow": "expands",
        "shrink": "contracts",
        "flash": "flickers",
    },
)


@dataclass(frozen=True)
class Clip:
    """A thing with two motions in sequence, `first` and `second` (keys of `MOTIONS`), on a background."""

    thing: Thing
    first: str
    second: str
    background: str

    def slots(self, noun: str, wordings: tuple[int, int, int]) -> dict[str, str]:
        """Return the values of the slots of a frame."""
        size, shape = (WORDINGS[index] for index in wordings[:2])
        motion = MOTIONS[wordings[2]]
        return {
            "thing": noun.format(size=size[self.thing.size], colour=self.thing.colour, shape=shape[self.thing.shape]),
            "first": motion[self.first],
            "second": motion[self.second],
            "background": self.background,
        }


TRAIN = (
    Phrasing("a {thing} {first}, then it {second}, on a {background} background", PLAIN, (0, 0, 0)),
    Phrasing("on a {background} background a {thing} {second} after it {first}", PLAIN, (0, 0, 0)),
    Phrasing("the {thing} first {first} and later {second}, the ground is {background}", PLAIN, (1, 1, 1)),
    Phrasing("{background} clip where the {thing} {second}, but before that it {first}", PLAIN, (1, 1, 1)),
    Phrasing("one {thing} on {background}, to begin with it {first}, in the end it {second}", PLAIN, (2, 2, 2)),
    Phrasing("{background} all over, in the end the {thing} {second}, to begin with it {first}", PLAIN, (2, 2, 2)),
    Phrasing(
        "a {thing} that {first} before it {second}, {background} behind it", "{shape}, {colour} and {size},", (0, 0, 0)
    ),
    Phrasing(
        "in this {background} clip the {thing} {first} and after that it {second}",
        "{shape} in {colour}, {size},",
        (1, 1, 1),
    ),
)
VALID = (
    Phrasing("on {background} a {thing} {first} and then {second}", PLAIN, (1, 0, 2)),
    Phrasing("in the end the {thing} {second}, first it {first}, the background is {background}", PLAIN, (2, 1, 0)),
    Phrasing("a {thing} {first}, after that it {second}, {background} ground", "{colour} {shape}, {size},", (0, 1, 1)),
)
TEST = (
    Phrasing("on {background} ground the {thing} {first} before it {second}", PLAIN, (0, 1, 2)),
    Phrasing("in the {background} clip one {thing} {first}, later it {second}", PLAIN, (2, 0, 1)),
    Phrasing("a {thing} {second} after it first {first}, all on {background}", PLAIN, (1, 2, 0)),
    Phrasing("{background} behind a {thing} that {first}, then {second}", "{size} {shape} in {colour}", (0, 0, 1)),
)
