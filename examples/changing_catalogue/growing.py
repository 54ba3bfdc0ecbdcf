"""A growing catalogue: how well new items are found before and after fine-tuning, and after training from scratch."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import split
from calls import call, quietly, refusing
from catalogue_table import MEASURED, table
from folders import copy_parts
from plan import begun, checkpoint_of
from settings import from_environment, words
from steps import Run, check_run, train_and_evaluate
from towers import Tower

from cart_fairseq import evaluate as evaluating
from cart_fairseq.base.files import replacing, sha256, write_json
from cart_fairseq.base.reading import read_json
from preprocess import join_captions, update_identifiers
from preprocess.data.inputs import read_items

FINE_TUNE_FLAGS = "--max-epoch 3 --lr 2e-4"
FINE_TUNE_JOINED_FLAGS = "--max-epoch 1 --lr 2e-4"
REPLAY_ALL = ("--replay", "1000")
"""A join computes the features of an item from its captions, so all of them are replayed."""


def run(data: Path, out: Path, flags: Sequence[str]) -> None:
    """Split the data, train on old items, add new items, fine-tune, train from scratch, and print all metrics.

    Raises:
        ValueError: flags are wrong or have changed, or new items would have no captions.
    """
    settings = from_environment()
    joined = settings.recipe == "joined"
    if settings.index_captions not in ("", "include"):
        raise ValueError(
            f"INDEX_CAPTIONS is {settings.index_captions!r}, but fine-tuning reads the new items' index captions; leave it "
            "out"
        )
    split_flags = [*(REPLAY_ALL if joined else ()), *words("SPLIT_FLAGS")]
    fine_tune_flags = words("FINE_TUNE_FLAGS", FINE_TUNE_JOINED_FLAGS if joined else FINE_TUNE_FLAGS)
    with refusing("SPLIT_FLAGS", split.parser().prog):
        wanted = split.settings_of(split.parser().parse_args([str(data), str(out), *split_flags]))
    parts, updated = out / "data", out / "updated"
    if (parts / "split.json").is_file() and read_json(parts / "split.json") != wanted:
        raise ValueError(f"{parts}: was divided with other SPLIT_FLAGS; choose another OUT")
    old = Run(parts / "old", out / "old", flags, settings)
    going_on = dataclasses.replace(settings, own_start=old.out)
    fine_tuning = Run(parts / "fine-tune", out / "fine-tune", [*flags, *fine_tune_flags], going_on)
    anew = Run(parts / "all", out / "all", flags, settings)
    check_run(*old)
    check_run(*fine_tuning, where="FINE_TUNE_FLAGS")

    print("\n==== items of today and of tomorrow")
    if not parts.is_dir():
        call(split.main, data, parts, *split_flags)

    print("\n==== a model of the old items")
    train_and_evaluate(*old)

    print("\n==== the new items join")
    if not updated.is_dir():
        add_new_items(old.out, parts, updated, out / "joined-new" if joined else None)

    print("\n==== short fine-tuning with replay")
    if not (fine_tuning.out / "identifiers").is_dir():
        copy_parts(updated, ("identifiers",), fine_tuning.out)
    note_beginning(fine_tuning.out, checkpoint_of(old.out / "checkpoints"))
    begin = ["--finetune-from-model", str(checkpoint_of(old.out / "checkpoints"))]
    train_and_evaluate(*fine_tuning._replace(flags=[*flags, *begin, *fine_tune_flags]))

    print("\n==== identifiers and a model made anew")
    train_and_evaluate(*anew)

    print("\n==== figures")
    measure(out, "before", old.out / "data-bin", old.out)
    measure(out, "added", updated, old.out)
    measure(out, "fine-tuned", updated, fine_tuning.out)
    measure(out, "retrained", anew.out / "data-bin", anew.out)
    if joined:
        measure(out, "no-priors", updated, old.out, "--prior-share", "0")
        measure_towers(out)
    print(table(out / "results"))


def add_new_items(old: Path, parts: Path, updated: Path, joined: Path | None) -> None:
    """Copy the data-bin of the old items to `updated` and add the new items.

    Args:
        joined: the folder in which the new items are joined with their captions first; None: their embeddings join.
    """
    embeddings, reference = parts / "new" / "embeddings.npy", parts / "old" / "embeddings.npy"
    if joined is not None:
        known = ["--items", parts / "new" / "items.jsonl", "--captions", parts / "new" / "captions.jsonl"]
        call(join_captions.main, "--like", old / "joined", "--embeddings", embeddings, *known, "--output", joined)
        embeddings, reference = joined, old / "joined"
    with replacing(updated, directory=True) as new:
        shutil.copytree(old / "data-bin", new, dirs_exist_ok=True, symlinks=True)
        files = ["--embeddings", embeddings, "--items", parts / "new" / "items.jsonl", "--reference", reference]
        call(update_identifiers.main, "add", "--data-bin", new, *files)


def note_beginning(fine_tuned: Path, checkpoint: Path) -> None:
    """Remember the model that fine-tuning begins with in ``FINE_TUNED/from.json``.

    Raises:
        ValueError: it began with another one.
    """
    path, now = fine_tuned / "from.json", sha256(checkpoint)
    if begun(fine_tuned) and path.is_file() and read_json(path) != now:
        raise ValueError(
            f"{fine_tuned}: was fine-tuned from another model than {checkpoint}; remove it to fine-tune again"
        )
    write_json(path, now)


def forget_others(results: Path, state: str, checkpoint: Path) -> None:
    """Remove a state's figures if they are of another model, and remember the model in ``RESULTS/models.json``."""
    path, now = results / "models.json", sha256(checkpoint)
    models = read_json(path) if path.is_file() else {}
    if not isinstance(models, dict):
        raise ValueError(f"{path}: does not name the models of the figures; remove the folder to measure again")
    if models.get(state) != now:
        for measured in MEASURED:
            (results / f"{state}.{measured}.json").unlink(missing_ok=True)
        results.mkdir(exist_ok=True)
        write_json(path, {**models, state: now})


def measure(out: Path, state: str, data_bin: Path, trained: Path, *options: str) -> None:
    """Measure a model: queries of old items on all items, queries of new items on all items and on the new items.

    Args:
        out, state: the figures are written to ``OUT/results/STATE.*.json``.
        data_bin: the catalogue.
        trained: the run that trained the model.
        options: further flags of the search.
    """
    checkpoint = checkpoint_of(trained / "checkpoints")
    forget_others(out / "results", state, checkpoint)
    for measured in MEASURED:
        queries, candidates = measured.split(".")
        path = out / "results" / f"{state}.{measured}.json"
        if path.is_file() or (state == "before" and queries == "new"):
            continue
        flags = ["--queries", out / "data" / f"queries.{queries}.jsonl", "--data", data_bin]
        flags += ["--path", checkpoint, "--candidates", candidates, "--json", path, *options]
        quietly(evaluating.main, *flags)


def measure_towers(out: Path) -> None:
    """Measure the dual towers of the joins: of the old items, of the same tower with new items, and made anew."""
    data, results = out / "data", out / "results"
    old, new = (
        (out / "old" / "joined", data / "old" / "items.jsonl"),
        (out / "joined-new", data / "new" / "items.jsonl"),
    )
    anew = (out / "all" / "joined", data / "all" / "items.jsonl")
    towers = {"before": [old], "added": [old, new], "retrained": [anew]}
    added = [str(item["item_id"]) for item in read_items(new[1])]
    for state, joins in towers.items():
        tower = Tower(joins[0][0], joins)
        for measured in MEASURED:
            queries, candidates = measured.split(".")
            path = results / f"tower-{state}.{measured}.json"
            if not path.is_file() and (state != "before" or queries == "old"):
                chosen = None if candidates == "all" else added
                write_json(path, tower.measure(data / f"queries.{queries}.jsonl", chosen))
