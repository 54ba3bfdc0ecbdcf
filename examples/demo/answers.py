"""Ask the demo's catalogue in every way that a query can be, and draw the answers: a picture and a record for the guide.

    answers.py DEMO --output FOLDER --json FILE [--items A B]

DEMO is OUT of ``examples/demo/run.sh``. The answers are pictures; sounds and clips do not compete. FOLDER receives one
image a question: the picture of the query in a frame, if it has one, and the five best items. FILE receives all scores and
probabilities. The questions include some that are answered wrong.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path += [str(Path(__file__).resolve().parents[1] / "recipes"), str(Path(__file__).resolve().parent)]

import numpy as np
import pictures
from numpy.typing import NDArray
from picture_words import Scene, Thing
from PIL import Image
from provenance import provenance

from cart_fairseq.base.files import replacing, write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_json
from cart_fairseq.queries.query import Query
from cart_fairseq.retriever import CartRetriever

ITEMS = ("scene-0100", "scene-0300")
NEW = Scene(Thing("large", "purple", "heart"), Thing("small", "orange", "star"), "above", "turquoise")
"""A picture of no item."""
SHOWN, SIDE, GAP = 5, 96, 6


class Question(NamedTuple):
    """A query, and the name of the image that shows what was found."""

    name: str
    query: Query
    media: tuple[Path, ...] = ()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="answers.py", description=(__doc__ or "").split("\n\n")[0])
    result.add_argument("demo", type=Path, help="OUT of examples/demo/run.sh")
    result.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the images")
    result.add_argument("--json", type=Path, metavar="FILE", help="for scores and probabilities")
    items = "two pictures to ask with (%(default)s)"
    result.add_argument("--items", nargs=2, default=ITEMS, metavar="ITEM_ID", help=items)
    return result


def questions(items: Sequence[str], media: Sequence[Path], drawn: Path, between: NDArray[np.float32]) -> list[Question]:
    """The questions.

    Args:
        items: ids of two items.
        media: their pictures.
        drawn: a picture of no item.
        between: (E,) the mean of the two items' embeddings.
    """
    first, second = items
    return [
        Question("text", Query(text="a large orange cross around a small blue cross, the background is beige")),
        Question("part", Query(text="an orange cross")),
        Question("item", Query(item_id=first), (media[0],)),
        Question("media", Query(media=drawn), (drawn,)),
        Question("embedding", Query(embedding=between), (*media,)),
        Question("unlike", Query(item_id=first, text="a red star", weights={"text": -0.5}), (media[0],)),
        Question("and", Query(item_id=second, text="green", weights={"text": 2}), (media[1],)),
        Question("without", Query(text=["a blue cross", "an orange cross"], weights={"text": [1, -0.5]})),
        Question("typing", Query(text="a lrage ornge cros aruond a smal blue cross")),
        Question("nothing", Query(text="a dog on a beach")),
    ]


def mean_embedding(retriever: CartRetriever, items: Sequence[str]) -> NDArray[np.float32]:
    """The mean of items' embeddings from before any join, each of length 1: (E,)."""
    dense = retriever.data.dense_items
    assert dense is not None
    rows = np.array([retriever.data.bundle.row_of[item_id] for item_id in items])
    mean: NDArray[np.float32] = dense.originals(rows).numpy().mean(axis=0)
    return mean


def row_of(question: Sequence[Path], answers: Sequence[Path]) -> Image.Image:
    """The media of a query, if it has some, in a frame, and the pictures that it found, side by side."""
    shown = [*question, *answers]
    row = Image.new("RGB", (len(shown) * (SIDE + GAP) + GAP, SIDE + 2 * GAP), "white")
    for place, path in enumerate(shown):
        left = GAP + place * (SIDE + GAP)
        if place < len(question):
            row.paste("black", (left - GAP // 2, GAP // 2, left + SIDE + GAP // 2, SIDE + GAP + GAP // 2))
        with Image.open(path) as picture:
            row.paste(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, GAP))
    return row


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    joint = args.demo / "all"
    retriever = CartRetriever.from_pretrained(joint / "checkpoints" / "checkpoint_best.pt", joint / "data-bin")
    records = {item_id: retriever.data.bundle.record(row) for item_id, row in retriever.data.bundle.row_of.items()}
    missing = [item_id for item_id in args.items if item_id not in records]
    if missing:
        raise ValueError(f"--items: {joint} has no item {missing[0]!r}; name two pictures of the demo")
    args.output.mkdir(parents=True, exist_ok=True)
    drawn = args.output / "drawn.png"
    pictures.render(NEW, np.random.default_rng(1)).save(drawn)
    media = [args.demo / records[item_id]["media"] for item_id in args.items]
    compete = [item_id for item_id, record in records.items() if record["modality"] == "image"]
    asked = questions(args.items, media, drawn, mean_embedding(retriever, args.items))
    answers: dict[str, Any] = {}
    for question, hits in zip(
        asked, retriever.search([each.query for each in asked], SHOWN, candidates=compete), strict=True
    ):
        row = row_of(question.media, [args.demo / hit.record["media"] for hit in hits])
        with replacing(args.output / f"{question.name}.png") as new:
            row.quantize(64).save(new, format="PNG", optimize=True)
        answers[question.name] = [
            {
                "item_id": hit.item_id,
                "caption": hit.record["caption"],
                "score": round(hit.score, 2),
                "probability": None if hit.probability is None else round(hit.probability, 4),
            }
            for hit in hits
        ]
        best = answers[question.name][0]
        print(f"{question.name}: {best['item_id']}, {best['caption']} (probability {best['probability']})")
    drawn.unlink()
    if args.json:
        seed = read_json(args.demo / "pictures" / "data" / "world.json")["seed"]
        write_json(args.json, {**provenance(vars(args), "demo", "output", "json"), "seed": seed, "answers": answers})


if __name__ == "__main__":
    run_script(main)
