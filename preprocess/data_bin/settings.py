"""Settings of `binarize`, with the default of every flag of its command. Imports the standard library only."""

from dataclasses import dataclass

from cart_fairseq.base.checks import Settings
from preprocess.data.arguments import check_choice, check_numbers
from preprocess.data.fields import INDEX_CAPTIONS


@dataclass(frozen=True)
class DataBinSettings(Settings):
    """Settings of `binarize`. Every field is also a flag of the command. The manifest records them.

    Attributes:
        vocab_size: largest number of sentencepiece pieces, special symbols included. A text encoder has its own
            vocabulary.
        index_captions: which index captions of valid and test items are trained on: `include` all, `exclude` none,
            `borrowed` those that were borrowed from training items.
        seed: seed of the choice of captions that are held out for validation.
        valid_size: number of captions held out if there is no valid query. None: 5 %, at most 1,000.
        max_query_tokens: longer queries are cut. The end of sentence counts as a token.

    Raises:
        ValueError: a value is out of range; the message names its flag.
    """

    vocab_size: int = 10000
    index_captions: str = "include"
    seed: int = 1
    valid_size: int | None = None
    max_query_tokens: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "index_captions", INDEX_CAPTIONS)
        check_numbers(self, "vocab_size", "max_query_tokens")
        check_numbers(self, "seed", "valid_size", at_least=0)
        if self.max_query_tokens < 2:
            raise ValueError(f"--max-query-tokens is {self.max_query_tokens}; a token and the end of sentence need 2")
