"""Criterion ``cart_rdrop``: cross entropy and the symmetric KL divergence of two dropout passes (CART Eq. 7-8)."""

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from torch import Tensor

from cart_fairseq.network.model import MediaBatch
from cart_fairseq.training.distillation import SoftTargets
from cart_fairseq.training.loss import pass_loss
from cart_fairseq.training.media_examples import MediaExamples


@dataclass
class CARTRDropConfig(FairseqDataclass):
    """Options of the criterion ``cart_rdrop``."""

    consistency_weight: float = field(
        default=0.15,
        metadata={"help": "omega, the weight of the symmetric KL divergence; 0: no second pass (default: 0.15)"},
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={
            "help": "probability mass spread evenly over the identifier vocabulary (default: 0, as in the paper)"
        },
    )
    shared_encoder: bool = field(
        default=False,
        metadata={
            "help": "run the encoder once for both passes, which then differ in the decoder's dropout only; faster. "
            "Always on for a frozen text encoder (default: False)"
        },
    )
    contrastive_weight: float = field(
        default=1.0,
        metadata={"help": "weight of the dense head's loss, with --dense-dim (default: 1)"},
    )
    distillation_weight: float = field(
        default=0.0,
        metadata={
            "help": "w in the target (1 - w) * one-hot + w * p, where p is the dense head's probability of items whose "
            "identifier continues with that symbol (default: 0, as in the paper)"
        },
    )


@register_criterion("cart_rdrop", dataclass=CARTRDropConfig)
class CARTRDropCriterion(FairseqCriterion):
    """The mean cross entropy of two dropout passes plus omega (KL(P‖Q) + KL(Q‖P)).

    Both terms are summed over target tokens without padding; fairseq divides them by the number of target tokens. The
    loss is half of fairseq's ``label_smoothed_cross_entropy_with_rdrop`` at ``rdrop_alpha`` = 4 omega. Validation and
    omega = 0 use one pass without the KL term. If the model has a dense head, its InfoNCE per query is added, weighted
    by ``--contrastive-weight``. If the model reads embeddings, the cross entropy of such examples is added.

    Raises:
        ValueError: a weight is out of range, or ``--distillation-weight`` is given for a data-bin without embeddings.
    """

    def __init__(
        self,
        task: Any,
        consistency_weight: float,
        label_smoothing: float,
        shared_encoder: bool = False,
        contrastive_weight: float = 1.0,
        distillation_weight: float = 0.0,
    ):
        super().__init__(task)
        if not 0 <= distillation_weight < 1:
            raise ValueError(f"--distillation-weight is {distillation_weight}; it must be in [0, 1)")
        if contrastive_weight < 0:
            raise ValueError(f"--contrastive-weight is {contrastive_weight}; it must be at least 0")
        if consistency_weight < 0 or not 0 <= label_smoothing < 1:
            raise ValueError(
                f"--consistency-weight is {consistency_weight} and must be at least 0; --label-smoothing is "
                f"{label_smoothing} and must be in [0, 1)"
            )
        self.consistency_weight = consistency_weight
        self.label_smoothing = label_smoothing
        self.shared_encoder = shared_encoder
        self.contrastive_weight = contrastive_weight
        self.distillation_weight = distillation_weight
        if distillation_weight and self.task.data.dense_items is None:
            raise ValueError(
                f"--distillation-weight is {self.distillation_weight}, but {self.task.data.directory} holds no "
                "embeddings of the items for a dense head; binarise with --embeddings, and train with --dense-dim"
            )

    @functools.cached_property
    def media_examples(self) -> MediaExamples:
        """Draws the examples with embeddings; made at the first training step of a model that reads them."""
        return MediaExamples(self.task.data, self.task.target_dictionary.eos())

    @functools.cached_property
    def soft_targets(self) -> SoftTargets:
        """The soft targets over the task's items, made at the first training step."""
        data, rows = self.task.data, self.task.data.bundle.kept
        identifiers = torch.from_numpy(data.bundle.values[rows] + data.bundle.offsets).long()
        symbols = len(self.task.target_dictionary)
        return SoftTargets(data.dense_items, self.task.companions, rows, identifiers, symbols)

    def forward(self, model: Any, sample: dict[str, Any], reduce: bool = True) -> tuple[Tensor, int, dict[str, Any]]:
        """Compute the loss of a batch.

        Returns:
            The loss (natural log, summed over tokens), the number of target tokens, and summable logging outputs.
        """
        target = sample["target"]
        there = target != self.padding_idx
        media = None
        if self.training and getattr(model, "reader", None) is not None:
            media = self.media_examples.draw(sample["item_rows"])
        log_probs, extra = self._passes(model, sample, None if media is None else media.batch)
        soft = None
        if self.training and self.distillation_weight:
            if model.dense is None:
                raise ValueError(
                    f"--distillation-weight is {self.distillation_weight}, but the model has no dense head to learn "
                    "from; give --dense-dim"
                )
            soft = self.soft_targets(model.dense, extra["query_features"], target, sample["epoch"])[there]
        loss, nll, consistency = pass_loss(
            log_probs[:, there],
            target[there],
            self.consistency_weight,
            self.label_smoothing,
            soft,
            self.distillation_weight,
        )
        contrastive = (extra or {}).get("contrastive")
        if contrastive is not None:  # a sum over queries; the other terms are sums over target tokens
            loss = loss + self.contrastive_weight * contrastive * target.size(1)
        if media is not None:
            read = torch.log_softmax(extra["media"].float(), dim=-1).unsqueeze(0)
            of_media, _, _ = pass_loss(read.flatten(1, 2), media.target.flatten(), 0.0, self.label_smoothing)
            loss = loss + of_media
        sample_size = int(sample["ntokens"])
        logging_output = {
            "loss": loss.detach(),
            "nll_loss": nll.detach(),
            "consistency": consistency.detach(),
            "ntokens": sample_size,
            "nsentences": target.size(0),
            "sample_size": sample_size,
        }
        if contrastive is not None:
            logging_output["contrastive"] = contrastive.detach() * target.size(1)
        if media is not None:
            logging_output["media_loss"] = of_media.detach() * (target.numel() / media.target.numel())
        return loss, sample_size, logging_output

    def _passes(self, model: Any, sample: dict[str, Any], media: MediaBatch | None) -> tuple[Tensor, dict[str, Any]]:
        """Run the model twice in training with R-Drop, else once.

        Returns:
            Natural-log probabilities (passes, B, J, V) float32, and the model's extras.
        """
        net_input = sample["net_input"] | ({} if media is None else {"media": media})
        twice = self.training and self.consistency_weight > 0
        shared = twice and (self.shared_encoder or getattr(model.encoder, "frozen", False))
        if shared:  # both rows of a query are adjacent and share its encoder states
            net_input = {**net_input, "prev_output_tokens": net_input["prev_output_tokens"].repeat_interleave(2, 0)}
        elif twice:
            doubled = ("src_tokens", "src_lengths", "prev_output_tokens")
            net_input = {**net_input, **{key: torch.cat([net_input[key], net_input[key]]) for key in doubled}}
        logits, extra = model(**net_input)
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        if shared:
            return log_probs.unflatten(0, (-1, 2)).transpose(0, 1), extra
        return log_probs.unflatten(0, (2 if twice else 1, -1)), extra

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Log the losses per target token in base 2, fairseq's convention, from sums over batches and workers."""
        more = ("contrastive", "media_loss")
        names = [
            "loss",
            "nll_loss",
            "consistency",
            *(key for key in more if any(key in log for log in logging_outputs)),
        ]
        total = {key: sum(log.get(key, 0) for log in logging_outputs) for key in names}
        size = sum(log.get("sample_size", 0) for log in logging_outputs)
        for key, value in total.items():
            metrics.log_scalar(key, value / size / math.log(2) if size else 0.0, size, round=3)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Return True: all logging outputs are sums."""
        return True
