"""The transform of an embedding before it is quantised: scaling to length 1, then principal components.

Both are off by default; the paper has neither. Their parameters are part of the codec.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.decomposition import IncrementalPCA
from threadpoolctl import threadpool_limits
from torch import Tensor

from cart_fairseq.base.progress import track
from preprocess.data.embeddings import Embeddings
from preprocess.identifiers.clustering import chunks


@dataclass
class Transform:
    """Optional L2 normalisation, then optional PCA.

    normalize: divide every row by its length.
    mean: (D,) float32, subtracted before the projection; None without PCA.
    components: (d, D) float32, orthonormal rows; None without PCA.
    """

    normalize: bool = False
    mean: NDArray[np.float32] | None = None
    components: NDArray[np.float32] | None = None

    @classmethod
    def fit(cls, sample: Embeddings, normalize: bool, pca: int | None, block_rows: int) -> "Transform":
        """Learn what the options need from a sample, `block_rows` rows at a time (scikit-learn's `IncrementalPCA`).

        Args:
            sample: (n, D) float16 or float32.
            pca: d, number of components; None for no PCA.

        Raises:
            ValueError: more components than rows or dimensions.
        """
        if pca is None:
            return cls(normalize)
        if pca > min(sample.shape):
            raise ValueError(
                f"--pca {pca}: there are only {sample.shape[0]} rows of {sample.shape[1]} dimensions to fit it on; use a "
                f"value of at most {min(sample.shape)}"
            )
        estimator = IncrementalPCA(pca)
        # Batches of the same size to one row, as each needs at least as many rows as there are components.
        parts = np.array_split(np.arange(len(sample)), max(1, len(sample) // max(block_rows, pca)))
        with threadpool_limits(limits=1), np.errstate(invalid="ignore"):  # equal rows have no variance to share out
            for rows in track(parts, "PCA", "batches"):
                estimator.partial_fit(cls(normalize)(sample[rows]))
        return cls(normalize, estimator.mean_.astype(np.float32), estimator.components_.astype(np.float32))

    @torch.inference_mode()
    def __call__(self, embeddings: Embeddings) -> NDArray[np.float32]:
        """(n, D) float16 or float32 -> (n, d or D) float32."""
        width = embeddings.shape[1] if self.components is None else len(self.components)
        out = np.empty((len(embeddings), width), dtype=np.float32)
        for rows, chunk in chunks(embeddings):
            chunk = self.normalised(chunk)
            if self.mean is not None and self.components is not None:
                chunk = (chunk - torch.from_numpy(self.mean)) @ torch.from_numpy(self.components).T
            out[rows] = chunk.numpy()
        return out

    def normalised(self, rows: Tensor) -> Tensor:
        """(n, D) float32 with rows of length 1, if that is asked for."""
        return F.normalize(rows, dim=1) if self.normalize else rows

    def inverse(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, d) -> (n, D) float32: back from the principal components; lengths stay lost."""
        if self.mean is None or self.components is None:
            return points
        return points @ self.components + self.mean

    def tensors(self) -> dict[str, np.ndarray]:
        """What `codec.safetensors` holds of it: `transform.normalize` and with PCA `.mean` and `.components`."""
        tensors = {"transform.normalize": np.array([self.normalize])}
        if self.mean is not None and self.components is not None:
            tensors |= {"transform.mean": self.mean, "transform.components": self.components}
        return tensors

    @classmethod
    def load(cls, tensors: dict[str, np.ndarray]) -> "Transform":
        """The inverse of `tensors`."""
        normalize = bool(tensors["transform.normalize"][0])
        return cls(normalize, tensors.get("transform.mean"), tensors.get("transform.components"))
