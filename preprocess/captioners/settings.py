"""Settings of `generate_captions`, with the default of every flag of its command. Imports the standard library only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cart_fairseq.base.checks import Settings
from preprocess.data.arguments import check_choice, check_numbers
from preprocess.data.fields import ON_ERROR, SPLITS
from preprocess.encoders.settings import PRECISIONS

NEIGHBOURS = 40
"""Training items that an item borrows captions from."""


@dataclass(frozen=True)
class CaptionerSettings(Settings):
    """How many captions a captioner writes for an item, and how a model draws them.

    Attributes:
        captions_per_item: largest number of new captions of an item.
        temperature: divides the logits before the softmax.
        top_p: probability mass of the nucleus that tokens are drawn from (Holtzman et al., 2020); BLIP uses 0.9.
        seed: seed of the draws.
        max_new_tokens: longest caption, in tokens of the model.
        prompt: instruction or beginning for the model. None: the default of the model's family.
        frames: frames of a video that the model sees together, if it can read several.

    Raises:
        ValueError: a value is out of range; the message names its flag.
    """

    captions_per_item: int = 5
    temperature: float = 1.0
    top_p: float = 0.9
    seed: int = 1
    max_new_tokens: int = 50
    prompt: str | None = None
    frames: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "captions_per_item", "max_new_tokens", "frames")
        check_numbers(self, "seed", at_least=0)
        if not self.temperature > 0:
            raise ValueError(f"--temperature is {self.temperature}; it must be above 0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top-p is {self.top_p}; it must be above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class CaptionSettings(CaptionerSettings):
    """Settings of `generate_captions`. Every field is also a flag of the command.

    Attributes:
        captioner: `FAMILY` or `FAMILY:NAME_OR_PATH`. The families are `blip`, `blip2`, `image-text-to-text`,
            `whisper` and `neighbours`.
        neighbours: number of training items that an item borrows from, with the captioner `neighbours`.
        splits: caption only the items of these splits. None: all items.
        batch_size: items at a time. None: the captioner's own number.
        workers: threads that read media.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        precision: of the model: `float32`, `float16` or `bfloat16`.
        on_error: for media that cannot be read: `fail` stops, `skip` leaves the item out and lists it in the report.
        media_within: refuse items whose media lie outside of this folder, or have an absolute path. None: media may lie
            anywhere. For lists of strangers.
    """

    captioner: str
    neighbours: int = NEIGHBOURS
    splits: Sequence[str] | None = None
    batch_size: int | None = None
    workers: int = 4
    device: str = "auto"
    precision: str = "float32"
    on_error: str = "fail"
    media_within: str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "neighbours", "batch_size", "workers")
        check_choice(self, "precision", PRECISIONS)
        check_choice(self, "on_error", ON_ERROR)
        for split in self.splits or ():
            if split not in SPLITS:
                raise ValueError(f"--splits has {split!r}; it must be of {', '.join(SPLITS)}")
