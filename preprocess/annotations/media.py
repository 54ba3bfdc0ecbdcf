"""Find the media files of a data set in a folder of any layout."""

import os
import unicodedata
from collections import defaultdict
from pathlib import Path, PurePosixPath

from cart_fairseq.base.progress import Progress
from preprocess.annotations.entries import Entry


def composed(name: str) -> str:
    """A name with letters and accents as one character each (NFC); some systems store them apart (NFD).

    >>> composed("u\u0308.jpg") == "ü.jpg"
    True
    """
    return unicodedata.normalize("NFC", name)


class MediaFolder:
    """The files below a folder, found by name. Links to folders are followed.

    Raises:
        ValueError: there is no such folder.
    """

    def __init__(self, path: Path):
        if not path.is_dir():
            raise ValueError(f"{path}: no such folder; check --media")
        self.path = path
        self._paths: dict[str, list[str]] = defaultdict(list)
        self._owner: dict[str, str] = {}
        visited = set()
        with Progress(None, "looking for media", "files") as progress:
            for folder, folders, files in os.walk(path, followlinks=True):
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in visited:
                    folders.clear()
                    continue
                visited.add((status.st_dev, status.st_ino))
                below = Path(folder).relative_to(path)
                for name in files:
                    self._paths[composed(name)].append((below / name).as_posix())
                progress.update(len(files))

    def find(self, entry: Entry) -> str | None:
        """Return the path of an entry's media file below the folder, or None if there is none.

        A name matches the end of a path. The first of the entry's names that matches a file is used. If several files
        match, a file at exactly that path is preferred.

        Raises:
            ValueError: several files match the name, or the file already belongs to another entry.
        """
        for name in entry.files:
            paths = self._paths.get(composed(PurePosixPath(name).name), [])
            known = composed(name)
            paths = [path for path in paths if composed(path) == known or composed(path).endswith("/" + known)]
            paths = [path for path in paths if (self.path / path).is_file()]  # excludes broken links
            if not paths:
                continue
            same = [path for path in paths if path == name] or [path for path in paths if composed(path) == known]
            if len(paths) > 1 and not same:
                raise ValueError(
                    f"{self.path}: {paths[0]!r} and {paths[1]!r} both match the file of item {entry.item_id!r}; "
                    "give the folder of one of them as --media"
                )
            path = (same or paths)[0]
            owner = self._owner.setdefault(path, entry.item_id)
            if owner != entry.item_id:
                raise ValueError(
                    f"{self.path}: {path!r} matches the files of two items, {owner!r} and {entry.item_id!r}; rename it "
                    f"to {entry.files[0]!r} or to the published name of the other item's file"
                )
            return path
        return None
