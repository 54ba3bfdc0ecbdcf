"""List the commands of this package, or print the folder that fairseq's commands take as ``--user-dir``.

python -m cart_fairseq
fairseq-train data-bin --user-dir "$(python -m cart_fairseq user-dir)" --task cart_retrieval …
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

EACH = "commands, each with --help:"
ABOUT = "Commands that search with a trained model, and measure it."
COMMANDS = {
    "serve": "search over HTTP: a page with a search box, JSON, media and metrics",
    "evaluate": "metrics of fairseq-generate's output, or of new queries on a checkpoint; TREC files",
    "export": "a checkpoint and its data-bin as one folder that is all that a search needs",
    "tune": "choose the ranking weights on the valid queries and store them in the checkpoint",
}
USER_DIR, USER_DIR_HELP = "user-dir", "print the folder for fairseq's --user-dir"


def command_list(prefix: str, commands: Mapping[str, str]) -> str:
    """Format commands: for each one how to call it, which begins with the prefix, and what it does."""
    width = max(len(name) for name in commands)
    return "\n".join(f"  {prefix}{name:<{width}}  {text}" for name, text in commands.items())


def fairseq_commands(program: str) -> str:
    """Say how fairseq's commands find the plugin.

    Args:
        program: the words before ``user-dir`` that call `main`.
    """
    return f"""fairseq-train, -validate, -generate and -interactive need the plugin's folder (cart_fairseq in a checkout):

  fairseq-train DATA-BIN --user-dir "$({program} {USER_DIR})" --task cart_retrieval ..."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the list of commands, or the folder."""
    parser = argparse.ArgumentParser(
        prog="python -m cart_fairseq",
        description=ABOUT,
        epilog=f"{EACH}\n\n{command_list('python -m cart_fairseq.', COMMANDS)}\n\n{fairseq_commands('python -m cart_fairseq')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=[USER_DIR], help=USER_DIR_HELP)
    if parser.parse_args(argv).what == USER_DIR:
        print(user_dir())
    else:
        parser.print_help()


def user_dir() -> Path:
    """The plugin's folder. Links are kept, as fairseq compares it with the imported package's path."""
    return Path(__file__).parent.absolute()


if __name__ == "__main__":
    main()
