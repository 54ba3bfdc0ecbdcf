"""The contents of a picture, and the phrasings that describe it.

- Slots of a frame: {first}, {second}, {relation} (of first to second), {opposite} (of second to first), {background}.
- Slots of a noun: {size}, {colour}, {shape}.
- Wordings are numbers of sets of synonyms for sizes, shapes and relations.
"""

from dataclasses import dataclass

from words import Phrasing

WORDINGS: tuple[dict[str, str], ...] = (
    {
        "large": "large",
        "small": "small",
        "circle": "circle",
        "square": "square",
        "triangle": "triangle",
        "star": "star",
        "ring": "ring",
        "cross": "cross",
        "heart": "heart",
        "diamond": "diamond",
        "left": "to the left of",
        "right": "to the right of",
        "above": "above",
        "below": "below",
        "inside": "inside",
        "around": "around",
    },
    {
        "large": "big",
        "small": "little",
        "circle": "disc",
        "square": "box",
        "triangle": "triangle",
        "star": "star",
        "ring": "hoop",
        "cross": "plus sign",
        "heart": "heart",
        "diamond": "rhombus",
        "left": "left of",
        "right": "right of",
        "above": "over",
        "below": "under",
        "inside": "within",
        "around": "enclosing",
    },
    {
        "large": "huge",
        "small": "tiny",
        "circle": "circle",
        "square": "square",
        "triangle": "triangle",
        "star": "star",
        "ring": "ring",
        "cross": "cross",
        "heart": "heart",
        "diamond": "diamond",
        "left": "on the left of",
        "right": "on the right of",
        "above": "higher than",
        "below": "lower than",
        "inside": "in the middle of",
        "around": "surrounding",
    },
)
OPPOSITE = {"left": "right", "above": "below", "inside": "around"}


@dataclass(frozen=True)
class Thing:
    """One shape. Its attributes are keys of `WORDINGS` and of the tables for drawing."""

    size: str
    colour: str
    shape: str


@dataclass(frozen=True)
class Scene:
    """Two things, with the relation of `first` to `second` (left, above, inside), on a background."""

    first: Thing
    second: Thing
    relation: str
    background: str

    def slots(self, noun: str, wordings: tuple[int, int, int]) -> dict[str, str]:
        """Return the values of the slots of a frame."""
        size, shape, relation = (WORDINGS[index] for index in wordings)

        def name(thing: Thing) -> str:
            return noun.format(size=size[thing.size], colour=thing.colour, shape=shape[thing.shape])

        return {
            "first": name(self.first),
            "second": name(self.second),
            "relation": relation[self.relation],
            "opposite": relation[OPPOSITE[self.relation]],
            "background": self.background,
        }


PLAIN = "{size} {colour} {shape}"
TRAIN = (
    Phrasing("a {first} {relation} a {second} on a {background} background", PLAIN, (0, 0, 0)),
    Phrasing("a {second} {opposite} a {first}, the background is {background}", PLAIN, (0, 0, 0)),
    Phrasing("on {background} ground there is a {first}, it is {relation} the {second}", PLAIN, (1, 1, 1)),
    Phrasing("{background} picture with the {second} {opposite} the {first}", PLAIN, (1, 1, 1)),
    Phrasing("one {first} and one {second} on {background}, the first is {relation} the other", PLAIN, (2, 2, 2)),
    Phrasing("{background} all over, then a {second} which is {opposite} a {first}", PLAIN, (2, 2, 2)),
    Phrasing(
        "a {first} that is {relation} a {second}, {background} behind both", "{shape}, {colour} and {size},", (0, 0, 0)
    ),
    Phrasing(
        "the {second} is {opposite} the {first} in this {background} picture", "{shape} in {colour}, {size},", (1, 1, 1)
    ),
)
VALID = (
    Phrasing("a {background} background and a {first} which is {relation} one {second}", PLAIN, (1, 0, 2)),
    Phrasing("this picture is {background}, there the {second} is {opposite} a {first}", PLAIN, (2, 1, 0)),
    Phrasing("{first} {relation} {second} on {background}", "{colour} {shape}, {size},", (0, 1, 1)),
)
TEST = (
    Phrasing("on {background}, a {second} with the {first} {relation} it", PLAIN, (0, 1, 2)),
    Phrasing("in the {background} picture a {first} is {relation} one {second}", PLAIN, (2, 0, 1)),
    Phrasing("there is a {second} {opposite} the {first}, both on a {background} background", PLAIN, (1, 2, 0)),
    Phrasing("{background} ground, then {first} {relation} {second}", "{size} {shape} in {colour}", (0, 0, 1)),
)
