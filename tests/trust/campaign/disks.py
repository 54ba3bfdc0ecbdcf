"""Full disks: limits of file sizes, and file systems without room, of every size from nothing to enough."""

import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mounts
from trials import Campaign, forked
from worlds import STEPS

LONGEST = 12_000
"""No file that the steps write is longer."""


def limits(campaign: Campaign, sizes: int) -> None:
    """Files may not grow beyond sizes from nothing to enough."""
    for step, run in STEPS.items():
        after = campaign.after(run)
        for number in range(sizes):
            place, size = campaign.copy(), int(LONGEST * (number / sizes) ** 2)
            ended = forked(partial(limited, partial(run, place), size))
            judge(campaign, f"limit of file sizes, {step}", ended, run, place, after)
        campaign.show()


def full_disks(campaign: Campaign, sizes: int) -> None:
    """A file system has room from nothing to enough."""
    reason = mounts.why_not(campaign.folder)
    if reason:
        campaign.skip("full disks", reason)
        return
    afters = {step: campaign.after(run) for step, run in STEPS.items()}
    image = mounts.make_ext4(campaign.folder / "full.img")
    kinds = {"ext4": partial(mounts.ext4, image), "tmpfs": mounts.tmpfs}
    for kind, mount in kinds.items():
        with mount(campaign.folder / "full") as disk:
            for step, run in STEPS.items():
                needed = room_for(campaign, run, disk)
                for number in range(sizes):
                    place = campaign.copy(place=disk / "trial")
                    filler = fill(disk, int(needed * (number / sizes) ** 2))
                    ended = forked(partial(run, place))
                    filler.unlink()
                    judge(campaign, f"full {kind}, {step}", ended, run, place, afters[step])
                campaign.show()
    image.unlink()


def judge(campaign: Campaign, trial: str, ended: Any, run: Callable[[Path], Any], place: Path, after: Any) -> None:
    """A step without room is refused with a reason, and finishes when there is some."""
    if ended.kind == "refused":
        campaign.note(trial, *campaign.finishes(run, place, after))
    else:
        campaign.note(trial, ended.kind, ended.value)


def room_for(campaign: Campaign, run: Callable[[Path], Any], disk: Path) -> int:
    """Bytes of a disk that a step needs, with what it removes again counted twice."""
    place = campaign.copy(place=disk / "trial")
    before = free(disk)
    forked(partial(run, place))
    return 2 * max(before - free(disk), 1 << 16)


def free(disk: Path) -> int:
    """Bytes of a disk that are free."""
    os.sync()
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path, left: int) -> Path:
    """Fill a disk but for some bytes, with a file that is returned."""
    path, room = disk / "filler", free(disk) - left
    with open(path, "wb") as file:
        while room > 0:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room)
                return path
            except OSError:  # the file system needs some for its own lists
                room -= 4096
    return path


def limited(action: Callable[[], Any], size: int) -> None:
    """Run an action in which no file grows beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    action()
