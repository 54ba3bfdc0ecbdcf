"""The demo: for each kind of media, generate a small data set, train a small model, and write a page of results."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

# More threads gain little with matrices as small as these, and results on so little data vary with their number.
# Libraries read it when they are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import page
import together
import world
from serving import check_page
from settings import Settings, from_environment, words
from steps import Run, check_run, train_and_evaluate


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How the model of one kind is trained.

    Attributes:
        rqvae_epochs: epochs of the identifiers' RQ-VAE.
        batch: batch size of ``fairseq-train``.
        epochs: epochs of ``fairseq-train``.
        validate_every: epochs between validations.
    """

    rqvae_epochs: int
    batch: int
    epochs: int
    validate_every: int

    def train_flags(self) -> list[str]:
        """Return the flags of ``fairseq-train`` that differ between kinds."""
        flags = ["--batch-size", self.batch, "--max-epoch", self.epochs, "--validate-interval", self.validate_every]
        return [str(flag) for flag in flags]


SCHEDULES = {  # the shortest first, so that the first results appear soon
    "clips": Schedule(rqvae_epochs=100, batch=24, epochs=6, validate_every=6),
    "pictures": Schedule(rqvae_epochs=200, batch=32, epochs=7, validate_every=7),
    "sounds": Schedule(rqvae_epochs=100, batch=32, epochs=5, validate_every=5),
}
MODEL = (
    *("--encoder-embed-dim", "128", "--encoder-ffn-embed-dim", "256"),
    *("--encoder-layers", "2", "--decoder-layers", "2", "--dropout", "0.1", "--lr", "2e-3"),
)


def run(out: Path, flags: Sequence[str]) -> None:
    """Run the demo for all kinds, or those in KINDS. The page of results is written after each kind.

    Raises:
        ValueError: KINDS contains an unknown kind, or flags are wrong.
    """
    check_page()
    settings, kinds = from_environment(), words("KINDS", " ".join(SCHEDULES))
    for kind in kinds:
        if kind not in SCHEDULES:
            raise ValueError(f"KINDS names {kind!r}; use some of {', '.join(SCHEDULES)}")
    runs = {kind: run_of(kind, out, flags, settings) for kind in kinds}
    joint = together.run_of(out, MODEL, flags, settings) if {*kinds} == {*SCHEDULES} else None
    for planned in runs.values():
        check_run(*planned)
    if joint is not None:
        check_run(*joint)
        together.embedding_of(joint).check()
    for kind, planned in runs.items():
        data = planned.data
        print(f"\n== 0. a world of {kind}")
        if (data / "captions.jsonl").is_file():
            print(f"{data}: made already, nothing to do")
        else:
            data.parent.mkdir(parents=True, exist_ok=True)
            world.main([kind, str(data)])
        train_and_evaluate(*planned)
        print("\n== 5. a page to look at")
        finished = [out / each for each in kinds if (out / each / "run" / "metrics.json").is_file()]
        page.main([str(out / "index.html"), *map(str, finished)])
    if joint is not None:
        together.make_page(out, list(SCHEDULES), joint)


def show(out: Path, flags: Sequence[str]) -> None:
    """Serve the page of all kinds, or say how to."""
    together.show(out)


def run_of(kind: str, out: Path, flags: Sequence[str], settings: Settings) -> Run:
    """Return the run of one kind; the user's flags come last and win."""
    schedule = SCHEDULES[kind]
    epochs = ("--epochs", str(schedule.rqvae_epochs), *settings.identifier_flags)
    return Run(
        out / kind / "data",
        out / kind / "run",
        [*MODEL, *schedule.train_flags(), *flags],
        dataclasses.replace(settings, identifier_flags=epochs),
    )
