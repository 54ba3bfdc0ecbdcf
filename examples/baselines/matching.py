"""The single tower: an image-text matching model, which reads a query and a picture together and scores the pair.

It computes every pair, so it only reorders the best items of a dual tower. BLIP and BLIP-2 of `transformers` are
supported. The parts of the model are called separately, so that each picture is encoded once, not once per pair. The
scores are equal to those of the model's `forward`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from collection import needed
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from cart_fairseq.base.progress import Progress
from cart_fairseq.measuring.results import Ranking
from preprocess.encoders.pretrained import load_part, loading

CLASSES = {"blip": "BlipForImageTextRetrieval", "blip-2": "Blip2ForImageTextRetrieval"}


class Matcher:
    """An image-text matching model with its processors.

    Args:
        name: folder or name on the hub, such as Salesforce/blip-itm-base-coco or Salesforce/blip2-itm-vit-g.
        device: its device.

    Raises:
        ValueError: transformers is not installed; the model cannot be loaded, has another type, or lacks the weights
            of the matching head.
    """

    def __init__(self, name: str, device: str):
        transformers = needed("transformers", "the single tower")
        self.kind = load_part("AutoConfig", name).model_type
        if self.kind not in CLASSES:
            raise ValueError(f"{name}: is a model of type {self.kind!r}; the single tower needs {' or '.join(CLASSES)}")
        kind = getattr(transformers, CLASSES[self.kind])
        self.model: Any
        self.model, found = loading(name, lambda: kind.from_pretrained(name, output_loading_info=True))
        missing = sorted(key for key in found["missing_keys"] if not key.endswith("position_ids"))
        if missing:
            raise ValueError(
                f"{name}: lacks {len(missing)} weights of {kind.__name__} ({missing[0]} …), which would be random; "
                "give a checkpoint trained for image-text matching, such as Salesforce/blip-itm-base-coco"
            )
        self.model.to(device).eval()
        self.pictures, self.tokenizer = load_part("AutoImageProcessor", name), load_part("AutoTokenizer", name)
        self.device = device

    @torch.inference_mode()
    def encode(self, images: Sequence[Any]) -> Tensor:
        """n RGB pictures -> (n, patches, width) states."""
        pixels = self.pictures(list(images), return_tensors="pt")["pixel_values"]
        return self.model.vision_model(pixel_values=pixels.to(self.device))[0]

    @torch.inference_mode()
    def score(self, states: Tensor, texts: Sequence[str]) -> Tensor:
        """Score each text with the picture in its row: (n,) float32 log odds, on the CPU.

        Args:
            states: (n, patches, width), from `encode`.
            texts: n texts.
        """
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        symbols, mask = tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)
        if self.kind == "blip":
            read = self.model.text_encoder(input_ids=symbols, attention_mask=mask, encoder_hidden_states=states)
            logits = self.model.itm_head(read[0][:, 0])
        else:
            seen = self.model.query_tokens.expand(len(states), -1, -1)
            read = self.model.qformer(
                query_embeds=self.model.embeddings(input_ids=symbols, query_embeds=seen),
                query_length=seen.size(1),
                attention_mask=torch.cat([mask.new_ones(seen.shape[:2]), mask], dim=1),
                encoder_hidden_states=states,
            )
            logits = self.model.itm_head(read[0][:, : seen.size(1)]).mean(1)
        return (logits[:, 1] - logits[:, 0]).float().cpu()

    @torch.inference_mode()
    def image_vectors(self, states: Tensor) -> Tensor:
        """(n, patches, width) states -> (n, V, D) vectors of unit length of the contrastive part; V is 1 for BLIP."""
        if self.kind == "blip":
            return normalize(self.model.vision_proj(states[:, :1]), dim=-1)
        seen = self.model.query_tokens.expand(len(states), -1, -1)
        read = self.model.qformer(query_embeds=seen, encoder_hidden_states=states)
        return normalize(self.model.vision_projection(read[0]), dim=-1)

    @torch.inference_mode()
    def text_vectors(self, texts: Sequence[str]) -> Tensor:
        """Return (n, D) vectors of unit length of the contrastive part."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        symbols, mask = tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)
        if self.kind == "blip":
            read = self.model.text_encoder(input_ids=symbols, attention_mask=mask)
            return normalize(self.model.text_proj(read[0][:, 0]), dim=-1)
        embedded = self.model.embeddings(input_ids=symbols)
        read = self.model.qformer(query_embeds=embedded, query_length=0, attention_mask=mask)
        return normalize(self.model.text_projection(read[0][:, 0]), dim=-1)

    def first_stage(
        self, texts: Sequence[str], rows: Sequence[int], picture: Callable[[int], Any], depth: int, batch: int
    ) -> list[Ranking]:
        """Rank items by the contrastive part: the largest cosine of a text and a vector of the picture.

        Args:
            texts: the queries.
            rows: the candidates' item rows.
            picture: item row -> RGB picture.
            depth: number of results of each query.
            batch: batch size of pictures and of texts.
        """
        seen = []
        with Progress(len(rows), "contrastive part", "pictures") as progress:
            for start in range(0, len(rows), batch):
                block = rows[start : start + batch]
                seen.append(self.image_vectors(self.encode([picture(row) for row in block])))
                progress.update(len(block))
        vectors, found = torch.cat(seen), []
        for start in range(0, len(texts), batch):
            asked = self.text_vectors(texts[start : start + batch])
            scores = torch.cat([torch.einsum("nvd,qd->qnv", part, asked).amax(2) for part in vectors.split(1024)], 1)
            best = scores.float().topk(min(depth, len(rows)), dim=1)
            for values, places in zip(best.values.cpu().tolist(), best.indices.cpu().tolist(), strict=True):
                found.append(Ranking([int(rows[place]) for place in places], values))
        return found


def rerank(
    matcher: Matcher,
    texts: Sequence[str],
    rankings: Sequence[Ranking],
    picture: Callable[[int], Any],
    batch: int,
) -> tuple[list[Ranking], float]:
    """Reorder the results of each query with the matching model.

    Args:
        matcher: the model.
        texts: the queries.
        rankings: the results of the first stage for each query.
        picture: item row -> RGB picture. It is called once for each item.
        batch: batch size of pictures and of pairs.

    Returns:
        The rankings with log odds as scores, and the seconds taken.
    """
    begin = time.perf_counter()
    asking: dict[int, list[tuple[int, int]]] = {}  # item row -> (query, place) of each result
    for query, ranking in enumerate(rankings):
        for place, row in enumerate(ranking.rows):
            asking.setdefault(row, []).append((query, place))
    scores: list[NDArray[np.float32]] = [np.zeros(len(ranking.rows), dtype=np.float32) for ranking in rankings]
    rows = sorted(asking)
    with Progress(sum(map(len, asking.values())), "matching", "pairs") as progress:
        for start in range(0, len(rows), batch):
            block = rows[start : start + batch]
            states = matcher.encode([picture(row) for row in block])
            pairs = [(number, *pair) for number, row in enumerate(block) for pair in asking[row]]
            for first in range(0, len(pairs), batch):
                part = pairs[first : first + batch]
                found = matcher.score(states[[number for number, _, _ in part]], [texts[query] for _, query, _ in part])
                for (_, query, place), score in zip(part, found.tolist(), strict=True):
                    scores[query][place] = score
                progress.update(len(part))
    orders = [np.argsort(-each, kind="stable") for each in scores]
    reordered = [
        Ranking([ranking.rows[place] for place in order], each[order].tolist())
        for ranking, each, order in zip(rankings, scores, orders, strict=True)
    ]
    return reordered, time.perf_counter() - begin
