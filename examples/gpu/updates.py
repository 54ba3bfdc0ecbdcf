"""Time of a training update and of an epoch at the paper's size, by ``fairseq-train``, in four precisions.

The model is that of ``RECIPE=paper``. The data are random, as many as Flickr30k's training images with five captions each,
because time does not depend on what they say. Each precision trains one epoch; its first updates do not count.
"""

import json
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fairseq_calls
import numpy as np
from defaults import this_machine, train_flags
from parts import SEED, Record, arguments, run
from schedules import RECIPES

from cart_fairseq.base.files import write_jsonl
from cart_fairseq.base.reading import read_json
from preprocess.api import IdentifierSettings, binarize, build_identifiers
from preprocess.data_bin.settings import DataBinSettings

PRECISIONS = {
    "float32": ("--float32-matmul-precision", "highest"),
    "tf32": ("--float32-matmul-precision", "high"),
    "bf16": ("--bf16",),
    "fp16": ("--fp16",),
}
ON_CPU = ("float32", "bf16")  # fairseq trains float16 on GPUs only
INTERVAL = 20
"""Updates between two lines of the log."""
WARM_UP = 2
"""Lines that do not count."""
INNER = re.compile(r"\| train_inner \| (\{.*\})")
CAPTIONS, WORDS, VOCABULARY, WIDTH = 5, 11, 8_000, 64
SMALL_BATCH = 16


def random_data(folder: Path, items: int) -> Path:
    """A data-bin of items with random embeddings and captions of random words; each step is left out if it is done."""
    draw = np.random.default_rng(SEED)
    names = [f"item-{row}" for row in range(items)]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "embeddings.npy", draw.standard_normal((items, WIDTH), dtype=np.float32), allow_pickle=False)
    write_jsonl(folder / "items.jsonl", [{"item_id": name, "split": "train"} for name in names])
    texts = [" ".join(f"w{word}" for word in draw.zipf(1.3, WORDS) % VOCABULARY) for _ in range(CAPTIONS * items)]
    captions = [{"item_id": names[row // CAPTIONS], "text": text} for row, text in enumerate(texts)]
    write_jsonl(folder / "captions.jsonl", captions)
    settings = IdentifierSettings(scheme="residual-kmeans", allow_collapse=True)
    inputs = (folder / "embeddings.npy", folder / "items.jsonl")
    build_identifiers(*inputs, folder / "identifiers", settings)
    binarize(folder / "identifiers", folder / "captions.jsonl", folder / "data-bin", DataBinSettings(valid_size=0))
    return folder / "data-bin"


def flags_of(data_bin: Path, device: str, precision: str, small: bool) -> list[str]:
    """Flags of fairseq-train: those of the paper's recipe, one epoch, nothing saved."""
    own = ["--max-epoch", "1", *(["--cpu"] if device == "cpu" else [])]
    own += ["--arch", "cart_tiny", "--batch-size", str(SMALL_BATCH)] if small else []
    flags = train_flags(read_json(data_bin / "manifest.json"), "paper", this_machine(own), own)
    more = ["--no-save", "--disable-validation", "--log-format", "json", "--log-interval", str(INTERVAL)]
    return [*flags, *own, *more, *PRECISIONS[precision]]


def updates_per_second(log: str) -> list[float]:
    """What fairseq says every `INTERVAL` updates, without the first lines.

    Raises:
        ValueError: there are no more lines than those.
    """
    found = [float(json.loads(text)["ups"]) for text in INNER.findall(log)]
    if len(found) <= WARM_UP:
        raise ValueError(f"train.log: {len(found)} lines of train_inner, more than {WARM_UP} are needed; see the log")
    return found[WARM_UP:]


def measure(data_bin: Path, folder: Path, device: str, precision: str, small: bool) -> dict[str, Any]:
    """One epoch in one precision."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.log").unlink(missing_ok=True)  # of a run that was stopped
    start = time.monotonic()
    fairseq_calls.train(data_bin, folder, flags_of(data_bin, device, precision, small))
    seconds = time.monotonic() - start
    pairs = read_json(data_bin / "manifest.json")["counts"]["train"]["queries"]
    updates = -(-pairs // (SMALL_BATCH if small else RECIPES["paper"].batch))
    median = statistics.median(updates_per_second((folder / "train.log").read_text(encoding="utf-8")))
    return {
        "precision": precision,
        "update_ms": 1000 / median,
        "epoch_seconds": updates / median,
        "updates": updates,
        "pairs": pairs,
        "whole_run_seconds": seconds,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write after each precision."""
    args = arguments(__doc__, argv)
    items, wanted = 400 if args.small else 29_000, ON_CPU if args.device == "cpu" else tuple(PRECISIONS)
    record = Record(args, "updates", {"items": items, "captions": CAPTIONS, "recipe": "paper", "epochs": 1})
    missing = [precision for precision in wanted if not record.has(precision=precision)]
    data_bin = random_data(args.out / "updates", items) if missing else None
    for precision in missing:
        assert data_bin is not None
        row = measure(data_bin, args.out / "updates" / precision, args.device, precision, args.small)
        record.add(row)
        print(f"{precision:<8}{row['update_ms']:9.1f} ms an update{row['epoch_seconds']:9.1f} s an epoch")
    record.write(complete=True)


if __name__ == "__main__":
    run(main)
