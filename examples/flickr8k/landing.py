"""Trial: rows to build identifiers from, made of where a trained model's queries land.

    python examples/flickr8k/landing.py checkpoint_best.pt --data data-bin --output landing.npy

A row is the mean of the query vectors of an item's training captions, plus the item's vector, each of length 1. Then
`build_identifiers --embeddings landing.npy --scheme residual-kmeans --codebooks 2` and the recipe, from an OUT that has the
join and these identifiers.
"""

import argparse

import numpy as np
import torch
from torch.nn.functional import normalize

from cart_fairseq.catalogue.dictionary import PAD
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.search.batching import batches
from cart_fairseq.search.dense.item_vectors import item_vectors, query_vectors


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    retriever = CartRetriever.from_pretrained(args.checkpoint, args.data, precision="float32")
    data, models = retriever.data, retriever.models
    captions = data.queries("train", ("text", "item_row"))
    rows = torch.from_numpy(captions["item_row"].to_numpy()).long()
    symbols = [retriever.codec.symbols(text) for text in captions["text"].to_pylist()]
    with torch.no_grad():
        items = normalize(item_vectors(models, data.dense_items, torch.arange(len(data.bundle))), dim=1)
        landed = torch.zeros_like(items)
        for numbers, net_input in batches(symbols, PAD, retriever.device):
            members = [(model, model.encoder(**net_input)) for model in models]
            landed.index_add_(0, rows[numbers], normalize(query_vectors(members, 1.0).vectors, dim=1))
    np.save(args.output, normalize(normalize(landed, dim=1) + items, dim=1).numpy())


if __name__ == "__main__":
    main()
