"""The output of fairseq's commands on the searching page is that of the committed checkpoint in tests/compatibility."""

import re

import pytest
from commands import TASK, run
from documented import ROOT, fences

PLAIN = ROOT / "tests" / "compatibility" / "plain"
SEARCH = [PLAIN / "data-bin", *TASK, "--path", PLAIN.with_suffix(".pt"), "--beam", 30, "--cpu"]
NUMBER = re.compile(r"-?\d+\.\d+")


def shown(language: str) -> list[str]:
    """The lines of the page's block."""
    [block] = fences(ROOT / "docs" / "searching.md", language)
    return block.splitlines()


def assert_same(printed: list[str], page: list[str]) -> None:
    """Words and identifiers are equal, numbers as far as the page has digits; seconds are anything."""
    assert len(printed) == len(page)
    for line, expected in zip(printed, page, strict=True):
        assert NUMBER.sub("", line) == NUMBER.sub("", expected)
        if not line.startswith("W-"):
            numbers = [[float(number) for number in NUMBER.findall(text)] for text in (line, expected)]
            assert numbers[0] == pytest.approx(numbers[1], abs=2e-4)


def test_the_lines_of_fairseq_generate(tmp_path):
    flags = ["--gen-subset", "test", "--nbest", 2, "--num-workers", 0, "--results-path", tmp_path]
    run(*SEARCH, *flags, module="fairseq_cli.generate")
    lines = (tmp_path / "generate-test.txt").read_text(encoding="utf-8").splitlines()
    assert_same([line for line in lines if re.match(r"[A-Z]-1\t", line)], shown("fairseq-generate"))
    assert lines[-1].startswith("Generate test with beam=30: BLEU4 = ")


def test_the_lines_of_fairseq_interactive():
    printed = run(*SEARCH, "--nbest", 1, module="fairseq_cli.interactive", stdin="a dog on a beach\n")
    assert_same(re.findall(r"^[A-Z]-0\t.*$", printed, re.M), shown("fairseq-interactive"))


@pytest.mark.parametrize(
    ("line", "other"), [("D-1\t-1.5802\titem 5", "D-1\t-1.5802\titem 6"), ("H-1\t-1.5802", "H-1\t-1.59")]
)
def test_a_line_that_differs_is_noticed(line, other):
    with pytest.raises(AssertionError):
        assert_same([line], [other])
