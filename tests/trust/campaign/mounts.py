"""File systems of our own, in images on loop devices or in memory."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 48
ADVERSE = "noauto_da_alloc,commit=300"
"""Nothing is written until it is flushed, and the file system does not guess what should be."""


def why_not(folder: Path) -> str | None:
    """Why nothing can be mounted here; None if it can."""
    if os.geteuid():
        return "mounting needs root"
    missing = [command for command in ("mount", "umount", "mkfs.ext4") if shutil.which(command) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    try:
        with ext4(make_ext4(folder / "tried.img"), folder / "tried"):
            return None
    except subprocess.CalledProcessError as error:
        return f"no loop device can be mounted ({error.stderr.strip()})"
    finally:
        (folder / "tried.img").unlink(missing_ok=True)


def make_ext4(image: Path) -> Path:
    """An image with an empty file system, without room that is kept for root."""
    with open(image, "wb") as file:
        file.truncate(MIB << 20)
    call("mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
    return image


@contextmanager
def ext4(image: Path, folder: Path, options: str = ADVERSE) -> Iterator[Path]:
    """Mount an image while the block runs."""
    with mounted(folder, "-o", f"loop,{options}", str(image)):
        yield folder


@contextmanager
def tmpfs(folder: Path) -> Iterator[Path]:
    """Mount a file system in memory while the block runs."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={MIB}m", "tmpfs"):
        yield folder


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    call("mount", *options, str(folder))
    try:
        yield
    finally:
        call("umount", str(folder))
        folder.rmdir()


def call(*command: str) -> None:
    """Run a command.

    Raises:
        subprocess.CalledProcessError: it failed; the error has what it printed.
    """
    subprocess.run(command, check=True, capture_output=True, text=True)
