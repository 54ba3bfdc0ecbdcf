"""What half precision costs in recall: a small recipe trained in three precisions, and one model searched in three.

Figures are those of DATA's valid queries. All models share the identifiers and the data-bin of the first.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import precision as searching
from folders import copy_parts
from parts import Record, arguments, inputs_of, run
from plan import checkpoint_of
from settings import Settings
from steps import train_and_evaluate

from cart_fairseq.base.reading import read_json

PRECISIONS: dict[str, list[str]] = {"float32": [], "bf16": ["--bf16"], "fp16": ["--fp16"]}
RECIPE, EPOCHS = "cpu", 10
SMALL_IDENTIFIERS = ("--epochs", "2", "--allow-collapse")


def train(args: argparse.Namespace, name: str, settings: Settings, flags: list[str]) -> dict[str, Any]:
    """Train one model and return its figures.

    Raises:
        ValueError: the data have no valid queries.
    """
    out: Path = args.out / "quality"
    if name != "float32" and not (out / name / "data-bin").is_dir():
        copy_parts(out / "float32", ("identifiers", "data-bin"), out / name)
    train_and_evaluate(args.data, out / name, flags, settings)
    metrics = read_json(out / name / "metrics.json")
    if "valid" not in metrics:
        raise ValueError(f"{args.data / 'captions.jsonl'}: no queries of valid items; give data that have some")
    return metrics["valid"]


def search(model: Path, names: list[str], found: Path) -> list[dict[str, Any]]:
    """Search with one model in each precision and scoring."""
    flags = [str(checkpoint_of(model / "checkpoints")), "--data", str(model / "data-bin"), "--json", str(found)]
    searching.main([*flags, "--precisions", *names])
    return read_json(found)["modes"]


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, measure, and write after each model."""
    args = arguments(__doc__, argv)
    settings, flags = Settings(recipe=RECIPE), ["--max-epoch", str(EPOCHS)]
    if args.small:
        settings = dataclasses.replace(settings, identifier_flags=SMALL_IDENTIFIERS)
        flags = ["--max-epoch", "1", "--max-update", "5", "--arch", "cart_tiny"]
    flags += ["--cpu"] if args.device == "cpu" else []
    names = [name for name in PRECISIONS if args.device == "cuda" or name != "fp16"]  # fairseq: on GPUs only
    said = {"recipe": RECIPE, "train_flags": flags, "identifier_flags": list(settings.identifier_flags)}
    record = Record(args, "quality", {**said, "inputs_sha256": inputs_of(args.data)})
    for name in names:
        if not record.has(trained=name):
            record.add({"trained": name, **train(args, name, settings, [*flags, *PRECISIONS[name]])})
    if not record.has(trained="float32", searched=True):
        modes = search(args.out / "quality" / "float32", names, args.out / "quality" / "precision.json")
        record.add(*({"trained": "float32", "searched": True, **mode} for mode in modes))
    record.write(complete=True)


if __name__ == "__main__":
    run(main)
