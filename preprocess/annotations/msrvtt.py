"""MSR-VTT's captions with the lists of the 1k-A split.

Files: `MSRVTT_data.json`, `MSRVTT_train.9k.csv` and `MSRVTT_JSFUSION_test.csv`.

Sources: the captions are from Xu et al., MSR-VTT (2016). The 1,000 test videos, each with one query, are from Yu et
al., JSFusion (2018). The 9,000 training videos are from Gabeur et al., MMT (2020). All three files are in
`msrvtt_data.zip` of CLIP4Clip (https://github.com/ArrowLuo/CLIP4Clip), and in https://github.com/layer6ai-labs/xpool::

    {"info": {...},
     "videos": [{"video_id": "video0", "category": 9, "url": "...", "start time": 137.72, ...}, ...],
     "sentences": [{"sen_id": 0, "video_id": "video0", "caption": "a car is shown"}, ...]}

    video_id                    key,vid_key,video_id,sentence
    video0                      ret0,msr9770,video9770,a person is connecting something to system

Videos are named `video0.mp4` …; CLIP4Clip also reads `.webm`. For a test video only the sentence of the list is used,
as in published results.

The split has no valid set; other projects choose the checkpoint on the test set. This reader holds out a random sample
of the 9,000 videos. It has 497 videos, the size of the valid set in MSR-VTT's original split. `--valid-size 0` trains
on all 9,000.
"""

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import numpy as np

from preprocess.annotations.entries import Entry, Published, Reading, Seen, check_name, check_text
from preprocess.annotations.settings import AnnotationSettings
from preprocess.annotations.sources import read_array, read_json, read_table

SUFFIXES = (".mp4", ".webm", ".avi", ".mkv")
COUNTS = {"train": 9000, "test": 1000}
PUBLISHED = Published("msrvtt", COUNTS, COUNTS, "the valid set is a random sample of the 9,000 training videos")


def read(
    annotations: Path,
    train_list: Path,
    test_list: Path,
    valid_size: int = AnnotationSettings.valid_size,
    seed: int = AnnotationSettings.seed,
) -> Reading:
    """Read the files.

    Args:
        valid_size: number of videos of the training list that become the valid set.
        seed: seed for choosing them. The choice does not depend on the order of the list.

    Raises:
        ValueError: a file has another format, a video is listed twice, a training video has no caption, or there are
            not more than `valid_size` training videos.
    """
    seen = Seen("video_id", "a video belongs to one split and is listed once")
    rows = {}
    for where, row in read_table(train_list, ("video_id",)):
        video = check_name(where, "video_id", row["video_id"])
        seen.add(where, video)
        rows[video] = where
    queries = {}
    for where, row in read_table(test_list, ("video_id", "sentence")):
        video = check_name(where, "video_id", row["video_id"])
        seen.add(where, video)
        queries[video] = (check_text(where, "sentence", row["sentence"]),)
    if valid_size >= len(rows):
        raise ValueError(
            f"{train_list}: {len(rows)} videos are too few for a valid set of {valid_size}; lower --valid-size"
        )
    chosen = np.random.default_rng(seed).permutation(len(rows))[:valid_size]
    ordered = sorted(rows)
    valid = {ordered[i] for i in chosen}
    captions = _captions(annotations, rows)
    entries = []
    for video, where in rows.items():
        if video not in captions:
            raise ValueError(
                f"{where}: video_id {video!r} has no sentence in {annotations}; use the lists of this file"
            )
        split = "valid" if video in valid else "train"
        entries.append(Entry(video, "video", split, _files(video), tuple(captions[video])))
    entries += [Entry(video, "video", "test", _files(video), query) for video, query in queries.items()]
    return Reading(entries, PUBLISHED)


def _captions(annotations: Path, wanted: Collection[str]) -> dict[str, list[str]]:
    captions = defaultdict(list)
    for number, sentence in enumerate(read_array(annotations, read_json(annotations), "sentences"), start=1):
        where = f"{annotations}, row {number} of sentences"
        video = check_name(where, "video_id", sentence.get("video_id"))
        if video in wanted:
            captions[video].append(check_text(where, "caption", sentence.get("caption")))
    return captions


def _files(video: str) -> tuple[str, ...]:
    return tuple(video + suffix for suffix in SUFFIXES)
