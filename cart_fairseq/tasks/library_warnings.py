"""Silences warnings by which libraries ask fairseq's authors for changes, in fairseq's commands alone.

They say nothing about the user's data or flags. Every other warning is shown.
"""

import sys
import warnings

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


def install() -> None:
    """Silence them if this process runs a command of fairseq; scripts that import fairseq keep their own filters."""
    if COMMANDS in sys.modules:
        for message, category in OF_FAIRSEQ:
            warnings.filterwarnings("ignore", message, category)
