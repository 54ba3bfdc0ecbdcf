"""Captioners on tiny models of the real classes, saved to disk and loaded by name, and on generated media."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_captioners import (
    WORDS,
    save_blip,
    save_blip2,
    save_image,
    save_llava,
    save_sound,
    save_video,
    save_whisper,
)

from preprocess.captioners.captioner import Target
from preprocess.captioners.families import CaptionerName, named
from preprocess.captioners.models import load_model
from preprocess.captioners.settings import CaptionerSettings
from preprocess.media.frames import load_frames

SAVERS = {"blip": save_blip, "blip2": save_blip2, "image-text-to-text": save_llava, "whisper": save_whisper}
SETTINGS = CaptionerSettings(captions_per_item=3, max_new_tokens=8, frames=2)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: save(root / family) for family, save in SAVERS.items()}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Target]]:
    root = tmp_path_factory.mktemp("media")
    pictures = [Target(i, f"image {i}", "image", root / save_image(root / f"{i}.png", i)) for i in range(2)]
    pictures.append(Target(2, "video 2", "video", root / save_video(root / "2.webp", 2)))
    sounds = [Target(i, f"sound {i}", "audio", root / save_sound(root / f"{i}.wav", i)) for i in range(2)]
    return {"pictures": pictures, "sounds": sounds}


def load(family: str, checkpoint: Path, settings: CaptionerSettings = SETTINGS) -> Any:
    return load_model(CaptionerName(family, str(checkpoint)), "cpu", "float32", settings)


@pytest.mark.parametrize("family", SAVERS)
def test_captions_are_several_reproducible_and_their_own(family, checkpoints, media):
    captioner = load(family, checkpoints[family])
    targets = media["sounds" if family == "whisper" else "pictures"]
    assert {target.modality for target in targets} <= captioner.modalities
    loaded = [captioner.load(target) for target in targets]
    texts = captioner.caption(targets, loaded)
    assert [len(found) for found in texts] == [3] * len(targets)
    assert len({text for found in texts for text in found}) > len(targets)
    assert captioner.caption(targets, loaded) == texts
    # An item's captions do not depend on what shares its batch.
    assert [captioner.caption([t], [m])[0] for t, m in zip(targets, loaded)] == texts
    other = load(
        family, checkpoints[family], CaptionerSettings(captions_per_item=3, max_new_tokens=8, frames=2, seed=2)
    )
    assert other.caption(targets, loaded) != texts


@pytest.mark.parametrize("family", ["blip", "blip2"])
def test_captions_are_words_without_prompt_or_marks(family, checkpoints, media):
    for prompt in (None, "a picture of"):
        captioner = load(
            family, checkpoints[family], CaptionerSettings(captions_per_item=8, max_new_tokens=8, prompt=prompt)
        )
        targets = media["pictures"][:2]
        texts = captioner.caption(targets, [captioner.load(target) for target in targets])
        assert {word for found in texts for text in found for word in text.split()} <= set(WORDS)
        assert not any(text.startswith("a picture of") for found in texts for text in found)


@pytest.mark.parametrize("family", ["blip", "blip2"])
def test_a_video_is_captioned_frame_by_frame(family, checkpoints, media):
    captioner = load(family, checkpoints[family])
    video = media["pictures"][2]
    assert video.media is not None
    found = captioner.caption([video], [captioner.load(video)])[0]
    by_frame = [captioner.caption([video], [[frame]])[0] for frame in load_frames(video.media, 3)]
    assert found == [by_frame[number][number] for number in range(3)]
    assert len(set(found)) > 1


def test_a_model_that_is_talked_to_sees_all_frames_and_the_question(checkpoints, media):
    captioner = load("image-text-to-text", checkpoints["image-text-to-text"])
    asked: list[torch.Tensor] = []
    captioner.model.register_forward_pre_hook(lambda _, __, given: asked.append(given["input_ids"]), with_kwargs=True)
    targets = media["pictures"][1:]
    texts = captioner.caption(targets, [captioner.load(target) for target in targets])
    assert not [text for found in texts for text in found if "Describe this" in text and "in one sentence" in text]
    image, video = captioner.processor.batch_decode(asked[0][::3], skip_special_tokens=False)
    patches = (32 // 16) ** 2
    assert image.count("<image>") == patches
    assert video.count("<image>") == 2 * patches
    assert image.startswith("<pad>")
    assert image.endswith("Describe this image in one sentence .")
    assert video.endswith("Describe this video in one sentence .")


def test_a_model_without_a_chat_template_captions_pictures(checkpoints, media):
    targets = media["pictures"]
    general, blip = load("image-text-to-text", checkpoints["blip"]), load("blip", checkpoints["blip"])
    loaded = [blip.load(target) for target in targets]
    assert general.caption(targets, loaded) == blip.caption(targets, loaded)


def test_whisper_begins_with_the_style_in_english_without_time_stamps(checkpoints, media):
    begun: list[list[int]] = []

    def note(_module, _positional, given):
        begun.append(given["decoder_input_ids"][0].tolist())

    captioner = load("whisper", checkpoints["whisper"])
    captioner.model.register_forward_pre_hook(note, with_kwargs=True)
    captioner.caption(media["sounds"], [captioner.load(target) for target in media["sounds"]])
    begin = captioner.tokenizer.decode(begun[0])
    assert begin == "<|startoftranscript|><|en|><|transcribe|><|notimestamps|>clotho > caption: "


def test_whisper_hears_the_first_thirty_seconds_and_resampled(checkpoints, media, tmp_path):
    captioner = load("whisper", checkpoints["whisper"])
    assert len(captioner.load(media["sounds"][0])) == 8000  # half a second, of 8 kHz, at 16 kHz
    # This model's windows last a second.
    paths = [tmp_path / save_sound(tmp_path / f"{seconds}.wav", 3, seconds) for seconds in (1.0, 2.0)]
    targets = [Target(0, "sound", "audio", path) for path in paths]
    first, longer = (captioner.load(target) for target in targets)
    longer[: len(first)] = first
    assert captioner.caption(targets[:1], [first]) == captioner.caption(targets[:1], [longer])


def test_whisper_without_a_style_follows_the_checkpoint(checkpoints, media):
    silent = load(
        "whisper", checkpoints["whisper"], CaptionerSettings(captions_per_item=3, max_new_tokens=8, prompt="")
    )
    texts = silent.caption(media["sounds"], [silent.load(target) for target in media["sounds"]])
    assert len({text for found in texts for text in found}) > 3


def test_half_precision_runs(checkpoints, media):
    captioner: Any = load_model(CaptionerName("blip", str(checkpoints["blip"])), "auto", "bfloat16", SETTINGS)
    assert captioner.model.dtype == torch.bfloat16
    target = media["pictures"][0]
    assert len(captioner.caption([target], [captioner.load(target)])[0]) == 3


def test_what_cannot_be_loaded_is_named(checkpoints, tmp_path):
    with pytest.raises(ValueError, match="is a blip model, not blip-2; use image-text-to-text:"):
        load("blip2", checkpoints["blip"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: cannot be loaded .*give a folder"):
        load("blip", tmp_path / "empty")
    weights = load_file(checkpoints["blip"] / "model.safetensors")
    shutil.copytree(checkpoints["blip"], tmp_path / "part")
    del weights["text_decoder.bert.embeddings.word_embeddings.weight"]
    save_file(weights, tmp_path / "part" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"part: lacks \d+ weights of BlipForConditionalGeneration"):
        load("blip", tmp_path / "part")
    with pytest.raises(ValueError, match="device 'warp' cannot be used"):
        load_model(CaptionerName("blip", str(checkpoints["blip"])), "warp", "float32", SETTINGS)
    with pytest.raises(ValueError, match="unknown family 'blob'; use one of blip, blip2"):
        named("blob:x")
    with pytest.raises(ValueError, match="neighbours uses no model"):
        named("neighbours:x")


def test_sources_name_the_checkpoint_but_no_folders(tmp_path):
    assert named("neighbours").source == "neighbours"
    assert named("blip:Salesforce/blip-image-captioning-base").source == "blip:Salesforce/blip-image-captioning-base"
    assert named(f"blip:{tmp_path}").source == f"blip:{tmp_path.name}"
