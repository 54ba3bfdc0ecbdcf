r"""Compare the quantisation error of a bundle's codec with faiss's residual quantiser at equal bits.

    python examples/identifiers/quantisation.py --identifiers OUT/identifiers --embeddings DATA/embeddings.npy \
        [--json FILE]

On latent vectors, the RQ-VAE's codebooks are compared with faiss's `ResidualQuantizer` with `max_beam_size=1`. On raw
vectors, the whole codec is compared with residual k-means of the same sizes and with faiss. The error is the mean
squared error divided by the variance: 0 is exact, 1 is no better than the mean. Needs faiss: pip install faiss-cpu.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import numpy as np
import torch
from numpy.typing import NDArray
from provenance import provenance

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from preprocess.data.embeddings import Embeddings, open_embeddings
from preprocess.identifiers.codec import TransformedCodec, load_codec
from preprocess.identifiers.schemes.coarse_fine import ResidualCodec
from preprocess.identifiers.schemes.residual_kmeans import ResidualKMeansCodec
from preprocess.identifiers.schemes.scheme import Codec


def relative_error(points: NDArray[np.float32], decoded: NDArray[np.float32]) -> float:
    """Return the mean squared error of (n, d) points divided by their variance."""
    spread = np.square(points - points.mean(axis=0)).sum(dtype=np.float64)
    return float(np.square(points - decoded).sum(dtype=np.float64) / spread)


def faiss_error(points: NDArray[np.float32], sizes: Sequence[int]) -> float:
    """Return the error of faiss's greedy residual quantiser with codebooks of these sizes, fitted on the same points.

    Raises:
        ValueError: faiss is not installed, or a size is not a power of two.
    """
    try:
        import faiss
    except ImportError:
        raise ValueError("faiss is not installed; pip install faiss-cpu") from None
    bits = [int(math.log2(size)) for size in sizes]
    if any(1 << b != size for b, size in zip(bits, sizes, strict=True)):
        raise ValueError(f"sizes {list(sizes)} are not powers of two; build identifiers with powers of two")
    vector: Any = faiss.UInt64Vector()
    for b in bits:
        vector.push_back(b)
    quantiser = faiss.ResidualQuantizer(points.shape[1], vector)
    quantiser.max_beam_size = 1
    quantiser.train(points)
    return relative_error(points, quantiser.decode(quantiser.compute_codes(points)))


@torch.inference_mode()
def latents(codec: ResidualCodec, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return latent vectors (n, latent) of points (n, D), and their quantised values."""
    coarse = codec.encode(points)[:, 0] if codec.clusters else np.zeros(len(points), dtype=np.int32)
    latent = codec.rqvae.encoder(torch.from_numpy((points - codec.centres[coarse]) / np.float32(codec.scale)))
    return latent.numpy(), codec.rqvae.quantise(latent)[1].numpy()


def compare(codec: Codec, embeddings: Embeddings) -> dict[str, Any]:
    """Return the errors of a coarse-fine or rqvae codec and of the other quantisers.

    Raises:
        ValueError: the codec has no RQ-VAE.
    """
    points = np.asarray(embeddings, dtype=np.float32)
    if isinstance(codec, TransformedCodec):
        points, codec = codec.transform(points), codec.inner
    if not isinstance(codec, ResidualCodec):
        raise ValueError("the bundle has no RQ-VAE; give one of scheme coarse-fine or rqvae")
    latent, quantised = latents(codec, points)
    fine = [len(codebook) for codebook in codec.rqvae.codebooks]
    sizes = [position.size for position in codec.positions]
    plain = ResidualKMeansCodec.fit(points, sizes, "lloyd", seed=1)
    on_latents = {"ours": relative_error(latent, quantised), "faiss": faiss_error(latent, fine)}
    on_raw = {
        "ours": relative_error(points, codec.decode(codec.encode(points))),
        "residual_kmeans": relative_error(points, plain.decode(plain.encode(points))),
        "faiss": faiss_error(points, sizes),
    }
    return {"latents": {"sizes": fine, **on_latents}, "raw": {"sizes": sizes, **on_raw}}


def table(found: dict[str, Any]) -> str:
    """Return the errors as text, with their ratio to faiss's."""
    names = {"ours": "this bundle's codec", "residual_kmeans": "residual k-means", "faiss": "faiss, beam 1"}
    lines = [f"{'':<12}{'':<22}{'error':>8}{'of faiss':>10}"]
    for where, title in (("latents", "latents"), ("raw", "raw vectors")):
        errors = found[where]
        for name in (key for key in names if key in errors):
            ratio = errors[name] / errors["faiss"] if errors["faiss"] else math.nan
            lines.append(f"{title:<12}{names[name]:<22}{errors[name]:>8.4f}{ratio:>9.3f}x")
            title = ""
        lines.append(f"{'':<12}{' x '.join(map(str, errors['sizes']))} values")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Compare the quantisation error with faiss's residual quantiser.")
    parser.add_argument("--identifiers", type=Path, required=True, help="bundle of scheme coarse-fine or rqvae")
    parser.add_argument("--embeddings", type=Path, required=True, help="the embeddings from which it was built")
    parser.add_argument("--json", type=Path, help="file for the errors")
    args = parser.parse_args(argv)
    codec = load_codec(IdentifierBundle.load(args.identifiers))
    found = compare(codec, open_embeddings(args.embeddings))
    print(table(found))
    if args.json:
        write_json(args.json, {**provenance(vars(args), "json"), **found})


if __name__ == "__main__":
    run_script(main)
