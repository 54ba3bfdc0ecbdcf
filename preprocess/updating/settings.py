"""Settings of `update_identifiers add`. Imports the standard library only."""

from dataclasses import dataclass
from pathlib import Path

from cart_fairseq.base.checks import Settings
from preprocess.data.fields import EMBEDDING_COLUMN


@dataclass(frozen=True)
class AddSettings(Settings):
    """Settings of `add`. Every field is also a flag of `update_identifiers add`.

    Attributes:
        embedding_column: column of Parquet and Arrow tables that has the embeddings.
        reference: embeddings of old items to compare the new ones with. None: the figures that the build recorded.

    Raises:
        ValueError: a value has another type; the message names its flag.
    """

    embedding_column: str = EMBEDDING_COLUMN
    reference: str | Path | None = None
