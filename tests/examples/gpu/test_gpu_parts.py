"""The parts of examples/gpu.sh: records that go on, and each part in small on a processor."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import load_example
from recipe_calls import Stopped, training_here
from recipe_samples import write_data

from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json

for folder, name in (("efficiency", "catalogue"), ("efficiency", "timing")):
    load_example(folder, name)  # the parts import them by their names
text_encoders = load_example("efficiency", "text_encoders")
load_example("efficiency", "precision")
parts = load_example("gpu", "parts")
agreement, search, updates = (load_example("gpu", name) for name in ("agreement", "search", "updates"))
quality, paper, marked = (load_example("gpu", name) for name in ("quality", "paper", "marked_tests"))
fairseq_calls = load_example("recipes", "fairseq_calls")
commit = parts.provenance.commit


@pytest.fixture(autouse=True)
def one_commit(monkeypatch):
    """The checkout does not change during a test."""
    monkeypatch.setattr(parts.provenance, "commit", lambda: "commit")


def arguments(out: Path, data: Path | None = None) -> list[str]:
    """The command line of a part."""
    return ["--out", str(out), "--device", "cpu", "--small", *(["--data", str(data)] if data else [])]


def test_a_record_goes_on_and_starts_anew_with_other_settings_or_another_commit(tmp_path, monkeypatch):
    args = parts.arguments("says", arguments(tmp_path))
    parts.Record(args, "name", {"items": 3}).add({"case": 1, "figure": 0.5})
    again = parts.Record(args, "name", {"items": 3})
    assert again.has(case=1)
    assert not again.has(case=2)
    again.add({"case": 2})
    again.write(complete=True)
    found = read_json(tmp_path / "name.json")
    assert found["metrics"] == [{"case": 1, "figure": 0.5}, {"case": 2}]
    assert found["complete"] is True
    assert found["command"] == "DEVICE=cpu SMALL=1 PARTS=name bash examples/gpu.sh OUT"
    assert found["settings"] == {"device": "cpu", "small": True, "items": 3}
    assert found["seed"] == parts.SEED
    assert {"processor", "gpu", "versions"} <= found["machine"].keys()

    assert parts.Record(args, "name", {"items": 4}).rows == []
    monkeypatch.setattr(parts.provenance, "commit", lambda: "another")
    assert parts.Record(args, "name", {"items": 3}).rows == []


def test_a_copy_without_git_names_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(parts.provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("PROJECT_COMMIT", raising=False)
    assert commit() is None
    monkeypatch.setenv("PROJECT_COMMIT", "abc")
    assert commit() == "abc"


@pytest.mark.parametrize(
    ("device", "code", "last", "complete"),
    [
        ("cuda", 0, "8 passed, 9 deselected in 3.1s", True),
        ("cuda", 0, "8 skipped, 9 deselected in 3.1s", False),
        ("cuda", 1, "1 failed, 7 passed in 3.1s", False),
        ("cpu", 0, "8 skipped, 9 deselected in 3.1s", True),
    ],
)
def test_the_marked_tests_count_where_they_ran(device, code, last, complete, tmp_path, monkeypatch):
    ended = subprocess.CompletedProcess([], code, stdout=f"....\n{last}\n")
    with monkeypatch.context() as patched:
        patched.setattr(marked.subprocess, "run", lambda *_, **__: ended)
        with pytest.raises(SystemExit) as exit_:
            marked.main(["--out", str(tmp_path), "--device", device])
    assert exit_.value.code == code
    found = read_json(tmp_path / "tests.json")
    assert found["complete"] is complete
    assert " ".join(
        f"{count} {word}" for word, count in found["metrics"][0].items() if word != "deselected"
    ) in last.replace(",", "")


def test_agreement_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "SCORINGS", ("masked",))
    write = parts.Record.add

    def once(self, *rows):
        write(self, *rows)
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(parts.Record, "add", once)
        with pytest.raises(Stopped):
            agreement.main(arguments(tmp_path))
    assert [row["precision"] for row in read_json(tmp_path / "agreement.json")["metrics"]] == ["float32"]
    agreement.main(arguments(tmp_path))
    found = read_json(tmp_path / "agreement.json")
    assert found["complete"]
    assert [row["precision"] for row in found["metrics"]] == ["float32", "bf16", "fp16"]
    assert found["metrics"][0]["same_order"] == 100


def test_agreement_fails_where_float32_finds_other_items(tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "SCORINGS", ("masked",))
    monkeypatch.setattr(agreement, "PRECISIONS", ("float32",))
    monkeypatch.setattr(agreement, "convert", lambda model, precision: agreement.random_cart(agreement_task(), 2))
    with pytest.raises(ValueError, match=r"^float32 on cpu finds other items than a processor"):
        agreement.main(arguments(tmp_path))
    assert read_json(tmp_path / "agreement.json")["complete"] is False


def agreement_task():
    return agreement.task_of(agreement.SIZES)


def test_the_figure_is_drawn_from_the_record_of_the_searches(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    plot = load_example("efficiency", "plot")
    monkeypatch.setattr(search, "PRECISIONS", {"cpu": ("float32",)})
    monkeypatch.setattr(search, "TOWERS", ("clip",))
    monkeypatch.setattr(search, "text_encoder", lambda *_: lambda: torch.ones(4, text_encoders.width_of("clip")))
    search.main(arguments(tmp_path))
    record = read_json(tmp_path / "search.json")
    series = plot.throughput(record)
    assert {name: [items for items, _ in points] for name, points in series.items()} == {
        name: [1_000, 2_000]
        for name in ("cart, masked, float32", "cart, renormalised, float32", "clip + exact search, float32")
    }
    tower = [row for row in record["metrics"] if row["contender"] == "clip + exact search, float32"]
    rates = [(row["items"], row["queries_per_second"]) for row in tower if row["queries"] == 4]
    assert series["clip + exact search, float32"] == [pytest.approx(each) for each in rates]
    record |= {"settings": {**record["settings"], "device": "cuda"}, "machine": {"gpu": {"name": "a GPU"}}}
    write_json(tmp_path / "gpu.json", record)
    for name in ("search", "gpu"):
        plot.main([str(tmp_path / f"{name}.json"), "--output", str(tmp_path / f"{name}.png")])
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "clip + exact search, float32" in capsys.readouterr().out


def test_search_measures_each_catalogue_once(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "TOWERS", ())
    monkeypatch.setattr(search, "PRECISIONS", {"cpu": ("float32",)})
    search.main(arguments(tmp_path))
    found = read_json(tmp_path / "search.json")
    assert found["complete"]
    cases = {(row["items"], row["queries"], row["contender"]) for row in found["metrics"]}
    assert len(cases) == len(found["metrics"]) == 2 * 2 * 2
    for row in found["metrics"]:
        assert row["queries_per_second"] == pytest.approx(row["queries"] / row["median"])

    found["metrics"] = [row for row in found["metrics"] if (row["items"], row["queries"]) != (2_000, 1)]
    write_json(tmp_path / "search.json", found)
    measured: list[tuple[int, list[int]]] = []
    measure = search.Bench.measure

    def note(self, items, batches):
        measured.append((items, batches))
        return measure(self, items, batches)

    monkeypatch.setattr(search.Bench, "measure", note)
    search.main(arguments(tmp_path))
    assert measured == [(2_000, [1])]
    assert {
        (row["items"], row["queries"], row["contender"]) for row in read_json(tmp_path / "search.json")["metrics"]
    } == cases


def test_exact_search_finds_the_nearest_vectors():
    find = search.ExactSearch(500, 16, "cpu")
    queries = torch.nn.functional.normalize(find.vectors[:3] + 0.01 * torch.randn(3, 16), dim=1)
    expected = np.argsort(-(queries @ find.vectors.T).numpy(), axis=1)[:, : search.NEIGHBOURS]
    assert (find(queries).numpy() == expected).all()
    assert (find(queries)[:, 0] == torch.arange(3)).all()
    assert search.ExactSearch.fits(1_000, 512, "cpu")
    assert not search.ExactSearch.fits(10**12, 512, "cpu")


def test_tf32_is_for_its_own_contenders_only():
    before, seen = torch.get_float32_matmul_precision(), []
    try:
        for precision in ("tf32", "float32"):
            search.in_products(precision, lambda: seen.append(torch.get_float32_matmul_precision()))()
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["high", "highest"]


@pytest.mark.parametrize("precision", updates.PRECISIONS)
def test_updates_are_those_of_the_paper_s_recipe(precision, tmp_path):
    manifest = {"counts": {"train": {"queries": 145_000}}, "files": {"train.query-id.query.bin": {"bytes": 7_000_000}}}
    write_json(tmp_path / "manifest.json", manifest)
    from fairseq import options

    flags = updates.flags_of(tmp_path, "cpu", precision, small=False)
    found = options.parse_args_and_arch(
        options.get_training_parser(), input_args=["data-bin", "--user-dir", str(fairseq_calls.PLUGIN), *flags]
    )
    assert (found.batch_size, found.encoder_embed_dim, found.encoder_layers, found.lr) == (256, 512, 3, [1e-4])
    assert (found.max_epoch, found.no_save, found.disable_validation) == (1, True, True)
    assert (found.fp16, found.bf16) == (precision == "fp16", precision == "bf16")
    assert found.float32_matmul_precision == ("high" if precision == "tf32" else "highest")


def test_updates_leave_out_the_first_lines_of_the_log():
    lines = [f"2026 | INFO | train_inner | {json.dumps({'ups': str(ups)})}" for ups in (1, 2, 30, 40)]
    assert updates.updates_per_second("\n".join(["start", *lines, "end"])) == [30.0, 40.0]
    with pytest.raises(ValueError, match=r"^train\.log: 2 lines of train_inner, more than 2 are needed"):
        updates.updates_per_second("\n".join(lines[:2]))


def test_updates_make_their_data_once(tmp_path, capsys):
    updates.random_data(tmp_path, 40)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "data-bin").rglob("*")}
    assert updates.random_data(tmp_path, 40) == tmp_path / "data-bin"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data-bin").rglob("*")} == first
    assert read_json(tmp_path / "data-bin" / "manifest.json")["counts"]["train"]["queries"] == 200


@pytest.fixture
def data(tmp_path) -> Path:
    """Data whose items have no split: test queries, and valid ones held out of the training captions."""
    return write_data(tmp_path / "data")


def test_quality_trains_in_each_precision_on_the_same_data_and_goes_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "SMALL_IDENTIFIERS", ("--scheme", "residual-kmeans", "--allow-collapse"))
    out = tmp_path / "out"
    with training_here(stop_at=out / "quality" / "bf16" / "checkpoints"), pytest.raises(Stopped):
        quality.main(arguments(out, data))
    assert [row["trained"] for row in read_json(out / "quality.json")["metrics"]] == ["float32"]
    with training_here() as trainings:
        quality.main(arguments(out, data))
    [(_, flags)] = trainings.calls
    assert "--bf16" in flags
    found = read_json(out / "quality.json")
    assert found["complete"]
    assert [row["trained"] for row in found["metrics"] if "searched" not in row] == ["float32", "bf16"]
    modes = [(row["scoring"], row["precision"]) for row in found["metrics"] if "searched" in row]
    assert modes == [(scoring, each) for scoring in search.SCORINGS for each in ("float32", "bf16")]
    assert found["settings"]["inputs_sha256"].keys() == {"embeddings.npy", "items.jsonl", "captions.jsonl"}
    assert str(tmp_path) not in (out / "quality.json").read_text()


def test_paper_is_the_paper_s_recipe_and_writes_how_far_it_came(data, tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "SMALL_IDENTIFIERS", ("--kmeans-clusters", "3", "--codebook-size", "3", "--epochs", "2"))
    out = tmp_path / "out"
    with training_here(stop_at=out / "paper" / "checkpoints"), pytest.raises(Stopped):
        paper.main(arguments(out, data))
    stopped = read_json(out / "paper.json")
    assert stopped["metrics"] == [{"reached": {"epochs": 0}}]
    assert not stopped["complete"]
    with training_here():
        paper.main(arguments(out, data))
    found = read_json(out / "paper.json")
    assert found["complete"]
    [row] = found["metrics"]
    assert row["run"]["recipe"] == "paper"
    assert row["run"]["metrics"]["split"]["test"]["queries"] > 0
    assert str(tmp_path) not in (out / "paper.json").read_text()


def test_the_log_says_how_far_training_came(tmp_path):
    lines = [
        "2026 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 9.5 | recall_at_1 0.1 | num_updates 5",
        "2026 | INFO | fairseq_cli.train | end of epoch 1 (average epoch stats below)",
        "2026 | INFO | valid | epoch 012 | valid on 'valid' subset | loss 8.25 | recall_at_1 2e-05 | best_recall_at_1 -1",
        "2026 | INFO | fairseq_cli.train | end of epoch 12 (average epoch stats below)",
        "2026 | INFO | train_inner | epoch 013:      3 / 118 loss=8, nll_loss=7",
    ]
    log = tmp_path / "train.log"
    assert paper.reached(log) == {"epochs": 0}
    log.write_text("\n".join(lines[:1]))
    assert paper.reached(log) == {"epochs": 0, "loss": 9.5, "recall_at_1": 0.1, "num_updates": 5.0}
    log.write_text("\n".join(lines))
    assert paper.reached(log) == {"epochs": 12, "loss": 8.25, "recall_at_1": 2e-5, "best_recall_at_1": -1.0}


def test_the_paper_s_run_in_full_size_adds_nothing_to_the_recipe():
    assert paper.plan("cuda", small=False) == (paper.Settings(recipe="paper"), [])
