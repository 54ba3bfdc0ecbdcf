"""Updating a catalogue: who gets which identifier, and who keeps theirs."""

import collections
import json

import numpy as np
import pytest
import torch
from changing import build, embed, make_codec, new_items
from conftest import ITEMS, write_jsonl

from cart_fairseq.base.files import sha256
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.identifiers.build import build_identifiers
from preprocess.identifiers.settings import IdentifierSettings
from preprocess.update_identifiers import main
from preprocess.updating.item_ids import read_ids
from preprocess.updating.settings import AddSettings
from preprocess.updating.steps import add, compact, remove

NEW = 7


@pytest.fixture
def bundle(tmp_path):
    return build(tmp_path / "b", make_codec(), unique_size=32)


def named(bundle):
    """Item id -> identifier, of the catalogue."""
    return {bundle.item_id(row): tuple(bundle.values[row].tolist()) for row in bundle.kept.tolist()}


def files(path):
    return {p.relative_to(path).as_posix(): sha256(p) for p in path.rglob("*") if p.is_file()}


def test_added_items_get_the_next_numbers_of_their_codes(bundle, tmp_path):
    before, codec = files(bundle.directory), make_codec()
    add(bundle.directory, *new_items(tmp_path / "new", NEW))
    after = IdentifierBundle.load(bundle.directory)
    after.verify()
    counter = collections.Counter(tuple(code) for code in bundle.values[:, :3].tolist())
    for code, values in zip(codec.encode(embed(NEW, 5)).tolist(), after.values[ITEMS:].tolist(), strict=True):
        assert values == [*code, counter[tuple(code)]]
        counter[tuple(code)] += 1
    np.testing.assert_array_equal(after.values[:ITEMS], bundle.values)
    assert {name: entry for name, entry in files(bundle.directory).items() if name in before} == {
        **before,
        "manifest.json": sha256(bundle.directory / "manifest.json"),
    }
    assert after.item_ids == [*bundle.item_ids, *(f"new {i}" for i in range(NEW))]
    assert after.record(ITEMS + 3) == {"item_id": "new 3", "n": 3, "split": "train"}
    assert after.splits[ITEMS + 2] is None
    assert (after.fingerprint, after.revision) == (bundle.fingerprint, 1)
    assert after.state != bundle.state


def test_several_additions_number_on_and_compact_keeps_every_identifier(bundle, tmp_path):
    path = bundle.directory
    for part in range(3):
        add(path, *new_items(tmp_path / str(part), NEW, seed=5, first=part * NEW))
    added = IdentifierBundle.load(path)
    assert len(np.unique(added.values, axis=0)) == len(added) == ITEMS + 3 * NEW
    expected = named(added), added.item_ids, added.splits
    rows = np.random.default_rng(0).integers(len(added), size=100)
    np.testing.assert_array_equal(added.values_of(rows), added.values[rows])
    assert added.values_of(rows[:0]).shape == (0, added.length)
    last = added.record(len(added) - 1)
    compact(path)
    assert added.record(len(added) - 1) == last  # what is open stays what it was
    compacted = IdentifierBundle.load(path)
    compacted.verify()
    assert (named(compacted), compacted.item_ids, compacted.splits) == expected
    assert compacted.fingerprint == bundle.fingerprint
    assert compacted.report["items"] == ITEMS + 3 * NEW
    assert {name.split(".")[0] for name in files(path)} == {*(n.split(".")[0] for n in compacted.manifest["files"])} | {
        "manifest",
        "update",
    }
    assert [part.folder for part in compacted.parts] == [""]


def test_an_item_in_the_catalogue_is_refused(bundle, tmp_path):
    new = new_items(tmp_path / "new")
    add(bundle.directory, *new)
    before = files(bundle.directory)
    with pytest.raises(ValueError, match=r"items\.jsonl, row 1: item_id 'new 0' is already in the catalogue \(7 of 7"):
        add(bundle.directory, *new)
    assert files(bundle.directory) == before


def test_identifiers_of_removed_items_are_reserved_until_compact(bundle, tmp_path):
    path, new, built = bundle.directory, new_items(tmp_path / "new"), named(bundle)
    add(path, *new)
    first = named(IdentifierBundle.load(path))
    gone = [f"new {i}" for i in range(NEW)]
    remove(path, gone)
    removed = IdentifierBundle.load(path)
    removed.verify()
    assert named(removed) == {item: values for item, values in first.items() if item not in gone}
    assert removed.fingerprint == bundle.fingerprint
    with pytest.raises(ValueError, match="item 'new 2' was removed from the catalogue"):
        remove(path, ["item 1", "new 2"])
    add(path, *new)  # the same items come back
    again = named(IdentifierBundle.load(path))
    assert not {again[item] for item in gone} & set(first.values())
    assert IdentifierBundle.load(path).rows_of(["new 0"]).tolist() == [ITEMS + NEW]
    assert IdentifierBundle.load(path).row_of["new 0"] == ITEMS + NEW
    remove(path, gone)
    compact(path)
    assert named(IdentifierBundle.load(path)) == built
    add(path, *new)
    assert named(IdentifierBundle.load(path)) == first


def test_freed_numbers_in_the_middle_are_used_first(bundle, tmp_path):
    path = bundle.directory
    code = tuple(make_codec().encode(embed(1, 0))[0].tolist())
    sharing = [item for item, values in named(bundle).items() if values[:3] == code]
    remove(path, [sharing[1], sharing[3]])
    compact(path)
    folder = tmp_path / "new"
    new = new_items(folder, 4)
    np.save(folder / "embeddings.npy", np.repeat(embed(1, 0), 4, axis=0))
    add(path, *new)
    found = named(IdentifierBundle.load(path))
    assert [found[f"new {i}"][3] for i in range(4)] == [1, 3, len(sharing), len(sharing) + 1]


def test_a_full_code_sends_items_to_the_nearest_with_room(tmp_path):
    codec = make_codec()
    bundle = build(tmp_path / "b", codec, unique_size=11, items=24)
    folder = tmp_path / "new"
    new = new_items(folder, 12)
    embeddings = np.repeat(embed(1, 0), 12, axis=0)  # of the code that 11 items have already
    np.save(folder / "embeddings.npy", embeddings)
    updated = add(bundle.directory, *new)
    after = IdentifierBundle.load(bundle.directory)
    values = after.values[24:]
    code = codec.encode(embeddings)[0]
    assert len(np.unique(after.values, axis=0)) == 36
    assert (values[:, :2] == code[:2]).all()  # only the last level differs
    residual = (embeddings[:1] - codec.centres[code[0]]) / np.float32(0.7)
    left = codec.rqvae.encoder(torch.from_numpy(residual)) - codec.rqvae.codebooks[0][code[1]]
    order = (codec.rqvae.codebooks[1] - left).square().sum(1).argsort().tolist()
    taken = collections.Counter(map(tuple, bundle.values[:, :3].tolist()))
    expected: list[int] = []
    for value in order:
        expected += [value] * (11 - taken[(*code[:2].tolist(), value)])
    assert values[:, 2].tolist() == expected[:12]
    report = json.loads((bundle.directory / "segments/000001/report.json").read_text())
    assert report["moved"] == 1.0
    assert report["moves"][0] == {"item_id": "new 0", "from": code.tolist(), "to": values[0].tolist()}
    assert f"new 0: code {code.tolist()} is full" in updated.summary
    assert "100.0% of them found their code full" in updated.summary


def test_without_room_anywhere_nothing_is_added(tmp_path):
    bundle = build(tmp_path / "b", make_codec(size=1), unique_size=16)  # 3 codes of 16
    with pytest.raises(ValueError, match="no code has room for another item; build the identifiers again"):
        add(bundle.directory, *new_items(tmp_path / "new", 25))
    assert IdentifierBundle.load(bundle.directory).revision == 0
    add(bundle.directory, *new_items(tmp_path / "new", 24))
    assert len(np.unique(IdentifierBundle.load(bundle.directory).values, axis=0)) == 48


def test_the_report_compares_new_items_with_old_ones(bundle, tmp_path):
    np.save(tmp_path / "old.npy", embed(ITEMS, 0))
    new = new_items(tmp_path / "new", 9)
    np.save(tmp_path / "new" / "embeddings.npy", 10 * embed(9, 5))
    updated = add(bundle.directory, new[0], new[1], AddSettings(reference=tmp_path / "old.npy"))
    assert "Build the identifiers again and train: their squared error is" in updated.summary
    report = json.loads((bundle.directory / "segments/000001/report.json").read_text())
    codes = set(map(tuple, bundle.values[:, :3].tolist()))
    shared = [tuple(code) in codes for code in make_codec().encode(10 * embed(9, 5)).tolist()]
    assert report["shared"] == np.mean(shared)
    assert report["old"]["items"] == ITEMS


def test_wrong_input_changes_nothing(bundle, tmp_path):
    path, before = bundle.directory, files(bundle.directory)
    new = new_items(tmp_path / "new")
    np.save(tmp_path / "narrow.npy", embed(NEW, 5)[:, :3])
    with pytest.raises(ValueError, match=r"narrow\.npy: width 3, but the identifiers in .* width 6"):
        add(path, tmp_path / "narrow.npy", new[1])
    with pytest.raises(ValueError, match="item 'nobody' is not in the catalogue"):
        remove(path, ["nobody"])
    with pytest.raises(ValueError, match="no item would be left"):
        remove(path, bundle.item_ids)
    assert {name: entry for name, entry in files(path).items() if name != "update.lock"} == before


def test_ids_come_from_the_command_line_or_a_file(tmp_path):
    (tmp_path / "ids.txt").write_text("item 1\nitem 2\n")
    (tmp_path / "ids.jsonl").write_text('{"item_id": "item 3", "n": 1}\n')
    (tmp_path / "empty").write_text("")
    assert read_ids(tmp_path / "ids.txt") == ["item 1", "item 2"]
    assert read_ids(tmp_path / "ids.jsonl") == ["item 3"]
    with pytest.raises(ValueError, match="no item ids"):
        read_ids(tmp_path / "empty")
    (tmp_path / "bad.jsonl").write_text('{"id": "item 3"}\n')
    with pytest.raises(ValueError, match=r"bad\.jsonl, row 1: item_id is None"):
        read_ids(tmp_path / "bad.jsonl")


def test_the_command_runs_the_steps(bundle, tmp_path, capsys):
    target = ["--identifiers", str(bundle.directory)]
    embeddings, items = map(str, new_items(tmp_path / "new"))
    main(["add", *target, "--embeddings", embeddings, "--items", items])
    assert "added 7 items, 31 in the catalogue (revision 1)" in capsys.readouterr().out
    main(["remove", *target, "--item-ids", "new 1", "item 2"])
    assert "removed 2 items, 29 in the catalogue (revision 2)" in capsys.readouterr().out
    main(["compact", *target])
    assert "29 items in one part, 2 identifiers freed (revision 3)" in capsys.readouterr().out
    main(["compact", *target])
    assert "nothing to compact" in capsys.readouterr().out


def test_compact_reports_of_atomic_identifiers_what_the_build_reported(tmp_path):
    """Atomic identifiers are nothing but the unique token, which is what is measured."""
    np.save(tmp_path / "old.npy", embed(ITEMS, 0))
    items = write_jsonl(tmp_path / "old.jsonl", [{"item_id": f"item {i}"} for i in range(ITEMS)])
    settings = IdentifierSettings(scheme="atomic")
    built = build_identifiers(tmp_path / "old.npy", items, tmp_path / "b", settings).bundle.report
    assert (built["unique_codes"], built["collision_rate"]) == (ITEMS, 0)
    add(tmp_path / "b", *new_items(tmp_path / "new", NEW))
    remove(tmp_path / "b", [f"new {i}" for i in range(NEW)])
    assert compact(tmp_path / "b").bundle.report == built
    add(tmp_path / "b", *new_items(tmp_path / "new", NEW))
    report = compact(tmp_path / "b").bundle.report
    assert (report["items"], report["unique_codes"], report["collision_rate"]) == (ITEMS + NEW, ITEMS + NEW, 0)


def test_nothing_to_compact(bundle):
    updated = compact(bundle.directory)
    assert not updated.changed
    assert "nothing to compact" in updated.summary
    assert IdentifierBundle.load(bundle.directory).revision == 0
