"""Flickr8k's recipes: `run` trains the recommended model, `compare` trains all variants and prints one table."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import baselines
import comparison
from calls import step
from settings import Settings, from_environment
from steps import Run, check_run, train_and_evaluate


def run(data: Path, out: Path, flags: Sequence[str]) -> None:
    """Train and measure the model, and measure simple methods on the same queries."""
    settings = from_environment()
    train_beside_baselines(run_of(data, out, flags, dataclasses.replace(settings, recipe=settings.recipe or "joined")))


def compare(data: Path, out: Path, flags: Sequence[str]) -> None:
    """Train into ``out/scratch``, ``out/paper`` and, with a text encoder, ``out/pretrained`` and ``out/borrowed``."""
    settings = from_environment()
    plain = dataclasses.replace(settings, text_encoder="", index_captions="")
    recipes = {
        "scratch": dataclasses.replace(plain, recipe="joined"),
        "paper": dataclasses.replace(plain, recipe="cpu", join_flags=()),
    }
    if settings.text_encoder:
        pretrained = dataclasses.replace(settings, recipe="joined", index_captions="")
        recipes["pretrained"] = pretrained
        recipes["borrowed"] = dataclasses.replace(pretrained, index_captions="borrowed")
    runs = [run_of(data, out / name, flags, chosen) for name, chosen in recipes.items()]
    for each in runs:
        check_run(*each)
    for each in runs:
        train_beside_baselines(each)
    print()
    comparison.main(["--data", str(data), "--runs", str(out), "--json", str(out / "comparison.json")])


def run_of(data: Path, out: Path, flags: Sequence[str], settings: Settings) -> Run:
    """Return a run with flags of length and size. The user's flags come last and override others."""
    return Run(data, out, [*length_and_size(settings), *flags], settings)


def train_beside_baselines(run: Run) -> None:
    """Train and measure a model, and measure the simple methods."""
    train_and_evaluate(*run)
    step("5. simple methods on the same queries")
    arguments = ["--data", str(run.data), "--json", str(run.out / "baselines.json")]
    if run.settings.recipe != "joined":  # identifiers of a join decode to another space
        arguments += ["--identifiers", str(run.out / "identifiers")]
    baselines.main(arguments)


def length_and_size(settings: Settings) -> list[str]:
    """Return flags of the number of epochs and of the model's size; none for the recipe ``paper``, which has its own.

    Runs take at most 75 minutes on two cores. With borrowed captions an epoch is longer, and the model has the default
    fusion and three layers.
    """
    if settings.recipe == "paper":
        return []
    if settings.index_captions == "borrowed":
        return ["--max-epoch", "9"]
    if settings.recipe != "joined":
        return ["--max-epoch", "20"]
    epochs = "10" if settings.text_encoder else "16"
    return ["--max-epoch", epochs, "--fusion", "none", "--decoder-layers", "4"]
