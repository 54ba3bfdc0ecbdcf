"""Pictures that cost a browser what photographs cost, for items whose photographs are not at hand.

    python examples/serving/page_pictures.py --items items.jsonl --output media

Writes `media/N.jpg`, of noise over soft colours, and `media/items.jsonl`: the same items in the same order, each with a
picture, under the id `pictured ID`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cart_fairseq.base.files import replacing, write_jsonl
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.progress import track
from cart_fairseq.base.reading import read_jsonl

WIDTH, HEIGHT, QUALITY = 500, 375, 95
GRAIN = 24.0
"""Standard deviation of the noise, of 255: with it a file is as large as a photograph of this size, about 130 KB."""


def picture(number: int) -> Image.Image:
    """A picture, which differs from others."""
    draw = np.random.default_rng(number)
    small = Image.fromarray(draw.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    soft = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)
    grain = draw.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32) * GRAIN
    return Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8))


def write_pictures(items: Path, output: Path) -> None:
    """Write a picture for each item, and the items.

    Raises:
        ValueError: the items cannot be read.
    """
    records = read_jsonl(items)
    with replacing(output, directory=True) as new:
        for number in track(range(len(records)), "pictures", "pictures"):
            picture(number).save(new / f"{number}.jpg", quality=QUALITY)
        named = (
            {**record, "item_id": f"pictured {record['item_id']}", "media": f"{number}.jpg"}
            for number, record in enumerate(records)
        )
        write_jsonl(new / "items.jsonl", named)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="Pictures for items whose photographs are not at hand.")
    made.add_argument("--items", type=Path, required=True, metavar="FILE", help="items.jsonl of the catalogue")
    made.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder of the pictures")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Write them; see the module's docstring."""
    args = parser().parse_args(argv)
    write_pictures(args.items, args.output)


if __name__ == "__main__":
    run_script(main)
