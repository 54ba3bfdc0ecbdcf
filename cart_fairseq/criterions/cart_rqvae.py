"""Criterion ``cart_rqvae``: the loss of CART Eq. 1, and the usage of the codewords."""

from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel
from torch import Tensor


@register_criterion("cart_rqvae")
class RQVAECriterion(FairseqCriterion):
    """The loss of CART Eq. 1, summed over the rows of a batch; fairseq's trainer divides by their number."""

    def forward(
        self, model: BaseFairseqModel, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Compute the loss of a batch.

        Returns:
            The loss, summed over rows; the number of rows; and summable logging outputs.
        """
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
        """Log the losses per row, and used codewords and perplexity from summed code counts."""
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
        """Return True: all logging outputs are sums or counts."""
        return True


def perplexity(counts: Tensor) -> float:
    """Perplexity of counts (size,): exp of their natural entropy, at most the number of codewords."""
    share = counts.double() / counts.sum().clamp(min=1)
    return float(torch.exp(-torch.xlogy(share, share).sum()))
