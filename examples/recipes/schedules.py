"""Model sizes and schedules of the recipes; the numbers to tune are here and nowhere else."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One model size and schedule.

    Attributes:
        work: cost of the whole run, one pair counting as ``PAIR_COST`` + the symbols of its query; the number of epochs
            follows from it, within ``epochs``.
        epochs: fewest and most epochs.
        warmup_epochs: epochs of rising learning rate, at most a tenth of the run.
        batch: pairs per update over all workers; small data take smaller batches, ``updates`` per epoch at least.
        items_per_cluster: data with fewer items a cluster get fewer clusters; 0: the paper's number whatever the data.
        rqvae_rows: items x epochs of RQ-VAE training; None: the paper's 500 epochs.
        joined: embeddings are joined with captions, identifiers built by residual k-means from the join's aligned rows of
            this width, and a dense head of twice the width trained beside the model; 0: nothing of that, as in the paper.
        index_repeats: times that an index caption comes in an epoch.
        distillation: share of a target that is the dense head's opinion.
        unseen_dropout: of the dense head, where no caption of the measured items is known.
        validations: how many there are at most, the last after the last epoch; 0: one an epoch.
        faithful: identifiers of ``build_identifiers --faithful``, and all arithmetic in float32.
        dense_weight: of the dense head's score in validation; measured with the weight that is best on valid.
    """

    width: int
    feed_forward: int
    heads: int
    layers: int
    dropout: float
    learning_rate: float
    work: int
    epochs: tuple[int, int]
    patience: int = 10
    warmup_epochs: int = 5
    batch: int = 256
    updates: int = 40
    label_smoothing: float = 0.1
    consistency: float = 0.15
    adam_betas: str = "(0.9,0.98)"
    clip_norm: float = 1.0
    shared_encoder: bool = False
    eval_beam: int = 10
    items_per_cluster: int = 8
    rqvae_rows: int | None = None
    joined: int = 0
    index_repeats: int = 1
    distillation: float = 0.0
    unseen_dropout: float = 0.0
    validations: int = 0
    dense_weight: float = 3.0
    faithful: bool = False


# half the width, which learns at a higher rate; finishes in minutes on two cores
CPU = Recipe(
    256,
    1024,
    4,
    3,
    dropout=0.2,
    learning_rate=1e-3,
    work=7_000_000,
    epochs=(10, 60),
    shared_encoder=True,
    rqvae_rows=4_000_000,
)

RECIPES = {
    # as in the paper, appendix C, and fairseq's defaults where it is silent
    "paper": Recipe(
        512,
        2048,
        8,
        3,
        dropout=0.1,
        learning_rate=1e-4,
        work=0,
        epochs=(100, 100),
        updates=1,
        label_smoothing=0.0,
        adam_betas="(0.9,0.999)",
        clip_norm=0.0,
        eval_beam=30,
        items_per_cluster=0,
        faithful=True,
    ),
    # the paper's model, and a schedule that follows the size of the data
    "cuda": Recipe(512, 2048, 8, 3, dropout=0.1, learning_rate=1e-4, work=1_000_000_000, epochs=(30, 100)),
    "cpu": CPU,
    # the best that we know: past the paper. Aligned rows hold less that a third level could tell than raw embeddings do
    "joined": dataclasses.replace(
        CPU,
        work=25_000_000,
        warmup_epochs=1,
        items_per_cluster=30,
        joined=256,
        index_repeats=6,
        distillation=0.7,
        unseen_dropout=0.4,
        validations=3,
    ),
}
