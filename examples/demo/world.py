"""Generate a small data set of pictures, sounds or clips with descriptions (step 1 of `make demo`).

    python examples/demo/world.py KIND OUT [--items N] [--seed 1]

KIND is pictures, sounds or clips. The script writes `media/`, `embeddings.npy` (principal components of simple
features), `items.jsonl` and `captions.jsonl` to OUT, in the formats of any data set, and `world.json`, the arguments. Items have no split: all are
candidates of every query, and all are trained on. The phrasings of the queries are held out (`words.py`).
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clip_words
import clips
import numpy as np
import picture_words
import pictures
import sound_words
import sounds
from sklearn.decomposition import PCA
from words import Phrasing, captions

from cart_fairseq.base.files import write_json, write_jsonl
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.progress import track
from cart_fairseq.base.reading import read_json
from preprocess.data.output import Kind as OutputKind
from preprocess.data.output import Made, Output


@dataclass(frozen=True)
class Kind:
    """One kind of item.

    Attributes:
        modality: modality in items.jsonl.
        prefix: prefix of item ids.
        suffix: suffix of media files.
        items: default number of items.
        captions: training captions per item.
        queries: numbers of valid and of test queries, at most one of each per item.
        draw: number, seed -> distinct scenes.
        save: scene, path, generator -> features (F,) float32. It writes the media file.
        train, valid, test: phrasings of the captions of each subset.
    """

    modality: str
    prefix: str
    suffix: str
    items: int
    captions: int
    queries: tuple[int, int]
    draw: Callable[[int, int], Sequence[Any]]
    save: Callable[[Any, Path, np.random.Generator], np.ndarray]
    train: tuple[Phrasing, ...]
    valid: tuple[Phrasing, ...]
    test: tuple[Phrasing, ...]


KINDS = {
    "pictures": Kind(
        modality="image",
        prefix="scene",
        suffix=".png",
        items=1200,
        captions=6,
        queries=(200, 600),
        draw=pictures.draw_scenes,
        save=pictures.save,
        train=picture_words.TRAIN,
        valid=picture_words.VALID,
        test=picture_words.TEST,
    ),
    "sounds": Kind(
        modality="audio",
        prefix="sound",
        suffix=".wav",
        items=400,
        captions=16,
        queries=(100, 300),
        draw=sounds.draw_scenes,
        save=sounds.save,
        train=sound_words.TRAIN,
        valid=sound_words.VALID,
        test=sound_words.TEST,
    ),
    "clips": Kind(
        modality="video",
        prefix="clip",
        suffix=".webp",
        items=400,
        captions=6,
        queries=(100, 300),
        draw=clips.draw_scenes,
        save=clips.save,
        train=clip_words.TRAIN,
        valid=clip_words.VALID,
        test=clip_words.TEST,
    ),
}

WORLD = OutputKind(
    "data set of this script",
    read=lambda path: Made(read_json(path / "world.json")),
    record=lambda path: path / "world.json",
    names=("media", "embeddings.npy", "items.jsonl", "captions.jsonl", "world.json"),
    argument="OUT",
)


def embed(features: np.ndarray, components: int = 192, seed: int = 0) -> np.ndarray:
    """Compute principal components of features, (N, F) float32.

    Returns:
        (N, components) float32, with fewer components if N or F is smaller.
    """
    pca = PCA(min(components, *features.shape), svd_solver="randomized", random_state=seed)
    return pca.fit_transform(features).astype(np.float32)


def make_world(name: str, output: str | Path, items: int, seed: int) -> None:
    """Write media, embeddings, items and captions into a folder, atomically.

    Raises:
        ValueError: there are not so many distinct items, or the folder holds something else.
    """
    target = Output(output, WORLD)
    target.refuse_foreign()
    kind = KINDS[name]
    generator = np.random.default_rng((seed, 1))
    scenes = kind.draw(items, seed)
    names = [f"{kind.prefix}-{row:04d}" for row in range(items)]
    rows, features = [], []
    measured = generator.permutation(items)
    valid, test = set(measured[: kind.queries[0]].tolist()), set(measured[-kind.queries[1] :].tolist())
    with target.locked(), target.replacing() as new:
        (new / "media").mkdir()
        for row, (item, scene) in enumerate(zip(names, track(scenes, name, "items"), strict=True)):
            features.append(kind.save(scene, new / "media" / f"{item}{kind.suffix}", generator))
            texts = [(text, "train", "train") for text in captions(scene, kind.train, kind.captions, generator)]
            if row in valid:
                texts += [(text, "query", "valid") for text in captions(scene, kind.valid, 1, generator)]
            if row in test:
                texts += [(text, "query", "test") for text in captions(scene, kind.test, 1, generator)]
            for number, (text, role, split) in enumerate(texts):
                caption_id = f"{item}#{number}"
                rows.append({"item_id": item, "caption_id": caption_id, "text": text, "role": role, "split": split})
        np.save(new / "embeddings.npy", embed(np.stack(features), seed=seed), allow_pickle=False)
        media = [{"item_id": n, "modality": kind.modality, "media": f"media/{n}{kind.suffix}"} for n in names]
        write_jsonl(new / "items.jsonl", media)
        write_jsonl(new / "captions.jsonl", rows)
        write_json(new / "world.json", {"kind": name, "items": items, "seed": seed})
    counts = {split: sum(row["split"] == split for row in rows) for split in ("train", "valid", "test")}
    print(
        f"{items:,} {name} in {output}, {counts['train']:,} training captions, "
        f"{counts['valid']:,} valid and {counts['test']:,} test queries in other phrasings"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and write the data set."""
    parser = argparse.ArgumentParser(description="Generate the demo's pictures, sounds or clips, with descriptions.")
    parser.add_argument("kind", choices=list(KINDS), help="kind of media")
    parser.add_argument("output", help="folder to write; one that this script wrote is replaced")
    default = ", ".join(f"{kind.items} {name}" for name, kind in KINDS.items())
    parser.add_argument("--items", type=int, help=f"number of items (default: {default})")
    parser.add_argument("--seed", type=int, default=1, help="seed of the data set (default: 1)")
    args = parser.parse_args(argv)
    items = KINDS[args.kind].items if args.items is None else args.items
    if items < 1:
        parser.error(f"--items is {items}; make at least 1")
    make_world(args.kind, args.output, items, args.seed)


if __name__ == "__main__":
    run_script(main)
