"""Every figure of README.md and of the guide is a committed record's; the check itself catches what is not."""

import json
import re
from pathlib import Path

import figures
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
READMES = sorted((ROOT / "examples").rglob("README.md"))
RUNS = "examples/flickr8k/runs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_figures_are_recorded(page):
    assert figures.problems(page.read_text(encoding="utf-8"), ROOT) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_changed_digit_is_caught(page):
    for section in re.split(r"^(?=## )", page.read_text(encoding="utf-8"), flags=re.M):
        for row in re.finditer(r"^\|.*?\d\.\d.*\|$", section, re.M):
            flags = [code.span() for code in re.finditer(r"`[^`]* [^`]*`", row.group())]  # with their values
            for number in re.finditer(r"(?<![\d.§])\d+\.(\d)(?![\d.])", row.group()):
                at = row.start() + number.start(1)
                if any(start < number.start() < end for start, end in flags):
                    continue
                changed = section[:at] + f"{(int(number[1]) + 1) % 10}" + section[at + 1 :]
                assert number.group() in figures.CONSTANTS or figures.problems(changed, ROOT), row.group()


def record(root: Path, **changes) -> Path:
    """A record at ``root/runs/a.json``; a fact that is None is left out."""
    facts = {"command": "run.sh", "settings": {"beam": 30}, "seed": 1, "commit": "abc", "machine": "two cores"}
    facts |= {"recall": 12.34, **changes}
    (root / "runs").mkdir(exist_ok=True)
    (root / "runs" / "a.json").write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))
    return root


TABLE = "<!-- figures of runs: recall\na.json\n-->\n\n| system | R@1 |\n| --- | --- |\n| ours | 12.3 |\n"


def test_a_recorded_table_passes(tmp_path):
    assert figures.problems(TABLE, record(tmp_path)) == []
    assert figures.problems(TABLE.replace("12.3 ", "**12.3** "), record(tmp_path)) == []


@pytest.mark.parametrize(
    ("page", "found"),
    [
        (TABLE.replace("12.3", "12.4"), "12.4 is printed, 12.3 recorded"),
        (TABLE.replace("12.3", "12"), None),
        (TABLE.replace("12.3", "13"), "13 is printed, 12 recorded"),
        (TABLE + "| theirs | 9.9 |\n", "2 rows, but 1 records"),
        (TABLE.replace("ours", "ours, 5 % better"), "no record for 5 %"),
        (TABLE.replace("a.json", "b.json"), "no such record"),
        (TABLE.replace("a.json", "a.json > test"), "nothing recorded at test"),
        (TABLE.replace(": recall", ": precision"), "nothing recorded at precision"),
        (TABLE.split("|", maxsplit=1)[0], "no table follows"),
        (TABLE.split("-->")[1], "no record for 12.3"),
        ("It takes 7 minutes.", "no record for 7 minutes"),
        ("It takes seven minutes.", "no record for seven minutes"),
        ("It is 4.1 times as fast.", "no record for 4.1"),
        ("R@1 is `12.3`.", "no record for 12.3"),
        ("Run `fairseq-train --lr 0.3` on Python 3.11.", None),
        ("R@1 is 12.3<!-- runs/a.json > recall -->.", None),
        ("R@1 is 12.5<!-- runs/a.json > recall -->.", "12.5 is printed, 12.3 recorded"),
        ("```text\nrecall 12.3\n```", "no record for 12.3"),
        (f"{TABLE.split('|')[0]}```text\n recall \n ours 12.3\n```", None),
        (f"{TABLE.split('|')[0]}```text\n recall \n ours 12.2\n```", "12.2 is printed"),
        ("```sh\nfairseq-train data-bin --lr 0.3\n```", None),
        ("- item\n  that took 3 hours\n", "no record for 3 hours"),
    ],
)
def test_the_check_itself(page, found, tmp_path):
    problems = figures.problems(page, record(tmp_path))
    assert bool(problems) == (found is not None), problems
    assert found is None or found in problems[0]


@pytest.mark.parametrize("fact", figures.FACTS)
def test_a_record_that_lacks_a_fact_is_none(fact, tmp_path):
    assert f"lacks {fact}" in figures.problems(TABLE, record(tmp_path, **{fact: None}))[0]
    (tmp_path / "runs" / "provenance.json").write_text(json.dumps({"a.json": {fact: "noted afterwards"}}))
    assert figures.problems(TABLE, tmp_path) == []


def test_runs_of_several_seeds_are_mean_and_deviation(tmp_path):
    run = {"command": "run.sh", "settings": {}, "seed": 1, "commit": "abc", "machine": "two cores"}
    (tmp_path / "runs").mkdir()
    runs = {"full": [{**run, "alone": {"recall": value}} for value in (1.0, 2.0, 3.0)]}
    (tmp_path / "runs" / "a.json").write_text(json.dumps(runs))
    page = (
        "<!-- figures of runs: alone.recall runs\na.json > full\n-->\n\n| a | b | c |\n|---|---|---|\n| x | {} | 3 |\n"
    )
    assert figures.problems(page.format("2.0 ± 1.0"), tmp_path) == []
    assert figures.problems(page.format("2.0 ± 0.9"), tmp_path)


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_short_tables_aside(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith(("|", "<!--"))] == []
