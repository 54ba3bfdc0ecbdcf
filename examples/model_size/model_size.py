"""Measure size, opening time and memory of MODEL folders, beside the same catalogue as CLIP vectors in faiss.

    python examples/model_size/model_size.py --work WORK --json FILE

The items are synthetic, and the weights those after one update: neither changes a size or a time of opening. Beyond the
sizes that are measured, sizes are computed: a straight line through the smallest and the largest measured catalogue.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
import torch
from faiss_files import INDEXES, factory, mapping_flag, write_index, write_records
from made_catalogue import (
    Sizes,
    bytes_by_part,
    item_records,
    make_identifiers,
    make_models,
    model_folders,
    write_vectors,
)
from opening import measured
from provenance import provenance

from cart_fairseq.base.files import write_json
from cart_fairseq.base.libraries import hide_broken_torchaudio
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_json

MEGABYTE = 1e6
PUBLISHED_TOWER = {
    "millions_of_parameters": 63.43,
    "source": "github.com/mlfoundations/open_clip, docs/model_profile.csv, ViT-B-32, text_mparams",
}
RECORDS, MADE_FROM = "records.parquet", "made-from.json"
MADE_WITH = ("arch", "codebook", "vocabulary", "dense_dim", "captioned", "codes", "seed")
"""Settings on which the contents of WORK depend."""
SYSTEMS = ("plain", "dense", "indexes", "tower")
"""MODEL folders without and with a dense head, indexes of faiss, and CLIP's text tower."""
Systems = dict[str, dict[str, Any]]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="model_size.py", description=(__doc__ or "").split("\n\n")[0])
    result.add_argument("--work", type=Path, required=True, help="folder for what is made; it is used again")
    which = "what to measure (all)"
    result.add_argument("--systems", choices=SYSTEMS, nargs="+", default=[*SYSTEMS], help=which)
    items = "numbers of items (1e4 1e6)"
    result.add_argument("--items", type=float, nargs="+", default=[1e4, 1e6], help=items)
    computed = "numbers of items for which sizes are computed (1e8)"
    result.add_argument("--computed", type=float, nargs="*", default=[1e8], help=computed)
    result.add_argument("--repeats", type=int, default=5, help="times that each is opened (5)")
    result.add_argument("--arch", default="cart", help="architecture of the model (cart)")
    result.add_argument("--codebook", type=int, default=128, help="size of each level of an identifier (128)")
    result.add_argument("--vocabulary", type=int, default=10_000, help="pieces of the query vocabulary (10000)")
    result.add_argument("--dense-dim", type=int, default=512, help="width of the dense head (512)")
    result.add_argument("--captioned", type=int, default=8000, help="items with a caption (8000)")
    result.add_argument("--codes", type=int, default=64, help="bytes a vector of IVF-PQ (64)")
    result.add_argument("--seed", type=int, default=1, help="of all draws (1)")
    result.add_argument("--json", type=Path, help="also write the figures to this file")
    return result


def note(systems: Systems, name: str, items: int, size: int, opened: dict[str, Any], **more: Any) -> None:
    """Add what was measured of a system at one number of items."""
    system = systems.setdefault(name, {"bytes": {}, "opening": {}})
    system["bytes"][str(items)] = size
    system["opening"][str(items)] = {**opened, "memory_mb": opened["own_mb"] + opened["files_mb"]}
    for key, value in more.items():
        system.setdefault(key, {})[str(items)] = value


def make(folder: Path, items: int, args: argparse.Namespace) -> None:
    """Make what a catalogue's folder lacks of MODEL folders, and of indexes with the items' records."""
    sizes = Sizes(args.arch, args.codebook, args.vocabulary, args.dense_dim, min(args.captioned, items))
    folder.mkdir(exist_ok=True)
    write_vectors(folder / "embeddings.npy", items, args.seed)
    for dense in dense_or_not(args):
        if not all(path.is_dir() for path in model_folders(folder, dense).values()):
            make_identifiers(folder, items, sizes, args.seed)
            make_models(folder, dense, sizes, args.seed)
    if "indexes" in args.systems:
        if not (folder / RECORDS).is_file():
            write_records(folder / RECORDS, list(item_records(items, args.seed)))
        vectors = np.load(folder / "embeddings.npy", mmap_mode="r", allow_pickle=False)
        for name in INDEXES:
            write_index(index_file(folder, name), name, vectors, args.codes)


def dense_or_not(args: argparse.Namespace) -> list[bool]:
    """Whether the MODEL folders to measure have a dense head."""
    return [name == "dense" for name in ("plain", "dense") if name in args.systems]


def index_file(folder: Path, name: str) -> Path:
    """Where an index lies."""
    return folder / f"{name}.faiss"


def measure_models(systems: Systems, folder: Path, items: int, args: argparse.Namespace) -> None:
    """MODEL folders of a catalogue, in each precision."""
    for dense in dense_or_not(args):
        for precision, model in model_folders(folder, dense).items():
            parts = bytes_by_part(model)
            name = f"MODEL {'with' if dense else 'without'} dense head, {precision}"
            opened = measured(args.repeats, "model", path=model)
            note(systems, name, items, sum(parts.values()), opened, parts=parts)


def measure_indexes(systems: Systems, folder: Path, items: int, args: argparse.Namespace) -> None:
    """Indexes of faiss with the items' records, read and mapped."""
    records = folder / RECORDS
    for name in INDEXES:
        path = index_file(folder, name)
        parts = {"index": path.stat().st_size, "ids and records": records.stat().st_size}
        for way, flag in (("read", 0), ("mapped", mapping_flag(name))):
            opened = measured(args.repeats, "index", path=path, records=records, flag=flag)
            described = factory(name, items, args.codes)
            note(systems, f"{name}, {way}", items, sum(parts.values()), opened, parts=parts, index=described)


def measure_text_tower(systems: Systems, folder: Path, sizes: Sequence[int], args: argparse.Namespace) -> None:
    """CLIP's text tower, in the shape of ViT-B/32 with random weights; it is the same at every number of items."""
    hide_broken_torchaudio()
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(args.seed)
    tower: Any = CLIPTextModelWithProjection(CLIPTextConfig(projection_dim=512))
    parameters = sum(each.numel() for each in tower.parameters())
    for name, dtype in (("float32", torch.float32), ("float16", torch.float16)):
        path = folder / f"text-tower.{name}"
        if not path.is_dir():
            tower.to(dtype).save_pretrained(path)
        opened = measured(args.repeats, "text tower", path=path)
        for items in sizes:
            size = (path / "model.safetensors").stat().st_size
            note(systems, f"CLIP's text tower, {name}", items, size, opened)
        systems[f"CLIP's text tower, {name}"] |= {"parameters": parameters, "published": PUBLISHED_TOWER}


def line(points: dict[int, int], at: int) -> float:
    """The value at a place on the straight line through the first and the last of some points.

    >>> line({10: 120, 20: 220}, 1000)
    10020.0
    """
    (first, low), (last, high) = min(points.items()), max(points.items())
    return low + (high - low) / (last - first) * (at - first)


def add_computed(systems: Systems, computed: Sequence[int]) -> None:
    """Add sizes in megabytes: measured ones, and computed ones, see `line`; and bytes an item."""
    for system in systems.values():
        points = {int(items): size for items, size in system["bytes"].items()}
        system["megabytes"] = {str(items): size / MEGABYTE for items, size in points.items()}
        system["computed_gigabytes"] = {}
        if len(points) > 1:
            system["bytes_per_item"] = line(points, 1) - line(points, 0)
            system["computed_gigabytes"] = {str(items): line(points, items) / 1e9 for items in computed}


def table(systems: Systems) -> str:
    """The figures in Markdown: a line for each system."""
    some = next(iter(systems.values()))
    measured_at, computed_at = [*some["bytes"]], [*some["computed_gigabytes"]]
    head = [f"MB at {int(n):,}" for n in measured_at] + [f"GB at {int(n):,} (computed)" for n in computed_at]
    head += [f"open at {int(n):,}, s" for n in measured_at] + [f"first answer at {int(n):,}, s" for n in measured_at]
    head += [f"memory at {int(n):,}, MB" for n in measured_at]
    lines = [f"| system | {' | '.join(head)} |", "|" + " --- |" * (len(head) + 1)]
    for name, system in systems.items():
        cells = [f"{system['megabytes'][n]:,.1f}" for n in measured_at]
        cells += [f"{system['computed_gigabytes'][n]:,.1f}" for n in computed_at]
        for key, form in (("open_processor", ".2f"), ("answer_processor", ".2f"), ("memory_mb", ",.0f")):
            cells += [f"{system['opening'][n][key]:{form}}" for n in measured_at]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def check_work(args: argparse.Namespace) -> None:
    """Refuse a folder of other settings.

    Raises:
        ValueError: what is there was made with others.
    """
    made = {name: getattr(args, name) for name in MADE_WITH}
    if (args.work / MADE_FROM).is_file() and read_json(args.work / MADE_FROM) != made:
        raise ValueError(f"{args.work}: was made with other settings; choose another --work")
    write_json(args.work / MADE_FROM, made)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    sizes, computed = sorted(int(size) for size in args.items), [int(size) for size in args.computed]
    if args.repeats < 1 or sizes[0] < 1:
        raise ValueError(f"--repeats {args.repeats} and --items {sizes[0]} must be at least 1")
    if computed and len(sizes) < 2:
        raise ValueError("--computed needs two numbers of --items to compute from")
    args.work.mkdir(parents=True, exist_ok=True)
    check_work(args)
    systems: Systems = {}
    for items in sizes:
        make(args.work / str(items), items, args)
    for items in sizes:
        measure_models(systems, args.work / str(items), items, args)
        if "indexes" in args.systems:
            measure_indexes(systems, args.work / str(items), items, args)
    if "tower" in args.systems:
        measure_text_tower(systems, args.work, sizes, args)
    add_computed(systems, computed)
    print(table(systems))
    if args.json:
        record = provenance(vars(args), "json", "work")
        write_json(args.json, {**record, "systems": systems})


if __name__ == "__main__":
    run_script(main)
