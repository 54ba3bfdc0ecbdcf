"""ImageBind and LanguageBind, whose code is a user's clone: on stand-ins, and LanguageBind's own classes if installed."""

import importlib.util
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from cloned_encoders import clone, save_languagebind
from media_samples import write_media

from preprocess.encoders.base import EncoderSettings, MediaSample
from preprocess.encoders.families import imagebind, languagebind
from preprocess.encoders.loading import load_encoder

FILES = {"image": ["1.png", "2.jpg"], "video": ["3.mp4", "4.avi"], "audio": ["5.wav", "6.wav"]}
TEXTS = ["red above blue", "a green half over a half"]
VERSION = tuple(map(int, transformers.__version__.split(".")[:2]))
REAL = importlib.util.find_spec("languagebind") is not None and VERSION <= languagebind.LATEST


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Two files of each kind."""
    folder = tmp_path_factory.mktemp("media")
    for names in FILES.values():
        for name in names:
            write_media(folder / name, int(name[0]))
    return {kind: [folder / name for name in names] for kind, names in FILES.items()}


def check(encoder: Any, kind: str, files: list[Path], features: Any) -> None:
    """Rows have length 1, differ, and are what the model gives for the reader's inputs; the reader can be pickled."""
    samples = [MediaSample(kind, path) for path in files]
    rows, texts = encoder.embed_media(samples), encoder.embed_text(TEXTS, kind)
    assert rows.shape == texts.shape == (2, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm([*rows, *texts], axis=1), 1, atol=1e-5)
    assert np.abs(rows[0] - rows[1]).max() > 1e-4
    assert np.abs(texts[0] - texts[1]).max() > 1e-4
    reader = pickle.loads(pickle.dumps(encoder.reader))
    inputs = [reader(*sample) for sample in samples]
    with torch.no_grad():
        expected = features({name: torch.cat([each[name] for each in inputs]) for name in inputs[0]})
    np.testing.assert_allclose(rows, torch.nn.functional.normalize(expected, dim=-1).numpy(), atol=1e-5)
    np.testing.assert_array_equal(rows, encoder.embed_media(samples))


@pytest.mark.parametrize("kind", FILES)
def test_imagebind_gets_what_its_interface_asks_for(kind, media, tmp_path, monkeypatch):
    clone("imagebind", tmp_path, monkeypatch)
    from imagebind.models.imagebind_model import imagebind_huge

    torch.save(imagebind_huge().state_dict(), tmp_path / "weights.pth")
    encoder: Any = load_encoder(f"imagebind:{tmp_path / 'weights.pth'}", device="cpu")
    assert encoder.modalities == {"text", "image", "audio", "video"}
    check(encoder, kind, media[kind], lambda inputs: next(iter(encoder.model(inputs).values())))
    shapes = {"image": (1, 3, 224, 224), "audio": (1, 3, 1, 128, 204), "video": (1, 15, 3, 2, 224, 224)}
    [prepared] = encoder.reader(kind, media[kind][0]).values()
    assert prepared.shape == shapes[kind]
    with pytest.raises(ValueError, match=r"absent\.pth: cannot be loaded"):
        imagebind.load(str(tmp_path / "absent.pth"), EncoderSettings("cpu", "float32", None))


@pytest.mark.parametrize("kind", FILES)
def test_languagebind_gets_what_its_interface_asks_for(kind, media, tmp_path, monkeypatch):
    clone("languagebind", tmp_path / "clone", monkeypatch)
    encoder: Any = load_encoder(f"languagebind:{save_languagebind(kind, tmp_path / 'model')}", device="cpu")
    assert encoder.modalities == {"text", kind}
    check(encoder, kind, media[kind], lambda inputs: encoder.towers.get_image_features(**inputs))
    with pytest.raises(ValueError, match="not " + ("audio" if kind == "image" else "image")):
        encoder.check("audio" if kind == "image" else "image")


def test_languagebind_pictures_are_scaled_and_cut(tmp_path):
    from PIL import Image

    wide = np.zeros((224, 448, 3), dtype=np.uint8)
    wide[:, 112:336] = 255
    pixels = languagebind.LanguageBindReader(kind="image").pictures([Image.fromarray(wide)])["pixel_values"]
    white = imagebind.normalised(np.full((1, 224, 224, 3), 255, dtype=np.uint8))
    torch.testing.assert_close(pixels, white)
    frames = [Image.fromarray(wide[:, :224]), Image.fromarray(wide[:, 112:336])]
    video = languagebind.LanguageBindReader(kind="video").pictures(frames)["pixel_values"]
    assert video.shape == (1, 3, 2, 224, 224)
    torch.testing.assert_close(video[:, :, 1], white)
    assert len(video[:, :, 0].unique()) == 6  # black and white in three channels


def test_languagebind_sounds_are_three_pieces(tmp_path, monkeypatch):
    clone("languagebind", tmp_path, monkeypatch)
    reader = languagebind.LanguageBindReader(kind="audio", bins=4, length=30, mean=1.0, deviation=2.0)
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    long, short = (reader.sound(noise[:count])["pixel_values"] for count in (16000, 2000))
    assert long.shape == short.shape == (1, 3, 4, 30)
    assert not torch.equal(long[0, 0], long[0, 2])
    assert torch.equal(short[0, 0], short[0, 2])
    from torchaudio.compliance.kaldi import fbank

    mel = fbank(torch.from_numpy(noise - noise.mean())[None], num_mel_bins=4, htk_compat=True, sample_frequency=16000, use_energy=False, window_type="hanning", dither=0.0, frame_length=25, frame_shift=10)  # fmt: skip
    for piece, start in zip(long[0], languagebind.starts(len(mel), 30), strict=True):
        torch.testing.assert_close(piece, (mel[start : start + 30].T - 1) / 4)


def test_what_languagebind_cannot_load_is_refused(tmp_path, monkeypatch):
    settings = EncoderSettings("cpu", "float32", None)
    clone("languagebind", tmp_path / "clone", monkeypatch)
    folder = save_languagebind("video", tmp_path / "model")
    with pytest.raises(ValueError, match="takes 8 frames of every video; leave --frames out"):
        languagebind.load(str(folder), EncoderSettings("cpu", "float32", 12))
    with pytest.raises(ValueError, match="absent: cannot be loaded"):
        languagebind.load(str(tmp_path / "absent"), settings)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "LanguageBindDepth"}))
    with pytest.raises(ValueError, match="is a model of type 'LanguageBindDepth', not one of LanguageBindImage"):
        languagebind.load(str(folder), settings)


@pytest.mark.parametrize("version", ["4.54.0", "4.57.3", "5.24.0"])
def test_a_version_of_transformers_that_fails_in_computing_is_refused(version, tmp_path, monkeypatch):
    clone("languagebind", tmp_path / "clone", monkeypatch)
    monkeypatch.setattr(importlib.import_module("transformers"), "__version__", version)
    folder = save_languagebind("image", tmp_path / "model")
    with pytest.raises(ValueError, match=rf"transformers is {version}, and .* fails with it; .*transformers<4\.54$"):
        load_encoder(f"languagebind:{folder}")


@pytest.mark.skipif(REAL, reason="LanguageBind is installed")
def test_without_languagebind_the_message_says_where_it_is(tmp_path):
    folder = save_languagebind("image", tmp_path / "model")
    with pytest.raises(
        ValueError, match=r"clone of https://github\.com/PKU-YuanGroup/LanguageBind on PYTHONPATH, or pip"
    ):
        load_encoder(f"languagebind:{folder}")


@pytest.mark.skipif(not REAL, reason="LanguageBind's own classes need the package languagebind and transformers<4.54")
@pytest.mark.parametrize("kind", FILES)
def test_languagebinds_own_classes(kind, media, tmp_path):
    configuration = languagebind.import_code(f"{kind}.configuration_{kind}")
    code = languagebind.import_code(f"{kind}.modeling_{kind}")
    folder = save_languagebind(kind, tmp_path / "model")
    base = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    base |= {"projection_dim": 8}
    vision = base | {"image_size": 224, "patch_size": 28, "lora_r": 2}
    if kind == "video":
        vision |= {"add_time_attn": True, "num_frames": 8}
    if kind == "audio":
        vision |= {"num_mel_bins": 112, "target_length": 1036}
    text = base | {"vocab_size": 54, "max_position_embeddings": 77}
    Config = getattr(configuration, f"LanguageBind{kind.title()}Config")
    torch.manual_seed(0)
    model = getattr(code, f"LanguageBind{kind.title()}")(
        Config(text_config=text, vision_config=vision, projection_dim=8)
    ).eval()
    model.config.vision_config.image_size = 224  # which the class replaces by a list that it cannot read again
    model.save_pretrained(folder)
    encoder = load_encoder(f"languagebind:{folder}", device="cpu")
    check(encoder, kind, media[kind], lambda inputs: model.get_image_features(**inputs))
