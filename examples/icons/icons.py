"""Lucide's icons: pictures with tags. Drawn from the published package, embedded without weights, searched by tags."""

import dataclasses
import importlib
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calls import step
from fairseq_calls import check_folder
from preparing import embedding
from reference import tfidf
from settings import from_environment
from steps import evaluate, train

from cart_fairseq.base.files import digest, replacing, sha256, write_json, write_jsonl
from cart_fairseq.base.progress import track
from cart_fairseq.base.reading import read_json
from cart_fairseq.measuring.labels import METRIC_LABELS

SIDE = 128
"""Pixels of a drawn icon's width and height."""
PAIRS = 5
"""Training captions of two words or tags, at most, for each icon."""
TAGS = 3
"""Tags of a query."""
MEASURED = ("test", "valid")
LENGTH_AND_SIZE = ("--max-epoch", "16", "--fusion", "none", "--decoder-layers", "4")
"""Of the recommended recipe, as on Flickr8k; its own schedule would take hours on two cores."""
SEED = 1


def prepare(package: Path, out: Path) -> None:
    """Draw the icons, write captions and embed the pictures: ``out/data``.

    Raises:
        ValueError: flags are wrong, the package is another one, or fairseq does not take the name of `out`.
    """
    check_folder(out)
    settings = from_environment()
    encoder = settings.encoder or "plain"
    described = out / "icons"
    embed = embedding(described / "items.jsonl", described / "captions.jsonl", encoder, out / "data", settings, "fail")
    embed.check()
    step("1. pictures and captions")
    draw_package(package, described)
    step(f"2. embeddings: {encoder}")
    embed.run()


def train_icons(out: Path, flags: Sequence[str]) -> None:
    """From ``out/data`` to a model, by the recommended recipe unless RECIPE says otherwise."""
    settings = from_environment()
    recipe = settings.recipe or "joined"
    own = LENGTH_AND_SIZE if recipe == "joined" else ()
    train(out / "data", out, [*own, *flags], dataclasses.replace(settings, recipe=recipe))


def evaluate_icons(out: Path) -> None:
    """The figures, and those of words alone on the same queries: ``out/reference.json``."""
    evaluate(out)
    step("5. TF-IDF on the same queries")
    found = {split: tfidf(out / "data", split) for split in MEASURED}
    write_json(out / "reference.json", found)
    for split, metrics in found.items():
        print(split, *(f"{METRIC_LABELS[name]} {metrics[name]:.1f}" for name in METRIC_LABELS), sep="  ")


def draw_package(package: Path, output: Path) -> None:
    """Write ``pictures/NAME.png``, ``items.jsonl`` and ``captions.jsonl``, unless they were made from the same files.

    Args:
        package: the folder of the unpacked package.

    Raises:
        ValueError: it is not this package, an icon cannot be drawn, the library that draws is not installed, or `output`
            holds something else.
    """
    tags = read_tags(package / "tags.json")
    files = {name: package / "icons" / f"{name}.svg" for name in tags}
    for name, file in files.items():
        if not file.is_file():
            raise ValueError(f"{file}: not there, but tags.json names {name!r}; unpack the package again")
    resvg = import_resvg()
    made_from = {
        "tags": sha256(package / "tags.json"),
        "icons": digest([sha256(file) for file in files.values()]),
        "settings": [SIDE, PAIRS, TAGS, SEED],
        "resvg": resvg.__resvg_version__,
    }
    record = output / "made_from.json"
    if output.exists() and not record.is_file():
        raise ValueError(f"{output}: holds something else, such as the package itself; choose another OUT")
    if record.is_file() and read_json(record) == made_from:
        print(f"{output}: up to date with this package, nothing to do")
        return
    captions = [caption for name, of_icon in tags.items() for caption in captions_of(name, of_icon)]
    queries = {split: sum(caption.get("split") == split for caption in captions) for split in MEASURED}
    for split, count in queries.items():
        if not count:
            raise ValueError(
                f"{package / 'tags.json'}: has no {split} query, as no icon has tags enough; give the whole package"
            )
    with replacing(output, directory=True) as new:
        (new / "pictures").mkdir()
        for name, file in track(list(files.items()), "drawing", "icons"):
            (new / "pictures" / f"{name}.png").write_bytes(draw(resvg, file))
        write_jsonl(new / "items.jsonl", [item(name) for name in tags])
        write_jsonl(new / "captions.jsonl", captions)
        write_json(new / "made_from.json", made_from)
    trained = len(captions) - sum(queries.values())
    print(f"{output}: {len(tags)} icons, {trained} captions to train on, queries: {queries}")


def import_resvg() -> Any:
    """The library that draws.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("resvg_py")
    except ImportError:
        raise ValueError(
            "drawing icons needs resvg_py; pip install 'cart-fairseq[icons]', or pip install resvg-py"
        ) from None


def read_tags(path: Path) -> dict[str, list[str]]:
    """Names of icons with their tags.

    Raises:
        ValueError: the file cannot be read, or is another one.
    """
    if not path.is_file():
        raise ValueError(f"{path}: not there; give the folder of the unpacked package lucide-static")
    found = read_json(path)
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path}: must be an object of icons and their tags; give the package lucide-static")
    for name, tags in found.items():
        if Path(name).name != name:
            raise ValueError(f"{path}: {name!r} must be the name of an icon, without '/'; download it again")
        if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
            raise ValueError(f"{path}, {name!r}: found {repr(tags)[:40]}, must be a list of tags; download it again")
    return found


def draw(resvg: Any, file: Path) -> bytes:
    """PNG of an icon, black on white.

    Raises:
        ValueError: it is no SVG.
    """
    try:
        return bytes(
            resvg.svg_to_bytes(
                svg_string=file.read_text(encoding="utf-8"),
                width=SIDE,
                height=SIDE,
                background="#ffffff",
                skip_system_fonts=True,
            )
        )
    except (ValueError, OSError) as error:
        raise ValueError(f"{file}: cannot be drawn ({error}); unpack the package again") from None


def item(name: str) -> dict[str, str]:
    """An icon. It has no split: it competes in every measured set."""
    return {"item_id": name, "modality": "image", "media": f"pictures/{name}.png"}


def captions_of(name: str, tags: Sequence[str]) -> list[dict[str, str]]:
    """Captions of an icon; the same on every machine.

    Trained on are its name, each tag, and up to five pairs of them. Queries are three tags that are trained on but not
    together: one for test and, where there are four tags or more, another for valid.

    >>> for caption in captions_of("bell-off", ["silent", "mute", "alarm"]):
    ...     print(caption["role"], caption["text"])
    train bell off
    train silent
    train mute
    train alarm
    train alarm bell off
    train bell off mute
    train alarm silent
    train silent mute
    train mute alarm
    query silent alarm mute
    """
    own = name.replace("-", " ")
    spaced = (" ".join(tag.split()) for tag in tags)
    texts = list(dict.fromkeys(tag for tag in spaced if tag.casefold() != own))
    chance = random.Random(f"{SEED} {name}")
    pairs = sample(chance, list(itertools.combinations([own, *texts], 2)), PAIRS)
    triples = sample(chance, list(itertools.combinations(texts, TAGS)), len(MEASURED))
    trained = [own, *texts, *(" ".join(pair) for pair in pairs)]
    captions = [{"item_id": name, "text": text, "role": "train"} for text in trained]
    for triple, split in zip(triples, MEASURED):
        captions.append({"item_id": name, "text": " ".join(triple), "role": "query", "split": split})
    return captions


def sample(chance: random.Random, groups: Sequence[tuple[str, ...]], count: int) -> list[tuple[str, ...]]:
    """So many of the groups, or all of them, each in an order by chance."""
    return [tuple(chance.sample(group, len(group))) for group in chance.sample(groups, min(count, len(groups)))]
