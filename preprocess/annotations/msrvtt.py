"""MSR-VTT's captions with the lists of the 1k-A split: `MSRVTT_data.json`, `MSRVTT_train.9k.csv`, `MSRVTT_JSFUSION_test.csv`.

Sources: Xu et al., MSR-VTT (2016), for the captions; Yu et al., JSFusion (2018), for the 1,000 test videos, each with one
query; Gabeur et al., MMT (2020), for the 9,000 others to train on. All three files are in `msrvtt_data.zip` of CLIP4Clip
(https://github.com/ArrowLuo/CLIP4Clip), whose loaders read them; https://github.com/layer6ai-labs/xpool has them as well::

    {"info": {...},
     "videos": [{"video_id": "video0", "category": 9, "url": "...", "start time": 137.72, "end time": 149.44, ...}, ...],
     "sentences": [{"sen_id": 0, "video_id": "video0", "caption": "a car is shown"}, ...]}

    video_id                    key,vid_key,video_id,sentence
    video0                      ret0,msr9770,video9770,a person is connecting something to system

Videos are `video0.mp4` …; CLIP4Clip also takes `.webm`. Of a test video only the sentence of the list is used: the others would
be queries that nobody else measures with.

The split has no valid set (others choose their checkpoint on the test set). Here a seeded sample of the 9,000 is held out, as
many as the original split of MSR-VTT validates on: 497; `--valid-size 0` trains on all 9,000.
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
PUBLISHED = Published("msrvtt", COUNTS, COUNTS, "the valid set is a seeded sample of the 9,000 videos to train on")


def read(
    annotations: Path,
    train_list: Path,
    test_list: Path,
    valid_size: int = AnnotationSettings.valid_size,
    seed: int = AnnotationSettings.seed,
) -> Reading:
    """Read the files.

    Args:
        valid_size: how many videos of the training list become the valid set.
        seed: chooses them, whatever the order of the list.

    Raises:
        ValueError: not this format, a video on both lists or twice on one, a video to train on without a caption, or fewer
            videos than `valid_size` asks for.
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
        raise ValueError(f"{train_list}: {len(rows)} videos, of which {valid_size} cannot validate; lower --valid-size")
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
