"""List the commands of this package, or print the folder that fairseq's commands take as ``--user-dir``.

python -m cart_fairseq
fairseq-train data-bin --user-dir "$(python -m cart_fairseq user-dir)" --task cart_retrieval …
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

COMMANDS = {
    "serve": "search over HTTP: a page with a search box, JSON, media and metrics",
    "evaluate": "metrics of fairseq-generate's output, or of new queries on a checkpoint; TREC files",
    "export": "a checkpoint and its data-bin as one folder that is all that a search needs",
    "tune": "choose the ranking weights on the valid queries and store them in the checkpoint",
}
FAIRSEQ = """fairseq-train, -validate, -generate and -interactive need the plugin's folder (cart_fairseq in a checkout):

  fairseq-train DATA-BIN --user-dir "$(python -m cart_fairseq user-dir)" --task cart_retrieval …"""


def command_list(package: str, commands: Mapping[str, str]) -> str:
    """Format the list of commands: for each one how to call it and what it does."""
    width = max(len(name) for name in commands)
    lines = [f"  python -m {package}.{name:<{width}}  {text}" for name, text in commands.items()]
    return "\n".join(["commands, each with --help:", "", *lines])


def main(argv: Sequence[str] | None = None) -> None:
    """Print the list of commands, or the folder."""
    parser = argparse.ArgumentParser(
        prog="python -m cart_fairseq",
        description="Commands that search with a trained model, and measure it.",
        epilog=command_list("cart_fairseq", COMMANDS) + "\n\n" + FAIRSEQ,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=["user-dir"], help="print the folder for fairseq's --user-dir")
    if parser.parse_args(argv).what == "user-dir":
        print(Path(__file__).parent.absolute())  # links kept, as fairseq compares it with the imported package's path
    else:
        parser.print_help()


if __name__ == "__main__":
    main()
