"""Train CART and the generative rivals of the paper's Table 3, which differ in their identifiers only."""

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from settings import from_environment, words
from steps import Run, check_run, train_and_evaluate

from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from preprocess.identifiers.settings import SCHEME_HELP

SCHEMES = "coarse-fine atomic structured hierarchical-kmeans rqvae semantic"
VARIABLES = ("RECIPE", "IDENTIFIER_FLAGS", "BINARIZE_FLAGS")


def run(data: Path, out: Path, flags: Sequence[str]) -> None:
    """Train and measure all schemes, or those in SCHEMES, each in a folder of its name; ``rivals.json`` has all records.

    Raises:
        ValueError: SCHEMES contains an unknown scheme, or flags are wrong.
    """
    settings, schemes = from_environment(), words("SCHEMES", SCHEMES)
    for scheme in schemes:
        if scheme not in SCHEME_HELP:
            raise ValueError(f"SCHEMES names {scheme!r}; use some of {', '.join(SCHEME_HELP)}")
    runs = {}
    for scheme in schemes:
        more = ["--scheme", scheme]
        more += [] if scheme == "coarse-fine" else ["--allow-collapse"]  # measured even if collapsed
        chosen = dataclasses.replace(settings, identifier_flags=(*settings.identifier_flags, *more))
        runs[scheme] = Run(data, out / scheme, flags, chosen)
    for each in runs.values():
        check_run(*each)
    for scheme, each in runs.items():
        print(f"\n==== {scheme}")
        train_and_evaluate(*each)
        write_json(out / "rivals.json", record(out, flags))


def record(out: Path, flags: Sequence[str]) -> dict[str, Any]:
    """The command of the runs, and ``run.json`` of each that is finished."""
    variables = [f"{name}={shlex.quote(os.environ[name])}" for name in VARIABLES if os.environ.get(name)]
    command = " ".join([*variables, shlex.join(["bash", "examples/baselines/rivals.sh", "DATA", "OUT", *flags])])
    paths = {scheme: out / scheme / "run.json" for scheme in SCHEME_HELP}
    return {"command": command, "runs": {scheme: read_json(path) for scheme, path in paths.items() if path.is_file()}}
