"""From command lines to settings: types of arguments, and checks of the dataclasses that hold a step's settings."""

import argparse
import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from cart_fairseq.base.checks import check_count

T = TypeVar("T")


def positive(text: str) -> int:
    """A whole number of at least 1.

    >>> positive("12")
    12
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def not_negative(text: str) -> int:
    """A whole number of at least 0.

    >>> not_negative("0")
    0
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def above_zero(text: str) -> float:
    """A finite number above 0.

    >>> above_zero("0.5")
    0.5
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def check_numbers(settings: Any, *names: str, at_least: int = 1) -> None:
    """Refuse fields of a settings dataclass that are no whole numbers of at least so much; None is allowed.

    Raises:
        ValueError: naming the flag of the field and the value found.

    >>> import types
    >>> check_numbers(types.SimpleNamespace(max_epochs=0), "max_epochs")
    Traceback (most recent call last):
    ...
    ValueError: --max-epochs is 0; it must be a whole number of at least 1
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            check_count(flag(name), value, at_least)


def check_choice(settings: Any, name: str, choices: Collection[str]) -> None:
    """Refuse a field of a settings dataclass that is none of the choices.

    Raises:
        ValueError: naming the flag of the field and the value found.
    """
    value = getattr(settings, name)
    if value not in choices:
        raise ValueError(f"{flag(name)} is {value!r}; it must be one of {', '.join(choices)}")


def flag(name: str) -> str:
    """The flag that sets a field of a settings dataclass.

    >>> flag("block_rows")
    '--block-rows'
    """
    return "--" + name.replace("_", "-")


def settings_from(kind: Callable[..., T], args: argparse.Namespace) -> T:
    """The settings dataclass `kind` with the values of a parsed command line that have the names of its fields."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(args).items() if name in names})
