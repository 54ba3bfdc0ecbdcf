"""The encoder that made the embeddings of a data-bin's items, for media that are queries."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.encoders.base import MediaSample
from preprocess.encoders.loading import load_encoder, refuse_absent, weights_stamp
from preprocess.encoders.settings import FAMILIES, PRECISIONS
from preprocess.media.kind import kind_of
from preprocess.media.reading import MediaError, within

REMEDY = "embed the file with the catalogue's encoder yourself, and ask with Query(embedding=…)"


class DataBinEncoder:
    """The encoder that a data-bin names; see `preprocess.binarize`. A copy from a pickle loads it again.

    It outlives the data-bin, whose later states mostly have the same encoder.

    Args:
        named: `encoder` of the data-bin's manifest; None if it has none.
        folder: the data-bin's, for messages.
        device: auto, cpu, cuda, or what else torch calls it.

    Raises:
        ValueError: the data-bin names no encoder, it cannot be loaded, or its weights are not those of then.
    """

    def __init__(self, named: Any, folder: Path, device: str):
        self._made_from = named, folder, device
        if named is None:
            raise ValueError(
                f"{folder} does not say which encoder made its embeddings, because preprocess.extract_embeddings did "
                f"not write them; {REMEDY}"
            )
        fields: dict[str, Any] = named if isinstance(named, dict) else {}
        spec, precision, frames = str(fields.get("encoder")), fields.get("precision"), fields.get("frames")
        self._modalities = fields.get("modalities", [])  # data-bins of earlier versions do not have them
        known = spec.partition(":")[0] in FAMILIES and precision in PRECISIONS and isinstance(self._modalities, list)
        if not known or not (frames is None or type(frames) is int):
            raise ValueError(f"{folder}/manifest.json: encoder is {named!r}; {REMEDY}")
        try:
            refuse_absent(spec, fields.get("weights"), str(folder))
        except ValueError as error:
            raise ValueError(f"{error}; or {REMEDY}") from None
        if weights_stamp(spec) != fields.get("weights"):
            raise ValueError(
                f"the weights of encoder {spec!r} are not those that made the embeddings of {folder}; put them "
                f"back, or extract the embeddings again; {REMEDY}"
            )
        self._encoder = load_encoder(spec, device, str(precision), frames)

    def __call__(self, paths: Sequence[str], seconds: float | None = None) -> NDArray[np.float32]:
        """Embed files.

        A file that can be of several kinds, such as an animation, is of one that the items had when they were embedded, if
        it can.

        Args:
            paths: of n files.
            seconds: how long reading them may take; None: however long it takes.

        Returns:
            (n, E) float32, of length 1.

        Raises:
            ValueError: a file cannot be read, takes too long, is of a kind that the encoder does not accept, or gets no
                embedding.
        """
        with within(seconds):
            kinds = [kind_of(path, self._encoder.modalities, self._modalities) for path in paths]
            samples = [MediaSample(*each) for each in zip(kinds, map(Path, paths), strict=True)]
            rows = self._encoder.embed_media(samples)
        for path, row in zip(paths, rows, strict=True):
            if not (np.isfinite(row).all() and row.any()):
                raise MediaError(
                    f"{path}: the encoder computes no embedding of it, but NaN or zeros; give another file"
                )
        return rows

    def __reduce__(self) -> Any:
        return DataBinEncoder, self._made_from

    def __deepcopy__(self, _memo: Any) -> "DataBinEncoder":
        return self
