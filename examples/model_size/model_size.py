"""Measure size, opening time and memory of MODEL folders, beside the same catalogue as CLIP vectors in faiss.

    python examples/model_size/model_size.py --work WORK --json FILE

The items are synthetic, and the weights those after one update: neither changes a size or a time of opening. Beyond the
sizes that are measured, sizes are computed: a straight line through the smallest and the largest measured catalogue.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
import torch
from faiss_files import INDEXES, mapping_flag, write_index, write_records
from made_catalogue import Sizes, bytes_by_part, item_records, make_identifiers, make_models, write_vectors
from opening import measured
from provenance import provenance

from cart_fairseq.base.files import write_json
from cart_fairseq.base.libraries import hide_broken_torchaudio
from cart_fairseq.base.processes import run_script

MEGABYTE = 1e6
PUBLISHED_TOWER = {
    "millions_of_parameters": 63.43,
    "source": "github.com/mlfoundations/open_clip, docs/model_profile.csv, ViT-B-32, text_mparams",
}
SYSTEMS = ("models", "indexes", "tower")
Systems = dict[str, dict[str, Any]]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="model_size.py", description=(__doc__ or "").split("\n\n")[0])
    result.add_argument("--work", type=Path, required=True, help="new folder for what is made; removed in the end")
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


def measure_models(systems: Systems, folder: Path, items: int, args: argparse.Namespace) -> None:
    """MODEL folders of a catalogue, without and with a dense head, in each precision."""
    sizes = Sizes(args.arch, args.codebook, args.vocabulary, args.dense_dim, min(args.captioned, items))
    make_identifiers(folder, items, sizes, args.seed)
    for dense in (False, True):
        for precision, model in make_models(folder, dense, sizes, args.seed).items():
            parts = bytes_by_part(model)
            name = f"MODEL {'with' if dense else 'without'} dense head, {precision}"
            opened = measured(args.repeats, "model", path=model)
            note(systems, name, items, sum(parts.values()), opened, parts=parts)
            shutil.rmtree(model)


def measure_indexes(systems: Systems, folder: Path, items: int, args: argparse.Namespace) -> None:
    """Indexes of faiss with the items' records, read and mapped."""
    records, path = folder / "records.parquet", folder / "index.faiss"
    write_records(records, list(item_records(items, args.seed)))
    vectors = np.load(folder / "embeddings.npy", mmap_mode="r", allow_pickle=False)
    for name in INDEXES:
        described = write_index(path, name, vectors, args.codes)
        parts = {"index": path.stat().st_size, "ids and records": records.stat().st_size}
        for way, flag in (("read", 0), ("mapped", mapping_flag(name))):
            opened = measured(args.repeats, "index", path=path, records=records, flag=flag)
            size = sum(parts.values())
            note(systems, f"{name}, {way}", items, size, opened, parts=parts, index=described)
        path.unlink()


def measure_text_tower(systems: Systems, folder: Path, sizes: Sequence[int], args: argparse.Namespace) -> None:
    """CLIP's text tower, in the shape of ViT-B/32 with random weights; it is the same at every number of items."""
    hide_broken_torchaudio()
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(args.seed)
    tower: Any = CLIPTextModelWithProjection(CLIPTextConfig(projection_dim=512))
    parameters = sum(each.numel() for each in tower.parameters())
    for name, dtype in (("float32", torch.float32), ("float16", torch.float16)):
        path = folder / f"text-tower.{name}"
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


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    sizes, computed = sorted(int(size) for size in args.items), [int(size) for size in args.computed]
    if args.repeats < 1 or sizes[0] < 1:
        raise ValueError(f"--repeats {args.repeats} and --items {sizes[0]} must be at least 1")
    if computed and len(sizes) < 2:
        raise ValueError("--computed needs two numbers of --items to compute from")
    if args.work.exists():
        raise ValueError(f"--work {args.work} is there; name a new folder, because it is removed in the end")
    systems: Systems = {}

    def save() -> None:
        add_computed(systems, computed)
        if args.json:
            record = provenance(vars(args), "json", "work", "seed")
            write_json(args.json, {**record, "seed": args.seed, "systems": systems})

    args.work.mkdir(parents=True)
    try:
        for items in sizes:
            folder = args.work / str(items)
            folder.mkdir()
            write_vectors(folder / "embeddings.npy", items, args.seed)
            for name, measure in (("models", measure_models), ("indexes", measure_indexes)):
                if name in args.systems:
                    measure(systems, folder, items, args)
                    save()
            shutil.rmtree(folder)
        if "tower" in args.systems:
            measure_text_tower(systems, args.work, sizes, args)
    finally:
        shutil.rmtree(args.work)
    save()
    print(table(systems))


if __name__ == "__main__":
    run_script(main)
