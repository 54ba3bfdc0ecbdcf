"""Caption enhancement (CART 3.3): `python -m preprocess.generate_captions --help`.

    --captioner blip | blip2 | image-text-to-text | whisper  [:NAME_OR_PATH]   a pretrained model of that family
    --captioner neighbours --embeddings E.npy                                  borrowed from near training items

From Python: `preprocess.api.generate_captions`. The result is the old captions, as they were, and the new ones, with
role `index` and the captioner as `source`. For items of other modalities, run the command again on the result with
another captioner. A run that is killed goes on from OUTPUT.partial/ when the command is repeated, with the same result.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script
from preprocess.captioners import families
from preprocess.captioners.settings import CaptionSettings
from preprocess.data.arguments import positive, settings_from
from preprocess.data.fields import ON_ERROR, SPLITS
from preprocess.encoders.settings import PRECISIONS


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("preprocess.generate_captions"),
        description=f"Write captions that stand in for the content of items.\n\n{families.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, default = result.add_argument, CaptionSettings(captioner="")
    add("--items", type=Path, required=True, help="items.jsonl; media are relative to it")
    add("--captions", type=Path, help="captions.jsonl of these items (default: they have none)")
    add("--captioner", required=True, metavar="FAMILY[:NAME_OR_PATH]", help=f"one of {', '.join(families.FAMILIES)}")
    add("--output", type=Path, required=True, help="captions.jsonl to write; OUTPUT with .report.json lies beside it")
    embeddings = (
        "embeddings of the items, row i for line i, or a join's folder; required by, and only valid with, --captioner "
        "neighbours"
    )
    add("--embeddings", type=Path, help=embeddings)
    neighbours = "neighbours: training items that an item borrows from (%(default)s)"
    add("--neighbours", type=positive, default=default.neighbours, metavar="K", help=neighbours)
    count = "at most so many new captions an item (%(default)s)"
    add("--captions-per-item", type=positive, default=default.captions_per_item, metavar="N", help=count)
    add("--temperature", type=float, default=default.temperature, help="of the draws (%(default)s)")
    mass = "tokens are drawn from this much of the mass (%(default)s)"
    add("--top-p", type=float, default=default.top_p, help=mass)
    longest = "longest caption, in tokens (%(default)s)"
    add("--max-new-tokens", type=positive, default=default.max_new_tokens, help=longest)
    prompt = "blip and blip2: how captions begin; whisper: the style; else the instruction (the family's default)"
    add("--prompt", default=default.prompt, help=prompt)
    frames = (
        "image-text-to-text: frames of a video in one message (%(default)s); other families see one frame a caption"
    )
    add("--frames", type=positive, default=default.frames, help=frames)
    add("--seed", type=int, default=default.seed, help="of the draws (%(default)s)")
    splits = "caption the items of these splits only (all items)"
    add("--splits", nargs="+", choices=SPLITS, default=default.splits, help=splits)
    batch = "items at a time (by family); less where memory is short"
    add("--batch-size", type=positive, default=default.batch_size, help=batch)
    add("--workers", type=positive, default=default.workers, help="threads that read media (%(default)s)")
    add("--device", default=default.device, help="auto (default: cuda where there is one), cpu, cuda or cuda:N")
    add("--precision", choices=PRECISIONS, default=default.precision, help="of the model (%(default)s)")
    on_error = "an item without readable media: fail (default), or skip: list it in the report and go on"
    add("--on-error", choices=ON_ERROR, default=default.on_error, help=on_error)
    within = "refuse items whose media lie outside of this folder, for lists of strangers (media may lie anywhere)"
    add("--media-within", type=Path, default=default.media_within, help=within)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parser().parse_args(argv)
    settings = settings_from(CaptionSettings, args)
    from preprocess.captioners.generate import generate_captions

    done = generate_captions(args.items, args.captions, args.output, settings, embeddings=args.embeddings)
    print(done.summary)


if __name__ == "__main__":
    run_script(main)
