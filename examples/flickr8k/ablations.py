"""Ablations of the recommended recipe: the variants of ``ablations.sh``, their runs, and the table of results."""

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import report
from calls import call
from defaults import this_machine
from plan import plan_measuring
from settings import Settings, from_environment, words
from steps import Run, check_run, train

from cart_fairseq import tune
from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.base.settings import TuningSettings
from cart_fairseq.measuring.labels import METRIC_LABELS

MODEL = ("--max-update", "660", "--fusion", "none", "--consistency-weight", "0", "--decoder-layers", "2")
SEARCH = ("--dry-run", "--beam", "30", "--discounts", "1")
FIRST = "full-1"  # the run whose join other runs use, too


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A variant, which is a row of the table.

    Attributes:
        name: name of its folders.
        says: its description in the table.
        captions: INDEX_CAPTIONS of run.sh; empty: index captions are included.
        identifiers: additional flags of build_identifiers. DATA and OUT in them are replaced by the folders.
        train: additional flags of fairseq-train.
        search: additional flags of cart_fairseq.tune. If there are any, the models of `full` are searched.
        seeds: number of seeds.
    """

    name: str
    says: str
    captions: str = ""
    identifiers: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    seeds: int = 1


LINES = (
    Line(name="full", says="the recipe, small", seeds=3),
    Line(
        name="image",
        says="identifiers of the image features (64 components)",
        identifiers=("--embeddings", "DATA/embeddings.npy", "--pca", "64"),
        seeds=3,
    ),
    Line(
        name="no-distillation",
        says="without the dense head's soft targets",
        train=("--distillation-weight", "0"),
        seeds=3,
    ),
    Line(
        name="fusion",
        says="with coarse-to-fine fusion of all encoder layers",
        train=("--fusion", "coarse-fine"),
        seeds=3,
    ),
    Line(name="rdrop", says="with R-Drop, weight 0.15", train=("--consistency-weight", "0.15"), seeds=3),
    Line(name="rdrop-0.5", says="with R-Drop, weight 0.5", train=("--consistency-weight", "0.5")),
    Line(
        name="joined",
        says="identifiers of the joined rows, not of the dual tower's vectors",
        identifiers=("--embeddings", "OUT/full-1/joined/embeddings.npy"),
    ),
    Line(
        name="rqvae",
        says="k-means and RQ-VAE in place of residual k-means",
        identifiers=("--scheme", "coarse-fine", "--epochs", "100"),
    ),
    Line(name="two-levels", says="one fine level less", identifiers=("--codebooks", "1")),
    Line(name="four-levels", says="one fine level more", identifiers=("--codebooks", "3")),
    Line(name="once", says="index captions as often as others", train=("--index-repeats", "1")),
    Line(name="no-smoothing", says="without label smoothing", train=("--label-smoothing", "0")),
    Line(name="deeper", says="four decoder layers", train=("--decoder-layers", "4")),
    Line(
        name="wider",
        says="decoder half as wide again",
        train=("--decoder-embed-dim", "384", "--decoder-ffn-embed-dim", "1536"),
    ),
    Line(name="dropout-0.1", says="dropout 0.1, not 0.2", train=("--dropout", "0.1")),
    Line(name="renormalised", says="renormalised scores", search=("--scoring", "renormalised")),
    Line(name="beam-10", says="beam 10", search=("--beam", "10")),
    Line(name="beam-100", says="beam 100", search=("--beam", "100")),
    Line(name="beam-200", says="beam 200", search=("--beam", "200")),
    Line(name="discount", says="later symbols count less", search=("--discounts", *map(str, TuningSettings.discounts))),
    Line(name="excluded", says="no index captions", captions="exclude"),
    Line(name="borrowed", says="no index captions, but five of near training items", captions="borrowed"),
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A line with one of its seeds."""

    line: Line
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.line.name}-{self.seed}"

    def searched(self, out: Path) -> Path:
        """Return the folder of the model: its own, or that of `full` with the same seed if only the search differs."""
        return out / (f"full-{self.seed}" if self.line.search else self.name)


def variants(chosen: Sequence[str] = ()) -> list[Variant]:
    """Return the runs of all variants or of the chosen ones. `full`, whose models others search, comes first.

    Raises:
        ValueError: there is no variant of that name.
    """
    names = [line.name for line in LINES]
    for name in chosen:
        if name not in names:
            raise ValueError(f"ABLATIONS: no line {name!r}; there are {', '.join(names)}")
    found = [
        Variant(line, seed) for line in LINES for seed in range(1, line.seeds + 1) if not chosen or line.name in chosen
    ]
    return sorted(found, key=lambda run: (-run.line.seeds, run.seed))


def run(data: Path, out: Path, flags: Sequence[str]) -> None:
    """Train and measure all variants, or those in ABLATIONS, and print the table of all finished runs.

    Raises:
        ValueError: ABLATIONS contains an unknown variant, or flags are wrong.
    """
    settings = dataclasses.replace(from_environment(), recipe="joined", identifier_flags=())
    planned = {
        each: Run(
            data,
            each.searched(out),
            ["--seed", str(each.seed), *MODEL, "--disable-validation", *each.line.train, *flags],
            settings_of(each.line, data, out, settings),
        )
        for each in variants(words("ABLATIONS"))
    }
    planned = {
        each: training
        for each, training in planned.items()
        if not is_recorded(out / f"{each.name}.json", training.flags)
    }
    for training in planned.values():
        check_run(*training)
    for each, training in planned.items():
        print(f"\n==== {each.line.name}, seed {each.seed}")
        folder = training.out
        if not each.line.search:
            share(each, out)
            train(*training)
        tuned = out / f"{each.name}.tuned.json"
        checkpoint = plan_measuring(folder, this_machine([])).checkpoint
        arguments = ["--data", folder / "data-bin", "--path", checkpoint, "--json", tuned, *SEARCH, *each.line.search]
        call(tune.main, *arguments)
        write_json(out / f"{each.name}.json", report.record(folder, tuned, {}))
    found = collect(out)
    write_json(out / "ablations.json", found)
    print("\n" + table(found))


def is_recorded(path: Path, flags: Sequence[str]) -> bool:
    """Return whether a run is finished.

    Raises:
        ValueError: it was trained with other flags.
    """
    if not path.is_file():
        return False
    before = read_json(path)["train_flags"]
    if before[-len(flags) :] != [*flags]:
        raise ValueError(
            f"{path}: was trained with {shlex.join(before)}, which does not end with {shlex.join(flags)}; choose another "
            "OUT, or remove this file"
        )
    return True


def settings_of(line: Line, data: Path, out: Path, settings: Settings) -> Settings:
    """Return the settings of one variant."""
    places = {"DATA": data, "OUT": out}
    flags = []
    for flag in line.identifiers:
        place, slash, below = flag.partition("/")
        flags.append(str(places[place] / below) if slash and place in places else flag)
    return dataclasses.replace(settings, index_captions=line.captions, own_identifiers=tuple(flags))


def share(each: Variant, out: Path) -> None:
    """Link those outputs of the first run that this run has in common with it."""
    folder = out / each.name
    folder.mkdir(parents=True, exist_ok=True)
    if each.name == FIRST or each.line.captions or not (out / f"{FIRST}.json").is_file():
        return
    for name in ("joined",) if each.line.identifiers else ("joined", "identifiers", "data-bin"):
        if not (folder / name).exists():  # a run that began before the first one keeps its own
            (folder / name).symlink_to(Path("..") / FIRST / name)


def records(out: Path, line: Line) -> Iterator[dict[str, Any]]:
    """Yield the records of a variant's finished runs, by seed."""
    for seed in range(1, 10):
        path = out / f"{line.name}-{seed}.json"
        if path.is_file():
            yield read_json(path)


def collect(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Return variant -> its runs by seed, with metrics without (``alone``) and with the dense head (``together``)."""
    kept = ("commit", "machine", "seed", "minutes", "identifiers")
    found: dict[str, list[dict[str, Any]]] = {}
    for line in LINES:
        found[line.name] = []
        for record in records(out, line):
            tuned = record["tuned"]
            figures = {row["weight"]: {name: row[name] for name in METRIC_LABELS} for row in tuned["weights"]}
            reached = {"alone": figures[0.0], "together": figures[tuned["best"]]}
            more = {
                "beam": tuned["beam"],
                "discount": tuned.get("discount", 1.0),
                "dense_weight": tuned["best"],
            } | reached
            settings = {name: record[name] for name in kept if name in record} | {
                "train_flags": shlex.join(record["train_flags"])
            }
            found[line.name].append(settings | more)
    return found


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of variants with finished runs: the mean and, for several seeds, the standard deviation."""
    names = [METRIC_LABELS[metric] for metric in ("recall_at_1", "recall_at_10")]
    heads = [
        "",
        *(f"{which} {name}" for which in ("identifiers alone,", "with the dense head,") for name in names),
        "seeds",
    ]
    rows = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for line in LINES:
        if not found[line.name]:
            continue
        cells = [
            report.mean_and_deviation([one[which][metric] for one in found[line.name]])
            for which in ("alone", "together")
            for metric in ("recall_at_1", "recall_at_10")
        ]
        rows.append(f"| {line.says} | {' | '.join(cells)} | {len(found[line.name])} |")
    return "\n".join(rows)
