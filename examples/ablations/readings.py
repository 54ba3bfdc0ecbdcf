"""Readings of the paper's text other than the defaults: ``readings.sh``, its runs and the table of results."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import report
from defaults import this_machine
from folders import link
from plan import plan_measuring
from provenance import commit, machine
from settings import from_environment, words
from steps import Run, check_run, measure, train

from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.base.settings import BEAM
from cart_fairseq.loading.checkpoint import read_checkpoint
from cart_fairseq.measuring.labels import METRIC_LABELS

WIDTH = ("--encoder-embed-dim", "128", "--encoder-ffn-embed-dim", "512")
MODEL = (*WIDTH, "--max-update", "1000", "--consistency-weight", "0", "--dense-dim", "0", "--distillation-weight", "0")
FIRST = "default-1"  # the run whose data-bin the others use
PARTS = ("joined", "identifiers", "data-bin")


@dataclasses.dataclass(frozen=True)
class Reading:
    """A row of the table.

    Attributes:
        says: its description in the table.
        flags: of fairseq-train.
        seeds: number of seeds.
    """

    says: str
    flags: tuple[str, ...] = ()
    seeds: int = 1


READINGS = {
    "default": Reading("default", seeds=3),
    "separate": Reading("a cross-attention for each memory (3.4.2)", ("--fusion-attention", "separate")),
    "single-bias": Reading("one bias of the gates (Eq. 5)", ("--fusion-bias", "single")),
    "raw-states": Reading("encoder states without the final layer norm (3.4)", ("--encoder-states", "raw")),
    "decoder-input": Reading("Y before the self-attention (3.4.1)", ("--fusion-query", "decoder-input")),
    "no-ffn": Reading("no feed-forward after the fusion (3.4.2)", ("--no-decoder-ffn",)),
    "restarts": Reading(
        "three periods of the learning rate (C)", ("--lr-period-updates", "300", "--t-mult", "1", "--lr-shrink", "1")
    ),
    "self-gating": Reading("self-gating of the coarse branch (3.4.1)", ("--coarse-gating", "self")),
    "scaled": Reading("fine branch divided by the square root of S", ("--fine-scaling", "sqrt")),
}
NOT_BUILT = {
    "decoder weights of each step (Eq. 6)": "not built: the paper does not say which weights θ_i a step has of its own. "
    "Each position has its own symbols, so embeddings and output weights differ by step in every reading",
}


def run(data: Path, out: Path, flags: Sequence[str]) -> None:
    """Train and measure the readings named in READINGS, or all, and print the table of all finished runs.

    Raises:
        ValueError: there is no reading of that name, flags are wrong, or a finished run had others.
    """
    chosen = words("READINGS") or [*READINGS]
    for name in chosen:
        if name not in READINGS:
            raise ValueError(f"READINGS: no reading {name!r}; there are {', '.join(READINGS)}")
    settings = dataclasses.replace(from_environment(), recipe="joined")
    planned = {
        (name, seed): Run(
            data,
            out / f"{name}-{seed}",
            ["--seed", str(seed), *MODEL, "--disable-validation", *READINGS[name].flags, *flags],
            settings,
        )
        for name, seed in runs(chosen)
        if not report.is_recorded(out / f"{name}-{seed}.json", command(name, flags))
    }
    for each in planned.values():
        check_run(*each)
    for (name, seed), each in planned.items():
        print(f"\n==== {name}, seed {seed}")
        share(out, each.out)
        train(*each)
        write_json(out / f"{name}-{seed}.json", record(name, each.out, seed, flags))
    found = {name: [read_json(path) for path in sorted(out.glob(f"{name}-?.json"))] for name in READINGS}
    write_json(out / "readings.json", found)
    print("\n" + table(found))


def runs(chosen: Sequence[str]) -> list[tuple[str, int]]:
    """Names and seeds of the runs: the first seed of every reading, then the others."""
    found = [(name, seed) for name in chosen for seed in range(1, READINGS[name].seeds + 1)]
    return sorted(found, key=lambda each: each[1])


def share(out: Path, folder: Path) -> None:
    """Link the data of the first run, if that is finished."""
    if folder.name == FIRST or not (out / f"{FIRST}.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        if not (folder / name).exists():  # a run that began before the first one keeps its own
            link(Path("..") / FIRST / name, folder / name)


def record(name: str, folder: Path, seed: int, flags: Sequence[str]) -> dict[str, Any]:
    """Search for all queries of a trained run, among the items of their split, and return its record."""
    planned = dataclasses.replace(plan_measuring(folder, this_machine(flags)), beam=BEAM)
    for subset in planned.subsets:
        if not (folder / "results" / "split" / f"metrics.{subset}.json").is_file():
            measure(folder, subset, "split", planned)
    whole = report.record(folder, folder / "tuned.json", {})
    return {
        "command": command(name, flags),
        "commit": commit(),
        "machine": machine(),
        "seed": seed,
        "settings": {
            "reading": list(READINGS[name].flags),
            "train": whole["train_flags"],
            "identifiers": whole["identifiers"],
            "joined": whole["joined"],
            "index_captions": whole["index_captions"],
            "beam": BEAM,
        },
        "data": read_json(folder / "checkpoints" / "plan.json")["data"],
        "minutes": whole["minutes"],
        "parameters": parameters(planned.checkpoint),
        "metrics": report.collect(folder)["split"],
    }


def command(name: str, flags: Sequence[str]) -> str:
    """Return what to type for one reading, with the variables of other steps that are set."""
    return report.said("examples/ablations/readings.sh", flags, {"READINGS": name})


def parameters(checkpoint: Path) -> int:
    """Return the number of weights in a checkpoint."""
    return sum(tensor.numel() for tensor in read_checkpoint(checkpoint)["model"].values())


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of finished runs: the mean and, of several seeds, the standard deviation."""
    heads = ["reading", *METRIC_LABELS.values(), "weights, millions", "seeds"]
    rows = [row(heads), "|" + " --- |" * len(heads)]
    for name, reading in READINGS.items():
        if measured := [one["metrics"]["test" if "test" in one["metrics"] else "valid"] for one in found[name]]:
            cells = [report.mean_and_deviation([one[metric] for one in measured]) for metric in METRIC_LABELS]
            size = found[name][0]["parameters"] / 1e6
            rows.append(row([reading.says, *cells, f"{size:.1f}", f"{len(measured)}"]))
    rows += [row([says, reason, *[""] * (len(heads) - 2)]) for says, reason in NOT_BUILT.items()]
    return "\n".join(rows)


def row(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
