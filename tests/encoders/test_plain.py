"""The encoder plain: features follow from their definitions, whatever is in a file, and the same for every run."""

import pickle
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from conftest import write_jsonl
from media_samples import write_media
from PIL import Image
from transformers.audio_utils import mel_filter_bank

from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.api import (
    EmbeddingSettings,
    IdentifierSettings,
    JoinSettings,
    build_identifiers,
    extract_embeddings,
    extract_text_embeddings,
    join_captions,
)
from preprocess.encoders.base import Encoder, MediaSample
from preprocess.encoders.families import plain
from preprocess.encoders.loading import load_encoder
from preprocess.identifiers.codec import load_codec
from preprocess.media.images import load_image

EDGES, MOTION, SOUND = 64 + 192, plain.PICTURE, plain.PICTURE + plain.MOTION
"""Where these blocks begin."""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("plain")


def embed(encoder: Encoder, modality: str, *paths: Path) -> np.ndarray:
    rows = encoder.embed_media([MediaSample(modality, path) for path in paths])
    assert (rows.shape, rows.dtype) == ((len(paths), 1600), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    return rows


def saved(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


def clip(path: Path, frames: list[Image.Image]) -> Path:
    """A lossless video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame).reformat(format="bgr0")))
        container.mux(stream.encode())
    return path


def bar(left: int) -> Image.Image:
    """A white upright bar on black."""
    pixels = np.zeros((128, 128, 3), dtype=np.uint8)
    pixels[:, left : left + 16] = 255
    return Image.fromarray(pixels)


def sound(path: Path, samples: np.ndarray, rate: int = 16000) -> Path:
    soundfile.write(path, samples.astype(np.float32), rate, subtype="FLOAT")
    return path


def test_a_picture_of_two_halves_has_the_features_of_its_definition():
    pixels = np.zeros((128, 128, 3), dtype=np.float32)
    pixels[:64] = (1, 0, 1)
    row = plain.picture_features(pixels)
    colours = row[:64].reshape(4, 4, 4)
    assert colours[3, 0, 3] == pytest.approx(np.sqrt(0.5))
    assert colours[0, 0, 0] == pytest.approx(np.sqrt(0.5))
    assert (colours > 0).sum() == 2
    layout = row[64:EDGES].reshape(8, 8, 3) * np.sqrt(192)
    np.testing.assert_allclose(layout[:4], np.broadcast_to([1, -1, 1], (4, 8, 3)), atol=1e-6)
    np.testing.assert_allclose(layout[4:], -1, atol=1e-6)
    levels = np.split(row[EDGES:], np.cumsum([8, 32, 128]))
    for level, grid in zip(levels, (1, 2, 4, 8), strict=True):
        edges = level.reshape(grid, grid, 8)
        touched = slice(0, 1) if grid == 1 else slice(grid // 2 - 1, grid // 2 + 1)
        assert np.delete(edges, 4, axis=-1).max() == 0  # brightness changes downwards: a right angle of two
        assert (edges[touched, :, 4] > 0).all()
        assert (edges[..., 4] > 0).sum() == edges[touched, :, 4].size
        assert np.square(level).sum() == pytest.approx(0.25)


def test_edges_of_a_faint_picture_fade():
    draw = np.random.default_rng(0)
    noise = np.repeat(draw.uniform(-1, 1, (128, 128, 1)).astype(np.float32), 3, axis=-1)
    strength = [np.square(plain.picture_features(0.5 + noise * scale)[EDGES:]).sum() for scale in (0, 0.001, 0.2)]
    assert strength[0] == 0
    assert 0.01 < strength[1] < 0.3
    assert strength[2] == pytest.approx(1)


def test_pictures_of_any_kind_have_a_row(encoder, tmp_path):
    draw = np.random.default_rng(0)
    grey = draw.integers(0, 256, (40, 60), dtype=np.uint8)
    images = {
        "pixel.png": Image.new("RGB", (1, 1), "red"),
        "line.png": Image.fromarray(draw.integers(0, 256, (3000, 1, 3), dtype=np.uint8)),
        "grey.png": Image.fromarray(grey),
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "bits.png": Image.fromarray(grey > 100),
        "cmyk.tiff": Image.new("CMYK", (9, 9), (0, 255, 255, 0)),
        "black.png": Image.new("RGB", (9, 9)),
        "middle.png": Image.new("RGB", (9, 9), (128, 128, 128)),
    }
    paths = [saved(image, tmp_path / name) for name, image in images.items()]
    rows = dict(zip(images, embed(encoder, "image", *paths), strict=True))
    np.testing.assert_array_equal(rows["grey.png"], rows["deep.png"])
    distinct = [rows[name].round(5) for name in images if name != "deep.png"]
    np.testing.assert_allclose(rows["pixel.png"], rows["cmyk.tiff"], atol=0.02)
    assert len(np.unique(distinct, axis=0)) >= len(images) - 2
    assert all(row[MOTION:].max() == 0 for row in rows.values())


def test_transparent_parts_are_white(encoder, tmp_path):
    drawn = Image.new("RGBA", (32, 32))
    drawn.paste((0, 0, 0, 255), (8, 8, 24, 16))
    page = Image.new("RGB", (32, 32), "white")
    page.paste((0, 0, 0), (8, 8, 24, 16))
    paths = [saved(drawn, tmp_path / "drawn.png"), saved(page, tmp_path / "page.png")]
    rows = embed(encoder, "image", *paths)
    np.testing.assert_array_equal(rows[0], rows[1])
    assert load_image(paths[0]).getpixel((0, 0)) == (255, 255, 255)


def test_a_still_video_has_the_row_of_its_picture(encoder, tmp_path):
    picture = saved(bar(40), tmp_path / "picture.png")
    still = clip(tmp_path / "still.mkv", [bar(40)] * 5)
    one = clip(tmp_path / "one.mkv", [bar(40)])
    expected = embed(encoder, "image", picture)[0]
    for row in embed(encoder, "video", still, one):
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_motion_says_where_when_and_in_which_direction(tmp_path):
    encoder = load_encoder("plain", frames=8)
    right = [bar(8 * number) for number in range(8)]
    halting = [bar(0)] * 4 + right[:4]
    films = {"right": right, "left": right[::-1], "halting": halting}
    paths = [clip(tmp_path / f"{name}.mkv", frames) for name, frames in films.items()]
    rows = embed(encoder, "video", *paths)
    where, when, directions = np.split(rows[:, MOTION:SOUND], [64, 72], axis=1)
    turns = np.square(directions).reshape(3, 16, 8).sum(axis=1)
    assert turns.argmax(axis=1).tolist() == [0, 4, 0]  # eighths of a turn, from the right downwards
    assert (turns.max(axis=1) > 0.99 * turns.sum(axis=1)).all()
    assert (where.reshape(3, 8, 8)[:, :, 5:] == 0).all()  # the bar ends at pixel 72
    assert (when[2, :3] == 0).all()
    assert (when[2, 4:] > 0).all()
    np.testing.assert_allclose(rows[0, :MOTION], rows[1, :MOTION], atol=1e-6)


def test_mel_filters_are_those_of_transformers():
    expected = mel_filter_bank(257, 64, 0, 8000, 16000, norm=None, mel_scale="htk")
    np.testing.assert_allclose(plain.mel_filters(), expected, atol=1e-5)


def test_a_tone_is_loudest_in_its_band_while_it_lasts(encoder, tmp_path):
    seconds = np.arange(32000) / 16000
    tone = np.sin(2 * np.pi * 1000 * seconds) * (seconds < 1)
    row = embed(encoder, "audio", sound(tmp_path / "tone.wav", tone))[0]
    assert np.abs(row[:SOUND]).max() == 0
    mean, deviation, _, *stretches = np.split(row[SOUND : SOUND + 64 * 7], 7)
    band = plain.mel_filters()[32].argmax()  # bin 32 of 31.25 Hz each
    assert {mean.argmax(), deviation.argmax(), stretches[0].argmax(), stretches[1].argmax()} == {band}
    assert stretches[3].max() == 0
    loudness = np.square(row[SOUND + 64 * 7 :]) / np.square(row[SOUND + 64 * 7 :]).sum()
    assert loudness[0] == pytest.approx(0.5, abs=0.03)  # half of it is silent
    assert loudness[-2:].sum() == pytest.approx(0.5, abs=0.05)


def test_silent_short_and_long_sounds_have_a_row(encoder, tmp_path, monkeypatch):
    noise = np.random.default_rng(0).uniform(-1, 1, 48000)
    lengths = (1, 100, 511, 512, 700, 48000)
    paths = [sound(tmp_path / f"{length}.wav", noise[:length]) for length in lengths]
    silent = [sound(tmp_path / f"silent {length}.wav", np.zeros(length)) for length in (1, 20000)]
    rows = embed(encoder, "audio", *paths, *silent)
    assert len(np.unique(rows.round(5), axis=0)) == len(lengths) + 1  # silence is silence, however long
    assert np.flatnonzero(rows[-1]).tolist() == [SOUND + 64 * 7]
    monkeypatch.setattr(plain, "BLOCK", 7)
    np.testing.assert_allclose(embed(encoder, "audio", paths[-1])[0], rows[5], atol=1e-6)


def test_rows_do_not_depend_on_what_is_read_beside(encoder, tmp_path):
    names = {"1.png": "image", "2.jpg": "image", "3.mp4": "video", "4.wav": "audio"}
    for name in names:
        write_media(tmp_path / name, int(name[0]))
    samples = [MediaSample(modality, tmp_path / name) for name, modality in names.items()]
    together = encoder.embed_media(samples)
    for sample, row in zip(samples, together, strict=True):
        np.testing.assert_array_equal(encoder.embed_media([sample])[0], row)
        again = pickle.loads(pickle.dumps(encoder.reader))(*sample)["features"].numpy()
        np.testing.assert_allclose(again[0] / np.linalg.norm(again), row, atol=1e-6)
    assert encoder.dimension == 1600


def test_pca_of_the_catalogue_gives_items_that_come_later_the_same_code(tmp_path):
    draw = np.random.default_rng(0)
    items = []
    for number in range(40):
        pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        saved(Image.fromarray(pixels), tmp_path / f"{number}.png")
        items.append({"item_id": str(number), "media": f"{number}.png", "modality": "image"})
    settings = EmbeddingSettings("plain", workers=0, device="cpu")
    extract_embeddings(write_jsonl(tmp_path / "items.jsonl", items), tmp_path / "all", settings)
    later = write_jsonl(tmp_path / "later.jsonl", [{**items[7], "item_id": "later"}])
    extract_embeddings(later, tmp_path / "later", settings)
    sizes = IdentifierSettings("residual-kmeans", kmeans_clusters=3, codebook_size=3, pca=8, allow_collapse=True)
    inputs = (tmp_path / "all" / "embeddings.npy", tmp_path / "all" / "items.jsonl")
    build_identifiers(*inputs, tmp_path / "identifiers", sizes)
    codec = load_codec(IdentifierBundle.load(tmp_path / "identifiers"))
    codes = codec.encode(np.load(inputs[0]))
    assert len(np.unique(codes, axis=0)) > 5
    np.testing.assert_array_equal(codec.encode(np.load(tmp_path / "later" / "embeddings.npy"))[0], codes[7])


def test_every_step_that_needs_texts_says_that_there_is_no_text_side(encoder, tmp_path):
    texts = write_jsonl(tmp_path / "captions.jsonl", [{"item_id": "a", "text": "a dog"}])
    items = write_jsonl(tmp_path / "items.jsonl", [{"item_id": "a"}])
    np.save(tmp_path / "embeddings.npy", np.ones((1, 4), dtype=np.float32))
    said = "^encoder plain: has no text side; choose another encoder for texts$"
    with pytest.raises(ValueError, match=said):
        encoder.embed_text(["a dog"])
    with pytest.raises(ValueError, match=said):
        extract_text_embeddings(texts, tmp_path / "texts.npy", EmbeddingSettings("plain"))
    settings = JoinSettings(text_features="plain")
    with pytest.raises(ValueError, match=said):
        join_captions(tmp_path / "embeddings.npy", items, texts, tmp_path / "joined", settings)
    with pytest.raises(ValueError, match="has no weights, so it takes no name; write plain"):
        load_encoder("plain:large")
