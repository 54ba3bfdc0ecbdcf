"""The demo's page: pictures, sounds and clips in one catalogue, which one model searches by text and by example."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from calls import Call, make
from preparing import embedding, write_data
from serving import offer
from settings import Settings
from steps import Run, evaluate, train

from cart_fairseq.base.files import write_jsonl
from cart_fairseq.base.reading import read_jsonl

FOLDER = "all"
EPOCHS = 3


def run_of(out: Path, model: Sequence[str], flags: Sequence[str], settings: Settings) -> Run:
    """The run of all kinds together: the recommended recipe, with the demo's small model; the user's flags win."""
    own = dataclasses.replace(settings, recipe="joined")
    schedule = ("--fusion", "none", "--max-epoch", str(EPOCHS))
    return Run(out / FOLDER / "data", out / FOLDER, [*model, *schedule, *flags], own)


def embedding_of(planned: Run) -> Call:
    """The call that embeds the media of all kinds."""
    lists, embedded = planned.out / "lists", planned.out / "embeddings"
    return embedding(lists / "items.jsonl", lists / "captions.jsonl", "plain", embedded, planned.settings, "fail")


def make_page(out: Path, kinds: Sequence[str], planned: Run) -> None:
    """Embed the media of all kinds with the encoder ``plain``, and train one model on their training captions."""
    if not (planned.data / "captions.jsonl").is_file():
        lists = planned.out / "lists"
        lists.mkdir(parents=True, exist_ok=True)
        write_lists(out, kinds, lists)
        embedded = planned.out / "embeddings"
        make({"6. all kinds in one catalogue: embeddings": embedding_of(planned)})
        write_data(embedded, embedded / "captions.jsonl", planned.data, out)
    train(*planned)
    evaluate(planned.out)


def write_lists(out: Path, kinds: Sequence[str], lists: Path) -> None:
    """Write the items of all kinds with their training captions. Captions of measured queries are left out."""
    items, captions = [], []
    for kind in kinds:
        data = out / kind / "data"
        for row in read_jsonl(data / "items.jsonl"):
            items.append({**row, "media": f"../../{kind}/data/{row['media']}", "kind": kind})
        for row in read_jsonl(data / "captions.jsonl"):
            if row["role"] == "train":
                captions.append({name: row[name] for name in ("item_id", "caption_id", "text")})
    write_jsonl(lists / "items.jsonl", items)
    write_jsonl(lists / "captions.jsonl", captions)


def show(out: Path) -> None:
    """Serve the page, or say how to; nothing where the kinds were not put together."""
    if (out / FOLDER / "metrics.json").is_file():
        offer(out / FOLDER, out)
