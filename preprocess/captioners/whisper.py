"""Whisper models that were trained to describe sounds instead of transcribing speech.

In the models of Kadlčík et al., 2023 (A Whisper transformer for audio captioning trained with synthetic captions and
transfer learning) a caption follows a prefix that names the style, `clotho > caption: ` or `audiocaps > caption: `.
Their checkpoints (MU-NLPC/whisper-{tiny,small,large-v2}-audio-captioning, CC-BY-NC-4.0) have the architecture of
Whisper. For models without such a prefix (laion/sound-effect-captioning-whisper) give `--prompt ""`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cart_fairseq.base.libraries import import_library
from preprocess.captioners.blip import without_prompt
from preprocess.captioners.captioner import Target
from preprocess.captioners.drawing import draw, grouped
from preprocess.captioners.loading import load_writer
from preprocess.captioners.settings import CaptionerSettings
from preprocess.encoders.pretrained import load_part
from preprocess.media.sounds import load_audio

PROMPT = "clotho > caption: "


class SoundCaptioner:
    """Captions the first 30 seconds of sounds.

    Args:
        model: `WhisperForConditionalGeneration`.
        extractor: its feature extractor.
        tokenizer: its tokenizer.
        settings: `prompt` is the prefix of the caption, after the tokens for English and for no time stamps. If it is
            empty, the checkpoint's own generation settings are used.
    """

    modalities = frozenset({"audio"})
    batch_size = 16

    def __init__(self, model: Any, extractor: Any, tokenizer: Any, settings: CaptionerSettings):
        self.model = model
        self.extractor = extractor
        self.tokenizer = tokenizer
        self.settings = settings
        self.prompt = PROMPT if settings.prompt is None else settings.prompt

    def load(self, target: Target) -> NDArray[np.float32]:
        """Return the samples of a sound, (samples,), at the model's rate."""
        return load_audio(target.file, self.extractor.sampling_rate)

    def caption(self, targets: Sequence[Target], loaded: Sequence[NDArray[np.float32]]) -> list[list[str]]:
        """See `Captioner`."""
        count = self.settings.captions_per_item
        inputs = self.extractor(
            list(loaded), sampling_rate=self.extractor.sampling_rate, return_tensors="pt", return_attention_mask=True
        ).to(self.model.device, self.model.dtype)
        names = [(target.item_id, number) for target in targets for number in range(count)]
        begin = {"decoder_input_ids": self._begin(len(names))} if self.prompt else {}
        sequences = draw(self.model, {**inputs, **begin}, names, count, self.settings)
        texts = self.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        return grouped([without_prompt(text, self.prompt) for text in texts], count)

    def _begin(self, rows: int) -> torch.Tensor:
        """Return (rows, tokens) int64, the first tokens of the decoder."""
        tokens = self.tokenizer.prefix_tokens + self.tokenizer(self.prompt, add_special_tokens=False).input_ids
        return torch.tensor([tokens], device=self.model.device).repeat(rows, 1)


def load_whisper(name: str, device: torch.device, dtype: torch.dtype, settings: CaptionerSettings) -> SoundCaptioner:
    """Load a Whisper checkpoint.

    Raises:
        ValueError: it cannot be loaded.
    """
    # otherwise Whisper's `generate` warns about its own settings at every batch
    import_library("transformers").logging.set_verbosity_error()
    model = load_writer("WhisperForConditionalGeneration", name, device, dtype)
    tokenizer = load_part("WhisperTokenizer", name)
    tokenizer.set_prefix_tokens(language="en", task="transcribe")
    return SoundCaptioner(model, load_part("WhisperFeatureExtractor", name), tokenizer, settings)
