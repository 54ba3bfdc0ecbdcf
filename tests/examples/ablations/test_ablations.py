"""The ablation tables: what each line runs, that its flags exist, and that the table holds what the runs measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import load_example, write_jsonl
from fairseq import options
from media_samples import describe
from recipe_calls import Stopped, call, training_here

from cart_fairseq.base.files import sha256, write_json
from cart_fairseq.base.reading import read_json
from preprocess import build_identifiers
from preprocess.data.arguments import settings_from
from preprocess.identifiers.fitting import fit_settings
from preprocess.identifiers.settings import IdentifierSettings

ROOT = Path(__file__).resolve().parents[3]
paper_tables, table = load_example("ablations", "paper_tables"), load_example("ablations", "paper_ablations")
TABLES = paper_tables.TABLES
LINES = {line.folder: line for found in TABLES.values() for line in found.lines}


def test_every_ablation_table_of_the_paper_is_there():
    assert {name.partition("-")[0] for name in TABLES} == {"4", "5", "6", "7", "8", "9", "10", "11"}
    assert [len(TABLES[name].lines) for name in ("4", "5", "6", "7", "9", "10", "11")] == [5, 5, 9, 3, 5, 5, 3]
    assert [name for name in TABLES if name.startswith("8")] == ["8-clotho", "8-audiocaps", "8-msrvtt", "8-msvd"]
    for found in TABLES.values():
        assert len({line.labels for line in found.lines}) == len({line.folder for line in found.lines})
        assert {len(line.labels) for line in found.lines} == {len(found.heads)}


@pytest.mark.parametrize("folder", LINES)
def test_a_folder_is_one_run_in_all_tables_and_its_flags_are_understood(folder):
    line = LINES[folder]
    same = [other for found in TABLES.values() for other in found.lines if other.folder == folder]
    assert {(other.identifiers, other.train) for other in same} == {(line.identifiers, line.train)}
    needed = ["--embeddings", "e.npy", "--items", "i.jsonl", "--output", "o"]
    flags = build_identifiers.parser().parse_args([*needed, *line.identifiers])
    settings = fit_settings(settings_from(IdentifierSettings, flags), 9000)
    train = ["data-bin", "--user-dir", str(ROOT / "cart_fairseq"), "--task", "cart_retrieval", "--arch", "cart"]
    train += ["--criterion", "cart_rdrop", *line.train]
    args = options.parse_args_and_arch(options.get_training_parser(), input_args=train)
    found = {
        "k": settings.kmeans_clusters,
        "codebook": settings.training.codebook_size,
        "codebooks": settings.training.codebooks,
        "latent": settings.training.latent_dim,
        "encoder-layers": args.encoder_layers,
        "decoder-layers": args.decoder_layers,
        "scheme": settings.scheme,
        "consistency": args.consistency_weight,
        "fusion": args.fusion,
    }
    changed: dict[str, dict[str, Any]] = {
        "cart": {},
        "without-consistency": {"consistency": 0},
        "without-fusion": {"fusion": "none"},
        "without-kmeans": {"scheme": "rqvae", "codebooks": 3},
        "without-rqvae": {"scheme": "hierarchical-kmeans"},
    }
    if folder not in changed:
        words = folder.split("-")
        names = [word for word in words if not word.isdecimal()]
        values = [int(word) for word in words if word.isdecimal()]
        names = names if len(names) == len(values) else ["-".join(names)]
        changed[folder] = dict(zip(names, values, strict=True))
    usual: dict[str, Any] = {
        "k": 128,
        "codebook": 128,
        "codebooks": 2,
        "latent": 64,
        "encoder-layers": 3,
        "decoder-layers": 3,
    }
    usual |= {"scheme": "coarse-fine", "consistency": 0.15, "fusion": "coarse-fine"}
    assert found == usual | changed[folder]


def test_the_full_model_runs_first():
    for name in TABLES:
        lines = table.runs(TABLES[name])
        assert (lines[0].folder, lines[0].identifiers, lines[0].train) == ("cart", (), ())
        assert sorted(line.folder for line in lines) == sorted(line.folder for line in TABLES[name].lines)


def make_run(folder: Path, figure: float, codes: int) -> None:
    figures = {f"recall_at_{k}": k + figure for k in (1, 5, 10)}
    metrics = {"valid": {**figures, "mrr_at_10": 50 + figure}, "test": {**figures, "mrr_at_10": 0}}
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "identifiers" / "report.json", {"unique_codes": codes, "items": 4})


def test_the_table_holds_every_line_s_own_figures_beside_the_paper_s(tmp_path):
    for place, line in enumerate(TABLES["4"].lines):
        make_run(tmp_path / line.folder, place, place)
    lines = table.written(TABLES["4"], tmp_path, "valid").splitlines()
    heads = "| Setting | R@1 | R@5 | R@10 | MRR@10 | distinct codes | paper, Flickr30k, test |"
    assert lines[2:4] == [heads, "| --- | --- | --- | --- | --- | --- | --- |"]
    assert lines[4] == "| w/o consistency loss | 1.0 | 5.0 | 10.0 | 50.0 | 0.0 % | 81.6 / 95.9 / 98.0 / 87.8 |"
    assert lines[-1] == "| CART | 5.0 | 9.0 | 14.0 | 54.0 | 100.0 % | 81.8 / 96.1 / 98.4 / 88.0 |"
    assert len(lines) == 4 + 5


def test_lines_that_were_not_run_stay_empty_and_a_subset_that_was_not_measured_is_refused(tmp_path):
    make_run(tmp_path / "cart", 0, 4)
    lines = table.written(TABLES["6"], tmp_path, "test").splitlines()
    assert lines[2].startswith("| K | Codebook | R@1 |")
    assert lines[4] == "| 64 | 64*64 | – | – | – | – | – | 75.8 / 92.9 / 96.5 / 83.1 |"
    assert lines[8] == "| 128 | 128*128 | 1.0 | 5.0 | 10.0 | 0.0 | 100.0 % | 81.8 / 96.1 / 98.4 / 88.0 |"
    metrics = read_json(tmp_path / "cart" / "metrics.json")
    write_json(tmp_path / "cart" / "metrics.json", {"valid": metrics["valid"]})
    with pytest.raises(ValueError, match="has no test queries, only: valid; choose another SUBSET"):
        table.written(TABLES["6"], tmp_path, "test")


@pytest.fixture
def data(tmp_path):
    """Twenty items, each with four captions to train on and one to ask for it."""
    folder = tmp_path / "data"
    folder.mkdir()
    np.save(folder / "embeddings.npy", np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32))
    write_jsonl(folder / "items.jsonl", [{"item_id": f"i{number}"} for number in range(20)])
    roles = ["query", "train", "train", "train", "train"]
    captions = [
        {"item_id": f"i{number}", "text": text, "role": role}
        for number in range(20)
        for text, role in zip(describe(number), roles, strict=True)
    ]
    write_jsonl(folder / "captions.jsonl", captions)
    return folder


VARIABLES = {
    "IDENTIFIER_FLAGS": "--scheme residual-kmeans --kmeans-clusters 3 --codebook-size 3 --allow-collapse",
    "BINARIZE_FLAGS": "--valid-size 0",
    "SUBSET": "test",
}


def test_tables_share_runs_and_a_stopped_one_goes_on(data, tmp_path):
    out, tiny = tmp_path / "out", ["--arch", "cart_tiny", "--batch-size", "16", "--max-epoch", "1"]
    with training_here() as trainings:
        trainings.stop_at = out / "codebooks-3" / "checkpoints"
        with pytest.raises(Stopped):
            call("ablations/run", 7, data, out, *tiny, **VARIABLES)
        trainings.stop_at = None
        printed = call("ablations/run", 7, data, out, *tiny, **VARIABLES)
        assert [path.parent.name for path, _ in trainings.calls] == ["cart", "codebooks-3", "codebooks-4"]
    shown = printed[printed.index("Table 7:") :].splitlines()
    assert [line.split(" | ")[0] for line in shown[4:]] == ["| 4", "| 5", "| 6"]
    for line, folder, length in zip(shown[4:], ("cart", "codebooks-3", "codebooks-4"), (4, 5, 6), strict=True):
        metrics = read_json(out / folder / "metrics.json")["test"]
        assert f"| {metrics['recall_at_1']:.1f} | {metrics['recall_at_5']:.1f} |" in line
        assert np.load(out / folder / "identifiers" / "identifiers.npy").shape == (20, length)

    with training_here(stop_at=out / "decoder-layers-1" / "checkpoints"), pytest.raises(Stopped):
        call("ablations/run", 10, data, out, *tiny, **VARIABLES)
    assert read_json(out / "decoder-layers-1" / "checkpoints" / "plan.json")["flags"][-2:] == ["--decoder-layers", "1"]
    manifests = [sha256(out / folder / "data-bin" / "manifest.json") for folder in ("cart", "decoder-layers-1")]
    assert manifests[0] == manifests[1]


def test_an_unknown_table_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="8: no such table of ablations in the paper; use one of 4, 5, 6, 7, 8-clotho"):
        call("ablations/run", 8, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
