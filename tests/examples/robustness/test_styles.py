"""examples/robustness: rules that rewrite queries."""

import doctest
import random

import pytest
from conftest import load_example
from hypothesis import given
from hypothesis import strategies as st

styles, word_list = load_example("robustness", "styles"), load_example("robustness", "word_list")
TEXTS = [
    "A man in a hat is sitting on a bench .",
    "Two dogs are playing in the snow",
    "beach",
    "犬",
    "the",
    "?!",
    " a ",
]


def distance(one: str, other: str) -> int:
    """Edit distance, with a swap of neighbours as one edit."""
    rows = [[i + j if i * j == 0 else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            best = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (one[i - 1] != other[j - 1]))
            if i > 1 and j > 1 and one[i - 2 : i] == other[j - 2 : j][::-1]:
                best = min(best, rows[i - 2][j - 2] + 1)
            rows[i][j] = best
    return rows[-1][-1]


def test_the_examples():
    found = doctest.testmod(styles)
    assert found.attempted >= 6
    assert not found.failed


@pytest.mark.parametrize("style", styles.STYLES)
@given(text=st.sampled_from(TEXTS) | st.text(min_size=1, max_size=30), seed=st.integers(0, 99))
def test_no_query_becomes_empty_and_a_seed_repeats(style, text, seed):
    found = styles.styled([text], style, seed)
    assert len(found) == 1
    assert found[0]
    assert bool(found[0].strip()) == bool(text.strip())
    assert found == styles.styled([text, "another"], style, seed)[:1]


def test_each_style_does_what_it_says():
    text = "A young boy in a red coat is running through the snow with two dogs ."
    words = text.lower().split()[:-1]
    for seed in range(20):
        rng = random.Random(seed)
        typed = styles.typing_errors(text, rng)
        errors = round(sum(map(str.isalpha, text)) / styles.LETTERS_PER_ERROR)
        assert 1 <= distance(text, typed) <= errors == 4
        assert sorted(styles.reordered(text, rng).split()) == sorted(words)
        assert styles.reordered(text, rng).split() != words
        assert styles.cut_short(text, rng).split() == words[:8]
        assert styles.keywords(text, rng) == "young boy red coat running snow two dogs"
    said = {styles.paraphrased(text, random.Random(seed)) for seed in range(20)}
    assert len(said) > 10
    assert all(any(each.startswith(opening) for opening in word_list.OPENINGS) for each in said)
    assert any("lad " in each for each in said)
    assert any("boy " in each for each in said)


def test_seeds_differ():
    assert styles.styled(TEXTS, "typing errors", 0) != styles.styled(TEXTS, "typing errors", 1)


def test_word_lists_are_lower_case_words():
    for words in (word_list.FUNCTION_WORDS, word_list.PHRASE_STARTS, word_list.SYNONYMS):
        assert all(word == word.lower() and " " not in word for word in words)
    assert all(word != other for word, other in word_list.SYNONYMS.items())
