"""Training of the RQ-VAE by `fairseq-train`: task, model and criterion, all named `cart_rqvae` (CART appendix C).

`preprocess.build_identifiers` writes the residuals and runs `fairseq-train RESIDUALS.npy --task cart_rqvae …`; nothing
here knows of items or identifiers. One pass over the residuals is one epoch. Several processes (torchrun) share every
batch instead of taking a batch each, so the updates do not depend on their number.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterating
from fairseq.dataclass import FairseqDataclass
from fairseq.distributed.utils import get_data_parallel_rank, get_data_parallel_world_size
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel, register_model
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II
from torch import Tensor

from cart_fairseq.rqvae.network import RQVAE, RQVAEOutput

SAMPLE_ROWS = 65_536
"""Rows that codebooks are initialised from and that decide whether a codeword is dead."""


class ResidualDataset(FairseqDataset):
    """Rows of a (N, D) float32 memory map in an order drawn anew for every epoch.

    An example is only a row number; the collater gathers a whole batch at once, which on memory maps is many times
    faster than stacking rows.

    Args:
        residuals: (N, D) float32.
        shard_id, num_shards: of every batch only the rows at shard_id, shard_id + num_shards … are gathered.
    """

    def __init__(self, residuals: np.ndarray, shard_id: int = 0, num_shards: int = 1):
        # A plain view: indexing the memmap subclass costs more than the copy itself.
        self.residuals = residuals.view(np.ndarray)
        self.shard_id = shard_id
        self.num_shards = num_shards

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """False: a reused iterator shuffles batches but keeps their members together."""
        return False

    def __getitem__(self, index: int) -> int:
        return int(index)

    def __len__(self) -> int:
        return len(self.residuals)

    def collater(self, samples: list[int]) -> dict[str, Any]:
        """Row numbers -> {"id": (B,) int64, "net_input": {"x": (B, D) float32}, "nsentences", "ntokens": B}."""
        rows = np.asarray(samples[self.shard_id :: self.num_shards], dtype=np.int64)
        return {
            "id": torch.from_numpy(rows),
            "net_input": {"x": torch.from_numpy(self.residuals[rows])},
            "nsentences": len(rows),
            "ntokens": len(rows),
        }

    def num_tokens(self, index: int) -> int:
        """1: a row counts as one token."""
        return 1

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """Ones, as `num_tokens`."""
        return np.ones(len(indices), dtype=np.int64)

    def size(self, index: int) -> int:
        """1, as `num_tokens`."""
        return 1

    def ordered_indices(self) -> np.ndarray:
        """A permutation of the rows; fairseq seeds numpy with seed + epoch around this call."""
        return np.random.permutation(len(self))  # noqa: NPY002, fairseq seeds the global generator


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


@dataclass
class RQVAEModelConfig(FairseqDataclass):
    """Options of the model `cart_rqvae`."""

    rqvae_latent_dim: int = field(default=64, metadata={"help": "width of the latent vector and of every codeword"})
    rqvae_codebooks: int = field(default=2, metadata={"help": "number of codebooks, M"})
    rqvae_codebook_size: int = field(default=128, metadata={"help": "codewords in each codebook"})
    rqvae_alpha: float = field(default=1.0, metadata={"help": "weight of the commitment loss (Eq. 1, alpha)"})
    rqvae_beta: float = field(default=0.25, metadata={"help": "weight of its encoder term (Eq. 1, beta)"})


@register_model("cart_rqvae", dataclass=RQVAEModelConfig)
class RQVAEModel(BaseFairseqModel):
    """`RQVAE` as fairseq sees it."""

    def __init__(self, rqvae: RQVAE):
        super().__init__()
        self.rqvae = rqvae

    @classmethod
    def build_model(cls, cfg: RQVAEModelConfig, task: RQVAETask) -> "RQVAEModel":
        """Build from options; the input width is that of the task's residuals."""
        return cls(
            RQVAE(
                task.dimension,
                latent_dimension=cfg.rqvae_latent_dim,
                codebooks=cfg.rqvae_codebooks,
                codebook_size=cfg.rqvae_codebook_size,
                alpha=cfg.rqvae_alpha,
                beta=cfg.rqvae_beta,
            )
        )

    def forward(self, x: Tensor) -> RQVAEOutput:
        """x: (B, D) float32."""
        return self.rqvae(x)


@register_criterion("cart_rqvae")
class RQVAECriterion(FairseqCriterion):
    """Eq. 1 summed over the rows of a batch; the trainer divides by their number."""

    def forward(
        self, model: BaseFairseqModel, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Loss (natural units, a sum over rows), number of rows, and logging outputs that can all be summed."""
        output = model(**sample["net_input"])
        rows = sample["nsentences"]
        logging_output: dict[str, Any] = {
            "loss": output.loss.sum().detach(),
            "reconstruction_loss": output.reconstruction_loss.sum().detach(),
            "commitment_loss": output.commitment_loss.sum().detach(),
            "nsentences": rows,
            "ntokens": rows,
            "sample_size": rows,
        }
        for level, codebook in enumerate(model.rqvae.codebooks):
            counts = torch.bincount(output.codes[:, level], minlength=len(codebook))
            logging_output[f"_codes_v{level + 1}"] = counts
        return output.loss.sum(), rows, logging_output

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, Any]]) -> None:
        """Means per row of the losses; used codewords and perplexity from code counts summed over batches and workers."""
        rows = sum(int(output["sample_size"]) for output in logging_outputs)
        for name in ("loss", "reconstruction_loss", "commitment_loss"):
            total = sum(float(output[name]) for output in logging_outputs)
            metrics.log_scalar(name, total / rows, rows, round=3)
        for name in (key for key in logging_outputs[0] if key.startswith("_codes_")):
            counts = torch.stack([output[name] for output in logging_outputs]).sum(dim=0)
            metrics.log_scalar_sum(name, counts.cpu())
            level = name.removeprefix("_codes_")
            metrics.log_derived(f"{level}_used", lambda meters, name=name: int((meters[name].sum > 0).sum()))
            metrics.log_derived(f"{level}_perplexity", lambda meters, name=name: round(perplexity(meters[name].sum), 1))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """True: everything logged is a sum or a count."""
        return True


def perplexity(counts: Tensor) -> float:
    """exp of the entropy (natural) of counts (size,): how many equally used codewords would be as spread."""
    share = counts.double() / counts.sum().clamp(min=1)
    return float(torch.exp(-torch.xlogy(share, share).sum()))
