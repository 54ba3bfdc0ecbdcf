"""The end of a recipe: ``OUT/metrics.json``, ``OUT/run.json``, the metric table, and a few queries with their top items.

``run.json`` says where a figure comes from: commit, machine, settings, seed, metrics.
"""

import os
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from plan import MEASURED
from provenance import command, commit, machine
from schedules import RECIPES

from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.loading.checkpoint import read_checkpoint
from cart_fairseq.measuring.labels import METRIC_LABELS

PRECISION = "precision.json"
SHOWN_QUERIES, SHOWN_ITEMS, SEED = 5, 3, 1
VARIABLES = ("JOIN_FLAGS", "IDENTIFIER_FLAGS", "BINARIZE_FLAGS", "TEXT_ENCODER", "INDEX_CAPTIONS")


def collect(out: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """What ``cart_fairseq.evaluate`` found: candidate set (``split``, ``all``) -> subset -> metrics in percent."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for chosen in ("split", "all"):
        paths = {subset: out / "results" / chosen / f"metrics.{subset}.json" for subset in MEASURED}
        found[chosen] = {subset: read_json(path) for subset, path in paths.items() if path.is_file()}
    return found


def table(found: dict[str, dict[str, dict[str, Any]]], manifest: dict[str, Any], paper: Sequence[float] = ()) -> str:
    """The metric table; every figure names the items that competed; last, the paper's figures."""
    lines = [
        "".join([f"{'subset':<8}{'queries':>9}  {'candidates':<20}", *(f"{m:>8}" for m in METRIC_LABELS.values())])
    ]
    for subset in MEASURED:
        for chosen, measured in found.items():
            if subset in measured:
                row = measured[subset]
                competing = f"{row['candidates']:,} ({'of the split' if chosen == 'split' else 'all items'})"
                figures = "".join(f"{row[metric]:>8.1f}" for metric in METRIC_LABELS)
                lines.append(f"{subset:<8}{row['queries']:>9,}  {competing:<20}{figures}")
    if len(lines) == 1:
        return "no queries to measure on: give captions the role 'query', or several captions to each item"
    if paper:
        lines.append(f"{'test':<8}{'':>9}  {'(the paper)':<20}" + "".join(f"{figure:>8.1f}" for figure in paper))
    lines.append(f"in percent; index captions of valid and test items in training: {manifest['index_captions']}")
    if manifest["valid_held_out"]:
        lines.append("valid: no queries given, so a sample of training captions was held out")
    return "\n".join(lines)


def examples(out: Path, checkpoint: Path, subset: str) -> str:
    """A few seeded queries of a subset, each with its best items; the wanted one is marked."""
    from cart_fairseq.retriever import CartRetriever

    data = DataBin(out / "data-bin")
    queries = pq.read_table(out / "data-bin" / f"queries.{subset}.parquet").to_pylist()
    order = np.random.default_rng(SEED).permutation(len(queries))[:SHOWN_QUERIES]
    retriever = CartRetriever.from_pretrained(checkpoint, data=out / "data-bin")
    chosen = [queries[i] for i in order]
    found = retriever.search(
        [query["text"] for query in chosen], k=SHOWN_ITEMS, candidates=None if subset == "train" else subset
    )
    lines = [f"{subset} queries and their best items (* the wanted one):"]
    for query, hits in zip(chosen, found):
        lines.append(f"\n  {query['text']}")
        wanted = data.bundle.item_ids[query["item_row"]]
        lines += [f"   {'*' if hit.item_id == wanted else ' '} {hit.score:8.3f}  {hit.item_id}" for hit in hits]
    return "\n".join(lines)


def weighing(out: Path) -> str:
    """Without and with the dense head's scores, on the queries that its weight was chosen on; empty where there is none."""
    if not (out / "tuned.json").is_file():
        return ""
    tuned = read_json(out / "tuned.json")
    rows = {row["weight"]: row for row in tuned["weights"]}
    discount = tuned.get("discount", 1.0)  # of runs of before there is none
    lines = [f"valid queries, beam {tuned['beam']}, discount {discount:g} a level, weight of the dense scores:"]
    for weight in (each for each in dict.fromkeys((0.0, tuned["best"])) if each in rows):
        figures = "".join(f"{rows[weight][metric]:>8.1f}" for metric in METRIC_LABELS)
        lines.append(f"{'identifiers alone' if weight == 0 else f'weight {weight:g}, kept':<39}{figures}")
    return "\n".join(lines)


def record(out: Path, tuned: Path, found: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Commit, machine, settings, seed and metrics of a run.

    Args:
        tuned: the file that ``cart_fairseq.tune`` wrote, if it ran.
        found: what `collect` returns.
    """
    manifest, plan = read_json(out / "data-bin" / "manifest.json"), read_json(out / "checkpoints" / "plan.json")
    joined, precision = out / "joined" / "join.json", out / "results" / PRECISION
    bundle = IdentifierBundle.load(out / "identifiers").codec_settings
    # a join of a recipe that was given up before training may lie there, too
    settings = read_json(joined)["settings"] if RECIPES[plan["sized_for"]].joined and joined.is_file() else None
    return {
        "command": command(),
        "commit": commit(),
        "machine": machine(),
        "recipe": plan["sized_for"],
        "seed": plan["seed"],
        "train_flags": plan["train_flags"],
        "index_captions": manifest["index_captions"],
        "text_encoder": name_of((manifest.get("text_encoder") or {}).get("name")),
        "joined": {**settings, "text_features": name_of(settings["text_features"])} if settings else None,
        "identifiers": {name: bundle[name] for name in ("scheme", "dimension", "captions") if name in bundle},
        "minutes": round(minutes_of(out / "checkpoints" / "train.log"), 1),
        "updates": updates_of(out / "checkpoints" / "checkpoint_last.pt"),
        "tuned": read_json(tuned) if tuned.is_file() else None,
        "precision": read_json(precision) if precision.is_file() else None,
        "metrics": found,
    }


def said(script: str, flags: Sequence[str], chosen: Mapping[str, str]) -> str:
    """What to type for a run of a script, with the variables of other steps that are set.

    Args:
        script: its path in the project.
        flags: of ``fairseq-train``.
        chosen: variables of the script itself.
    """
    given = {**chosen, **{name: os.environ[name] for name in VARIABLES if os.environ.get(name)}}
    variables = [f"{name}={shlex.quote(value)}" for name, value in given.items()]
    return " ".join([*variables, shlex.join(["bash", script, "DATA", "OUT", *flags])])


def is_recorded(path: Path, command: str) -> bool:
    """Whether a run is finished, and its record is there.

    Raises:
        ValueError: its record is that of another command.
    """
    if not path.is_file():
        return False
    if (before := read_json(path)["command"]) != command:
        raise ValueError(f"{path}: was made by {before!r}, not by {command!r}; choose another OUT, or remove this file")
    return True


def name_of(model: str | None) -> str | None:
    """A model's name, or the end of its path: what it is, not where it lies."""
    return "/".join(Path(model).parts[-2:]) if model else None


def minutes_of(log: Path) -> float:
    """How long training took: what fairseq says at the end of each call, added up. Calls that were killed do not count."""
    seconds = (
        re.findall(r"done training in ([\d.]+) seconds", log.read_text(encoding="utf-8", errors="replace"))
        if log.is_file()
        else []
    )
    return sum(float(each) for each in seconds) / 60


def updates_of(checkpoint: Path) -> int | None:
    """The number of updates after which a checkpoint was written; None where there is none."""
    return int(read_checkpoint(checkpoint)["optimizer_history"][-1]["num_updates"]) if checkpoint.is_file() else None


def write(out: Path, checkpoint: Path, paper: Sequence[float] = ()) -> None:
    """Write ``metrics.json`` and ``run.json``, and print the rest.

    Args:
        out: the run.
        checkpoint: the one that was measured.
        paper: its R@1, R@5, R@10 and MRR@10 on the test queries, to stand beside.
    """
    found = collect(out)
    write_json(out / "metrics.json", found["split"])
    write_json(out / "run.json", record(out, out / "tuned.json", found))
    if text := weighing(out):
        print(text + "\n")
    print(table(found, read_json(out / "data-bin" / "manifest.json"), paper))
    shown = next((subset for subset in reversed(MEASURED) if subset in found["split"]), "train")
    print("\n" + examples(out, checkpoint, shown))


def mean_and_deviation(values: Sequence[float], digits: int = 1) -> str:
    """A table's cell: the mean and, of several values, their standard deviation.

    >>> mean_and_deviation([1.0]), mean_and_deviation([1.0, 2.0, 3.0])
    ('1.0', '2.0 ± 1.0')
    """
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"
