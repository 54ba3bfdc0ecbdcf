"""The step `binarize`: captions and identifiers become a data-bin, the folder that ``fairseq-train`` reads.

Every training caption becomes a pair (query, identifier of its item). ``query`` captions become the valid and test sets
and influence nothing but their own rows. `preprocess.data.roles` says which caption is used for what.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cart_fairseq.base.checks import checks_settings
from cart_fairseq.base.files import sha256, write_json
from cart_fairseq.catalogue.checksums import sealed
from cart_fairseq.catalogue.data_bin import TRIE, DataBin, build_trie
from cart_fairseq.catalogue.data_bin_fields import OURS
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.segments import SCHEMA_VERSION, file_entry
from cart_fairseq.catalogue.text_encoder import TextEncoder
from cart_fairseq.publishing.replaced import own_sets, refuse_older, write_own_sets
from preprocess.data.inputs import read_captions
from preprocess.data.output import Kind, Made, Output
from preprocess.data_bin.choice import VocabularyChoice
from preprocess.data_bin.contents import Contents, describe, sort_captions, without_captions
from preprocess.data_bin.dense import DenseSource, open_dense, refuse_measured, refuse_other_fit, write_dense
from preprocess.data_bin.settings import DataBinSettings
from preprocess.data_bin.subsets import cut_queries, encode_queries, write_subset

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class BinarizedData:
    """What `binarize` has done.

    Attributes:
        directory: the data-bin.
        is_new: False if it was there already, made from the same inputs and settings.
        counts: subset -> its numbers of `queries` and `candidates`; empty subsets are left out.
        valid_held_out: whether the valid queries are training captions that were held out.
        summary: the figures and remarks as text.
    """

    directory: Path
    is_new: bool
    counts: Mapping[str, Mapping[str, int]]
    valid_held_out: bool
    summary: str


@dataclass(frozen=True)
class Source:
    """What a data-bin is made from.

    Attributes:
        bundle: the identifiers.
        rows: the objects of ``captions.jsonl``, in order.
        dense: features for a dense head, where one is wanted.
        made_from: checksums of the input files, and the settings, as the manifest records them.
    """

    bundle: IdentifierBundle
    rows: list[dict[str, Any]]
    dense: DenseSource | None
    made_from: dict[str, Any]


@checks_settings
def binarize(
    identifiers: str | Path,
    captions: str | Path | None,
    output: str | Path,
    settings: DataBinSettings = DataBinSettings(),
    *,
    embeddings: str | Path | None = None,
    text_encoder: str | Path | None = None,
    vocabulary_from: str | Path | None = None,
) -> BinarizedData:
    """Write a data-bin, whole or not at all. If ``output`` was made from the same inputs and settings, nothing is done.

    In an earlier data-bin's place it keeps candidate sets that users added, by the ids of their items, and other files that
    are not of a data-bin. What `cart_fairseq.tune` stored for searches is removed.

    Args:
        identifiers: an identifier bundle.
        captions: ``captions.jsonl``. None, for which ``embeddings`` must be given: a catalogue that is searched by example
            alone (`cart_fairseq.ExampleRetriever`), and that nothing can be trained on.
        output: the folder to make. Only an earlier data-bin or an empty folder is replaced.
        settings: see `DataBinSettings`.
        embeddings: (N, D) of the items, for a dense head: whatever `build_identifiers` reads, or a folder that
            `join_captions` wrote.
        text_encoder: name or folder of a pretrained encoder of transformers, which is copied into the data-bin. Its
            vocabulary is the query vocabulary.
        vocabulary_from: a data-bin whose query vocabulary and text encoder are used, so that its checkpoints can be
            trained further on the new one. Otherwise a vocabulary is learned from the training captions.

    Raises:
        ValueError: an input is wrong; ``output`` holds something else, or was updated since and ``identifiers`` was not;
            another run is building it.
    """
    out, texts = Output(output, DATA_BIN), Path(captions) if captions else None
    if texts is None and (not embeddings or text_encoder or vocabulary_from):
        raise ValueError(
            "without --captions nothing can be trained, and items are found by example alone: give --embeddings, and "
            "neither --text-encoder nor --vocabulary-from"
        )
    choice = VocabularyChoice(vocabulary_from, text_encoder)
    source = open_source(Path(identifiers), texts, Path(embeddings) if embeddings else None, choice, settings)
    if out.is_current(source.made_from):
        text = f"{out.path}: up to date (same identifiers, captions and settings), nothing to do"
        manifest = DataBin(out.path).manifest
        return BinarizedData(out.path, False, manifest["counts"], manifest["valid_held_out"], text)
    with out.locked():
        refuse_older(out.path, source.bundle, "give --identifiers {found}, or choose another --output")
        source.bundle.verify()
        if texts is None:
            return build_without_captions(out, source, settings)
        return build(out, source, choice, settings, texts, embeddings)


def build(
    out: Output,
    source: Source,
    choice: VocabularyChoice,
    settings: DataBinSettings,
    captions: Path,
    embeddings: str | Path | None,
) -> BinarizedData:
    """Write a data-bin that is not current; see `binarize`.

    Args:
        captions, embeddings: where the inputs lie, for messages.
    """
    contents = sort_captions(source.bundle, source.rows, settings, captions)
    own = own_sets(out.path, contents.candidates)
    if embeddings and source.dense is not None and source.dense.captions is not None:
        refuse_measured(Path(embeddings), source.dense.captions, contents.measured)
    texts = [caption.text for caption in contents.subsets["train"]]
    vocabulary = choice.vocabulary(texts, settings.vocab_size, settings.seed, settings.max_query_tokens)
    queries = {
        name: encode_queries(members, vocabulary, str(captions), settings.max_query_tokens)
        for name, members in contents.subsets.items()
    }
    lines = [describe(contents, settings.index_captions, len(vocabulary))]
    for name in queries:
        lines += [f"note: {note}" for note in cut_queries(queries[name], settings.max_query_tokens, name)]
    if contents.left_out:
        lines.append(f"note: {contents.left_out} captions of removed items were left out")
    with out.replacing() as new:
        described = vocabulary.write(new)
        write_files(new, source, contents, queries)
        write_manifest(new, source, contents, settings, described)
        lines += write_own_sets(new, source.bundle, own)
    summary = "\n".join([*lines, f"wrote {out.path}"])
    return BinarizedData(out.path, True, contents.counts, contents.held_out, summary)


def build_without_captions(out: Output, source: Source, settings: DataBinSettings) -> BinarizedData:
    """Write a data-bin for searches by example alone, which is not current; see `binarize`."""
    contents = without_captions(source.bundle)
    own = own_sets(out.path, contents.candidates)
    with out.replacing() as new:
        write_files(new, source, contents, {})
        write_manifest(new, source, contents, settings, {})
        notes = write_own_sets(new, source.bundle, own)
    items = len(contents.candidates["all"])
    lines = [f"{items:,} items and no captions: they are found by example alone", *notes, f"wrote {out.path}"]
    return BinarizedData(out.path, True, {}, False, "\n".join(lines))


def open_source(
    identifiers: Path,
    captions: Path | None,
    embeddings: Path | None,
    choice: VocabularyChoice,
    settings: DataBinSettings,
) -> Source:
    """Open and check the inputs; see `binarize`."""
    bundle = IdentifierBundle.load(identifiers)
    items = [{"item_id": item_id, "split": split} for item_id, split in zip(bundle.item_ids, bundle.splits)]
    rows = read_captions(captions, items) if captions else []
    dense = open_dense(embeddings, bundle, rows, settings.index_captions) if embeddings else None
    if embeddings and choice.other:
        refuse_other_fit(embeddings, choice.other)
    with bundle.files.reading(MANIFEST) as path:
        manifest = sha256(path)
    checksums = {"identifiers": manifest, "captions": sha256(captions) if captions else None}
    made_from = {**checksums, **dataclasses.asdict(settings), **choice.inputs()}
    if dense is not None:
        made_from["embeddings"] = dense.checksum
        made_from["originals"] = dense.originals is not None  # earlier versions kept none
    return Source(bundle, rows, dense, made_from)


def write_files(new: Path, source: Source, contents: Contents, queries: Mapping[str, list[list[int]]]) -> None:
    """Write all files of a data-bin but the vocabulary and the manifest.

    Args:
        new: the folder.
        queries: subset -> the symbols of each of its captions.
    """
    bundle, dense = source.bundle, source.dense
    copy_bundle(bundle, new / "identifiers")
    shutil.copyfile(new / "identifiers" / "dict.id.txt", new / "dict.id.txt")
    build_trie(bundle).save(new / TRIE, bundle.state)
    for name, rows in contents.candidates.items():
        np.save(new / f"candidates.{name}.npy", rows, allow_pickle=False)
    symbols = bundle.symbols()
    for subset, members in contents.subsets.items():
        if members:
            write_subset(new, subset, members, queries[subset], symbols)
    if dense is not None:
        write_dense(new, dense, contents.subsets["train"])


def write_manifest(
    new: Path, source: Source, contents: Contents, settings: DataBinSettings, described: Mapping[str, Any]
) -> None:
    """Write ``manifest.json``, last.

    Args:
        described: what the vocabulary says about itself.
    """
    files = sorted(path for path in new.iterdir() if path.is_file())  # folders have entries of their own
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "kind": "data-bin",
        "index_captions": settings.index_captions,
        "fingerprint": source.bundle.fingerprint,
        "identifiers": source.bundle.state,
        "revision": source.bundle.revision,
        "history": source.bundle.history,
        "seed": settings.seed,
        "counts": contents.counts,
        "valid_held_out": contents.held_out,
        "encoder": source.dense.encoder if source.dense else None,
        "inputs": source.made_from,
        **described,
        "files": {path.name: file_entry(path) for path in files},
    }
    write_json(new / MANIFEST, sealed(manifest))


def read_made(directory: Path) -> Made:
    """What a data-bin was made from; ValueError where it is incomplete. Checks sizes, not contents."""
    data = DataBin(directory)
    try:
        TextEncoder.of(data)
        return Made(data.manifest.get("inputs"))
    except KeyError as error:
        raise ValueError(f"{data.directory / MANIFEST}: lacks {error}") from None


DATA_BIN = Kind(
    "data-bin", read_made, lambda path: path / MANIFEST, marks={"kind": "data-bin"}, bundle="identifiers", ours=OURS
)


def copy_bundle(bundle: IdentifierBundle, target: Path) -> None:
    """Copy an identifier bundle as it was opened, without what an update that was killed may have left in it."""
    for name in bundle.files.names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        with bundle.files.reading(name) as path:
            shutil.copyfile(path, target / name)
