"""Embed media, or texts: `python -m preprocess.extract_embeddings --help`.

From Python: `preprocess.api.extract_embeddings` and `extract_text_embeddings`. A run that is killed goes on from
`OUTPUT.partial/` when the command is repeated. If OUTPUT was made from the same files and settings, the command does
nothing.

Weights come from a folder or the hub. Without network, give a folder (`clip:/models/clip-vit-base-patch32`), or set
HF_HUB_OFFLINE=1 to use what was downloaded before (HF_HOME says where that is).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cart_fairseq.base.calls import program
from cart_fairseq.base.processes import run_script
from preprocess.data.arguments import not_negative, positive, settings_from
from preprocess.data.fields import MODALITIES, ON_ERROR
from preprocess.encoders.settings import DTYPES, FAMILIES, PRECISIONS, EmbeddingSettings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("preprocess.extract_embeddings"),
        description="Embed the media of items, or texts, with an encoder.",
        epilog="Weights come from a folder or the hub. Without network give a folder, or set HF_HUB_OFFLINE=1 to use what "
        "was downloaded before.",
    )
    add, default = result.add_argument, EmbeddingSettings(encoder="")
    what = result.add_mutually_exclusive_group(required=True)
    items = (
        "items.jsonl whose media, relative to it, are embedded; or a folder of media, or of a data set in tar, Parquet or "
        "Arrow files, or one such file, as preprocess.read_folder takes them: its lists go to OUTPUT.lists"
    )
    what.add_argument("--items", type=Path, help=items)
    what.add_argument("--texts", type=Path, help="captions.jsonl whose texts are embedded instead, one row a line")
    names = "FAMILY or FAMILY:NAME_OR_PATH, of the families " + ", ".join(FAMILIES)
    names += "; NAME is one on the hub, PATH a local folder; also openclip:MODEL@TAG_OR_FILE, imagebind:WEIGHTS.pth; plain needs no weights"
    add("--encoder", required=True, help=names)
    add("--output", type=Path, required=True, help="folder of embeddings.npy and its lists; with --texts a .npy file")
    add("--captions", type=Path, help="captions.jsonl of the items; those of the items kept are written too")
    modality = "of items that name none (image, audio, video); with --texts: of the media that the texts are to find"
    add("--modality", choices=MODALITIES, default=default.modality, help=modality)
    frames = "frames of a video, evenly spaced (the encoder's own number, else 12)"
    add("--frames", type=positive, default=default.frames, help=frames)
    batch = "items or texts through the encoder at a time (%(default)s)"
    add("--batch-size", type=positive, default=default.batch_size, help=batch)
    workers = "processes that read media, a batch each; 0: none (%(default)s)"
    add("--workers", type=not_negative, default=default.workers, help=workers)
    add("--device", default=default.device, help="auto (default: cuda where there is one), cpu, cuda, cuda:1 …")
    precision = "of the encoder's products, by autocast (%(default)s)"
    add("--precision", choices=PRECISIONS, default=default.precision, help=precision)
    on_error = (
        "media that cannot be read: fail (default), or skip: list them in skipped.jsonl and go on without the item"
    )
    add("--on-error", choices=ON_ERROR, default=default.on_error, help=on_error)
    within = "refuse items whose media lie outside of this folder, for lists of strangers (media may lie anywhere)"
    add("--media-within", type=Path, default=default.media_within, help=within)
    add("--dtype", choices=DTYPES, default=default.dtype, help="of embeddings.npy (%(default)s)")
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    command = parser()
    args = command.parse_args(argv)
    if args.texts and args.captions:
        command.error("argument --captions: goes with --items; with --texts all texts are embedded")
    settings = settings_from(EmbeddingSettings, args)
    from preprocess.encoders.extract import extract_embeddings, extract_text_embeddings

    if args.texts:
        print(extract_text_embeddings(args.texts, args.output, settings).summary)
    else:
        print(extract_embeddings(args.items, args.output, settings, captions=args.captions).summary)


if __name__ == "__main__":
    run_script(main)
