"""LanguageBind (Zhu et al., 2023): one model of images, of sounds or of videos, each with a text tower.

Its code is not part of this project. Put a clone of https://github.com/PKU-YuanGroup/LanguageBind on PYTHONPATH
(it was written for transformers 4.30), or `pip install languagebind`. The package works with transformers 4.45.2 and
4.53.3. It fails with 4.55.4 and 4.57.3, so versions after 4.53 are refused. Both need einops and peft, and sounds need
torchaudio. Use an environment of their own. The clone contains another `open_clip`, so leave it off PYTHONPATH for the
encoder `openclip`.

Give a model by its name on the hub or its folder, such as `languagebind:LanguageBind/LanguageBind_Video_FT`,
`LanguageBind_Audio_FT` or `LanguageBind_Image`. The model's configuration says which media it accepts.

`preprocess.media` decodes the files. They are scaled and cut as by the package's own processors, but without their
chance: no frame is mirrored, and of a long sound the three pieces come from the middle of its thirds.
"""

import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cart_fairseq.base.libraries import import_library
from preprocess.encoders.base import Encoder, EncoderSettings, Reader, Tensors
from preprocess.encoders.families.imagebind import SIDE, normalised
from preprocess.encoders.pretrained import load_part, loading
from preprocess.media.frames import load_frames
from preprocess.media.images import load_image
from preprocess.media.reading import reading
from preprocess.media.sounds import load_audio

DEFAULT = "LanguageBind/LanguageBind_Image"
KINDS = {"LanguageBindImage": "image", "LanguageBindAudio": "audio", "LanguageBindVideo": "video"}
MAX_TOKENS = 77
FRAME_MILLISECONDS, HOP_MILLISECONDS = 25, 10
LATEST = (4, 53)
"""Latest version of transformers whose CLIP layers work in LanguageBind's classes."""
INSTALL = (
    "encoder languagebind: its code cannot be imported ({}); put a clone of https://github.com/PKU-YuanGroup/LanguageBind on "
    "PYTHONPATH, or pip install languagebind, in an environment with transformers<4.54, einops, peft and, for sounds, "
    "torchaudio"
)


@dataclasses.dataclass(frozen=True)
class LanguageBindReader(Reader):
    """Prepares `pixel_values` as the models expect them.

    Attributes:
        kind: image, audio or video: what the model accepts.
        rate: of sounds, in Hz.
        bins, length: mel bands, and frames of each piece of a sound.
        mean, deviation: of the levels of sounds.
    """

    kind: str = "image"
    rate: int = 16000
    bins: int = 0
    length: int = 0
    mean: float = 0.0
    deviation: float = 1.0

    def __call__(self, modality: str, path: str | Path) -> Tensors:
        """Return the input of one file."""
        with reading(path, modality):
            if modality == "audio":
                return self.sound(load_audio(path, self.rate))
            return self.pictures([load_image(path)] if modality == "image" else load_frames(path, self.frames))

    def pictures(self, images: Sequence[Any]) -> Tensors:
        """Return (1, 3, 224, 224) of an image, or (1, 3, frames, 224, 224) of the frames of a video."""
        pixels = normalised(np.stack([np.asarray(image) for image in images]))
        if self.kind == "image":
            return {"pixel_values": square(pixels, "bicubic")}
        return {"pixel_values": square(pixels, "bilinear").transpose(0, 1)[None]}

    def sound(self, samples: NDArray[np.float32]) -> Tensors:
        """Return (1, 3, bins, length): three pieces of the mel spectrogram; a short sound is repeated."""
        from torchaudio.compliance.kaldi import fbank

        wave = torch.from_numpy(samples - samples.mean())[None]
        mel = fbank(
            wave,
            htk_compat=True,
            sample_frequency=self.rate,
            use_energy=False,
            window_type="hanning",
            num_mel_bins=self.bins,
            dither=0.0,
            frame_length=FRAME_MILLISECONDS,
            frame_shift=HOP_MILLISECONDS,
        )
        if len(mel) < self.length:
            mel = mel.repeat(-(-self.length // len(mel)), 1)[: self.length]
        pieces = torch.stack([mel[start : start + self.length] for start in starts(len(mel), self.length)])
        return {"pixel_values": ((pieces.transpose(1, 2) - self.mean) / (2 * self.deviation))[None]}


def starts(frames: int, length: int) -> list[int]:
    """Return where the three pieces begin: in the middle of each third of the possible beginnings.

    >>> starts(100, 71)
    [5, 15, 25]
    >>> starts(71, 71)
    [0, 0, 0]
    """
    thirds = np.array_split(np.arange(frames - length + 1), 3)
    return [int(third[len(third) // 2]) if len(third) else 0 for third in thirds]


def square(pixels: torch.Tensor, mode: str) -> torch.Tensor:
    """(n, 3, height, width) -> (n, 3, 224, 224): the centre, after the shorter side is scaled to 224."""
    height, width = pixels.shape[2:]
    shorter = min(height, width)
    size = (height * SIDE // shorter, width * SIDE // shorter)
    scaled = torch.nn.functional.interpolate(pixels, size, mode=mode, antialias=mode == "bicubic")
    top, left = (round((side - SIDE) / 2) for side in size)
    return scaled[:, :, top : top + SIDE, left : left + SIDE]


class LanguageBindEncoder(Encoder):
    """One LanguageBind model with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, reader: LanguageBindReader, settings: EncoderSettings):
        super().__init__(model, reader, ("text", reader.kind), model.config.projection_dim, settings)
        self.towers = model
        self.tokenizer = tokenizer

    def media_features(self, modality: str, inputs: Tensors) -> torch.Tensor:
        """Return projected features; the package calls those of all media image features."""
        return self.towers.get_image_features(pixel_values=inputs["pixel_values"])

    def text_features(self, texts: list[str], searched: str) -> torch.Tensor:
        """Return projected features of the texts, padded to the maximum length."""
        tokens = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(self.device)
        return self.towers.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])


def import_code(module: str) -> Any:
    """Import a module of the package `languagebind`, but not the whole package.

    The package itself imports its processors, which need libraries for reading media that are not used here.

    Raises:
        ValueError: the package or what it imports is missing.
    """
    import_library("transformers")  # first, because it hides a torchaudio that does not fit torch
    try:
        if "languagebind" not in sys.modules:
            spec = importlib.util.find_spec("languagebind")
            if spec is None:
                raise ImportError("languagebind", name="languagebind")
            sys.modules["languagebind"] = importlib.util.module_from_spec(spec)  # known, but not executed
        return importlib.import_module(f"languagebind.{module}")
    except ImportError as error:
        raise ValueError(INSTALL.format(str(error).splitlines()[0])) from None


def check_transformers() -> None:
    """Refuse a version of transformers with which LanguageBind's classes fail, some of them only in computing.

    Raises:
        ValueError: the version is later than `LATEST`.
    """
    version = import_library("transformers").__version__
    if tuple(map(int, version.split(".")[:2])) > LATEST:
        raise ValueError(
            f"encoder languagebind: transformers is {version}, and LanguageBind's code fails with it; use an environment "
            "with transformers<4.54"
        )


def load(name: str, settings: EncoderSettings) -> LanguageBindEncoder:
    """Load a LanguageBind model; see the module's docstring.

    Raises:
        ValueError: the package cannot be imported or does not work with this version of transformers, the model cannot
            be loaded or has another type, or the settings have a number of frames that a video model does not take.
    """
    name = name or DEFAULT
    config, _ = loading(name, lambda: import_library("transformers").PretrainedConfig.get_config_dict(name))
    kind = KINDS.get(config.get("model_type", ""))
    if kind is None:
        raise ValueError(
            f"{name}: is a model of type {config.get('model_type')!r}, not one of {', '.join(KINDS)}; choose one of "
            "LanguageBind's models of images, sounds or videos"
        )
    if kind == "audio" and importlib.util.find_spec("torchaudio") is None:
        raise ValueError(INSTALL.format("torchaudio"))
    code = import_code(f"{kind}.modeling_{kind}")
    check_transformers()
    model = loading(name, lambda: getattr(code, f"LanguageBind{kind.title()}").from_pretrained(name))
    vision = model.config.vision_config
    if settings.frames not in (None, vision.num_frames):
        raise ValueError(f"{name}: takes {vision.num_frames} frames of every video; leave --frames out")
    reader = LanguageBindReader(frames=vision.num_frames, kind=kind)
    if kind == "audio":
        reader = LanguageBindReader(
            kind=kind,
            rate=vision.audio_sample_rate,
            bins=int(vision.num_mel_bins),
            length=int(vision.target_length),
            mean=vision.audio_mean,
            deviation=vision.audio_std,
        )
    return LanguageBindEncoder(model, load_part("CLIPTokenizer", name), reader, settings)
