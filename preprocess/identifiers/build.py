"""The step `build_identifiers`: an identifier (k, v1..vM, u) for every item of a catalogue (CART section 3.2).

k-means on the embeddings gives the coarse value, an RQ-VAE on the residuals the fine values, counting the unique one;
other schemes have other values (`preprocess.identifiers.schemes`). A codec is fitted on a sample. It then assigns values
to the whole catalogue in blocks, whose size sets the memory that is needed.
"""

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.checks import checks_settings
from cart_fairseq.base.files import digest, sha256
from cart_fairseq.catalogue.identifiers import IdentifierBundle, write_bundle
from cart_fairseq.catalogue.positions import Position, semantic_positions, unique_positions, unique_tokens
from preprocess.data.embeddings import Embeddings, check_embeddings, open_embeddings
from preprocess.data.inputs import ItemsFile, match_items
from preprocess.data.joined_folder import identifier_rows, refuse_other_items
from preprocess.data.output import Kind, Made, Output
from preprocess.folder.formats.clip_retrieval import is_clip_retrieval, list_items, lists_folder
from preprocess.identifiers.collisions import move_to_free_codes
from preprocess.identifiers.encode import encode_catalogue, local_engine, reconstruction_error
from preprocess.identifiers.fitting import fit_codec, fit_settings
from preprocess.identifiers.goodness_of_fit import baseline
from preprocess.identifiers.ray_engine import ray_engine
from preprocess.identifiers.refusals import refuse_captions, refuse_degenerate, refuse_unmovable, refuse_unused
from preprocess.identifiers.report import collapsed_levels, measure, refuse_collapse, report_text
from preprocess.identifiers.schemes.caption_words import item_captions
from preprocess.identifiers.schemes.named import SCHEMES
from preprocess.identifiers.schemes.scheme import Codec, Scheme
from preprocess.identifiers.schemes.semantic import Semantic
from preprocess.identifiers.settings import IdentifierSettings


@dataclass(frozen=True)
class BuiltIdentifiers:
    """What `build_identifiers` has done.

    Attributes:
        bundle: the identifier bundle, opened. `bundle.report` has the figures.
        is_new: False if it was there already, made from the same inputs and settings.
    """

    bundle: IdentifierBundle
    is_new: bool

    @property
    def summary(self) -> str:
        """The figures as text."""
        output = self.bundle.directory
        if not self.is_new:
            return f"{output}: up to date with these inputs and settings, nothing to do"
        return f"{report_text(self.bundle.report)}\n\nwritten to {output}"


@dataclass(frozen=True)
class Source:
    """What identifiers are built from.

    Attributes:
        path: where the embeddings lie.
        embeddings: (N, D) float16 or float32.
        items: the N items.
        captions: of each item the caption that its identifier comes from; None for schemes that read none.
        checksums: SHA-256 of the embeddings' values and of the other files.
    """

    path: Path
    embeddings: Embeddings
    items: ItemsFile
    captions: list[str] | None
    checksums: dict[str, str]


@checks_settings
def build_identifiers(
    embeddings: str | Path,
    items: str | Path | None,
    output: str | Path,
    settings: IdentifierSettings = IdentifierSettings(),
    captions: str | Path | None = None,
) -> BuiltIdentifiers:
    """Build the identifier bundle of a catalogue.

    A run that was killed continues from `OUTPUT.partial/` when it is repeated. If `output` was made from the same inputs
    and settings, nothing is done.

    Args:
        embeddings: (N, D) float16 or float32: a `.npy`, Parquet or Arrow file, a folder of shards of one kind, or a folder
            that `join_captions` or clip-retrieval wrote.
        items: `items.jsonl`, whose line i describes embedding row i. None: the embeddings are clip-retrieval's, and their
            metadata name the items; `OUTPUT.lists/` then gets items.jsonl and captions.jsonl.
        output: folder of the bundle.
        settings: see `IdentifierSettings`.
        captions: `captions.jsonl`, for the scheme `semantic` only. An identifier consists of words of the item's first
            `index` caption, or else of its first `train` caption, never of a caption that measures.

    Raises:
        ValueError: an input is damaged or does not match the other; `output` holds something else, or another run is
            building it; there are too few items, equal embeddings or a collapsed level, and `allow_collapse` is off;
            the scheme has no free codes for `collisions="nearest-free"`; `captions` are missing or have no use, or an item
            has no caption that may be used.
        OSError: the training of the RQ-VAE failed.
    """
    started = time.perf_counter()
    scheme = SCHEMES[settings.scheme]
    refuse_unmovable(settings, scheme)
    refuse_unused(settings, scheme)
    refuse_captions(settings, captions)
    out = Output(output, BUNDLE)
    out.refuse_foreign()
    source = open_source(Path(embeddings), items_of(Path(embeddings), items, out.path), captions, settings)
    fit = fit_settings(settings, len(source.items))
    made_from = {
        "settings": fit.record(),
        "unique_size": settings.unique_size,
        "collisions": settings.collisions,
        "allow_collapse": settings.chosen("allow_collapse"),
        "inputs_sha256": source.checksums,
    }
    key = [made_from["settings"], source.checksums["embeddings"]]
    if source.captions is not None:
        sizes = {"vocabulary": settings.chosen("caption_vocabulary"), "length": settings.chosen("caption_words")}
        scheme, made_from["captions"] = Semantic(source.captions, **sizes), sizes
        key += [sizes, source.checksums["captions"]]
    settings_hash = digest(made_from)
    if out.is_current(settings_hash):
        return BuiltIdentifiers(IdentifierBundle.load(out.path), is_new=False)
    if not settings.allow_collapse:
        refuse_degenerate(source.path, source.embeddings, scheme, fit)
    with out.working(digest(key)) as work:
        codec = fit_codec(scheme, source.embeddings, fit, work, settings.train_processes)
        found, report = identify(source, scheme, codec, settings, work)
        faithful = {"faithful": {"departures": settings.departures}} if settings.faithful else {}
        report |= faithful
        report["seconds"] = round(time.perf_counter() - started, 3)
        report["peak_memory_bytes"] = peak_memory()
        record = {"scheme": scheme.name, "dimension": source.embeddings.shape[1], "settings_hash": settings_hash}
        record |= faithful
        bundle = write_bundle(out.path, *found, source.items, report, codec.tensors(), {**record, **made_from})
    return BuiltIdentifiers(bundle, is_new=True)


def read_made(path: Path) -> Made:
    """What a bundle was made from, and the checksums of its files."""
    bundle = IdentifierBundle.load(path)
    files = bundle.manifest["files"]
    checksums = {path / name: entry["sha256"] for name, entry in files.items()}
    return Made(bundle.codec_settings.get("settings_hash"), checksums)


BUNDLE = Kind("identifier bundle", read_made, lambda path: path / "codec.json", bundle=".")


def items_of(embeddings: Path, items: str | Path | None, output: Path) -> Path:
    """Return items.jsonl, which is written beside `output` where the embeddings come with metadata.

    Raises:
        ValueError: nothing names the items.
    """
    if items is not None:
        return Path(items)
    if not is_clip_retrieval(embeddings):
        raise ValueError(
            f"{embeddings}: nothing names the items; give items.jsonl with --items (only a folder of clip-retrieval, with "
            "img_emb/ and metadata/, needs none)"
        )
    return list_items(embeddings, lists_folder(output)).items


def open_source(embeddings: Path, items: Path, captions: str | Path | None, settings: IdentifierSettings) -> Source:
    """Open and check the inputs; see `build_identifiers`.

    Raises:
        ValueError: one is damaged, embeddings and items differ in number or were joined otherwise, or an item has no caption that may be used.
    """
    path = identifier_rows(embeddings)
    rows = open_embeddings(path, settings.embedding_column, check=False)
    records = ItemsFile(items)
    match_items(rows, records, path, items)
    refuse_other_items(embeddings, (item["item_id"] for item in records), items)
    texts = None if captions is None else item_captions(captions, records, settings.seed)
    checksums = {"embeddings": check_embeddings(rows, path), "items": sha256(items)}
    if captions is not None:
        checksums["captions"] = sha256(captions)
    return Source(path, rows, records, texts, checksums)


class Identifiers(NamedTuple):
    """Identifiers of all items.

    Attributes:
        values: (N, J) int32.
        positions: the J positions.
    """

    values: NDArray[np.int32]
    positions: list[Position]


def identify(
    source: Source, scheme: Scheme, codec: Codec, settings: IdentifierSettings, work: Path
) -> tuple[Identifiers, dict[str, Any]]:
    """Identifiers of all items, and the report, which lacks only time and memory.

    Raises:
        ValueError: a level has collapsed, and the settings do not allow it.
    """
    rows, count, given = source.embeddings, len(source.items), scheme.given_codes()
    if given is None:
        codes, error = encode(source, codec, settings, work)
    else:
        codes, error = given, reconstruction_error(codec, rows, given)
    reserved = scheme.unique_symbols(count, settings.unique_size)
    found = with_unique_tokens(codes, codec, reserved)
    semantic = semantic_positions(found.positions)
    report = {"scheme": scheme.name, **measure(found.values[:, : len(semantic)], semantic)}
    report["reconstruction_error"] = error
    report["fitted_on"] = min(count, settings.chosen("train_sample") or count)
    if (
        given is None
    ):  # values that come from elsewhere may be as uneven as they are, and no new item is compared with them
        if not settings.chosen("allow_collapse"):
            refuse_collapse(report, scheme.tree)
        elif collapsed := collapsed_levels(report, scheme.tree):
            report["collapsed"] = collapsed
        report["fit"] = baseline(codec, rows)
    if settings.collisions == "nearest-free":
        codes = resolve_collisions(codec, rows, codes, work, report)
        found = with_unique_tokens(codes, codec, reserved)
    return found, report


def encode(source: Source, codec: Codec, settings: IdentifierSettings, work: Path) -> tuple[NDArray[np.int32], float]:
    """Codes (N, C) int32 of all embeddings, and the reconstruction error."""
    if settings.engine == "ray":
        engine = ray_engine(codec, source.path, settings.embedding_column, settings.block_rows)
    else:
        engine = local_engine(codec, source.embeddings, settings.block_rows)
    return encode_catalogue(engine, source.embeddings.shape, len(codec.positions), settings.block_rows, work)


def with_unique_tokens(codes: NDArray[np.int32], codec: Codec, reserved: int) -> Identifiers:
    """Codes (N, C) int32 followed by the unique token, which has `reserved` symbols for each digit."""
    unique = unique_tokens(codes, reserved)
    positions = [*codec.positions, *unique_positions(unique.shape[1], reserved)]
    return Identifiers(np.column_stack([codes, unique]), positions)


def resolve_collisions(
    codec: Codec, embeddings: Embeddings, codes: NDArray[np.int32], work: Path, report: dict[str, Any]
) -> NDArray[np.int32]:
    """Move items that share a code to free codes.

    `report` receives the figures after the moves, and under `nearest_free` those before.

    Returns:
        (N, C) int32, the codes after the moves.
    """
    found = move_to_free_codes(codec, embeddings, codes, work)
    before = {
        name: report[name] for name in ("unique_codes", "collision_rate", "max_collisions", "reconstruction_error")
    }
    report |= measure(found.codes, codec.positions)
    report["reconstruction_error"] = reconstruction_error(codec, embeddings, found.codes)
    extra = report["reconstruction_error"] - before["reconstruction_error"]
    moved = dict(zip((position.name for position in codec.positions), found.moved, strict=True))
    report["nearest_free"] = {"moved": moved, "extra_reconstruction_error": extra, "before": before}
    return found.codes


def peak_memory() -> int:
    """Peak resident bytes of the larger of this process and the training process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
