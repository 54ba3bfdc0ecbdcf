"""Damaged files: data-bins, checkpoints, joins, and what killed steps left in OUTPUT.partial."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from trials import Campaign, forked, killed_at, must, writes_of
from worlds import RESUMED, STEPS, Step, binned_join, hits, make_dense, make_join, make_plain, shown, verify_all

Mutation = Callable[[bytearray, random.Random], bytes]
SEARCHED: dict[str, tuple[Callable[[Path], Any], str, Callable[[Path], Any]]] = {
    "plain model": (make_plain, "", hits),
    "dense model": (make_dense, "", hits),
    "join": (make_join, "joined", binned_join),
}
"""Name -> what makes the world, where in it files are damaged, and what reads them."""


def mutations(campaign: Campaign, trials: int) -> None:
    """Damage files drawn by chance, a third of them of each kind; what differs then must be noticed by `verify`."""
    for name, (make, inner, read) in SEARCHED.items():
        source = campaign.made(name.replace(" ", "-"), make)
        expected = must(partial(read, campaign.copy(source)))
        files = files_of(source, inner)
        for _ in range(-(-trials // len(SEARCHED))):
            kind = campaign.draw.choice(sorted(MUTATIONS))
            damaged(campaign, f"damaged {name}", source, campaign.draw.choice(files), kind, read, expected)
        campaign.show()


def flips(campaign: Campaign, times: int) -> None:
    """Flip a bit of every file of the same worlds."""
    for name, (make, inner, read) in SEARCHED.items():
        source = campaign.made(name.replace(" ", "-"), make)
        expected = must(partial(read, campaign.copy(source)))
        for file in files_of(source, inner):
            for _ in range(times):
                damaged(campaign, f"flipped bits, {name}", source, file, "flip", read, expected)
        campaign.show()


def damaged(
    campaign: Campaign,
    trial: str,
    source: Path,
    name: Path,
    mutation: str,
    read: Callable[[Path], Any],
    expected: Any,
) -> None:
    """One file damaged in one way."""
    place = campaign.copy(source)
    mutate(place / name, mutation, campaign.draw)
    ended = forked(partial(read, place))
    details = f"{mutation} of {name}: {ended.value}"
    if ended.kind == "done" and ended.value == expected:
        campaign.note(trial, "same result")
    elif ended.kind == "done":
        noticed = forked(partial(verify_all, place))
        campaign.note(trial, "noticed by verify" if noticed.kind == "refused" else "wrong", details)
    else:
        campaign.note(trial, ended.kind, details)


def partials(campaign: Campaign, trials: int) -> None:
    """Damage what a killed step left in OUTPUT.partial; the same step must give what a fresh one gives."""
    for step in RESUMED:
        run, place = STEPS[step], campaign.copy()
        total, after, done = writes_of(partial(run, place)), campaign.after(run), 0
        for _ in range(100 * trials):
            place, event = campaign.copy(), campaign.draw.randrange(total)
            forked(partial(killed_at, partial(run, place), event))
            files = [path for work in place.glob("*.partial") for path in work.rglob("*") if path.is_file()]
            if not files:
                continue
            path, kind = campaign.draw.choice(sorted(files)), campaign.draw.choice(sorted(MUTATIONS))
            mutate(path, kind, campaign.draw)
            ended = forked(partial(again, run, place))
            ours = ended.kind != "done" or ended.value == after
            names_lock = path.name == "lock" and "no 'lock'" in str(ended.value)  # then the folder may be anybody's
            good = "refused" if names_lock else "blocked"
            kind_of_end = {"done": "same result" if ours else "wrong", "refused": good}.get(ended.kind, ended.kind)
            campaign.note(f"damaged {step}.partial", kind_of_end, f"{kind} of {path.name}: {ended.value}")
            done += 1
            if done == trials:
                break
        campaign.show()


def again(run: Step, place: Path) -> Any:
    """Run a step, and show its result."""
    run(place)
    return shown(place)


def files_of(source: Path, inner: str) -> list[Path]:
    """The files below a folder of a world, relative to the world."""
    return sorted(path.relative_to(source) for path in (source / inner).rglob("*") if path.is_file())


def mutate(path: Path, mutation: str, draw: random.Random) -> None:
    """Damage a file."""
    path.write_bytes(MUTATIONS[mutation](bytearray(path.read_bytes()), draw))


def _flip(content: bytearray, draw: random.Random) -> bytes:
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def _overwrite(content: bytearray, draw: random.Random) -> bytes:
    at = draw.randrange(max(1, len(content)))
    content[at : at + 64] = draw.randbytes(len(content[at : at + 64]))
    return bytes(content)


MUTATIONS: dict[str, Mutation] = {
    "flip": _flip,
    "overwrite": _overwrite,
    "cut": lambda content, draw: bytes(content[: draw.randrange(max(1, len(content)))]),
    "zeros": lambda content, draw: bytes(len(content)),
    "empty": lambda content, draw: b"",
    "longer": lambda content, draw: bytes(content) + draw.randbytes(50),
    "garbage": lambda content, draw: draw.randbytes(len(content)),
}
