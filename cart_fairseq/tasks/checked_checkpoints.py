"""Makes fairseq read checkpoints in torch's safe mode, and use of their settings only what was checked.

All of fairseq's commands, its functions for ensembles and its trainer read checkpoints with one function. fairseq then
builds the task, the model and, to validate, the criterion that the stored settings name. Those of other projects may
evaluate an option, import a folder or open a path. Here only the tasks and architectures of this project are accepted.
Their options are kept by name, and every other stored setting is left out.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

from fairseq import checkpoint_utils
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.dataclass.configs import GenerationConfig
from fairseq.dataclass.utils import overwrite_args_by_name
from fairseq.file_io import PathManager
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY, TASK_REGISTRY
from omegaconf import OmegaConf
from torch import Tensor

from cart_fairseq.base.checks import short
from cart_fairseq.loading.checkpoint import read_checkpoint, refuse_damaged, refuse_foreign
from cart_fairseq.loading.optimizer_state import MOST_UPDATES, check_moments
from cart_fairseq.loading.stored import (
    TRAIN_AGAIN,
    check_choices,
    check_ranking,
    check_rqvae_sizes,
    check_sizes,
    check_types,
    check_weights,
    plain,
    section,
)
from cart_fairseq.models.cart import CARTModel
from cart_fairseq.models.cart_rqvae import RQVAEModel, RQVAEModelConfig
from cart_fairseq.models.flags import DEFAULTS, foreign_flags, network_config
from cart_fairseq.tasks.cart_retrieval import CartRetrievalTask
from cart_fairseq.tasks.cart_rqvae import RQVAETask
from cart_fairseq.tasks.retrieval_options import OF_SEARCHES, CartRetrievalConfig, check_options

MODELS: dict[type, type] = {CartRetrievalTask: CARTModel, RQVAETask: RQVAEModel}
"""The tasks that are accepted, with their models."""
CRITERIONS = ("cart_rdrop", "cart_rqvae", "cross_entropy", "label_smoothed_cross_entropy")
RQVAE_DEFAULTS = {each.name: each.default for each in dataclasses.fields(RQVAEModelConfig) if each.name != "_name"}
GIVEN = ("data",)
"""Options of tasks that come from the caller, never from the checkpoint."""


def load_checked(path: str, arg_overrides: dict[str, Any] | None = None, load_on_all_ranks: bool = False) -> Any:
    """Read a checkpoint as fairseq's ``load_checkpoint_to_cpu`` does, but refuse what is not this project's.

    Args:
        path: the file.
        arg_overrides: settings of the caller, which replace stored ones.
        load_on_all_ranks: not used: nothing is downloaded.

    Returns:
        The checkpoint's dictionary, with ``cfg`` as a configuration of omegaconf.

    Raises:
        ValueError: the file cannot be read in torch's safe mode, the checkpoint is of another task or architecture, its
            settings or weights are damaged, or a weight is not finite; the message names the file.
    """
    local = PathManager.get_local_path(path)
    try:
        state = read_checkpoint(local)
    except Exception:
        refuse_damaged(local)  # reads it again, to say what is wrong
        raise
    refuse_foreign(path, state)
    try:
        accepted = accept(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if arg_overrides is not None:
        overwrite_args_by_name(accepted["cfg"], arg_overrides)
    return accepted


def accept(state: Any) -> dict[str, Any]:
    """Check a checkpoint's dictionary and return what is kept of it.

    Raises:
        ValueError: see :func:`load_checked`.
    """
    if not isinstance(state, Mapping) or not isinstance(state.get("model"), Mapping):
        raise ValueError(f"it is not a checkpoint of fairseq; {TRAIN_AGAIN}")
    if state.get("args") is not None:
        raise ValueError(f"its settings are those of a version of fairseq before 0.12 (args); {TRAIN_AGAIN}")
    history, extra = state.get("optimizer_history"), state.get("extra_state")
    if not (isinstance(history, list) and history and all(isinstance(each, Mapping) for each in history)):
        raise ValueError(f"its optimizer_history is {short(history)}; {TRAIN_AGAIN}")
    if not (isinstance(extra, Mapping) and isinstance(extra.get("train_iterator"), Mapping)):
        raise ValueError(f"its extra_state lacks the place in the training data; {TRAIN_AGAIN}")
    _check_progress(history[-1], extra)
    check_weights(state["model"])
    check_ranking(state["model"])
    check_moments(state.get("last_optimizer_state"))
    cfg = accept_settings(state.get("cfg"), state["model"])
    kept = {name: state.get(name) for name in ("model", "criterion", "last_optimizer_state")}
    extra = dict(extra) | {"metrics": _meters(extra.get("metrics", {}))}
    return {"args": None, **kept, "cfg": cfg, "optimizer_history": history, "extra_state": extra, "task_state": {}}


def model_of_task(name: str) -> type | None:
    """The model that a task trains, if it is one of this project's."""
    kind = TASK_REGISTRY.get(name)
    return next((model for each, model in MODELS.items() if isinstance(kind, type) and issubclass(kind, each)), None)


def accept_settings(cfg: Any, weights: Mapping[str, Tensor]) -> Any:
    """Make a configuration of what is kept of the stored settings.

    Raises:
        ValueError: they are of another task, architecture or criterion, or out of range.
    """
    task = section(cfg, "task")
    expected = model_of_task(_name(task, "task"))
    if expected is None:
        raise ValueError(f"it is a checkpoint of task {_name(task, 'task')}; give one of cart_retrieval or cart_rqvae")
    model = section(cfg, "model")
    arch = _name(model, "arch")
    if ARCH_MODEL_REGISTRY.get(arch) is not expected:
        raise ValueError(
            f"it is a checkpoint of architecture {arch}, which is none of task {_name(task, 'task')}; {TRAIN_AGAIN}"
        )
    criterion = section(cfg, "criterion")
    loss = _name(criterion, "criterion")
    if loss not in CRITERIONS:
        raise ValueError(f"it was trained with criterion {loss}; give a checkpoint of {', '.join(CRITERIONS)}")
    kind = TASK_DATACLASS_REGISTRY[_name(task, "task")]
    kept = {
        "task": _options(kind, task) | dict.fromkeys(GIVEN, "") | _of_searches(kind),
        "model": _model(arch, model, weights),
        "criterion": _options(CRITERION_DATACLASS_REGISTRY.get(loss), criterion),
        "generation": OmegaConf.to_container(OmegaConf.structured(GenerationConfig())),
        "tokenizer": None,
        "bpe": None,
    }
    for name, value in (("task", _name(task, "task")), ("criterion", loss)):
        kept[name]["_name"] = value
    return OmegaConf.create(kept, flags={"allow_objects": True})


def _options(kind: Any, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is stored of the options of a task or criterion.

    Args:
        kind: fairseq's dataclass of the options, or None.
        stored: the section of the settings.

    Raises:
        ValueError: one has another type, is none of its choices, or is out of the range of our own task.
    """
    fields = (
        {}
        if kind is None
        else {each.name: each for each in dataclasses.fields(kind) if each.name not in (*GIVEN, "_name")}
    )
    options = plain(stored, fields)
    known = {name: each.default for name, each in fields.items() if "${" not in str(each.default)}
    check_types(options, known)
    check_choices(
        options,
        {
            name: [choice.value for choice in each.type]
            for name, each in fields.items()
            if isinstance(each.type, type) and issubclass(each.type, Enum)
        },
    )
    if kind is CartRetrievalConfig:
        check_options(argparse.Namespace(**known | options))
    return options


def _of_searches(kind: Any) -> dict[str, Any]:
    """The defaults of those options of a task that every search is given anew."""
    defaults = {} if kind is None else {each.name: each.default for each in dataclasses.fields(kind)}
    return {name: defaults[name] for name in OF_SEARCHES if name in defaults}


def _name(settings: Mapping[str, Any], also: str) -> str:
    """Return the name under which fairseq registers what the settings are of; fairseq reads ``_name`` first."""
    found = settings.get("_name") or settings.get(also)
    return found if isinstance(found, str) else short(found)


def _model(arch: str, stored: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """Return the options of a model: a namespace for ``cart``, as its architecture expects, else a dictionary."""
    if ARCH_MODEL_REGISTRY[arch] is RQVAEModel:
        options = plain(stored, RQVAE_DEFAULTS)
        check_types(options, RQVAE_DEFAULTS)
        check_rqvae_sizes(RQVAE_DEFAULTS | options, weights)
        return options | {"_name": arch}
    args = argparse.Namespace(**plain(stored, [*DEFAULTS, *dict(foreign_flags())]))
    check_types(vars(args), DEFAULTS)
    ARCH_CONFIG_REGISTRY[arch](args)
    if args.dense_dim and "dense.share_logit" not in weights:
        raise ValueError("it has no dense head, or one of an earlier version; train again in a new --save-dir")
    pretrained = any(name.startswith("encoder.transformer.") for name in weights)
    check_sizes(network_config(args), args.dense_dim, args.media_positions, pretrained, weights)
    if pretrained:  # the data-bin's encoder has sizes of its own
        for name in ("layers", "embed_dim", "ffn_embed_dim", "attention_heads"):
            setattr(args, f"encoder_{name}", DEFAULTS[f"encoder_{name}"])
    args.arch = args._name = arch
    return args


def _check_progress(last: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
    """Check how far training was, which fairseq takes up where it goes on.

    Raises:
        ValueError: a number is none.
    """
    place, schedule = extra["train_iterator"], last.get("lr_scheduler_state")
    counts = {"epoch": place.get("epoch", 1), "iterations_in_epoch": place.get("iterations_in_epoch", 0)}
    counts["num_updates"] = last.get("num_updates", 0)
    for name, count in counts.items():
        if type(count) is not int or not 0 <= count < MOST_UPDATES:
            raise ValueError(f"its {name} is {short(count)}; {TRAIN_AGAIN}")
    scores = {"best": extra.get("best"), "val_loss": extra.get("val_loss")}
    if isinstance(schedule, Mapping):
        scores["best of its schedule"] = schedule.get("best")
    for name, score in scores.items():
        number = isinstance(score, int | float) or (isinstance(score, Tensor) and score.numel() == 1)
        if score is not None and not (number and score == score):  # NaN is not
            raise ValueError(f"its {name} is {short(score)}; {TRAIN_AGAIN}")


def _meters(metrics: Any) -> dict[str, Any]:
    """Check that stored metrics name classes of meters only, whose states fairseq then restores.

    Raises:
        ValueError: they do not.
    """
    try:
        for meters in metrics.values():
            for _, key, kind, state in meters:
                if not isinstance(key, str) or kind not in METERS or not isinstance(state, Mapping):
                    raise TypeError(short(kind))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"its metrics of training are damaged ({error}); {TRAIN_AGAIN}") from None
    return dict(metrics)


METERS = ("AverageMeter", "SumMeter", "ConcatTensorMeter", "TimeMeter", "StopwatchMeter")


def install() -> None:
    """Replace fairseq's ``checkpoint_utils.load_checkpoint_to_cpu`` by :func:`load_checked`."""
    checkpoint_utils.load_checkpoint_to_cpu = load_checked
