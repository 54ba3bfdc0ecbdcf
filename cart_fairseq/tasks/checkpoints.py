"""Loads fairseq's checkpoints for searching."""

from collections.abc import Sequence
from pathlib import Path

import torch

from cart_fairseq.tasks import plugin  # noqa: F401 - registers the names in a checkpoint; silences fairseq's import

# isort: split
from fairseq import checkpoint_utils, utils

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.loading.checkpoint import refuse_damaged
from cart_fairseq.models.cart import CARTModel
from cart_fairseq.tasks.cart_retrieval import CartRetrievalTask


def load_models(path: str | Path, data: str | Path) -> tuple[Sequence[CARTModel], DataBin]:
    """Load a checkpoint, or an ensemble (paths joined by colons), and open the data-bin it was trained on.

    Raises:
        ValueError: a checkpoint is missing, damaged, unsafe, of another task, or belongs to other identifiers.
    """
    paths = utils.split_paths(str(path))
    # the caller or the model decides these, not the options of the checkpoint's training
    overrides = {
        "data": str(data),
        "dense_weight": None,
        "level_discount": None,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
    try:
        models, _, task = checkpoint_utils.load_model_ensemble_and_task(paths, arg_overrides=overrides)
    except Exception as error:
        for each in paths:  # read again only to say what is wrong
            refuse_damaged(each)
        if isinstance(error, ValueError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: cannot be loaded as a model of this version ({reason}); give a checkpoint of --task "
            "cart_retrieval, or train again"
        ) from error
    if not isinstance(task, CartRetrievalTask):
        raise ValueError(f"{path}: it is a checkpoint of task {type(task).__name__}; give one of cart_retrieval")
    return models, task.data
