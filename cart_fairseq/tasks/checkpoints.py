"""Loads fairseq's checkpoints for searching."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch

from cart_fairseq.tasks import plugin  # noqa: F401 - registers the names in a checkpoint; silences fairseq's import

# isort: split
from fairseq import checkpoint_utils, utils

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.models.cart import CARTModel
from cart_fairseq.tasks.cart_retrieval import CartRetrievalTask


def load_models(path: str | Path, data: str | Path) -> tuple[Sequence[CARTModel], DataBin]:
    """Load a checkpoint, or an ensemble (paths joined by colons), and open the data-bin it was trained on.

    Raises:
        ValueError: a checkpoint is missing, damaged, unsafe, of another task, or belongs to other identifiers.
    """
    paths = utils.split_paths(str(path))
    for each in paths:
        if not Path(each).is_file():
            raise ValueError(f"{each}: no such checkpoint; train one with fairseq-train --task cart_retrieval")
    # the caller or the model decides these, not the options of the checkpoint's training
    overrides = {
        "data": str(data),
        "dense_weight": None,
        "level_discount": None,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
    try:
        models, _, task = checkpoint_utils.load_model_ensemble_and_task(paths, arg_overrides=overrides)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: not a checkpoint that can be read in torch's safe mode ({reason}); give one that fairseq-train "
            "wrote, or train again"
        ) from None
    if not isinstance(task, CartRetrievalTask):
        raise ValueError(f"{path}: it is a checkpoint of task {type(task).__name__}; give one of cart_retrieval")
    return models, task.data
