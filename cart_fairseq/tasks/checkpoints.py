"""Loads fairseq's checkpoints for searching."""

from collections.abc import Sequence
from pathlib import Path

import torch

from cart_fairseq.tasks import plugin  # noqa: F401 - registers the names in a checkpoint; silences fairseq's import

# isort: split
from fairseq import utils

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.models.cart import CARTModel
from cart_fairseq.tasks.cart_retrieval import CartRetrievalTask
from cart_fairseq.tasks.checkpoint_files import load_ensemble


def load_models(path: str | Path, data: str | Path) -> tuple[Sequence[CARTModel], DataBin]:
    """Load a checkpoint, or an ensemble (paths joined by colons), and open the data-bin it was trained on.

    The models are in evaluation mode: with dropout, what is stored for searches would be noise.

    Raises:
        CatalogueError: the data-bin is missing or damaged.
        ValueError: a checkpoint is missing, damaged, unsafe, of another task, or belongs to other identifiers.
    """
    paths = utils.split_paths(str(path))
    # the caller decides, not the options of the checkpoint's training
    overrides = {"data": str(data), "float32_matmul_precision": torch.get_float32_matmul_precision()}
    models: list[CARTModel] = []
    task = None
    for each in paths:
        found, _, task = load_ensemble([each], overrides, task)
        if not isinstance(task, CartRetrievalTask):
            raise ValueError(f"{each}: it is a checkpoint of task {type(task).__name__}; give one of cart_retrieval")
        models += found
    assert task is not None
    return [model.eval() for model in models], task.data
