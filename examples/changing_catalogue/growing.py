"""A growing catalogue: how well new items are found before and after fine-tuning, and after training from scratch."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import split
from calls import refusing
from catalogue_table import MEASURED, table
from plan import checkpoint_of
from settings import from_environment, words
from steps import call, check_train_flags, copy_parts, quietly, train_and_evaluate

from cart_fairseq import evaluate as evaluating
from cart_fairseq.files import replacing
from preprocess import update_identifiers

FINE_TUNE_FLAGS = "--max-epoch 3 --lr 2e-4"


def run(data: Path, out: Path, flags: Sequence[str]) -> None:
    """Split the data, train on old items, add new items, fine-tune, train from scratch, and print all metrics."""
    settings = from_environment()
    split_flags, fine_tune_flags = words("SPLIT_FLAGS"), words("FINE_TUNE_FLAGS", FINE_TUNE_FLAGS)
    with refusing("SPLIT_FLAGS", split.parser().prog):
        split.parser().parse_args([str(data), str(out), *split_flags])
    check_train_flags(out / "old", flags, settings)
    check_train_flags(out / "fine-tune", [*flags, *fine_tune_flags], settings, "FINE_TUNE_FLAGS")
    parts, old, updated, fine_tuned = out / "data", out / "old", out / "updated", out / "fine-tune"

    print("\n==== items of today and of tomorrow")
    if not parts.is_dir():
        call(split.main, data, parts, *split_flags)

    print("\n==== a model of the old items")
    train_and_evaluate(parts / "old", old, flags, settings)

    print("\n==== the new items join")
    if not updated.is_dir():
        add_new_items(old, parts, updated)

    print("\n==== short fine-tuning with replay")
    if not (fine_tuned / "identifiers").is_dir():
        copy_parts(updated, ("identifiers",), fine_tuned)
    checkpoint = checkpoint_of(old / "checkpoints")
    known = ("--vocabulary-from", str(old / "data-bin"), "--valid-size", "0")
    train_and_evaluate(
        parts / "fine-tune",
        fine_tuned,
        [*flags, "--finetune-from-model", str(checkpoint), *fine_tune_flags],
        dataclasses.replace(settings, binarize_flags=known),
    )

    print("\n==== identifiers and a model made anew")
    train_and_evaluate(parts / "all", out / "all", flags, settings)

    print("\n==== figures")
    measure(out, "before", old / "data-bin", old)
    measure(out, "added", updated, old)
    measure(out, "fine-tuned", updated, fine_tuned)
    measure(out, "retrained", out / "all" / "data-bin", out / "all")
    print(table(out / "results"))


def add_new_items(old: Path, parts: Path, updated: Path) -> None:
    """Copy the data-bin of the old items to `updated` and add the new items."""
    with replacing(updated, directory=True) as new:
        shutil.copytree(old / "data-bin", new, dirs_exist_ok=True, symlinks=True)
        files = ["--embeddings", parts / "new" / "embeddings.npy", "--items", parts / "new" / "items.jsonl"]
        reference = ["--reference", parts / "old" / "embeddings.npy"]
        call(update_identifiers.main, "add", "--data-bin", new, *reference, *files)


def measure(out: Path, state: str, data_bin: Path, trained: Path) -> None:
    """Measure a model: queries of old items on all items, queries of new items on all items and on the new items."""
    for measured in MEASURED:
        queries, candidates = measured.split(".")
        path = out / "results" / f"{state}.{measured}.json"
        if path.is_file() or (state == "before" and queries == "new"):
            continue
        flags = ["--queries", out / "data" / f"queries.{queries}.jsonl", "--data", data_bin]
        flags += ["--path", checkpoint_of(trained / "checkpoints"), "--candidates", candidates, "--json", path]
        quietly(evaluating.main, *flags)
