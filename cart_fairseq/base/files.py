"""Atomic writing, names and locks of our files, for all steps."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cart_fairseq.base import disk
from cart_fairseq.base.processes import run_script as run_script
from cart_fairseq.base.reading import read_json as read_json
from cart_fairseq.base.reading import read_jsonl as read_jsonl

OLD = "old"
"""Name of what is replaced, as long as it lies in the scratch folder."""
SCRATCH_LOCK = ".lock"
SCRATCH = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.tmp", re.DOTALL)
"""Name of a scratch folder, with that of its target; tempfile's letters have no dot, so no other name fits."""
PRIVATE = 0o600
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of file systems without locks."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")


def is_plain_name(name: Any) -> bool:
    """Whether a name is that of a file right in a folder, as ours are: no path, nothing hidden, ASCII only.

    >>> is_plain_name("queries.train.parquet"), is_plain_name("../.profile"), is_plain_name("a/b"), is_plain_name("..")
    (True, False, False, False)
    """
    return isinstance(name, str) and PLAIN_NAME.fullmatch(name) is not None


def refuse_paths(record: Path, names: Iterable[Any]) -> None:
    """Refuse a record that lists files by other names than plain ones.

    Raises:
        ValueError: a name is a path, or not of ours, or there is no list.
    """
    if not isinstance(names, Mapping):
        raise ValueError(f"{record}: files is {names!r}, which lists no files; make it again")
    for name in names:
        if not is_plain_name(name):
            raise ValueError(f"{record}: lists the file {name!r}, which is none of ours; make it again")


def inside(folder: str | os.PathLike[str], name: str, start: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the path of a file that lies in a folder or below it; None for every other.

    Whatever shows the `media` of items asks here, so that a foreign list of items shows no file from elsewhere.

    Args:
        folder: the folder; a link to one is followed.
        name: a path relative to `start`. Absolute paths, steps that lead out of the folder (`..`) and links that do are
            refused.
        start: a folder; None: `folder`.
    """
    if not name or os.path.isabs(name) or "\0" in name:
        return None
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(start or folder, name))
    return Path(path) if path.startswith(os.path.join(root, "")) else None


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str], directory: bool = False, many: bool = False, ours: re.Pattern[str] | None = None
) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``; rename it over ``path`` on success, remove it on failure.

    What was written is on the disk before the rename, and the rename before the block ends, so that a power cut leaves the
    old or the new.

    Args:
        path: the file or directory to create or replace; missing parent folders are created.
        directory: yield an existing empty directory, instead of the name of a file that does not exist yet.
        many: the directory gets thousands of files, for which flushing each takes minutes; all disks are flushed once.
        ours: names in a directory that are replaced or removed; whatever else lies in it is kept. None: all.

    Raises:
        OSError: among others where the block had no room to write; it names ``path`` then.
    """
    target = Path(path)
    with disk.naming(target):
        _make_parents(target.parent)
        yield from _replaced(target, directory, many, ours)


def _make_parents(folder: Path) -> None:
    """Make a folder and those above it, and wait until they are on the disk."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        disk.flush(each.parent)


def _replaced(target: Path, directory: bool, many: bool, ours: re.Pattern[str] | None) -> Iterator[Path]:
    """Yield what is renamed; see `replacing`."""
    with _scratch(target) as scratch:
        new = scratch / target.name
        if directory:
            new.mkdir()
        yield new
        _follow_umask(new, scratch / SCRATCH_LOCK)
        if ours is not None and target.is_dir():
            _keep_others(target, new, ours)
        if many:
            os.sync()
        else:
            disk.flush_tree(new)
        if directory and target.exists():
            target.rename(scratch / OLD)
            try:
                disk.rename(new, target)
            except OSError:
                (scratch / OLD).rename(target)
                raise
        else:
            disk.rename(new, target)


def _keep_others(old: Path, new: Path, ours: re.Pattern[str]) -> None:
    """Put what a folder holds beside our files into the new one, too."""
    for path in old.iterdir():
        if ours.fullmatch(path.name) or SCRATCH.fullmatch(path.name) or os.path.lexists(new / path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True, copy_function=_link)
        else:
            _link(path, new / path.name)


def _link(source: str | Path, target: str | Path) -> None:
    """Give a file a second name; copy it where the file system has no hard links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _follow_umask(new: Path, like: Path) -> None:
    """Give files that a library made readable for their owner alone, as safetensors does, the mode of other new files.

    Args:
        new: a file, or a folder of files. Hard links to older files stay as they are.
        like: a file that was made with the mode that follows the umask.
    """
    mode = stat.S_IMODE(like.stat().st_mode)
    inner = (os.path.join(folder, name) for folder, _, names in os.walk(new) for name in names)
    for path in inner if new.is_dir() else [new]:
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == PRIVATE and found.st_nlink == 1:
            with contextlib.suppress(OSError):  # of file systems without modes
                os.chmod(path, mode)


def refuse_unwritable(*paths: str | os.PathLike[str] | None) -> None:
    """Find out before long work whether its results can be written; None is passed over.

    Raises:
        ValueError: a file cannot be made or replaced there.
    """
    for path in paths:
        if path is None:
            continue
        target = Path(path)
        try:
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            target.parent.mkdir(parents=True, exist_ok=True)
            with _scratch(target):
                pass
        except OSError as error:
            raise ValueError(
                f"{path}: cannot be written ({error.strerror}); choose another place, or give your account the right to "
                "write there"
            ) from None


@contextlib.contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """Make a folder ``.NAME.xxxxxxxx.tmp`` beside a file and remove it; it is locked as long as this process lives."""
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            try:
                stack.enter_context(locked_file(scratch / SCRATCH_LOCK))
                taken = not (scratch / SCRATCH_LOCK).exists()
            except (FileNotFoundError, BlockingIOError):
                taken = True
            if not taken:
                yield scratch
                return
        # another process has cleaned up in the moment before the folder was locked


def remove_scratch(folder: Path, name: str | None = None) -> None:
    """Remove the folders that `replacing` left where its process was killed; those of living processes stay.

    If it was killed between its two renames, the folder that was to be replaced is put back first.

    Args:
        folder: where to look.
        name: of the file or folder that was to be replaced; None: of any.
    """
    for child in folder.iterdir() if folder.is_dir() else ():
        found = SCRATCH.fullmatch(child.name)
        if found and found[1] == (name or found[1]) and child.is_dir() and not child.is_symlink():
            with contextlib.suppress(OSError, ValueError), locked_file(child / SCRATCH_LOCK):
                target = folder / found[1]
                if (child / OLD).exists() and not os.path.lexists(target):
                    disk.rename(child / OLD, target)
                shutil.rmtree(child, ignore_errors=True)


@contextlib.contextmanager
def locked_file(path: str | os.PathLike[str]) -> Iterator[int]:
    """Open a file of our own for locking, made if need be, and lock it; nothing is written to it, no link followed.

    The lock is the kernel's: it ends with the block, or with the process, however that ends.

    Raises:
        BlockingIOError: another process has it locked.
        ValueError: the name is that of something else.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise ValueError(f"{path}: is no plain file, although a lock of ours has this name; remove it") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise ValueError(f"{path}: is no plain file, although a lock of ours has this name; remove it")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield file
    finally:
        os.close(file)


def is_still(file: int, path: str | os.PathLike[str]) -> bool:
    """Whether an open file still has its name: no other has taken its place."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Raises:
        ValueError: it is a pipe or device, which may never end.
    """
    digest = hashlib.sha256()
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a folder is an error of its own
        raise ValueError(f"{path}: is a pipe or device; give a file")
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with replacing(path) as new:
        new.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object on each line, atomically."""
    with replacing(path) as new, open(new, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of a value's JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
