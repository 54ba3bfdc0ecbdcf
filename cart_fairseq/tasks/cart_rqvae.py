"""Task `cart_rqvae`: training of the RQ-VAE by `fairseq-train` (CART appendix C); model and criterion have the same name.

`preprocess.build_identifiers` writes the residuals and runs `fairseq-train RESIDUALS.npy --task cart_rqvae …`; nothing
here knows of items or identifiers. One pass over the residuals is one epoch. Several processes (torchrun) share every
batch instead of taking a batch each, so the updates do not depend on their number.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fairseq.data.iterators import EpochBatchIterating
from fairseq.dataclass import FairseqDataclass
from fairseq.distributed.utils import get_data_parallel_rank, get_data_parallel_world_size
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II
from torch import Tensor

from cart_fairseq.tasks.residual_dataset import ResidualDataset

SAMPLE_ROWS = 65_536
"""Rows that codebooks are initialised from and that decide whether a codeword is dead."""


@dataclass
class RQVAETaskConfig(FairseqDataclass):
    """Options of the task `cart_rqvae`."""

    data: str = field(default="", metadata={"help": "residuals: a (N, D) float32 .npy file"})
    rqvae_reseed_interval: int = field(
        default=5, metadata={"help": "epochs between two searches for dead codewords, which are re-seeded; 0: never"}
    )
    seed: int = II("common.seed")


@register_task("cart_rqvae", dataclass=RQVAETaskConfig)
class RQVAETask(FairseqTask):
    """Holds the residuals; initialises codebooks before training, recentres and re-seeds them between epochs."""

    def __init__(self, cfg: RQVAETaskConfig):
        super().__init__(cfg)
        residuals = np.load(cfg.data, mmap_mode="r", allow_pickle=False)
        if residuals.ndim != 2 or residuals.dtype != np.float32 or len(residuals) == 0:
            raise ValueError(f"{cfg.data}: {residuals.dtype} of shape {residuals.shape}, must be (N, D) float32, N > 0")
        shards = (get_data_parallel_rank(), get_data_parallel_world_size()) if is_distributed() else (0, 1)
        self.residuals = ResidualDataset(residuals, *shards)

    @property
    def dimension(self) -> int:
        """D, the width of a residual."""
        return self.residuals.residuals.shape[1]

    def load_dataset(self, split: str, combine: bool = False, task_cfg: Any = None, **kwargs: Any) -> None:
        """Every split is the same residuals: identifiers are made for these items, there is nothing to hold out."""
        self.datasets[split] = self.residuals

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> BaseFairseqModel:
        """Build the model and initialise its codebooks here, before it is wrapped, so that all workers agree."""
        model = super().build_model(cfg, from_checkpoint)
        model.rqvae.initialise_codebooks(self.sample(epoch=0), seed=self.cfg.seed)
        agree_on(model.rqvae.codebooks)
        return model

    def get_batch_iterator(self, *args: Any, **kwargs: Any) -> EpochBatchIterating:
        """All batches for every process; the dataset's collater gives each its share of them."""
        return super().get_batch_iterator(*args, **{**kwargs, "num_shards": 1, "shard_id": 0})

    def begin_epoch(self, epoch: int, model: BaseFairseqModel) -> None:
        """Let codebooks follow the encoder, and re-seed codewords that no longer serve any row.

        Depends on weights, seed and epoch only: resumable.
        """
        if epoch <= 1:
            return
        rqvae, interval = model.rqvae, self.cfg.rqvae_reseed_interval
        sample = self.sample(epoch).to(rqvae.codebooks[0].device)
        rqvae.recentre_codebooks(sample)
        if interval > 0 and (epoch - 1) % interval == 0:
            rqvae.reseed_dead_codes(sample, seed=self.cfg.seed + epoch)
        agree_on(rqvae.codebooks)

    def sample(self, epoch: int) -> Tensor:
        """(n, D) float32: all residuals, or where they are many a seeded sample of them."""
        rows = np.arange(len(self.residuals))
        if len(rows) > SAMPLE_ROWS:
            rows = np.sort(np.random.default_rng([self.cfg.seed, epoch]).choice(rows, SAMPLE_ROWS, replace=False))
        return torch.from_numpy(self.residuals.residuals[rows])

    def max_positions(self) -> None:
        """Nothing here has a length."""
        return

    @property
    def source_dictionary(self) -> None:
        """There is no text."""
        return

    @property
    def target_dictionary(self) -> None:
        """There is no text."""
        return


def is_distributed() -> bool:
    """Whether this is one of several training processes."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def agree_on(tensors: Iterable[Tensor]) -> None:
    """Give every process the first one's values: other machines may round otherwise."""
    if is_distributed():
        for tensor in tensors:
            torch.distributed.broadcast(tensor.data, src=0)
