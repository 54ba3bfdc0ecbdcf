"""The lines of ``ablations.sh``, the record of a run, and the table that comes of them.

ablations.py lines [LINE …]         one run a line: LINE|SEED|index captions|flags of build_identifiers|of fairseq-train|of tune
ablations.py record RUN TUNED FILE  settings, commit, seed and metrics of a run
ablations.py print OUT              the table in Markdown, and OUT/ablations.json: settings, commit, seed and figures of each run
"""

import dataclasses
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes"))

from report import METRICS, record

from cart_fairseq.files import read_json, run_script, write_json
from cart_fairseq.tune import DISCOUNTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table.

    Attributes:
        name: its folder.
        says: what it is.
        captions: what takes the place of index captions (INDEX_CAPTIONS of run.sh), where they are left out.
        identifiers, train, search: flags of build_identifiers, fairseq-train and cart_fairseq.tune, beside those of all.
        seeds: how many.
    """

    name: str
    says: str
    captions: str = ""
    identifiers: str = ""
    train: str = ""
    search: str = ""
    seeds: int = 1


LINES = (
    Line(name="full", says="the recipe, small", seeds=3),
    Line(
        name="image",
        says="identifiers of the image features (64 components)",
        identifiers="--embeddings DATA/embeddings.npy --pca 64",
        seeds=3,
    ),
    Line(
        name="no-distillation", says="without the dense head's soft targets", train="--distillation-weight 0", seeds=3
    ),
    Line(name="fusion", says="with coarse-to-fine fusion of all encoder layers", train="--fusion coarse-fine", seeds=3),
    Line(name="rdrop", says="with R-Drop, weight 0.15", train="--consistency-weight 0.15", seeds=3),
    Line(name="rdrop-0.5", says="with R-Drop, weight 0.5", train="--consistency-weight 0.5"),
    Line(
        name="joined",
        says="identifiers of the joined rows, not of the dual tower's vectors",
        identifiers="--embeddings OUT/full-1/joined/embeddings.npy",
    ),
    Line(
        name="rqvae",
        says="k-means and RQ-VAE in place of residual k-means",
        identifiers="--scheme coarse-fine --epochs 100",
    ),
    Line(name="two-levels", says="one fine level less", identifiers="--codebooks 1"),
    Line(name="four-levels", says="one fine level more", identifiers="--codebooks 3"),
    Line(name="once", says="index captions as often as others", train="--index-repeats 1"),
    Line(name="no-smoothing", says="without label smoothing", train="--label-smoothing 0"),
    Line(name="deeper", says="four decoder layers", train="--decoder-layers 4"),
    Line(name="wider", says="decoder half as wide again", train="--decoder-embed-dim 384 --decoder-ffn-embed-dim 1536"),
    Line(name="dropout-0.1", says="dropout 0.1, not 0.2", train="--dropout 0.1"),
    Line(name="renormalised", says="renormalised scores", search="--scoring renormalised"),
    Line(name="beam-10", says="beam 10", search="--beam 10"),
    Line(name="beam-100", says="beam 100", search="--beam 100"),
    Line(name="beam-200", says="beam 200", search="--beam 200"),
    Line(name="discount", says="later symbols count less", search=f"--discounts {' '.join(map(str, DISCOUNTS))}"),
    Line(name="excluded", says="no index captions", captions="exclude"),
    Line(name="borrowed", says="no index captions, but five of near training items", captions="borrowed"),
)


def lines(chosen: Sequence[str] = ()) -> str:
    """The runs, of all lines or of those chosen: first those of several seeds, whose models others search.

    Raises:
        ValueError: a line of that name does not exist.
    """
    names = [line.name for line in LINES]
    for name in chosen:
        if name not in names:
            raise ValueError(f"ABLATIONS: no line {name!r}; there are {', '.join(names)}")
    runs = [(line, seed) for line in LINES for seed in range(1, line.seeds + 1) if not chosen or line.name in chosen]
    runs.sort(key=lambda run: (-run[0].seeds, run[1]))
    return "\n".join(
        f"{line.name}|{seed}|{line.captions}|{line.identifiers}|{line.train}|{line.search}" for line, seed in runs
    )


def collect(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Line -> its runs by seed, each with what it reached without the dense head (``alone``) and with it (``together``)."""
    kept = ("commit", "seed", "minutes", "identifiers")
    found: dict[str, list[dict[str, Any]]] = {}
    for line in LINES:
        found[line.name] = []
        for path in sorted(out.glob(f"{line.name}-[0-9].json")):
            run = read_json(path)
            tuned = run["tuned"]
            figures = {row["weight"]: {name: row[name] for name in METRICS} for row in tuned["weights"]}
            reached = {"alone": figures[0.0], "together": figures[tuned["best"]]}
            more = {
                "beam": tuned["beam"],
                "discount": tuned.get("discount", 1.0),
                "dense_weight": tuned["best"],
            } | reached
            settings = {name: run[name] for name in kept} | {"train_flags": shlex.join(run["train_flags"])}
            found[line.name].append(settings | more)
    return found


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """The lines that have runs, with what these reached: mean and, of several seeds, standard deviation."""
    names = [METRICS[metric] for metric in ("recall_at_1", "recall_at_10")]
    heads = [
        "",
        *(f"{which} {name}" for which in ("identifiers alone,", "with the dense head,") for name in names),
        "seeds",
    ]
    rows = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for line in LINES:
        if not runs[line.name]:
            continue
        cells = [
            cell([run[which][metric] for run in runs[line.name]])
            for which in ("alone", "together")
            for metric in ("recall_at_1", "recall_at_10")
        ]
        rows.append(f"| {line.says} | {' | '.join(cells)} | {len(runs[line.name])} |")
    return "\n".join(rows)


def cell(values: Sequence[float]) -> str:
    """Mean and spread."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the commands of the module's docstring."""
    command, *rest = sys.argv[1:] if argv is None else argv
    if command == "lines":
        print(lines(rest))
    elif command == "record":
        run, tuned, file = map(Path, rest)
        write_json(file, record(run, tuned, {}))
    else:
        out = Path(rest[0])
        runs = collect(out)
        write_json(out / "ablations.json", runs)
        print(table(runs))


if __name__ == "__main__":
    run_script(main)
