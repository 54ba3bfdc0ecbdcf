"""A text encoder and an index of vectors: what the rivals' services search with."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from cart_fairseq.base.libraries import hide_broken_torchaudio

INDEX, ITEMS, TXTAI = "items.index", "items.json", "txtai"
PROBES = 16
"""Cells of the index that a search reads."""


def arguments(description: str, port: int) -> argparse.ArgumentParser:
    """The command line of a service.

    Args:
        description: of the service.
        port: its own.
    """
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--vectors", type=Path, required=True, metavar="FOLDER", help="what vectors.py wrote")
    made.add_argument("--encoder", type=Path, required=True, metavar="DIR", help="the text encoder")
    made.add_argument("--port", type=int, default=port, help="(default: %(default)s)")
    return made


class Searcher:
    """Searches the vectors that ``vectors.py`` wrote. The encoder's weights are bfloat16.

    Args:
        folder: what it wrote.
        encoder: a text encoder, as ``save_pretrained`` writes it; its vectors are the mean over the words.
    """

    def __init__(self, folder: Path, encoder: Path):
        hide_broken_torchaudio()
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(encoder)
        self.model = AutoModel.from_pretrained(encoder, dtype=torch.bfloat16).eval()
        self.index = faiss.read_index(str(folder / INDEX)) if (folder / INDEX).exists() else None
        if self.index is not None:
            faiss.extract_index_ivf(self.index).nprobe = PROBES
        self.items = json.loads((folder / ITEMS).read_text()) if (folder / ITEMS).exists() else []

    def tokens(self, texts: Sequence[str]) -> Any:
        """Texts as the encoder reads them."""
        return self.tokenizer([*texts], padding=True, truncation=True, max_length=256, return_tensors="pt")

    @torch.no_grad()
    def encode_text(self, tokens: Any) -> torch.Tensor:
        """Vectors of texts: (n, D) float32 of length 1."""
        states = self.model(**tokens).last_hidden_state.float()
        mask = tokens["attention_mask"].unsqueeze(-1)
        mean = (states * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=1)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts: (n, D) float32 of length 1."""
        found: NDArray[np.float32] = self.encode_text(self.tokens(texts)).numpy()
        return found

    def search(self, texts: Sequence[str], k: int) -> list[list[dict[str, Any]]]:
        """The k best items for each text, with their records."""
        assert self.index is not None
        scores, rows = self.index.search(self.vectors(texts), k)
        return [
            [
                {**self.items[row % len(self.items)], "row": row, "score": score}
                for row, score in zip(*each, strict=True)
            ]
            for each in zip(rows.tolist(), scores.tolist(), strict=True)
        ]
