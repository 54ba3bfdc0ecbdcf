"""MODEL folders that change: items that come and go, exporting again, and renewing what searches read."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from changing import new_items
from commands import run, train_flags
from export_samples import assert_same, checkpoint, dense_model, hits, opened
from mixed_world import write_data_bin

from cart_fairseq import Query
from cart_fairseq.base.files import locked_file
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.publishing.exporting import export
from cart_fairseq.publishing.renewing import store_search_files
from cart_fairseq.queries import item_priors
from preprocess import update_identifiers
from preprocess.api import add, compact, remove, renew, verify


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return dense_model(tmp_path_factory.mktemp("dense"))


def test_a_join_keeps_its_parts_and_takes_new_items(tmp_path):
    write_data_bin(tmp_path)
    data, save = tmp_path / "data-bin", tmp_path / "save"
    run(*train_flags(data, save, "--max-epoch", 2, "--dense-dim", 8, "--dense-weight", 1, "--media-positions", 2))
    path = save / "checkpoint_best.pt"
    export(path, data, tmp_path / "MODEL")
    texts = [row["text"] for row in DataBin(data).queries("test").to_pylist()[:4]]
    assert_same(tmp_path / "MODEL", path, data, texts)
    assert_same(tmp_path / "MODEL", path, data, [Query(item_id="i3"), Query(item_id="i5", text="red")])
    made = DataBin(tmp_path / "MODEL")
    assert (tmp_path / "MODEL" / "join.json").is_file()
    assert made.dense_items is not None
    assert made.dense_items.captions is not None
    assert len(made.dense_items.captions) == 0
    before = DataBin(data).dense_items
    assert before is not None
    assert made.dense_items.text_dim == before.text_dim > 0
    # items may leave, although there are no captions whose features would leave with them
    for target in (data, tmp_path / "MODEL"):
        remove(target, ["i3"])
    assert_same(tmp_path / "MODEL", path, data, texts)


def test_added_and_removed_items_are_found_as_in_the_data_bin(dense, tmp_path):
    shutil.copytree(dense / "data-bin", tmp_path / "data-bin")
    shutil.copytree(dense / "MODEL", tmp_path / "MODEL")
    (tmp_path / "MODEL" / "README.md").write_text("mine")
    tuned = opened(checkpoint(dense), tmp_path / "data-bin")
    store_search_files(
        tuned.models, tuned.data
    )  # as tune does; the captions of removed items go on counting for priors
    embeddings, items = new_items(tmp_path / "new", 4)
    for target in (tmp_path / "data-bin", tmp_path / "MODEL"):
        add(target, embeddings, items)
        remove(target, ["item 3", "new 1"])
    assert_same(tmp_path / "MODEL", checkpoint(dense), tmp_path / "data-bin")
    assert {"new 0", "new 2"} <= {hit.item_id for hit in opened(tmp_path / "MODEL").search(["dog"], k=50)[0]}
    assert (tmp_path / "MODEL" / "README.md").read_text() == "mine"
    assert verify(tmp_path / "MODEL").kind == "model"


def test_items_that_were_added_before_the_export_are_younger_after_it(dense, tmp_path):
    shutil.copytree(dense / "data-bin", tmp_path / "data-bin")
    add(tmp_path / "data-bin", *new_items(tmp_path / "new", 4))
    remove(tmp_path / "data-bin", ["item 4"])
    np.save(tmp_path / "data-bin" / "candidates.mine.npy", np.array([1, 5, 9]))
    export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")
    assert_same(tmp_path / "MODEL", checkpoint(dense), tmp_path / "data-bin")
    assert opened(tmp_path / "MODEL").data.candidate_names == ["all", "mine", "test", "valid"]


def test_exporting_again_keeps_what_users_added_and_loses_no_update(dense, tmp_path):
    shutil.copytree(dense / "MODEL", tmp_path / "MODEL")
    shutil.copytree(dense / "data-bin", tmp_path / "data-bin")
    (tmp_path / "MODEL" / "LICENSE").write_text("mine")
    (tmp_path / "MODEL" / ".git").mkdir()
    (tmp_path / "MODEL" / ".git" / "HEAD").write_text("main")
    np.save(tmp_path / "MODEL" / "candidates.mine.npy", np.array([1, 5]))
    for _ in range(2):
        export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")
        assert (tmp_path / "MODEL" / "LICENSE").read_text() == "mine"
        assert (tmp_path / "MODEL" / ".git" / "HEAD").read_text() == "main"
        kept = DataBin(tmp_path / "MODEL").candidates("mine")
        assert kept is not None
        assert kept.tolist() == [1, 5]
        np.save(tmp_path / "data-bin" / "candidates.mine.npy", np.array([1, 5]))
    remove(tmp_path / "MODEL", ["item 3"])
    with pytest.raises(ValueError, match=r"MODEL: its catalogue was updated .* update the data-bin in the same way"):
        export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")
    remove(tmp_path / "data-bin", ["item 3"])
    export(checkpoint(dense), tmp_path / "data-bin", tmp_path / "MODEL")


def test_only_a_model_folder_is_replaced(dense, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("notes")
    for taken in (tmp_path / "mine", dense / "data-bin"):
        with pytest.raises(ValueError, match="is there and no MODEL folder"):
            export(checkpoint(dense), dense / "data-bin", taken)
    (tmp_path / "MODEL").mkdir()
    export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL")
    assert not (tmp_path / "MODEL" / "README.earlier.md").exists()
    export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL")
    assert not (tmp_path / "MODEL" / "README.earlier.md").exists()
    (tmp_path / "MODEL" / "README.md").write_text("licence: mine")
    export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL")
    assert (tmp_path / "MODEL" / "README.earlier.md").read_text() == "licence: mine"
    assert verify(tmp_path / "MODEL").kind == "model"


def test_a_folder_that_is_being_updated_is_not_replaced(dense, tmp_path):
    shutil.copytree(dense / "MODEL", tmp_path / "MODEL")
    before = (tmp_path / "MODEL").stat().st_ino
    with (
        locked_file(tmp_path / "MODEL" / "identifiers" / "update.lock"),
        pytest.raises(ValueError, match="another process is updating it; export again when it has ended"),
    ):
        export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL")
    assert (tmp_path / "MODEL").stat().st_ino == before
    (tmp_path / ".MODEL.abcd1234.tmp" / "MODEL").mkdir(parents=True)  # of a killed export
    export(checkpoint(dense), dense / "data-bin", tmp_path / "MODEL")
    assert [path.name for path in tmp_path.iterdir()] == ["MODEL"]


@pytest.mark.parametrize("named", [False, True])
def test_update_identifiers_renews_what_searches_of_a_model_folder_read(named, dense, tmp_path, monkeypatch, capsys):
    shutil.copytree(dense / "MODEL", tmp_path / "MODEL")
    model, path = str(tmp_path / "MODEL"), ["--path", str(tmp_path / "MODEL")] if named else []
    embeddings, items = new_items(tmp_path / "new", 4)
    given = ["--embeddings", str(embeddings), "--items", str(items)]
    for command in (["add", *given], ["remove", "--item-ids", "item 4"], ["compact"], ["renew"]):
        update_identifiers.main([command[0], "--data-bin", model, *path, *command[1:]])
        assert "what searches with" in capsys.readouterr().out
        with monkeypatch.context() as watched:
            watched.setattr(item_priors, "item_priors", lambda *_: pytest.fail("priors are computed again"))
            assert opened(tmp_path / "MODEL").search(["red dog"])[0]
    with pytest.raises(ValueError, match="is a MODEL folder, which has its own catalogue; leave out the data-bin"):
        update_identifiers.main(["renew", "--data-bin", str(dense / "data-bin"), "--path", model])


def test_functions_renew_what_searches_of_a_model_folder_read(dense, tmp_path, monkeypatch):
    model = Path(shutil.copytree(dense / "MODEL", tmp_path / "MODEL"))
    embeddings, items = new_items(tmp_path / "new", 4)
    for update in (
        lambda: add(model, embeddings, items),
        lambda: remove(model, ["item 4"]),
        lambda: compact(model),
        lambda: renew(model),
    ):
        update()
        with monkeypatch.context() as watched:
            watched.setattr(item_priors, "item_priors", lambda *_: pytest.fail("priors are computed again"))
            assert opened(model).search(["red dog"])[0]
    with pytest.raises(ValueError, match="holds no model; name the checkpoint"):
        renew(dense / "data-bin")


def test_without_the_stored_queries_there_are_no_priors(dense, tmp_path):
    shutil.copytree(dense / "MODEL", tmp_path / "MODEL")
    shutil.rmtree(tmp_path / "MODEL" / "search")
    with pytest.raises(ValueError, match=r"no training captions, nor stored ones .* export the model again"):
        opened(tmp_path / "MODEL").search(["red dog"])
    expected = hits(opened(checkpoint(dense), dense / "data-bin", prior_share=0.0))
    assert hits(opened(tmp_path / "MODEL", prior_share=0.0)) == expected
