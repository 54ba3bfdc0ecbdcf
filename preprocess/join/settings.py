"""Settings of `join_captions`, with the default of every flag of its command. Imports the standard library only."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from cart_fairseq.base.checks import Settings
from preprocess.data.arguments import check_choice, check_numbers, flag
from preprocess.data.fields import EMBEDDING_COLUMN
from preprocess.encoders.settings import FAMILIES
from preprocess.identifiers.settings import BLOCK_ROWS, FIT_ROWS

LSA = "lsa"
"""Latent semantic analysis, the text features that need nothing pretrained."""
INDEX_CAPTIONS = ("include", "exclude")


@dataclass(frozen=True)
class JoinSettings(Settings):
    """Settings of `join_captions`. Every field is also a flag of the command.

    Attributes:
        text_features: `lsa`, fitted on the captions, or a sentence encoder: name or folder of a model of
            sentence-transformers or transformers, or FAMILY:NAME_OR_PATH as of `extract_embeddings`.
        text_dim: T, width of lsa's features. None: 512, or fewer if there are few captions.
        rare_words: lsa knows the words of one caption alone, too. Otherwise it knows those of two captions or more.
        ridge: strength of the regression's penalty.
        pca: number of principal components that the regression reads. None: 256, or fewer if there are few items.
        keep_embedding: add the embedding itself to each row, every dimension standardised.
        align: A, width of the hidden part of aligned rows; a linear part comes beside it. 0: no aligned rows.
        train_sample: everything is fitted on at most this many items and captions, drawn from all.
        valid_size: number of captions that `binarize` holds out if there is no valid query. Give both the same value.
        seed: seed of everything that is drawn, also of the captions held out. Give `binarize` the same value.
        index_captions: use the index captions of valid and test items (`include`) or not (`exclude`), as `binarize`
            does. None: as the earlier join of `like` did; without one `include`.
        block_rows: items in memory at a time.
        device: of a sentence encoder: `auto` (a GPU if there is one), `cpu`, `cuda`, or another name that torch knows.
        embedding_column: column of Parquet and Arrow tables that has the embeddings.

    Raises:
        ValueError: a value is out of range, or contradicts another; the message names its flag.
    """

    text_features: str = LSA
    text_dim: int | None = None
    rare_words: bool = False
    ridge: float = 10.0
    pca: int | None = None
    keep_embedding: bool = False
    align: int = 0
    train_sample: int = FIT_ROWS
    valid_size: int | None = None
    seed: int = 1
    index_captions: str | None = None
    block_rows: int = BLOCK_ROWS
    device: str = "auto"
    embedding_column: str = EMBEDDING_COLUMN

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "text_dim", "pca", "train_sample", "block_rows")
        check_numbers(self, "align", "valid_size", "seed", at_least=0)
        if self.seed >= 2**31:
            raise ValueError(f"--seed is {self.seed}; it must be between 0 and 2147483647")
        if not 0 < self.ridge < math.inf:
            raise ValueError(f"--ridge is {self.ridge}; it must be a number above 0")
        if self.index_captions is not None:
            check_choice(self, "index_captions", INDEX_CAPTIONS)
        if self.text_dim and self.text_features != LSA:
            raise ValueError(f"--text-dim is {self.text_dim}; it is for lsa, a sentence encoder has its own width")

    @property
    def encoder(self) -> str | None:
        """The sentence encoder as FAMILY:NAME_OR_PATH; None for lsa.

        >>> JoinSettings(text_features="clip:/models/clip").encoder
        'clip:/models/clip'
        >>> JoinSettings(text_features="all-MiniLM-L6-v2").encoder
        'sentence-transformers:all-MiniLM-L6-v2'
        """
        if self.text_features == LSA:
            return None
        family = self.text_features.partition(":")[0]
        return self.text_features if family in FAMILIES else f"sentence-transformers:{self.text_features}"

    def refuse_fitted(self) -> None:
        """Refuse settings that an earlier join has fitted.

        Raises:
            ValueError: one of them is given here.
        """
        default = JoinSettings()
        given = [name for name in FITTED if getattr(self, name) != getattr(default, name)]
        if given:
            raise ValueError(f"{flag(given[0])}: is decided by the join of --like, leave it out")

    def following(self, earlier: dict[str, Any]) -> "JoinSettings":
        """These settings with everything that an earlier join fitted, as its record has it.

        Args:
            earlier: the `settings` of its record.

        Raises:
            KeyError, ValueError: one is missing there, or has a value that no join has.
        """
        index_captions = self.index_captions or earlier["index_captions"]
        fitted = {name: earlier[name] for name in FITTED if name not in ADDED}
        return replace(
            self, **fitted, **{name: earlier.get(name, ADDED[name]) for name in ADDED}, index_captions=index_captions
        )


FITTED = tuple(
    field.name
    for field in fields(JoinSettings)
    if field.name not in ("index_captions", "block_rows", "device", "embedding_column")
)
"""The settings that belong to the fitted parts, which `--like` takes from an earlier join."""
ADDED = {"rare_words": False}
"""Those of `FITTED` that records of earlier versions lack, with what these versions did; it is not recorded now either."""
