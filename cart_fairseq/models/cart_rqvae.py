"""The RQ-VAE as a model of fairseq, ``cart_rqvae``."""

from dataclasses import dataclass, field
from typing import Any

from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor

from cart_fairseq.rqvae.network import RQVAE, RQVAEOutput


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
    def build_model(cls, cfg: RQVAEModelConfig, task: Any) -> "RQVAEModel":
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
