"""Prepare Flickr8k for its recipes from the published images and Karpathy's file."""

from pathlib import Path

from settings import from_environment
from steps import call, step

import preprocess.annotations.__main__ as annotations
from cart_fairseq.files import read_jsonl, write_jsonl
from preprocess import extract_embeddings
from preprocess.data.fields import MEASURED
from preprocess.data.inputs import read_items


def prepare(images: Path, karpathy: Path, out: Path) -> None:
    """Read the annotations, set the roles of captions and embed the images: ``out/data``."""
    settings = from_environment()
    encoder = settings.encoder or "imagebind"
    step("1. annotations")
    described = out / "annotations"
    flags = ["--annotations", karpathy, "--media", images, "--output", described]
    call(annotations.main, "karpathy", *flags, *settings.annotation_flags)
    captions = out / "captions-with-roles.jsonl"
    give_roles(described, captions)

    step(f"2. embeddings: {encoder}")
    flags = ["--items", described / "items.jsonl", "--captions", captions, "--encoder", encoder]
    flags += ["--output", out / "data", "--on-error", "skip"]
    call(extract_embeddings.main, *flags, *settings.embedding_flags)


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
