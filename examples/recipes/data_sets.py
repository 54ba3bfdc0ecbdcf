"""The paper's six data sets: what their folders hold, what describes their items, and what CART reached on them (Table 2)."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        reader: of ``preprocess.annotations``.
        files: flags of the reader, each with the name of a file in the folder of downloads.
        figures: the paper's R@1, R@5, R@10 and MRR@10 on the test queries, in percent.
        captioner: that writes index captions, unless CAPTIONER names another one; the paper does not name its own.
        whisper_prompt: what the captioner ``whisper`` is asked with.
    """

    reader: str
    files: dict[str, str]
    figures: tuple[float, float, float, float]
    captioner: str = "blip2"
    whisper_prompt: str | None = None

    def annotation_flags(self, raw: Path) -> list[str]:
        """The reader and its flags, for downloads in the folder `raw`; media may be in any folders below."""
        files = [text for flag, name in self.files.items() for text in (flag, str(raw / name))]
        return [self.reader, *files, "--media", str(raw)]

    def caption_flags(self, captioner: str) -> list[str]:
        """Flags of ``generate_captions`` that belong to this data set."""
        family = captioner.partition(":")[0]
        return ["--prompt", self.whisper_prompt] if self.whisper_prompt and family == "whisper" else []


DATA_SETS = {
    "mscoco": DataSet("karpathy", {"--annotations": "dataset_coco.json"}, (52.4, 77.5, 86.1, 63.2)),
    "flickr30k": DataSet("karpathy", {"--annotations": "dataset_flickr30k.json"}, (81.8, 96.1, 98.4, 88.0)),
    "clotho": DataSet(
        "clotho",
        {
            "--train": "clotho_captions_development.csv",
            "--valid": "clotho_captions_validation.csv",
            "--test": "clotho_captions_evaluation.csv",
        },
        (46.4, 70.6, 76.0, 52.3),
        captioner="whisper",
    ),
    "audiocaps": DataSet(
        "audiocaps",
        {"--train": "train.csv", "--valid": "val.csv", "--test": "test.csv"},
        (49.8, 79.8, 86.8, 62.0),
        captioner="whisper",
        whisper_prompt="audiocaps > caption: ",  # the style of this data set, which the model was trained in, too
    ),
    "msrvtt": DataSet(
        "msrvtt",
        {
            "--annotations": "MSRVTT_data.json",
            "--train-list": "MSRVTT_train.9k.csv",
            "--test-list": "MSRVTT_JSFUSION_test.csv",
        },
        (52.6, 75.4, 84.2, 61.8),
    ),
    "msvd": DataSet(
        "msvd",
        {
            "--captions": "AllVideoDescriptions.txt",
            "--train-list": "train_list.txt",
            "--valid-list": "val_list.txt",
            "--test-list": "test_list.txt",
        },
        (63.6, 87.9, 92.8, 73.6),
    ),
}
