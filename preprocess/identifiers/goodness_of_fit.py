"""How well a codec describes items: their distances to its centres, and the error of quantisation.

The build measures it on items of the catalogue, so that an update can compare new items with them (`updating.drift`).
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from preprocess.data.embeddings import Embeddings
from preprocess.identifiers.clustering import NearestCentre, chunks, sample_rows
from preprocess.identifiers.schemes.scheme import Codec

BASELINE_ROWS = 10_000
"""Most items of the catalogue that new ones are compared with."""


@torch.inference_mode()
def fit_of(codec: Codec, embeddings: Embeddings, codes: NDArray[np.int32]) -> dict[str, Any]:
    """How well (n, C) codes describe (n, D) embeddings.

    Returns:
        items; centre_distance: `mean`, `p50` and `p95` of the distances to the nearest centre of the first level;
        squared_error: mean squared distance to the decoded code. Where the codec transforms embeddings, after that.
    """
    centres = codec.first_centres
    find, of_centre = NearestCentre(centres), torch.from_numpy(centres)
    distances, errors = np.empty(len(embeddings)), np.empty(len(embeddings))
    for rows, chunk in chunks(embeddings):
        points = torch.from_numpy(codec.transformed(chunk.numpy()))
        distances[rows] = (points - of_centre[find(points)]).norm(dim=1).numpy()
        errors[rows] = (points - torch.from_numpy(codec.decode_transformed(codes[rows]))).square().sum(dim=1).numpy()
    p50, p95 = np.percentile(distances, [50, 95])
    return {
        "items": len(embeddings),
        "centre_distance": {"mean": float(distances.mean()), "p50": float(p50), "p95": float(p95)},
        "squared_error": float(errors.mean()),
    }


def baseline(codec: Codec, embeddings: Embeddings, seed: int = 1) -> dict[str, Any]:
    """`fit_of` a seeded sample of old items' embeddings (N, D)."""
    sample = sample_rows(embeddings, BASELINE_ROWS, seed)
    return fit_of(codec, sample, codec.encode(sample))
