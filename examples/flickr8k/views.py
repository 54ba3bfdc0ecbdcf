"""Two identifiers an item: data in which each item comes twice, and what a model of it reaches.

views.py stack DATA ALIGNED DIR      DIR/{items.jsonl,captions.jsonl,embeddings.npy}, and DIR/views.npy to build identifiers from
views.py measure RUN FILE            valid queries among the split's items; an item's score is the logarithm of both probabilities' sum
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from cart_fairseq.files import run_script, write_json
from cart_fairseq.metrics import metric_counts, metrics_from_counts, ranks_of
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.tune import WEIGHTS, best_weight, table

SECOND = "/2"
BEAM = 60


def stack(data: Path, aligned: Path, out: Path) -> None:
    """Write the data; the second half of the vectors is turned, so that codebooks are its own."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("items.jsonl", "captions.jsonl"):
        lines = [json.loads(line) for line in (data / name).read_text().splitlines()]
        again = [line | {"item_id": line["item_id"] + SECOND} for line in lines if line.get("role") != "query"]
        for line in again:
            if "caption_id" in line:
                line["caption_id"] += SECOND
        (out / name).write_text("".join(json.dumps(line) + "\n" for line in lines + again))
    np.save(out / "embeddings.npy", np.concatenate([np.load(data / "embeddings.npy")] * 2))
    vectors = np.load(aligned).astype(np.float32)
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((vectors.shape[1],) * 2))
    np.save(out / "views.npy", np.concatenate([vectors, vectors @ turn.astype(np.float32)]))


def measure(run: Path, file: Path) -> None:
    """Figures by weight of the dense head."""
    retriever = CartRetriever.from_pretrained(run / "checkpoints" / "checkpoint_last.pt", data=run / "data-bin")
    task = retriever.task
    wanted = pq.read_table(run / "data-bin" / "queries.valid.parquet", columns=["item_row"])["item_row"].to_numpy()
    task.load_dataset("valid")
    dataset, items = task.datasets["valid"], len(task.data.bundle.values) // 2
    generator = task.search_with(retriever.models, BEAM, dense_weight=1.0, level_discount=1.0)
    ranks: dict[float, list[torch.Tensor]] = {weight: [] for weight in WEIGHTS}
    for queries, net_input in retriever.batches(dataset):
        found = generator.search(net_input, *task.data.source("valid")).cpu()
        own = found.token_scores.sum(2)
        dense = torch.where(found.scores.isfinite(), found.scores - own, 0.0)
        same = (found.rows % items).unsqueeze(2) == (found.rows % items).unsqueeze(1)  # (B, K, K)
        own = own.unsqueeze(1).masked_fill(~same, float("-inf")).logsumexp(2)
        again = (same.tril(-1)).any(2)
        for weight, each in ranks.items():
            score = (own + weight * dense).masked_fill(again, float("-inf"))
            rows = (
                (found.rows % items)
                .masked_fill(again, -1)
                .gather(1, score.argsort(dim=1, descending=True, stable=True))
            )
            each.append(ranks_of(rows, torch.from_numpy(wanted[queries.numpy()].astype(np.int64))))
    figures = {weight: metrics_from_counts(metric_counts(torch.cat(each))) for weight, each in ranks.items()}
    best = best_weight(figures)
    print(table("weight", figures, best))
    reached = [{"weight": weight, **row} for weight, row in figures.items()]
    write_json(file, {"best": best, "beam": BEAM, "candidates": "split", "weights": reached})


def main() -> None:
    """Run one of the commands of the module's docstring."""
    command, *paths = sys.argv[1:]
    if command == "stack":
        stack(*map(Path, paths))
    else:
        measure(*map(Path, paths))


if __name__ == "__main__":
    run_script(main)
