"""Task `cart_rqvae`: trains the RQ-VAE with `fairseq-train` (CART appendix C); model and criterion have the same name.

`preprocess.build_identifiers` writes the residuals and runs `fairseq-train RESIDUALS.npy --task cart_rqvae …`. One pass
over the residuals is one epoch. Several processes (torchrun) split every batch among them, so the updates do not depend
on the number of processes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fairseq.data.iterators import EpochBatchIterating
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.distributed.utils import get_data_parallel_rank, get_data_parallel_world_size
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II
from torch import Tensor

from cart_fairseq.tasks.residual_dataset import ResidualDataset

SAMPLE_ROWS = 65_536
"""Largest number of residuals from which codebooks are initialised and recentred, and dead codewords found."""


@dataclass
class RQVAETaskConfig(FairseqDataclass):
    """Options of the task `cart_rqvae`."""

    data: str = field(default="", metadata={"help": "residuals: a (N, D) float32 .npy file"})
    rqvae_codebook_init: ChoiceEnum(["kmeans", "random"]) = field(  # type: ignore[valid-type]
        default="kmeans", metadata={"help": "codebooks start as k-means centres or at random (default: kmeans)"}
    )
    rqvae_no_recentre: bool = field(
        default=False, metadata={"help": "leave the codebooks to the gradient; do not recentre them every epoch"}
    )
    rqvae_reseed_interval: int = field(
        default=5, metadata={"help": "re-seed dead codewords every N epochs; 0: never (default: 5)"}
    )
    seed: int = II("common.seed")


@register_task("cart_rqvae", dataclass=RQVAETaskConfig)
class RQVAETask(FairseqTask):
    """Holds the residuals, initialises the codebooks before training, and recentres and re-seeds them between epochs.

    Raises:
        ValueError: the residuals are not a non-empty (N, D) float32 array.
    """

    def __init__(self, cfg: RQVAETaskConfig):
        super().__init__(cfg)
        residuals = np.load(cfg.data, mmap_mode="r", allow_pickle=False)
        if residuals.ndim != 2 or residuals.dtype != np.float32 or len(residuals) == 0:
            raise ValueError(
                f"{cfg.data}: {residuals.dtype} of shape {residuals.shape}; it must be (N, D) float32 with N > 0"
            )
        shards = (get_data_parallel_rank(), get_data_parallel_world_size()) if is_distributed() else (0, 1)
        self.residuals = ResidualDataset(residuals, *shards)

    @property
    def dimension(self) -> int:
        """D, the width of a residual."""
        return self.residuals.residuals.shape[1]

    def load_dataset(self, split: str, combine: bool = False, task_cfg: Any = None, **kwargs: Any) -> None:
        """Use all residuals for every split; there is no held-out set, because identifiers are made for these items."""
        self.datasets[split] = self.residuals

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> BaseFairseqModel:
        """Build the model and initialise its codebooks, before data-parallel wrapping, so that all workers agree."""
        model = super().build_model(cfg, from_checkpoint)
        if self.cfg.rqvae_codebook_init == "kmeans":
            model.rqvae.initialise_codebooks(self.sample(epoch=0), seed=self.cfg.seed)
        agree_on(model.rqvae.codebooks)
        return model

    def get_batch_iterator(self, *args: Any, **kwargs: Any) -> EpochBatchIterating:
        """Return all batches in every process; the data set's collater selects the process's rows."""
        return super().get_batch_iterator(*args, **{**kwargs, "num_shards": 1, "shard_id": 0})

    def begin_epoch(self, epoch: int, model: BaseFairseqModel) -> None:
        """Recentre the codebooks and re-seed dead codewords, from the second epoch on, unless switched off.

        The result depends on weights, seed and epoch only, so a resumed run equals an uninterrupted one.
        """
        rqvae, interval = model.rqvae, self.cfg.rqvae_reseed_interval
        recentres, reseeds = not self.cfg.rqvae_no_recentre, interval > 0 and (epoch - 1) % interval == 0
        if epoch <= 1 or not (recentres or reseeds):
            return
        sample = self.sample(epoch).to(rqvae.codebooks[0].device)
        if recentres:
            rqvae.recentre_codebooks(sample)
        if reseeds:
            rqvae.reseed_dead_codes(sample, seed=self.cfg.seed + epoch)
        agree_on(rqvae.codebooks)

    def sample(self, epoch: int) -> Tensor:
        """(n, D) float32: all residuals, or a seeded sample of ``SAMPLE_ROWS`` of them if there are more."""
        rows = np.arange(len(self.residuals))
        if len(rows) > SAMPLE_ROWS:
            rows = np.sort(np.random.default_rng([self.cfg.seed, epoch]).choice(rows, SAMPLE_ROWS, replace=False))
        return torch.from_numpy(self.residuals.residuals[rows])

    def max_positions(self) -> None:
        """Return None: examples have no length."""
        return

    @property
    def source_dictionary(self) -> None:
        """None: the task has no text."""
        return

    @property
    def target_dictionary(self) -> None:
        """None: the task has no text."""
        return


def is_distributed() -> bool:
    """Whether this is one of several training processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def agree_on(tensors: Iterable[Tensor]) -> None:
    """Broadcast the first process's values to all, because other machines may round differently."""
    if is_distributed():
        for tensor in tensors:
            torch.distributed.broadcast(tensor.data, src=0)
