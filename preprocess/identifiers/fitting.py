"""Fits the codec of a scheme on a sample of the catalogue, in stages that a killed run does not repeat.

The stages write to the working folder: `transform.safetensors`; `points.npy`, the transformed sample; files of the scheme;
`positions.json` and `codec.safetensors`. Once these last two are there, the others are not read again.
"""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cart_fairseq.base.arrays import new_array
from cart_fairseq.base.files import write_json
from cart_fairseq.base.progress import Progress
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.positions import Position
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.data.kept import is_whole, keeping
from preprocess.identifiers.clustering import sample_rows
from preprocess.identifiers.codec import TransformedCodec, restore_codec
from preprocess.identifiers.rqvae_runner import default_batch_size
from preprocess.identifiers.schemes.named import SCHEMES
from preprocess.identifiers.schemes.scheme import Codec, Scheme
from preprocess.identifiers.settings import FitSettings, IdentifierSettings, RQVAESettings
from preprocess.identifiers.transform import Transform


def fit_settings(settings: IdentifierSettings, items: int) -> FitSettings:
    """Settings of the fit, with the defaults that depend on others and on the number of items filled in."""
    sample = settings.chosen("train_sample") or items
    training = RQVAESettings(
        codebooks=SCHEMES[settings.scheme].codebooks(settings.codebooks),
        codebook_size=settings.codebook_size,
        latent_dim=settings.latent_dim,
        epochs=settings.epochs,
        warmup_epochs=settings.warmup_epochs or max(1, settings.epochs * 3 // 5),
        batch_size=settings.chosen("batch_size") or default_batch_size(min(items, sample)),
        seed=settings.seed,
        codebook_init=settings.chosen("codebook_init"),
        recentre=settings.chosen("recentre"),
        reseed=settings.chosen("reseed"),
        alpha=float(settings.chosen("alpha")),
        beta=float(settings.chosen("beta")),
    )
    return FitSettings(
        scheme=settings.scheme,
        kmeans_clusters=settings.kmeans_clusters,
        kmeans=settings.chosen("kmeans"),
        training=training,
        normalize=settings.normalize,
        pca=settings.pca,
        train_sample=sample,
        block_rows=settings.block_rows,
        centring=settings.chosen("centring"),
        residual_scale=settings.chosen("residual_scale"),
    )


def fit_codec(
    scheme: Scheme, embeddings: Embeddings, settings: FitSettings, work: Path, train_processes: int = 1
) -> Codec:
    """Fit the codec; what an interrupted run with the same embeddings and settings left in `work` is used again."""
    saved, named = work / "codec.safetensors", work / "positions.json"
    if not (is_whole(named) and is_whole(saved)):
        points, transform = transformed_sample(embeddings, settings, work)
        codec = scheme.fit(points, len(embeddings), settings, work, train_processes)
        if transform.normalize or transform.components is not None:
            codec = TransformedCodec(transform, codec)
        with keeping(named) as new:
            write_json(new, [dataclasses.asdict(position) for position in codec.positions])
        write_tensors(saved, codec.tensors())
    # Read back even when just fitted, so that a resumed run does not differ in anything.
    positions = [Position(**position) for position in read_json(named)]
    return restore_codec(scheme, load_file(saved), positions)


def transformed_sample(
    embeddings: Embeddings, settings: FitSettings, work: Path
) -> tuple[NDArray[np.float32], Transform]:
    """The sample, at most `train_sample` rows, transformed, and the transform.

    Returns:
        `points.npy` in `work`, (n, d) float32, memory-mapped; the transform.
    """
    sample = sample_rows(embeddings, settings.train_sample, settings.training.seed)
    transform_path, path = work / "transform.safetensors", work / "points.npy"
    if not is_whole(transform_path):
        transform = Transform.fit(sample, settings.normalize, settings.pca, settings.block_rows)
        write_tensors(transform_path, transform.tensors())
    transform = Transform.load(load_file(transform_path))
    if not is_whole(path):
        width = settings.pca or sample.shape[1]
        with keeping(path) as new, Progress(len(sample), "sampling", "rows") as progress:
            out = new_array(new, np.float32, (len(sample), width))
            for block in blocks(len(sample), sample.shape[1], settings.block_rows):
                out[block] = transform(sample[block])
                progress.update(block.stop - block.start)
            out.flush()
    return np.load(path, mmap_mode="r", allow_pickle=False), transform


def write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a safetensors file, atomically, and its checksum."""
    with keeping(path) as new:
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, new)
