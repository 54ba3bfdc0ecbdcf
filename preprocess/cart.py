"""The command ``cart``: every ``python -m preprocess.NAME`` and ``python -m cart_fairseq.NAME`` as a sub-command.

    cart --help
    cart build-identifiers --embeddings embeddings.npy --items items.jsonl --output identifiers

A sub-command is the same program as the module: it has its flags, output and exit codes. Only the module of the
sub-command is imported.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

import cart_fairseq.__main__ as plugin
import preprocess.__main__ as steps
from cart_fairseq.base.calls import called
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.version import VERSION

PROGRAM = "cart"
OF_FAIRSEQ = ("train", "validate", "generate", "interactive")
"""Commands of fairseq, each named fairseq-NAME."""


def _sub_commands(package: str, commands: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): f"{package}.{name}" for name in commands}


MODULES = _sub_commands("preprocess", steps.COMMANDS) | _sub_commands("cart_fairseq", plugin.COMMANDS)
"""The sub-commands, and the module of each."""


def parser() -> argparse.ArgumentParser:
    """The command line up to the sub-command."""
    longest = max(map(len, MODULES))

    def listed(commands: Mapping[str, str]) -> str:
        return plugin.command_list("", {f"{n.replace('_', '-'):<{longest}}": text for n, text in commands.items()})

    searches = plugin.COMMANDS | {plugin.USER_DIR: plugin.USER_DIR_HELP}
    parts = [plugin.EACH, f"{steps.ABOUT}\n\n{listed(steps.COMMANDS)}", f"{plugin.ABOUT}\n\n{listed(searches)}"]
    made = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="Generative cross-modal retrieval: a text in, images, sounds or videos out.",
        epilog="\n\n".join([*parts, plugin.fairseq_commands(PROGRAM)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("command", nargs="?", metavar="COMMAND", help="one of the commands below")
    made.add_argument("--version", action="version", version=f"cart-fairseq {VERSION}")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run a sub-command; without one list them.

    Raises:
        ValueError: there is no such sub-command; the message names the nearest. Or the sub-command raises it.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    command = parser()
    name = command.parse_args(words[:1]).command
    if name is None:
        command.print_help()
    elif name == plugin.USER_DIR:
        argparse.ArgumentParser(prog=f"{PROGRAM} {name}", description=plugin.USER_DIR_HELP).parse_args(words[1:])
        print(plugin.user_dir())
    elif name in MODULES:
        with called(f"{PROGRAM} {name}"):
            _main_of(MODULES[name])(words[1:])
    else:
        raise ValueError(f"{name!r} is no command of {PROGRAM}; {_nearest(name)}")


def run() -> None:
    """Run the command line of this process: the entry point of ``cart``."""
    run_script(main)


def _main_of(module: str) -> Callable[[Sequence[str]], None]:
    """The function that ``python -m MODULE`` calls; of a package that of its ``__main__``."""
    spec = find_spec(module)
    if spec is not None and spec.submodule_search_locations is not None:
        module += ".__main__"
    found: Callable[[Sequence[str]], None] = importlib.import_module(module).main
    return found


def _nearest(name: str) -> str:
    """What to type in place of an unknown command."""
    from difflib import get_close_matches

    if name in OF_FAIRSEQ:
        return f'type fairseq-{name}, with --user-dir "$({PROGRAM} {plugin.USER_DIR})"'
    typed = name.lower().replace("_", "-").removeprefix("cart-fairseq.").removeprefix("preprocess.")
    names = [*MODULES, plugin.USER_DIR]
    near = [each for each in names if typed and each.startswith(typed)] or get_close_matches(typed, names, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{guess}{PROGRAM} --help lists all"


if __name__ == "__main__":
    run()
