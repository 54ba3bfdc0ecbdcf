"""What a step writes, a folder or a file: whether it may be replaced, whether it is current, and how it is replaced.

Each step has a `Kind`, which says how its output is recognised and read, and goes through the same stages:

    output = Output(path, KIND)
    if output.is_current(made_from):         # refuses to replace files of somebody else
        return
    with output.working(key) as work:        # OUTPUT.partial/, kept if the run is killed
        ...
        with output.replacing() as new:      # renamed to OUTPUT when complete
            ...

A step that keeps nothing of an interrupted run has `with output.locked():` in place of `working`.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cart_fairseq.base import files
from cart_fairseq.base.checks import is_encodable
from cart_fairseq.base.files import sha256, write_json
from cart_fairseq.base.hub_cache import refuse_cached
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.segments import UPDATE_LOCK
from preprocess.data.working_folder import KEY, LOCK, empty, foreign, read_key

_KEEP: ContextVar[bool] = ContextVar("keep", default=False)


class WouldReplace(ValueError):
    """An output that must stay was made with other settings or from other inputs."""


@contextmanager
def keeping_outputs() -> Iterator[None]:
    """Steps in this block raise `WouldReplace` in place of making an output again for other settings or inputs."""
    token = _KEEP.set(True)
    try:
        yield
    finally:
        _KEEP.reset(token)


class Made(NamedTuple):
    """What an output's record says about it.

    Attributes:
        made_from: the inputs and settings, as `Output.is_current` compares them.
        checksums: file -> its SHA-256, of the files that must not have changed since.
    """

    made_from: Any
    checksums: Mapping[Path, str] = {}


@dataclass(frozen=True)
class Kind:
    """The outputs of one step.

    Attributes:
        name: what messages call it, such as `join`.
        read: what the record of an output says; ValueError where the output is damaged or of another version.
        record: the file by which an output is recognised, given the output's path.
        folder: whether it is a folder, not a file.
        marks: fields that the record must have, for a record whose name other outputs share.
        names: the only file names that such a folder holds; empty if there may be others.
        argument: what messages call the argument that names the output.
        bundle: the identifier bundle in such an output, relative to it, which `update_identifiers` changes; None if it
            holds none.
        ours: names that are replaced in such a folder; others stay. None: `names` says what it holds.
    """

    name: str
    read: Callable[[Path], Made]
    record: Callable[[Path], Path]
    folder: bool = True
    marks: Mapping[str, Any] = field(default_factory=dict)
    names: Sequence[str] = ()
    argument: str = "--output"
    bundle: str | None = None
    ours: re.Pattern[str] | None = None


class Output:
    """The output of one run of a step.

    Args:
        path: the folder or file to make.
        kind: the kind of output that the step makes.

    Attributes:
        work: `OUTPUT.partial/`, the working folder.
        record: the file that says what the output was made from.

    Raises:
        ValueError: the path has no name, such as ``/``, or one that is not UTF-8, or is in the Hub's cache.
    """

    def __init__(self, path: str | Path, kind: Kind):
        if Path(path).name in ("", ".."):
            raise ValueError(f"{kind.argument} is {str(path)!r}, which names no folder or file; give a name of its own")
        if not is_encodable(str(path)):
            raise ValueError(f"{kind.argument} is {os.fsencode(path)!r}, which is not UTF-8; choose another name")
        refuse_cached(path)
        # a link is followed: renaming would put the new output in its place
        self.path = Path(path).resolve() if Path(path).is_symlink() else Path(path)
        self.kind = kind
        self.work = self.path.with_name(self.path.name + ".partial")
        self.record = kind.record(self.path)

    def exists(self) -> bool:
        """Whether something other than an empty folder is there."""
        return self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir()))

    def refuse_foreign(self) -> None:
        """Refuse to replace what this step did not write.

        Raises:
            ValueError: a file in place of a folder or the reverse, or something of another kind.
        """
        if not self.exists():
            return
        if not self.kind.folder:
            if not self.path.is_file() or not self._is_of_kind():
                raise ValueError(
                    f"{self.path}: exists and was not made by this command; remove it or choose another "
                    f"{self.kind.argument}"
                )
            return
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: is a file; {self.kind.argument} is a folder, choose another")
        if self.kind.names:
            strangers = sorted(child.name for child in self.path.iterdir() if child.name not in self.kind.names)
            if strangers:
                raise ValueError(
                    f"{self.path}: holds {strangers[0]!r}, which is not of this command; choose another "
                    f"{self.kind.argument}"
                )
        if not self._is_of_kind():
            raise ValueError(
                f"{self.path}: holds files that are no {self.kind.name}; choose an empty or new folder for "
                f"{self.kind.argument}"
            )

    def _is_of_kind(self) -> bool:
        if not self.record.is_file():
            return False
        if not self.kind.marks:
            return True
        try:
            found = read_json(self.record)
        except ValueError as error:
            text = str(error).split("; ")[0]
            raise ValueError(
                f"{text}; if {self.path} is an earlier {self.kind.name}, remove it, else choose another "
                f"{self.kind.argument}"
            ) from None
        return isinstance(found, dict) and all(found.get(name) == value for name, value in self.kind.marks.items())

    def is_current(self, made_from: Any) -> bool:
        """Whether the output is complete, undamaged and made from these inputs and settings.

        If it is current, leftovers of killed runs are removed. If it is damaged, a line on stderr says so.

        Raises:
            WouldReplace: it was made from others, and `keeping_outputs` is in force.
            ValueError: see `refuse_foreign`; or another run is at work on a current output.
        """
        self.refuse_foreign()
        if not self.exists():
            return False
        try:
            made = self.kind.read(self.path)
            changed = made.made_from != made_from
            bad = None if changed else damaged(made.checksums)
            if bad:
                raise ValueError(f"{bad}: missing or damaged")
        except ValueError as error:
            print(f"{self.path}: building it again ({error})", file=sys.stderr)
            return False
        if changed:
            if _KEEP.get():
                raise WouldReplace(f"{self.path} was made with other settings or from other inputs")
            return False
        self.remove_leftovers()
        return True

    @contextmanager
    def working(self, key: str) -> Iterator[Path]:
        """The working folder: emptied if it belongs to another key, and locked against a second run.

        It is removed when the block ends without an error, and kept for the next run otherwise.

        Args:
            key: a checksum of all inputs and settings that the files in the folder depend on.

        Raises:
            ValueError: another run has the folder, or it is not of a run of this step.
        """
        with self._lock():
            key_path = self.work / KEY
            if read_key(key_path) == key:
                print(f"{self.work}: going on where an interrupted run stopped")
            else:
                empty(self.work)
                write_json(key_path, key)
            yield self.work
            files.remove_scratch(self.path.parent, self.path.name)
            self._remove_work()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A lock against a second run, for a step that keeps nothing of an interrupted run.

        Raises:
            ValueError: another run has the lock, or the working folder is not of a run of this step.
        """
        with self._lock():
            try:
                yield
            finally:
                files.remove_scratch(self.path.parent, self.path.name)
                self._remove_work()

    def replacing(self) -> AbstractContextManager[Path]:
        """A new folder, or the name of a new file, that replaces the output when the block ends without an error.

        What lies in a folder beside the names of its kind is kept.
        """
        return files.replacing(self.path, self.kind.folder, ours=self.kind.ours)

    def remove_leftovers(self) -> None:
        """Remove the working folder and the scratch folders of runs that were killed."""
        if self.work.is_dir() and not foreign(self.work):
            with self._lock():
                self._remove_work()
        files.remove_scratch(self.path.parent, self.path.name)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """The working folder, made if need be, under a lock."""
        while True:
            others = foreign(self.work)
            if others:
                raise ValueError(
                    f"{self.work}: {others}, so it is no working folder of this command, which needs this name; move it "
                    "away or choose another --output"
                )
            with ExitStack() as stack:
                self.work.mkdir(parents=True, exist_ok=True)
                try:
                    lock = stack.enter_context(files.locked_file(self.work / LOCK))
                    whole = files.is_still(lock, self.work / LOCK)
                except FileNotFoundError:  # another run has ended and removed the folder
                    continue
                except BlockingIOError:
                    raise ValueError(
                        f"{self.work}: another run is building {self.path}; wait for it or stop it"
                    ) from None
                if whole:
                    self._lock_bundle(stack)
                    yield
                    return

    def _lock_bundle(self, stack: ExitStack) -> None:
        """Keep updates away from what is about to be replaced, if it is an identifier bundle or holds one."""
        if self.kind.bundle is None:
            return
        bundle = self.path / self.kind.bundle
        if (bundle / UPDATE_LOCK).exists() and not bundle.is_symlink():  # an update makes it, then looks for builds
            try:
                stack.enter_context(files.locked_file(bundle / UPDATE_LOCK))
            except BlockingIOError:
                raise ValueError(f"{bundle}: another process is updating it; wait for it or stop it") from None

    def _remove_work(self) -> None:
        """Remove the working folder, whole at once, so that no later run goes on from half of it."""
        prefix, parent = f".{self.path.name}.", self.path.parent
        with tempfile.TemporaryDirectory(
            prefix=prefix, suffix=".tmp", dir=parent, ignore_cleanup_errors=True
        ) as scratch:
            self.work.rename(Path(scratch, "work"))


def damaged(checksums: Mapping[Path, str]) -> Path | None:
    """The first file that is missing or whose SHA-256 differs, if there is one."""
    return next((path for path, digest in checksums.items() if not path.is_file() or sha256(path) != digest), None)
