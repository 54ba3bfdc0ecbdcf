"""A recipe's flags for single commands, from the size of the data and the machine; the user's follow them and win."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from calls import refusing
from schedules import RECIPES, Recipe

from preprocess.data.arguments import positive

PAIR_COST = 12  # time of a pair's decoder rows, in encoder positions; measured on two cores at width 256
CLUSTERS = 128  # K and codebook size of the paper
SYMBOL_BYTES = 4  # of a query symbol in the indexed data
RQVAE_EPOCHS = 500  # of the paper
SEED = 1
TRAIN_FLAGS = "fairseq-train flags"
"""What messages call the flags of ``fairseq-train`` on the command line."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where training runs: ``cuda`` or ``cpu``, and how many GPUs; ``fairseq-train`` uses them all."""

    name: str
    gpus: int = 0


def this_machine(user: Sequence[str]) -> Machine:
    """The machine as torch sees it; the user's ``--cpu`` hides its GPUs."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() and "--cpu" not in user else 0
    return Machine("cuda" if gpus else "cpu", gpus)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long training goes on, and in which steps."""

    batch_per_worker: int
    epochs: int
    warmup_updates: int
    period_updates: int


def identifier_flags(items: int, sized_for: str, published: bool = True) -> list[str]:
    """Flags of ``build_identifiers`` for so many items.

    Args:
        items: how many there are.
        sized_for: the name of the recipe.
        published: whether the scheme is one of the paper's; others have no ``--faithful``.
    """
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
    if recipe.faithful and published:
        flags.append("--faithful")
    return [str(flag) for flag in flags]


def train_flags(
    manifest: dict[str, Any], sized_for: str, machine: Machine, user: Sequence[str], repeated: int = 0
) -> list[str]:
    """Flags of ``fairseq-train`` before the user's own.

    Args:
        manifest: of the data-bin.
        sized_for: the name of the recipe that the model follows.
        machine: where it is trained.
        user: the user's flags; length and batch move the learning-rate schedule, --arch replaces the sizes.
        repeated: pairs that come again in an epoch, beyond those of the manifest.
    """
    recipe = RECIPES[sized_for]
    schedule = schedule_of(recipe, manifest, machine, user, repeated)
    flags: list[Any] = ["--task", "cart_retrieval", "--arch", "cart", "--criterion", "cart_rdrop"]
    if user_options(user).arch is None:  # an architecture of the user's brings its own sizes
        flags += size_flags(recipe, manifest)
    if recipe.joined:
        flags += dense_flags(recipe, manifest)
        flags += [] if user_options(user).dense_dim == 0 else ["--dense-words"]  # no words without a head
    flags += ["--dropout", recipe.dropout]
    flags += ["--consistency-weight", recipe.consistency, "--label-smoothing", recipe.label_smoothing]
    flags += ["--shared-encoder"] if recipe.shared_encoder else []
    flags += ["--optimizer", "adam", "--adam-betas", recipe.adam_betas, "--clip-norm", recipe.clip_norm]
    flags += ["--lr-scheduler", "cosine", "--lr", recipe.learning_rate, "--warmup-init-lr", 1e-6, "--lr-shrink", 1]
    flags += ["--warmup-updates", schedule.warmup_updates, "--lr-period-updates", schedule.period_updates]
    flags += ["--batch-size", schedule.batch_per_worker, "--max-epoch", schedule.epochs, "--seed", SEED]
    flags += ["--required-batch-size-multiple", 1]  # fairseq drops a last batch that is no multiple of its default, 8
    flags += ["--no-epoch-checkpoints", "--log-format", "simple", "--log-interval", 100]
    if "valid" in manifest["counts"]:
        pairs = manifest["counts"]["train"]["queries"] + repeated
        least = -(-manifest["counts"]["valid"]["queries"] // pairs)
        interval = validation_interval(schedule.epochs, recipe.validations, least)
        flags += ["--valid-subset", "valid", "--validate-interval", interval, "--eval-beam", recipe.eval_beam]
        flags += ["--best-checkpoint-metric", "recall_at_1", "--maximize-best-checkpoint-metric"]
        flags += ["--patience", recipe.patience]
    else:
        flags += ["--disable-validation"]
    flags += ["--num-workers", 0] + (["--cpu"] if machine.name == "cpu" else [])
    if not recipe.faithful:
        flags += ["--float32-matmul-precision", "high" if machine.name == "cuda" else "medium"]
    return [str(flag) for flag in flags]


def size_flags(recipe: Recipe, manifest: dict[str, Any]) -> list[Any]:
    """Sizes of the model."""
    flags = ["--encoder-embed-dim", recipe.width, "--encoder-ffn-embed-dim", recipe.feed_forward]
    flags += ["--encoder-layers", recipe.layers, "--decoder-layers", recipe.layers]
    flags += ["--encoder-attention-heads", recipe.heads, "--decoder-attention-heads", recipe.heads]
    if "text_encoder" in manifest:  # it brings the encoder's sizes; the decoder's are ours
        flags += ["--decoder-embed-dim", recipe.width, "--decoder-ffn-embed-dim", recipe.feed_forward]
    return flags


def dense_flags(recipe: Recipe, manifest: dict[str, Any]) -> list[Any]:
    """The dense head, and what it teaches."""
    flags = ["--dense-dim", 2 * recipe.joined, "--dense-weight", recipe.dense_weight]
    flags += ["--distillation-weight", recipe.distillation]
    if manifest["index_captions"] != "include":
        flags += ["--dense-dropout", recipe.unseen_dropout]
    return [*flags, "--index-repeats", index_repeats(recipe, manifest)]


def index_repeats(recipe: Recipe, manifest: dict[str, Any]) -> int:
    """How often an index caption comes in an epoch; of those that are borrowed there are many already."""
    return recipe.index_repeats if manifest["index_captions"] == "include" else 1


def schedule_of(
    recipe: Recipe, manifest: dict[str, Any], machine: Machine, user: Sequence[str], repeated: int
) -> Schedule:
    """Epochs follow from the recipe's work and the size of the data, unless the user says how many."""
    pairs, wanted = manifest["counts"]["train"]["queries"] + repeated, user_options(user)
    workers = max(1, machine.gpus)
    batch = min(recipe.batch, max(16, pairs // recipe.updates))
    per_worker = wanted.batch_size or max(1, batch // workers)  # none of the numbers given is 0
    per_update = per_worker * workers * (wanted.update_freq or 1)
    per_epoch = -(-pairs // per_update)
    work = PAIR_COST * pairs + manifest["files"]["train.query-id.query.bin"]["bytes"] // SYMBOL_BYTES
    epochs = wanted.max_epoch or min(recipe.epochs[1], max(recipe.epochs[0], recipe.work // work))
    if wanted.max_update and not wanted.max_epoch:
        epochs = -(-wanted.max_update // per_epoch)
    updates = min(epochs * per_epoch, wanted.max_update or sys.maxsize)
    warmup = min(recipe.warmup_epochs * per_epoch, updates // 10)
    return Schedule(per_worker, epochs, warmup, max(1, updates - warmup))


def validation_interval(epochs: int, validations: int, least: int) -> int:
    """Epochs between validations, so that the last epoch has one where that can be.

    >>> validation_interval(12, 3, 1), validation_interval(7, 3, 1), validation_interval(10, 0, 3), validation_interval(2, 0, 5)
    (4, 7, 5, 5)
    """
    if validations:
        least = max(least, -(-epochs // validations))
    return next((interval for interval in range(least, epochs + 1) if epochs % interval == 0), least)


def user_options(user: Sequence[str], where: str = TRAIN_FLAGS) -> argparse.Namespace:
    """Those of the user's flags that a schedule depends on; None where they are not given.

    Args:
        user: the flags.
        where: what holds them, for messages.

    Raises:
        ValueError: a value is no number, or one that fairseq takes for "without end" or that trains nothing.
    """
    options = argparse.ArgumentParser(prog="fairseq-train", usage="%(prog)s flags", add_help=False, allow_abbrev=False)
    options.add_argument("--arch", "-a")
    options.add_argument("--max-epoch", type=positive)
    options.add_argument("--max-update", type=positive)
    options.add_argument("--batch-size", "--max-sentences", type=positive)
    options.add_argument("--update-freq", type=first_epochs)
    options.add_argument("--seed", type=int)
    options.add_argument("--index-repeats", type=positive)
    options.add_argument("--dense-dim", type=int)
    with refusing(where, "fairseq-train"):
        return options.parse_known_args(list(user))[0]


def first_epochs(frequencies: str) -> int:
    """Of fairseq's list, a number an epoch: that of the first one."""
    first, *_ = map(positive, frequencies.split(","))
    return first
