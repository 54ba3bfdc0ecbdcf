"""Settings of `read_folder`, with the default of every flag of its command. Imports the standard library only."""

import os
from dataclasses import dataclass

from cart_fairseq.base.checks import Settings
from preprocess.data.arguments import check_choice, check_numbers

NAMES = ("auto", "always", "never")
"""When the words of a file's path are a caption: where there is no other, beside others, or not at all."""
PROCESSES = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class FolderSettings(Settings):
    """Settings of `read_folder`. Every field is also a flag of the command.

    Attributes:
        names: when the words of an item's name and folders are a caption: `auto`, where it has no other; `always`, also
            beside others; `never`.
        workers: processes that read files. 0: none. Default: the number of processors, at most 8.

    Raises:
        ValueError: a value is out of range; the message names its flag.
    """

    names: str = "auto"
    workers: int = PROCESSES

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "names", NAMES)
        check_numbers(self, "workers", at_least=0)
