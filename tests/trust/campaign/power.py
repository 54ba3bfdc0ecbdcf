"""Power cuts: copies of a mounted device's image, taken while a step writes, and right after it said that it is done.

The image has what the file system has handed to the device. With `mounts.ADVERSE` that is what was flushed, and no more:
the file system writes by itself only after minutes. Mounting a copy is starting again after the cut. A device that
loses or reorders what it was handed between two flushes is not simulated.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mounts
from trials import Campaign, must, watched, writes_of
from worlds import STEPS

DATA = ("ordered", "writeback")
"""How ext4 orders content and names: content first, or in no order."""


def power_cuts(campaign: Campaign, cuts: int) -> None:
    """Cut the power at writes drawn by chance, and after the end; then the same step must finish."""
    reason = mounts.why_not(campaign.folder)
    if reason:
        campaign.skip("power cuts", reason)
        return
    base, live = mounts.make_ext4(campaign.folder / "base.img"), campaign.folder / "live.img"
    with mounts.ext4(base, campaign.folder / "disk") as disk:
        campaign.copy(place=disk / "trial")
    for step, run in STEPS.items():
        place = campaign.copy()
        total, after = writes_of(partial(run, place)), campaign.after(run)
        for data in DATA:
            events = sorted(campaign.draw.sample(range(total), min(total, -(-cuts // len(DATA)))))
            shutil.copyfile(base, live)
            options = f"{mounts.ADVERSE},data={data}"
            with mounts.ext4(live, campaign.folder / "disk", options) as disk:
                must(partial(recorded, run, disk / "trial", live, events))
            for name in [*map(str, events), "done"]:
                image = live.with_suffix(f".{name}")
                with mounts.ext4(image, campaign.folder / "cut", options) as disk:
                    ended = campaign.finishes(run, disk / "trial", after, only_new=name == "done")
                trial = f"power cut {'after' if name == 'done' else 'during'} {step}"
                campaign.note(trial, ended[0], f"data={data}, before write {name}: {ended[1]}")
                image.unlink()
        campaign.show()
    live.unlink()
    base.unlink()


def recorded(run: Callable[[Path], Any], place: Path, image: Path, events: list[int]) -> None:
    """Run a step; copy the image before some of its writes and at the end."""
    watched(partial(run, place), events, lambda event: copy(image, str(event)))
    copy(image, "done")


def copy(image: Path, name: str) -> None:
    """Copy an image beside it."""
    shutil.copyfile(image, image.with_suffix(f".{name}"))
