"""The recipes that are nothing but the steps: any data, and the paper's six data sets."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from data_sets import DATA_SETS
from preparing import prepare
from settings import from_environment
from steps import evaluate, train, train_and_evaluate


def own_data(data: Path, out: Path, flags: Sequence[str]) -> None:
    """From embeddings and captions to a trained model and its figures."""
    train_and_evaluate(data, out, flags, from_environment())


def prepare_data_set(name: str, raw: Path, out: Path) -> None:
    """From media to ``out/data``."""
    prepare(DATA_SETS[name], raw, out, from_environment())


def train_data_set(name: str, out: Path, flags: Sequence[str]) -> None:
    """From ``out/data`` to a model, with the paper's settings unless RECIPE says otherwise."""
    settings = from_environment()
    train(out / "data", out, flags, dataclasses.replace(settings, recipe=settings.recipe or "paper"))


def evaluate_data_set(name: str, out: Path) -> None:
    """The figures, those of the paper beside."""
    evaluate(out, DATA_SETS[name].figures)
