"""The page about the paper agrees with the list of rivals, the recipe `paper`, and the paper's tables."""

import re
import shlex

import pytest
from conftest import load_example
from documented import ROOT
from recipe_samples import manifest

from preprocess.build_identifiers import parser as identifier_parser
from preprocess.identifiers.settings import SCHEME_HELP, IdentifierSettings

PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
defaults = load_example("recipes", "defaults")
obtainable = load_example("baselines", "obtainable")
published = load_example("baselines", "published")
NEEDED = ["--embeddings", "e", "--items", "i", "--output", "o"]


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = section.partition("\n\n|")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_every_system_of_the_papers_tables_has_a_line():
    rows = {row[0]: row[1:] for row in table("Systems")}
    methods = {
        (each.method, number)
        for number, sets in published.FIGURES.items()
        for lines in sets.values()
        for each in lines
        if not each.method.startswith("CART")
    }
    assert {(name, int(row[0][0])) for name, row in rows.items()} == methods


def test_systems_are_those_of_the_list_of_rivals():
    rows = {row[0]: row[1:] for row in table("Systems")}
    rivals = {rival.published: rival for rival in obtainable.RIVALS if rival.published}
    trained = {names[3]: scheme for scheme, names in obtainable.RUNS.items() if names[3].startswith("GRACE")}
    assert {*rows} == {*rivals, *obtainable.NOT_CARRIED, *trained}
    for name, (_, here, weights) in rows.items():
        if name in rivals:
            rival = rivals[name]
            assert here == f"`--only {rival.key}`"
            assert rival.weights.split(":")[-1] in weights or rival.weights == rival.key, name
        elif name in trained:
            assert here in (f"`--scheme {trained[name]}`", "not built")
            assert here == "not built" or trained[name] in SCHEME_HELP, name
        else:
            assert here == "not obtainable"
            assert obtainable.NOT_CARRIED[name].startswith(weights)


def flags_of(step: str) -> list[list[str]]:
    """Flags with their values in the last column of the settings, for a step; of each cell the first code."""
    found, cells = [], [(row[-2], row[-1]) for row in table("Settings")]
    for where, cell in cells:
        code = re.match(r"`(--[^`]+)`", cell)
        if where == step and code:
            found.append(shlex.split(code[1].replace("(", "'(").replace(")", ")'")))
    return found


def test_settings_of_identifiers_are_those_of_the_recipe_paper():
    def settings(flags: list[str]) -> IdentifierSettings:
        given = vars(identifier_parser().parse_args([*NEEDED, *flags]))
        return IdentifierSettings(**{name: given[name] for name in IdentifierSettings.__dataclass_fields__})

    recipe = settings(defaults.identifier_flags(31_783, "paper"))
    names = set()
    for flags in flags_of("identifiers"):
        shown = settings(flags)
        for name in (flag[2:].removeprefix("no-").replace("-", "_") for flag in flags if flag.startswith("--")):
            expected = recipe.chosen(name)
            assert getattr(shown, name) == (getattr(recipe, name) if expected is None else expected), name
            names.add(name)
    assert {"kmeans", "kmeans_clusters", "codebook_size", "epochs", "warmup_epochs", "batch_size", "alpha"} <= names


def test_settings_of_training_are_those_of_the_recipe_paper():
    made = manifest(145_000, 5070)
    flags = defaults.train_flags(made, "paper", defaults.Machine("cuda", 1), [])
    names = set()
    for shown in flags_of("training"):
        for name, value in zip(shown[::2], shown[1::2], strict=True):
            expected = flags[flags.index(name) + 1]
            assert value == expected or float(value) == float(expected), name
            names.add(name)
    assert {"--lr", "--batch-size", "--consistency-weight", "--encoder-layers", "--dropout", "--max-epoch"} <= names


@pytest.mark.parametrize("name", ["flickr30k", "mscoco", "clotho", "audiocaps", "msrvtt", "msvd"])
def test_every_data_set_has_a_line(name):
    assert f"| `examples/{name}` |" in PAGE
