"""How well a small folder is searched by text: captions that were held out, beside TF-IDF over the other captions.

    python examples/folder/held_out.py DATA OUT [--items 1000] [--seed 1] [--json FILE]

DATA holds embeddings.npy, items.jsonl and captions.jsonl, such as Flickr8k's. Items are drawn of those with several
captions that are no queries, and one caption of each is held out. What is left is trained on as the recipe of folders
trains. Then the held-out captions are asked, all items being
candidates. A stopped call goes on when it is given again.

TF-IDF is measured in two ways: with the best of an item's captions, and with all of them as one text.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "flickr8k"))

import numpy as np
from baselines import best_caption_scores, vectors, worst_ranks
from folder import SIZE
from folder_lists import LEAST_QUERIES, epochs_for, has_few
from plan import checkpoint_of
from provenance import provenance
from settings import Settings
from steps import evaluate, train

from cart_fairseq.base.files import write_json, write_jsonl
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.settings import EvaluationSettings
from cart_fairseq.measuring.metrics import metric_counts, metrics_from_counts
from cart_fairseq.steps.evaluation import evaluate as measure
from preprocess.data.embeddings import open_embeddings
from preprocess.data.inputs import read_captions, read_items


def draw(data: Path, items: int, seed: int, output: Path) -> dict[str, list[dict[str, Any]]]:
    """Draw items and the captions that are held out, and write what is left as data of the recipes.

    Args:
        data: the whole data.
        items: how many to draw.
        seed: of the draw.
        output: receives embeddings.npy, items.jsonl, captions.jsonl and held_out.jsonl.

    Returns:
        The rows of ``known`` and ``held_out`` captions.

    Raises:
        ValueError: there are fewer items with several captions.
    """
    every = read_items(data / "items.jsonl")
    texts: dict[str, list[str]] = {}
    for caption in read_captions(data / "captions.jsonl", every):
        if caption.get("role") != "query":
            texts.setdefault(caption["item_id"], []).append(caption["text"])
    rows = [row for row, item in enumerate(every) if len(texts.get(item["item_id"], ())) > 1]
    if len(rows) < items:
        raise ValueError(f"{data}: {len(rows)} items have several captions, but --items is {items}; lower it")
    random = np.random.default_rng(seed)
    chosen = np.sort(random.choice(rows, items, replace=False))
    known, held_out = [], []
    for row in chosen:
        name = every[row]["item_id"]
        left = int(random.integers(len(texts[name])))
        for number, text in enumerate(texts[name]):
            if number == left:
                held_out.append({"item_id": name, "text": text, "role": "query", "split": "test"})
            else:
                known.append({"item_id": name, "text": text})
    output.mkdir(parents=True, exist_ok=True)
    np.save(output / "embeddings.npy", np.asarray(open_embeddings(data / "embeddings.npy")[chosen], dtype=np.float32))
    write_jsonl(output / "items.jsonl", [{"item_id": every[row]["item_id"]} for row in chosen])
    write_jsonl(output / "captions.jsonl", known)
    write_jsonl(output / "held_out.jsonl", held_out)
    return {"known": known, "held_out": held_out}


def by_words(known: list[dict[str, Any]], asked: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Recall and mean reciprocal rank in percent of TF-IDF over known captions; ties count against it."""
    columns = {name: column for column, name in enumerate(dict.fromkeys(caption["item_id"] for caption in known))}
    owner = np.array([columns[caption["item_id"]] for caption in known])
    targets = np.array([columns[query["item_id"]] for query in asked])
    together: list[list[str]] = [[] for _ in columns]
    for caption in known:
        together[columns[caption["item_id"]]].append(caption["text"])
    documents = {
        "best_caption": ([caption["text"] for caption in known], owner),
        "captions_as_one_text": ([" ".join(texts) for texts in together], np.arange(len(columns))),
    }
    found = {}
    for name, (texts, owners) in documents.items():
        known_vectors, queries = vectors(texts, [query["text"] for query in asked], 1)
        ranks = worst_ranks(best_caption_scores(queries, known_vectors, owners, len(columns)), targets)
        figures = metrics_from_counts(metric_counts(ranks))
        found[name] = {key: round(value, 4) for key, value in figures.items()}
    return found


def main() -> None:
    """Draw, train, ask, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="embeddings.npy, items.jsonl and captions.jsonl")
    parser.add_argument("out", type=Path, metavar="OUT", help="receives what is made")
    parser.add_argument("--items", type=int, default=1000, help="how many are drawn (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw and of the training (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    args = parser.parse_args()
    drawn = draw(args.data, args.items, args.seed, args.out / "data")
    captions = args.out / "data" / "captions.jsonl"
    flags = [*SIZE, "--max-epoch", str(epochs_for(captions)), "--seed", str(args.seed)]
    settings = Settings(recipe="joined", own_join=("--rare-words",) if has_few(captions) else ())
    began = time.monotonic()
    train(args.out / "data", args.out, flags, settings)
    evaluate(args.out, least_queries=LEAST_QUERIES)
    minutes = (time.monotonic() - began) / 60
    found = measure(
        args.out / "data-bin",
        queries=args.out / "data" / "held_out.jsonl",
        path=checkpoint_of(args.out / "checkpoints"),
        settings=EvaluationSettings(subset="test", candidates="all"),
    )
    figures = {"cart": found.figures, "tf_idf": by_words(drawn["known"], drawn["held_out"])}
    print(figures)
    if args.json:
        record = provenance(vars(args), "json", "out", "data")
        record["settings"]["train_flags"] = flags
        record |= {"captions": len(drawn["known"]), "minutes": round(minutes, 1)}
        write_json(args.json, {**record, "metrics": figures})


if __name__ == "__main__":
    run_script(main)
