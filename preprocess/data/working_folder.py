"""`OUTPUT.partial/`: what a run has finished so far, so that a killed one goes on, and the checks around an output."""

import fcntl
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.files import read_json, write_json


def check_output(output: Path) -> None:
    """Refuse to replace anything that is not an identifier bundle."""
    if (
        output.exists()
        and not (output / "codec.json").is_file()
        and not (output.is_dir() and not any(output.iterdir()))
    ):
        raise ValueError(f"{output}: exists and is not an identifier bundle; remove it or choose another --output")


def is_current(output: Path, settings_hash: str) -> bool:
    """Whether `output` is an undamaged bundle made from the same inputs and settings."""
    if not (output / "codec.json").is_file():
        return False
    try:
        bundle = IdentifierBundle.load(output)
        if bundle.codec_settings.get("settings_hash") != settings_hash:
            return False
        bundle.verify()
    except ValueError as error:
        print(f"{error}; building it again", file=sys.stderr)
        return False
    return True


@contextmanager
def working_folder(output: Path, key: str) -> Iterator[Path]:
    """`OUTPUT.partial/`, emptied if it belongs to another key, locked against a second run for as long as this one."""
    work = output.with_name(output.name + ".partial")
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{work}: another run is building {output}; wait for it or stop it") from None
        key_path = work / "key.json"
        if key_path.is_file() and read_json(key_path) == key:
            print(f"{work}: going on where an interrupted run stopped")
        else:
            empty(work)
            write_json(key_path, key)
        yield work


def empty(work: Path) -> None:
    """Remove what is in a working folder, first of all the key, so that no later run goes on from half of it."""
    (work / "key.json").unlink(missing_ok=True)
    for leftover in work.iterdir():
        if leftover.name != "lock":
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def remove(work: Path) -> None:
    """Remove a working folder whose output is complete."""
    empty(work)
    shutil.rmtree(work)


def remove_leftovers(output: Path) -> None:
    """Remove what a run that was killed while it wrote or after it had written `output` left beside it."""
    if output.with_name(output.name + ".partial").is_dir():
        with working_folder(output, "leftover") as work:
            remove(work)
    for scratch in output.parent.glob(f".{output.name}.*.tmp"):
        shutil.rmtree(scratch, ignore_errors=True)
