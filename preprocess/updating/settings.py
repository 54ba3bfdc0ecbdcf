"""Settings of `update_identifiers add`. Imports the standard library only."""

from dataclasses import dataclass
from pathlib import Path

from preprocess.data.fields import EMBEDDING_COLUMN


@dataclass(frozen=True)
class AddSettings:
    """Settings of `preprocess.updating.steps.add`. Every field is also a flag of the command.

    Attributes:
        embedding_column: column of Parquet and Arrow tables that has the embeddings.
        reference: embeddings of old items, which the new ones are compared with. None: with the figures of the build.
    """

    embedding_column: str = EMBEDDING_COLUMN
    reference: str | Path | None = None
