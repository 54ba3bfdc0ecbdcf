"""The codec of a bundle: that of its scheme, with normalisation and PCA before it if there are any."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cart_fairseq.base.checks import short
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.positions import Position
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.identifiers.schemes.named import SCHEMES
from preprocess.identifiers.schemes.scheme import Codec, Scheme
from preprocess.identifiers.transform import Transform


@dataclass
class TransformedCodec(Codec):
    """A codec of transformed embeddings."""

    transform: Transform
    inner: Codec

    @property
    def positions(self) -> list[Position]:
        """Those of the inner codec."""
        return self.inner.positions

    def encode(self, embeddings: Embeddings) -> NDArray[np.int32]:
        """(N, D) float16 or float32 -> (N, C) int32."""
        codes = np.empty((len(embeddings), len(self.positions)), dtype=np.int32)
        for block in blocks(*embeddings.shape):
            codes[block] = self.inner.encode(self.transform(embeddings[block]))
        return codes

    def decode(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, C) int32 -> (n, D) float32: the decoded embedding, of length about 1 where the transform normalises."""
        return self.transform.inverse(self.inner.decode(codes))

    def distances(self, embeddings: NDArray[np.floating], prefixes: NDArray[np.int32]) -> NDArray[np.float32]:
        """Those of the inner codec, of (n, D) embeddings after the transform."""
        return self.inner.distances(self.transform(embeddings), prefixes)

    @property
    def codewords(self) -> list[int]:
        """Those of the inner codec."""
        return self.inner.codewords

    @property
    def first_centres(self) -> NDArray[np.float32]:
        """(K, d) float32, those of the inner codec."""
        return self.inner.first_centres

    def transformed(self, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
        """(n, D) -> (n, d) float32, by the transform."""
        return self.transform(embeddings)

    def decode_transformed(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(n, C) int32 -> (n, d) float32, without the way back through the transform."""
        return self.inner.decode(codes)

    def normalised(self, rows: Tensor) -> Tensor:
        """(n, D) float32 -> (n, D), of length 1 where the transform normalises."""
        return self.transform.normalised(rows)

    def tensors(self) -> dict[str, np.ndarray]:
        """Those of the inner codec and the transform's."""
        return {**self.inner.tensors(), **self.transform.tensors()}


def load_codec(bundle: IdentifierBundle) -> Codec:
    """The codec that a bundle was built with, restored by the scheme that its `codec.json` names.

    Raises:
        ValueError: the bundle holds no codec, that of a scheme that is not known here, or one with values that are no
            numbers.
    """
    remedy = "build the identifiers again"
    name = bundle.codec_settings.get("scheme")
    if name is None:
        raise ValueError(f"{bundle.directory}/codec.json: names no scheme, so there is no codec in it; {remedy}")
    if not isinstance(name, str) or name not in SCHEMES:
        raise ValueError(
            f"{bundle.directory}/codec.json: scheme is {short(name)}, not one of {', '.join(SCHEMES)}; {remedy}"
        )
    tensors = bundle.codec_tensors()
    for tensor, values in tensors.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{bundle.directory}/codec.safetensors: {tensor} holds NaN or infinite values; {remedy}")
    try:
        return restore_codec(SCHEMES[name], tensors, bundle.semantic_positions)
    except KeyError as error:
        raise ValueError(f"{bundle.directory}/codec.safetensors: lacks the tensor {error}; {remedy}") from None


def restore_codec(scheme: Scheme, tensors: dict[str, np.ndarray], positions: Sequence[Position]) -> Codec:
    """The codec of these tensors.

    Args:
        scheme: whose codec it is.
        tensors: what `Codec.tensors` returned.
        positions: the semantic ones.

    Raises:
        KeyError: a tensor is missing.
    """
    inner = {name: tensor for name, tensor in tensors.items() if not name.startswith("transform.")}
    codec = scheme.restore(inner, positions)
    return codec if len(inner) == len(tensors) else TransformedCodec(Transform.load(tensors), codec)
