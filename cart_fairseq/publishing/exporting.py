"""Writes a MODEL folder: a checkpoint and its data-bin in one folder that is all that a search needs.

Left out are the training pairs: fairseq's data sets, query tables, and features of training captions. Of these priors
need vectors of at most 4,096 training captions, which are computed here and kept.
"""

import importlib.metadata
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cart_fairseq.base.checks import checks_settings
from cart_fairseq.base.files import locked_file, read_json, remove_scratch, replacing, write_json
from cart_fairseq.base.hub_cache import refuse_cached
from cart_fairseq.base.settings import ExportSettings
from cart_fairseq.base.version import VERSION
from cart_fairseq.catalogue.checksums import sealed, verify_files
from cart_fairseq.catalogue.data_bin import REMEDY, TEXT_ENCODER, TRIE, DataBin
from cart_fairseq.catalogue.data_bin_fields import OURS
from cart_fairseq.catalogue.dense_items import CAPTIONS
from cart_fairseq.catalogue.held_files import HeldFiles
from cart_fairseq.catalogue.segments import MANIFEST, UPDATE_LOCK, file_entry
from cart_fairseq.catalogue.text_encoder import WEIGHTS
from cart_fairseq.loading.building import TRANSFORMER
from cart_fairseq.loading.model_folder import (
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    README,
    architecture_entry,
    is_model_folder,
    open_model_folder,
    weights_file,
)
from cart_fairseq.network.model import CART
from cart_fairseq.network.precision import DTYPES
from cart_fairseq.publishing.model_card import model_card, without_folders
from cart_fairseq.publishing.renewing import write_search_files
from cart_fairseq.publishing.replaced import own_sets, refuse_older, write_own_sets
from cart_fairseq.queries.item_priors import mean_share
from cart_fairseq.search.calibration import Calibration

PAIRS = re.compile(r"queries\..*\.parquet|.*\.query-id\..*")
"""Names of files with queries and their items."""
ROUNDED = ("encoder.", "decoder.")
"""Beginnings of the names of weights that are stored in the chosen precision, as searches convert these alone."""
PACKAGES = ("fairseq-fixed", "ve-fairseq", "numpy", "safetensors", "sentencepiece", "torch", "transformers")
IDENTIFIER_BUNDLE, JOIN = "identifiers", "join.json"
NAMES_ENCODERS = ("encoder", "text_encoder")
"""Fields of the manifest in which paths of the machine may be."""
EARLIER_README = "README.earlier.md"


@dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes:
        path: the MODEL folder.
        bytes: the size of all its files.
        summary: for people.
    """

    path: Path
    bytes: int
    summary: str


@checks_settings
def export(path: str | Path, data: str | Path, output: str | Path, settings: ExportSettings | None = None) -> Exported:
    """Write a checkpoint and its data-bin as a MODEL folder.

    Args:
        path: the checkpoint, or an ensemble ``a.pt:b.pt``.
        data: the data-bin on which it was trained.
        output: the folder to make. A MODEL folder that is there is replaced, and its ``README.md`` kept beside the new
            one.
        settings: the precision of the weights; None for the default.

    Raises:
        ValueError: the checkpoint or the data-bin is damaged or do not belong together, something else is in the
            output's place, or a weight is out of the precision's range.
        OSError: the folder cannot be written.
    """
    settings, target = settings or ExportSettings(), _target(Path(output))
    from cart_fairseq.tasks.checkpoints import load_models  # fairseq takes seconds to import

    models, opened = load_models(path, data)
    remove_scratch(target.absolute().parent, target.name)  # of a process that was killed
    earlier = (target / README).read_bytes() if (target / README).is_file() else None
    refuse_older(target, opened.bundle, "update the data-bin in the same way, or choose another --output")
    own = {name: ids for name, ids in own_sets(target, ()).items() if name not in opened.candidate_names}
    with not_updated(target, "export"), replacing(target, directory=True, ours=OURS) as new:
        entries = _copy_catalogue(opened, new)
        for number, model in enumerate(models, start=1):
            name = weights_file(number, len(models))
            save_file(_weights(model, opened, settings.precision, name), new / name)
            entries[name] = file_entry(new / name)
        config = _config(models, opened, settings)
        write_json(new / CONFIG, config)
        entries[CONFIG] = file_entry(new / CONFIG)
        described = {name: without_folders(opened.manifest.get(name)) for name in NAMES_ENCODERS}
        described = {name: value for name, value in described.items() if name in opened.manifest}
        manifest = {**opened.manifest, **described, "counts": {}, "files": dict(sorted(entries.items()))}
        write_json(new / MANIFEST, sealed(manifest))
        write_own_sets(new, opened.bundle, own)
        _write_search_files(new, opened)
        card = model_card(config, opened, _record_beside(path))
        (new / README).write_text(card, encoding="utf-8")
        if earlier not in (None, card.encode()):
            assert earlier is not None
            (new / EARLIER_README).write_bytes(earlier)
    size = sum(each.stat().st_size for each in target.rglob("*") if each.is_file())
    items = len(opened.bundle.kept)
    summary = (
        f"{len(models)} model(s) in {settings.precision}, {items:,} items, {size / 2**20:,.1f} MiB\nwrote {target}"
    )
    return Exported(target, size, summary)


def _target(output: Path) -> Path:
    """Return the folder to write; a link is followed.

    Raises:
        ValueError: something else than a MODEL folder is there, or it is in the Hub's cache.
    """
    if output.name in ("", ".."):
        raise ValueError(f"--output is {str(output)!r}, which names no folder; give a name of its own")
    refuse_cached(output)
    target = output.resolve() if output.is_symlink() else output
    empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not empty and not is_model_folder(target):
        raise ValueError(f"{output}: is there and no MODEL folder, so it is not replaced; choose another --output")
    return target


@contextmanager
def not_updated(target: Path, step: str) -> Iterator[None]:
    """Keep other processes from updating a MODEL folder while a step replaces or reads it.

    Raises:
        ValueError: one is doing so.
    """
    bundle = target / IDENTIFIER_BUNDLE
    with ExitStack() as stack:
        if bundle.is_dir():
            try:
                stack.enter_context(locked_file(bundle / UPDATE_LOCK))
            except BlockingIOError:
                raise ValueError(f"{target}: another process is updating it; {step} again when it has ended") from None
        yield


def _copy_catalogue(data: DataBin, new: Path) -> dict[str, Any]:
    """Copy what a search reads of a data-bin; return the manifest's entries of the files.

    Raises:
        CatalogueError: a checksum differs.
    """
    names = [name for name in data.files.names if not PAIRS.fullmatch(name)]
    listed = [name for name in names if name in data.manifest["files"] and name != CAPTIONS]
    data.verify(listed)
    data.bundle.verify()
    _copy(data.files, [name for name in names if name not in (CAPTIONS, MANIFEST)], new)
    entries = {name: data.manifest["files"][name] for name in listed}
    if CAPTIONS in names and data.dense_items is not None:
        # its width says how the items' embeddings are made up
        np.save(new / CAPTIONS, np.zeros((0, data.dense_items.text_dim), dtype=np.float16), allow_pickle=False)
        entries[CAPTIONS] = file_entry(new / CAPTIONS)
    if TRIE not in entries:  # of an earlier version
        data.trie.save(new / TRIE, data.bundle.state)
        entries[TRIE] = file_entry(new / TRIE)
    if JOIN in entries:
        write_json(new / JOIN, without_folders(read_json(new / JOIN)))
        entries[JOIN] = file_entry(new / JOIN)
    _copy(data.bundle.files, data.bundle.files.names, new / IDENTIFIER_BUNDLE)
    if data.encoder_files is not None:
        verify_files(data.encoder_files, data.manifest["text_encoder"], data.encoder_files.names, REMEDY)
        _copy(data.encoder_files, data.encoder_files.names, new / TEXT_ENCODER)
    return entries


def _copy(files: HeldFiles, names: Sequence[str], folder: Path) -> None:
    """Copy held files into a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with files.reading(name) as path:
            shutil.copyfile(path, folder / name)


def _weights(model: CART, data: DataBin, precision: str, name: str) -> dict[str, Tensor]:
    """Return what is stored of a model's weights: not those that the data-bin's text encoder has, too.

    Raises:
        ValueError: a weight is out of the precision's range; the message names it.
    """
    pretrained: dict[str, Tensor] = {}
    if model.architecture is not None and model.architecture.pretrained and data.encoder_files is not None:
        with data.encoder_files.reading(WEIGHTS) as path:
            pretrained = {TRANSFORMER + key: tensor.float() for key, tensor in load_file(path).items()}
    stored = {}
    for key, value in model.state_dict().items():
        value = value.detach().cpu()
        if key in pretrained and torch.equal(pretrained[key], value.float()):
            continue
        if key.startswith(ROUNDED) and value.is_floating_point():
            value = value.to(DTYPES[precision])
            if not value.isfinite().all():
                raise ValueError(f"{name}: the weight {key} is out of the range of {precision}; export in another")
        stored[key] = value.clone(memory_format=torch.contiguous_format)  # no two may share their values
    return stored


def _config(models: Sequence[CART], data: DataBin, settings: ExportSettings) -> dict[str, Any]:
    """The content of ``config.json``."""
    calibration = Calibration.of(models)
    dense = all(model.dense is not None for model in models)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "precision": settings.precision,
        "models": [architecture_entry(_architecture(model)) for model in models],
        "tuned": {
            "level_discount": _rounded(model.level_discount for model in models),
            "dense_weight": _rounded(model.dense.weight for model in models if model.dense) if dense else None,
            "prior_share": _rounded(model.dense.prior_share for model in models if model.dense) if dense else None,
            "calibration": None if calibration is None else calibration._asdict(),
        },
        "exported": {
            "items": len(data.bundle.kept),
            "revision": data.bundle.revision,
            "known_revision": [model.revision for model in models],
        },
        "versions": _versions(),
    }


def _rounded(values: Iterable[Any]) -> list[float]:
    return [round(float(value), 6) for value in values]


def _architecture(model: CART) -> Any:
    assert model.architecture is not None
    return model.architecture


def _versions() -> dict[str, str]:
    """The versions of the packages that wrote the folder, as far as they are installed."""
    found = {"cart-fairseq": VERSION}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _write_search_files(new: Path, source: DataBin) -> None:
    """Open what was written, as a test of it, and write what its searches read beside it.

    Raises:
        ValueError: the models have a share of priors, but there is nothing to compute priors from.
    """
    models, made = open_model_folder(new)
    if made.dense_items is None or any(model.dense is None for model in models):
        return
    # priors for a share of 0, too: a search may ask for another, and only now there are training captions
    priors = mean_share(models) > 0 or "train" in source.subsets
    write_search_files(models, made, priors, source)


def _record_beside(path: str | Path) -> Path | None:
    """The record of a recipe's run that made a checkpoint: ``run.json`` beside it, or a folder above."""
    folder = Path(str(path).split(":")[0]).absolute().parent
    return next((each for each in (folder / "run.json", folder.parent / "run.json") if each.is_file()), None)
