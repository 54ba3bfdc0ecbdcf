"""The rules that the guide gives for step-by-step work are those of the recipes."""

import re

import pytest
from conftest import load_example
from documented import ROOT

PAGE = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
GPU_RECIPE = "cuda"  # the paper's model and length, scaled to the data
ITEMS = (240, 3000, 100_000)


def rule(flag: str) -> str:
    """The value that the table of the schedule gives for a flag."""
    [found] = re.findall(rf"^\| `{flag}`.*? \| (.*) \|$", PAGE, re.M)
    return found


def test_levels_have_as_many_values_as_in_the_recipes():
    defaults, recipes = load_example("recipes", "defaults"), load_example("recipes", "schedules").RECIPES
    named = set()
    for names, sizes in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| .* \| ([^|]*128) \|$", PAGE, re.M):
        share = re.search(r"items / (\d+)", sizes)
        for name in re.findall(r"\w+", names):
            named.add(name)
            for items in ITEMS:
                flags = defaults.identifier_flags(items, name)
                expected = min(128, items // int(share[1])) if share else 128
                assert flags[:4] == ["--kmeans-clusters", str(expected), "--codebook-size", str(expected)]
                assert ("--allow-collapse" in flags) == (expected < 128)
    assert named == {*recipes}


@pytest.mark.parametrize("pairs", [320, 2000, 8000, 32_000])
def test_the_schedule_is_the_recipes(pairs):
    defaults, recipe = load_example("recipes", "defaults"), load_example("recipes", "schedules").RECIPES[GPU_RECIPE]
    share, least, most = map(int, re.findall(r"\d+", rule("--batch-size")))
    batch = min(most, max(least, pairs // share))
    warmup, total = (int(re.findall(r"\d+", rule(flag))[0]) for flag in ("--warmup-updates", "--max-update"))
    manifest = {"counts": {"train": {"queries": pairs}}, "files": {"train.query-id.query.bin": {"bytes": 40 * pairs}}}
    schedule = defaults.schedule_of(recipe, manifest, defaults.Machine("cuda", 1), [], 0)
    per_epoch = -(-pairs // batch)
    assert schedule.batch_per_worker == batch
    assert schedule.warmup_updates == warmup * per_epoch
    assert schedule.warmup_updates + schedule.period_updates == total * per_epoch


def test_a_script_has_a_name_of_its_own():
    """Scripts import their neighbours by name alone, so two of one name would hide each other."""
    scripts = [path.stem for path in (ROOT / "examples").rglob("*.py")]
    assert sorted({name for name in scripts if scripts.count(name) > 1}) == []
