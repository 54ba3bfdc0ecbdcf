"""Refuses options of ``fairseq-train`` that fairseq takes and that fail, or do something else, after minutes of training."""

import ast
import functools
import importlib.util
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fairseq import optim
from fairseq.distributed import utils as distributed
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.optim import lr_scheduler
from omegaconf import DictConfig

from cart_fairseq.measuring.labels import METRIC_NAMES
from cart_fairseq.tasks.checked_checkpoints import model_of_task
from cart_fairseq.tasks.checkpoint_files import alone

TRAIN = "fairseq_cli.train"
TASKS = ("cart_retrieval", "cart_rqvae")
LOSSES = {
    "cart_rdrop": ("loss", "nll_loss", "consistency", "contrastive"),
    "cart_rqvae": ("loss", "reconstruction_loss", "commitment_loss"),
    "cross_entropy": ("loss", "nll_loss", "ppl"),
    "label_smoothed_cross_entropy": ("loss", "nll_loss", "ppl"),
}
"""What criterions report of a validation, the less the better. A criterion of somebody else may report anything."""
LEAST = {
    "common": {"log_interval": 1, "seed": 0},
    "dataset": {
        "validate_interval": 1,
        "max_valid_steps": 0,
        "num_workers": 0,
        "curriculum": 0,
        "batch_size": 1,
        "required_batch_size_multiple": 1,
    },
    "checkpoint": {"save_interval": 1},
    "optimization": {"max_epoch": 0, "max_update": 0, "clip_norm": 0},
}
"""Options and their least values."""
LAST = "checkpoint_last.pt"
SUBSETS = ("train", "valid", "test")


def check_training(cfg: Any) -> None:
    """Check what can be checked of fairseq's own options before data and model are loaded.

    Args:
        cfg: fairseq's configuration of a training.

    Raises:
        ValueError: an option is wrong; the message names it, its value and what to do.
    """
    for group, options in LEAST.items():
        for name, least in options.items():
            value = getattr(cfg[group], name)
            if value is not None and not value >= least:  # NaN, too
                raise ValueError(f"{flag(name)} is {value}; it must be at least {least}")
    if not cfg.optimization.update_freq or min(cfg.optimization.update_freq) < 1:
        raise ValueError(f"--update-freq is {list(cfg.optimization.update_freq)}; it must be at least 1")
    _check_architecture(cfg)
    _check_checkpoints(cfg.checkpoint)
    if _name(cfg.task) == "cart_retrieval":
        _check_subsets(cfg.dataset)
    if not cfg.dataset.disable_validation:
        _check_metric(cfg)
    _check_rates(cfg)


def flag(name: str) -> str:
    """The flag of an option.

    >>> flag("adam_betas")
    '--adam-betas'
    """
    return "--" + name.replace("_", "-")


def _check_architecture(cfg: Any) -> None:
    """Refuse models of other tasks, which fail while they are made."""
    wanted, found = model_of_task(_name(cfg.task)), ARCH_MODEL_REGISTRY.get(_name(cfg.model))
    assert wanted is not None
    if not (isinstance(found, type) and issubclass(found, wanted)):
        ours = sorted(name for name, model in ARCH_MODEL_REGISTRY.items() if model is wanted)
        raise ValueError(f"--arch is {_name(cfg.model)}; --task {_name(cfg.task)} trains {', '.join(ours)}")


def _check_subsets(cfg: Any) -> None:
    """Refuse subsets that no data-bin has."""
    for name in ("train_subset", "valid_subset"):
        unknown = sorted({*getattr(cfg, name).split(",")} - {*SUBSETS})
        if unknown:
            raise ValueError(f"{flag(name)} names {unknown[0]!r}; the subsets of a data-bin are {', '.join(SUBSETS)}")


def _check_metric(cfg: Any) -> None:
    """Refuse a metric that validation does not report, and one that is compared the wrong way round."""
    metric, most = cfg.checkpoint.best_checkpoint_metric, cfg.checkpoint.maximize_best_checkpoint_metric
    losses = LOSSES.get(_name(cfg.criterion), ())
    shares = [*METRIC_NAMES] if _name(cfg.task) == "cart_retrieval" else []
    if getattr(cfg.criterion, "report_accuracy", False):
        shares.append("accuracy")
    known = (*losses, *shares)
    if losses and metric not in known:
        raise ValueError(
            f"--best-checkpoint-metric is {metric!r}, which no validation reports; give one of {', '.join(known)}"
        )
    if metric in shares and not most:
        raise ValueError(
            f"--best-checkpoint-metric is {metric}, so the worst checkpoint would be kept; add "
            "--maximize-best-checkpoint-metric"
        )
    if metric in losses and most:
        raise ValueError(
            f"--maximize-best-checkpoint-metric keeps the worst checkpoint by {metric}; leave it out, or give "
            "--best-checkpoint-metric recall_at_1"
        )


def _check_checkpoints(cfg: Any) -> None:
    """Refuse files that are not there, and ways of writing checkpoints that write none."""
    for name in ("restore_file", "finetune_from_model"):
        path = getattr(cfg, name)
        if path and path != LAST and "://" not in path and not Path(path).is_file():
            said = (
                f", a folder; give a checkpoint, such as {LAST} in it"
                if Path(path).is_dir()
                else "; there is no such file"
            )
            raise ValueError(f"{flag(name)} is {path}{said}")
    if "/" in cfg.checkpoint_suffix:
        raise ValueError(f"--checkpoint-suffix is {cfg.checkpoint_suffix!r}, a path; give --save-dir a folder")
    if cfg.write_checkpoints_asynchronously and importlib.util.find_spec("iopath") is None:
        raise ValueError(
            "--write-checkpoints-asynchronously needs the package iopath; install it, or leave the flag out"
        )
    overrides = _literal(cfg.optimizer_overrides)
    if not isinstance(overrides, dict):
        raise ValueError(
            f"--optimizer-overrides is {cfg.optimizer_overrides!r}; give a dictionary such as {{'lr': 0.1}}"
        )


def _check_rates(cfg: Any) -> None:
    """Make optimiser and schedule for one number, as the training will for its weights."""
    if not all(math.isfinite(rate) and rate >= 0 for rate in cfg.optimization.lr):
        raise ValueError(f"--lr is {list(cfg.optimization.lr)}; it must not be below 0")
    for name in ("adam_betas", "adafactor_betas", "lamb_betas"):
        betas = getattr(cfg.optimizer, name, None)
        if isinstance(betas, str) and not _are_betas(_literal(betas)):
            raise ValueError(f"{flag(name)} is {betas!r}; give two numbers from 0 to below 1 such as '(0.9, 0.98)'")
    for name in ("adam_eps", "weight_decay"):
        value = getattr(cfg.optimizer, name, 0)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{flag(name)} is {value}; it must not be below 0")
    if not _name(cfg.optimizer):
        raise ValueError("--optimizer is missing; give one, such as --optimizer adam")
    if _name(cfg.optimizer) == "composite":  # it wants weights of several groups
        return
    weight = torch.nn.Parameter(torch.zeros(1))
    try:
        lr_scheduler.build_lr_scheduler(cfg.lr_scheduler, optim.build_optimizer(cfg.optimizer, [weight])).step_update(0)
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        NameError,
        SyntaxError,
        TypeError,
        ValueError,
    ) as error:
        schedule = _name(cfg.lr_scheduler)
        said = str(error) or traceback.extract_tb(error.__traceback__)[-1].line
        raise ValueError(
            f"--optimizer {_name(cfg.optimizer)} and --lr-scheduler {schedule} do not go with their options ({said}); "
            "correct them"
        ) from None


def _literal(text: str) -> Any:
    """The value of a Python literal; None for a text that is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _are_betas(found: Any) -> bool:
    return (
        isinstance(found, tuple | list)
        and len(found) == 2
        and all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in found)
    )


def _name(cfg: Any) -> str:
    found = cfg if isinstance(cfg, str) else getattr(cfg, "_name", "")
    return str(found or "")


def _module_of(main: Callable[..., Any]) -> str:
    """The module of a function, also if it runs as a script."""
    name = main.__module__
    return getattr(sys.modules[name].__spec__, "name", name) if name == "__main__" else name


def install() -> None:
    """Make fairseq's training check the options of our tasks first, before it reads data."""
    call: Callable[..., Any] = distributed.call_main
    if hasattr(call, "__wrapped__"):  # installed
        return

    @functools.wraps(call)
    def checked(cfg: Any, main: Callable[..., Any], **kwargs: Any) -> Any:
        if isinstance(cfg, DictConfig) and _module_of(main) == TRAIN and _name(cfg.task) in TASKS:
            check_training(cfg)
            if not cfg.checkpoint.no_save and cfg.distributed_training.distributed_rank == 0:
                with alone(Path(cfg.checkpoint.save_dir)):
                    return call(cfg, main, **kwargs)
        return call(cfg, main, **kwargs)

    distributed.call_main = checked
