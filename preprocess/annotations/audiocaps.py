"""AudioCaps' csv files: `train.csv`, `val.csv`, `test.csv`.

Source: Kim et al., AudioCaps: Generating Captions for Audios in The Wild (2019), https://github.com/cdjkim/audiocaps,
`dataset/`. Each row is one caption. A clip of val or test has five rows, which need not be adjacent::

    audiocap_id,youtube_id,start_time,caption
    97151,vfY_TJq7n_U,130,"Rustling occurs, ducks quack and water splashes, followed by ..."

`start_time` is in seconds. A clip lasts ten seconds. `dataset2.0/` has the same format. The sounds are on YouTube, and
no file names are published. The reader tries these names, which other projects use, in this order:

- `vfY_TJq7n_U_130.wav`: aac-datasets (https://github.com/Labbeti/aac-datasets)
- `YvfY_TJq7n_U.wav`: AudioSet's tools, WavCaps (https://github.com/XinhaoMei/WavCaps)
- `vfY_TJq7n_U_130.000_140.000.wav`: ChatBridge (https://github.com/CASIA-IVA-Lab/ChatBridge/issues/3)
- `vfY_TJq7n_U.wav`
- `97151.wav`, any `audiocap_id` of the clip: audiocaps-download (https://github.com/MorenoLaQuatra/audiocaps-download)
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from preprocess.annotations.entries import Entry, Published, Reading, Seen, check_name, check_text
from preprocess.annotations.sources import read_table
from preprocess.data.fields import SPLITS

COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")
SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg")
CLIP_SECONDS = 10
PUBLISHED = Published(
    "audiocaps",
    {"train": 49838, "valid": 495, "test": 975},
    {"train": 37869, "valid": 384, "test": 737},
    "the paper used only the clips that were still on YouTube; some are gone",
)


@dataclasses.dataclass
class Clip:
    """The rows of one clip, in file order."""

    youtube_id: str
    start: int
    ids: list[str] = dataclasses.field(default_factory=list)
    captions: list[str] = dataclasses.field(default_factory=list)

    def files(self) -> tuple[str, ...]:
        """Possible names of its media file, in the order in which they are tried."""
        end = self.start + CLIP_SECONDS
        stems = [f"{self.youtube_id}_{self.start}", f"Y{self.youtube_id}"]
        stems += [f"{self.youtube_id}_{self.start}.000_{end}.000", self.youtube_id, *self.ids]
        return tuple(stem + suffix for stem in stems for suffix in SUFFIXES)


def read(paths: Mapping[str, Path]) -> Reading:
    """Read the files. Each clip is an item with the id `YOUTUBE_ID_START`.

    Args:
        paths: split -> csv file. Splits may be left out.

    Raises:
        ValueError: a file has another format, a row has a bad id, start or caption, or a clip is in two splits.
    """
    entries = []
    captions, clips_of = Seen("audiocap_id", "remove one of the two"), Seen("the clip", "a clip belongs to one split")
    for split in (split for split in SPLITS if split in paths):
        clips: dict[str, Clip] = {}
        for where, row in read_table(paths[split], COLUMNS):
            number = check_name(where, "audiocap_id", row["audiocap_id"])
            captions.add(where, number)
            youtube_id = check_name(where, "youtube_id", row["youtube_id"])
            start = row["start_time"]
            if not (start.isascii() and start.isdecimal()):
                raise ValueError(f"{where}: start_time is {start!r}, must be whole seconds; correct the row")
            item_id = f"{youtube_id}_{int(start)}"
            if item_id not in clips:
                clips_of.add(where, item_id)
                clips[item_id] = Clip(youtube_id, int(start))
            clips[item_id].ids.append(number)
            clips[item_id].captions.append(check_text(where, "caption", row["caption"]))
        entries += [Entry(i, "audio", split, clip.files(), tuple(clip.captions)) for i, clip in clips.items()]
    return Reading(entries, PUBLISHED)
