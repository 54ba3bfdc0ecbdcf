"""Cut a data set into a catalogue of today and the items of tomorrow, for ``run.sh``.

    split.py DATA OUT [--new-split valid] [--old-queries 1000] [--replay 5] [--seed 1]

``OUT`` receives ``old/`` (the items of today), ``new/`` (those that come later, with nothing but their index captions to
learn from), ``all/`` (both, to train from scratch), ``fine-tune/`` (the index captions of the new items, and a sample of
old captions to rehearse), and the queries to measure, which no training sees: ``queries.old.jsonl``, a caption each of
some old items, and ``queries.new.jsonl``.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cart_fairseq.files import replacing, run_script
from preprocess.data.embeddings import open_embeddings
from preprocess.data.inputs import match_items, read_captions, read_items
from preprocess.data.roles import Caption, resolve


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a .jsonl file."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def hold_out(captions: Sequence[Caption], count: int, draw: np.random.Generator) -> list[Caption]:
    """A caption each of `count` items drawn by chance, never an item's only one."""
    per_item = Counter(caption.item_row for caption in captions)
    chosen: dict[int, Caption] = {}
    for index in draw.permutation(len(captions)).tolist():
        if len(chosen) < count and per_item[captions[index].item_row] > 1:
            chosen.setdefault(captions[index].item_row, captions[index])
    return list(chosen.values())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command of the module's docstring."""
    parser = argparse.ArgumentParser(description="Cut a data set into the items of today and those of tomorrow.")
    parser.add_argument("data", type=Path, help="a folder with embeddings.npy, items.jsonl and captions.jsonl")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument(
        "--new-split", choices=("valid", "test"), default="valid", help="the items that come later (valid)"
    )
    parser.add_argument("--old-queries", type=int, default=1000, help="captions of old items to measure (1000)")
    parser.add_argument("--replay", type=float, default=5, help="old captions to rehearse for each new one (5)")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn by chance (1)")
    args = parser.parse_args(argv)
    folder = args.data / "embeddings"
    source = folder if folder.is_dir() else args.data / "embeddings.npy"
    embeddings, items = open_embeddings(source), read_items(args.data / "items.jsonl")
    match_items(embeddings, items, source, args.data / "items.jsonl")
    path = args.data / "captions.jsonl"
    row_of = {item["item_id"]: row for row, item in enumerate(items)}
    captions = resolve(read_captions(path, items), row_of, [item.get("split") for item in items], str(path))

    is_new = np.array([item.get("split") == args.new_split for item in items])
    draw = np.random.default_rng(args.seed)
    known = [caption for caption in captions if not is_new[caption.item_row] and caption.role != "query"]
    held = hold_out(known, args.old_queries, draw)
    gone = {caption.number for caption in held}
    known = [caption for caption in known if caption.number not in gone]
    index = [caption for caption in captions if is_new[caption.item_row] and caption.role == "index"]
    asked = [caption for caption in captions if is_new[caption.item_row] and caption.role == "query"]
    for what, found in (("index captions", index), ("queries", asked)):
        if not found:
            raise ValueError(f"{path}: the items of split {args.new_split} have no {what}; choose another --new-split")
    if not known:
        raise ValueError(f"{path}: no captions of items outside split {args.new_split}; there is nothing to train on")
    rehearsed = draw.permutation(len(known))[: round(args.replay * len(index))]

    def rows(chosen: Iterable[Caption], role: str | None = None) -> list[dict[str, Any]]:
        return [
            {"item_id": items[c.item_row]["item_id"], "caption_id": c.query_id, "text": c.text, "role": role or c.role}
            for c in chosen
        ]

    # every old item may be trained on, every new one is measured
    items = [{**item, "split": "test" if new else "train"} for item, new in zip(items, is_new, strict=True)]
    learned = {"old": known, "new": index, "all": [*known, *index]}
    with replacing(args.out, directory=True) as new_folder:
        for name, chosen in (("old", ~is_new), ("new", is_new), ("all", is_new | ~is_new)):
            (new_folder / name).mkdir()
            np.save(new_folder / name / "embeddings.npy", np.asarray(embeddings[np.flatnonzero(chosen)]))
            write_rows(new_folder / name / "items.jsonl", (items[row] for row in np.flatnonzero(chosen).tolist()))
            write_rows(new_folder / name / "captions.jsonl", rows(learned[name]))
        # the identifiers of the fine-tuned model are those of the old items, with the new ones added
        (new_folder / "fine-tune").mkdir()
        for name in ("embeddings.npy", "items.jsonl"):
            (new_folder / "fine-tune" / name).symlink_to(Path("..") / "old" / name)
        write_rows(new_folder / "fine-tune" / "captions.jsonl", rows([*index, *(known[i] for i in np.sort(rehearsed))]))
        write_rows(new_folder / "queries.old.jsonl", rows(held, "query"))
        write_rows(new_folder / "queries.new.jsonl", rows(asked))
    print(
        f"{(~is_new).sum():,} old items with {len(known):,} captions and {len(held):,} queries, {is_new.sum():,} new items "
        f"with {len(index):,} captions and {len(asked):,} queries; {len(rehearsed):,} old captions to rehearse"
    )


if __name__ == "__main__":
    run_script(main)
