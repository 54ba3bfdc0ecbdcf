"""Recipes as tests call them: in this process, with training in it, too, where a process of its own is not the point."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from conftest import load_example

run = load_example("recipes", "run")
steps = load_example("recipes", "steps")
fairseq_calls = load_example("recipes", "fairseq_calls")
VARIABLES = (
    "RECIPE",
    "ENCODER",
    "CAPTIONER",
    "TEXT_ENCODER",
    "INDEX_CAPTIONS",
    "SUBSET",
    "KINDS",
    "SCHEMES",
    "ABLATIONS",
    "VARIANTS",
    "READINGS",
    "PARTS",
)


class Stopped(BaseException):
    """What a killed process looks like from within."""


def call(name: str, *arguments: object, **variables: str) -> str:
    """Call ``examples/NAME.sh`` without the shell; returns what it prints, errors last.

    Args:
        name: the script without its suffix.
        arguments: of the command line.
        variables: of the environment; of the recipes' own ones, others are not set.
    """
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), environment(variables):
        run.main([name, *map(str, arguments)])
    return out.getvalue() + errors.getvalue()


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """The environment with these variables of recipes and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_FLAGS") and name not in VARIABLES}
    with mock.patch.dict(os.environ, kept | variables, clear=True):
        yield


class Trainings:
    """Stands in for ``fairseq_calls.train``: trains in this process.

    Attributes:
        calls: the data-bin and the flags of each.
        stop_at: the folder of checkpoints before whose training everything ends.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Path, list[str]]] = []
        self.stop_at: Path | None = None

    def __call__(self, data_bin: Path, checkpoints: Path, flags: Sequence[str]) -> None:
        if checkpoints == self.stop_at:
            raise Stopped
        from cart_fairseq.tasks import plugin  # noqa: F401, I001
        from fairseq import checkpoint_utils, options
        from fairseq_cli import train

        self.calls.append((data_bin, list(flags)))
        arguments = [str(data_bin), "--user-dir", str(fairseq_calls.PLUGIN), "--save-dir", str(checkpoints), *flags]
        for function in (checkpoint_utils.save_checkpoint, train.should_stop_early):
            vars(function).clear()  # what fairseq remembers of an earlier training in this process
        precision = torch.get_float32_matmul_precision()
        try:
            with fairseq_calls.as_a_process(checkpoints / "train.log"):
                train.main(options.parse_args_and_arch(options.get_training_parser(), input_args=arguments))
        finally:
            torch.set_float32_matmul_precision(precision)


@contextlib.contextmanager
def training_here(stop_at: Path | None = None) -> Iterator[Trainings]:
    """Recipes train in this process while the block runs, or stop before the training into a folder of checkpoints."""
    trainings = Trainings()
    trainings.stop_at = stop_at
    with mock.patch.object(fairseq_calls, "train", trainings):
        yield trainings


def value_after(flags: Sequence[str], flag: str) -> Any:
    """The value of a flag; of one that is given twice, the last."""
    return flags[len(flags) - 1 - list(flags)[::-1].index(flag) + 1]


def joined_run(data: Path, out: Path, *flags: object) -> Path:
    """OUT of a short run of ``examples/own_data/run.sh`` with a join that has towers."""
    variables = {
        "RECIPE": "joined",
        "JOIN_FLAGS": "--text-dim 8 --pca 4 --align 4",
        "IDENTIFIER_FLAGS": "--kmeans-clusters 3 --codebook-size 4 --allow-collapse --unique-size 64",
    }
    with training_here():
        call("own_data/run", data, out, "--max-update", 2, "--arch", "cart_tiny", *flags, **variables)
    return out
