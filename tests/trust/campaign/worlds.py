"""Small worlds that trials copy, the steps that they run, and what readers see of the results."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import numpy as np  # noqa: E402
from changing import QUICK, dense_world, embed, make_data_bin, new_items  # noqa: E402
from conftest import ITEMS, write_jsonl  # noqa: E402
from media_samples import write_media  # noqa: E402

from cart_fairseq import CartRetriever  # noqa: E402
from cart_fairseq.catalogue.data_bin import DataBin  # noqa: E402
from cart_fairseq.publishing import renewing  # noqa: E402
from cart_fairseq.steps.tuning import SHARE_STATE, keep  # noqa: E402
from cart_fairseq.tasks.checkpoints import load_models  # noqa: E402, F401 - imported before the forks
from preprocess.api import (  # noqa: E402
    EmbeddingSettings,
    JoinSettings,
    add,
    binarize,
    build_identifiers,
    compact,
    extract_embeddings,
    join_captions,
    remove,
    verify,
)

OLD = TESTS / "compatibility"
JOINED = JoinSettings(text_dim=4, pca=4)
PLAIN = EmbeddingSettings(encoder="plain", workers=0, batch_size=2, frames=2)
PICTURES = 6
Step = Callable[[Path], Any]


def make_world(folder: Path) -> None:
    """A data-bin with dense features, what it was made from, items to add, and pictures."""
    shutil.rmtree(make_data_bin(folder))
    np.save(folder / "embeddings.npy", embed(ITEMS, 0))
    write_jsonl(folder / "items.jsonl", [{"item_id": f"item {i}"} for i in range(ITEMS)])
    embeddings = folder / "embeddings.npy"
    binarize(folder / "identifiers", folder / "captions.jsonl", folder / "data-bin", embeddings=embeddings)
    new_items(folder / "new", 5)
    add(folder / "data-bin", folder / "new" / "embeddings.npy", folder / "new" / "items.jsonl")
    remove(folder / "data-bin", ["item 2"])
    new_items(folder / "newer", 4, first=20)
    for number in range(PICTURES):
        write_media(folder / "pictures" / f"{number}.png", number)
    pictures = [{"item_id": str(n), "modality": "image", "media": f"{n}.png"} for n in range(PICTURES)]
    write_jsonl(folder / "pictures" / "items.jsonl", pictures)


def make_join(folder: Path) -> None:
    """What a data-bin is made from, and a join."""
    make_world(folder)
    STEPS["join_captions"](folder)
    shutil.rmtree(folder / "data-bin")


def make_plain(folder: Path) -> None:
    """A data-bin and a checkpoint, both of an earlier version."""
    shutil.copytree(OLD / "plain" / "data-bin", folder / "data-bin")
    shutil.copyfile(OLD / "plain.pt", folder / "checkpoint.pt")


def make_dense(folder: Path) -> None:
    """A data-bin with added items, a checkpoint of a model with a dense head, and what its searches read."""
    made = dense_world(folder.with_name(f"{folder.name}.made"))
    folder.mkdir()
    (made / "data-bin").rename(folder / "data-bin")
    (made / "save" / "checkpoint_best.pt").rename(folder / "checkpoint.pt")
    shutil.rmtree(made)
    keep(folder / "checkpoint.pt", {SHARE_STATE: 0.5})
    add(folder / "data-bin", *new_items(folder / "new", 4))
    shutil.rmtree(folder / "new")
    renewing.renewal(folder / "checkpoint.pt", folder / "data-bin")()


def join(place: Path) -> Any:
    return join_captions(
        place / "embeddings.npy", place / "items.jsonl", place / "captions.jsonl", place / "joined", JOINED
    )


STEPS: dict[str, Step] = {
    "add": lambda place: add(place / "data-bin", place / "newer" / "embeddings.npy", place / "newer" / "items.jsonl"),
    "remove": lambda place: remove(place / "data-bin", ["item 1", "item 7"]),
    "compact": lambda place: compact(place / "data-bin"),
    "build_identifiers": lambda place: build_identifiers(
        place / "embeddings.npy", place / "items.jsonl", place / "built", QUICK
    ),
    "binarize": lambda place: binarize(place / "identifiers", place / "captions.jsonl", place / "binned"),
    "join_captions": join,
    "extract_embeddings": lambda place: extract_embeddings(
        place / "pictures" / "items.jsonl", place / "extracted", PLAIN
    ),
}
UPDATES = ("add", "remove", "compact")
RESUMED = ("build_identifiers", "join_captions", "extract_embeddings")
"""Steps that go on from OUTPUT.partial."""


def shown(place: Path) -> dict[str, Any]:
    """What readers see of everything that the steps make."""
    found: dict[str, Any] = {}
    for name in ("data-bin", "binned"):
        if (place / name).exists():
            data = DataBin(place / name)
            dense = data.dense_items
            found[name] = {
                "ids": data.bundle.item_ids,
                "records": [data.bundle.record(row) for row in range(len(data.bundle))],
                "values": data.bundle.values.tolist(),
                "trie": [tensor.tolist() for tensor in (data.trie.rows, *data.trie.values)],
                "sets": {each: np.asarray(data.candidates(each)).tolist() for each in data.candidate_names},
                "queries": {each: data.queries(each).to_pydict() for each in data.subsets},
                "dense": None if dense is None else np.asarray(dense.embeddings).tolist(),
            }
    for name in ("data-bin", "built", "binned", "joined", "extracted"):
        if (place / name).exists():
            verify(place / name)
    for name, array in {"built": "identifiers", "joined": "embeddings", "extracted": "embeddings"}.items():
        if (place / name).exists():
            found[name] = np.load(place / name / f"{array}.npy").tolist()
    return found


def hits(place: Path) -> Any:
    """What a search finds."""
    retriever = CartRetriever.from_pretrained(place / "checkpoint.pt", data=place / "data-bin", device="cpu")
    found = retriever.search(["a red dog", "a blue cat runs"], k=5, candidates="test")
    return [[(hit.item_id, round(hit.score, 4), hit.record) for hit in each] for each in found]


def binned_join(place: Path) -> Any:
    """The data-bin that a join gives."""
    binarize(place / "identifiers", place / "captions.jsonl", place / "binned", embeddings=place / "joined")
    return shown(place)["binned"]


def verify_all(place: Path) -> None:
    """Verify what was damaged."""
    for name in ("data-bin", "checkpoint.pt", "joined"):
        if (place / name).exists():
            verify(place / name)


def consistent(path: Path, vectors: dict[str, list[float]], wait: Callable[[], object]) -> bool:
    """Whether an open data-bin shows one state, also when the writer has gone on."""
    data = DataBin(path)
    dense, rows = data.dense_items, data.bundle.kept
    assert dense is not None
    ids, everything = data.bundle.item_ids, data.candidates("all")
    wait()
    return (
        sorted(data.trie.rows.tolist()) == rows.tolist()
        and (len(rows) == len(ids) if everything is None else everything.tolist() == rows.tolist())
        and all(data.bundle.record(row)["item_id"] == ids[row] for row in rows.tolist())
        and all(dense.embeddings[row].tolist() == vectors.get(ids[row], dense.embeddings[row].tolist()) for row in rows)
        and all(max(data.queries(subset)["item_row"].to_pylist()) < len(ids) for subset in data.subsets)
    )
