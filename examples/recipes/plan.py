"""What is trained under ``OUT/checkpoints``, and what there is to measure afterwards.

``OUT/checkpoints/plan.json`` remembers what was being trained, so that a second call goes on with the same model or
refuses, and never mixes two.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from defaults import SEED, Machine, index_repeats, train_flags, user_options
from schedules import RECIPES

from cart_fairseq.base.files import sha256, write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.base.settings import BEAM

MEASURED = ("valid", "test")
# may change between two calls for one OUT: how long, on what machine, and how it reports
CHANGEABLE = {
    "--max-epoch": 1,
    "--max-update": 1,
    "--patience": 1,
    "--stop-time-hours": 1,
    "--num-workers": 1,
    "--log-interval": 1,
    "--log-format": 1,
    "--log-file": 1,
    "--tensorboard-logdir": 1,
    "--wandb-project": 1,
    "--cpu": 0,
}
FIXED = ("--save-dir", "--user-dir", "--task", "--valid-subset")


@dataclasses.dataclass(frozen=True)
class Training:
    """What to train.

    Attributes:
        flags: of ``fairseq-train``, the user's not among them.
        needed: whether there is anything left to train.
    """

    flags: list[str]
    needed: bool


@dataclasses.dataclass(frozen=True)
class Measuring:
    """What to measure.

    Attributes:
        checkpoint: whose searches are measured.
        subsets: whose queries are asked.
        candidate_sets: those that differ: ``split``, and ``all`` where the catalogue is larger.
        device_flags: of ``fairseq-generate``.
        beam: width of the search.
        tuned: whether there is a dense head, and valid queries to choose its weight on.
        precision: of the searches; ``auto`` is chosen on the machine.
    """

    checkpoint: Path
    subsets: list[str]
    candidate_sets: list[str]
    device_flags: list[str]
    beam: int
    tuned: bool
    precision: str


def lasting(user: Sequence[str]) -> list[str]:
    """The user's flags without those that may change between two calls.

    Raises:
        ValueError: a flag that the recipe sets itself.
    """
    rest, skip = [], 0
    for flag in user:
        name, _, value = flag.partition("=")
        if name in FIXED:
            raise ValueError(f"{name} is set by the recipe; leave it out" + " and choose OUT" * (name == "--save-dir"))
        if skip:
            skip -= 1
        elif name in CHANGEABLE:
            skip = 0 if value else CHANGEABLE[name]
        else:
            rest.append(flag)
    return rest


def begun(out: Path) -> dict[str, Any] | None:
    """What ``out/checkpoints`` says of the training that a checkpoint there is of; None where there is none."""
    path = out / "checkpoints" / "plan.json"
    return read_json(path) if path.is_file() and (path.parent / "checkpoint_last.pt").is_file() else None


def plan_training(out: Path, user: Sequence[str], sized_for: str, machine: Machine) -> Training:
    """Decide what to train under ``out/checkpoints``, and remember it there.

    Raises:
        ValueError: checkpoints of other data or of another model lie there.
    """
    manifest = read_json(out / "data-bin" / "manifest.json")
    path = out / "checkpoints" / "plan.json"
    now = {"data": sha256(out / "data-bin" / "manifest.json"), "flags": lasting(user), "sized_for": sized_for}
    before = begun(out)
    if before is not None:
        for what, key in (("on other data", "data"), ("with other flags", "flags")):
            if before[key] != now[key]:
                found = shlex.join(before["flags"]) or "none" if key == "flags" else before["data"][:12]
                raise ValueError(
                    f"{path.parent}: holds a model trained {what} ({found}); choose another OUT, or remove this folder "
                    "to train again"
                )
        now["sized_for"] = before["sized_for"]
    sized_for = str(now["sized_for"])
    wanted = user_options(user)
    repeats = (wanted.index_repeats or index_repeats(RECIPES[sized_for], manifest)) - 1
    repeated = repeats * index_captions(out / "data-bin") if repeats else 0
    flags = train_flags(manifest, sized_for, machine, user, repeated)
    complete = before is not None and before.get("complete") == list(user)
    said: dict[str, Any] = {
        "seed": SEED if wanted.seed is None else wanted.seed,
        "train_flags": [*flags, *user],
        "call": list(user),
    }
    said["faithful"] = before is None or before.get("faithful", False)
    write_json(path, {**now, **said, "complete": list(user) if complete else None})
    return Training(flags, needed=not complete)


def index_captions(data_bin: Path) -> int:
    """How many training pairs are index captions."""
    roles = pq.read_table(data_bin / "queries.train.parquet", columns=["role"])["role"]
    return int(pc.sum(pc.equal(roles, "index")).as_py())


def note_trained(out: Path) -> None:
    """Mark training as complete.

    Raises:
        ValueError: training left no checkpoint.
    """
    checkpoint_of(out / "checkpoints")
    plan = read_json(out / "checkpoints" / "plan.json")
    write_json(out / "checkpoints" / "plan.json", {**plan, "complete": plan["call"]})


def plan_measuring(out: Path, machine: Machine) -> Measuring:
    """What there is to measure.

    Raises:
        ValueError: training is not complete, or its checkpoint is gone.
    """
    path = out / "checkpoints" / "plan.json"
    plan: dict[str, Any] = read_json(path) if path.is_file() else {"complete": None}
    if plan["complete"] is None:
        raise ValueError(f"{path.parent}: training is not complete; give the command that trains (again) first")
    manifest = read_json(out / "data-bin" / "manifest.json")
    subsets = [subset for subset in MEASURED if subset in manifest["counts"]]
    items = read_json(out / "data-bin" / "identifiers" / "manifest.json")["items"]
    recipe = RECIPES[plan["sized_for"]]
    differ = any(manifest["counts"][subset]["candidates"] < items for subset in subsets)
    return Measuring(
        checkpoint=checkpoint_of(path.parent),
        subsets=subsets,
        candidate_sets=["split", "all"] if differ else ["split"],
        device_flags=["--cpu"] if machine.name == "cpu" or "--cpu" in plan["call"] else [],
        beam=BEAM,
        tuned=bool(recipe.joined) and "valid" in subsets,
        precision="float32" if recipe.faithful else "auto",
    )


def checkpoint_of(folder: Path) -> Path:
    """The best checkpoint where validation chose one, else the last.

    Raises:
        ValueError: neither is there.
    """
    names = ("checkpoint_best.pt", "checkpoint_last.pt")
    checkpoint = next((folder / name for name in names if (folder / name).is_file()), None)
    if checkpoint is None:
        raise ValueError(f"{folder}: training left no checkpoint; leave out flags that keep it from saving")
    return checkpoint
