"""fairseq's commands as the recipes call them: training in a process of its own, searching in this one."""

import argparse
import contextlib
import functools
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from calls import refusing

from cart_fairseq.base.processes import end_with_parent

PLUGIN = Path(__file__).resolve().parents[2] / "cart_fairseq"
PROGRESS = re.compile(rb" \| (train_inner|valid) \| |Loaded checkpoint")
REFUSED = {":": "fairseq takes it for several folders", "${": "fairseq puts a setting in its place"}
REFUSED["\\'"] = "fairseq cannot read it"
LAST_LINES = 20
UNSAVED = ("no_save", "no_last_checkpoints", "checkpoint_suffix")
"""Options of fairseq-train that keep the last checkpoint from being there under its name."""


class FairseqFailed(SystemExit):
    """A command of fairseq ended with an error, or by a signal, as was shown; the recipe ends with exit status 1."""

    def __init__(self) -> None:
        super().__init__(1)


def check_folder(out: Path) -> None:
    """Refuse folders whose names fairseq does not take.

    Raises:
        ValueError: there is such a thing in the folder's path.
    """
    for text, reason in REFUSED.items():
        if text in str(out):
            raise ValueError(f"{str(out)!r}: has {text!r} in its path, and {reason}; choose a folder without it")
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{str(out)!r}: is not UTF-8; choose another folder") from None


def check_train_flags(user: Sequence[str], planned: Sequence[str], where: str) -> None:
    """Parse flags of a user as ``fairseq-train`` does, which takes seconds of imports.

    Args:
        user: the flags.
        planned: those of the recipe, which come before them.
        where: what holds them, for messages.

    Raises:
        ValueError: fairseq does not take them, they do not go with the recipe's, or a stopped run could not go on.
    """
    from cart_fairseq.tasks import plugin  # noqa: F401, I001 (before fairseq, which would have much to say)
    from cart_fairseq.models import cart
    from cart_fairseq.models.flags import network_config
    from cart_fairseq.tasks.retrieval_options import check_options
    from cart_fairseq.tasks.training_options import check_training
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.models import ARCH_MODEL_REGISTRY

    def parsed(flags: Sequence[str]) -> argparse.Namespace:
        given = ["data-bin", "--user-dir", str(PLUGIN), *flags]
        return options.parse_args_and_arch(options.get_training_parser(), input_args=given)

    model = ["--task", "cart_retrieval", "--arch", "cart", "--criterion", "cart_rdrop"]
    with refusing(where, "fairseq-train"):
        found = parsed([*model, "--optimizer", "adam", "--lr-scheduler", "cosine", *user])
        check_options(found)
    if not issubclass(ARCH_MODEL_REGISTRY[found.arch], cart.CARTModel):
        raise ValueError(f"{where}: --arch {found.arch} is none of this project; use cart or cart_tiny")
    with refusing(f"{where} do not go with the recipe's own", "fairseq-train"):
        whole = parsed([*planned, *user])
    with refusing(where, "fairseq-train"):
        network_config(whole)
        check_values(whole)
        try:
            whole_config = convert_namespace_to_omegaconf(whole)
        except Exception as error:  # hydra has many
            raise ValueError(" ".join(str(error).split())) from None
        check_training(whole_config)
    for name in UNSAVED:
        if getattr(found, name):
            raise ValueError(f"{where}: with --{name.replace('_', '-')} a run could not go on; leave it out")


def check_values(found: argparse.Namespace) -> None:
    """Refuse values that fairseq-train takes and fails with after the data are made.

    Raises:
        ValueError: there is such a value.
    """
    for stack in ("encoder", "decoder"):
        width, heads = getattr(found, f"{stack}_embed_dim"), getattr(found, f"{stack}_attention_heads")
        if width % heads:
            raise ValueError(
                f"--{stack}-attention-heads is {heads}, which does not divide --{stack}-embed-dim, {width}"
            )
    for name, default, part in (("coarse_gating", "sigmoid", "coarse"), ("fine_scaling", "none", "fine")):
        value = getattr(found, name)
        if value != default and part not in found.fusion:
            shown = name.replace("_", "-")
            raise ValueError(f"--{shown} is {value}, which has no effect with --fusion {found.fusion}; leave it out")
    if not 0 <= found.seed < 2**32:
        raise ValueError(f"--seed is {found.seed}; it must be a whole number from 0 to 4294967295")


def train(data_bin: Path, checkpoints: Path, flags: Sequence[str]) -> None:
    """Run ``fairseq-train``; all it says goes to ``checkpoints/train.log``, its progress is shown, too.

    Raises:
        FairseqFailed: it ended with an error or by a signal.
    """
    arguments = [str(data_bin), "--user-dir", str(PLUGIN), "--save-dir", str(checkpoints), *flags]
    log = checkpoints / "train.log"
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what earlier steps needed there
    sys.stdout.flush()
    command = [sys.executable, "-W", "ignore", "-m", "fairseq_cli.train", *arguments]
    with (
        open(log, "ab", buffering=0) as kept,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=functools.partial(end_with_parent, os.getpid()),
            close_fds=False,  # the lock of the run is inherited
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                kept.write(line)
                if PROGRESS.search(line):
                    print(line.decode(errors="replace"), end="", flush=True)
        except BaseException:  # this process is about to end, and so must the other
            process.terminate()
            raise
    if process.returncode != 0:
        show_end(log)
        if process.returncode < 0:
            ended = f"signal {-process.returncode} ({signal_name(-process.returncode)})"
            print(f"training was ended by {ended}; give the same command again to go on", file=sys.stderr)
        raise FairseqFailed


def signal_name(number: int) -> str:
    """A signal's name.

    >>> signal_name(9), signal_name(50)
    ('SIGKILL', 'unnamed')
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"


def search(arguments: Sequence[str], log: Path) -> None:
    """Run ``fairseq-generate`` in this process; what it says goes to `log`, its results where the arguments say.

    Raises:
        FairseqFailed: it ended with an error.
    """
    from cart_fairseq.tasks import plugin  # noqa: F401, I001 (before fairseq, which would have much to say)
    from fairseq import options
    from fairseq_cli import generate

    log.parent.mkdir(parents=True, exist_ok=True)
    failed = False
    with as_a_process(log):
        try:
            parser = options.get_generation_parser()
            generate.main(options.parse_args_and_arch(parser, input_args=[*arguments, "--user-dir", str(PLUGIN)]))
        except (Exception, SystemExit):
            traceback.print_exc()
            failed = True
    if failed:
        show_end(log)
        raise FairseqFailed


@contextlib.contextmanager
def as_a_process(log: Path) -> Iterator[None]:
    """Logging not yet set up, standard error to a file, standard output nowhere, as at the start of a process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        with (
            open(log, "w", encoding="utf-8") as errors,
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(nowhere),
        ):
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def show_end(log: Path) -> None:
    """The last lines of a log, on standard error."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines[-LAST_LINES:]), file=sys.stderr)
