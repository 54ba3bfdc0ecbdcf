"""Time one training update of CART and of fairseq's transformer with fairseq's own R-Drop criterion.

    python examples/efficiency/training.py --json training.json

Both have the same widths, depths, dropout, batches and optimiser (fairseq's Adam). Forward pass, backward pass and
update are timed. The contenders alternate, after one warm-up run each. CART's fusion adds operations;
`Attention.attend_once` computes attention with fewer.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation

import torch
from catalogue import offsets_of, random_queries, task_of
from fairseq.criterions.label_smoothed_cross_entropy_with_rdrop import RdropLabelSmoothedCrossEntropyCriterion
from fairseq.models.transformer import TransformerModel
from fairseq.models.transformer.transformer_legacy import base_architecture
from fairseq.optim.adam import Adam
from provenance import command, commit, machine
from timing import Contender, interleaved
from torch import Tensor

from cart_fairseq.base.files import write_json
from cart_fairseq.base.processes import run_script
from cart_fairseq.criterions.cart_rdrop import CARTRDropCriterion
from cart_fairseq.models.cart import CARTModel
from cart_fairseq.models.flags import DEFAULTS
from cart_fairseq.training.allocator import keep_freed_memory

CONSISTENCY_WEIGHT = 0.15
REFERENCE = "transformer"
NAMES = (REFERENCE, "cart", "cart, shared encoder")


def random_batch(sizes: Sequence[int], queries: int, tokens: int, seed: int) -> dict[str, Any]:
    """Return a training batch of Q queries and identifiers in the form of the task. Targets are (Q, J)."""
    net_input = random_queries(queries, tokens, seed)
    generator = torch.Generator().manual_seed(seed)
    columns = [
        torch.randint(offset, offset + size, (queries,), generator=generator)
        for offset, size in zip(offsets_of(sizes), sizes, strict=True)
    ]
    target = torch.stack(columns, dim=1)
    start = task_of(sizes).target_dictionary.eos()
    net_input["prev_output_tokens"] = torch.cat([target.new_full((queries, 1), start), target[:, :-1]], dim=1)
    return {"net_input": net_input, "target": target, "ntokens": target.numel(), "nsentences": queries}


def build(name: str, task: Any, dropout: float, options: dict[str, int]) -> tuple[Any, Any]:
    """Build the model and the criterion of a contender. ``options`` are sizes that differ from the defaults."""
    torch.manual_seed(1)
    arguments = argparse.Namespace(**{**DEFAULTS, "dropout": dropout, **options})
    if name == REFERENCE:
        base_architecture(arguments)
        model = TransformerModel.build_model(arguments, task)
        # this criterion needs four times the weight and has twice the loss
        criterion: Any = RdropLabelSmoothedCrossEntropyCriterion(
            task, sentence_avg=False, label_smoothing=0.0, rdrop_alpha=4 * CONSISTENCY_WEIGHT
        )
    else:
        model = CARTModel.build_model(arguments, task)
        criterion = CARTRDropCriterion(task, CONSISTENCY_WEIGHT, 0.0, shared_encoder="shared" in name)
    return model.train(), criterion.train()


class Update:
    """The training state of one contender."""

    def __init__(
        self, name: str, task: Any, batches: Sequence[dict[str, Any]], dropout: float, options: dict[str, int]
    ):
        self.model, self.criterion = build(name, task, dropout, options)
        self.optimizer = Adam(self.model.parameters(), lr=1e-4)
        self.batches = batches
        self.done = 0

    def run(self) -> dict[str, Any]:
        """Update the model on the next batch, and return the loss per token and the number of parameters."""
        batch = self.batches[self.done % len(self.batches)]
        self.done += 1
        # a copy, because fairseq's criterion doubles its input in place
        sample = {**batch, "net_input": dict(batch["net_input"])}
        self.optimizer.zero_grad()
        loss, size, _ = self.criterion(self.model, sample)
        (loss.sum() / size).backward()
        self.optimizer.step()
        parameters: list[Tensor] = list(self.model.parameters())
        return {"loss": float(loss.detach().sum()) / size, "parameters": sum(each.numel() for each in parameters)}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time all contenders on the same batches, and return the object for --json."""
    options = {
        key: value
        for side in ("encoder", "decoder")
        for key, value in {
            f"{side}_embed_dim": args.width,
            f"{side}_ffn_embed_dim": 4 * args.width,
            f"{side}_layers": args.layers,
        }.items()
    }
    options["decoder_input_dim"] = options["decoder_output_dim"] = args.width
    task = task_of(args.sizes)
    batches = [
        random_batch(args.sizes, args.queries, args.query_tokens, args.seed + step) for step in range(args.repeats + 1)
    ]
    contenders = [Contender(name, Update(name, task, batches, args.dropout, options).run) for name in NAMES]
    rows = interleaved(contenders, args.repeats, "training updates", 60 * args.minutes)
    reference = rows[0]["median"]
    for row in rows:
        row["ratio"] = row["median"] / reference
    settings = {key: value for key, value in vars(args).items() if key != "json" and value != math.inf}
    return {"command": command(), "commit": commit(), "machine": machine(), "settings": settings, "results": rows}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description="Time a training update of cart and of fairseq's transformer.")
    parser.add_argument("--queries", type=int, default=256, help="pairs in a batch (default: 256)")
    parser.add_argument("--query-tokens", type=int, default=12, help="mean length of a query (default: 12)")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[128] * 4,
        help="number of values of each identifier position (default: 4 x 128)",
    )
    parser.add_argument(
        "--width", type=int, default=512, help="width of both models; feed-forward: four times (default: 512)"
    )
    parser.add_argument("--layers", type=int, default=3, help="layers of encoder and of decoder (default: 3)")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=10, help="timed updates of each contender (default: 10)")
    minutes = "minutes after which no further timed updates begin; each contender has one (default: no limit)"
    parser.add_argument("--minutes", type=float, default=math.inf, help=minutes)
    parser.add_argument("--threads", type=int, help="processor threads (default: torch's choice)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    keep_freed_memory()  # for both contenders, as the task does
    result = measure(args)
    if args.json:
        write_json(args.json, result)
    print(f"one update, {args.queries} queries of about {args.query_tokens} tokens, J = {len(args.sizes)}")
    print(f"{'contender':<22}{'ms':>9}{'least':>9}{'most':>9}{'parameters':>13}{'x transformer':>15}")
    for row in result["results"]:
        times = "".join(f"{1000 * row[key]:9.1f}" for key in ("median", "min", "max"))
        print(f"{row['contender']:<22}{times}{row['parameters']:>13,}{row['ratio']:>15.2f}")


if __name__ == "__main__":
    run_script(main)
