"""examples/robustness: every style is measured for the model and for the dual tower."""

import json

import numpy as np
import pytest
from conftest import load_example
from recipe_calls import joined_run
from recipe_samples import write_data

from cart_fairseq.retriever import CartRetriever

script = load_example("robustness", "robustness")
styles = load_example("robustness", "styles")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """OUT of a run with a join."""
    folder = tmp_path_factory.mktemp("robustness")
    return joined_run(write_data(folder / "data"), folder / "out")


@pytest.mark.filterwarnings("ignore")
def test_every_style_is_measured_for_both_systems(run, tmp_path, capsys):
    checkpoint, data = run / "checkpoints" / "checkpoint_best.pt", run / "data-bin"
    flags = [f"--data={data}", f"--joined={run / 'joined'}", "--seed=3", f"--json={tmp_path / 'r.json'}"]
    script.main([str(checkpoint), *flags])
    record = json.loads((tmp_path / "r.json").read_text())
    assert record.keys() >= {"commit", "machine", "settings", "seed"}
    retriever = CartRetriever.from_pretrained(checkpoint, data)
    table = retriever.data.queries("valid", ("text", "item_row")).to_pydict()
    assert record["queries"] == len(table["text"])
    tower = script.JoinedTowers(run / "joined")
    rows = retriever.data.candidates("valid")
    assert rows is not None
    items = np.load(run / "joined" / "aligned.npy").astype(np.float32)
    for style in styles.STYLES:
        texts = styles.styled(table["text"], style, 3)
        hits = retriever.search(texts, k=10, candidates="valid")
        first = [found[0].row == row for found, row in zip(hits, table["item_row"], strict=True)]
        own = record["metrics"]["CART"][style]
        assert own["recall_at_1"] == pytest.approx(100 * np.mean(first))
        whole = record["metrics"]["CART"]["as written"]["recall_at_10"]
        assert own["loss_at_10"] == pytest.approx(whole - own["recall_at_10"])
        ranks = []
        for text, row in zip(texts, table["item_row"], strict=True):
            scores = items @ tower.queries([text])[0]
            ranks.append(sum(scores[other] >= scores[row] - 1e-6 for other in rows))
        expected = 100 * np.mean([rank <= 10 for rank in ranks])
        assert record["metrics"]["dual tower"][style]["recall_at_10"] == pytest.approx(expected)
    printed = capsys.readouterr().out
    assert all(f"| {style} | {system} |" in printed for style in styles.STYLES for system in ("CART", "dual tower"))


def test_a_join_of_other_items_is_refused(run, tmp_path):
    other = tmp_path / "joined"
    other.symlink_to(run / "joined")
    retriever = CartRetriever.from_pretrained(run / "checkpoints" / "checkpoint_best.pt", run / "data-bin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script.np, "load", lambda *given, **options: np.zeros((3, 2)))
        with pytest.raises(ValueError, match=r"has 3 items, but .* has 20; give the join that it was made from"):
            script.Tower(other, retriever.data, "valid")
