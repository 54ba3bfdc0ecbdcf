"""RECIPE=paper on DATA: what ``examples/flickr8k/run.sh`` does with it, as far as the time of one call allows.

The next call goes on after the last epoch. The record says how many epochs are trained; once the run is complete, it has its
``run.json``.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parts import Record, arguments, inputs_of, run
from settings import Settings
from steps import train_and_evaluate

from cart_fairseq.base.reading import read_json

RECIPE = "paper"
SMALL_IDENTIFIERS = ("--epochs", "2")
ENDED = re.compile(r"end of epoch (\d+) ")
VALID = re.compile(r"\| valid \| (.*)$", re.MULTILINE)
NUMBER = re.compile(r"([a-z]\w*) (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")


def reached(log: Path) -> dict[str, Any]:
    """How many epochs are trained, and the numbers of the last validation under fairseq's names."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    values = [part.strip() for part in ["", *VALID.findall(text)][-1].split("|")]
    pairs = [found.groups() for found in map(NUMBER.fullmatch, values) if found and found[1] != "epoch"]
    return {"epochs": max([0, *map(int, ENDED.findall(text))]), **{name: float(number) for name, number in pairs}}


def plan(device: str, small: bool) -> tuple[Settings, list[str]]:
    """The recipe, and flags of ``fairseq-train``; in full size it is the recipe's own run."""
    flags = ["--cpu"] if device == "cpu" else []
    if not small:
        return Settings(recipe=RECIPE), flags
    flags += ["--max-epoch", "2", "--max-update", "10", "--arch", "cart_tiny"]
    return Settings(recipe=RECIPE, identifier_flags=SMALL_IDENTIFIERS), flags


def main(argv: Sequence[str] | None = None) -> None:
    """Train and measure, and write how far it came, also when told to stop."""
    args = arguments(__doc__, argv)
    settings, flags = plan(args.device, args.small)
    said = {"recipe": RECIPE, "train_flags": flags, "identifier_flags": list(settings.identifier_flags)}
    record = Record(args, "paper", {**said, "inputs_sha256": inputs_of(args.data)})
    out, complete = args.out / "paper", False
    try:
        train_and_evaluate(args.data, out, flags, settings)
        complete = True
    finally:
        record.rows = [{"reached": reached(out / "checkpoints" / "train.log")}]
        if complete:
            record.rows[0]["run"] = read_json(out / "run.json")
        record.write(complete)


if __name__ == "__main__":
    run(main)
