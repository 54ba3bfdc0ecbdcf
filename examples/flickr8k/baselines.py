"""Measure simple methods on the same queries and candidates as the model. They use scikit-learn only.

    python examples/flickr8k/baselines.py --data DATA [--identifiers OUT/identifiers] [--split valid] [--json FILE]

- TF-IDF ranks items by the best cosine between the query and their index captions. It uses no embeddings of images.
- Ridge regression predicts an item's embedding from the TF-IDF vector of the query, and ranks items by cosine. It is
  fitted on all train and index captions, like the model.
- Quantised ridge regression replaces the embeddings by those that the bundle's codec decodes from (k, v1..vM). It
  shows how much information the identifiers carry.

Nothing here is pretrained on text. Among items with equal scores, the correct item is ranked last.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
import torch
from provenance import provenance
from scipy.sparse import csr_matrix, issparse
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.measuring.labels import METRIC_LABELS
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts
from preprocess.data.embeddings import open_embeddings
from preprocess.data.inputs import match_items, read_captions, read_items
from preprocess.data.roles import Caption, candidate_rows, resolve
from preprocess.identifiers.codec import load_codec

COMPONENTS = 256
QUERY_BLOCK = 500
NAMES = {
    "tfidf": "TF-IDF over index captions",
    "ridge": "TF-IDF, ridge, embeddings",
    "ridge_quantised": "the same, quantised",
}


def worst_ranks(scores: np.ndarray, targets: np.ndarray) -> torch.Tensor:
    """Return the rank of each query's item. Items with an equal score are ranked before it.

    Args:
        scores: (Q, C), a score for each query and candidate.
        targets: (Q,), the column of each query's item.

    Returns:
        (Q,) int64, from 1.
    """
    own = scores[np.arange(len(targets)), targets]
    return torch.from_numpy((scores >= own[:, None]).sum(axis=1).astype(np.int64))


def cosines(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(Q, D) and (C, D) -> (Q, C) cosines. The cosine with a zero vector is 0."""
    return normalize(queries) @ normalize(items).T


def best_caption_scores(queries: Any, captions: Any, owner: np.ndarray, items: int) -> np.ndarray:
    """Return the score of each item: the best score of its captions, or 0 if it has none.

    Args:
        queries, captions: (Q, V) and (M, V) rows of unit length, arrays or sparse matrices.
        owner: (M,), the column of each caption's item.
        items: C, the number of columns.

    Returns:
        (Q, C) float32.
    """
    order = np.argsort(owner, kind="stable")
    columns, first = np.unique(owner[order], return_index=True)
    best = np.zeros((queries.shape[0], items), dtype=np.float32)
    for at in range(0, queries.shape[0], QUERY_BLOCK):
        similar = queries[at : at + QUERY_BLOCK] @ captions[order].T
        if issparse(similar):
            similar = similar.toarray()
        best[at : at + QUERY_BLOCK, columns] = np.maximum.reduceat(similar, first, axis=1)
    return best


def reconstruct(bundle: IdentifierBundle) -> np.ndarray:
    """Decode the identifiers, without their unique token, to embeddings: (N, D) float32."""
    codec = load_codec(bundle)
    return codec.decode(np.asarray(bundle.values[:, : len(codec.positions)]))


def quantised_embeddings(path: Path, items: Sequence[dict[str, Any]], dimension: int) -> np.ndarray:
    """Return the embeddings decoded from the bundle at `path`.

    Raises:
        ValueError: the bundle belongs to other items or embeddings.
    """
    bundle = IdentifierBundle.load(path)
    if bundle.item_ids != [item["item_id"] for item in items]:
        raise ValueError(f"{path}: its items differ from items.jsonl or have another order; build it from these data")
    quantised = reconstruct(bundle)
    if quantised.shape[1] != dimension:
        raise ValueError(
            f"{path}: was built from embeddings of width {quantised.shape[1]}, but these have width {dimension}; build "
            "it again"
        )
    return quantised


def measure(data: Path, identifiers: Path | None, split: str) -> tuple[dict[str, Any], list[str]]:
    """Measure all baselines on the queries of a split. Candidates are the items of the split and items without one.

    Returns:
        The object for --json, and a note for each baseline that cannot be measured.

    Raises:
        ValueError: the data are wrong, or the split has no queries.
    """
    items = read_items(data / "items.jsonl")
    source = data / "embeddings.npy"
    embeddings = open_embeddings(source if source.exists() else data / "embeddings")
    match_items(embeddings, items, source, data / "items.jsonl")
    exact = np.asarray(embeddings, dtype=np.float32)
    splits = [item.get("split") for item in items]
    row_of = {item["item_id"]: row for row, item in enumerate(items)}
    file = data / "captions.jsonl"
    captions = resolve(read_captions(file, items), row_of, splits, str(file))
    queries = [c for c in captions if c.role == "query" and (c.split or "test") == split]
    trained = [c for c in captions if c.role != "query"]
    if not queries:
        raise ValueError(f"{file}: no caption with the role 'query' in split {split!r}; choose another with --split")
    if not trained:
        raise ValueError(f"{file}: no train or index captions to fit on")
    candidates = candidate_rows(splits, split)
    column_of = {int(row): column for column, row in enumerate(candidates)}
    targets = np.array([column_of[c.item_row] for c in queries])

    texts, wanted = [c.text for c in trained], [c.text for c in queries]
    found: dict[str, np.ndarray] = {}
    notes = []
    indexed = [i for i, c in enumerate(trained) if c.role == "index" and c.item_row in column_of]
    if indexed:
        owner = np.array([column_of[trained[i].item_row] for i in indexed])
        known, asked = vectors(texts, wanted, words=1)
        found["tfidf"] = best_caption_scores(asked, known[indexed], owner, len(candidates))
    else:
        notes.append(f"{NAMES['tfidf']}: not measured, the candidates have no index captions")

    # whitened principal components, because a few dimensions dominate the cosines of raw embeddings
    space = PCA(min(COMPONENTS, *exact.shape), whiten=True, svd_solver="randomized", random_state=0).fit(exact)
    placed = space.transform(exact)
    known, asked = vectors(texts, wanted, words=2)
    predicted = predict(known, trained, placed, asked)
    found["ridge"] = cosines(predicted, placed[candidates])
    if identifiers is not None:
        quantised = quantised_embeddings(identifiers, items, exact.shape[1])
        found["ridge_quantised"] = cosines(predicted, space.transform(quantised)[candidates])
    else:
        notes.append(f"{NAMES['ridge_quantised']}: not measured, no --identifiers given")
    systems = {
        name: {m: round(v, 4) for m, v in metrics_from_counts(metric_counts(worst_ranks(scores, targets))).items()}
        for name, scores in found.items()
    }
    return {"split": split, "queries": len(queries), "candidates": len(candidates), "systems": systems}, notes


def vectors(known: Sequence[str], asked: Sequence[str], words: int) -> tuple[csr_matrix, csr_matrix]:
    """Return TF-IDF vectors of unit length. Terms have up to `words` words; `known` determines terms and weights."""
    vectoriser = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, words), dtype=np.float32)
    return vectoriser.fit_transform(known), vectoriser.transform(asked)


def predict(known: csr_matrix, trained: Sequence[Caption], placed: np.ndarray, asked: csr_matrix) -> np.ndarray:
    """Predict the vectors of the queries' items by ridge regression from captions to the vectors of their items.

    Args:
        known: (M, V), vectors of the captions.
        trained: the captions, which name their items.
        placed: (N, D), vectors of the items, with mean 0, so that no intercept is needed.
        asked: (Q, V), vectors of the queries.

    Returns:
        (Q, D), the predicted vectors.
    """
    targets = placed[[c.item_row for c in trained]]
    centre = targets.mean(axis=0)
    model = Ridge(alpha=1.0, fit_intercept=False, solver="sparse_cg", tol=1e-2, max_iter=60).fit(
        known, targets - centre
    )
    return model.predict(asked).reshape(len(asked.indptr) - 1, -1) + centre


def table(result: dict[str, Any], notes: Sequence[str]) -> str:
    """Return the figures as text."""
    lines = [f"{result['split']}: {result['queries']:,} queries, {result['candidates']:,} candidates, in percent"]
    lines.append(f"{'':<30}" + "".join(f"{name:>8}" for name in METRIC_LABELS.values()))
    for system, metrics in result["systems"].items():
        lines.append(f"{NAMES[system]:<30}" + "".join(f"{metrics[key]:8.1f}" for key in METRIC_LABELS))
    return "\n".join([*lines, *notes])


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description="Measure TF-IDF and ridge regression on a data set's queries.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with embeddings, items.jsonl and captions.jsonl"
    )
    parser.add_argument("--identifiers", type=Path, help="identifier bundle, for quantised ridge regression")
    parser.add_argument(
        "--split", choices=("valid", "test"), default="valid", help="split whose queries are measured (default: valid)"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args(argv)
    result, notes = measure(args.data, args.identifiers, args.split)
    if args.json:
        write_json(args.json, {**provenance(vars(args), "json"), **result})
    print(table(result, notes))


if __name__ == "__main__":
    run_script(main)
