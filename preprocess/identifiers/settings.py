"""Settings of `build_identifiers`, with the default of every flag of its command. Imports the standard library only."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from cart_fairseq.base.checks import Settings
from preprocess.data.arguments import check_choice, check_numbers
from preprocess.data.fields import EMBEDDING_COLUMN

SCHEME_HELP = {
    "coarse-fine": "k-means, then an RQ-VAE of the residuals",
    "rqvae": "without k-means",
    "hierarchical-kmeans": "a tree of k-means clusters, without RQ-VAE",
    "residual-kmeans": "k-means of residuals instead of the RQ-VAE",
    "atomic": "one symbol an item",
    "structured": "path in a tree of ten children a node, as digits",
    "semantic": "words of the item's caption, see --captions",
}
"""Scheme -> what it is in a few words. `preprocess.identifiers.schemes.named` has the schemes themselves."""
KMEANS = ("minibatch", "lloyd", "sklearn-default")
CODEBOOK_INITS = ("kmeans", "random")
ENGINES = ("local", "ray")
COLLISIONS = ("unique", "nearest-free")

BLOCK_ROWS = 16_384
"""Rows in memory at a time."""
FIT_ROWS = 200_000
"""Codecs of more rows than this are fitted on a seeded sample of so many."""
CAPTION_WORDS, CAPTION_VOCABULARY = 12, 1_000
"""Most words of an identifier of the scheme semantic, and most different words."""
PIPELINE_VERSION = 2
"""Raised when the same settings would give other identifiers, so that old outputs are not taken for current."""

OURS: dict[str, Any] = {
    "kmeans": "minibatch",
    "train_sample": FIT_ROWS,
    "centring": True,
    "residual_scale": True,
    "codebook_init": "kmeans",
    "recentre": True,
    "reseed": True,
    "alpha": 1.0,
    "beta": 0.25,
    "allow_collapse": False,
    "caption_words": CAPTION_WORDS,
    "caption_vocabulary": CAPTION_VOCABULARY,
}
"""Field -> its value where it is None and `faithful` is off."""
PAPER: dict[str, Any] = {
    "kmeans": "sklearn-default",  # appendix C: "the default mini batch K-Means algorithm in scikit-learn"
    "train_sample": None,  # section 3.2.1: "the embeddings of all the items"
    "centring": False,
    "residual_scale": False,
    "codebook_init": "random",
    "recentre": False,
    "reseed": False,
    "alpha": 1.0,  # Eq. 1 gives no value of alpha and beta
    "beta": 0.25,
    "batch_size": 256,  # section 4.2
    "kmeans_clusters": 128,  # this and all below: appendix C
    "codebooks": 2,
    "codebook_size": 128,
    "latent_dim": 64,
    "epochs": 500,
    "warmup_epochs": 300,
    "normalize": False,
    "pca": None,
    "collisions": "unique",
    "allow_collapse": True,
}
"""Field -> the paper's value, used with `faithful` where the field is None. train_sample None: all rows."""


@dataclass(frozen=True)
class IdentifierSettings(Settings):
    """Settings of `build_identifiers`. Every field is also a flag of the command.

    Attributes:
        scheme: how identifiers are made: `coarse-fine` (the paper's), `rqvae`, `hierarchical-kmeans`,
            `residual-kmeans`, `atomic`, `structured` or `semantic`.
        kmeans_clusters: K, size of the coarse level, or of the first level of a tree.
        kmeans: `minibatch` (scikit-learn's `MiniBatchKMeans` with large batches and three starts), `lloyd` (`KMeans`)
            or `sklearn-default` (`MiniBatchKMeans` with scikit-learn's defaults). None: the first; the last with
            `faithful`.
        codebooks: M, number of fine levels. The scheme rqvae has one more, instead of the coarse level.
        codebook_size: size of each fine level, or of the lower levels of a tree.
        latent_dim: width of the RQ-VAE's latent vector and codewords.
        epochs: epochs of RQ-VAE training.
        warmup_epochs: epochs with a rising learning rate. None: three fifths of `epochs`.
        batch_size: rows per update of the RQ-VAE. None: about an eighth of the sample, from 32 to 1024; 256 with
            `faithful`.
        normalize: scale every embedding to length 1.
        pca: number of principal components of the embeddings to keep. None: no PCA.
        train_sample: k-means, PCA and the RQ-VAE are fitted on at most this many rows, drawn from all. None: 200,000; all
            rows with `faithful`.
        block_rows: rows in memory at a time.
        train_processes: processes that train the RQ-VAE together on this machine.
        engine: where values are assigned: `local`, or `ray` for the cluster at RAY_ADDRESS. The result is the same.
        collisions: what happens to items that share a code: with `unique` they keep it and differ in the unique token
            only; with `nearest-free` the nearest item keeps it and the others move to near free codes while there are
            any.
        unique_size: symbols reserved for each digit of the unique token.
        seed: seed of k-means, the RQ-VAE and every sample.
        allow_collapse: build even from too few items or with a collapsed level. None: no; with `faithful` a collapsed
            level is reported, and too few items are still refused.
        embedding_column: column of Parquet and Arrow tables that has the embeddings.
        faithful: identifiers as the paper makes them (section 3.2, appendix C). It sets those of the other fields that
            are None; a value that is given wins, and `report.json` names it.
        centring: k-means and assignment take distances from the mean, not from the origin. The scheme rqvae subtracts
            the mean from the embeddings. None: yes; no with `faithful`.
        residual_scale: divide residuals by their root mean square. None: yes; no with `faithful`.
        codebook_init: codebooks start as k-means centres (`kmeans`) or `random`. None: the first; the second with
            `faithful`.
        recentre: move every codeword to the mean of its residuals once an epoch. None: yes; no with `faithful`.
        reseed: move codewords that no residual chooses, every five epochs. None: yes; no with `faithful`.
        alpha: weight of the commitment loss (CART Eq. 1). None: 1.
        beta: weight of the encoder's term in the commitment loss (CART Eq. 1). None: 0.25.
        caption_words: most words of an identifier of the scheme `semantic`. None: 12.
        caption_vocabulary: most different words of the scheme `semantic`, which takes the most frequent ones and leaves
            out all others. None: 1,000.

    Raises:
        ValueError: a value is out of range; the message names its flag.
    """

    scheme: str = "coarse-fine"
    kmeans_clusters: int = 128
    kmeans: str | None = None
    codebooks: int = 2
    codebook_size: int = 128
    latent_dim: int = 64
    epochs: int = 500
    warmup_epochs: int | None = None
    batch_size: int | None = None
    normalize: bool = False
    pca: int | None = None
    train_sample: int | None = None
    block_rows: int = BLOCK_ROWS
    train_processes: int = 1
    engine: str = "local"
    collisions: str = "unique"
    unique_size: int = 128
    seed: int = 1
    allow_collapse: bool | None = None
    embedding_column: str = EMBEDDING_COLUMN
    faithful: bool = False
    centring: bool | None = None
    residual_scale: bool | None = None
    codebook_init: str | None = None
    recentre: bool | None = None
    reseed: bool | None = None
    alpha: float | None = None
    beta: float | None = None
    caption_words: int | None = None
    caption_vocabulary: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "scheme", SCHEME_HELP)
        for name, choices in (("kmeans", KMEANS), ("codebook_init", CODEBOOK_INITS)):
            if getattr(self, name) is not None:
                check_choice(self, name, choices)
        check_choice(self, "engine", ENGINES)
        check_choice(self, "collisions", COLLISIONS)
        check_numbers(self, "kmeans_clusters", "codebooks", "codebook_size", "latent_dim", "epochs", "warmup_epochs")
        check_numbers(self, "batch_size", "pca", "train_sample", "block_rows", "train_processes")
        check_numbers(self, "caption_words", "caption_vocabulary")
        check_numbers(self, "seed", at_least=0)
        if self.seed >= 2**31:
            raise ValueError(f"--seed is {self.seed}; it must be between 0 and 2147483647")
        if self.unique_size < 2:
            raise ValueError(f"--unique-size is {self.unique_size}; reserve at least 2 symbols for the unique token")
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"--{name} is {value}; it must be a finite number of at least 0")

    def chosen(self, name: str) -> Any:
        """The value of a field; where it is None that of `PAPER` or `OURS`."""
        value = getattr(self, name)
        return (PAPER if self.faithful else OURS).get(name) if value is None else value

    @property
    def departures(self) -> dict[str, Any]:
        """Fields whose given value is not the paper's, with this value."""
        given = {name: getattr(self, name) for name in PAPER}
        return {name: value for name, value in given.items() if value is not None and value != PAPER[name]}


@dataclass(frozen=True)
class RQVAESettings:
    """What determines a trained RQ-VAE besides the residuals.

    Attributes:
        epochs, warmup_epochs: passes over the residuals; the learning rate rises from 1e-6 to 1e-4 over warmup_epochs,
            then falls with the inverse square root of the update number.
        batch_size: rows per update.
        codebook_init, recentre, reseed, alpha, beta: see `IdentifierSettings`.
    """

    codebooks: int
    codebook_size: int
    latent_dim: int
    epochs: int
    warmup_epochs: int
    batch_size: int
    seed: int
    codebook_init: str = "kmeans"
    recentre: bool = True
    reseed: bool = True
    alpha: float = 1.0
    beta: float = 0.25


SWITCHES = ("centring", "residual_scale", "codebook_init", "recentre", "reseed", "alpha", "beta")
"""Fields of `FitSettings` and `RQVAESettings` that bundles of earlier versions do not record."""


@dataclass(frozen=True)
class FitSettings:
    """Everything besides the embeddings that determines a codec and so the semantic values; `codec.json` records it.

    Attributes:
        training: of the RQ-VAE. All schemes take the number and size of their lower levels and the seed from it.
        train_sample: most rows that anything is fitted on.
        block_rows: rows held in memory at a time.
        centring, residual_scale: see `IdentifierSettings`.
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
    centring: bool = True
    residual_scale: bool = True

    @property
    def level_sizes(self) -> list[int]:
        """Size of the coarse level and of each lower one."""
        return [self.kmeans_clusters] + [self.training.codebook_size] * self.training.codebooks

    def record(self) -> dict[str, Any]:
        """What `codec.json` holds. Switches at their defaults are left out, so that bundles of earlier versions stay current."""
        found = dataclasses.asdict(self)
        for part, kind in ((found, FitSettings), (found["training"], RQVAESettings)):
            for field in dataclasses.fields(kind):
                if field.name in SWITCHES and part[field.name] == field.default:
                    del part[field.name]
        return found
