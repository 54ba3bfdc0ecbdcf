"""Every command of README.md is understood by the program it calls."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fairseq import options

from cart_fairseq.evaluate import build_parser as evaluate_parser
from preprocess import (
    binarize,
    build_identifiers,
    extract_embeddings,
    generate_captions,
    join_captions,
    update_identifiers,
)
from preprocess.annotations import __main__ as annotations

ROOT = Path(__file__).resolve().parents[2]
PARSERS = {
    "fairseq-train": options.get_training_parser,
    "fairseq-validate": options.get_validation_parser,
    "fairseq-generate": options.get_generation_parser,
    "fairseq-interactive": options.get_interactive_generation_parser,
}


def commands(program: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^    {re.escape(program)} (.*)$", text, re.M)


@pytest.mark.parametrize("program", PARSERS)
def test_fairseq_commands_parse(program, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = commands(program)
    assert found
    for command in found:
        arguments = shlex.split(command)
        parsed = options.parse_args_and_arch(PARSERS[program](default_task="cart_retrieval"), input_args=arguments)
        assert parsed.task == "cart_retrieval"
        assert parsed.data == "data-bin"


PARSED: dict[str, Callable[[list[str]], Any]] = {
    "cart_fairseq.evaluate": lambda words: evaluate_parser().parse_args(words),
    "preprocess.annotations": lambda words: annotations.parser().parse_args(words),
    "preprocess.binarize": lambda words: binarize.parser().parse_args(words),
    "preprocess.build_identifiers": build_identifiers.parse,
    "preprocess.extract_embeddings": extract_embeddings.parse,
    "preprocess.generate_captions": generate_captions.parse,
    "preprocess.join_captions": join_captions.parse,
    "preprocess.update_identifiers": lambda words: update_identifiers.parser().parse_args(words),
}


@pytest.mark.parametrize("program", PARSED)
def test_our_own_commands_parse(program):
    found = commands(f"python -m {program}")
    assert found
    for command in found:
        PARSED[program](shlex.split(command))


def test_files_and_targets_that_it_names_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"(?:bash|python) (examples/\S+)", text):
        assert (ROOT / path).is_file(), path
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make (\w+)", text):
        assert f"\n{target}:" in makefile, target
