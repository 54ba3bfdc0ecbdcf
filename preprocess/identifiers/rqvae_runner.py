"""Runs `fairseq-train` on a file of residuals and hands back the trained RQ-VAE (CART appendix C).

The training itself is fairseq's; its parts are in `cart_fairseq.tasks.cart_rqvae`. A killed run is taken up again from
its last checkpoint by calling `train_rqvae` once more with the same arguments.
"""

import functools
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import numpy as np
import torch

import cart_fairseq
from cart_fairseq.base.processes import end_with_parent
from cart_fairseq.base.progress import Progress
from cart_fairseq.loading.checkpoint import read_checkpoint
from cart_fairseq.loading.stored import check_weights
from cart_fairseq.rqvae.network import RQVAE
from preprocess.identifiers.settings import RQVAESettings

PEAK_LEARNING_RATE = 1e-4
INITIAL_LEARNING_RATE = 1e-6
CHECKPOINTS = 20
"""About as many checkpoints are written, one over the other, in the course of a run."""
LINES = 2_000
"""At most as many lines within epochs does fairseq-train write; the time left is known from the first one on."""
UPDATE = re.compile(r"\bnum_updates=(\d+)\b")
"""In fairseq's lines: the updates that are done."""


def default_batch_size(rows: int) -> int:
    """About eight updates per epoch, as many as 8,000 items have at 1,024: a power of two between 32 and 1,024."""
    return 2 ** min(10, max(5, math.ceil(math.log2(max(1, rows / 8)))))


def fairseq_arguments(
    residuals: Path, save_dir: Path, rows: int, settings: RQVAESettings, processes: int = 1
) -> list[str]:
    """Command line of the training run; the paper's epochs become updates here.

    Several processes share every batch, so the same updates follow from the same options whatever their number.
    """
    updates_per_epoch = math.ceil(rows / settings.batch_size)
    options = {
        "--user-dir": Path(cart_fairseq.__file__).parent,
        "--task": "cart_rqvae",
        "--arch": "cart_rqvae",
        "--criterion": "cart_rqvae",
        "--rqvae-codebooks": settings.codebooks,
        "--rqvae-codebook-size": settings.codebook_size,
        "--rqvae-latent-dim": settings.latent_dim,
        "--rqvae-codebook-init": settings.codebook_init,
        "--rqvae-alpha": settings.alpha,
        "--rqvae-beta": settings.beta,
        "--optimizer": "adam",
        "--lr": PEAK_LEARNING_RATE,
        "--lr-scheduler": "inverse_sqrt",
        "--warmup-init-lr": INITIAL_LEARNING_RATE,
        "--warmup-updates": max(1, settings.warmup_epochs * updates_per_epoch),
        "--max-epoch": settings.epochs,
        "--batch-size": settings.batch_size,
        "--required-batch-size-multiple": 1,  # fairseq's 8 splits or drops what is left of the rows
        "--num-workers": 0,
        "--seed": settings.seed,
        "--distributed-world-size": processes,
        "--save-dir": save_dir,
        "--save-interval": max(1, settings.epochs // CHECKPOINTS),
        "--log-format": "simple",
        "--log-interval": max(1, settings.epochs * updates_per_epoch // LINES),
    }
    if processes > 1:
        options["--distributed-backend"] = "nccl" if torch.cuda.device_count() >= processes else "gloo"
        options["--ddp-backend"] = "legacy_ddp"  # fairseq's other one insists on GPUs
    flags = ["--disable-validation", "--no-epoch-checkpoints"]
    flags += [] if settings.recentre else ["--rqvae-no-recentre"]
    flags += [] if settings.reseed else ["--rqvae-reseed-interval", "0"]
    # Several processes cannot share a GPU.
    flags += [] if torch.cuda.device_count() >= processes else ["--cpu"]
    return [str(residuals), *(str(part) for option in options.items() for part in option), *flags]


def train_rqvae(residuals: Path, work: Path, settings: RQVAESettings, processes: int = 1) -> RQVAE:
    """Train, or finish training, an RQ-VAE.

    With several processes initial weights, batches, updates and learning rates are those of one. Gradients are the sum
    of the processes' parts, so they round otherwise: the same number of processes gives the same bits, another number
    weights that agree to rounding at first and may drift apart over a long run.

    Args:
        residuals: (N, D) float32 `.npy` file.
        work: folder for `checkpoints/` and `fairseq-train.log`.
        settings: of the run; `work` must not hold checkpoints of other settings.
        processes: how many train together on this machine, started by torchrun.

    Raises:
        OSError: fairseq-train failed; the message ends with its last words and names the log.
    """
    forget_damaged(work / "checkpoints")
    rows, dimension = np.load(residuals, mmap_mode="r", allow_pickle=False).shape
    checkpoints, log_path = work / "checkpoints", work / "fairseq-train.log"
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command += ["-m", "cart_fairseq.tasks.torchrun_worker"]
    else:
        command += ["fairseq_cli.train"]
    updates_per_epoch = math.ceil(rows / settings.batch_size)
    announced = f"{settings.epochs:,} epochs of {rows:,} rows; the time left follows; all of its log is in {log_path}"
    command += fairseq_arguments(residuals, checkpoints, rows, settings, processes)
    with (
        open(log_path, "a", encoding="utf-8") as log,
        Progress(settings.epochs * updates_per_epoch, "RQ-VAE", "updates", announce=announced) as progress,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            preexec_fn=functools.partial(end_with_parent, os.getpid()),
            # Threads that spin while they wait make the run several times slower as soon as anything else computes.
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        ) as process,
    ):
        assert process.stdout is not None
        try:
            follow(process.stdout, log, progress, updates_per_epoch)
        except BaseException:
            process.terminate()
            raise
        progress.update((progress.total or 0) - progress.done if process.wait() == 0 else 0)
    if process.returncode:
        words = " | ".join(log_path.read_text(encoding="utf-8").splitlines()[-3:])
        raise OSError(f"fairseq-train ended with exit code {process.returncode}: {words} (all of it in {log_path})")
    return load_rqvae(checkpoints / "checkpoint_last.pt", dimension, settings)


def follow(lines: Iterable[str], log: TextIO, progress: Progress, updates_per_epoch: int) -> None:
    """Copy fairseq-train's lines to the log, and count the updates that they tell of."""
    started = False
    for line in lines:
        log.write(line)
        log.flush()
        if "begin training epoch " in line:
            epoch = int(line.rsplit(" ", 1)[1])
            progress.note(f"epoch {epoch:,}")
            if not started:
                progress.resume((epoch - 1) * updates_per_epoch)
                started = True
        elif found := UPDATE.search(line):
            progress.update(int(found[1]) - progress.done)


def forget_damaged(checkpoints: Path) -> None:
    """Remove checkpoints of a killed run unless they can be read and every checksum is right: training begins again."""
    for path in checkpoints.glob("*.pt"):
        try:
            read_checkpoint(path)
        except Exception:
            path.unlink()


def load_rqvae(checkpoint: Path, dimension: int, settings: RQVAESettings) -> RQVAE:
    """The RQ-VAE of a fairseq checkpoint, on the CPU, read in torch's safe mode."""
    rqvae = RQVAE(dimension, settings.latent_dim, settings.codebooks, settings.codebook_size)
    state = read_checkpoint(checkpoint)["model"]
    try:
        check_weights(state)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from None
    rqvae.load_state_dict({name.removeprefix("rqvae."): tensor for name, tensor in state.items()})
    return rqvae.requires_grad_(False).eval()
