"""What fairseq's commands show: warnings only that concern the user, and errors in one line, as our own commands do.

Libraries ask fairseq's authors for changes by warnings that say nothing about the user's data or flags. Every other
warning is shown. An error ends a command as :func:`cart_fairseq.base.processes.run_script` has it.
"""

import functools
import logging
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fairseq import checkpoint_utils, trainer
from fairseq.dataclass import utils as settings
from hydra.errors import ConfigCompositionException
from torch import OutOfMemoryError

from cart_fairseq.base.processes import end, end_in_one_line, is_expected, raised_in
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.loading.checkpoint import first_line, refuse_damaged
from cart_fairseq.tasks.checked_checkpoints import check_moments

_load_ensemble = checkpoint_utils.load_model_ensemble_and_task
COMMANDS = "fairseq_cli"
OF_WEIGHTS = "loading state_dict for CARTModel:"
"""What torch says before it names the weights that do not fit."""
OF_FAIRSEQ = (
    (r"\s*hydra\.experimental\.(initialize|compose)\(\) is no longer experimental", UserWarning),
    (r"\s*The version_base parameter is not specified", UserWarning),
    (r"\s*In 'config': Usage of deprecated keyword in package header", UserWarning),
    (r"\s*'config' is validated against ConfigStore schema with the same name", UserWarning),
    (r"\s*The strict flag in the compose API is deprecated", UserWarning),
    (r"'pin_memory' argument is set as true but no accelerator is found", UserWarning),
    (r"`torch\.cuda\.amp\.autocast\(args\.\.\.\)` is deprecated", FutureWarning),
)
"""Begins of warnings, as patterns, and their categories: calls of fairseq that still work."""
COMPOSING = "Error when composing. Overrides: "
"""Before all settings, which fairseq logs in one line."""
SETTING = re.compile(r"(\w+)=(\S*)$")
"""How hydra ends a message on a setting that it cannot take: the option's name and its value."""
OF_STATES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError)
"""What fairseq and torch raise of a state of the optimiser that they cannot use."""


def install() -> None:
    """Correct what the commands of fairseq show; scripts that import fairseq keep their warnings and tracebacks."""
    if COMMANDS in sys.modules:
        for message, category in OF_FAIRSEQ:
            warnings.filterwarnings("ignore", message, category)
    if is_command(sys.argv[0]):
        sys.excepthook = end_command
        logging.getLogger("fairseq.dataclass.utils").addFilter(lambda said: not said.getMessage().startswith(COMPOSING))
    checkpoint_utils.load_model_ensemble_and_task = load_ensemble
    if not hasattr(settings.compose, "__wrapped__"):
        settings.compose = _naming_settings(settings.compose)
        trainer.Trainer.load_checkpoint = _naming_checkpoints(trainer.Trainer.load_checkpoint)


def end_command(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End a command with one line; also with what fairseq says of wrong flags and inputs, and what a package lacks."""
    said = " ".join(str(error).split())
    if isinstance(error, UnicodeDecodeError):
        end(f"error: the input is not UTF-8 ({said}); save it as UTF-8")
    if isinstance(error, ImportError) and said:
        end(f"error: {said}; install it, or leave out the flag that needs it")
    if isinstance(error, Exception) and not is_expected(error) and said and raised_in(error, ("fairseq", COMMANDS)):
        end(f"error: {said}")
    end_in_one_line(kind, error, trace)


def is_command(program: str) -> bool:
    """Whether a program is a command of fairseq.

    >>> is_command("/usr/bin/fairseq-train"), is_command("site-packages/fairseq_cli/train.py"), is_command("own.py")
    (True, True, False)
    """
    return Path(program).name.startswith("fairseq-") or Path(program).parent.name == COMMANDS


def load_ensemble(
    filenames: Sequence[str], arg_overrides: dict[str, Any] | None = None, task: Any = None, *args: Any, **kwargs: Any
) -> tuple[list[Any], Any, Any]:
    """Load checkpoints as fairseq's ``load_model_ensemble_and_task`` does, but name the one that cannot be loaded.

    Returns:
        The models, the settings of the last one, and the task.

    Raises:
        CatalogueError: the data-bin is missing or damaged.
        ValueError: a checkpoint is missing, damaged, unsafe, of another task, or belongs to other identifiers.
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


def _naming_settings(compose: Any) -> Any:
    """Make an error in fairseq's settings name the flag; some have no default, which fairseq does not say."""

    @functools.wraps(compose)
    def composed(*args: Any, **kwargs: Any) -> Any:
        try:
            return compose(*args, **kwargs)
        except ConfigCompositionException as error:
            found = SETTING.search(str(error).strip())
            if found is None:
                raise
            flag = "--" + found[1].replace("_", "-")
            what = "is missing" if found[2] == "null" else f"is {found[2]}, which fairseq does not take"
            raise ValueError(f"{flag} {what}; give {flag} with a value, see --help") from error

    return composed


def _naming_checkpoints(load: Any) -> Any:
    """Make an error of a checkpoint from which a training cannot go on name the file and what to do."""

    @functools.wraps(load)
    def loaded(self: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            extra = load(self, filename, *args, **kwargs)
            optimizer = self.optimizer.optimizer
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            sizes = {at: tuple(weight.shape) for at, weight in enumerate(weights)}
        except (*OF_STATES, ValueError) as error:
            if is_expected(error) or isinstance(error, OutOfMemoryError) or not Path(filename).is_file():
                raise
            raise ValueError(
                f"{filename}: its state of the optimiser does not go with this training ({first_line(error)}); add "
                "--reset-optimizer --reset-lr-scheduler to keep the weights alone, or choose another --save-dir"
            ) from error
        except Exception as error:
            if type(error) is not Exception or not isinstance(error.__context__, Exception):
                raise
            # what fairseq raises of weights, which hides what is wrong with them
            of_weights = OF_WEIGHTS if OF_WEIGHTS in str(error.__context__) else ""
            raise ValueError(
                f"{filename}: its weights do not go with this training's settings of the model "
                f"({first_line(error.__context__, of_weights)}); give those it was trained with, or choose another --save-dir"
            ) from error
        try:
            check_moments(optimizer.state_dict(), sizes)
        except ValueError as error:
            raise ValueError(f"{filename}: {error}") from None
        return extra

    return loaded
