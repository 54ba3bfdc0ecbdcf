"""Train CART and the generative rivals of the paper's Table 3, which differ in their identifiers only."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from settings import from_environment, words
from steps import train_and_evaluate

from preprocess.identifiers.settings import SCHEME_HELP

SCHEMES = "coarse-fine atomic structured hierarchical-kmeans rqvae"


def run(data: Path, out: Path, flags: Sequence[str]) -> None:
    """Train and measure all schemes, or those in SCHEMES, each in a folder of its name.

    Raises:
        ValueError: SCHEMES contains an unknown scheme.
    """
    settings, schemes = from_environment(), words("SCHEMES", SCHEMES)
    for scheme in schemes:
        if scheme not in SCHEME_HELP:
            raise ValueError(f"SCHEMES names {scheme!r}; use some of {', '.join(SCHEME_HELP)}")
    for scheme in schemes:
        print(f"\n==== {scheme}")
        more = ["--scheme", scheme]
        more += [] if scheme == "coarse-fine" else ["--allow-collapse"]  # measured even if collapsed
        chosen = dataclasses.replace(settings, identifier_flags=(*settings.identifier_flags, *more))
        train_and_evaluate(data, out / scheme, flags, chosen)
