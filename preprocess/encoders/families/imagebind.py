"""ImageBind (Girdhar et al., 2023), the paper's encoder: image, audio, video and text in one space of 1024 dimensions.

Its package is not on PyPI. Install it from its repository, https://github.com/facebookresearch/ImageBind. Give the
weights as `imagebind:PATH`, the path of `imagebind_huge.pth`. Without PATH the package downloads them (4.5 GB) to
`.checkpoints/` in the current folder, or uses those that are there. The licence of code and weights is CC-BY-NC-SA 4.0.

`preprocess.media` decodes the files. They are cut and scaled as by the package's own loaders: a sound becomes 3
clips of 2 seconds, a video 5 clips of 2 seconds with 2 frames each and 3 square crops.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from preprocess.encoders.base import Encoder, EncoderSettings, Reader, Tensors
from preprocess.encoders.pretrained import loading
from preprocess.media.frames import load_frames_at, video_seconds
from preprocess.media.images import load_image
from preprocess.media.reading import reading
from preprocess.media.sounds import load_audio

RATE, MEL_BINS, MEL_FRAMES = 16000, 128, 204
MEL_MEAN, MEL_DEVIATION = -4.268, 9.138
SIDE = 224
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP_SECONDS, AUDIO_CLIPS, VIDEO_CLIPS = 2, 3, 5
INSTALL = (
    "encoder imagebind: {} cannot be imported; ImageBind is not on PyPI, install it from its repository: git clone "
    "https://github.com/facebookresearch/ImageBind && pip install ./ImageBind"
)

WEIGHTS = "give the path of imagebind_huge.pth, or no path if the package can download it"


@dataclasses.dataclass(frozen=True)
class ImageBindReader(Reader):
    """Sounds and videos have a dimension for clips, (1, clips, ...), over which the model averages."""

    def __call__(self, modality: str, path: str | Path) -> Tensors:
        """Return the model's input for one file, under the model's name of the modality."""
        with reading(path, modality):
            if modality == "audio":
                return self.sound(load_audio(path, RATE))
            if modality == "image":
                return self.pictures([load_image(path)])
            times = clip_times(video_seconds(path), VIDEO_CLIPS)
            frames = load_frames_at(path, [time for clip in times for time in clip], seconds=True)
            return self.clips([frames[start : start + 2] for start in range(0, len(frames), 2)])

    def pictures(self, images: Sequence[Any]) -> Tensors:
        """Return `vision` (1, 3, 224, 224): the centre of an image whose shorter side is scaled to 224."""
        from PIL import Image

        (image,) = images
        width, height = (side * SIDE // min(image.size) for side in image.size)
        left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
        square = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + SIDE, top + SIDE))
        return {"vision": normalised(np.asarray(square)[None])}

    def sound(self, samples: NDArray[np.float32]) -> Tensors:
        """Return `audio` (1, 3, 1, 128, 204): mel spectrograms of clips of 2 seconds."""
        from imagebind.data import waveform2melspec

        spectra = []
        for start, end in clip_times(len(samples) / RATE, AUDIO_CLIPS):
            clip = torch.from_numpy(samples[int(start * RATE) : int(end * RATE)].copy())[None]
            spectra.append(waveform2melspec(clip, RATE, MEL_BINS, MEL_FRAMES))
        return {"audio": ((torch.stack(spectra) - MEL_MEAN) / MEL_DEVIATION)[None]}

    def clips(self, clips: Sequence[Sequence[Any]]) -> Tensors:
        """Return `vision` (1, 15, 3, 2, 224, 224): three square crops of each clip, left to right or top to bottom."""
        from imagebind.data import uniform_crop

        squares = []
        for frames in clips:
            pixels = normalised(np.stack([np.asarray(frame) for frame in frames]))
            for place in range(3):
                square, _ = uniform_crop(pixels, SIDE, place, scale_size=SIDE)
                squares.append(square.transpose(0, 1))
        return {"vision": torch.stack(squares)[None]}


def clip_times(seconds: float, clips: int) -> list[tuple[float, float]]:
    """Return starts and ends of clips of 2 seconds, spread evenly over a recording.

    >>> clip_times(5.0, 3)
    [(0.0, 2.0), (1.5, 3.5), (3.0, 5.0)]
    """
    last = max(0.0, seconds - CLIP_SECONDS)
    starts = [last * number / (clips - 1) for number in range(clips)]
    return [(start, start + CLIP_SECONDS) for start in starts]


def normalised(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(n, height, width, 3) bytes -> (n, 3, height, width) float32 of about unit variance."""
    values = torch.from_numpy(pixels.astype(np.float32) / 255).permute(0, 3, 1, 2)
    return (values - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)


class ImageBindEncoder(Encoder):
    """ImageBind. One model serves all modalities."""

    def __init__(self, model: Any, settings: EncoderSettings):
        dimension = model.modality_heads["vision"][-1].out_features
        super().__init__(model, ImageBindReader(), ("text", "image", "audio", "video"), dimension, settings)

    def media_features(self, modality: str, inputs: Tensors) -> torch.Tensor:
        """Return features. Those of sounds and videos are averaged over clips."""
        ((name, values),) = inputs.items()
        return self.model({name: values})[name]

    def text_features(self, texts: list[str], searched: str) -> torch.Tensor:
        """Return features. One text tower serves all media."""
        from imagebind.data import load_and_transform_text

        return self.model({"text": load_and_transform_text(texts, self.device)})["text"]


def load(name: str, settings: EncoderSettings) -> ImageBindEncoder:
    """Load ImageBind-Huge; see the module's docstring.

    Raises:
        ValueError: the package is not installed, the weights cannot be loaded, or the settings have a number of frames.
    """
    if settings.frames is not None:
        raise ValueError("encoder imagebind: uses 5 clips of 2 frames from every video; leave --frames out")
    try:
        from imagebind.models.imagebind_model import imagebind_huge
    except (ImportError, OSError) as error:  # OSError: a torchaudio that does not fit torch
        raise ValueError(INSTALL.format(getattr(error, "name", None) or str(error).splitlines()[0])) from None
    if not name:
        return ImageBindEncoder(loading("imagebind", lambda: imagebind_huge(pretrained=True), WEIGHTS), settings)
    weights = loading(name, lambda: torch.load(name, map_location="cpu", weights_only=True), WEIGHTS)
    model = imagebind_huge(pretrained=False)
    loading(name, lambda: model.load_state_dict(weights), WEIGHTS)
    return ImageBindEncoder(model, settings)
