"""Fits the codec of a scheme on a sample of the catalogue, in stages that a killed run does not repeat.

The stages leave in the working folder: `transform.safetensors`; `points.npy`, the transformed sample; `centres.npy`;
`residuals.npy` and `scale.json`; `checkpoints/`; `positions.json` and `codec.safetensors`, after which none of the
others is looked at again.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cart_fairseq.catalogue.identifiers import Position
from cart_fairseq.files import read_json, replacing, write_json
from cart_fairseq.progress import Progress
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.identifiers.assigned import AtomicCodec, digit_levels
from preprocess.identifiers.clustering import assign, fit_centres, sample_rows
from preprocess.identifiers.codec import Codec, ResidualCodec, TransformedCodec, TreeCodec, restore_codec
from preprocess.identifiers.residual_kmeans import ResidualKMeansCodec
from preprocess.identifiers.rqvae_runner import TrainingSettings, train_rqvae
from preprocess.identifiers.transform import Transform

PIPELINE_VERSION = 2
"""Raised when the same settings would give other identifiers, so that old outputs are not taken for current."""


@dataclass(frozen=True)
class Settings:
    """Everything besides the embeddings that determines the semantic values.

    train_sample: most rows that anything is fitted on; block_rows: rows held in memory at a time.
    """

    scheme: str
    kmeans_clusters: int
    kmeans: str
    training: TrainingSettings
    normalize: bool
    pca: int | None
    train_sample: int
    block_rows: int
    version: int = PIPELINE_VERSION


def fit_codec(embeddings: Embeddings, settings: Settings, work: Path, train_processes: int = 1) -> Codec:
    """Fit the codec, reusing from `work` what an interrupted run with the same embeddings and settings left there."""
    saved = work / "codec.safetensors"
    if not saved.exists():
        points, transform = transformed_sample(embeddings, settings, work)
        codec = fit_scheme(points, len(embeddings), settings, work, train_processes)
        if transform.normalize or transform.components is not None:
            codec = TransformedCodec(transform, codec)
        write_json(work / "positions.json", [dataclasses.asdict(position) for position in codec.positions])
        write_tensors(saved, codec.tensors())
    # Read back even when just fitted, so that a resumed run does not differ in anything.
    restored = restore_codec(
        load_file(saved), [Position(**position) for position in read_json(work / "positions.json")]
    )
    assert restored is not None
    return restored


def transformed_sample(embeddings: Embeddings, settings: Settings, work: Path) -> tuple[NDArray[np.float32], Transform]:
    """`points.npy` in `work`, (n, d) float32, memory-mapped: at most `train_sample` rows; and what was done to them."""
    sample = sample_rows(embeddings, settings.train_sample, settings.training.seed)
    transform_path, path = work / "transform.safetensors", work / "points.npy"
    if not transform_path.exists():
        transform = Transform.fit(sample, settings.normalize, settings.pca, settings.block_rows)
        write_tensors(transform_path, transform.tensors())
    transform = Transform.load(load_file(transform_path))
    if not path.exists():
        width = settings.pca or sample.shape[1]
        with (
            replacing(path) as new,
            Progress(len(sample), "sampling", "rows") as progress,
        ):
            out = np.lib.format.open_memmap(new, mode="w+", dtype=np.float32, shape=(len(sample), width))
            for block in blocks(len(sample), sample.shape[1], settings.block_rows):
                out[block] = transform(sample[block])
                progress.update(block.stop - block.start)
            out.flush()
    return np.load(path, mmap_mode="r", allow_pickle=False), transform


def fit_scheme(points: NDArray[np.float32], items: int, settings: Settings, work: Path, processes: int) -> Codec:
    """The codec of `settings.scheme`, fitted on points (n, d) of a catalogue of so many items."""
    training = settings.training
    sizes = [settings.kmeans_clusters] + [training.codebook_size] * training.codebooks
    clustering = (settings.kmeans, training.seed, settings.block_rows)
    if settings.scheme == "atomic":
        return AtomicCodec.fit(points)
    if settings.scheme == "structured":
        return TreeCodec.fit(points, digit_levels(items), *clustering)
    if settings.scheme == "hierarchical-kmeans":
        return TreeCodec.fit(points, sizes, *clustering)
    if settings.scheme == "residual-kmeans":
        return ResidualKMeansCodec.fit(points, sizes, *clustering)
    return fit_residual_codec(points, settings, work, processes)


def fit_residual_codec(points: NDArray[np.float32], settings: Settings, work: Path, processes: int) -> ResidualCodec:
    """k-means of points (n, d), then an RQ-VAE of what is left of them."""
    training, coarse = settings.training, settings.scheme == "coarse-fine"
    centres_path, residuals_path = work / "centres.npy", work / "residuals.npy"
    if not centres_path.exists():
        clusters = settings.kmeans_clusters if coarse else 1
        centres = fit_centres(points, clusters, settings.kmeans, training.seed, settings.block_rows)
        with replacing(centres_path) as new, open(new, "wb") as file:
            np.save(file, centres)
    centres = np.load(centres_path, allow_pickle=False)
    if not residuals_path.exists():
        write_residuals(residuals_path, points, centres, settings.block_rows)
    scale = float(read_json(work / "scale.json"))
    rqvae = train_rqvae(residuals_path, work, training, processes)
    return ResidualCodec(centres, settings.kmeans_clusters if coarse else 0, rqvae, scale)


def write_residuals(path: Path, points: NDArray[np.float32], centres: NDArray[np.float32], block_rows: int) -> None:
    """Write (point - nearest centre) / scale, (n, d) float32, for every point, and the scale as scale.json beside."""
    nearest = assign(points, centres)
    total = 0.0
    for block in blocks(len(points), points.shape[1], block_rows):
        total += float(np.square(points[block] - centres[nearest[block]], dtype=np.float64).sum())
    scale = (total / points.size) ** 0.5 or 1.0
    write_json(path.with_name("scale.json"), scale)
    with replacing(path) as new:
        out = np.lib.format.open_memmap(new, mode="w+", dtype=np.float32, shape=points.shape)
        for block in blocks(len(points), points.shape[1], block_rows):
            out[block] = (points[block] - centres[nearest[block]]) / np.float32(scale)
        out.flush()


def write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a safetensors file, atomically."""
    with replacing(path) as new:
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, new)
