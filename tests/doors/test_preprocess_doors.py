"""The commands of `preprocess`: light until they start, and with the defaults of the functions that they call."""

import argparse
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from typing import Any

import pytest
from commands import ENVIRONMENT

from preprocess.__main__ import COMMANDS
from preprocess.annotations.settings import AnnotationSettings
from preprocess.captioners.settings import CaptionSettings
from preprocess.data.arguments import settings_from
from preprocess.data_bin.settings import DataBinSettings
from preprocess.encoders.settings import EmbeddingSettings
from preprocess.folder.settings import FolderSettings
from preprocess.identifiers.settings import IdentifierSettings
from preprocess.inspection.settings import InspectionSettings
from preprocess.join.settings import JoinSettings
from preprocess.updating.settings import AddSettings

HEAVY = ("torch", "numpy", "scipy", "sklearn", "pyarrow", "fairseq", "transformers", "PIL", "tqdm")
HELP = f"""
import contextlib, importlib, io, sys
for name in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        importlib.import_module(name).main(["--help"])
    assert "usage: python -m preprocess" in printed.getvalue(), name
    print(name, *(heavy for heavy in {HEAVY} if heavy in sys.modules))
"""
SETTINGS: dict[str, tuple[Any, str]] = {
    "read_folder": (FolderSettings(), "a --output b"),
    "annotations": (AnnotationSettings(), "msrvtt --annotations a --train-list b --test-list c --output d"),
    "extract_embeddings": (EmbeddingSettings("clip"), "--items a --encoder clip --output b"),
    "generate_captions": (CaptionSettings(captioner="blip"), "--items a --captions b --captioner blip --output c"),
    "join_captions": (JoinSettings(), "--embeddings a --items b --captions c --output d"),
    "build_identifiers": (IdentifierSettings(), "--embeddings a --items b --output c"),
    "inspect_identifiers": (InspectionSettings(), "--identifiers a --output b"),
    "binarize": (DataBinSettings(), "--identifiers a --captions b --output c"),
    "update_identifiers": (AddSettings(), "add --data-bin a --embeddings b --items c"),
}


def door(name: str) -> str:
    """The module that `python -m preprocess.NAME` runs."""
    return f"preprocess.{name}.__main__" if name == "annotations" else f"preprocess.{name}"


def test_help_imports_nothing_heavy():
    modules = ["preprocess.__main__", *(door(name) for name in COMMANDS)]
    run = [sys.executable, "-c", HELP, *modules]
    done = subprocess.run(run, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == modules  # a heavy module would follow the name


def test_every_command_is_listed():
    assert SETTINGS.keys() | {"verify"} == COMMANDS.keys()  # it has no settings


@pytest.mark.parametrize("name", SETTINGS)
def test_defaults_of_a_command_are_those_of_its_function(name):
    settings, words = SETTINGS[name]
    parser = importlib.import_module(door(name)).parser()
    args = parser.parse_args(words.split())
    fields = {field.name for field in dataclasses.fields(settings)}
    without = {
        action.dest for action in parser._actions if action.default == argparse.SUPPRESS
    }  # left to the dataclass
    assert fields <= without | vars(args).keys()  # every setting has a flag
    assert settings_from(type(settings), args) == settings


@pytest.mark.parametrize(
    "name", sorted(SETTINGS.keys() - {"annotations"})
)  # its flags follow from its function's files
def test_every_flag_of_a_command_is_used(name):
    settings, words = SETTINGS[name]
    module = importlib.import_module(door(name))
    args = module.parser().parse_args(words.split())
    fields = {field.name for field in dataclasses.fields(settings)}
    source = inspect.getsource(module)
    assert not [flag for flag in vars(args).keys() - fields if not re.search(rf"\bargs\.{flag}\b|\"{flag}\"", source)]
