"""cart_fairseq.tune: what each discount and each weight of the dense score reaches, and a checkpoint that keeps the best."""

import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from changing import dense_world
from commands import run, train_flags, validate
from conftest import setup_task

from cart_fairseq import tune
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.evaluate import main as evaluate
from cart_fairseq.measuring.labels import METRIC_NAMES
from cart_fairseq.publishing import renewing
from cart_fairseq.publishing.exporting import export
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.dense.mixed_items import MixedItems
from cart_fairseq.search.dense.prefix_statistics import PrefixStatistics
from cart_fairseq.search.dense.stored_arrays import STORED
from cart_fairseq.search.dense.stored_statistics import statistics_key
from cart_fairseq.steps import tuning


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return dense_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def checkpoint(world, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes((world / "save" / "checkpoint_best.pt").read_bytes())
    return path


def kept(path, data):
    """Discount and weight that searches with a checkpoint use."""
    model = CartRetriever.from_pretrained(path, data=data).models[0]
    head = model.dense
    return float(model.level_discount), None if head is None else float(head.weight)


def first_places(path, data, **settings):
    """Percentage of valid queries whose item comes first."""
    task = setup_task(data)
    task.load_dataset("valid")
    dataset = task.datasets["valid"]
    batch = dataset.collater([dataset[i] for i in range(len(dataset))])
    search = task.search_with(CartRetriever.from_pretrained(path, data=data).models, 7, **settings)
    found = search.search(batch["net_input"], *task.data.search_space("valid"))
    return 100 * float((found.tokens[:, 0] == batch["target"]).all(1).double().mean())


def test_training_keeps_the_weight_it_was_given_and_searches_use_it(world, checkpoint):
    retriever = CartRetriever.from_pretrained(checkpoint, data=world / "data-bin")
    assert kept(checkpoint, world / "data-bin")[1] == 0.5
    assert retriever.beam == 30
    for weight, beam in ((None, 200), (0, 30)):
        reranking = CartRetriever.from_pretrained(
            checkpoint, data=world / "data-bin", dense_weight=weight, lookahead=False
        )
        assert reranking.beam == beam
    own = retriever.search(["red cat"])
    given = CartRetriever.from_pretrained(checkpoint, data=world / "data-bin", dense_weight=0.5).search(["red cat"])
    other = CartRetriever.from_pretrained(checkpoint, data=world / "data-bin", dense_weight=5).search(["red cat"])
    assert own == given
    assert own != other


def test_figures_are_those_of_searches_with_each_setting(world, checkpoint, tmp_path):
    data = world / "data-bin"
    found = tmp_path / "tuned.json"
    flags = ["--discounts", "1", "0.3", "0.01", "--weights", "0", "0.5", "9", "--shares", "0", "0.5", "1"]
    tune.main([f"--data={data}", f"--path={checkpoint}", "--beam=7", f"--json={found}", *flags])
    tuned = json.loads(found.read_text())
    assert tuned["discount"] == max(tuned["discounts"], key=lambda row: row["mrr_at_10"])["discount"]
    assert tuned["best"] == max(tuned["weights"], key=lambda row: row["mrr_at_10"])["weight"]
    assert kept(checkpoint, data) == pytest.approx((tuned["discount"], tuned["best"]))
    for row in tuned["discounts"]:
        reached = first_places(checkpoint, data, dense_weight=0, level_discount=row["discount"])
        assert row["recall_at_1"] == pytest.approx(reached)
    for row in tuned["weights"]:  # with the discount and the share that are kept
        assert row["recall_at_1"] == pytest.approx(first_places(checkpoint, data, dense_weight=row["weight"]))
    for row in tuned["shares"]:
        assert row["recall_at_1"] == pytest.approx(first_places(checkpoint, data, prior_share=row["share"]))
    assert [row["share"] for row in tuned["shares"]] == [0, 0.5, 1]
    assert tuned["share"] == max(tuned["shares"], key=lambda row: row["mrr_at_10"])["share"]
    for rows in (tuned["weights"], tuned["discounts"]):
        assert len({row["mrr_at_10"] for row in rows}) > 1


def test_of_equal_settings_that_which_changes_least_is_taken():
    figures = {setting: dict.fromkeys(METRIC_NAMES, value) for setting, value in ((0.9, 5.0), (0.6, 5.0), (0.1, 4.0))}
    pairs = {(weight, share): row for weight, row in figures.items() for share in (0.5, 0.0)}
    assert tuning.best_pair(pairs) == (0.6, 0.0)
    assert tuning.best_discount(figures) == 0.9
    found = tuning.Tuning(0.9, 0.6, 0.1, 30, "split", figures, figures, figures, {tuning.WEIGHT_STATE: 0.6})
    assert all(f"*     {best}" in found.tables() for best in (0.9, 0.6, 0.1))


def test_only_the_settings_change_and_a_dry_run_changes_nothing(world, checkpoint):
    before = torch.load(checkpoint)["model"]
    bytes_before = checkpoint.read_bytes()
    tune.main([f"--data={world / 'data-bin'}", f"--path={checkpoint}", "--weights", "2", "--dry-run"])
    assert checkpoint.read_bytes() == bytes_before
    given = ["--weights", "2", "--discounts", "0.5", "--shares", "0.25"]
    tune.main([f"--data={world / 'data-bin'}", f"--path={checkpoint}", *given])
    after = torch.load(checkpoint)["model"]
    tuned = {"dense.weight": 2.0, "level_discount": 0.5, "dense.prior_share": 0.25}
    assert {name: float(after[name]) for name in tuned} == tuned
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - tuned.keys())
    assert not after["calibration"].any()  # too few queries
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_statistics_of_a_large_catalogue_are_kept_in_its_data_bin(world, checkpoint, tmp_path, monkeypatch):
    data = tmp_path / "data-bin"
    shutil.copytree(world / "data-bin", data, ignore=shutil.ignore_patterns(STORED))
    call = [f"--data={data}", f"--path={checkpoint}", "--weights", "2", "--discounts", "0.5", "--shares", "0"]
    tune.main(call)
    assert not (data / STORED).exists()  # masses in so small a catalogue are exact
    monkeypatch.setattr(renewing, "store_statistics", functools.partial(renewing.store_statistics, exact_items=0))
    tune.main([*call, "--dry-run"])
    assert not (data / STORED).exists()
    tune.main(call)
    opened = DataBin(data)
    models = CartRetriever.from_pretrained(checkpoint, data=data).models
    assert opened.dense_items is not None
    seen = (opened.dense_items, MixedItems(opened.dense_items, None))  # by texts, and by queries that are not one text
    keys = [statistics_key(models, items, opened.trie, None) for items in seen]
    assert {folder.name for folder in (data / STORED).iterdir()} == {key[:16] for key in keys}
    for key in keys:
        PrefixStatistics.open(data / STORED / key[:16], key, opened.trie)


def test_a_data_bin_that_cannot_be_written_to_is_tuned_all_the_same(world, checkpoint, monkeypatch, capsys):
    def refuse(*args):
        raise PermissionError(13, "Permission denied", "data-bin/search")

    monkeypatch.setattr(renewing, "store_statistics", refuse)
    tune.main([f"--data={world / 'data-bin'}", f"--path={checkpoint}", "--weights", "2", "--discounts", "0.5"])
    assert kept(checkpoint, world / "data-bin") == (0.5, 2.0)
    assert "warning: data-bin/search: Permission denied; each search" in capsys.readouterr().err


def test_a_model_without_dense_head_has_a_discount_alone(world, tmp_path, capsys):
    data, path = world / "data-bin", tmp_path / "checkpoint_best.pt"
    run(*train_flags(data, tmp_path, "--max-epoch", 1))
    tune.main([f"--data={data}", f"--path={path}", f"--json={tmp_path / 'tuned.json'}", "--discounts", "0.5"])
    tuned = json.loads((tmp_path / "tuned.json").read_text())
    assert kept(path, data) == (0.5, None)
    assert (tuned["best"], tuned["discount"], tuned["beam"]) == (0.0, 0.5, 30)
    assert [row["weight"] for row in tuned["weights"]] == [0.0]
    assert "dense.weight" not in capsys.readouterr().out


def test_what_cannot_be_tuned_is_refused(world, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_script(lambda: tune.main([f"--data={world / 'data-bin'}", f"--path={tmp_path / 'none.pt'}"]))
    assert "no such checkpoint" in capsys.readouterr().err
    for given in ("0", "1.5"):
        with pytest.raises(ValueError, match=r"--discounts 0\.5 .* must be above 0 and at most 1"):
            tune.main(["--data=x", "--path=y", "--discounts", "0.5", given])
    with pytest.raises(ValueError, match="--beam is 0"):
        tune.main(["--data=x", "--path=y", "--beam=0"])
    with pytest.raises(ValueError, match=r"--shares 2\.0: each must be in \[0, 1\]"):
        tune.main(["--data=x", "--path=y", "--shares", "2"])
    with pytest.raises(ValueError, match=r"--weights -1\.0: each must be at least 0"):
        tune.main(["--data=x", "--path=y", "--weights", "-1"])


def test_validate_takes_what_was_kept_and_not_what_training_was_given(world, checkpoint):
    """The training was given a weight of 0.5."""
    tuned = {tuning.DISCOUNT_STATE: 0.6, tuning.WEIGHT_STATE: 20.0, tuning.SHARE_STATE: 1.0}
    own = ["--dense-weight", 20, "--level-discount", 0.6, "--prior-share", 1]
    trained = ["--dense-weight", 0.5]

    def metrics(*options):
        return validate(world / "data-bin", checkpoint, "--candidates", "all", *options)

    before = metrics()
    assert before == metrics(*trained)
    tuning.keep(checkpoint, tuned)
    assert metrics() == metrics(*own) != metrics(*trained)


def test_a_model_folder_is_evaluated_by_itself_and_not_tuned(world, checkpoint, tmp_path, capsys):
    model, queries = tmp_path / "model", world / "captions.jsonl"
    export(checkpoint, world / "data-bin", model)
    found = []
    for data in (["--data", model], []):
        flags = ["--queries", queries, "--subset", "test", "--path", model, *data, "--json", tmp_path / "m.json"]
        evaluate([*map(str, flags)])
        found.append(read_json(tmp_path / "m.json"))
    assert found[0] == found[1]
    with pytest.raises(SystemExit):
        evaluate(["--queries", str(queries), "--path", str(checkpoint)])
    assert "the following arguments are required: --data" in capsys.readouterr().err
    with pytest.raises(ValueError, match="model: is a MODEL folder, which has no queries to tune on"):
        tune.main([f"--data={model}", f"--path={model}"])


def test_an_ensemble_is_refused_before_anything_is_searched(world, checkpoint, monkeypatch):
    monkeypatch.setattr(tuning, "search_subset", lambda *_: pytest.fail("searched"))
    both = f"{checkpoint}:{checkpoint}"
    with pytest.raises(ValueError, match=r"\.pt: is an ensemble; tune each checkpoint by itself"):
        tune.main(["--data", str(world / "data-bin"), "--path", both])
    assert not Path(both).exists()


def test_evaluate_takes_the_kept_weight(world, checkpoint, tmp_path):
    rows = [{"item_id": "item 1", "text": "red cat", "role": "query"}]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = [
        "--queries",
        tmp_path / "new.jsonl",
        "--data",
        world / "data-bin",
        "--path",
        checkpoint,
        "--candidates",
        "all",
    ]
    evaluate([str(flag) for flag in [*flags, "--trec-run", tmp_path / "own"]])
    evaluate([str(flag) for flag in [*flags, "--trec-run", tmp_path / "half", "--dense-weight", 0.5]])
    evaluate([str(flag) for flag in [*flags, "--trec-run", tmp_path / "none", "--dense-weight", 0]])
    own, half, none = ((tmp_path / name).read_text() for name in ("own", "half", "none"))
    assert own == half != none


def test_later_symbols_count_less_where_they_are_told_to(world, checkpoint):
    """Scores are discounted sums, the order follows them, and what is found stays the same."""
    data = world / "data-bin"
    task, models = setup_task(data), CartRetriever.from_pretrained(checkpoint, data=data).models
    task.load_dataset("valid")
    batch = task.datasets["valid"].collater([task.datasets["valid"][i] for i in range(3)])
    plain, less = (
        task.search_with(models, 9, dense_weight=0, level_discount=discount).search(
            batch["net_input"], *task.data.search_space("all")
        )
        for discount in (None, 0.5)
    )
    powers = 0.5 ** torch.arange(plain.tokens.size(2))
    torch.testing.assert_close(plain.scores, plain.token_scores.sum(2))
    torch.testing.assert_close(less.scores, (less.token_scores * powers).sum(2))
    assert bool((less.scores.diff(dim=1) <= 0).all())
    assert torch.equal(plain.rows.sort(1).values, less.rows.sort(1).values)
    assert not torch.equal(plain.rows, less.rows)
    with pytest.raises(ValueError, match="--level-discount is 0"):
        task.search_with(models, 9, level_discount=0.0)
    with pytest.raises(ValueError, match=r"--level-discount is 1\.5"):  # before hours of training
        setup_task(data, level_discount=1.5)


def test_checkpoints_of_before_have_neither_discount_nor_priors_nor_probabilities(world, checkpoint):
    state = torch.load(checkpoint)
    del state["model"]["level_discount"], state["model"]["dense.prior_share"], state["model"]["calibration"]
    torch.save(state, checkpoint)
    assert kept(checkpoint, world / "data-bin")[0] == 1.0
    retriever = CartRetriever.from_pretrained(checkpoint, data=world / "data-bin")
    assert retriever.models[0].dense is not None
    assert float(retriever.models[0].dense.prior_share) == 0.0
    assert {hit.probability for hit in retriever.search(["red cat"])[0]} == {None}
