"""Queries by picture, sound and video, through the encoder that made the catalogue's embeddings."""

import copy
import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
import weakref

import numpy as np
import pytest
from commands import ENVIRONMENT
from documented import ROOT, fences
from media_samples import describe, write_animation, write_clip_with_sound, write_media
from mixed_world import KINDS, retriever, write_media_world

from cart_fairseq import CartRetriever, Query
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.errors import CatalogueError
from preprocess.api import remove
from preprocess.encoders.families.plain import PlainEncoder
from preprocess.media.kind import kind_of
from preprocess.media.reading import MediaError

FILES = ["0.png", "a.jpg", "2.wav", "3.mp4", "4.png", "5.png", "6.wav", "7.png"]


@pytest.fixture(scope="module", params=[True, False], ids=["joined", "plain"])
def world(request, tmp_path_factory):
    """Media, and a data-bin of their embeddings by the encoder plain."""
    root = tmp_path_factory.mktemp("world")
    write_media_world(root, FILES, joined=request.param)
    return root


def test_each_file_finds_itself(world):
    opened = retriever(world / "data-bin")
    hits = opened.search([Query(media=world / name) for name in FILES], k=2)
    assert [each[0].item_id for each in hits] == FILES
    embedded = np.load(world / "extracted" / "embeddings.npy")
    by_vector = opened.search([Query(embedding=row) for row in embedded], k=2)
    for hit, other in zip(hits, by_vector, strict=True):
        assert [each.score for each in hit] == pytest.approx([each.score for each in other], abs=1e-3)


def test_files_of_all_queries_are_embedded_together(world, monkeypatch):
    opened, calls = retriever(world / "data-bin"), []
    encode = opened.encode_media

    def counted(paths):
        calls.append(len(paths))
        return encode(paths)

    monkeypatch.setattr(opened, "encode_media", counted)
    opened.search([Query(media=world / name) for name in FILES[:3]])
    assert calls == [3]


def test_the_examples_of_the_guide_run(world, tmp_path, monkeypatch):
    [example] = [block for block in fences(ROOT / "docs" / "queries.md", "python") if "Query(" in block]
    write_media(tmp_path / "photo.jpg", 1)
    monkeypatch.chdir(tmp_path)
    opened, answers = retriever(world / "data-bin"), []
    search = opened.search
    monkeypatch.setattr(opened, "search", lambda *given, **options: answers.append(search(*given, **options)))
    monkeypatch.setattr(CartRetriever, "from_pretrained", lambda *_, **__: opened)
    exec(example, {"vector": np.load(world / "extracted" / "embeddings.npy")[4]})
    assert [len(answer) for answer in answers] == [1, 1, 1, 2]
    assert answers[1][0][0].item_id == "a.jpg"
    assert "a.jpg" not in {hit.item_id for hit in answers[0][0] + answers[2][0]}


def test_files_are_weighed_with_texts(world):
    opened = retriever(world / "data-bin")
    query = Query(text=describe(4)[0], media=[world / "0.png", str(world / "2.wav")], weights={"media": [1, -1]})
    assert len(opened.search([query, "a text"], k=3)[0]) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.png", None, r"query 1: .*absent.png: no such file"),
        ("text.png", b"not a picture", r"query 1: .*text.png: is neither a picture nor a sound nor a video"),
        ("empty.wav", b"", r"query 1: .*empty.wav: is neither"),
        (os.fsdecode(b"\xff.png"), None, r"query 1: .*udcff.png: no such file"),
        ("y" * 300, None, r"query 1: .*yyy: cannot be read .*; check the path"),
        (".", None, r"query 1: .*: is a folder; give a file"),
    ],
)
def test_files_that_cannot_be_read_are_named_with_the_query(world, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        retriever(world / "data-bin").search(["a text", Query(media=tmp_path / name)])


def test_a_file_of_a_kind_that_the_encoder_does_not_take_is_named_with_the_query(world, monkeypatch):
    opened = retriever(world / "data-bin")
    assert opened.search([Query(media=world / "2.wav")], k=1)[0][0].item_id == "2.wav"
    monkeypatch.setattr(opened._media_encoder._encoder, "modalities", {"text", "image", "video"})
    said = r"query 2: .*2.wav: is of kind audio, where image or video is accepted; replace the file or leave it out$"
    with pytest.raises(ValueError, match=said):
        opened.search(["a text", Query(media=world / "0.png"), Query(media=world / "2.wav")])


def test_a_file_of_several_kinds_is_taken_as_the_items_were(tmp_path):
    """An animation is embedded as a picture where the items are pictures, and a clip as a sound where they are sounds."""
    write_animation(tmp_path / "both.gif")
    write_clip_with_sound(tmp_path / "both.mp4")
    picture, clip = as_item(tmp_path, "both.gif", "image", "0.png"), as_item(tmp_path, "both.gif", "video", "0.mp4")
    assert np.abs(picture - clip).max() > 0.01
    as_item(tmp_path, "both.mp4", "audio", "0.wav")
    as_item(tmp_path, "both.mp4", "video", "0.avi")


def as_item(folder, name, kind, other):
    """The embedding of a file as an item of this kind; as a query it has the same."""
    root = folder / f"{name} as {kind}"
    root.mkdir()
    shutil.copy(folder / name, root / name)
    write_media_world(root, [name, other], modality=kind)
    row = np.load(root / "extracted" / "embeddings.npy")[0]
    row /= np.linalg.norm(row)
    assert retriever(root / "data-bin").encode_media([str(folder / name)])[0] == pytest.approx(row, abs=1e-5)
    return row


def test_a_data_bin_without_kinds_still_answers(world):
    opened = retriever(world / "data-bin")
    opened.data.manifest = json.loads(json.dumps(opened.data.manifest))
    assert opened.data.manifest["encoder"].pop("modalities") == ["audio", "image", "video"]
    assert opened.search([Query(media=world / "3.mp4")], k=1)[0][0].item_id == "3.mp4"


@pytest.mark.parametrize("name", FILES)
def test_the_kind_of_a_file_is_found_by_its_content(world, tmp_path, name):
    (tmp_path / "file.bin").write_bytes((world / name).read_bytes())
    assert kind_of(tmp_path / "file.bin") == KINDS[name[-3:]]
    with pytest.raises(MediaError, match=r"is of kind .*, where .* is accepted; replace the file or leave it out"):
        kind_of(
            world / name,
            {"image", "audio", "video"} - {"audio" if name.endswith("wav") else KINDS[name[-3:]]} - {"audio"},
        )


def test_an_encoder_whose_weights_have_changed_is_not_used(world, tmp_path):
    opened = retriever(world / "data-bin")
    opened.data.manifest = json.loads(json.dumps(opened.data.manifest))
    opened.data.manifest["encoder"]["weights"] = "of another time"
    with pytest.raises(ValueError, match=r"weights of encoder 'plain' are not those that made the embeddings"):
        opened.search([Query(media=world / FILES[0])])
    for damaged in ("plain", {"encoder": "fconv:x", "precision": "float32"}, {"encoder": "plain", "precision": 3}):
        opened.data.manifest["encoder"] = damaged
        with pytest.raises(ValueError, match=r"manifest.json: encoder is"):
            opened.search([Query(media=world / FILES[0])])


def test_a_retriever_answers_in_another_process_as_here(world, tmp_path):
    """Open files and the encoder are opened again there; their descriptors would be other files."""
    opened = retriever(world / "data-bin")
    queries = [Query(media=str(world / "3.mp4")), Query(item_id="0.png"), "a text"]
    unused, expected = pickle.dumps(opened), opened.search(queries, k=3)
    assert expected == opened.search(queries, k=3)
    used = pickle.dumps(opened)
    del opened
    (tmp_path / "asked").write_bytes(pickle.dumps((unused, used, queries)))
    subprocess.run([sys.executable, "-c", ELSEWHERE, tmp_path / "asked"], cwd=tmp_path, env=ENVIRONMENT, check=True)
    for found in pickle.loads((tmp_path / "asked").read_bytes()):
        assert [[hit.item_id for hit in hits] for hits in found] == [[hit.item_id for hit in hits] for hits in expected]


ELSEWHERE = """
import pickle, sys
unused, used, queries = pickle.load(open(sys.argv[1], "rb"))
found = [pickle.loads(each).search(queries, k=3) for each in (unused, used)]
pickle.dump(found, open(sys.argv[1], "wb"))
"""


def test_a_pickle_of_another_state_is_refused(world, tmp_path):
    shutil.copytree(world / "data-bin", tmp_path / "data-bin", symlinks=True)
    opened = retriever(tmp_path / "data-bin")
    [before] = opened.search([Query(item_id="0.png")], k=3)
    pickled, bundle = pickle.dumps(opened), pickle.dumps(opened.data.bundle)
    remove(tmp_path / "data-bin", ["a.jpg"])
    assert copy.deepcopy(opened).search([Query(item_id="0.png")], k=3)[0] == before
    for each in (pickled, bundle):
        with pytest.raises(CatalogueError, match="was updated since it was pickled; open it anew"):
            pickle.loads(each)
    opened.search([Query(media=str(world / "3.mp4"))])  # loads the encoder, which later states take over
    later, earlier = opened.on(DataBin(tmp_path / "data-bin")), weakref.ref(opened.data)
    assert pickle.loads(pickle.dumps(later)).search([Query(media=str(world / "3.mp4"))])[0][0].item_id == "3.mp4"
    with pytest.raises(TypeError, match="open files are not pickled"):
        pickle.dumps(opened.data.files)
    del opened
    gc.collect()
    assert earlier() is None


@pytest.mark.parametrize("media_positions", [0, 2])
def test_an_answer_does_not_depend_on_what_else_is_asked(world, media_positions):
    """Each query has its own beam, although items that are asked with are left out of answers."""
    opened = retriever(world / "data-bin", media_positions=media_positions, beam=2)
    queries = [
        Query(text=["red", "a circle"], weights={"text": [1, -0.3]}),
        Query(item_id="0.png", text="red"),
        Query(item_id=["2.wav", "3.mp4"]),
        Query(media=str(world / "3.mp4")),
        "a text",
    ]
    alone = [opened.search([query], k=2)[0] for query in queries]
    for together in (opened.search(queries, k=2), opened.search(queries[::-1], k=2)[::-1]):
        for own, found in zip(alone, together, strict=True):
            assert [hit.item_id for hit in found] == [hit.item_id for hit in own]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in own], abs=1e-4)


def test_a_file_without_an_embedding_is_named(world, monkeypatch):
    for value in (np.nan, 0.0):
        monkeypatch.setattr(PlainEncoder, "embed_batch", lambda self, batch, value=value: np.full((1, 1600), value))
        with pytest.raises(
            ValueError, match=r"query 0: .*3.mp4: the encoder computes no embedding of it, but NaN or zeros"
        ):
            retriever(world / "data-bin").search([Query(media=str(world / "3.mp4"))])
