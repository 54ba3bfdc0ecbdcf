"""The step `join_captions`: item embeddings joined with features of the captions that may be trained on.

Identifiers built from weak embeddings carry little that a query could name. A joined row has two parts in one space,
that of text features: the embedding mapped there by ridge regression, and the mean of the item's captions. Identifiers
and dense scores are made from it. `keep_embedding` adds the embedding itself, each dimension standardised. It helps
little where captions describe every item, and much where there are embeddings only, because a linear map loses part of
them. `align` writes aligned rows as well (`preprocess.join.alignment`), for identifiers alone.

Text features are latent semantic analysis, fitted on the captions, or a sentence encoder's. An item's features are the
mean of its captions' at length 1, less the mean over all items that have captions, at length 1 again. The regression
goes from whitened principal components of the embeddings to them, and is fitted on training items; its centred
predictions have length 1. An item without captions has the mapped embedding in both parts: zeros would gather such
items in clusters of their own.

Only captions that may be trained on (`preprocess.data.roles`) have any influence: no `query` captions, no index
captions of valid and test items with `index_captions="exclude"`, and none that `binarize` with the same `seed` and
`valid_size` holds out where there are no valid queries.

The folder receives `embeddings.npy`, (N, 2T) float16, or (N, 2T + D); `captions.npy`, (C, T) float16, a row for each
line of captions.jsonl, centred like the items' and zero where a caption may not be used; `aligned.npy` with `align`;
`originals.npy`, (N, D) float16, the embeddings from before the join at length 1, for queries that are not text; `join.json`; `join.safetensors` and, for lsa, `vocabulary.json`: the fitted parts, which `like` applies to other items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cart_fairseq.base.checks import checks_settings
from cart_fairseq.base.files import digest, sha256
from cart_fairseq.base.wording import counted
from cart_fairseq.catalogue.errors import reading
from preprocess.data.embeddings import Embeddings, check_embeddings, open_embeddings
from preprocess.data.fields import MEASURED
from preprocess.data.inputs import ItemsFile, match_items, read_captions
from preprocess.data.joined_folder import (
    CAPTIONS,
    JOIN,
    PARTS,
    RECORD,
    REMEDY,
    SavedParts,
    items_digest,
    read_parts,
    read_record,
    texts_digest,
    write_record,
)
from preprocess.data.output import Output
from preprocess.data.roles import Caption, resolve, trainable
from preprocess.encoders.embedded_files import encoder_of
from preprocess.encoders.loading import weights_stamp
from preprocess.join.fitting import (
    Parts,
    fit_alignment,
    fit_features,
    fit_kept,
    fit_map,
    restore_parts,
)
from preprocess.join.rows import embed, write_captions, write_items
from preprocess.join.settings import ADDED, FITTED, LSA, JoinSettings
from preprocess.join.text_space import ItemTexts


@dataclass(frozen=True)
class JoinedCaptions:
    """What `join_captions` has done.

    Attributes:
        directory: the folder.
        is_new: False if it was there already, made from the same inputs and settings.
        items: number of joined rows.
        dimension: width of a joined row.
        items_with_text: number of items that have a caption that may be used.
        captions_used: number of captions that may be used.
        summary: the result as text.
    """

    directory: Path
    is_new: bool
    items: int
    dimension: int
    items_with_text: int
    captions_used: int
    summary: str


@dataclass(frozen=True)
class Source:
    """The inputs of a join.

    Attributes:
        embeddings_path, captions_path: where the inputs lie, for messages.
        embeddings: (N, D) float16 or float32.
        item_ids, splits: of each item.
        rows: the objects of captions.jsonl.
        captions: those that may be used, in file order.
        checksums: of the inputs.
        encoder: what the embeddings were extracted with, if that is known.
    """

    embeddings_path: Path
    captions_path: Path
    embeddings: Embeddings
    item_ids: list[str]
    splits: list[str | None]
    rows: list[dict[str, Any]]
    captions: list[Caption]
    checksums: dict[str, str]
    encoder: dict[str, Any] | None


@checks_settings
def join_captions(
    embeddings: str | Path,
    items: str | Path,
    captions: str | Path,
    output: str | Path,
    settings: JoinSettings = JoinSettings(),
    *,
    like: str | Path | None = None,
) -> JoinedCaptions:
    """Join embeddings of items with features of their captions that may be trained on.

    A run that was killed continues when it is repeated.

    Args:
        embeddings: (N, D) float16 or float32: a `.npy`, Parquet or Arrow file, or a folder of shards of one kind.
        items: `items.jsonl`, whose line i describes embedding row i.
        captions: `captions.jsonl`.
        output: the folder to make. Only an earlier join or an empty folder is replaced. If it was made from the same
            inputs and settings, nothing is done.
        settings: see `JoinSettings`. With `like` only `index_captions`, `block_rows`, `device` and `embedding_column`
            may be given; the others are those of the earlier join.
        like: an earlier join, whose fitted parts and settings are applied to these items and captions.

    Raises:
        ValueError: an input is wrong; there is too little to fit on; `output` holds something else, or another run is
            writing it.
    """
    out = Output(output, JOIN)
    out.refuse_foreign()
    earlier = read_record(Path(like)) if like else None
    if earlier:
        settings.refuse_fitted()
        with reading(Path(like or "") / RECORD, REMEDY):
            settings = settings.following(earlier["settings"])
    else:
        settings = replace(settings, index_captions=settings.index_captions or "include")
    source = open_source(Path(embeddings), Path(items), Path(captions), settings)
    if earlier and source.embeddings.shape[1] != earlier["dimension"]:
        raise ValueError(
            f"{embeddings}: width {source.embeddings.shape[1]}, but {like} was made from {earlier['dimension']}; use "
            "embeddings of the same encoder"
        )
    inputs = source.checksums | {"like": earlier["files"].get(PARTS) if earlier else None}
    made_from = {"settings": recorded(settings, earlier), "inputs_sha256": inputs}
    if out.is_current(made_from):
        return described(out, False)
    with out.working(digest(made_from)) as work:
        saved = read_parts(Path(like), earlier) if like and earlier else None
        write_join(out, source, settings, saved, made_from, work)
    return described(out, True)


def open_source(embeddings: Path, items: Path, captions: Path, settings: JoinSettings) -> Source:
    """Open and check the inputs; see `join_captions`."""
    vectors = open_embeddings(embeddings, settings.embedding_column, check=False)
    records = ItemsFile(items)
    match_items(vectors, records, embeddings, items)
    rows = read_captions(captions, records)
    row_of = {item["item_id"]: row for row, item in enumerate(records)}
    item_ids = list(row_of)
    splits = [item.get("split") for item in records]
    used = usable(resolve(rows, row_of, splits, str(captions)), settings, captions)
    checksums = {
        "embeddings": check_embeddings(vectors, embeddings),
        "items": sha256(items),
        "captions": sha256(captions),
    }
    return Source(embeddings, captions, vectors, item_ids, splits, rows, used, checksums, encoder_of(embeddings))


def usable(resolved: Sequence[Caption], settings: JoinSettings, source: Path) -> list[Caption]:
    """The captions that may have influence: those that `binarize` trains on."""
    assert settings.index_captions is not None
    train = trainable(resolved, settings.index_captions, settings.valid_size, settings.seed)
    if not train:
        raise ValueError(
            f"{source}: no caption that may be used; give captions of training items the role 'train', or allow index "
            "captions (--index-captions include)"
        )
    return train


def recorded(settings: JoinSettings, earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """What join.json records as the settings.

    Args:
        earlier: the record of the join whose parts are applied, if there is one; its settings are kept.
    """
    if earlier:
        return {**earlier["settings"], "index_captions": settings.index_captions}
    found = {name: getattr(settings, name) for name in FITTED} | {"text_features": settings.encoder or LSA}
    found = {name: value for name, value in found.items() if name not in ADDED or value != ADDED[name]}
    if settings.encoder:
        found["weights"] = weights_stamp(settings.encoder)
    return found | {"index_captions": settings.index_captions, "block_rows": settings.block_rows}


def write_join(
    out: Output,
    source: Source,
    settings: JoinSettings,
    saved: SavedParts | None,
    made_from: Mapping[str, Any],
    work: Path,
) -> None:
    """Fit the parts, or restore those of an earlier join, and write the folder.

    Args:
        saved: the parts of the earlier join.
        made_from: what the record says of inputs and settings.
        work: the working folder.

    Raises:
        ValueError: there is too little to fit on, or the encoder of the earlier join gives other features now.
    """
    embeddings = source.embeddings
    parts = restore_parts(saved, settings) if saved else None
    if parts and parts.features and parts.features.dimension != len(parts.centre):
        raise ValueError(
            f"{settings.text_features}: gives {parts.features.dimension} values a text, but the join of --like has "
            f"{len(parts.centre)}; use the same encoder"
        )
    texts = [caption.text for caption in source.captions]
    features = parts.features if parts and parts.features else fit_features(texts, settings, source.captions_path)
    captions = sorted(source.captions, key=lambda caption: len(caption.text))  # like lengths need little padding
    values = embed(features, captions, work)
    owners = np.array([caption.item_row for caption in captions], dtype=np.int64)
    item_texts = ItemTexts(values, owners, len(embeddings))
    mean, has_text = item_texts.centre(settings.block_rows)
    if parts is None:
        known = has_text & np.array([split not in MEASURED for split in source.splits])
        text_map = fit_map(embeddings, item_texts, mean, known, settings, source.embeddings_path, source.captions_path)
        parts = Parts(features, text_map, mean, fit_kept(embeddings, settings))
        parts.alignment = fit_alignment(embeddings, values, owners, parts, settings, source.captions_path)
    with out.replacing() as new:
        write_items(new, embeddings, item_texts, parts, settings.block_rows)
        write_captions(new / CAPTIONS, values, captions, len(source.rows), parts.centre)
        parts.write(new)
        record = {
            "parts": parts.widths,
            "dimension": embeddings.shape[1],
            "items": len(embeddings),
            "items_with_text": int(has_text.sum()),
            "items_of_unknown_words": int(np.setdiff1d(owners, np.flatnonzero(has_text)).size),
            "captions": len(source.rows),
            "texts": texts_digest(source.rows),
            "item_ids": items_digest(source.item_ids),
            "captions_used": len(captions),
            "encoder": source.encoder,
        }
        write_record(new, {**record, **made_from})


def described(out: Output, is_new: bool) -> JoinedCaptions:
    """What a join's record tells of it."""
    record = read_record(out.path)
    items, dimension = record["items"], sum(record["parts"])
    used, with_text = record["captions_used"], record["items_with_text"]
    if is_new:
        summary = (
            f"{out.path}: {items:,} items, {dimension} dimensions; {used:,} of {record['captions']:,} captions describe "
            f"{with_text:,} items"
        )
        unknown = record["items_of_unknown_words"]
        if unknown:
            summary += (
                f"; {counted(unknown, 'item')} {'has' if unknown == 1 else 'have'} captions without a word that is "
                "known, and texts find them badly"
            )
            if record["settings"]["text_features"] == LSA and not record["settings"].get("rare_words"):
                summary += "; --rare-words keeps the words of one caption alone"
    else:
        summary = f"{out.path}: up to date with these inputs and settings, nothing to do"
    return JoinedCaptions(out.path, is_new, items, dimension, with_text, used, summary)
