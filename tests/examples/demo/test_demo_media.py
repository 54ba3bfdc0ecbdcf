"""What the demo draws and plays is what it says (examples/demo/{pictures,sounds,clips}.py), and what their features see."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from conftest import load_example

world = load_example("demo", "world")  # first: it imports the others
pictures, sounds, clips = (load_example("demo", name) for name in ("pictures", "sounds", "clips"))
picture_words, sound_words, clip_words = (
    load_example("demo", name) for name in ("picture_words", "sound_words", "clip_words")
)
shapes = load_example("demo", "shapes")
Thing, Scene = picture_words.Thing, picture_words.Scene
Event, Sound = sound_words.Event, sound_words.Sound
STAR, BOX = Thing("large", "red", "star"), Thing("small", "blue", "square")


def test_both_directions_of_a_relation_are_said_right():
    scene = Scene(STAR, BOX, "above", "white")
    forward, back = (phrasing.describe(scene) for phrasing in picture_words.TRAIN[:2])
    assert forward == "a large red star above a small blue square on a white background"
    assert back == "a small blue square below a large red star, the background is white"


def test_both_orders_of_events_are_said_right():
    sound = Sound(Event("low", "tone"), Event("high", "noise"), Event("middle", "rising"), "fast")
    assert sound_words.TRAIN[0].describe(sound) == "low tone, then high noise, then medium rising sweep, all fast"
    assert sound_words.TRAIN[1].describe(sound) == "fast sound, medium rising sweep after high noise after low tone"
    clip = clip_words.Clip(STAR, "right", "spin", "white")
    assert clip_words.TRAIN[0].describe(clip) == "a large red star moves right, then it spins, on a white background"
    assert clip_words.TRAIN[1].describe(clip) == "on a white background a large red star spins after it moves right"


def test_pictures_show_what_is_said():
    for relation, axis in (("left", 1), ("above", 0)):
        scene = Scene(STAR, BOX, relation, "grey")
        pixels = np.asarray(pictures.render(scene, np.random.default_rng(0)))
        places = [np.argwhere((pixels == shapes.COLOURS[c]).all(2)) for c in ("red", "blue")]
        assert places[0].mean(0)[axis] + 30 < places[1].mean(0)[axis]
        assert len(places[0]) > len(places[1]) > 50
    inside = pictures.render(Scene(BOX, STAR, "inside", "grey"), np.random.default_rng(0))
    assert inside.getpixel((64, 64)) == shapes.COLOURS["blue"]


def spectrum(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in hertz and the power of each."""
    return np.fft.rfftfreq(len(samples), 1 / sounds.RATE), np.abs(np.fft.rfft(samples)) ** 2


def loudest(samples: np.ndarray) -> float:
    """The frequency with most power, in hertz."""
    hertz, power = spectrum(samples)
    return float(hertz[power.argmax()])


def play(pitch: str, kind: str, pace: str = "slow") -> np.ndarray:
    return sounds.synthesise(Event(pitch, kind), pace, np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["tone", "beeps", "bell", "buzz"])
def test_pitches_are_heard(kind):
    for pitch, hertz in sounds.PITCHES.items():
        assert loudest(play(pitch, kind)) == pytest.approx(hertz, rel=0.06)


def test_kinds_of_events_are_what_they_are_called():
    quarter = len(play("middle", "tone")) // 4
    for kind, sign in (("rising", 1), ("falling", -1)):
        samples = play("middle", kind)
        assert sign * (loudest(samples[-quarter:]) - loudest(samples[:quarter])) > 300
    shares = {}
    for kind in ("tone", "noise", "buzz", "warble"):
        power = np.sort(spectrum(play("middle", kind))[1])[::-1]
        shares[kind] = power[:5].sum() / power.sum()
    assert shares["tone"] > 0.9
    assert max(shares["noise"], shares["warble"]) < 0.7
    hertz, power = spectrum(play("middle", "noise"))
    assert power[(hertz < 400) | (hertz > 1100)].sum() < 0.05 * power.sum()
    third = np.abs(hertz - 3 * loudest(play("middle", "buzz"))) < 30
    assert spectrum(play("middle", "buzz"))[1][third].sum() > 50 * spectrum(play("middle", "tone"))[1][third].sum()
    bell = np.abs(play("high", "bell"))
    assert bell[: len(bell) // 4].mean() > 10 * bell[-len(bell) // 4 :].mean()
    beeps = np.abs(play("high", "beeps"))
    silent = np.flatnonzero(np.diff((np.convolve(beeps, np.ones(80) / 80, "same") < 1e-3).astype(int)) == 1)
    assert len(silent) >= 6  # 12 a second


def test_events_come_in_order_with_pauses_between():
    events = [Event("low", "tone"), Event("high", "tone"), Event("middle", "tone")]
    for order in permutations(range(3)):
        for pace, seconds in sounds.PACES.items():
            sound = Sound(*(events[i] for i in order), pace)
            samples = sounds.render(sound, np.random.default_rng(1))
            assert len(samples) / sounds.RATE == pytest.approx(3 * seconds + 2 * sounds.PAUSE, rel=0.05)
            assert np.abs(samples).max() <= sounds.VOLUME
            thirds = np.array_split(samples, 3)
            for third, i in zip(thirds, order, strict=True):
                middle = third[len(third) // 4 : -len(third) // 4]
                assert loudest(middle) == pytest.approx(sounds.PITCHES[events[i].pitch], rel=0.07)
            assert (np.convolve(np.abs(samples), np.ones(600), "valid") == 0).any()


def test_sounds_features_see_pitch_and_time():
    def picture(*pitches: str) -> Any:
        sound = Sound(*(Event(pitch, "tone") for pitch in pitches), "slow")
        return sounds.features(sounds.render(sound, np.random.default_rng(0))).reshape(sounds.CELLS, sounds.BANDS)

    first = picture("low", "high", "middle")
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    third = sounds.CELLS // 3
    bands = [int(first[i * third : (i + 1) * third].mean(0).argmax()) for i in range(3)]
    assert bands[0] < bands[2] < bands[1]
    # the same sound, a little longer or higher, is nearer than the same events in another order
    varied = sounds.features(
        sounds.render(Sound(*(Event(p, "tone") for p in ("low", "high", "middle")), "slow"), np.random.default_rng(5))
    ).reshape(first.shape)
    assert np.linalg.norm(first - varied) < np.linalg.norm(first - picture("middle", "high", "low"))


def seen(clip: Any) -> list[np.ndarray]:
    """Where the thing is in each frame: (pixels, 2) rows and columns."""
    frames = clips.render(clip, np.random.default_rng(0))
    ground = shapes.BACKGROUNDS[clip.background]
    return [np.argwhere((np.asarray(frame) != ground).any(2)) for frame in frames]


@pytest.mark.parametrize(("motion", "axis", "sign"), [("right", 1, 1), ("left", 1, -1), ("down", 0, 1), ("up", 0, -1)])
def test_things_move_where_it_is_said(motion, axis, sign):
    for order in ((motion, "flash"), ("flash", motion)):
        places = seen(clip_words.Clip(BOX, *order, "white"))
        half = clips.STEPS
        moved = places[half].mean(0) - places[0].mean(0), places[-1].mean(0) - places[half].mean(0)
        moving, resting = moved if order[0] == motion else moved[::-1]
        assert sign * moving[axis] == pytest.approx(clips.DISTANCE * clips.PIXELS, abs=1)
        assert abs(moving[1 - axis]) < 1
        assert np.abs(resting).max() < 1


def test_things_grow_shrink_spin_and_flash():
    counts = {
        motion: [len(place) for place in seen(clip_words.Clip(STAR, motion, other, "white"))]
        for motion, other in (("grow", "right"), ("shrink", "right"), ("spin", "right"), ("flash", "right"))
    }
    half = clips.STEPS
    assert counts["grow"][half] / counts["grow"][0] == pytest.approx(clips.GROWTH**2, rel=0.1)
    assert counts["shrink"][half] / counts["shrink"][0] == pytest.approx(
        clips.SHRINKAGE**2, rel=0.3
    )  # soft edges count
    assert max(counts["spin"]) < 1.15 * min(counts["spin"])
    assert counts["flash"][: half + 1].count(0) == half // 2
    assert all(counts["flash"][half:])
    for shape in clips.SHAPES:
        thing = Thing("large", "red", shape)
        frames = clips.render(clip_words.Clip(thing, "spin", "right", "white"), np.random.default_rng(0))
        assert np.abs(np.asarray(frames[0]).astype(int) - np.asarray(frames[2])).mean() > 1, shape


def test_things_stay_in_the_picture():
    for shape in ("star", "diamond"):  # those that reach farthest
        for motions in permutations(clip_words.MOTIONS[0], 2):
            for place in seen(clip_words.Clip(Thing("large", "red", shape), *motions, "white")):
                assert not len(place) or (place.min() > 0 and place.max() < clips.PIXELS - 1), (shape, motions)


def test_clips_features_see_what_moves_when():
    def features(*motions: str, background: str = "white") -> np.ndarray:
        clip = clip_words.Clip(STAR, *motions, background)
        return clips.features(clips.render(clip, np.random.default_rng(0)))

    still = clips.THUMBNAIL**2 * 3
    there, back = features("right", "left"), features("left", "right")
    assert there.shape == ((2 + 2 * clips.STEPS) * still,)
    assert there.dtype == np.float32
    assert np.abs(there[still:] - back[still:]).max() > 0.3
    # where nothing moves, another background shows once, and not again in each frame
    difference = features("right", "left", background="beige") - there
    untouched = (np.abs(there[still:].reshape(-1, still)) < 1e-5).all(0)
    assert untouched.mean() > 0.5
    assert np.abs(difference[:still][untouched]).max() > 0.2
    assert np.abs(difference[still:].reshape(-1, still)[:, untouched]).max() < 1e-5
