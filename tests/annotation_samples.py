"""Miniature annotation files in the published formats of the paper's six data sets, without any media.

Each writer takes samples, writes what a person downloads into a folder, and returns the media file that each sample
names: paths relative to the folder of the media, in the order of the samples. Where the formats are described:
`preprocess.annotations`, one module a format.
"""

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image, sound or video.

    Attributes:
        split: train, valid or test. MSR-VTT has no valid list: there, valid samples stand in the list of training.
        captions: texts that describe it; Clotho takes exactly five, and of an MSR-VTT test video the first is the query.
    """

    split: str
    captions: Sequence[str]


def make_samples(train: int = 4, valid: int = 2, test: int = 2, captions: int = 5) -> list[Sample]:
    """Samples with texts of their own, the training ones first."""
    splits = ["train"] * train + ["valid"] * valid + ["test"] * test
    return [
        Sample(split, [f"Thing {number}, seen for the {n + 1}. time" for n in range(captions)])
        for number, split in enumerate(splits)
    ]


def write_flickr30k(folder: Path, samples: Sequence[Sample]) -> list[str]:
    """`dataset_flickr30k.json`; media `1000092795.jpg` …"""
    media = [f"{1000092795 + 7 * number}.jpg" for number in range(len(samples))]
    _write_karpathy(folder, "flickr30k", samples, [{"filename": name} for name in media])
    return media


def write_mscoco(folder: Path, samples: Sequence[Sample]) -> list[str]:
    """`dataset_coco.json`; media `train2014/COCO_train2014_000000000009.jpg` …; every other training image is `restval`.

    As in the real file, images of val2014 are the `restval`, `val` and `test` ones.
    """
    fields: list[dict[str, Any]] = []
    for number, sample in enumerate(samples):
        cocoid = 9 + 16 * number
        restval = sample.split == "train" and number % 2 == 1
        year = "train2014" if sample.split == "train" and not restval else "val2014"
        fields.append({"filepath": year, "filename": f"COCO_{year}_{cocoid:012d}.jpg", "cocoid": cocoid})
        if restval:
            fields[-1]["split"] = "restval"
    _write_karpathy(folder, "coco", samples, fields)
    return [f"{field['filepath']}/{field['filename']}" for field in fields]


def _write_karpathy(folder: Path, dataset: str, samples: Sequence[Sample], fields: Sequence[dict[str, Any]]) -> None:
    images, sentid = [], 0
    for imgid, (sample, own) in enumerate(zip(samples, fields, strict=True)):
        sentences = []
        for text in sample.captions:
            tokens = "".join(c for c in text.lower() if c.isalnum() or c.isspace()).split()
            sentences.append({"tokens": tokens, "raw": text, "imgid": imgid, "sentid": sentid})
            sentid += 1
        split = {"valid": "val"}.get(sample.split, sample.split)
        sentids = [sentence["sentid"] for sentence in sentences]
        images.append({"sentids": sentids, "imgid": imgid, "sentences": sentences, "split": split, **own})
    write_json(folder / f"dataset_{dataset}.json", {"images": images, "dataset": dataset})


def write_clotho(folder: Path, samples: Sequence[Sample]) -> list[str]:
    """`clotho_captions_{development,validation,evaluation}.csv`; media `development/Street, night 0.wav` …"""
    folders = {"train": "development", "valid": "validation", "test": "evaluation"}
    names = [f"Street, night {number}.wav" for number in range(len(samples))]
    for split in SPLITS:
        rows = [[name, *sample.captions] for name, sample in zip(names, samples) if sample.split == split]
        header = ["file_name", *(f"caption_{number}" for number in range(1, 6))]
        write_csv(folder / f"clotho_captions_{folders[split]}.csv", header, rows)
    return [f"{folders[sample.split]}/{name}" for name, sample in zip(names, samples)]


def write_audiocaps(folder: Path, samples: Sequence[Sample]) -> list[str]:
    """`train.csv`, `val.csv`, `test.csv`, one row a caption; media `-abcdefgh00_30.wav` (YouTube id, start in seconds).

    As in the real files, a clip's rows need not follow each other.
    """
    clips = [(f"-abcdefgh{number:02d}", 30 + 10 * number) for number in range(len(samples))]
    for split, name in zip(SPLITS, ("train", "val", "test"), strict=True):
        chosen = [i for i, sample in enumerate(samples) if sample.split == split]
        most = max((len(samples[i].captions) for i in chosen), default=0)
        pairs = [(i, n) for n in range(most) for i in chosen if n < len(samples[i].captions)]
        rows = [[91000 + 10 * i + n, *clips[i], samples[i].captions[n]] for i, n in pairs]
        write_csv(folder / f"{name}.csv", ["audiocap_id", "youtube_id", "start_time", "caption"], rows)
    return [f"{youtube_id}_{start}.wav" for youtube_id, start in clips]


def write_msrvtt(folder: Path, samples: Sequence[Sample]) -> list[str]:
    """`MSRVTT_data.json`, `MSRVTT_train.9k.csv`, `MSRVTT_JSFUSION_test.csv`; media `video0.mp4` …

    The JSON has every caption of every video, the test list one sentence a video.
    """
    ids = [f"video{number}" for number in range(len(samples))]
    videos = [
        {
            "category": 9,
            "url": f"https://www.youtube.com/watch?v=abcdefghi{number:02d}",
            "video_id": video,
            "start time": 137.72,
            "end time": 149.44,
            "split": "train" if sample.split == "train" else "test",
            "id": number,
        }
        for number, (video, sample) in enumerate(zip(ids, samples, strict=True))
    ]
    pairs = [(video, text) for video, sample in zip(ids, samples) for text in sample.captions]
    sentences = [{"caption": text, "video_id": video, "sen_id": n} for n, (video, text) in enumerate(pairs)]
    info = {"contributor": "", "data_created": "2016-04-14", "version": "1.0", "description": "", "year": "2016"}
    write_json(folder / "MSRVTT_data.json", {"info": info, "videos": videos, "sentences": sentences})
    trained = [[video] for video, sample in zip(ids, samples) if sample.split != "test"]
    write_csv(folder / "MSRVTT_train.9k.csv", ["video_id"], trained)
    tested = [(video, sample.captions[0]) for video, sample in zip(ids, samples) if sample.split == "test"]
    rows = [[f"ret{n}", f"msr{video[5:]}", video, text] for n, (video, text) in enumerate(tested)]
    write_csv(folder / "MSRVTT_JSFUSION_test.csv", ["key", "vid_key", "video_id", "sentence"], rows)
    return [f"{video}.mp4" for video in ids]


def write_msvd(folder: Path, samples: Sequence[Sample]) -> list[str]:
    """`AllVideoDescriptions.txt`, `{train,val,test}_list.txt`; media `-abcdefgh00_5_15.avi` (YouTube id, start, end)."""
    ids = [f"-abcdefgh{number:02d}_5_{15 + number}" for number in range(len(samples))]
    lines = ["# Descriptions of the videos", "# Each line: the name of a video, a space, a description", ""]
    for video, sample in zip(ids, samples, strict=True):
        lines += [f"{video} {text}" for text in sample.captions]
    write_lines(folder / "AllVideoDescriptions.txt", lines)
    for split, name in zip(SPLITS, ("train", "val", "test"), strict=True):
        chosen = [video for video, sample in zip(ids, samples) if sample.split == split]
        write_lines(folder / f"{name}_list.txt", chosen)
    return [f"{video}.avi" for video in ids]


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
