"""The contents of a sound, and the phrasings that describe it.

- Slots of a frame: {first}, {second}, {third}, {pace}.
- Slots of a noun: {pitch}, {kind}.
- Wordings are numbers of sets of synonyms for paces, pitches and kinds.
"""

from dataclasses import dataclass

from words import Phrasing

WORDINGS: tuple[dict[str, str], ...] = (
    {
        "slow": "slow",
        "fast": "fast",
        "low": "low",
        "middle": "medium",
        "high": "high",
        "tone": "tone",
        "rising": "rising sweep",
        "falling": "falling sweep",
        "noise": "noise",
        "beeps": "beeps",
        "warble": "warble",
        "bell": "bell",
        "buzz": "buzz",
    },
    {
        "slow": "leisurely",
        "fast": "quick",
        "low": "deep",
        "middle": "middling",
        "high": "shrill",
        "tone": "note",
        "rising": "glide up",
        "falling": "glide down",
        "noise": "hiss",
        "beeps": "pips",
        "warble": "trill",
        "bell": "chime",
        "buzz": "rasp",
    },
    {
        "slow": "relaxed",
        "fast": "rapid",
        "low": "bass",
        "middle": "mid",
        "high": "treble",
        "tone": "whistle",
        "rising": "climbing siren",
        "falling": "sinking siren",
        "noise": "static",
        "beeps": "blips",
        "warble": "wobble",
        "bell": "gong",
        "buzz": "drone",
    },
)


@dataclass(frozen=True)
class Event:
    """A part of a sound. `pitch` and `kind` are keys of `WORDINGS` and of the tables for synthesis."""

    pitch: str
    kind: str


@dataclass(frozen=True)
class Sound:
    """Three events in sequence, at a pace (slow, fast)."""

    first: Event
    second: Event
    third: Event
    pace: str

    def slots(self, noun: str, wordings: tuple[int, int, int]) -> dict[str, str]:
        """Return the values of the slots of a frame."""
        pace, pitch, kind = (WORDINGS[index] for index in wordings)

        def name(event: Event) -> str:
            return noun.format(pitch=pitch[event.pitch], kind=kind[event.kind])

        return {
            "first": name(self.first),
            "second": name(self.second),
            "third": name(self.third),
            "pace": pace[self.pace],
        }


PLAIN, OF = "{pitch} {kind}", "{kind} of {pitch} pitch"
FRAMES = (
    ("{first}, then {second}, then {third}, all {pace}", PLAIN),
    ("{pace} sound, {third} after {second} after {first}", PLAIN),
    ("starts with {first}, goes on with {second}, ends with {third}, {pace} pace", PLAIN),
    ("{pace} sequence, ends with {third}, before it {second}, starts with {first}", PLAIN),
    ("{first} followed by {second} followed by {third}, a {pace} sound", PLAIN),
    ("finally {third}, in the middle {second}, first {first}, all {pace}", PLAIN),
    ("in {pace} order, first {first}, in the middle {second}, finally {third}", OF),
    ("{second} in the middle, {first} before it, {third} after it, {pace} pace", OF),
)
TRAIN = tuple(Phrasing(frame, noun, (words,) * 3) for words in range(len(WORDINGS)) for frame, noun in FRAMES)
VALID = (
    Phrasing("{pace} pace, starts with {first}, in the middle {second}, finally {third}", PLAIN, (1, 0, 2)),
    Phrasing("first {first}, then {second}, ends with {third}, a {pace} sound", PLAIN, (2, 1, 0)),
    Phrasing("{first} followed by {second}, after it {third}, {pace} sequence", "{kind}, {pitch},", (0, 1, 1)),
)
TEST = (
    Phrasing("a {pace} sound, first {first}, followed by {second}, then {third}", PLAIN, (0, 1, 2)),
    Phrasing("in the middle {second}, ends with {third}, starts with {first}, {pace} pace", PLAIN, (2, 0, 1)),
    Phrasing("{third} after {second}, before it {first}, in {pace} order", PLAIN, (1, 2, 0)),
    Phrasing("starts with {first}, then {second}, finally {third}, all {pace}", OF, (0, 0, 1)),
)
