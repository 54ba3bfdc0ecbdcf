"""Prepare Flickr8k for its recipes from the published images and Karpathy's file."""

from pathlib import Path

from calls import check, make
from preparing import annotating, embedding
from settings import from_environment

from cart_fairseq.base.files import write_jsonl
from cart_fairseq.base.reading import read_jsonl
from preprocess.data.fields import MEASURED
from preprocess.data.inputs import read_items


def prepare(images: Path, karpathy: Path, out: Path) -> None:
    """Read the annotations, set the roles of captions and embed the images: ``out/data``.

    Raises:
        ValueError: flags of a command are wrong, or its input is.
    """
    settings = from_environment()
    encoder = settings.encoder or "imagebind"
    described, captions = out / "annotations", out / "captions-with-roles.jsonl"
    annotate = annotating(["karpathy", "--annotations", karpathy, "--media", images], described, settings)
    embed = embedding(described / "items.jsonl", captions, encoder, out / "data", settings)
    check({"1. annotations": annotate, f"2. embeddings: {encoder}": embed})
    make({"1. annotations": annotate})
    give_roles(described, captions)
    make({f"2. embeddings: {encoder}": embed})


def give_roles(described: Path, output: Path) -> None:
    """Write the captions with the role `index` for the first caption of each valid and test item.

    It replaces the caption that the paper generates. It is not a query.
    """
    split_of = {item["item_id"]: item["split"] for item in read_items(described / "items.jsonl")}
    rows, seen = read_jsonl(described / "captions.jsonl"), set()
    for row in rows:
        if split_of[row["item_id"]] in MEASURED and row["item_id"] not in seen:
            row["role"] = "index"
        seen.add(row["item_id"])
    write_jsonl(output, rows)
