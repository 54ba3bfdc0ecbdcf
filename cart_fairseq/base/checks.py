"""Checks of values that callers give: numbers, texts and dataclasses of settings. Imports only the standard library."""

import functools
import inspect
import math
import operator
import os
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

P = ParamSpec("P")
R = TypeVar("R")
Scalar = bool | int | float | str | None

NAMES = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a text", Path: "a path"}
"""Types of settings, as messages name them."""


def check_count(name: str, value: Any, at_least: int = 1) -> None:
    """Check that a value is a whole number of at least so much.

    Raises:
        ValueError: it is not.
    """
    try:
        fits = not isinstance(value, bool) and operator.index(value) >= at_least
    except TypeError:
        fits = False
    if not fits:
        raise ValueError(f"{name} is {short(value)}; it must be a whole number of at least {at_least}")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number.

    >>> is_number(0.5), is_number(float("nan")), is_number("1"), is_number(True)
    (True, False, False, False)
    """
    try:
        return not isinstance(value, bool | str) and math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False


def is_encodable(text: str) -> bool:
    r"""Whether UTF-8 can hold a text, which it cannot if the text has half a surrogate pair.

    >>> is_encodable("dög"), is_encodable("\ud83d")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Settings:
    """Base of the dataclasses of settings: every value has the type of its field, and numbers are finite.

    Raises:
        ValueError: a value has another type; the message names its flag.
    """

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not _fits(value, kind):
                raise ValueError(f"--{name.replace('_', '-')} is {short(value)}; it must be {_named(kind)}")


def checks_settings(step: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that it refuses arguments of another type than the annotated one.

    Checked are ``settings``, and arguments that are a path or a text.

    Raises:
        TypeError: the message names the function, the argument, the value found and the type.
    """
    signature = inspect.signature(step)

    @functools.wraps(step)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        kinds = get_type_hints(step)
        for name, value in signature.bind_partial(*args, **kwargs).arguments.items():
            kind = kinds[name]
            if name == "settings" and not _fits(value, kind):
                wanted = next(each for each in get_args(kind) or [kind] if each is not type(None)).__name__
                raise TypeError(f"{step.__name__}: settings is {short(value)}; give {wanted}(…)")
            parts = set(get_args(kind) or [kind])
            taken = (*parts, str, os.PathLike) if Path in parts else (*parts,)
            if parts <= {str, Path, type(None)} and not isinstance(value, taken):
                wanted = "a path" if Path in parts else "a text"
                raise TypeError(f"{step.__name__}: {name} is {short(value)}; give {wanted}")
        return step(*args, **kwargs)

    return checked


def plain(value: Any) -> Any:
    """What an array or tensor without dimensions holds, or a number of numpy; any other value as it is.

    >>> plain("a"), plain([1])
    ('a', [1])
    """
    held = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if held and not hasattr(value, "mask") else value


def is_series(value: Any) -> bool:
    """Whether a value can be iterated over. Arrays and tensors without dimensions cannot, though they have ``__iter__``.

    >>> is_series([1]), is_series(1)
    (True, False)
    """
    return isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0


def short(value: Any, most: int = 76) -> str:
    """A value from a stranger, for a message: some ``most`` characters, whatever it is. It can always be printed.

    ``repr`` would take for ever for a list that holds the same list ten times, in ten levels, and Python refuses to write
    an integer of more than 4,300 digits.

    >>> short("a" * 100, 8), short(10**5000), short((0.9, "x")), short([[1]]), short(set)
    ("'aaaaaaaa…'", 'an integer of 16610 bits', "(0.9, 'x')", 'a list of 1 values', 'the class set')
    """
    value = plain(value)
    if isinstance(value, str | bytes):
        shown = repr(value[:most])  # which may have ten characters for one
        cut = len(value) > most or len(shown) > most + 12
        return f"{shown[: most + 12].removesuffix(shown[-1])}…{shown[-1]}" if cut else shown
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, list | tuple) and len(value) <= 32 and all(isinstance(each, Scalar) for each in value):
        shown = ", ".join(short(each)[:20] for each in value)
        if len(shown) <= most + 12:
            return f"[{shown}]" if isinstance(value, list) else f"({shown})"
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of {len(value)} values"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"an object of type {type(value).__name__}"


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value has a type: a class, a union, or a sequence of one type."""
    if get_origin(kind) in (Union, types.UnionType):
        return any(_fits(value, each) for each in get_args(kind))
    if get_origin(kind) is not None:
        series = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return series and all(_fits(each, get_args(kind)[0]) for each in value)
    if kind is float:
        return isinstance(value, int | float) and is_number(value)  # numpy's own numbers cannot be recorded as JSON
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _named(kind: Any) -> str:
    """Describe a type.

    >>> _named(int | None), _named(Sequence[str])
    ('a whole number or None', 'a list, each a text')
    """
    if kind is type(None):
        return "None"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_named(each) for each in get_args(kind))
    if get_origin(kind) is not None:
        return f"a list, each {_named(get_args(kind)[0])}"
    return NAMES[kind]
