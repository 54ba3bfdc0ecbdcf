"""Join item embeddings with what captions say: `python -m preprocess.join_captions --help`.

Identifiers built from weak embeddings carry little that a query could name. A joined row has two parts in one space,
that of text features: the embedding mapped there by ridge regression, and the mean of the item's captions. Identifiers
(`build_identifiers --embeddings JOINED/embeddings.npy`) and dense scores are made from it. `--keep-embedding` adds the
embedding itself, each dimension standardised: little is gained where captions speak for every item, much where embeddings
alone do, for the mapped part holds only what a linear map finds. `--align` turns joined rows until
captions find them (`preprocess.join.alignment`): `aligned.npy`, for identifiers alone.

Text features are latent semantic analysis, fitted on the captions, or a sentence encoder's. An item's are the mean of its
captions' at length 1, less the mean over all items that have one, at length 1 again. The regression goes from whitened
principal components of the embeddings to them, and is fitted on training items; its centred predictions have length 1.
An item without captions has the mapped embedding in both parts: zeros would gather such items in clusters of their own,
by what is missing rather than by what they are.

Only captions that may be trained on (`preprocess.data.roles`) have any influence: never `query` captions, no index captions of
valid and test items under `--index-captions exclude`, and none that `preprocess.binarize` with the same `--seed` and
`--valid-size` holds out where there are no valid queries.

`JOINED` receives `embeddings.npy`, (N, 2T) float16, or (N, 2T + D); `captions.npy`, (C, T) float16, a row for each line of captions.jsonl,
centred like the items' and zero where a caption may not be used; `join.json`; `join.safetensors` and, of lsa,
`vocabulary.json`: the fitted parts, which `--like JOINED` applies to other items. A run that is killed goes on from
`JOINED.partial/`; one whose output is there, from the same inputs and settings, does nothing.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cart_fairseq.files import digest, replacing, run_script, sha256
from cart_fairseq.progress import Progress
from preprocess.data import joined_folder
from preprocess.data.arguments import positive
from preprocess.data.embeddings import COLUMN, Embeddings, blocks, check_embeddings, open_embeddings
from preprocess.data.fields import MEASURED
from preprocess.data.inputs import ItemsFile, match_items, read_captions
from preprocess.data.roles import Caption, assign, hold_out, resolve
from preprocess.data.row_store import RowStore
from preprocess.data.working_folder import remove, remove_leftovers, working_folder
from preprocess.encoders.loading import weights_stamp
from preprocess.identifiers.settings import BLOCK_ROWS, FIT_ROWS
from preprocess.join.alignment import Alignment
from preprocess.join.fitting import (
    COMPONENTS,
    Features,
    Parts,
    fit_alignment,
    fit_features,
    fit_kept,
    fit_map,
    restore_features,
)
from preprocess.join.standardise import Standardised
from preprocess.join.text_features import LSA, encoder_spec
from preprocess.join.text_space import ItemTexts, TextMap, centred

DEFAULTS: dict[str, Any] = {
    "text_features": LSA,
    "text_dim": None,
    "ridge": 10.0,
    "pca": None,
    "keep_embedding": False,
    "align": 0,
    "train_sample": FIT_ROWS,
    "valid_size": None,
    "seed": 1,
}
"""Of the options that belong to the fitted parts, which `--like` takes from an earlier join."""


def strength(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.join_captions",
        description="Join item embeddings with features of the captions that may be trained on.",
    )
    add = parser.add_argument
    formats = "(N, D) float16/float32: a .npy, Parquet or Arrow file, or a folder of shards of one kind"
    add("--embeddings", type=Path, required=True, help=formats)
    add("--embedding-column", default=COLUMN, help=f"column of Parquet and Arrow tables ({COLUMN})")
    add("--items", type=Path, required=True, help="items.jsonl, line i describing embedding row i")
    add("--captions", type=Path, required=True, help="captions.jsonl; query captions have no influence")
    add("--output", type=Path, required=True, metavar="JOINED", help="folder to write")
    features = (
        "lsa (default): latent semantic analysis, fitted on the captions; or a sentence encoder: the name or folder of a "
        "sentence-transformers or transformers model, or FAMILY:NAME_OR_PATH as of preprocess.extract_embeddings"
    )
    add("--text-features", metavar="lsa|NAME_OR_PATH", help=features)
    add("--text-dim", type=positive, metavar="T", help="width of lsa's features (512, or what few captions allow)")
    add("--ridge", type=strength, metavar="ALPHA", help="strength of the regression's penalty (10)")
    components = f"principal components that the regression starts from ({COMPONENTS}, or what few items allow)"
    add("--pca", type=positive, metavar="P", help=components)
    keep = "rows have the embedding itself as a third part, each dimension standardised (no)"
    add("--keep-embedding", action=argparse.BooleanOptionalAction, help=keep)
    align = (
        "also write aligned.npy, vectors of a dual tower trained on the joined rows, to build identifiers from: T values of a "
        "linear map, A behind a hidden layer"
    )
    add("--align", type=positive, metavar="A", help=align)
    sample = f"items and captions that anything is fitted on, drawn from all ({FIT_ROWS})"
    add("--train-sample", type=positive, metavar="N", help=sample)
    index = "use the index captions of valid and test items (include, the default), or not; as with preprocess.binarize"
    add("--index-captions", choices=("include", "exclude"), help=index)
    add("--valid-size", type=int, help="as with preprocess.binarize: captions it holds out where no valid query exists")
    add("--seed", type=int, help="of all that is drawn, the captions held out included (1)")
    like = "apply the parts that an earlier join fitted, with its settings, to these items and captions"
    add("--like", type=Path, metavar="JOINED", help=like)
    block = f"items in memory at a time, which sets the memory needed ({BLOCK_ROWS})"
    add("--block-rows", type=positive, default=BLOCK_ROWS, metavar="N", help=block)
    add("--device", default="auto", help="of a sentence encoder: auto (default: cuda where there is one), cpu, cuda …")
    args = parser.parse_args(argv)
    given = [name for name in DEFAULTS if getattr(args, name) is not None]
    if args.like and given:
        parser.error(f"argument --{given[0].replace('_', '-')}: is decided by the join of --like, leave it out")
    if args.seed is not None and not 0 <= args.seed < 2**31:
        parser.error(f"argument --seed: {args.seed} is not between 0 and 2147483647")
    if args.valid_size is not None and args.valid_size < 0:
        parser.error(f"argument --valid-size: {args.valid_size} is negative; use 0 where nothing is held out")
    if args.text_dim and args.text_features not in (None, LSA):
        parser.error("argument --text-dim: is for lsa, a sentence encoder has its own width")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; see the module's docstring."""
    args = parse(argv)
    joined_folder.check_output(args.output)
    old = joined_folder.read_record(args.like) if args.like else None
    settings = settings_of(args, old)
    embeddings = open_embeddings(args.embeddings, args.embedding_column, check=False)
    items = ItemsFile(args.items)
    match_items(embeddings, items, args.embeddings, args.items)
    if old and embeddings.shape[1] != old["dimension"]:
        raise ValueError(
            f"{args.embeddings}: width {embeddings.shape[1]}, but {args.like} was made from {old['dimension']}; use "
            "embeddings of the same encoder"
        )
    rows = read_captions(args.captions, items)
    row_of = {item["item_id"]: row for row, item in enumerate(items)}
    splits = [item.get("split") for item in items]
    captions = usable(resolve(rows, row_of, splits, str(args.captions)), settings, args.captions)
    inputs = {
        "embeddings": check_embeddings(embeddings, args.embeddings),
        "items": sha256(args.items),
        "captions": sha256(args.captions),
        "like": old["files"][joined_folder.PARTS] if old else None,
    }
    made_from = {"settings": settings, "inputs_sha256": inputs}
    if joined_folder.is_current(args.output, made_from):
        remove_leftovers(args.output)
        print(f"{args.output}: up to date with these inputs and settings, nothing to do")
        return
    with working_folder(args.output, digest(made_from)) as work:
        if old:
            tensors, vocabulary = joined_folder.read_parts(args.like, old)
            features = restore_features(settings, tensors, vocabulary, args.device)
            parts = Parts(features, TextMap.load(tensors), tensors["text.centre"], Standardised.load(tensors))
            parts.alignment = Alignment.load(tensors)
        else:
            features = fit_features([caption.text for caption in captions], settings, args.device, args.captions)
        if old and features.dimension != old["parts"][0]:
            raise ValueError(
                f"{settings['text_features']}: gives {features.dimension} values a text, but {args.like} has "
                f"{old['parts'][0]}; use the same encoder"
            )
        order = sorted(range(len(captions)), key=lambda i: len(captions[i].text))  # like lengths need little padding
        captions = [captions[i] for i in order]
        values = embed(features, captions, work)
        owners = np.array([caption.item_row for caption in captions], dtype=np.int64)
        texts = ItemTexts(values, owners, len(items))
        mean, has_text = texts.centre(args.block_rows)
        if not old:
            known = has_text & np.array([split not in MEASURED for split in splits])
            text_map = fit_map(embeddings, texts, mean, known, settings, args.embeddings, args.captions)
            kept = fit_kept(embeddings, settings)
            parts = Parts(features, text_map, mean, kept)
            parts.alignment = fit_alignment(embeddings, values, owners, parts, settings, args.captions)
        with replacing(args.output, directory=True) as new:
            write_items(new, embeddings, texts, parts, args.block_rows)
            write_captions(new / joined_folder.CAPTIONS, values, captions, len(rows), parts.centre)
            parts.write(new)
            record = {
                "parts": parts.widths,
                "dimension": embeddings.shape[1],
                "items": len(items),
                "items_with_text": int(has_text.sum()),
                "captions": len(rows),
                "texts": joined_folder.texts_digest(rows),
                "captions_used": len(captions),
            }
            joined_folder.write_record(new, record | made_from)
        remove(work)
    remove_leftovers(args.output)
    print(
        f"{args.output}: {len(items):,} items, {sum(parts.widths)} dimensions; {len(captions):,} of {len(rows):,} "
        f"captions say what {int(has_text.sum()):,} items are"
    )


def settings_of(args: argparse.Namespace, old: dict[str, Any] | None) -> dict[str, Any]:
    """What the result depends on beside its inputs; with `--like` that of the earlier join."""
    if old:
        settings = dict(old["settings"])
        return settings | ({"index_captions": args.index_captions} if args.index_captions else {})
    chosen = {
        name: default if getattr(args, name) is None else getattr(args, name) for name, default in DEFAULTS.items()
    }
    if chosen["text_features"] != LSA:
        chosen["text_features"] = encoder_spec(chosen["text_features"])
        chosen["weights"] = weights_stamp(chosen["text_features"])
    return chosen | {"index_captions": args.index_captions or "include", "block_rows": args.block_rows}


def usable(resolved: Sequence[Caption], settings: dict[str, Any], source: Path) -> list[Caption]:
    """The captions that may have influence: those that `preprocess.binarize` trains on."""
    subsets = assign(resolved, settings["index_captions"])
    train = subsets["train"]
    if not subsets["valid"]:
        train, _ = hold_out(train, settings["valid_size"], settings["seed"])
    if not train:
        raise ValueError(
            f"{source}: no caption that may be used; give captions of training items the role 'train', or allow index "
            "captions (--index-captions include)"
        )
    return train


def embed(features: Features, captions: Sequence[Caption], work: Path) -> np.ndarray:
    """(U, T) float32 features of captions, in a memory map in the working folder; what is there already stays."""
    batches = -(-len(captions) // features.batch_rows)
    stamps = np.ones(batches, dtype=np.uint64)
    store = RowStore(work, len(captions), features.dimension, stamps, features.batch_rows)
    pending = store.pending()
    ahead = sum(len(store.rows_of(number)) for number in pending)
    with Progress(len(captions), "text features", "captions", len(captions) - ahead) as progress:
        for number in pending:
            places = store.rows_of(number)
            store.keep(number, places, features([captions[i].text for i in places]), {})
            progress.update(len(places))
    return store.values


def write_items(folder: Path, embeddings: Embeddings, texts: ItemTexts, parts: Parts, block_rows: int) -> None:
    """Write rows, float16: mapped embeddings, text features or what stands in for them, kept embeddings; aligned, (N, T + A)."""

    def rows(name: str, columns: int) -> np.memmap:
        shape = (len(embeddings), columns)
        return np.lib.format.open_memmap(folder / name, mode="w+", dtype=np.float16, shape=shape)

    width, alignment = len(parts.centre), parts.alignment
    joined = rows(joined_folder.ITEMS, sum(parts.widths))
    aligned = rows(joined_folder.ALIGNED, alignment.width) if alignment else None
    with Progress(len(embeddings), "joining", "items") as progress:
        for block in blocks(len(embeddings), embeddings.shape[1], block_rows):
            mapped = parts.text_map(embeddings[block])
            said = centred(texts.means(np.arange(block.start, block.stop)), parts.centre)
            joined[block, :width] = mapped
            joined[block, width : 2 * width] = np.where(said.any(axis=1, keepdims=True), said, mapped)
            if parts.kept is not None:
                joined[block, 2 * width :] = parts.kept(embeddings[block])
            if alignment is not None and aligned is not None:
                aligned[block] = alignment(joined[block].astype(np.float32))
            progress.update(len(mapped))
    joined.flush()
    if aligned is not None:
        aligned.flush()


def write_captions(path: Path, values: np.ndarray, captions: Sequence[Caption], lines: int, centre: np.ndarray) -> None:
    """Write (C, T) float16: row i belongs to line i of the file, zeros where the caption is not among `captions`."""
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(lines, len(centre)))
    for block in blocks(len(values), len(centre)):
        out[[caption.number - 1 for caption in captions[block]]] = centred(values[block], centre)
    out.flush()


if __name__ == "__main__":
    run_script(main)
