"""What fairseq's commands show: warnings only that concern the user, and errors in one line, as our own commands do.

Libraries ask fairseq's authors for changes by warnings that say nothing about the user's data or flags. Every other
warning is shown. An error ends a command as :func:`cart_fairseq.base.processes.run_script` has it.
"""

import functools
import logging
import re
import sys
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

from fairseq.dataclass import utils as settings
from hydra.errors import ConfigCompositionException

from cart_fairseq.base.processes import end, end_in_one_line, is_expected, raised_in

COMMANDS = "fairseq_cli"
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


def install() -> None:
    """Correct what the commands of fairseq show; scripts that import fairseq keep their warnings and tracebacks."""
    if COMMANDS in sys.modules:
        for message, category in OF_FAIRSEQ:
            warnings.filterwarnings("ignore", message, category)
    if is_command(sys.argv[0]):
        sys.excepthook = end_command
        logging.getLogger("fairseq.dataclass.utils").addFilter(lambda said: not said.getMessage().startswith(COMPOSING))
    if not hasattr(settings.compose, "__wrapped__"):
        settings.compose = _naming_settings(settings.compose)


def end_command(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End a command with one line; also with what fairseq says of wrong flags and inputs, and what a package lacks."""
    said = " ".join(str(error).split())
    if isinstance(error, UnicodeDecodeError):
        end(f"error: the input is not UTF-8 ({said}); save it as UTF-8")
    of_fairseq = raised_in(error, ("fairseq", COMMANDS))
    if isinstance(error, ModuleNotFoundError) or (isinstance(error, ImportError) and of_fairseq):
        end(f"error: {said}; install it, or leave out the flag that needs it")
    if isinstance(error, Exception) and said and of_fairseq and not is_expected(error):
        end(f"error: {said}")
    end_in_one_line(kind, error, trace)


def is_command(program: str) -> bool:
    """Whether a program is a command of fairseq.

    >>> is_command("/usr/bin/fairseq-train"), is_command("site-packages/fairseq_cli/train.py"), is_command("own.py")
    (True, True, False)
    """
    return Path(program).name.startswith("fairseq-") or Path(program).parent.name == COMMANDS


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
