"""The program behind the scripts of ``examples/``: ``run.py FOLDER/SCRIPT ARGUMENTS``, as ``FOLDER/SCRIPT.sh`` calls it.

Arguments are read by their place, folders relative to where the command is given. Nothing heavy is loaded before they are
known to be right.
"""

import dataclasses
import importlib
import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_sets import DATA_SETS

EXAMPLES = Path(__file__).resolve().parents[1]
EXISTING = {
    "DATA": "DATA: an existing folder",
    "RAW": "RAW: the folder with the annotations and the media",
    "FOLDER": "FOLDER: your pictures, sounds and videos",
    "IMAGES": "IMAGES: the folder of the images",
    "PACKAGE": "PACKAGE: the folder of the unpacked package",
}
FILE = "KARPATHY"
FOLDERS = ("OUT", *EXISTING, FILE)
TRAIN_FLAGS = "[fairseq-train flags ...]"
TRAINING = ("RECIPE", "TEXT_ENCODER", "INDEX_CAPTIONS", "JOIN_FLAGS", "IDENTIFIER_FLAGS", "BINARIZE_FLAGS")
"""Variables that training with any recipe reads."""
PREPARING = ("ENCODER", "CAPTIONER", "ANNOTATION_FLAGS", "EMBEDDING_FLAGS", "CAPTION_FLAGS")
"""Variables that the preparation of a data set reads."""
PACKAGES = ("torch", "fairseq", "numpy", "pyarrow", "sklearn")
"""Packages without which no step runs."""


@dataclasses.dataclass(frozen=True)
class Command:
    """One command that people type.

    Attributes:
        arguments: names of those that are read by their place; OUT and those of `EXISTING` are folders, `FILE` is a file, and
            all but OUT must be there.
        function: FOLDER/MODULE:FUNCTION below ``examples/``; it is called with the arguments, and with the list of flags.
        flags: whether flags of ``fairseq-train`` may follow.
        needs: what must be in the folder OUT.
        note: what else the usage says.
        before: arguments of the function that come before those of the command line.
        reads: variables of the environment that it reads.
        packages: those that must be installed.
        after: like `function`; called with the same arguments when the work is done and OUT is free again.
    """

    arguments: tuple[str, ...]
    function: str
    flags: bool = True
    needs: str = ""
    note: str = ""
    before: tuple[str, ...] = ()
    reads: tuple[str, ...] = TRAINING
    packages: tuple[str, ...] = PACKAGES
    after: str = ""

    def usage(self, name: str) -> str:
        """The line that says how to call."""
        parts = ["usage: bash", f"examples/{name}.sh", *self.arguments, *([TRAIN_FLAGS] if self.flags else [])]
        notes = [*(EXISTING[place] for place in self.arguments if place in EXISTING), *filter(None, [self.note])]
        return " ".join(parts) + (f"   ({'; '.join(notes)})" if notes else "")


COMMANDS = {
    "own_data/run": Command(("DATA", "OUT"), "recipes/recipes:own_data"),
    "folder/run": Command(
        ("FOLDER", "OUT"),
        "folder/folder:run",
        reads=(*TRAINING, "ENCODER", "CAPTIONER", "EMBEDDING_FLAGS", "CAPTION_FLAGS"),
        after="folder/folder:show",
    ),
    "demo/run": Command(
        ("OUT",), "demo/demo:run", reads=(*TRAINING, "EMBEDDING_FLAGS", "KINDS"), after="demo/demo:show"
    ),
    "ablations/run": Command(("TABLE", "DATA", "OUT"), "ablations/paper_ablations:run", reads=(*TRAINING, "SUBSET")),
    "ablations/readings": Command(
        ("DATA", "OUT"),
        "ablations/readings:run",
        reads=("READINGS", "JOIN_FLAGS", "IDENTIFIER_FLAGS", "BINARIZE_FLAGS"),
    ),
    "baselines/rivals": Command(("DATA", "OUT"), "baselines/rivals:run", reads=(*TRAINING, "SCHEMES")),
    "changing_catalogue/run": Command(
        ("DATA", "OUT"), "changing_catalogue/growing:run", reads=(*TRAINING, "SPLIT_FLAGS", "FINE_TUNE_FLAGS")
    ),
    "flickr8k/prepare": Command(
        ("IMAGES", "KARPATHY", "OUT"),
        "flickr8k/published_data:prepare",
        flags=False,
        note="KARPATHY: dataset_flickr8k.json",
        reads=("ENCODER", "ANNOTATION_FLAGS", "EMBEDDING_FLAGS"),
    ),
    "flickr8k/run": Command(("DATA", "OUT"), "flickr8k/flickr8k:run"),
    "flickr8k/compare": Command(
        ("DATA", "OUT"),
        "flickr8k/flickr8k:compare",
        note="TEXT_ENCODER=PATH for the pretrained runs",
        reads=("TEXT_ENCODER", "JOIN_FLAGS", "IDENTIFIER_FLAGS", "BINARIZE_FLAGS"),
    ),
    "flickr8k/ablations": Command(
        ("DATA", "OUT"),
        "flickr8k/ablations:run",
        reads=("ABLATIONS", "TEXT_ENCODER", "JOIN_FLAGS", "BINARIZE_FLAGS"),
    ),
    "identifiers/literal": Command(
        ("DATA", "OUT"), "identifiers/literal:run", reads=("VARIANTS", "IDENTIFIER_FLAGS", "BINARIZE_FLAGS")
    ),
    "icons/prepare": Command(
        ("PACKAGE", "OUT"), "icons/icons:prepare", flags=False, reads=("ENCODER", "EMBEDDING_FLAGS")
    ),
    "icons/train": Command(
        ("OUT",), "icons/icons:train_icons", needs="data/items.jsonl", note="OUT: what prepare.sh made"
    ),
    "icons/evaluate": Command(
        ("OUT",),
        "icons/icons:evaluate_icons",
        flags=False,
        needs="checkpoints",
        note="OUT: what train.sh made",
        reads=(),
    ),
    # it also reads DATA, DEVICE, SMALL and LIMIT, names too common for the other recipes to refuse; it looks for packages itself
    "gpu": Command(("OUT",), "gpu/gpu:run", flags=False, reads=("PARTS",), packages=()),
}


def of_data_set(name: str) -> dict[str, Command]:
    """The three commands of a data set."""
    place = "recipes/recipes:"
    made_by = "OUT: what {}.sh made"
    found = {
        "prepare": Command(("RAW", "OUT"), f"{place}prepare_data_set", flags=False, reads=PREPARING),
        "train": Command(("OUT",), f"{place}train_data_set", needs="data/items.jsonl", note=made_by.format("prepare")),
        "evaluate": Command(
            ("OUT",),
            f"{place}evaluate_data_set",
            flags=False,
            needs="checkpoints",
            note=made_by.format("train"),
            reads=(),
        ),
    }
    return {f"{name}/{step}": dataclasses.replace(command, before=(name,)) for step, command in found.items()}


for data_set in DATA_SETS:
    COMMANDS |= of_data_set(data_set)


def parse(name: str, command: Command, given: Sequence[str]) -> list[Any]:
    """The arguments of the command's function, folders as absolute paths.

    Raises:
        SystemExit: with status 2 and a line that says what is wrong; with 0 after --help.
    """
    if given[:1] in (["-h"], ["--help"]):
        print(help_of(name, command))
        raise SystemExit(0)
    usage, places = command.usage(name), len(command.arguments)
    if len(given) < places or (len(given) > places and not command.flags):
        refuse(usage)
    values: dict[str, Any] = dict(zip(command.arguments, given))
    for place in filter(values.__contains__, FOLDERS):
        text = values[place]
        if not text:
            refuse(f"{usage}\nerror: {place} is empty; name a {'file' if place == FILE else 'folder'}")
        if text.startswith("--") and not os.path.isdir(text):
            refuse(f"{usage}\nerror: {place} is {text!r}, a flag; a folder of this name is ./{text}")
        values[place] = Path(os.path.abspath(text))
        if place in EXISTING and not values[place].is_dir():
            refuse(f"{usage}\nerror: {values[place]}: no such folder")
        if place == FILE and not values[place].is_file():
            refuse(f"{usage}\nerror: {values[place]}: no such file")
    if command.needs and not (values["OUT"] / command.needs).exists():
        refuse(f"{usage}\nerror: {values['OUT'] / command.needs}: not there")
    return [*command.before, *values.values(), *([list(given[places:])] if command.flags else [])]


def check_out(out: Path) -> None:
    """Refuse a folder that cannot be made or written to. It is tried beside what exists, and nothing stays.

    Raises:
        ValueError: the folder, or one above it, is something else, or cannot be written to.
    """
    there = out
    for there in (*reversed(out.parents), out):
        if os.path.islink(there) and not os.path.exists(there):
            raise ValueError(f"{there}: a link to {os.readlink(there)!r}, which is not there; choose another OUT")
        if not os.path.exists(there):
            there = there.parent
            break
        if not there.is_dir():
            raise ValueError(f"{there}: a file, but OUT is a folder; choose another OUT")
    try:
        with tempfile.TemporaryDirectory(prefix=".tried.", suffix=".tmp", dir=there) as tried:
            Path(tried, out.relative_to(there)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{out}: cannot be written to ({error.strerror}); choose another OUT") from None


def check_variables(name: str, command: Command, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse variables of other recipes. Those that other scripts of the same folder read are only said to be unread.

    Raises:
        ValueError: a variable is set that this recipe does not read.
    """
    folder = name.partition("/")[0]
    beside = {each for other, of in COMMANDS.items() if other.partition("/")[0] == folder for each in of.reads}
    known = {each for other in COMMANDS.values() for each in other.reads}
    for variable in sorted(known - set(command.reads)):
        if not environment.get(variable):
            continue
        if variable not in beside:
            raise ValueError(f"{variable} is set, but examples/{name}.sh does not read it; leave it out")
        print(f"note: {variable} is set, but examples/{name}.sh does not read it", file=sys.stderr)


def check_packages(command: Command) -> None:
    """Refuse a Python without the packages of the project.

    Raises:
        ValueError: one is not installed.
    """
    missing = [package for package in command.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ValueError(
            f"{sys.executable}: has no {', '.join(missing)}; run `make setup`, or set PYTHON to a Python that has the "
            "packages of this project"
        )


def help_of(name: str, command: Command) -> str:
    """The usage, and what the script says at its beginning."""
    lines = (EXAMPLES / f"{name}.sh").read_text(encoding="utf-8").splitlines()
    comments = [line[1:].removeprefix(" ") for line in lines if line.startswith("#") and not line.startswith("#!")]
    said = "\n".join(line for line in comments if not line.startswith("shellcheck "))
    return f"{command.usage(name)}\n\n{said}"


def refuse(message: str) -> None:
    """End with a message."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command."""
    name, *given = sys.argv[1:] if argv is None else argv
    if name not in COMMANDS:
        raise ValueError(f"{name}: no such recipe; use one of {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    arguments = parse(name, command, given)
    check_variables(name, command)
    check_packages(command)
    places = dict(zip(command.arguments, arguments[len(command.before) :]))
    check_out(places["OUT"])
    run = function_of(command.function)
    from lock import alone

    with alone(places["OUT"]):
        run(*arguments)
    if command.after:
        function_of(command.after)(*arguments)


def function_of(place: str) -> Any:
    """The function of FOLDER/MODULE:FUNCTION; ``examples/`` is no package."""
    module, _, function = place.partition(":")
    for folder in (EXAMPLES / "recipes", EXAMPLES / Path(module).parent):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    return getattr(importlib.import_module(Path(module).name), function)


def stop(*_: object) -> None:
    """End as after Ctrl-C, so that what was started ends, too."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.path.insert(0, str(EXAMPLES.parent))
    from cart_fairseq.base.processes import run_script

    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, stop)
    run_script(main)
