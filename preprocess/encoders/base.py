"""The common part of all encoders: a `Reader` and an `Encoder`.

A `Reader` decodes media and prepares the model's inputs. It holds no model, so it can be sent to worker processes. An
`Encoder` holds the model and computes embeddings of length 1 on one device.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from preprocess.media.frames import load_frames
from preprocess.media.images import load_image
from preprocess.media.reading import reading
from preprocess.media.sounds import load_audio

FRAMES = 12
"""Frames of a video for encoders of images, as in CLIP4Clip."""
MASKS = ("attention_mask", "padding_mask")
"""Names of inputs that mask the padding of sounds."""

Tensors = dict[str, torch.Tensor]


class MediaSample(NamedTuple):
    """A file to embed. The modality is image, audio or video."""

    modality: str
    path: str | Path


@dataclasses.dataclass(frozen=True)
class EncoderSettings:
    """How an encoder runs.

    Attributes:
        device: name in torch: cpu, cuda, cuda:1.
        precision: precision of matrix products, by autocast. Weights stay float32.
        frames: frames of a video. None: the encoder's own number.
    """

    device: str
    precision: str
    frames: int | None


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads media with the processors of `transformers`. It can be pickled.

    Attributes:
        image_processor: for images and frames of videos, or None.
        feature_extractor: for sounds, or None.
        frames: number of frames per video.
    """

    image_processor: Any = None
    feature_extractor: Any = None
    frames: int = FRAMES

    def __call__(self, modality: str, path: str | Path) -> Tensors:
        """Return the inputs of one file. Their first dimension is 1, or the number of frames encoded separately.

        Raises:
            ValueError: the file cannot be read or prepared; the message names it.
        """
        with reading(path, modality):
            if modality == "audio":
                return self.sound(load_audio(path, self.feature_extractor.sampling_rate))
            if modality == "image":
                return self.pictures([load_image(path)])
            return self.pictures(load_frames(path, self.frames))

    def pictures(self, images: Sequence[Any]) -> Tensors:
        """Return the inputs of images, or of the frames of one video."""
        return tensors(self.image_processor(images=list(images), return_tensors="pt"))

    def sound(self, samples: NDArray[np.float32]) -> Tensors:
        """Return the inputs of a sound."""
        rate = self.feature_extractor.sampling_rate
        return tensors(self.feature_extractor(samples, sampling_rate=rate, return_tensors="pt"))


class ClipReader(Reader):
    """Gives all frames of a video to the model at once."""

    def pictures(self, images: Sequence[Any]) -> Tensors:
        """Return the inputs (1, F, ...) of the frames of one video."""
        inputs = super().pictures(images)
        return {name: value if value.ndim == 5 else value.unsqueeze(0) for name, value in inputs.items()}


def tensors(inputs: Mapping[str, Any]) -> Tensors:
    """Return the tensors among a processor's outputs."""
    return {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}


class Batch(NamedTuple):
    """Inputs of several media that the model encodes together.

    Attributes:
        modality: the modality of all of them.
        places: their positions among the samples.
        inputs: for each medium one row, or one row per frame.
    """

    modality: str
    places: list[int]
    inputs: Tensors


def collate(samples: Sequence[tuple[int, str, Tensors]]) -> list[Batch]:
    """Group (place, modality, inputs) into batches of one modality. Sizes are equal unless a mask allows padding."""
    groups: dict[tuple[str, tuple[tuple[str, torch.Size], ...]], list[tuple[int, Tensors]]] = {}
    for place, modality, inputs in samples:
        padded = any(mask in inputs for mask in MASKS)
        shapes = tuple((name, inputs[name].shape[:-1] if padded else inputs[name].shape) for name in sorted(inputs))
        groups.setdefault((modality, shapes), []).append((place, inputs))
    batches = []
    for (modality, _), members in groups.items():
        joined = {}
        for name in members[0][1]:
            parts = [inputs[name] for _, inputs in members]
            longest = max(part.shape[-1] for part in parts)
            padding = [torch.nn.functional.pad(part, (0, longest - part.shape[-1])) for part in parts]
            joined[name] = torch.cat(padding)
        batches.append(Batch(modality, [place for place, _ in members], joined))
    return batches


def first_of(batch: Batch) -> Batch:
    """Return a batch of the first medium alone."""
    count = len(batch.places)
    return Batch(
        batch.modality, batch.places[:1], {name: value[: len(value) // count] for name, value in batch.inputs.items()}
    )


class Encoder(ABC):
    """A frozen model that computes embeddings of media, texts or both, of length 1.

    Attributes:
        reader: prepares media. None for encoders of text.
        modalities: the modalities that the encoder accepts, of image, audio, video and text.
        dimension: D, the width of an embedding.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        reader: Reader | None,
        modalities: Sequence[str],
        dimension: int,
        settings: EncoderSettings,
    ):
        self.device = torch.device(settings.device)
        self.model = model.to(self.device).eval()
        self.reader = reader
        self.modalities = frozenset(modalities)
        self.dimension = dimension
        self._autocast = None if settings.precision == "float32" else getattr(torch, settings.precision)

    @abstractmethod
    def media_features(self, modality: str, inputs: Tensors) -> torch.Tensor:
        """Return (rows, D) features of prepared media. Several rows of one sample are averaged later."""

    @abstractmethod
    def text_features(self, texts: list[str], searched: str) -> torch.Tensor:
        """Return (n, D) features of texts that search for media of the modality `searched`."""

    def _rows(self, features: torch.Tensor, count: int) -> NDArray[np.float32]:
        """(count * F, D) features -> (count, D): F features normalised and averaged, and the mean normalised."""
        single = torch.nn.functional.normalize(features.float(), dim=-1)
        mean = single.view(count, -1, single.shape[-1]).mean(dim=1)
        return torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()

    def _computing(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None)

    @torch.inference_mode()
    def embed_batch(self, batch: Batch) -> NDArray[np.float32]:
        """Return the (n, D) float32 embeddings of a batch, in its order."""
        inputs = {name: value.to(self.device, non_blocking=True) for name, value in batch.inputs.items()}
        with self._computing():
            features = self.media_features(batch.modality, inputs)
        return self._rows(features, len(batch.places))

    def embed_media(self, samples: Sequence[MediaSample]) -> NDArray[np.float32]:
        """Read and embed files.

        Returns:
            (n, D) float32, a row of length 1 for each sample.

        Raises:
            ValueError: a file cannot be read, or the encoder does not accept a modality.
        """
        rows = np.empty((len(samples), self.dimension), dtype=np.float32)
        prepared = []
        for place, sample in enumerate(samples):
            self.check(sample.modality)
            assert self.reader is not None
            prepared.append((place, sample.modality, self.reader(*sample)))
        for batch in collate(prepared):
            rows[batch.places] = self.embed_batch(batch)
        return rows

    @torch.inference_mode()
    def embed_text(self, texts: Sequence[str], searched: str = "image") -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: the texts. Texts longer than the model's limit are truncated.
            searched: modality of the media to be found, for encoders with a text tower per modality (pe-av).

        Returns:
            (n, D) float32, a row of length 1 for each text.

        Raises:
            ValueError: the encoder has no text tower, or none for this modality.
        """
        self.check("text")
        with self._computing():
            features = self.text_features(list(texts), searched)
        return self._rows(features, len(texts))

    def check(self, modality: str) -> None:
        """Refuse a modality that the encoder does not accept."""
        if modality not in self.modalities:
            known = ", ".join(sorted(self.modalities))
            raise ValueError(f"{type(self).__name__} accepts {known}, not {modality}; choose another encoder")
