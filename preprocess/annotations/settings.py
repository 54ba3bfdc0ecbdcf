"""The published formats and the settings of `read_annotations`. Imports the standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cart_fairseq.base.checks import Settings
from preprocess.data.arguments import check_choice, check_numbers

POLICIES = ("skip", "keep", "fail")
"""What happens to an item whose media file is missing: it is left out, it is written anyway, or the command stops."""


class Format(NamedTuple):
    """A published format.

    Attributes:
        about: the data set and its files in one line.
        files: role of a file -> its published name. The command has a flag for each role.
        optional: whether one file is enough. Otherwise all are needed.
    """

    about: str
    files: Mapping[str, str]
    optional: bool = False


FORMATS = {
    "karpathy": Format(
        "Flickr30k, MS-COCO or Flickr8k: Karpathy's dataset_flickr30k.json, dataset_coco.json or "
        "dataset_flickr8k.json; restval counts as train",
        {"annotations": "dataset_flickr30k.json, dataset_coco.json or dataset_flickr8k.json"},
    ),
    "clotho": Format(
        "Clotho: the csv files of development, validation and evaluation, at least one",
        {
            "train": "clotho_captions_development.csv",
            "valid": "clotho_captions_validation.csv",
            "test": "clotho_captions_evaluation.csv",
        },
        optional=True,
    ),
    "audiocaps": Format(
        "AudioCaps: train.csv, val.csv and test.csv, at least one",
        {"train": "train.csv", "valid": "val.csv", "test": "test.csv"},
        optional=True,
    ),
    "msrvtt": Format(
        "MSR-VTT, the 1k-A split: 9,000 training videos, some of which become the valid set, and 1,000 test videos",
        {
            "annotations": "MSRVTT_data.json",
            "train_list": "MSRVTT_train.9k.csv",
            "test_list": "MSRVTT_JSFUSION_test.csv",
        },
    ),
    "msvd": Format(
        "MSVD: AllVideoDescriptions.txt with the lists of 1,200, 100 and 670 videos",
        {
            "captions": "AllVideoDescriptions.txt, or a .json of video -> captions",
            "train_list": "train_list.txt",
            "valid_list": "val_list.txt",
            "test_list": "test_list.txt",
        },
    ),
}
"""Name of a reader -> its format."""


@dataclass(frozen=True)
class AnnotationSettings(Settings):
    """Settings of `read_annotations`. Every field is also a flag of the command.

    Attributes:
        missing_media: what happens to items without their media file: `skip` leaves them out, `keep` writes them all
            the same, `fail` refuses.
        valid_size: for MSR-VTT: number of training videos that become the validation set. 497 is the size of the
            original one; 0: no validation set.
        seed: for MSR-VTT: seed of the choice of these videos.

    Raises:
        ValueError: a value is out of range; the message names its flag.
    """

    missing_media: str = "skip"
    valid_size: int = 497
    seed: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "missing_media", POLICIES)
        check_numbers(self, "valid_size", "seed", at_least=0)
