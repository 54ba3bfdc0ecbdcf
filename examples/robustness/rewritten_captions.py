"""Add training captions as people type queries, so that a recipe trains on both.

    rewritten_captions.py DATA OUT [--share 0.25] [--seed 1]

DATA holds embeddings.npy, items.jsonl and captions.jsonl. OUT receives the same, and a share of the training captions once
more, each rewritten by one of four rules: words are left out at random, a stretch of words stays, words are turned about
one place, or letters are wrong. They are other rules than those that measure (:mod:`styles`), so that the measurement
shows what carries over.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from cart_fairseq.base.files import write_jsonl
from cart_fairseq.base.processes import run_script
from cart_fairseq.base.reading import read_jsonl

Rule = Callable[[str, random.Random], str]
SHARE_LEFT_OUT, SHARE_WRONG = 0.35, 0.08


def words_left_out(text: str, rng: random.Random) -> str:
    """Each word is left out with a chance of a third, but never all.

    >>> words_left_out("a dog runs on a wide beach", random.Random(4))
    'runs wide beach'
    """
    words = text.split()
    kept = [word for word in words if rng.random() >= SHARE_LEFT_OUT]
    return " ".join(kept or [rng.choice(words)])


def stretch(text: str, rng: random.Random) -> str:
    """From a third to four fifths of the words, beginning anywhere.

    >>> stretch("a dog runs on a wide beach", random.Random(5))
    'runs on a wide'
    """
    words = text.split()
    length = max(1, round(len(words) * rng.uniform(1 / 3, 4 / 5)))
    start = rng.randrange(len(words) - length + 1)
    return " ".join(words[start : start + length])


def turned(text: str, rng: random.Random) -> str:
    """The end of the words comes first.

    >>> turned("a dog runs on a wide beach", random.Random(1))
    'runs on a wide beach a dog'
    """
    words = text.split()
    place = rng.randrange(1, len(words)) if len(words) > 1 else 0
    return " ".join(words[place:] + words[:place])


def wrong_letters(text: str, rng: random.Random) -> str:
    """Of every twelve letters or so one is any letter, or a space is missing.

    >>> wrong_letters("a dog runs on a wide beach", random.Random(1))
    'a dog runm oo a wiue beahh'
    """
    result = ""
    for letter in text:
        wrong = rng.random() < SHARE_WRONG
        if wrong and letter.isalpha():
            result += rng.choice(ascii_lowercase)
        elif not (wrong and letter == " "):
            result += letter
    return result


RULES: tuple[Rule, ...] = (words_left_out, stretch, turned, wrong_letters)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="rewritten_captions.py", description=(__doc__ or "").split("\n\n")[0])
    result.add_argument("data", type=Path, help="embeddings.npy, items.jsonl and captions.jsonl")
    result.add_argument("out", type=Path, help="folder for the same files with more captions")
    result.add_argument("--share", type=float, default=0.25, help="of the training captions (default: %(default)s)")
    result.add_argument("--seed", type=int, default=1, help="of the choice and of the rules (default: %(default)s)")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parser().parse_args(argv)
    if not 0 < args.share <= 1:
        raise ValueError(f"--share {args.share}: must be above 0 and at most 1")
    captions = read_jsonl(args.data / "captions.jsonl")
    own = [caption for caption in captions if caption.get("role", "train") == "train" and caption["text"].split()]
    count = round(args.share * len(own))
    if not count:
        raise ValueError(
            f"{args.data / 'captions.jsonl'}: {len(own)} training captions; give more, or a larger --share"
        )
    rng = random.Random(args.seed)
    chosen = [own[place] for place in np.random.default_rng(args.seed).permutation(len(own))[:count]]
    added = [
        {"item_id": caption["item_id"], "text": rng.choice(RULES)(caption["text"], rng), "role": "train"}
        for caption in chosen
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("embeddings.npy", "items.jsonl"):
        (args.out / name).unlink(missing_ok=True)
        (args.out / name).symlink_to((args.data / name).resolve(strict=True))
    write_jsonl(args.out / "captions.jsonl", [*captions, *added])
    print(f"{args.out}: {len(captions):,} captions and {len(added):,} rewritten training captions")


if __name__ == "__main__":
    run_script(main)
