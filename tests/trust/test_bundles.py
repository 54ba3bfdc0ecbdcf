"""Bundles, data-bins and working folders of strangers: nothing is written, emptied or removed outside of them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_jsonl
from safetensors import safe_open
from safetensors.torch import save_file

from cart_fairseq.base.files import is_plain_name, sha256, write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.annotations import output as annotated
from preprocess.data import joined_folder
from preprocess.data.output import Kind, Made, Output
from preprocess.data_bin.build import binarize
from preprocess.encoders import embedded_files
from preprocess.updating.steps import add, compact, remove

OLD = Path(__file__).resolve().parents[1] / "compatibility"
BUNDLE, DATA = OLD / "plain" / "data-bin" / "identifiers", OLD / "plain" / "data-bin"
Manifest = dict[str, Any]


def entry(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def content(folder: Path) -> dict[str, bytes | str]:
    """Everything in a folder, links by where they lead."""
    paths = [p for p in sorted(folder.rglob("*")) if p.is_symlink() or p.is_file()]
    return {str(p.relative_to(folder)): os.readlink(p) if p.is_symlink() else p.read_bytes() for p in paths}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder a/b/bundle and data-bin, with files of the user beside and above."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    shutil.copytree(DATA, tmp_path / "a" / "b" / "data-bin")
    (tmp_path / ".profile").write_text("mine\n")
    write_jsonl(tmp_path / "captions.jsonl", [{"item_id": f"item {i}", "text": f"a dog {i}"} for i in range(48)])
    return tmp_path


NAMES = ["../../../.profile", "/etc/hostname", "a/b", "segments/../../x", "..", ".hidden", "", "x\ny", "segments/1/x"]


@pytest.mark.parametrize("name", NAMES)
def test_names_in_manifests_are_plain_names_of_ours(place: Path, name: str):
    bundle, data = place / "a" / "b" / "data-bin" / "identifiers", place / "a" / "b" / "data-bin"
    for folder, opened in ((bundle, IdentifierBundle.load), (data, DataBin)):
        kept = (folder / "manifest.json").read_bytes()
        manifest = read_json(folder / "manifest.json")
        manifest["files"][name] = entry(place / ".profile")
        write_json(folder / "manifest.json", manifest)
        before = content(place)
        with pytest.raises(CatalogueError, match=r"manifest\.json: lists the file .* none of ours"):
            opened(folder)
        with pytest.raises(CatalogueError, match="none of ours"):
            remove(data, ["item 1"])
        if folder == bundle:
            with pytest.raises(CatalogueError, match="none of ours"):
                binarize(bundle, place / "captions.jsonl", place / "out")
        assert content(place) == before
        (folder / "manifest.json").write_bytes(kept)


def change(**values: Any) -> Callable[[Manifest], None]:
    return lambda manifest: manifest.update(values)


WRONG: dict[str, tuple[Callable[[Manifest], None], str]] = {
    "a part elsewhere": (change(segments=[["../../../", 48]]), r"segments lists the folder '\.\./\.\./\.\./'"),
    "a part at an absolute path": (change(segments=[["/tmp/", 48]]), "segments lists the folder '/tmp/'"),
    "removed rows elsewhere": (change(removed="../../captions.jsonl"), "removed is '../../captions.jsonl'"),
    "a size of 2^40": (lambda m: m["positions"][0].update(size=1 << 40), "position 'k' of size 1099511627776"),
    "a size below 1": (lambda m: m["positions"][0].update(size=-4), "position 'k' of size -4"),
    "a size that is a text": (lambda m: m["positions"][0].update(size="4"), "of size '4'"),
    "ten thousand positions": (lambda m: m.update(positions=m["positions"] * 3000), "positions"),
    "a negative part": (change(segments=[["", 49], ["segments/000001/", -1]]), "segments lists -1 items"),
    "a checksum of a number": (
        lambda m: m["files"]["identifiers.npy"].update(sha256=1 << 63),
        r"sha256 of identifiers\.npy",
    ),
    "a checksum that is short": (lambda m: m["files"]["identifiers.npy"].update(sha256="ab"), "is 'ab', not 64 digits"),
    "a revision that is a path": (change(revision="../../1"), r"revision '\.\./\.\./1'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_values_in_a_bundle_are_checked_before_use(place: Path, kind: str):
    wrong, said = WRONG[kind]
    bundle = place / "a" / "b" / "data-bin" / "identifiers"
    manifest = read_json(bundle / "manifest.json")
    wrong(manifest)
    write_json(bundle / "manifest.json", manifest)
    with pytest.raises(CatalogueError, match=said):
        IdentifierBundle.load(bundle)


@pytest.mark.parametrize(
    "counts", [{"../../x": {"queries": 1}}, {"train": {"queries": -1}}, {"train": {"queries": "x"}}]
)
def test_subsets_of_a_data_bin_are_named_plainly_and_counted(place: Path, counts: dict):
    data = place / "a" / "b" / "data-bin"
    write_json(data / "manifest.json", read_json(data / "manifest.json") | {"counts": counts})
    with pytest.raises(CatalogueError, match="counts"):
        DataBin(data)


def test_a_candidate_set_or_subset_is_no_path(place: Path):
    opened = DataBin(place / "a" / "b" / "data-bin")
    (place / "a" / "b" / "data-bin" / "candidates.x").mkdir()
    np.save(place / "a" / "b" / "secret.npy", np.arange(3))
    with pytest.raises(ValueError, match="no candidate set"):
        opened.candidates("x/../../secret")
    with pytest.raises(ValueError, match="queries"):
        opened.queries("x/../../secret")


@pytest.mark.parametrize("name", ["update.lock", "update.json", "segments", "segments/000001", "identifiers", "next.0"])
def test_an_update_writes_through_no_link(place: Path, name: str):
    data = place / "a" / "b" / "data-bin"
    of_data_bin = name in ("identifiers", "next.0")
    linked = (data if of_data_bin else data / "identifiers") / name
    elsewhere = place / "elsewhere"
    if name == "identifiers":
        linked.rename(elsewhere)
    elif name.startswith("update"):
        elsewhere.write_text("mine\n")
    else:
        elsewhere.mkdir()
        (elsewhere / "mine").write_text("mine\n")
        (elsewhere / "000007").mkdir()
    linked.parent.mkdir(exist_ok=True)
    linked.symlink_to(elsewhere)
    before = content(place)
    for step in (lambda: remove(data, ["item 1"]), lambda: compact(data)):
        with pytest.raises(ValueError, match="is a link, and an update would write through it"):
            step()
    assert content(place) == before
    assert (elsewhere / "000007").is_dir() or not elsewhere.joinpath("mine").exists()


def test_the_lock_of_a_refused_update_changes_nothing(place: Path):
    data = place / "a" / "b" / "data-bin"
    os.mkfifo(data / "identifiers" / "update.lock")
    with pytest.raises(ValueError, match=r"update\.lock: is no plain file"):
        remove(data, ["item 1"])
    (data / "identifiers" / "update.lock").unlink()
    (data / "identifiers" / "update.lock").write_text("a note\n")
    remove(data, ["item 1"])
    assert (data / "identifiers" / "update.lock").read_text() == "a note\n"


def test_what_is_not_ours_stays_in_an_updated_bundle(place: Path):
    data = place / "a" / "b" / "data-bin"
    bundle = data / "identifiers"
    new = {"item_id": "new"}
    np.save(place / "new.npy", np.random.default_rng(0).normal(size=(1, 12)).astype(np.float32))
    add(data, place / "new.npy", write_jsonl(place / "new.jsonl", [new]))
    mine = [bundle / "segments" / "notes", bundle / "removed.by me.npy", data / "next.week", bundle / ".my.tmp"]
    for path in mine:
        path.mkdir()
        (path / "mine").write_text("mine\n")
    (bundle / "segments" / "file.txt").write_text("mine\n")
    remove(data, ["new"])
    compact(data)
    assert all((path / "mine").read_text() == "mine\n" for path in mine)
    assert (bundle / "segments" / "file.txt").is_file()
    IdentifierBundle.load(bundle).verify()


PARCEL = Kind("parcel", lambda path: Made(read_json(path / "parcel.json")), lambda path: path / "parcel.json")


def foreign(kind: str, work: Path, elsewhere: Path) -> None:
    if kind == "a link":
        work.symlink_to(elsewhere)
    elif kind == "a file":
        work.write_text("mine\n")
    elif kind == "no lock of ours":
        shutil.copytree(elsewhere, work)
    elif kind == "a lock with content":
        shutil.copytree(elsewhere, work)
        (work / "lock").write_text("of something else\n")
    elif kind == "the lock a link":
        work.mkdir()
        (work / "lock").symlink_to(elsewhere / "new")
    else:
        work.mkdir()
        (work / "lock").touch()
        (work / "block.npy").symlink_to(elsewhere / "mine")


KINDS = ["a link", "a file", "no lock of ours", "a lock with content", "the lock a link", "a link in it"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_working_folder_that_is_not_ours_is_refused_and_stays(tmp_path: Path, kind: str):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine\n")
    output = Output(tmp_path / "out", PARCEL)
    foreign(kind, output.work, tmp_path / "elsewhere")
    before = content(tmp_path)
    for begin in (lambda: output.working("key"), output.locked):
        with pytest.raises(ValueError, match=r"out\.partial: .* no working folder of this command"), begin():
            pass
    output.remove_leftovers()
    assert content(tmp_path) == before


def test_names_in_the_records_of_other_steps_are_plain(tmp_path: Path):
    joined = Path(shutil.copytree(OLD / "joined", tmp_path / "joined"))
    record = read_json(joined / "join.json")
    record["files"]["../../.profile"] = "0" * 64
    write_json(joined / "join.json", record)
    with pytest.raises(ValueError, match=r"join\.json: .*\.profile"):
        joined_folder.read_record(joined)
    names = {"made_from": {}, "skipped": 0, "files": {"../../.profile": "0" * 64}}
    write_json(tmp_path / "record.json", names)
    write_json(tmp_path / annotated.RECORD, names)
    with pytest.raises(ValueError, match=r"record\.json: .*\.profile"):
        embedded_files.read_record(tmp_path / "record.json")
    with pytest.raises(ValueError, match=r"annotations\.json: .*\.profile"):
        annotated.read_made(tmp_path)


FACTS = [{"width": [10**12] * 4}, {"width": "1"}, {"sizes": []}, {"sizes": [2**40] * 4}, {"offsets": [-1] * 4}]


@pytest.mark.parametrize("wrong", [*FACTS, {"sizes": [1000] * 4}], ids=str)
def test_numbers_of_a_trie_are_checked_before_memory_is_taken(place: Path, wrong: dict):
    path = place / "a" / "b" / "data-bin" / "trie.safetensors"
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["trie"]) | wrong
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118, no mapping
    save_file(tensors, path, metadata={"trie": json.dumps(facts)})
    manifest = read_json(path.parent / "manifest.json")
    manifest["files"][path.name] = entry(path)
    write_json(path.parent / "manifest.json", manifest)
    with pytest.raises(CatalogueError, match=r"trie\.safetensors: "):
        _ = DataBin(path.parent).trie


def test_plain_names_are_those_that_our_steps_write():
    for manifest in (*OLD.rglob("manifest.json"), *OLD.rglob("join.json")):
        assert all(is_plain_name(name) for name in json.loads(manifest.read_text())["files"])
