"""Turn a data set of captioned media around: its captions become the items of a catalogue, its media the queries.

    captions_as_items.py DATA OUT [--text-features PATH]

DATA holds embeddings.npy, items.jsonl and captions.jsonl. OUT receives the same files of the captions, which
``examples/own_data/run.sh`` reads, and ``media.npy``: row i is the vector of line i of DATA/items.jsonl.

Captions and media are embedded in one space: that of two towers, trained on the training items' captions and their media
alone (``join_captions --align --index-captions exclude``). A caption's training texts are its own and the next caption of
its item; those of valid items are their own text. One in five of the valid captions is also asked for by the next
caption of its item, which tunes the search. That caption is an item, too, and comes first, so these queries have low R@1.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

from joined_towers import JoinedTowers

from cart_fairseq.base.files import replacing, write_jsonl
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_jsonl
from preprocess.data.embeddings import Embeddings, open_embeddings
from preprocess.join.build import join_captions
from preprocess.join.settings import LSA, JoinSettings

ALIGN = 512
BLOCK = 1024
ASKED = 5
"""One valid caption in this many is asked for."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="captions_as_items.py", description=(__doc__ or "").split("\n\n")[0])
    result.add_argument("data", type=Path, help="embeddings.npy, items.jsonl and captions.jsonl of captioned media")
    result.add_argument("out", type=Path, help="the folder for the files of the captions")
    features = "sentence encoder, see join_captions (default: latent semantic analysis)"
    result.add_argument("--text-features", default=LSA, metavar="PATH", help=features)
    return result


def turned(items: Sequence[dict[str, Any]], captions: Sequence[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Items and captions of the catalogue of captions.

    >>> items = [{"item_id": "a", "split": "train"}]
    >>> turned(items, [{"item_id": "a", "text": "one"}, {"item_id": "a", "text": "two"}])[0][1]
    {'item_id': 'a#1', 'text': 'two', 'of': 'a', 'split': 'train'}
    """
    split_of = {item["item_id"]: item.get("split") for item in items}
    texts: dict[str, list[str]] = defaultdict(list)
    for caption in captions:
        texts[caption["item_id"]].append(caption["text"])
    new_items, new_captions = [], []
    for place, (owner, own) in enumerate(texts.items()):
        for number, text in enumerate(own):
            item_id, split = f"{owner}#{number}", split_of[owner]
            new_items.append({"item_id": item_id, "text": text, "of": owner, "split": split})
            new_captions.append({"item_id": item_id, "text": text, "role": "index"})
            following = own[(number + 1) % len(own)]
            if len(own) > 1 and split == "train":
                new_captions.append({"item_id": item_id, "text": following, "role": "train"})
            elif len(own) > 1 and split == "valid" and number == place % ASKED:
                new_captions.append({"item_id": item_id, "text": following, "role": "query"})
    return new_items, new_captions


def media_vectors(joined: JoinedTowers, embeddings: Embeddings) -> np.ndarray:
    """Vectors of media with embeddings (N, D), without captions: (N, T + A) float32 of length 1."""
    parts = joined.parts
    blocks = []
    for at in range(0, len(embeddings), BLOCK):
        block = np.asarray(embeddings[at : at + BLOCK], dtype=np.float32)
        mapped = parts.text_map(block)
        kept = [] if parts.kept is None else [parts.kept(block)]
        blocks.append(joined.towers(np.concatenate([mapped, mapped, *kept], axis=1)))
    return np.concatenate(blocks)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    embeddings, items_file, captions_file = (
        args.data / name for name in ("embeddings.npy", "items.jsonl", "captions.jsonl")
    )
    args.out.mkdir(parents=True, exist_ok=True)
    settings = JoinSettings(args.text_features, align=ALIGN, index_captions="exclude", keep_embedding=True)
    print(join_captions(embeddings, items_file, captions_file, args.out / "towers", settings).summary)
    joined = JoinedTowers(args.out / "towers")
    items, captions = turned(read_jsonl(items_file), read_jsonl(captions_file))
    arrays = {
        "media.npy": media_vectors(joined, open_embeddings(embeddings)),
        "embeddings.npy": joined.queries([item["text"] for item in items]),
    }
    for name, rows in arrays.items():
        with replacing(args.out / name) as new, open(new, "wb") as file:
            np.save(file, rows.astype(np.float16), allow_pickle=False)
    write_jsonl(args.out / "items.jsonl", items)
    write_jsonl(args.out / "captions.jsonl", captions)
    print(f"{args.out}: {len(items):,} captions as items, vectors of {len(arrays['media.npy']):,} media")


if __name__ == "__main__":
    run_script(main)
