"""examples/robustness/rewritten_captions.py: training captions come once more, by other rules than those that measure."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from conftest import load_example
from recipe_samples import write_data

script = load_example("robustness", "rewritten_captions")
TEXT = "A man in a red hat is sitting on a bench near the beach ."


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rules_keep_words_of_the_text_or_its_length():
    words = TEXT.split()
    for seed in range(200):
        left = script.words_left_out(TEXT, random.Random(seed)).split()
        rest = iter(words)
        assert left
        assert all(word in rest for word in left)  # in their order
        stretch = script.stretch(TEXT, random.Random(seed))
        assert stretch in TEXT
        assert 1 <= len(stretch.split()) <= round(0.8 * len(words))
        turned = script.turned(TEXT, random.Random(seed)).split()
        assert turned != words
        assert any(turned == words[place:] + words[:place] for place in range(len(words)))
        wrong = script.wrong_letters(TEXT, random.Random(seed))
        assert len(TEXT) - TEXT.count(" ") <= len(wrong) <= len(TEXT)
    changed = [script.wrong_letters(TEXT, random.Random(seed)) != TEXT for seed in range(200)]
    assert np.mean(changed) > 0.9


@pytest.mark.parametrize("text", ["dog", "a", "é 😀"])
def test_no_rule_leaves_a_short_text_empty(text):
    for rule in script.RULES:
        assert all(rule(text, random.Random(seed)).strip() for seed in range(50))


def test_training_captions_come_once_more(tmp_path):
    data = write_data(tmp_path / "data")
    for _ in range(2):  # the second call replaces what the first one wrote
        script.main([str(data), str(tmp_path / "out"), "--share", "0.5", "--seed", "3"])
    before, after = (lines(tmp_path / folder / "captions.jsonl") for folder in ("data", "out"))
    own = [caption for caption in before if caption.get("role", "train") == "train"]
    added = after[len(before) :]
    assert after[: len(before)] == before
    assert len(added) == round(0.5 * len(own))
    assert {caption["role"] for caption in added} == {"train"}
    assert {caption["item_id"] for caption in added} <= {caption["item_id"] for caption in own}
    for name in ("embeddings.npy", "items.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (data / name).read_bytes()


def test_wrong_shares_are_refused(tmp_path):
    data = write_data(tmp_path / "data")
    for share in ("0", "1.5", "nan"):
        with pytest.raises(ValueError, match=r"--share .*: must be above 0 and at most 1"):
            script.main([str(data), str(tmp_path / "out"), "--share", share])
    with pytest.raises(ValueError, match="training captions; give more, or a larger --share"):
        script.main([str(data), str(tmp_path / "out"), "--share", "0.000001"])
