"""preprocess.media: real files of each kind come back as they are, damaged ones as errors that name them."""

import os
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from media_samples import write_animation, write_media
from PIL import Image

from preprocess.media import sounds
from preprocess.media.frames import load_frames, load_frames_at, video_seconds
from preprocess.media.images import load_image
from preprocess.media.kind import kind_of
from preprocess.media.reading import MediaError, reading, within
from preprocess.media.sounds import load_audio

STEP = 12
"""Grey levels between one frame and the next."""


def grey(number: int) -> Image.Image:
    return Image.new("RGB", (32, 32), (number * STEP,) * 3)


def write_video(path: Path, frames: int = 20, rate: int = 10, codec: str = "mpeg4") -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_image(grey(number))))
        container.mux(stream.encode())
    return path


def numbers(images: list[Image.Image]) -> list[int]:
    return [round(np.asarray(image).mean() / STEP) for image in images]


def test_images_come_upright_and_in_rgb(tmp_path):
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[:, :3] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    turned = load_image(tmp_path / "turned.png")
    assert turned.size == (4, 6)
    np.testing.assert_array_equal(np.asarray(turned)[:, 0, 0], [255] * 3 + [0] * 3)
    Image.new("LA", (3, 3), (7, 255)).save(tmp_path / "grey.png")
    assert (load_image(tmp_path / "grey.png").mode, load_image(tmp_path / "grey.png").getpixel((0, 0))) == (
        "RGB",
        (7,) * 3,
    )


@pytest.mark.parametrize(("kind", "suffix"), [("L", "png"), ("RGBA", "png"), ("LA", "png"), ("P", "png"), ("P", "gif")])
def test_what_lies_behind_transparent_parts_is_white(tmp_path, kind, suffix):
    drawn = Image.new(kind, (4, 4))  # black, or transparent black
    options: Any = {"transparency": 0} if kind in "LP" else {}
    if kind == "P":
        drawn.putpalette([0, 0, 0, 200, 0, 0])
    colours: dict[str, Any] = {"L": 70, "LA": (70, 255), "RGBA": (200, 0, 0, 255), "P": 1}
    drawn.putpixel((1, 1), colours[kind])
    drawn.save(tmp_path / f"drawn.{suffix}", **options)
    found = load_image(tmp_path / f"drawn.{suffix}")
    assert found.getpixel((0, 0)) == (255, 255, 255)
    assert found.getpixel((1, 1)) == ((70, 70, 70) if kind in "LA" else (200, 0, 0))
    if suffix == "gif":
        assert load_frames(tmp_path / "drawn.gif", 1)[0].getpixel((0, 0)) == (255, 255, 255)


def test_16_bits_of_grey_become_8(tmp_path):
    deep = np.array([[0, 257 * 99, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "deep.tiff")
    Image.fromarray((deep // 257).astype(np.int32)).save(tmp_path / "shallow.tiff")
    for name in ("deep.png", "deep.tiff", "shallow.tiff"):
        assert np.asarray(load_image(tmp_path / name))[0, :, 1].tolist() == [0, 99, 255]


def test_sounds_come_as_one_channel_at_the_rate_asked_for(tmp_path):
    seconds = np.arange(8000) / 8000
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds)
    soundfile.write(tmp_path / "two.wav", np.stack([tone, np.zeros_like(tone)], axis=1), 8000, subtype="FLOAT")
    same = load_audio(tmp_path / "two.wav", 8000)
    assert same.dtype == np.float32
    np.testing.assert_allclose(same, tone / 2, atol=1e-6)
    faster = load_audio(tmp_path / "two.wav", 16000)
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(faster[500:-500], expected[500:-500], atol=1e-3)


def test_sounds_that_libsndfile_cannot_read_come_from_ffmpeg(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = load_audio(tmp_path / "a.m4a", 16000)
    spectrum = np.abs(np.fft.rfft(found[2000:10000]))
    assert spectrum.argmax() == pytest.approx(440 * 8000 / 16000, abs=1)
    assert np.sqrt(np.mean(found[2000:10000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "mpeg4"), ("a.mp4", "libx264"), ("a.webm", "libvpx"), ("a.avi", "mpeg4"), ("a.mkv", "ffv1")],
)
def test_frames_are_those_in_the_middle_of_equal_stretches(tmp_path, name, codec):
    path = write_video(tmp_path / name, codec=codec)
    assert video_seconds(path) == pytest.approx(2.0)
    assert numbers(load_frames(path, 4)) == [2, 7, 12, 17]
    assert numbers(load_frames(path, 1)) == [10]
    assert numbers(load_frames(path, 40)) == [number // 2 for number in range(40)]
    assert numbers(load_frames_at(path, [1.25, 0.0, 99.0], seconds=True)) == [12, 0, 19]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_frames_of_animated_images(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    durations = [100] * 10 + [200] * 5
    images = [grey(number) for number in range(15)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, lossless=True)
    assert video_seconds(path) == pytest.approx(2.0)
    assert numbers(load_frames(path, 4)) == [2, 7, 11, 13]
    assert numbers(load_frames_at(path, [1.3, 0.0, 99.0], seconds=True)) == [11, 0, 14]


def test_a_video_that_was_cut_off_gives_the_frames_it_has(tmp_path):
    whole = write_video(tmp_path / "whole.webm", codec="libvpx").read_bytes()
    (tmp_path / "cut.webm").write_bytes(whole[: len(whole) * 2 // 3])
    length = video_seconds(tmp_path / "cut.webm")
    assert 0.5 < length < 1.5
    expected = [int(length * 10 * share) for share in (0.125, 0.375, 0.625, 0.875)]
    assert numbers(load_frames(tmp_path / "cut.webm", 4)) == expected


def test_damaged_and_missing_files_are_named(tmp_path):
    for name in ("a.jpg", "a.wav", "a.mp4"):
        write_media(tmp_path / name, 1)
    for name in ("a.jpg", "a.mp4"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / f"cut {name}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "no sound.wav").write_bytes(b"hello")
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 8000, subtype="FLOAT")
    for name, load, message in (
        ("cut a.jpg", load_image, r"not a readable image file \(.*[Tt]runcated"),
        ("empty", load_image, "not a readable image file"),
        ("absent.jpg", load_image, "no such image file"),
        (".", load_image, "is a folder; give a file"),
        ("pipe", load_image, "is no regular file; give a file"),
        ("y" * 300, load_image, "cannot be read .*; check the path"),
        ("cut a.mp4", lambda path: load_frames(path, 2), "not a readable video file|has no frames"),
        ("a.wav", lambda path: load_frames(path, 2), "has no video track"),
        ("no sound.wav", lambda path: load_audio(path, 8000), "not a readable audio file"),
        ("nothing.wav", lambda path: load_audio(path, 8000), "the sound is empty"),
        ("nan.wav", lambda path: load_audio(path, 8000), "NaN or infinite"),
        ("a.mp4", lambda path: load_audio(path, 8000), "has no audio track"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            load(tmp_path / name)  # type: ignore[operator]
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


def test_an_error_of_a_decoder_has_the_remedy_whatever_its_words(tmp_path):
    path = tmp_path / "a.png"
    path.touch()
    with (
        pytest.raises(MediaError, match=r"not a readable image file .*broken\); replace the file"),
        reading(path, "image"),
    ):
        raise ValueError(f"{path}: broken")


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0, 0.2, 1], [0, 51, 255]),
        ([0, 51, 255], [0, 51, 255]),
        ([0, 257 * 51, 65535], [0, 51, 255]),
        ([-1000, -800, 0], [0, 51, 255]),
        ([-1, -1, -1], [0, 0, 0]),
    ],
)
def test_real_valued_grey_is_scaled(tmp_path, values, shown):
    Image.fromarray(np.array([values], dtype=np.float32)).save(tmp_path / "real.tiff")
    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "real.tiff"))[0, :, 0], shown)


def test_grey_that_is_no_number_is_refused(tmp_path):
    Image.fromarray(np.array([[0, np.nan]], dtype=np.float32)).save(tmp_path / "real.tiff")
    with pytest.raises(MediaError, match=r"real.tiff: not a readable image file \(it has values that are no finite"):
        load_image(tmp_path / "real.tiff")


def write_wave(path, rate, frames):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"\0\1" * frames)


def test_a_small_sound_fills_no_memory(tmp_path, monkeypatch):
    """At one sample a second, 200 kB are 28 hours, and resampled 12 GB."""
    write_wave(tmp_path / "slow.wav", 1, 100_000)
    with pytest.raises(MediaError, match=r"slow.wav: has 1 samples a second, which is no rate of a sound"):
        load_audio(tmp_path / "slow.wav", 16000)
    monkeypatch.setattr(sounds, "MOST_SECONDS", 10)
    monkeypatch.setattr(sounds, "BLOCK", 1000)
    write_wave(tmp_path / "long.wav", 8000, 80_001)
    with pytest.raises(MediaError, match=r"long.wav: is longer than .* hours; cut it into shorter sounds"):
        load_audio(tmp_path / "long.wav", 16000)
    write_wave(tmp_path / "whole.wav", 8000, 80_000)
    assert len(load_audio(tmp_path / "whole.wav", 16000)) == 160_000
    monkeypatch.setattr(sounds, "MOST_SAMPLES", 79_999)
    with pytest.raises(MediaError, match="is longer than"):
        load_audio(tmp_path / "whole.wav", 16000)


def test_samples_far_beyond_full_scale_are_refused(tmp_path):
    soundfile.write(tmp_path / "whole numbers.wav", np.array([32767.0, -32768.0] * 4000), 8000, subtype="FLOAT")
    assert np.abs(load_audio(tmp_path / "whole numbers.wav", 8000)).max() == 32768
    soundfile.write(tmp_path / "loud.wav", np.full(8000, 1e38), 8000, subtype="FLOAT")
    with pytest.raises(
        MediaError, match=r"loud.wav: samples of up to 1e\+38, where full scale is 1; write the file again"
    ):
        load_audio(tmp_path / "loud.wav", 8000)


def test_reading_ends_when_its_time_is_over(tmp_path):
    write_wave(tmp_path / "a.wav", 8000, 8000)
    write_animation(tmp_path / "a.gif")
    write_media(tmp_path / "a.mp4", 1)
    readers = {
        "a.wav": lambda path: load_audio(path, 8000),
        "a.gif": lambda path: load_frames(path, 2),
        "a.mp4": lambda path: load_frames(path, 2),
    }
    for name, read in readers.items():
        with within(-1.0), pytest.raises(MediaError, match=rf"{name}: .*it takes too long to read"):
            read(tmp_path / name)
        with within(100.0):
            read(tmp_path / name)
        read(tmp_path / name)


def test_a_picture_of_too_many_pixels_is_named_so(tmp_path, monkeypatch):
    Image.new("L", (300, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(MediaError, match=r"large.png: has more than 20,000 pixels; make the picture smaller"):
        kind_of(tmp_path / "large.png")
