"""What ``steps.sh`` leaves open: every default, from the recipe, the size of the data and whether a GPU is there.

    plan.py prepare DATA             flags of build_identifiers and binarize
    plan.py train OUT [flags …]      flags of fairseq-train, and whether there is anything left to train
    plan.py trained OUT              notes that training is complete
    plan.py measure OUT              which checkpoint to measure, on what

Each prints shell assignments for ``steps.sh`` to evaluate. ``OUT/checkpoints/plan.json`` remembers what was being trained,
so that a second call goes on with the same model or refuses, and never mixes two. The recipe is the one that the
environment's ``RECIPE`` names, else ``cuda`` or ``cpu``, whatever the machine is.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from schedules import RECIPES, Recipe

from cart_fairseq.files import read_json, run_script, sha256, write_json
from cart_fairseq.retriever import BEAM, RERANKED_BEAM
from preprocess.data.inputs import read_items

PAIR_COST = 12  # time of a pair's decoder rows, in encoder positions; measured on two cores at width 256
CLUSTERS = 128  # K and codebook size of the paper
SYMBOL_BYTES = 4  # of a query symbol in the indexed data
RQVAE_EPOCHS = 500  # of the paper
MEASURED = ("valid", "test")
SEED = 1
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
    "--cpu": 0,
}
FIXED = ("--save-dir", "--user-dir", "--task", "--valid-subset")


def identifier_flags(items: int, sized_for: str) -> list[str]:
    """Flags of ``build_identifiers`` for so many items."""
    recipe, clusters, epochs = RECIPES[sized_for], CLUSTERS, RQVAE_EPOCHS
    if recipe.items_per_cluster:
        clusters = max(1, min(clusters, items // recipe.items_per_cluster))
    if recipe.rqvae_rows:
        epochs = max(50, min(epochs, recipe.rqvae_rows // items))
    flags = ["--kmeans-clusters", clusters, "--codebook-size", clusters, "--epochs", epochs]
    if recipe.joined:
        flags += ["--scheme", "residual-kmeans"]
    if clusters < CLUSTERS:
        flags.append("--allow-collapse")  # among so few items a level means little
    return [str(flag) for flag in flags]


def train_flags(
    manifest: dict[str, Any], sized_for: str, machine: str, gpus: int, user: Sequence[str], repeated: int = 0
) -> list[str]:
    """Flags of ``fairseq-train`` before the user's own, which follow and win.

    Args:
        manifest: of the data-bin.
        sized_for: the name of the recipe that the model follows.
        machine: the kind of machine this is.
        gpus: number of GPUs; ``fairseq-train`` uses them all.
        user: the user's flags; length and batch move the learning-rate schedule, --arch replaces the sizes.
        repeated: pairs that come again in an epoch, beyond those of the manifest.
    """
    recipe, pairs = RECIPES[sized_for], manifest["counts"]["train"]["queries"] + repeated
    wanted, _ = _user_options().parse_known_args(list(user))
    batch = min(recipe.batch, max(16, pairs // recipe.updates))
    per_worker = wanted.batch_size or max(1, batch // max(1, gpus))
    per_update = per_worker * max(1, gpus) * int((wanted.update_freq or "1").split(",")[0])
    per_epoch = -(-pairs // per_update)
    work = PAIR_COST * pairs + manifest["files"]["train.query-id.query.bin"]["bytes"] // SYMBOL_BYTES
    epochs = wanted.max_epoch or min(recipe.epochs[1], max(recipe.epochs[0], recipe.work // work))
    if wanted.max_update and not wanted.max_epoch:
        epochs = -(-wanted.max_update // per_epoch)
    updates = min(epochs * per_epoch, wanted.max_update or sys.maxsize)
    warmup = min(recipe.warmup_epochs * per_epoch, updates // 10)
    flags: list[Any] = ["--task", "cart_retrieval", "--arch", "cart", "--criterion", "cart_rdrop"]
    if wanted.arch is None:  # an architecture of the user's brings its own sizes
        flags += ["--encoder-embed-dim", recipe.width, "--encoder-ffn-embed-dim", recipe.feed_forward]
        flags += ["--encoder-layers", recipe.layers, "--decoder-layers", recipe.layers]
        flags += ["--encoder-attention-heads", recipe.heads, "--decoder-attention-heads", recipe.heads]
        if "text_encoder" in manifest:  # brings the encoder's sizes, which the decoder's follow unless told
            flags += ["--decoder-embed-dim", recipe.width, "--decoder-ffn-embed-dim", recipe.feed_forward]
    if recipe.joined:
        flags += ["--dense-dim", 2 * recipe.joined, "--dense-weight", recipe.dense_weight]
        flags += ["--distillation-weight", recipe.distillation]
        if manifest["index_captions"] != "include":
            flags += ["--dense-dropout", recipe.unseen_dropout]
        flags += ["--index-repeats", index_repeats(recipe, manifest)]
    flags += ["--dropout", recipe.dropout]
    flags += ["--consistency-weight", recipe.consistency, "--label-smoothing", recipe.label_smoothing]
    flags += ["--shared-encoder"] if recipe.shared_encoder else []
    flags += ["--optimizer", "adam", "--adam-betas", recipe.adam_betas, "--clip-norm", recipe.clip_norm]
    flags += ["--lr-scheduler", "cosine", "--lr", recipe.learning_rate, "--warmup-init-lr", 1e-6, "--lr-shrink", 1]
    flags += ["--warmup-updates", warmup, "--lr-period-updates", max(1, updates - warmup)]
    flags += ["--batch-size", per_worker, "--max-epoch", epochs, "--seed", SEED]
    flags += ["--required-batch-size-multiple", 1]  # fairseq drops a last batch that is no multiple of its default, 8
    flags += ["--no-epoch-checkpoints", "--log-format", "simple", "--log-interval", 100]
    if "valid" in manifest["counts"]:
        queries = manifest["counts"]["valid"]["queries"]
        interval = validation_interval(epochs, recipe.validations, -(-queries // pairs))
        flags += ["--valid-subset", "valid", "--validate-interval", interval]
        flags += ["--eval-beam", recipe.eval_beam]
        flags += ["--best-checkpoint-metric", "recall_at_1", "--maximize-best-checkpoint-metric"]
        flags += ["--patience", recipe.patience]
    else:
        flags += ["--disable-validation"]
    flags += ["--num-workers", 0] + (["--cpu"] if machine == "cpu" else [])
    flags += ["--float32-matmul-precision", "high" if machine == "cuda" else "medium"]
    return [str(flag) for flag in flags]


def validation_interval(epochs: int, validations: int, least: int) -> int:
    """Epochs between validations, so that the last epoch has one where that can be.

    >>> validation_interval(12, 3, 1), validation_interval(7, 3, 1), validation_interval(10, 0, 3), validation_interval(2, 0, 5)
    (4, 7, 5, 5)
    """
    if validations:
        least = max(least, -(-epochs // validations))
    return next((interval for interval in range(least, epochs + 1) if epochs % interval == 0), least)


def _user_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--arch")
    options.add_argument("--max-epoch", type=int)
    options.add_argument("--max-update", type=int)
    options.add_argument("--batch-size", "--max-sentences", type=int)
    options.add_argument("--update-freq")
    options.add_argument("--seed", type=int)
    options.add_argument("--index-repeats", type=int)
    return options


def lasting(user: Sequence[str]) -> list[str]:
    """The user's flags without those that may change between two calls.

    Raises:
        ValueError: a flag that ``steps.sh`` sets itself.
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


def plan_training(out: Path, user: Sequence[str], sized_for: str, machine: str, gpus: int) -> dict[str, Any]:
    """Decide what to train under ``out/checkpoints``, and remember it there.

    Returns:
        Shell variables: ``train_flags``, ``train_needed`` (yes or no).

    Raises:
        ValueError: checkpoints of other data or of another model lie there.
    """
    manifest = read_json(out / "data-bin" / "manifest.json")
    path = out / "checkpoints" / "plan.json"
    now = {"data": sha256(out / "data-bin" / "manifest.json"), "flags": lasting(user), "sized_for": sized_for}
    before = read_json(path) if path.is_file() and (path.parent / "checkpoint_last.pt").is_file() else None
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
    wanted, _ = _user_options().parse_known_args(list(user))
    repeats = (wanted.index_repeats or index_repeats(RECIPES[sized_for], manifest)) - 1
    repeated = repeats * index_captions(out / "data-bin") if repeats else 0
    flags = train_flags(manifest, sized_for, machine, gpus, user, repeated)
    complete = before is not None and before.get("complete") == list(user)
    said = {"seed": wanted.seed or SEED, "train_flags": [*flags, *user], "call": list(user)}
    write_json(path, {**now, **said, "complete": list(user) if complete else None})
    return {"train_flags": flags, "train_needed": "no" if complete else "yes"}


def index_repeats(recipe: Recipe, manifest: dict[str, Any]) -> int:
    """How often an index caption comes in an epoch; of those that are borrowed there are many already."""
    return recipe.index_repeats if manifest["index_captions"] == "include" else 1


def index_captions(data_bin: Path) -> int:
    """How many training pairs are index captions."""
    roles = pq.read_table(data_bin / "queries.train.parquet", columns=["role"])["role"]
    return int(pc.sum(pc.equal(roles, "index")).as_py())


def note_trained(out: Path) -> dict[str, Any]:
    """Mark training as complete.

    Raises:
        ValueError: training left no checkpoint.
    """
    checkpoint_of(out / "checkpoints")
    plan = read_json(out / "checkpoints" / "plan.json")
    write_json(out / "checkpoints" / "plan.json", {**plan, "complete": plan["call"]})
    return {}


def plan_measuring(out: Path, machine: str) -> dict[str, Any]:
    """What there is to measure.

    Returns:
        Shell variables: ``checkpoint``; ``measured``, the subsets to measure; ``sets``, the candidate sets that differ;
        ``device_flags`` of fairseq-generate; ``beam``; ``tuned``, whether there is a dense head to weigh on valid queries.

    Raises:
        ValueError: training is not complete, or its checkpoint is gone.
    """
    path = out / "checkpoints" / "plan.json"
    plan: dict[str, Any] = read_json(path) if path.is_file() else {"complete": None}
    if plan["complete"] is None:
        raise ValueError(f"{path.parent}: training is not complete; give the command that trains (again) first")
    manifest = read_json(out / "data-bin" / "manifest.json")
    measured = [subset for subset in MEASURED if subset in manifest["counts"]]
    items = read_json(out / "data-bin" / "identifiers" / "manifest.json")["items"]
    joined = bool(RECIPES[plan["sized_for"]].joined)
    differ = any(manifest["counts"][subset]["candidates"] < items for subset in measured)
    return {
        "checkpoint": str(checkpoint_of(path.parent)),
        "measured": measured,
        "sets": ["split", "all"] if differ else ["split"],
        "device_flags": ["--cpu"] if machine == "cpu" or "--cpu" in plan["call"] else [],
        "beam": str(RERANKED_BEAM if joined else BEAM),
        "tuned": "yes" if joined and "valid" in measured else "no",
    }


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


def shell(variables: dict[str, Any]) -> str:
    """Assignments that bash evaluates to these strings and lists of strings."""
    return "\n".join(
        f"{name}=({shlex.join(value)})" if isinstance(value, list) else f"{name}={shlex.quote(value)}"
        for name, value in variables.items()
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the commands of the module's docstring."""
    command, folder, *user = sys.argv[1:] if argv is None else argv
    gpus = torch.cuda.device_count() if torch.cuda.is_available() and "--cpu" not in user else 0
    machine = "cuda" if gpus else "cpu"
    sized_for = os.environ.get("RECIPE") or machine
    if sized_for not in RECIPES:
        raise ValueError(f"RECIPE is {sized_for!r}; use one of {', '.join(RECIPES)}, or leave it out")
    if command == "prepare":
        items = len(read_items(Path(folder) / "items.jsonl"))
        extra = [shlex.split(os.environ.get(name, "")) for name in ("IDENTIFIER_FLAGS", "BINARIZE_FLAGS")]
        flags = identifier_flags(items, sized_for) + extra[0]
        joined = RECIPES[sized_for].joined
        variables: dict[str, Any] = {
            "identifier_flags": flags,
            "binarize_flags": extra[1],
            "join_flags": ["--align", str(joined)] if joined else [],
        }
    elif command == "train":
        variables = plan_training(Path(folder), user, sized_for, machine, gpus)
    elif command == "trained":
        variables = note_trained(Path(folder))
    elif command == "measure":
        variables = plan_measuring(Path(folder), machine)
    else:
        raise ValueError(f"{command}: no such command; use prepare, train, trained or measure")
    print(shell(variables))


if __name__ == "__main__":
    run_script(main)
