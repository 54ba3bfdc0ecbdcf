"""What words alone reach on the icons' queries: TF-IDF over all texts of an icon that are trained on, taken as one."""

from pathlib import Path

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts
from preprocess.data.inputs import read_captions, read_items


def tfidf(data: Path, split: str) -> dict[str, float]:
    """Recall and mean reciprocal rank in percent, all icons being candidates. Ties count against the method.

    Args:
        data: folder with items.jsonl and captions.jsonl.
        split: of the queries.
    """
    items = read_items(data / "items.jsonl")
    captions = read_captions(data / "captions.jsonl", items)
    texts: dict[str, list[str]] = {item["item_id"]: [] for item in items}
    for caption in captions:
        if caption["role"] == "train":
            texts[caption["item_id"]].append(caption["text"])
    queries = [caption for caption in captions if caption.get("split") == split]
    vectoriser = TfidfVectorizer(sublinear_tf=True)
    known = vectoriser.fit_transform([" ".join(of_item) for of_item in texts.values()])
    scores = (vectoriser.transform([query["text"] for query in queries]) @ known.T).toarray()
    column = {name: number for number, name in enumerate(texts)}
    own = scores[np.arange(len(queries)), [column[query["item_id"]] for query in queries]]
    ranks = torch.from_numpy((scores >= own[:, None]).sum(axis=1))
    return {name: round(value, 4) for name, value in metrics_from_counts(metric_counts(ranks)).items()}
