"""Every command of README.md, the guide and the recipes' READMEs is understood by its program; README's steps run."""

import dataclasses
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import ENVIRONMENT
from conftest import WORDS, load_example, write_jsonl
from documented import PAGES, README, READMES, ROOT, Command, commands, fences
from fairseq import options

from cart_fairseq.serving.ray_app import Placement
from cart_fairseq.serving.settings import ServingSettings
from cart_fairseq.tasks import plugin  # noqa: F401  registers what --task, --arch and --criterion name
from preprocess import cart

FAIRSEQ: dict[str, Any] = {
    "fairseq-train": options.get_training_parser,
    "fairseq-validate": options.get_validation_parser,
    "fairseq-generate": options.get_generation_parser,
    "fairseq-interactive": options.get_interactive_generation_parser,
}
NOT_OURS = {"pip", "source", "pytest", "npm", "tar", "hf", "ir_measures", "tensorboard"}
PLUGIN = ["--user-dir", "cart_fairseq", "--task", "cart_retrieval", "--arch", "cart", "--criterion", "cart_rdrop"]
COMMANDS = commands(*PAGES, *READMES)


def parse_fairseq(program: str, arguments: list[str]) -> Any:
    """Parse as a command of fairseq does; ``--user-dir`` may be a command's output."""
    words = ["cart_fairseq" if word.startswith("$(") else word for word in arguments]
    return options.parse_args_and_arch(FAIRSEQ[program](default_task="cart_retrieval"), input_args=words)


def check(command: Command) -> None:
    """Parse a command, or find the files, flags and variables that it names."""
    program, arguments = command.program, command.arguments
    if program == "torchrun":
        program, arguments = "fairseq-train", arguments[arguments.index("fairseq_cli.train") + 1 :]
    if program == "cart" and arguments[0] in cart.MODULES:
        program, arguments = cart.MODULES[arguments[0]], arguments[1:]
    if program in FAIRSEQ:
        parsed = parse_fairseq(program, arguments)
        assert parsed.task == "cart_retrieval"
        assert program != "fairseq-validate" or parsed.batch_size  # fairseq ends with an assertion without
    elif program.startswith(("preprocess.", "cart_fairseq.")):
        module = program + (".__main__" if (ROOT / program.replace(".", "/")).is_dir() else "")
        importlib.import_module(module).parser().parse_args(arguments)
    elif program == "cart":
        assert arguments in (["--help"], ["--version"], ["user-dir"])
    elif program.startswith("examples/"):
        check_recipe(ROOT / program, arguments, command.variables)
    elif program == "serve":  # of Ray
        module, _, name = arguments[1].partition(":")
        known = {field.name for kind in (ServingSettings, Placement) for field in dataclasses.fields(kind)}
        assert arguments[0] == "run"
        assert callable(getattr(importlib.import_module(module), name))
        assert {word.partition("=")[0] for word in arguments[2:]} <= known
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(f"\n{target}:" in makefile for target in arguments)
    else:
        assert program in NOT_OURS


def check_recipe(script: Path, arguments: list[str], variables: dict[str, str]) -> None:
    """Flags of a .sh are fairseq-train's, those of a .py are in its source; variables are read by some recipe."""
    assert script.is_file()
    flags = [word for word in arguments if word.startswith("--")]
    if script.suffix == ".sh":
        recipe = load_example("recipes", "run").COMMANDS[str(script.relative_to(ROOT / "examples").with_suffix(""))]
        first = next((i for i, word in enumerate(arguments) if word.startswith("--")), len(arguments))
        assert first == len(recipe.arguments), recipe.arguments
        assert recipe.flags or not flags
        parse_fairseq("fairseq-train", ["data-bin", *PLUGIN, *arguments[first:]])
    else:
        source = "".join(path.read_text(encoding="utf-8") for path in script.parent.glob("*.py"))
        assert all(f'"{flag}"' in source for flag in flags), flags
    recipes = [*(ROOT / "examples").rglob("*.py"), *(ROOT / "examples").rglob("*.sh")]
    known = "".join(path.read_text(encoding="utf-8") for path in recipes)
    settings = (ROOT / "examples" / "recipes" / "settings.py").read_text(encoding="utf-8")  # a field a variable
    for name in variables:
        assert re.search(rf"\b{name}\b", known) or f"    {name.lower()}: " in settings, name


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_commands_are_understood(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    check(command)


@pytest.mark.parametrize(
    "line",
    [
        "fairseq-validate data-bin --user-dir cart_fairseq --task cart_retrieval --path checkpoint.pt --valid-subset test",
        "python -m preprocess.binarize --identifiers identifiers --captions c.jsonl --output data-bin --no-such-flag",
        "python -m preprocess.no_such_step --output x",
        "cart binarize --identifiers identifiers --captions c.jsonl --output data-bin --no-such-flag",
        "cart no-such-step --output x",
        "bash examples/own_data/run.sh DATA OUT --no-such-flag",
        "bash examples/own_data/run.sh DATA",
        "python examples/efficiency/benchmark.py --no-such-flag",
        "NO_SUCH_VARIABLE=1 bash examples/own_data/run.sh DATA OUT",
        "bash examples/no_such_recipe.sh DATA OUT",
        "make no-such-target",
        "curl something",
    ],
)
def test_a_command_that_fails_is_caught(line, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "page.md").write_text(f"```sh\n{line}\n```\n")
    [command] = commands(tmp_path / "page.md")
    with pytest.raises((AssertionError, SystemExit, ImportError)):
        check(command)


def test_all_programs_are_there():
    """Were README's blocks no longer found, nothing would be checked."""
    found = {command.program for command in COMMANDS if command.page == "README.md"}
    assert {*FAIRSEQ, "preprocess.build_identifiers", "preprocess.binarize", "cart_fairseq.evaluate", "make"} <= found


SMALL = {
    "preprocess.build_identifiers": "--kmeans-clusters 4 --codebook-size 4 --epochs 2 --allow-collapse",
    "preprocess.binarize": "--vocab-size 60",
    "fairseq-train": "--arch cart_tiny --max-epoch 1 --cpu --num-workers 0",
    "fairseq-validate": "--cpu --num-workers 0",
    "fairseq-generate": "--cpu --num-workers 0",
    "fairseq-interactive": "--cpu",
}
"""What is added to a step so that it takes a second on small data."""

RUN_ALL = """
import io, json, runpy, sys
for module, arguments in json.load(open("steps.json")):
    print("STEP", module, flush=True)
    sys.stdin = io.StringIO("a dog on a beach\\n")
    if module == "python":
        exec(compile(arguments, "example", "exec"), {"__name__": "example"})
        continue
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three files that README starts from: 96 items, two captions each."""
    folder = tmp_path_factory.mktemp("readme")
    draw = np.random.default_rng(0)
    np.save(folder / "embeddings.npy", draw.standard_normal((96, 12)).astype(np.float32))
    names = ["a.jpg", "b.jpg", *(f"{i}.jpg" for i in range(94))]
    splits = ["valid", "test", *["train"] * 4] * 16
    items = [{"item_id": name, "split": split} for name, split in zip(names, splits, strict=True)]
    write_jsonl(folder / "items.jsonl", items)
    captions = [{"item_id": name, "text": " ".join(draw.choice(WORDS, 5))} for name in names for _ in range(2)]
    write_jsonl(folder / "captions.jsonl", captions)
    return folder


def test_the_steps_of_the_readme_run(small_data):
    """All in one process, in README's order, then the Python examples of README and of the guide."""
    steps: list[tuple[str, Any]] = []
    for command in commands(README):
        if command.program not in SMALL and not command.program.startswith("cart_fairseq."):
            continue
        module = command.program.replace("fairseq-", "fairseq_cli.")
        words = [*command.arguments, *SMALL.get(command.program, "").split()]
        if module.startswith("fairseq_cli."):
            words[words.index("--user-dir") + 1] = str(ROOT / "cart_fairseq")
        steps.append((module, words))
    assert len(steps) == 7
    pages = [README, ROOT / "docs" / "searching.md", ROOT / "docs" / "api.md"]
    # those with a Query need media; test_media_queries runs them
    examples = [block for page in pages for block in fences(page, "python") if "import Query" not in block]
    assert len(examples) == 3
    steps += [("python", example) for example in examples]
    (small_data / "steps.json").write_text(json.dumps(steps))

    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL], cwd=small_data, env=ENVIRONMENT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    said = dict(zip(*[iter(re.split(r"^STEP (\S+)\n", done.stdout, flags=re.M)[1:])] * 2))
    assert "recall_at_1" in said["fairseq_cli.validate"]
    assert json.loads((small_data / "metrics.json").read_text())["queries"] == 32
    assert (small_data / "run.trec").is_file()
    assert re.search(r"^D-0\t-[\d.]+\t\S+\.jpg$", said["fairseq_cli.interactive"], re.M)
