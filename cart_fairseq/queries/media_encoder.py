"""Embeds media files of queries with the encoder that made the embeddings of a data-bin's items."""

import importlib
from typing import Any

from cart_fairseq.catalogue.data_bin import DataBin

ENCODERS = "preprocess.encoders.of_data_bin"
"""The module that opens encoders. It is imported by name, because offline steps build on this package."""


def open_media_encoder(data: DataBin, device: str) -> Any:
    """Load the encoder that the data-bin names.

    Returns:
        A function that maps the paths of n files, and the seconds that reading them may take, to embeddings (n, E)
        float32.

    Raises:
        ValueError: the data-bin names none, it cannot be loaded, or its weights are others than then.
    """
    return importlib.import_module(ENCODERS).DataBinEncoder(data.manifest.get("encoder"), data.directory, device)
