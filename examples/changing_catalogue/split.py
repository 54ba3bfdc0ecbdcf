"""Split a data set into old items and new items that join the catalogue later, for ``run.sh``.

    split.py DATA OUT [--new-split valid] [--old-queries 1000] [--replay 5] [--seed 1]

``OUT`` contains four data sets and two files of queries:

- ``old/``: the old items and their captions.
- ``new/``: the new items and their index captions.
- ``all/``: both, to train from scratch.
- ``fine-tune/``: the old items and after them the new ones, with the index captions of the new items and a sample of
  old captions for replay.
- ``queries.old.jsonl``: one caption of each of some old items, which no training sees.
- ``queries.new.jsonl``: the queries of the new items.
- ``split.json``: the flags.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.files import write_json, write_jsonl
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_json
from preprocess.data.arguments import not_negative
from preprocess.data.embeddings import Embeddings, open_embeddings
from preprocess.data.inputs import match_items, read_captions, read_items
from preprocess.data.output import Kind, Made, Output
from preprocess.data.roles import Caption, resolve

KIND = Kind(
    "split of a data set",
    read=lambda path: Made(read_json(path / "split.json")),
    record=lambda path: path / "split.json",
    names=("old", "new", "all", "fine-tune", "queries.old.jsonl", "queries.new.jsonl", "split.json"),
    argument="OUT",
)


def hold_out(captions: Sequence[Caption], count: int, draw: np.random.Generator) -> list[Caption]:
    """Draw one caption of each of `count` random items that have more than one."""
    per_item = Counter(caption.item_row for caption in captions)
    chosen: dict[int, Caption] = {}
    for index in draw.permutation(len(captions)).tolist():
        if len(chosen) < count and per_item[captions[index].item_row] > 1:
            chosen.setdefault(captions[index].item_row, captions[index])
    return list(chosen.values())


@dataclass(frozen=True)
class Source:
    """The data set.

    Attributes:
        embeddings: (N, D) float16 or float32.
        items: the N objects of items.jsonl.
        captions: the captions with their roles.
        path: captions.jsonl, for messages.
    """

    embeddings: Embeddings
    items: list[dict[str, Any]]
    captions: list[Caption]
    path: Path

    def rows(self, chosen: Iterable[Caption], role: str | None = None) -> list[dict[str, Any]]:
        """Captions as objects of captions.jsonl; `role` replaces their own."""
        return [
            {
                "item_id": self.items[caption.item_row]["item_id"],
                "caption_id": caption.query_id,
                "text": caption.text,
                "role": role or caption.role,
            }
            for caption in chosen
        ]


@dataclass(frozen=True)
class Parts:
    """The captions of each part.

    Attributes:
        is_new: (N,) bool, which items are new.
        known: captions of old items to train on.
        held: captions of old items to measure with.
        index: index captions of new items.
        asked: queries of new items.
        replayed: those of `known` that fine-tuning repeats.
    """

    is_new: NDArray[np.bool_]
    known: list[Caption]
    held: list[Caption]
    index: list[Caption]
    asked: list[Caption]
    replayed: list[Caption]


def open_source(data: Path) -> Source:
    """Open and check a data set."""
    folder = data / "embeddings"
    source = folder if folder.is_dir() else data / "embeddings.npy"
    embeddings, items = open_embeddings(source), read_items(data / "items.jsonl")
    match_items(embeddings, items, source, data / "items.jsonl")
    path = data / "captions.jsonl"
    row_of = {item["item_id"]: row for row, item in enumerate(items)}
    captions = resolve(read_captions(path, items), row_of, [item.get("split") for item in items], str(path))
    return Source(embeddings, items, captions, path)


def divide(source: Source, new_split: str, old_queries: int, replay: float, seed: int) -> Parts:
    """Divide the captions among the parts.

    Args:
        new_split: the split whose items are new.
        old_queries: number of captions of old items to measure with.
        replay: old captions to repeat in fine-tuning, for each new caption.
        seed: seed of all draws.

    Raises:
        ValueError: the new items have no index captions or no queries, or the old items have no captions.
    """
    is_new = np.array([item.get("split") == new_split for item in source.items])
    draw = np.random.default_rng(seed)
    known = [caption for caption in source.captions if not is_new[caption.item_row] and caption.role != "query"]
    held = hold_out(known, old_queries, draw)
    gone = {caption.number for caption in held}
    known = [caption for caption in known if caption.number not in gone]
    index = [caption for caption in source.captions if is_new[caption.item_row] and caption.role == "index"]
    asked = [caption for caption in source.captions if is_new[caption.item_row] and caption.role == "query"]
    for what, found in (("index captions", index), ("queries", asked)):
        if not found:
            raise ValueError(
                f"{source.path}: the items of split {new_split} have no {what}; choose another --new-split"
            )
    if not known:
        raise ValueError(f"{source.path}: no captions of items outside split {new_split}; there is nothing to train on")
    chosen = np.sort(draw.permutation(len(known))[: round(replay * len(index))])
    return Parts(is_new, known, held, index, asked, [known[i] for i in chosen])


def write(output: Path, source: Source, parts: Parts, settings: dict[str, Any]) -> None:
    """Write the folder.

    Args:
        settings: content of ``split.json``.

    Raises:
        ValueError: the folder holds something else.
    """
    target = Output(output, KIND)
    target.refuse_foreign()
    # all old items are trained on, and all new items are measured
    items = [
        {**item, "split": "test" if new else "train"} for item, new in zip(source.items, parts.is_new, strict=True)
    ]
    members = {"old": ~parts.is_new, "new": parts.is_new, "all": np.ones_like(parts.is_new)}
    learned = {"old": parts.known, "new": parts.index, "all": [*parts.known, *parts.index]}
    with target.locked(), target.replacing() as folder:
        for name, chosen in members.items():
            (folder / name).mkdir()
            rows = np.flatnonzero(chosen)
            np.save(folder / name / "embeddings.npy", np.asarray(source.embeddings[rows]))
            write_jsonl(folder / name / "items.jsonl", (items[row] for row in rows.tolist()))
            write_jsonl(folder / name / "captions.jsonl", source.rows(learned[name]))
        # in the order of the bundle: the new items come after the old ones
        tuned, rows = folder / "fine-tune", np.argsort(parts.is_new, kind="stable")
        tuned.mkdir()
        np.save(tuned / "embeddings.npy", np.asarray(source.embeddings[rows]))
        write_jsonl(tuned / "items.jsonl", (items[row] for row in rows.tolist()))
        write_jsonl(tuned / "captions.jsonl", source.rows([*parts.index, *parts.replayed]))
        write_jsonl(folder / "queries.old.jsonl", source.rows(parts.held, "query"))
        write_jsonl(folder / "queries.new.jsonl", source.rows(parts.asked))
        write_json(folder / "split.json", settings)


def share(text: str) -> float:
    """A finite number of at least 0.

    >>> share("0.5")
    0.5
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python examples/changing_catalogue/split.py",
        description="Split a data set into old items and new items that join later.",
    )
    result.add_argument("data", type=Path, help="a folder with embeddings.npy, items.jsonl and captions.jsonl")
    result.add_argument("out", type=Path, help="the folder to write")
    result.add_argument(
        "--new-split", choices=("valid", "test"), default="valid", help="split of the new items (valid)"
    )
    result.add_argument("--old-queries", type=not_negative, default=1000, help="number of queries for old items (1000)")
    result.add_argument("--replay", type=share, default=5, help="old captions to replay for each new caption (5)")
    result.add_argument("--seed", type=not_negative, default=1, help="seed of all draws (1)")
    return result


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that decide the parts, as ``split.json`` records them."""
    return {name: value for name, value in vars(args).items() if name not in ("data", "out")}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command of the module's docstring."""
    args = parser().parse_args(argv)
    Output(args.out, KIND).refuse_foreign()
    source = open_source(args.data)
    parts = divide(source, args.new_split, args.old_queries, args.replay, args.seed)
    write(args.out, source, parts, settings_of(args))
    new = int(parts.is_new.sum())
    print(
        f"{len(source.items) - new:,} old items with {len(parts.known):,} captions and {len(parts.held):,} queries, "
        f"{new:,} new items with {len(parts.index):,} captions and {len(parts.asked):,} queries; "
        f"{len(parts.replayed):,} old captions to replay"
    )


if __name__ == "__main__":
    run_script(main)
