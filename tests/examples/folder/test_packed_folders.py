"""examples/folder/run.sh on data sets in tar files, and on embeddings of clip-retrieval."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packed_samples import clip_retrieval, img2dataset, picture_bytes, sample, write_tar
from recipe_calls import call, training_here

from cart_fairseq import CartRetriever, ExampleRetriever, Query
from cart_fairseq.base.files import inside

FLAGS = ("--max-epoch", 1, "--arch", "cart_tiny")
VARIABLES = {"JOIN_FLAGS": "--text-dim 4 --pca 4 --align 4", "SERVE": "0"}
IDENTIFIERS = {"IDENTIFIER_FLAGS": "--kmeans-clusters 2 --codebook-size 2 --allow-collapse"}


def make(folder: Path, out: Path, **variables: str) -> str:
    with training_here():
        return call("folder/run", folder, out, *FLAGS, **VARIABLES, **IDENTIFIERS, **variables)


def opened(out: Path) -> CartRetriever:
    return CartRetriever.from_pretrained(out / "checkpoints" / "checkpoint_last.pt", out / "data-bin", device="cpu")


def test_tars_become_a_catalogue_and_follow_the_folder(tmp_path: Path):
    folder, out = img2dataset(tmp_path / "set", shards=2, each=10), tmp_path / "out"
    said = make(folder, out)
    media = out / "folder.media"
    assert f"--media-root {media}" in said
    query = tmp_path / "query.jpg"
    query.write_bytes(picture_bytes((40, 120, 90)))
    [[hit]] = opened(out).search([Query(media=query)], k=1)
    assert (hit.item_id, hit.record["caption"]) == ("00001/000010003.jpg", "a boat in shard 1")
    assert hit.record["url"] == "http://example.com/000010003.jpg"
    shown = inside(media, hit.record["media"])
    assert shown is not None
    assert shown.read_bytes() == query.read_bytes()

    assert "nothing to do" in make(folder, out)
    (folder / "00000.tar").unlink()
    write_tar(folder / "00002.tar", sample("000020000", "white", "a white one"))
    said = make(folder, out)
    assert "removed 10 items, 10 in the catalogue" in said
    assert "added 1 item, 11 in the catalogue" in said
    assert not (media / "00000").exists()


def test_embeddings_of_clip_retrieval_become_a_catalogue(tmp_path: Path):
    folder, out = clip_retrieval(tmp_path / "clip", rows=(10, 10)), tmp_path / "out"
    with pytest.raises(ValueError, match=r"ENCODER is set, but .*clip holds embeddings, no media; leave it out"):
        make(folder, out, ENCODER="plain")
    make(folder, out)
    [[hit]] = opened(out).search(["a boat in part 1"], k=1)
    assert hit.record["url"].endswith(hit.item_id)
    assert "20 items, as in" in make(folder, out)
    path = folder / "metadata" / "metadata_1.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("caption")
    pq.write_table(table.set_column(place, "caption", pa.array(["other"] * 10)), path)
    with pytest.raises(ValueError, match=r"clip: its metadata have changed since .*out was made; choose another OUT"):
        make(folder, out)


def test_embeddings_without_captions_are_searched_by_example(tmp_path: Path):
    folder, out = clip_retrieval(tmp_path / "clip", rows=(10, 10), caption=None), tmp_path / "out"
    assert "items are found by example" in make(folder, out)
    [hits] = ExampleRetriever.from_pretrained(out / "data-bin").search([Query(item_id="000010004")], k=1)
    assert hits[0].record["url"].startswith("http://example.com/")
