"""MSVD's captions with the lists of its split.

Files: `AllVideoDescriptions.txt`, `train_list.txt`, `val_list.txt` and `test_list.txt`.

Sources: the captions are from Chen and Dolan, Collecting Highly Parallel Data for Paraphrase Evaluation (2011),
https://www.cs.utexas.edu/users/ml/clamp/videoDescription/. The split is from Venugopalan et al. (2015). The lists, with
one video on each line, are in `msvd_data.zip` of CLIP4Clip (https://github.com/ArrowLuo/CLIP4Clip) and in X-Pool
(https://github.com/layer6ai-labs/xpool, `data/MSVD`). The file of captions begins with `#` lines, followed by one
caption on each line::

    -4wsuPCjDBc_5_15 a squirrel is eating a peanut in it's shell

CLIP4Clip reads the same captions from `raw-captions.pkl`. A pickle can run code when it is opened, so this reader
refuses it. X-Pool has the same captions as JSON (`captions_msvd.json`, video -> captions), which this reader accepts.
Captions of videos that are on no list are left out. Videos are named `-4wsuPCjDBc_5_15.avi` (YouTube id, start and end
in seconds).
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

from preprocess.annotations.entries import Entry, Published, Reading, Seen, check_text
from preprocess.annotations.sources import read_json, read_names, read_text
from preprocess.data.fields import SPLITS

SUFFIXES = (".avi", ".mp4", ".webm", ".mkv")
COUNTS = {"train": 1200, "valid": 100, "test": 670}
PUBLISHED = Published("msvd", COUNTS, COUNTS)


def read(captions: Path, lists: Mapping[str, Path]) -> Reading:
    """Read the files.

    Args:
        captions: AllVideoDescriptions.txt, or a `.json` of video -> captions.
        lists: split -> list of its videos.

    Raises:
        ValueError: a file has another format or is a pickle, a video is listed twice, or a video has no caption.
    """
    seen = Seen("video", "a video belongs to one split and is listed once")
    rows: dict[str, tuple[str, str]] = {}
    for split in (split for split in SPLITS if split in lists):
        for where, video in read_names(lists[split]):
            seen.add(where, video)
            rows[video] = split, where
    if captions.suffix in (".pkl", ".pickle"):
        raise ValueError(
            f"{captions}: is a pickle, which can run code when it is opened; give AllVideoDescriptions.txt or a .json "
            "of video -> captions instead"
        )
    texts = _from_json(captions, rows) if captions.suffix == ".json" else _from_lines(captions, rows)
    entries = []
    for video, (split, where) in rows.items():
        if not texts.get(video):
            raise ValueError(f"{where}: video {video!r} has no caption in {captions}; use the lists of this file")
        files = tuple(video + suffix for suffix in SUFFIXES)
        entries.append(Entry(video, "video", split, files, tuple(texts[video])))
    return Reading(entries, PUBLISHED)


def _from_lines(path: Path, wanted: Collection[str]) -> dict[str, list[str]]:
    texts = defaultdict(list)
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        video, _, text = line.strip().partition(" ")
        if video in wanted:
            texts[video].append(check_text(f"{path}, row {number}", "the description", text))
    return texts


def _from_json(path: Path, wanted: Collection[str]) -> dict[str, list[str]]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: found {type(content).__name__}, must be an object of video -> array of captions")
    texts = {}
    for video in wanted:
        found = content.get(video, [])
        if not isinstance(found, list):
            raise ValueError(f"{path}: {video!r} is {repr(found)[:40]}, must be an array of captions; correct it")
        texts[video] = [check_text(f"{path}, {video!r}", f"caption {n}", text) for n, text in enumerate(found, start=1)]
    return texts
