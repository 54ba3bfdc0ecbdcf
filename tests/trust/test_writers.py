"""Commands that write to the same place know of one another: the second is refused, and a reader sees one state."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from changing import build as build_bundle
from changing import embed, make_codec, make_data_bin
from conftest import ITEMS, load_example, write_jsonl

from cart_fairseq.base.files import locked_file
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.held_files import identity
from cart_fairseq.loading.checkpoint import read_checkpoint
from cart_fairseq.steps.tuning import keep
from preprocess.data.output import Output
from preprocess.data_bin import build as data_bin_build
from preprocess.data_bin.build import DATA_BIN, binarize
from preprocess.data_bin.settings import DataBinSettings
from preprocess.identifiers.build import BUNDLE, build_identifiers
from preprocess.identifiers.settings import IdentifierSettings
from preprocess.updating import bundle as updating
from preprocess.updating.steps import compact, remove

OLD = Path(__file__).resolve().parents[1] / "compatibility"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.save(tmp_path / "embeddings.npy", embed(ITEMS, 0))
    write_jsonl(tmp_path / "items.jsonl", [{"item_id": f"item {i}"} for i in range(ITEMS)])
    return make_data_bin(tmp_path)


def build_over(bundle: Path) -> None:
    settings = IdentifierSettings(scheme="residual-kmeans", kmeans_clusters=3, codebook_size=3, allow_collapse=True)
    build_identifiers(bundle.parent / "embeddings.npy", bundle.parent / "items.jsonl", bundle, settings)


def binarize_over(data: Path) -> None:
    binarize(data.parent / "identifiers", data.parent / "captions.jsonl", data, DataBinSettings(seed=7))


def test_nothing_is_built_over_what_is_being_updated(data: Path):
    bundle = data.parent / "identifiers"
    for place, command in ((bundle, build_over), (data, binarize_over)):
        inner = place if place == bundle else place / "identifiers"
        before = DataBin(data).bundle.state
        with updating.locked(inner), pytest.raises(ValueError, match="another process is updating it; wait for it"):
            command(place)
        assert not Path(f"{place}.partial").exists() or not any(Path(f"{place}.partial").glob("key.json"))
        assert DataBin(data).bundle.state == before
        command(place)


@pytest.mark.parametrize(("name", "kind"), [("identifiers", BUNDLE), ("data-bin", DATA_BIN)])
def test_nothing_is_updated_that_is_being_built_again(data: Path, name: str, kind: Any):
    place = data.parent / name
    with Output(place, kind).locked():
        for command in (lambda: remove(place, ["item 1"]), lambda: compact(place)):
            with pytest.raises(ValueError, match="another run is building"):
                command()
    assert remove(place, ["item 1"]).changed


def test_an_update_that_finds_a_new_bundle_in_the_place_of_the_one_it_locked_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
):
    bundle = data.parent / "identifiers"
    shutil.copytree(bundle, data.parent / "new")

    with locked_file(bundle / "update.lock"):
        pass
    (data.parent / "new" / "update.lock").touch()
    real = locked_file

    class Late:
        def __init__(self, path: Path):
            self.lock = real(path)

        def __enter__(self) -> int:
            file = self.lock.__enter__()
            bundle.rename(data.parent / "old")
            (data.parent / "new").rename(bundle)
            return file

        def __exit__(self, *error: Any) -> None:
            self.lock.__exit__(*error)

    monkeypatch.setattr(updating, "locked_file", Late)
    with pytest.raises(ValueError, match="was built again at this moment; try again"):
        remove(bundle, ["item 1"])
    monkeypatch.undo()
    assert remove(bundle, ["item 1"]).changed


def test_binarizing_a_bundle_that_changes_meanwhile_takes_one_state(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bundle, out = build_bundle(tmp_path / "changing", make_codec(), unique_size=32), tmp_path / "out"
    before, real = (bundle.state, bundle.item_ids), data_bin_build.write_files

    def meanwhile(*given: Any) -> None:
        remove(bundle.directory, ["item 0", "item 4"])
        compact(bundle.directory)
        real(*given)

    monkeypatch.setattr(data_bin_build, "write_files", meanwhile)
    binarize(bundle.directory, tmp_path / "captions.jsonl", out)
    monkeypatch.undo()
    opened = DataBin(out)
    opened.bundle.verify()
    assert (opened.bundle.state, opened.bundle.item_ids) == before
    assert opened.trie.rows.sort().values.tolist() == list(range(ITEMS))


def test_two_commands_of_the_recipes_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lock = load_example("recipes", "lock")
    monkeypatch.setattr(lock, "PATIENCE", 0.2)
    out = tmp_path / "a" / "out"
    with lock.alone(out):
        with (
            pytest.raises(ValueError, match=f"^{out}: another process is at work there; wait until it ends"),
            lock.alone(out),
        ):
            pass
        assert out.is_dir()
    assert not out.exists()  # nothing was done there
    with lock.alone(out):
        (out / "file").touch()
    assert (out / "file").exists()


def test_values_are_kept_only_in_the_checkpoint_they_were_chosen_for(tmp_path: Path):
    path, other = tmp_path / "checkpoint_best.pt", tmp_path / "other.pt"
    shutil.copy(OLD / "plain.pt", path)
    shutil.copy(OLD / "dense.pt", other)
    tuned = identity(path)
    keep(path, {"level_discount": 0.5}, tuned)
    assert float(read_checkpoint(path)["model"]["level_discount"]) == 0.5
    written = path.read_bytes()
    with pytest.raises(ValueError, match="was replaced by another checkpoint while it was tuned; tune again"):
        keep(path, {"level_discount": 0.25}, tuned)
    with locked_file(path), pytest.raises(ValueError, match="another process is writing to it"):
        keep(path, {"level_discount": 0.25})
    assert path.read_bytes() == written
