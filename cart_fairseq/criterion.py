"""Criterion ``cart_rdrop``: cross entropy and the symmetric KL divergence of two dropout passes (CART Eq. 7-8)."""

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from safetensors.torch import load_file
from torch import Tensor

from cart_fairseq.distillation import SoftTargets


@dataclass
class CARTRDropConfig(FairseqDataclass):
    consistency_weight: float = field(
        default=0.15,
        metadata={"help": "omega, the weight of the symmetric KL divergence; 0 does without a second pass"},
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={"help": "probability mass spread evenly over the identifier vocabulary; 0 as in the paper"},
    )
    shared_encoder: bool = field(
        default=False,
        metadata={
            "help": "run the encoder once for both passes, so that they differ by the decoder's dropout alone: faster; a frozen "
            "text encoder always is"
        },
    )
    contrastive_weight: float = field(
        default=1.0,
        metadata={"help": "weight of the dense head's loss, where the model has one (--dense-dim)"},
    )
    distillation_weight: float = field(
        default=0.0,
        metadata={
            "help": "share of the target that is the dense head's opinion of each symbol, in place of the one right symbol; "
            "0 as in the paper"
        },
    )
    rival_weight: float = field(
        default=0.0,
        metadata={
            "help": "trial: of a ranking loss of the right identifier among near items', for a part of each batch"
        },
    )
    sampled_weight: float = field(
        default=0.0, metadata={"help": "trial: of soft targets along the identifiers of near items"}
    )
    neighbour_smoothing: float = field(
        default=0.0,
        metadata={"help": "trial: probability mass spread over each symbol's five nearest codes of its level"},
    )


def symmetric_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(P‖Q) + KL(Q‖P), summed (CART Eq. 7).

    Args:
        log_p, log_q: (…, V) natural-log probabilities.

    Returns:
        A scalar.
    """
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()


@register_criterion("cart_rdrop", dataclass=CARTRDropConfig)
class CARTRDropCriterion(FairseqCriterion):
    """The mean cross entropy of two dropout passes plus omega (KL(P‖Q) + KL(Q‖P)).

    Both terms are summed over target tokens, padding left out, and normalised alike by fairseq (by target tokens). That is
    half of fairseq's ``label_smoothed_cross_entropy_with_rdrop`` at ``rdrop_alpha`` = 4 omega. Measured data and omega = 0
    need one pass, and have no KL term. Where the model has a dense head, its InfoNCE per query is added, weighted.
    """

    def __init__(
        self,
        task: Any,
        consistency_weight: float,
        label_smoothing: float,
        shared_encoder: bool = False,
        contrastive_weight: float = 1.0,
        distillation_weight: float = 0.0,
        rival_weight: float = 0.0,
        sampled_weight: float = 0.0,
        neighbour_smoothing: float = 0.0,
    ):
        super().__init__(task)
        if not 0 <= distillation_weight < 1:
            raise ValueError(f"--distillation-weight is {distillation_weight}; it must be in [0, 1)")
        if contrastive_weight < 0:
            raise ValueError(f"--contrastive-weight is {contrastive_weight}; it must be 0 or more")
        if consistency_weight < 0 or not 0 <= label_smoothing < 1:
            raise ValueError(
                f"--consistency-weight {consistency_weight} must be 0 or more and --label-smoothing {label_smoothing} in [0, 1)"
            )
        self.consistency_weight = consistency_weight
        self.rival_weight, self.sampled_weight = rival_weight, sampled_weight
        self.neighbour_smoothing = neighbour_smoothing
        self.label_smoothing = label_smoothing
        self.shared_encoder = shared_encoder
        self.contrastive_weight = contrastive_weight
        self.distillation_weight = distillation_weight
        if distillation_weight and self.task.data.dense_items is None:
            raise ValueError(
                f"--distillation-weight {self.distillation_weight}: {self.task.data.directory} holds no embeddings of the items, "
                "so there is no dense head to learn from; binarise with --embeddings, and train with --dense-dim"
            )

    @functools.cached_property
    def near_codes(self) -> Tensor:
        """(V, V) the share of each symbol's five nearest codes."""
        data, size = self.task.data, len(self.task.target_dictionary)
        levels = load_file(str(data.directory / "identifiers" / "codec.safetensors"))
        out = torch.zeros(size, size)
        for level, offset in zip(sorted(levels), data.bundle.offsets, strict=False):
            codes = levels[level].float()
            far = torch.cdist(codes, codes) ** 2
            near = far.fill_diagonal_(float("inf")).topk(5, largest=False)
            share = (-near.values / near.values[:, :1].mean()).softmax(1)
            out[torch.arange(len(codes)).unsqueeze(1) + int(offset), near.indices + int(offset)] = share
        empty = (out.sum(1) == 0).nonzero().squeeze(1)
        out[empty, empty] = 1
        return out

    def ranked(self, model: Any, extra: dict[str, Any], target: Tensor) -> Tensor:
        """For a quarter of the batch: the right identifier against four of near items, by their whole log-probabilities."""
        teacher, count, rivals = self.soft_targets, max(1, len(target) // 4), 4
        rows = torch.randperm(len(target), device=target.device)[:count]
        best, share, right = teacher.best[rows], teacher.share[rows], target[rows]
        near = teacher.identifiers.to(target.device)[best]
        match = (near == right.unsqueeze(1)).all(2)
        drawn = torch.multinomial(share.masked_fill(match, 0).clamp(min=1e-12).sqrt(), rivals)
        others = near.gather(1, drawn.unsqueeze(2).expand(-1, -1, near.size(2)))
        written = torch.cat([right.unsqueeze(1), others], 1).flatten(0, 1)
        eos = written.new_full((len(written), 1), self.task.target_dictionary.eos())
        states = {
            key: [each[:, rows] for each in extra["encoder_out"][key]] for key in ("encoder_out", "encoder_states")
        }
        states["encoder_padding_mask"] = [each[rows] for each in extra["encoder_out"]["encoder_padding_mask"]]
        logits, _ = model.decoder(torch.cat([eos, written[:, :-1]], 1), encoder_out=states)
        log_probs = torch.log_softmax(logits.float(), -1)
        scores = log_probs.gather(2, written.unsqueeze(2)).sum((1, 2)).view(count, -1)
        opinion = torch.cat([(share * match).sum(1, keepdim=True), share.gather(1, drawn)], 1)
        opinion = opinion / opinion.sum(1, keepdim=True).clamp(min=1e-9) * self.distillation_weight
        opinion[:, 0] += 1 - self.distillation_weight
        loss = -(opinion * torch.log_softmax(scores, 1)).sum() * self.rival_weight
        if self.sampled_weight:
            along = log_probs.view(count, 1 + rivals, *log_probs.shape[1:])[:, 1:].flatten(0, 1)
            again = (best.repeat_interleave(rivals, 0), share.repeat_interleave(rivals, 0))
            loss = loss - (along * teacher.along(*again, others.flatten(0, 1))).sum() * self.sampled_weight / rivals
        return loss * len(target) / count

    @functools.cached_property
    def soft_targets(self) -> SoftTargets:
        """Those of the task's items, made when training begins."""
        data, rows = self.task.data, self.task.data.bundle.kept
        identifiers = torch.from_numpy(data.bundle.values[rows] + data.bundle.offsets).long()
        symbols = len(self.task.target_dictionary)
        return SoftTargets(data.dense_items, self.task.companions, rows, identifiers, symbols)

    def forward(self, model: Any, sample: dict[str, Any], reduce: bool = True) -> tuple[Tensor, int, dict[str, Any]]:
        """Compute the loss of a batch.

        Returns:
            The loss (natural log, summed over tokens), the number of target tokens, and summable logging outputs.
        """
        twice = self.training and self.consistency_weight > 0
        net_input, target = sample["net_input"], sample["target"]
        passes = 2 if twice else 1
        shared = twice and (self.shared_encoder or getattr(model.encoder, "frozen", False))
        if shared:  # the rows of one query stand together and share its encoder states
            net_input = {**net_input, "prev_output_tokens": net_input["prev_output_tokens"].repeat_interleave(2, 0)}
        elif twice:
            doubled = ("src_tokens", "src_lengths", "prev_output_tokens")
            net_input = {**net_input, **{key: torch.cat([net_input[key], net_input[key]]) for key in doubled}}
        logits, extra = model(**net_input)
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        log_probs = log_probs.unflatten(0, (-1, 2)).transpose(0, 1) if shared else log_probs.unflatten(0, (passes, -1))
        log_probs = log_probs[:, target != self.padding_idx]  # (passes, target tokens, V)
        wanted = target[target != self.padding_idx].expand(passes, -1)
        nll = -log_probs.gather(2, wanted.unsqueeze(2)).sum() / passes
        loss = nll
        if self.training and self.distillation_weight:
            if model.dense is None:
                raise ValueError(
                    f"--distillation-weight {self.distillation_weight}: the model has no dense head to learn from; give "
                    "--dense-dim"
                )
            soft = self.soft_targets(model.dense, extra["mean_state"], target, sample["epoch"])
            distilled = -(log_probs * soft[target != self.padding_idx]).sum() / passes
            more = self.ranked(model, extra, target) if self.rival_weight or self.sampled_weight else 0.0
            loss = (1 - self.distillation_weight) * loss + self.distillation_weight * distilled
        if self.label_smoothing:
            loss = (1 - self.label_smoothing) * loss - self.label_smoothing * log_probs.mean(-1).sum() / passes
        if self.training and self.neighbour_smoothing:
            near = -(log_probs * self.near_codes.to(target.device)[target[target != self.padding_idx]]).sum() / passes
            loss = (1 - self.neighbour_smoothing) * loss + self.neighbour_smoothing * near
        if self.training and self.distillation_weight:
            loss = loss + more
        consistency = torch.zeros((), device=loss.device)
        if twice:
            consistency = symmetric_kl(*log_probs)
            loss = loss + self.consistency_weight * consistency
        contrastive = extra["contrastive"] if extra and "contrastive" in extra else None
        if contrastive is not None:  # per query, where the rest is per target token
            loss = loss + self.contrastive_weight * contrastive * target.size(1)
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
        return loss, sample_size, logging_output

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Sum over workers; losses are logged in base 2 per target token, as fairseq does everywhere."""
        names = ["loss", "nll_loss", "consistency"] + ["contrastive"] * any(
            "contrastive" in log for log in logging_outputs
        )
        total = {key: sum(log.get(key, 0) for log in logging_outputs) for key in names}
        size = sum(log.get("sample_size", 0) for log in logging_outputs)
        for key, value in total.items():
            metrics.log_scalar(key, value / size / math.log(2) if size else 0.0, size, round=3)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """All logging outputs are sums."""
        return True
