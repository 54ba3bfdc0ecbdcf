"""Loads fairseq's checkpoints for searching."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.tasks import plugin  # noqa: F401 - registers the names in a checkpoint; silences fairseq's import

# isort: split
from fairseq import checkpoint_utils, utils

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.loading.checkpoint import first_line, refuse_damaged
from cart_fairseq.models.cart import CARTModel
from cart_fairseq.tasks.cart_retrieval import CartRetrievalTask

_load_ensemble = checkpoint_utils.load_model_ensemble_and_task
OF_WEIGHTS = "loading state_dict for CARTModel:"
"""What torch says before it names the weights that do not fit."""


def load_models(path: str | Path, data: str | Path) -> tuple[Sequence[CARTModel], DataBin]:
    """Load a checkpoint, or an ensemble (paths joined by colons), and open the data-bin it was trained on.

    The models are in evaluation mode: with dropout, what is stored for searches would be noise.

    Raises:
        CatalogueError: the data-bin is missing or damaged.
        ValueError: a checkpoint is missing, damaged, unsafe, of another task, or belongs to other identifiers.
    """
    paths = utils.split_paths(str(path))
    # the caller or the model decides these, not the options of the checkpoint's training
    overrides = {
        "data": str(data),
        "dense_weight": None,
        "level_discount": None,
        "prior_share": None,
        "no_lookahead": False,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
    models: list[CARTModel] = []
    task = None
    for each in paths:
        found, _, task = load_ensemble([each], overrides, task)
        if not isinstance(task, CartRetrievalTask):
            raise ValueError(f"{each}: it is a checkpoint of task {type(task).__name__}; give one of cart_retrieval")
        models += found
    assert task is not None
    return [model.eval() for model in models], task.data


def load_ensemble(
    filenames: Sequence[str], arg_overrides: dict[str, Any] | None = None, task: Any = None, *args: Any, **kwargs: Any
) -> tuple[list[Any], Any, Any]:
    """Load checkpoints as fairseq's ``load_model_ensemble_and_task`` does, but name the one that cannot be loaded.

    Returns:
        The models, the settings of the last one, and the task.

    Raises:
        CatalogueError: the data-bin is missing or damaged.
        ValueError: see :func:`load_models`.
    """
    models: list[Any] = []
    cfg = None
    for each in filenames:
        try:
            found, cfg, task = _load_ensemble([each], arg_overrides, task, *args, **kwargs)
        except CatalogueError:
            refuse_damaged(each)  # both may be wrong; the checkpoint comes first, as with a sound data-bin
            raise
        except Exception as error:
            refuse_damaged(each)  # reads it again, to say what is wrong
            if isinstance(error, ValueError):
                text = " ".join(str(error).split()).removeprefix(f"{each}: ")
                raise ValueError(f"{each}: {text}") from error
            said = first_line(error, OF_WEIGHTS if OF_WEIGHTS in str(error) else "")
            raise ValueError(
                f"{each}: cannot be loaded as a model of this version ({said}); give a checkpoint of --task "
                "cart_retrieval, install the version of cart-fairseq that wrote it, or train again"
            ) from error
        models += found
    return models, cfg, task


def install() -> None:
    """Make fairseq's commands load checkpoints by :func:`load_ensemble`."""
    checkpoint_utils.load_model_ensemble_and_task = load_ensemble
