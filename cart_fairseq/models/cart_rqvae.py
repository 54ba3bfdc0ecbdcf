"""The fairseq model ``cart_rqvae``, a wrapper of the RQ-VAE."""

from dataclasses import dataclass, field
from typing import Any

from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor

from cart_fairseq.rqvae.network import RQVAE, RQVAEOutput


@dataclass
class RQVAEModelConfig(FairseqDataclass):
    """Options of the model `cart_rqvae`."""

    rqvae_latent_dim: int = field(
        default=64, metadata={"help": "width of the latent vector and of every codeword (default: 64)"}
    )
    rqvae_codebooks: int = field(default=2, metadata={"help": "number of codebooks, M (default: 2)"})
    rqvae_codebook_size: int = field(default=128, metadata={"help": "codewords in each codebook (default: 128)"})
    rqvae_alpha: float = field(
        default=1.0, metadata={"help": "weight of the commitment loss, alpha in Eq. 1 (default: 1)"}
    )
    rqvae_beta: float = field(
        default=0.25, metadata={"help": "weight of the commitment loss's encoder term, beta in Eq. 1 (default: 0.25)"}
    )


@register_model("cart_rqvae", dataclass=RQVAEModelConfig)
class RQVAEModel(BaseFairseqModel):
    """Wraps `RQVAE` as a fairseq model."""

    def __init__(self, rqvae: RQVAE):
        super().__init__()
        self.rqvae = rqvae

    @classmethod
    def build_model(cls, cfg: RQVAEModelConfig, task: Any) -> "RQVAEModel":
        """Build the model from its options and the width of the task's residuals."""
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
        """Run the RQ-VAE on x, (B, D) float32."""
        return self.rqvae(x)
