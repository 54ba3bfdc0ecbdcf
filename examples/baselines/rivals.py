"""Train CART and the generative rivals of the paper's Table 3, which differ in their identifiers only."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from settings import from_environment, words
from steps import train_and_evaluate

SCHEMES = "coarse-fine atomic structured hierarchical-kmeans rqvae"


def run(data: Path, out: Path, flags: Sequence[str]) -> None:
    """Train and measure all schemes, or those in SCHEMES, each in a folder of its name."""
    settings = from_environment()
    for scheme in words("SCHEMES", SCHEMES):
        print(f"\n==== {scheme}")
        more = ["--scheme", scheme]
        more += [] if scheme == "coarse-fine" else ["--allow-collapse"]  # measured even if collapsed
        chosen = dataclasses.replace(settings, identifier_flags=(*settings.identifier_flags, *more))
        train_and_evaluate(data, out / scheme, flags, chosen)
