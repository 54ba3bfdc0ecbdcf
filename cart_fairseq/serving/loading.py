"""Opens checkpoint and data-bin, or a MODEL folder, for the service, and opens anew what has changed since."""

import ctypes
import dataclasses
import gc
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cart_fairseq.catalogue.data_bin import CANDIDATES, DataBin, stamp_of
from cart_fairseq.catalogue.held_files import Stamp, identity
from cart_fairseq.example_retriever import ExampleRetriever
from cart_fairseq.loading.hub import local_folder
from cart_fairseq.loading.model_folder import CONFIG, WEIGHTS
from cart_fairseq.retriever import CartRetriever
from cart_fairseq.serving.served import Retriever, Served
from cart_fairseq.serving.settings import ServingSettings

KEPT_BYTES = 128 << 20
"""Freed memory that the allocator may keep."""


class Stamps(NamedTuple):
    """What changes when a data-bin or a checkpoint does.

    Attributes:
        data: of the data-bin, with the candidate sets of its user.
        checkpoint: of the file or files of the checkpoint, or of the weights and settings in a MODEL folder.
    """

    data: Stamp
    checkpoint: Stamp


def with_local_model(settings: ServingSettings) -> ServingSettings:
    """Return settings with the folder of a model of the Hub in place of its name; it is downloaded if need be.

    Raises:
        ValueError: it cannot be had.
    """
    if settings.model is None:
        return settings
    folder = local_folder(settings.model, settings.revision)
    return dataclasses.replace(settings, model=folder, data="", revision=None)


def stamps_of(settings: ServingSettings) -> Stamps:
    """Look at the data-bin and the checkpoint, without reading them."""
    root = Path(settings.data)
    sets = tuple((path.name, identity(path)) for path in sorted(root.glob(CANDIDATES.format("*"))))
    paths = [] if settings.path is None else [Path(path) for path in str(settings.path).split(":")]
    if settings.model is not None:
        paths = [root / CONFIG, *sorted(root.glob(WEIGHTS))]
    return Stamps((*stamp_of(root), sets), tuple(identity(path) for path in paths))


def load(settings: ServingSettings, earlier: Served | None = None) -> Served:
    """Open checkpoint and data-bin, and search once.

    Raises:
        ValueError: one is missing or damaged, or they do not belong together.
    """
    # otherwise fairseq's task makes the allocator keep freed blocks, as a training needs, and memory grows for ever:
    # each batch of queries has another shape
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(KEPT_BYTES))
    return Served(_retriever(settings), earlier)


def _retriever(settings: ServingSettings) -> Retriever:
    if settings.model is not None:
        return CartRetriever.from_pretrained(settings.model, None, settings.beam, settings.device, settings.precision)
    if settings.path is None:
        return ExampleRetriever.from_pretrained(settings.data, settings.device)
    return CartRetriever.from_pretrained(
        settings.path, settings.data, settings.beam, settings.device, settings.precision
    )


def renew(settings: ServingSettings, served: Served, checkpoint: bool) -> Served | None:
    """Open what has changed, beside what answers now.

    Files that the data-bin has got since are compared with their checksums. The models are kept if neither they nor the
    identifiers that they belong to were replaced.

    Args:
        settings: of the service.
        served: what answers now.
        checkpoint: whether the checkpoint has changed.

    Returns:
        What is to answer from now on; None if nothing has changed but places of files.

    Raises:
        ValueError: the new state is damaged, or does not belong together.
    """
    data = DataBin(settings.data)
    verify_new(data, served.data)
    if checkpoint or _other_model(served, data):
        return load(settings, served)
    if _same(data, served.data):
        return None
    return Served(served.retriever.on(data), served)


def verify_new(data: DataBin, old: DataBin) -> None:
    """Compare files of a data-bin with their checksums, as far as the earlier state has other ones.

    Raises:
        CatalogueError: a checksum differs; the message names the file.
    """
    known = {entry.get("sha256") for each in (old, old.bundle) for entry in each.manifest["files"].values()}
    for each in (data, data.bundle):
        names = [name for name, entry in each.manifest["files"].items() if entry.get("sha256") not in known]
        if isinstance(each, DataBin):
            each.verify(names)
        else:
            each.verify_files(names)


def _other_model(served: Served, data: DataBin) -> bool:
    """Whether a state of the data-bin has other identifiers or another vocabulary than the models know."""
    return isinstance(served.retriever, CartRetriever) and data.fingerprint != served.data.fingerprint


def _same(data: DataBin, old: DataBin) -> bool:
    """Whether two states have the same items, files and candidate sets."""
    if data.bundle.state != old.bundle.state or data.manifest != old.manifest:
        return False
    names = data.candidate_names
    return names == old.candidate_names and all(
        np.array_equal(np.asarray(data.candidates(name)), np.asarray(old.candidates(name)))
        for name in names
        if name != "all"
    )


def give_back_memory() -> None:
    """Free what nothing refers to any more, and give its memory back to the system where the allocator would keep it."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
        if trim is not None:
            trim(0)
