"""Calls of the project's commands. The flags of all of them are checked before the first is made."""

import argparse
import contextlib
import dataclasses
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from preprocess.data.arguments import flag, settings_from

NUMBER = re.compile(r"\A\d+\. ")
"""Of a step, at the beginning of its title."""
_numbers: list[Iterator[int]] = []
LONGEST_CHOICE = 300
"""Characters of a list of choices that an error still shows; fairseq has hundreds of architectures."""


class CommandModule(Protocol):
    """A module that is a command."""

    __name__: str
    main: Callable[[Sequence[str]], None]
    parser: Callable[[], argparse.ArgumentParser]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a command.

    Attributes:
        command: the module.
        settings: the dataclass that the command makes of its arguments; it refuses values.
        own: flags of the recipe, of any kind; folders in them are absolute, so none reads as a flag.
        variable: the variable of the environment that has the user's flags.
        user: the user's flags, which come last and win.
        fixed: fields that the user's flags must leave as they are, and what to do instead.
    """

    command: CommandModule
    settings: Callable[..., Any]
    own: Sequence[object]
    variable: str
    user: Sequence[str] = ()
    fixed: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def check(self) -> argparse.Namespace:
        """Parse the flags as the command does, and return what it makes of them.

        Raises:
            ValueError: the command does not take the user's flags, or they change what the recipe decides.
        """
        own = [str(each) for each in self.own]
        with refusing(self.variable, self.command.parser().prog):
            found = self.command.parser().parse_args([*own, *self.user])
            settings_from(self.settings, found)
        planned = self.command.parser().parse_args(own)
        for name, instead in self.fixed.items():
            if getattr(found, name) != getattr(planned, name):
                raise ValueError(f"{self.variable}: {flag(name)} is set by the recipe; {instead}")
        return found

    def run(self) -> None:
        """Call the command."""
        self.command.main([*map(str, self.own), *self.user])


def fixed(*names: str, **instead: str) -> dict[str, str]:
    """Fields that a recipe sets: those that flags must leave out, and those that something else sets."""
    return {**dict.fromkeys(names, "leave it out"), **instead}


def check(calls: Mapping[str, Call]) -> None:
    """Check all calls.

    Raises:
        ValueError: a command does not take its flags.
    """
    for each in calls.values():
        each.check()


def make(calls: Mapping[str, Call]) -> None:
    """Make the calls in this order, each under its title."""
    for title, each in calls.items():
        step(title)
        each.run()


def step(title: str) -> None:
    """Announce a step."""
    if _numbers:
        title = f"{next(_numbers[-1])}. {NUMBER.sub('', title)}"
    print(f"\n== {title}")


@contextlib.contextmanager
def counting() -> Iterator[None]:
    """Number the steps that are announced inside from 1 on, whatever numbers their titles have."""
    _numbers.append(itertools.count(1))
    try:
        yield
    finally:
        _numbers.pop()


def call(main: Callable[[Sequence[str]], None], *arguments: object) -> None:
    """Call a command of the project with arguments of any kind; folders in them are absolute, so none reads as a flag."""
    main([str(argument) for argument in arguments])


def quietly(main: Callable[[Sequence[str]], None], *arguments: object) -> None:
    """Call a command without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        call(main, *arguments)


@contextlib.contextmanager
def refusing(where: str, command: str) -> Iterator[None]:
    """What a parser of `command` refuses as one ValueError, in place of its usage.

    Args:
        where: the variable, or whatever else holds the flags.
        command: as typed, for the remedy.

    Raises:
        ValueError: the parser ended the program, or a value was refused.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            yield
    except SystemExit as ended:
        if not ended.code:
            raise ValueError(f"{where}: has a flag that only prints, such as --help; leave it out") from None
        message = said.getvalue().split(": error: ", 1)[-1].strip()
        raise ValueError(f"{where}: {shortened(message)}; {command} --help lists the flags") from None
    except (NameError, SyntaxError) as error:  # fairseq evaluates some values as Python
        raise ValueError(f"{where}: a value cannot be read ({error}); {command} --help lists the flags") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{where}: {error}") from None


def shortened(message: str) -> str:
    """A message without its list of choices, where that is long."""
    choices = re.search(r" \(choose from .*\)$", message, re.DOTALL)
    return message[: choices.start()] if choices and len(choices[0]) > LONGEST_CHOICE else message
