"""Compares identifiers as the paper makes them with the default ones: ``literal.sh``, its runs and the table of results."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import report
from defaults import this_machine
from folders import embeddings_of
from plan import plan_measuring
from provenance import commit, machine
from settings import Settings, from_environment, words
from sklearn.cluster import MiniBatchKMeans
from steps import Run, check_run, measure, train

from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.measuring.labels import METRIC_LABELS
from preprocess.data.embeddings import open_embeddings

SEEDS = 3
MODEL = ("--max-update", "1000", "--fusion", "none", "--consistency-weight", "0", "--decoder-layers", "2")
FIRST = ("literal", "ours")


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to build identifiers.

    Attributes:
        says: its description in the table.
        flags: of build_identifiers. `--allow-collapse` lets a collapsed level be measured.
    """

    says: str
    flags: tuple[str, ...]


VARIANTS = {
    "literal": Variant("as in the paper", ("--faithful",)),
    "ours": Variant("default", ()),
    "sklearn-kmeans": Variant("default, k-means as in the paper", ("--kmeans", "sklearn-default", "--no-centring")),
    "codebooks": Variant(
        "default, codebooks learnt by Eq. 1 alone", ("--codebook-init", "random", "--no-recentre", "--no-reseed")
    ),
    "residuals": Variant("default, residuals not scaled", ("--no-residual-scale",)),
    "batch": Variant("default, batches of 256", ("--batch-size", "256")),
}


def run(data: Path, out: Path, flags: Sequence[str]) -> None:
    """Build, train and measure the variants named in VARIANTS, and print the table of all finished runs.

    Raises:
        ValueError: there is no variant of that name, flags are wrong, or a finished run had others.
    """
    chosen = words("VARIANTS") or FIRST
    for name in chosen:
        if name not in VARIANTS:
            raise ValueError(f"VARIANTS: no variant {name!r}; there are {', '.join(VARIANTS)}")
    settings = dataclasses.replace(from_environment(), recipe="cpu")
    planned = {
        (name, seed): Run(
            data,
            out / f"{name}-{seed}",
            ["--seed", str(seed), *MODEL, "--disable-validation", *flags],
            settings_of(VARIANTS[name], seed, settings),
        )
        for seed in range(1, SEEDS + 1)
        for name in chosen
        if not report.is_recorded(out / f"{name}-{seed}.json", command(flags))
    }
    for each in planned.values():
        check_run(*each)
    for (name, seed), each in planned.items():
        print(f"\n==== {name}, seed {seed}")
        train(*each)
        write_json(out / f"{name}-{seed}.json", record(data, each.out, seed, flags))
    found = {name: [read_json(path) for path in sorted(out.glob(f"{name}-?.json"))] for name in VARIANTS}
    write_json(out / "literal.json", found)
    print("\n" + table(found))


def settings_of(variant: Variant, seed: int, settings: Settings) -> Settings:
    """Return the settings of a variant; the user's IDENTIFIER_FLAGS come last and win."""
    collapse = () if "--faithful" in variant.flags else ("--allow-collapse",)
    flags = (*variant.flags, *collapse, "--seed", str(seed), *settings.identifier_flags)
    return dataclasses.replace(settings, identifier_flags=flags)


def record(data: Path, folder: Path, seed: int, flags: Sequence[str]) -> dict[str, Any]:
    """Search for all queries of a trained run, among the items of their split, and return its record."""
    planned = plan_measuring(folder, this_machine(flags))
    for subset in planned.subsets:
        if not (folder / "results" / "split" / f"metrics.{subset}.json").is_file():
            measure(folder, subset, "split", planned)
    bundle = IdentifierBundle.load(folder / "identifiers")
    codec, plan = bundle.codec_settings, read_json(folder / "checkpoints" / "plan.json")
    return {
        "command": command(flags),
        "commit": commit(),
        "machine": machine(),
        "seed": seed,
        "settings": {"identifiers": codec["settings"], "faithful": codec.get("faithful"), "train": plan["train_flags"]},
        "inputs_sha256": codec["inputs_sha256"],
        "minutes": {
            "identifiers": bundle.report["seconds"] / 60,
            "training": report.minutes_of(folder / "checkpoints" / "train.log"),
        },
        "identifiers": {**figures(bundle), "labels_of_scikit_learn": equals_scikit_learn(data, bundle)},
        "metrics": report.collect(folder)["split"],
    }


def command(flags: Sequence[str]) -> str:
    """Return what to type for a run, with the variables of other steps that are set."""
    return report.said("examples/identifiers/literal.sh", flags, {})


def figures(bundle: IdentifierBundle) -> dict[str, Any]:
    """Return what the build reports, with the perplexity of each level by its name, and shares in percent."""
    found = bundle.report
    return {
        "perplexity": {level["name"]: level["perplexity"] for level in found["levels"]},
        "used": {level["name"]: level["used"] for level in found["levels"]},
        "collapsed": [level["name"] for level in found.get("collapsed", ())],
        "distinct_codes": found["unique_codes"],
        "distinct_percent": 100 * found["unique_codes"] / found["items"],
        "sharing_percent": 100 * found["collision_rate"],
        "max_collisions": found["max_collisions"],
        "reconstruction_error": found["reconstruction_error"],
    }


def equals_scikit_learn(data: Path, bundle: IdentifierBundle) -> bool:
    """Return whether the coarse values are the labels of scikit-learn's default `MiniBatchKMeans` on the same seed."""
    settings = bundle.codec_settings["settings"]
    estimator = MiniBatchKMeans(settings["kmeans_clusters"], random_state=settings["training"]["seed"])
    rows = np.asarray(open_embeddings(embeddings_of(data))[:], dtype=np.float32)
    return bool((estimator.fit(rows).labels_ == bundle.values[:, 0]).all())


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of variants with finished runs: the mean and, of several seeds, the standard deviation."""
    names = ("recall_at_1", "recall_at_5", "recall_at_10", "mrr_at_10")
    heads = ["identifiers", "perplexity k", "v1", "v2", "distinct codes, %", "items sharing a code, %", "error"]
    heads += [*(METRIC_LABELS[name] for name in names), "seeds"]
    rows = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for name, runs in found.items():
        if runs:
            each = [one["identifiers"] for one in runs]
            cells = [
                report.mean_and_deviation([one["perplexity"].get(level, 0) for one in each])
                for level in ("k", "v1", "v2")
            ]
            cells += [
                report.mean_and_deviation([one[figure] for one in each])
                for figure in ("distinct_percent", "sharing_percent")
            ]
            cells += [report.mean_and_deviation([one["reconstruction_error"] for one in each], 3)]
            measured = [one["metrics"]["test" if "test" in one["metrics"] else "valid"] for one in runs]
            cells += [report.mean_and_deviation([one[metric] for one in measured]) for metric in names]
            rows.append(f"| {VARIANTS[name].says} | {' | '.join(cells)} | {len(runs)} |")
    return "\n".join(rows)
