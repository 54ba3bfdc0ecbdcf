"""The encoder that made the embeddings of a data-bin's items, for media that are queries."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.catalogue.data_bin import DataBin
from preprocess.data.media_kind import kind_of
from preprocess.encoders.base import MediaSample
from preprocess.encoders.loading import load_encoder, refuse_absent, weights_stamp
from preprocess.encoders.settings import FAMILIES, PRECISIONS

REMEDY = "embed the file with the catalogue's encoder yourself, and ask with Query(embedding=…)"


def open_encoder(data: DataBin, device: str) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Load the encoder that a data-bin names; see `preprocess.binarize`.

    Args:
        data: the data-bin.
        device: auto, cpu, cuda, or what else torch calls it.

    Returns:
        A function that maps the paths of n files to embeddings (n, E) float32 of length 1. It raises ValueError for a
        file that cannot be read, or that is of a kind that the encoder does not accept. A file that can be of several
        kinds, such as an animation, is of one that the items had when they were embedded, if it can.

    Raises:
        ValueError: the data-bin names no encoder, it cannot be loaded, or its weights are not those of then.
    """
    named = data.manifest.get("encoder")
    if named is None:
        raise ValueError(
            f"{data.directory} does not say which encoder made its embeddings, because preprocess.extract_embeddings did "
            f"not write them; {REMEDY}"
        )
    fields: dict[str, Any] = named if isinstance(named, dict) else {}
    spec, precision, frames = str(fields.get("encoder")), fields.get("precision"), fields.get("frames")
    modalities = fields.get("modalities", [])  # data-bins of earlier versions do not have them
    known = spec.partition(":")[0] in FAMILIES and precision in PRECISIONS and isinstance(modalities, list)
    if not known or not (frames is None or type(frames) is int):
        raise ValueError(f"{data.directory}/manifest.json: encoder is {named!r}; {REMEDY}")
    try:
        refuse_absent(spec, fields.get("weights"), str(data.directory))
    except ValueError as error:
        raise ValueError(f"{error}; or {REMEDY}") from None
    if weights_stamp(spec) != fields.get("weights"):
        raise ValueError(
            f"the weights of encoder {spec!r} are not those that made the embeddings of {data.directory}; put them back, or "
            f"extract the embeddings again; {REMEDY}"
        )
    encoder = load_encoder(spec, device, str(precision), frames)

    def embed(paths: Sequence[str]) -> NDArray[np.float32]:
        kinds = [kind_of(path, encoder.modalities, modalities) for path in paths]
        return encoder.embed_media([MediaSample(*each) for each in zip(kinds, map(Path, paths), strict=True)])

    return embed
