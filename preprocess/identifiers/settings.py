"""Settings of `build_identifiers`, with the default of every flag of its command. Imports the standard library only."""

from dataclasses import dataclass

from preprocess.data.arguments import check_choice, check_numbers
from preprocess.data.fields import EMBEDDING_COLUMN

SCHEME_HELP = {
    "coarse-fine": "k-means, then an RQ-VAE of the residuals",
    "rqvae": "without k-means",
    "hierarchical-kmeans": "a tree of k-means clusters, without RQ-VAE",
    "residual-kmeans": "k-means of residuals instead of the RQ-VAE",
    "atomic": "one symbol an item",
    "structured": "path in a tree of ten children a node, as digits",
}
"""Scheme -> what it is in a few words. `preprocess.identifiers.schemes.named` has the schemes themselves."""
KMEANS = ("minibatch", "lloyd")
ENGINES = ("local", "ray")
COLLISIONS = ("unique", "nearest-free")

BLOCK_ROWS = 16_384
"""Rows in memory at a time."""
FIT_ROWS = 200_000
"""Codecs of more rows than this are fitted on a seeded sample of so many."""
PIPELINE_VERSION = 2
"""Raised when the same settings would give other identifiers, so that old outputs are not taken for current."""


@dataclass(frozen=True)
class IdentifierSettings:
    """Settings of `build_identifiers`. Every field is also a flag of the command.

    Attributes:
        scheme: how identifiers are made: `coarse-fine` (the paper's), `rqvae`, `hierarchical-kmeans`,
            `residual-kmeans`, `atomic` or `structured`.
        kmeans_clusters: K, size of the coarse level, or of the first level of a tree.
        kmeans: `minibatch` (scikit-learn's `MiniBatchKMeans`) or `lloyd` (`KMeans`).
        codebooks: M, number of fine levels. The scheme rqvae has one more, instead of the coarse level.
        codebook_size: size of each fine level, or of the lower levels of a tree.
        latent_dim: width of the RQ-VAE's latent vector and codewords.
        epochs: epochs of RQ-VAE training.
        warmup_epochs: epochs with a rising learning rate. None: three fifths of `epochs`.
        batch_size: rows per update of the RQ-VAE. None: about an eighth of the sample, from 32 to 1024.
        normalize: scale every embedding to length 1.
        pca: number of principal components of the embeddings to keep. None: no PCA.
        train_sample: k-means, PCA and the RQ-VAE are fitted on at most this many rows, drawn from all.
        block_rows: rows in memory at a time.
        train_processes: processes that train the RQ-VAE together on this machine.
        engine: where values are assigned: `local`, or `ray` for the cluster at RAY_ADDRESS. The result is the same.
        collisions: what happens to items that share a code: with `unique` they keep it and differ in the unique token
            only; with `nearest-free` the nearest item keeps it and the others move to near free codes while there are
            any.
        unique_size: symbols reserved for each digit of the unique token.
        seed: seed of k-means, the RQ-VAE and every sample.
        allow_collapse: build even from too few items or with a collapsed level.
        embedding_column: column of Parquet and Arrow tables that has the embeddings.

    Raises:
        ValueError: a value is out of range; the message names its flag.
    """

    scheme: str = "coarse-fine"
    kmeans_clusters: int = 128
    kmeans: str = "minibatch"
    codebooks: int = 2
    codebook_size: int = 128
    latent_dim: int = 64
    epochs: int = 500
    warmup_epochs: int | None = None
    batch_size: int | None = None
    normalize: bool = False
    pca: int | None = None
    train_sample: int = FIT_ROWS
    block_rows: int = BLOCK_ROWS
    train_processes: int = 1
    engine: str = "local"
    collisions: str = "unique"
    unique_size: int = 128
    seed: int = 1
    allow_collapse: bool = False
    embedding_column: str = EMBEDDING_COLUMN

    def __post_init__(self) -> None:
        check_choice(self, "scheme", SCHEME_HELP)
        check_choice(self, "kmeans", KMEANS)
        check_choice(self, "engine", ENGINES)
        check_choice(self, "collisions", COLLISIONS)
        check_numbers(self, "kmeans_clusters", "codebooks", "codebook_size", "latent_dim", "epochs", "warmup_epochs")
        check_numbers(self, "batch_size", "pca", "train_sample", "block_rows", "train_processes")
        check_numbers(self, "seed", at_least=0)
        if self.seed >= 2**31:
            raise ValueError(f"--seed is {self.seed}; it must be between 0 and 2147483647")
        if self.unique_size < 2:
            raise ValueError(f"--unique-size is {self.unique_size}; reserve at least 2 symbols for the unique token")


@dataclass(frozen=True)
class RQVAESettings:
    """What determines a trained RQ-VAE besides the residuals.

    Attributes:
        epochs, warmup_epochs: passes over the residuals; the learning rate rises from 1e-6 to 1e-4 over warmup_epochs,
            then falls with the inverse square root of the update number.
        batch_size: rows per update.
    """

    codebooks: int
    codebook_size: int
    latent_dim: int
    epochs: int
    warmup_epochs: int
    batch_size: int
    seed: int


@dataclass(frozen=True)
class FitSettings:
    """Everything besides the embeddings that determines a codec and so the semantic values; `codec.json` records it.

    Attributes:
        training: of the RQ-VAE. All schemes take the number and size of their lower levels and the seed from it.
        train_sample: most rows that anything is fitted on.
        block_rows: rows held in memory at a time.
    """

    scheme: str
    kmeans_clusters: int
    kmeans: str
    training: RQVAESettings
    normalize: bool
    pca: int | None
    train_sample: int
    block_rows: int
    version: int = PIPELINE_VERSION

    @property
    def level_sizes(self) -> list[int]:
        """Size of the coarse level and of each lower one."""
        return [self.kmeans_clusters] + [self.training.codebook_size] * self.training.codebooks
