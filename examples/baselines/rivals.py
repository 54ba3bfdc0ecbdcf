"""The generative rivals of the paper's Table 3, and CART: the same training with other identifiers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from settings import from_environment, words
from steps import train_and_evaluate

SCHEMES = "coarse-fine atomic structured hierarchical-kmeans rqvae"


def run(data: Path, out: Path, flags: Sequence[str]) -> None:
    """Train and measure each scheme, or those that SCHEMES names, in a folder of its name."""
    settings = from_environment()
    for scheme in words("SCHEMES", SCHEMES):
        print(f"\n==== {scheme}")
        more = ["--scheme", scheme]
        more += [] if scheme == "coarse-fine" else ["--allow-collapse"]  # a rival's identifiers are what they are
        chosen = dataclasses.replace(settings, identifier_flags=(*settings.identifier_flags, *more))
        train_and_evaluate(data, out / scheme, flags, chosen)
