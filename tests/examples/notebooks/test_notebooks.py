"""The notebooks run from start to end, on small data and from another folder, and are committed without outputs."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import WORDS, write_jsonl
from notebook_files import FOLDER, NOTEBOOKS, ROOT, execute, stripped


def left_behind(folder: Path) -> list[Path]:
    """What a notebook has left in its working folder and among the temporary files."""
    return [*(folder / "here").iterdir(), *(folder / "temporary").iterdir()]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_of_a_run_is_in_the_file(path):
    """Mend it with `python tests/examples/notebooks/notebook_files.py`."""
    assert path.read_text(encoding="utf-8") == stripped(path)


def test_an_output_is_noticed(tmp_path):
    text = NOTEBOOKS[0].read_text(encoding="utf-8")
    changed = text.replace('"outputs": []', '"outputs": [{"output_type": "stream", "name": "stdout", "text": []}]', 1)
    (tmp_path / "a.ipynb").write_text(changed, encoding="utf-8")
    assert stripped(tmp_path / "a.ipynb") == text != changed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_files_that_a_notebook_names_exist(path):
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:docs|examples)/[\w./-]*\w", text))
    assert [name for name in named if not (ROOT / name).exists()] == []
    others = set(re.findall(r"`(\w+\.ipynb)`", text))
    assert others == {other.name for other in NOTEBOOKS if other != path}, "each leads to the two others"


def test_the_pages_name_every_notebook():
    for page in (FOLDER.parent / "README.md", ROOT / "README.md"):
        assert "examples/notebooks" in page.read_text(encoding="utf-8") or page.parent == FOLDER.parent
    guide = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    assert all(f"examples/notebooks/{path.name}" in guide for path in NOTEBOOKS)


def test_own_data_with_drawn_pictures(tmp_path, warm):
    settings = "PICTURES, EPOCHS, WIDTH, LAYERS, ALIGN = 60, 2, 32, 1, 16"
    answer = "[metrics, [[hit.item_id for hit in hits] for hits in (*results, *copied)], len(likely)]"
    (metrics, hits, unfit), kinds = execute("own_data", tmp_path, warm.python, settings, answer)
    assert metrics["queries"] == 60
    assert metrics["recall_at_10"] > 50  # by chance 17
    assert hits[:3] == hits[3:], "the exported model finds what the checkpoint finds"
    assert unfit < 6, "nothing that fits two dogs"
    assert kinds.count("image/png") == 7
    assert left_behind(tmp_path) == []


def test_own_data_with_own_files(tmp_path, warm):
    """Embeddings of anything: items without media, captions without roles, no test queries."""
    data, draw = tmp_path / "data", np.random.default_rng(0)
    data.mkdir()
    np.save(data / "embeddings.npy", draw.standard_normal((64, 12)).astype(np.float32))
    write_jsonl(data / "items.jsonl", [{"item_id": f"sound {row}"} for row in range(64)])
    texts = [{"item_id": f"sound {row}", "text": " ".join(draw.choice(WORDS, 5))} for row in [*range(64)] * 3]
    write_jsonl(data / "captions.jsonl", texts)
    settings = "\n".join(
        [
            f"EMBEDDINGS, ITEMS, CAPTIONS = '{data}/embeddings.npy', '{data}/items.jsonl', '{data}/captions.jsonl'",
            f"WORK, QUERIES = '{tmp_path}/work', ['a red dog runs']",
            "EPOCHS, WIDTH, LAYERS, ALIGN = 1, 32, 1, 16",
        ]
    )
    found, _ = execute("own_data", tmp_path, warm.python, settings, "[hit.item_id for hits in results for hit in hits]")
    assert len({*found}) == 6
    assert all(name.startswith("sound ") for name in found)
    assert (tmp_path / "work" / "MODEL" / "config.json").is_file()
    assert left_behind(tmp_path) == []


def test_identifiers(tmp_path, warm):
    settings = "PICTURES, CLUSTERS, RQVAE_EPOCHS, EPOCHS = 60, 4, 2, 1"
    answer = "[by_hand, [hit.item_id for hit in hits], of_items.tolist(), values.tolist(), report['items'], steps]"
    (by_hand, by_search, probabilities, values, items, steps), kinds = execute(
        "identifiers", tmp_path, warm.python, settings, answer
    )
    assert by_hand == by_search, "what the beam keeps step by step is what the search finds"
    assert len(probabilities) == items == 60
    assert sum(probabilities) == pytest.approx(1, abs=1e-4)
    assert len({tuple(row) for row in values}) == 60, "an identifier each"
    assert [len(step[0]) for step in steps] == list(range(len(values[0]) + 1))
    assert kinds.count("image/png") >= 6
    assert "text/html" in kinds
    assert left_behind(tmp_path) == []


def test_changing_catalogue(tmp_path, warm):
    settings = "PICTURES, NEW, EPOCHS, ALIGN = 72, 12, 1, 16"
    found = "[[hit.item_id for hit in hits] for hits in (hits_before, hits_after, hits_without, hits_compacted)]"
    answer = f"[recall, {found}, query['item_id'], gone, [item['item_id'] for item in items[-NEW:]], len(items)]"
    (recall, hits, wanted, gone, new, items), _ = execute("changing_catalogue", tmp_path, warm.python, settings, answer)
    before, after, without, compacted = hits
    assert items == 72
    assert not {*before} & {*new}, "an open retriever keeps its catalogue"
    assert {*after} & {*new}
    assert not {*without} & {*gone}
    assert compacted == without
    assert wanted in new
    assert recall["new items, before"]["recall@10"] == 0
    assert recall["new items, after"]["recall@10"] > 30  # by chance 14
    assert recall["old items, after"]["recall@10"] > 30
    assert left_behind(tmp_path) == []
