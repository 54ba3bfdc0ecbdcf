"""`build_identifiers` and the steps behind it on a folder that clip-retrieval wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packed_samples import clip_retrieval

from cart_fairseq.base.reading import read_jsonl
from cart_fairseq.catalogue.data_bin import DataBin
from preprocess import build_identifiers as command
from preprocess.api import IdentifierSettings, JoinSettings, binarize, build_identifiers, join_captions
from preprocess.data.embeddings import open_embeddings
from preprocess.data.inputs import read_captions, read_items
from preprocess.folder.formats.clip_retrieval import list_items

SMALL = IdentifierSettings(scheme="residual-kmeans", kmeans_clusters=2, codebook_size=2, allow_collapse=True)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return clip_retrieval(tmp_path / "clip", rows=(3,) * 11)


def test_rows_and_metadata_are_in_order_of_their_numbers(clip: Path, tmp_path: Path):
    found = list_items(clip, tmp_path / "lists")
    items = read_items(found.items)
    assert [item["item_id"] for item in items] == [f"{part:05d}{row:04d}" for part in range(11) for row in range(3)]
    vectors = open_embeddings(clip)
    assert vectors.dtype == np.float16
    row = [item["item_id"] for item in items].index("000100001")
    assert (vectors[row : row + 1] == np.load(clip / "img_emb" / "img_emb_10.npy")[1]).all()
    assert items[row] == {
        "item_id": "000100001",
        "modality": "image",
        "caption": "a cat in part 10",
        "image_path": "/data/000100001.jpg",
        "key": "000100001",
        "url": f"http://example.com/{'long' * 60}/000100001",
    }
    assert found.captions is not None
    assert read_captions(found.captions, items)[row]["text"] == "a cat in part 10"


def test_identifiers_and_a_data_bin_without_other_files(clip: Path, tmp_path: Path):
    out = tmp_path / "identifiers"
    made = build_identifiers(clip, None, out, SMALL)
    assert made.bundle.item_id(4) == "000010001"
    assert made.bundle.record(4)["url"].endswith("/000010001")
    lists = tmp_path / "identifiers.lists"
    joined = tmp_path / "joined"
    settings = JoinSettings(text_dim=4, pca=4)
    join_captions(clip, lists / "items.jsonl", lists / "captions.jsonl", joined, settings)
    binarize(out, lists / "captions.jsonl", tmp_path / "data-bin", embeddings=clip)
    assert len(DataBin(tmp_path / "data-bin").bundle.kept) == 33
    assert not build_identifiers(clip, None, out, SMALL).is_new


def test_lists_are_written_again_only_when_the_metadata_change(clip: Path, tmp_path: Path, capsys: Any):
    lists = tmp_path / "lists"
    list_items(clip, lists)
    assert "33 items and 33 captions" in capsys.readouterr().out
    list_items(clip, lists)
    assert not capsys.readouterr().out
    table = pq.read_table(clip / "metadata" / "metadata_4.parquet")
    texts = pa.array(["new", None, " "])
    pq.write_table(
        table.set_column(table.schema.get_field_index("caption"), "caption", texts),
        clip / "metadata" / "metadata_4.parquet",
    )
    found = list_items(clip, lists)
    assert "33 items and 31 captions" in capsys.readouterr().out
    assert read_jsonl(found.items)[12]["caption"] == "new"
    assert "caption" not in read_jsonl(found.items)[13]


def test_items_without_a_key_are_named_by_their_path(tmp_path: Path):
    clip = clip_retrieval(tmp_path / "clip", rows=(2,), key=None, caption=None)
    found = list_items(clip, tmp_path / "lists")
    assert [item["item_id"] for item in read_items(found.items)] == ["/data/000000000.jpg", "/data/000000001.jpg"]
    assert found.captions is None


def test_whole_numbers_are_keys(tmp_path: Path):
    found = list_items(clip_retrieval(tmp_path / "clip", rows=(2,), key=[7, 8]), tmp_path / "lists")
    assert [item["item_id"] for item in read_items(found.items)] == ["7", "8"]


def break_it(clip: Path, how: str) -> None:
    first = clip / "metadata" / "metadata_1.parquet"
    if how == "metadata missing":
        first.unlink()
    elif how == "embeddings missing":
        (clip / "img_emb" / "img_emb_1.npy").unlink()
    elif how == "rows":
        pq.write_table(pq.read_table(first).slice(1), first)
    elif how == "damaged":
        first.write_bytes(first.read_bytes()[:-30])
    elif how == "no ids":
        pq.write_table(pq.read_table(first).select(["caption", "url"]), first)
    elif how == "empty id":
        pq.write_table(pa.table({"key": ["", "a", "b"], "caption": ["", "", ""]}), first)
    elif how == "twice":
        (clip / "metadata" / "metadata_0.parquet").write_bytes(first.read_bytes())
    else:
        (clip / "img_emb" / "img_emb_1.npy").write_bytes(b"nothing")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("metadata missing", r"img_emb_1.npy: no .*metadata_1.parquet beside it; copy the file again"),
        ("embeddings missing", r"metadata_1.parquet: no embeddings in .*img_emb belong to it; copy them again"),
        ("rows", r"img_emb_1.npy: 3 rows, but .*metadata_1.parquet has 2; copy both files again"),
        ("damaged", r"metadata_1.parquet: damaged or cut off \(.*\); copy the file again"),
        ("no ids", r"metadata_1.parquet: no column key or image_path among caption, url; give --items"),
        ("empty id", r"metadata_1.parquet, row 0: key or image_path is missing"),
        (
            "twice",
            r"counted over all of its files from 1, row 4: item_id '000010000' is already that of row 1; .*--items",
        ),
        ("no array", r"img_emb_1.npy: not a .npy file"),
    ],
)
def test_what_does_not_fit_is_named(clip: Path, tmp_path: Path, how: str, message: str):
    break_it(clip, how)
    with pytest.raises(ValueError, match=message):
        list_items(clip, tmp_path / "lists")
    assert not (tmp_path / "lists").exists()


def test_other_embeddings_need_items(clip: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"nothing names the items; give items.jsonl with --items"):
        command.main(["--embeddings", str(clip / "img_emb"), "--output", str(tmp_path / "out")])


def test_lists_of_others_stay(clip: Path, tmp_path: Path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "items.jsonl").write_text("mine")
    with pytest.raises(ValueError, match="lists: holds other files"):
        list_items(clip, tmp_path / "lists")
    assert (tmp_path / "lists" / "items.jsonl").read_text() == "mine"
