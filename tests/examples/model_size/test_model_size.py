"""examples/model_size: parts add up to the folder, computed sizes lie on the line, and every system is opened and searched."""

import json
import sys

import numpy as np
import pytest
from commands import warm
from conftest import load_example

from cart_fairseq.base.reading import read_json

opening = load_example("model_size", "opening")
made = load_example("model_size", "made_catalogue")
TINY = ["--arch", "cart_tiny", "--codebook", "8", "--vocabulary", "200", "--dense-dim", "16", "--codes", "8"]


@pytest.fixture(scope="module")
def model_size():
    pytest.importorskip("faiss")
    return load_example("model_size", "model_size")


def test_a_file_of_no_part_is_refused(tmp_path):
    (tmp_path / "search" / "vectors.0123").mkdir(parents=True)
    (tmp_path / "search" / "vectors.0123" / "vectors.npy").write_bytes(b"12345")
    (tmp_path / "model.2.safetensors").write_bytes(b"12")
    (tmp_path / "manifest.json").write_bytes(b"1")
    parts = made.bytes_by_part(tmp_path)
    assert {name: size for name, size in parts.items() if size} == {
        "vectors of the dense head": 5,
        "weights": 2,
        "descriptions": 1,
    }
    (tmp_path / "other.bin").write_bytes(b"1")
    with pytest.raises(ValueError, match=r"other.bin: is of no part of a MODEL folder"):
        made.bytes_by_part(tmp_path)


def test_vectors_have_length_one_and_ids_differ(tmp_path):
    made.write_vectors(tmp_path / "embeddings.npy", 50, 1)
    rows = np.load(tmp_path / "embeddings.npy")
    assert (rows.shape, rows.dtype) == ((50, 512), np.float16)
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float32), axis=1), 1, atol=1e-3)
    assert len({record["item_id"] for record in made.item_records(50, 1)}) == 50


def test_a_process_that_fails_says_what_it_could_not_open(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)opening .*none.* failed: .*no such MODEL folder"):
        opening.measured(1, "model", path=str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["Flat", "Flat, float16", "IVF-PQ", "HNSW"])
def test_indexes_find_what_was_written_when_read_and_when_mapped(name, model_size, tmp_path):
    faiss_files = load_example("model_size", "faiss_files")
    faiss = pytest.importorskip("faiss")
    rows = np.random.default_rng(1).standard_normal((300, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    faiss_files.write_index(tmp_path / "index", name, rows, codes=8)
    for flag in (0, faiss_files.mapping_flag(name)):
        index = faiss.read_index(str(tmp_path / "index"), flag)
        found = index.search(rows[:20], 10)[1]
        assert (index.ntotal, index.d) == (300, 32)
        hits = (found == np.arange(20)[:, None]).any(1).mean()
        assert hits == 1 if "Flat" in name else hits > 0.5


def in_this_process(what):
    """Measure here what the command measures in a new process."""
    return opening.measure(**json.loads(json.dumps(what, default=str)))


def test_a_small_catalogue_is_measured(model_size, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(opening, "_in_process", in_this_process)  # new ones take minutes
    monkeypatch.setattr(sys, "executable", str(warm().python))
    file = tmp_path / "sizes.json"
    flags = ["--items", "300", "400", "--computed", "1e6", "--captioned", "200", "--repeats", "1", *TINY]
    model_size.main(
        ["--systems", "plain", "dense", "indexes", "--work", str(tmp_path / "w"), "--json", str(file), *flags]
    )
    record, printed = read_json(file), capsys.readouterr().out
    assert record["seed"] == 1
    assert record["machine"]["processor"]
    assert record["settings"]["items"] == [300, 400]
    systems = record["systems"]
    models = [f"MODEL {kind} dense head, {how}" for kind in ("without", "with") for how in ("float32", "bf16")]
    names = ("Flat", "Flat, float16", "IVF-PQ", "HNSW")
    assert [*systems] == [*models, *(f"{name}, {way}" for name in names for way in ("read", "mapped"))]
    for name, system in systems.items():
        assert f"| {name} |" in printed
        small, large = (system["bytes"][items] for items in ("300", "400"))
        assert small < large
        assert small == sum(system["parts"]["300"].values())
        assert system["computed_gigabytes"]["1000000"] * 1e9 == pytest.approx(
            small + (large - small) / 100 * (1_000_000 - 300)
        )
        opened = system["opening"]["400"]
        assert 0 < opened["open_processor"] <= opened["answer_processor"]
        assert len(opened["runs"]) == 1
        assert not opened["memory_mb"] < -1000  # NaN where the system does not say
    for kind in ("without", "with"):
        wide, narrow = (systems[f"MODEL {kind} dense head, {how}"]["parts"]["400"] for how in ("float32", "bf16"))
        assert wide["weights"] > 1.5 * narrow["weights"]
        assert {name: size for name, size in wide.items() if name not in ("weights", "descriptions")} == {
            name: size for name, size in narrow.items() if name not in ("weights", "descriptions")
        }
    dense, plain = (systems[f"MODEL {kind} dense head, bf16"]["parts"]["400"] for kind in ("with", "without"))
    assert plain["embeddings"] == 0
    assert dense["embeddings"] >= 400 * 512 * 2
    flat = systems["Flat, read"]["parts"]["400"]["index"]
    assert 400 * 512 * 4 <= flat < 400 * 512 * 4 + 1000
    made_at = {path: path.stat().st_mtime_ns for path in (tmp_path / "w").glob("*/*")}
    model_size.main(
        ["--systems", "plain", "dense", "--work", str(tmp_path / "w"), *flags]
    )  # what was made is used again
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "w").glob("*/*")} == made_at


def test_wrong_arguments_are_refused(model_size, tmp_path):
    with pytest.raises(ValueError, match="--computed needs two numbers of --items"):
        model_size.main(["--work", str(tmp_path / "w"), "--items", "300"])
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "made-from.json").write_text("{}")
    with pytest.raises(ValueError, match="made: was made with other settings; choose another --work"):
        model_size.main(["--work", str(tmp_path / "made")])
    with pytest.raises(ValueError, match="must be at least 1"):
        model_size.main(["--work", str(tmp_path / "w"), "--repeats", "0"])
