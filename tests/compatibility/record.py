"""Last step of README.md's commands, run once at a2a38ed: `python record.py FOLDER` writes what the code of that commit finds.

`plain.pt` and `dense.pt` become the checkpoints without the state of training, `hits.json` the hits of both.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from old_catalogue import ITEMS, QUERIES, embeddings, formula_codec

from cart_fairseq import CartRetriever

SEARCHES: dict[str, dict[str, Any]] = {
    "plain, masked": {},
    "plain, renormalised": {"scoring": "renormalised"},
    "plain, discounted": {"level_discount": 0.5},
    "dense, masked": {},
    "dense, renormalised": {"scoring": "renormalised"},
    "dense, identifiers alone": {"dense_weight": 0, "level_discount": 1},
}
"""Options of `CartRetriever.from_pretrained`; the first word names the data-bin and the checkpoint."""


def strip(source: Path, output: Path) -> None:
    """A checkpoint as fairseq's commands open it, without the optimiser's state and the metrics of training."""
    state = torch.load(source, weights_only=True)
    state["last_optimizer_state"] = None
    state["extra_state"] = {"train_iterator": state["extra_state"]["train_iterator"]}
    state["cfg"]["common"]["plasma_path"] = state["cfg"]["model"].plasma_path = "plasma"
    torch.save(state, output)


def hits(folder: Path, name: str) -> list[list[tuple[str, float]]]:
    """Ten (item id, score) of each query by one of the `SEARCHES`."""
    model = name.split(",")[0]
    options = {"beam": ITEMS, "precision": "float32", "device": "cpu", **SEARCHES[name]}
    retriever = CartRetriever.from_pretrained(folder / f"{model}.pt", data=folder / model / "data-bin", **options)
    return [[(hit.item_id, hit.score) for hit in found] for found in retriever.search(QUERIES, k=10)]


def main(folder: Path) -> None:
    """Strip both checkpoints and record their hits."""
    for name in ("plain", "dense"):
        strip(folder / name / "checkpoints" / "checkpoint_best.pt", folder / f"{name}.pt")
    restore_codec = importlib.import_module("preprocess.codec").restore_codec
    identifiers = importlib.import_module("cart_fairseq.identifiers")
    positions = [identifiers.Position("k", 4), identifiers.Position("v1", 5), identifiers.Position("v2", 5)]
    codec = restore_codec(formula_codec(), positions)
    found = {name: hits(folder, name) for name in SEARCHES}
    for each in found.values():
        scores = np.array([[score for _, score in row] for row in each])
        assert np.diff(scores).max() < -1e-4, "two hits are too close for their order to be a fact"
    bundles = {}
    for path in [*sorted(folder.glob("*/data-bin/identifiers")), folder / "atomic", folder / "structured"]:
        bundle = identifiers.IdentifierBundle.load(path)
        bundles[path.relative_to(folder).as_posix()] = {"fingerprint": bundle.fingerprint, "state": bundle.state}
    (folder / "hits.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    facts = {"bundles": bundles, "formula_codes": codec.encode(embeddings()).tolist()}
    (folder / "bundles.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
