"""What the parts have in common: their command line, and the record that each writes and goes on from."""

import argparse
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import provenance
import torch

from cart_fairseq.base.files import sha256, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_json

SEED = 1


def arguments(says: str | None, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line of a part."""
    parser = argparse.ArgumentParser(description=says)
    parser.add_argument("--out", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (cuda)")
    parser.add_argument("--data", type=Path, help="folder with embeddings.npy, items.jsonl and captions.jsonl")
    parser.add_argument("--small", action="store_true", help="small sizes, to try the part")
    return parser.parse_args(argv)


class Record:
    """``OUT/NAME.json``: command, settings, seed, commit, machine and figures.

    The file is written after each figure. A later call with the same settings, commit and machine goes on from there; with
    others it starts anew, so that a record has figures of one kind only.

    Args:
        args: of the part's command line.
        name: of the part.
        settings: what the figures depend on.

    Attributes:
        rows: the figures so far.
    """

    def __init__(self, args: argparse.Namespace, name: str, settings: dict[str, Any]):
        self.path = args.out / f"{name}.json"
        variables = [*(["DEVICE=cpu"] if args.device == "cpu" else []), *(["SMALL=1"] if args.small else [])]
        if args.data:
            variables.append("DATA=FOLDER")
        self.facts: dict[str, Any] = {
            "command": " ".join([*variables, f"PARTS={name}", "bash examples/gpu.sh OUT"]),
            "settings": {"device": args.device, "small": args.small, **settings},
            "seed": SEED,
            "commit": provenance.commit(),
            "machine": provenance.machine(),
        }
        self.rows: list[dict[str, Any]] = []
        if self.path.is_file():
            before = read_json(self.path)
            if all(before[key] == value for key, value in self.facts.items()):
                self.rows = before["metrics"]
            else:
                print(f"{self.path}: of another commit, machine or settings; begun anew")

    def has(self, **facts: Any) -> bool:
        """Whether there is a row with these values."""
        return any(all(row.get(key) == value for key, value in facts.items()) for row in self.rows)

    def add(self, *rows: dict[str, Any]) -> None:
        """Append rows and write."""
        self.rows += rows
        self.write()

    def write(self, complete: bool = False) -> None:
        """Write the file."""
        write_json(self.path, {**self.facts, "complete": complete, "metrics": self.rows})


def inputs_of(data: Path) -> dict[str, str]:
    """File name -> SHA-256 of the data."""
    return {name: sha256(data / name) for name in ("embeddings.npy", "items.jsonl", "captions.jsonl")}


def wait(device: str) -> None:
    """Wait for the GPU; nothing on a processor."""
    if device == "cuda":
        torch.cuda.synchronize()


def run(main: Callable[..., None]) -> None:
    """Run a part; told to stop, it ends as after Ctrl-C, so that what it started ends, too."""
    signal.signal(signal.SIGTERM, stop)
    run_script(main)


def stop(*_: object) -> None:
    """The handler of SIGTERM."""
    raise KeyboardInterrupt
