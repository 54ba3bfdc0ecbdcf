"""The values that fields of items and captions may have. Light, so that command lines can name them."""

MODALITIES = ("image", "audio", "video")
SPLITS = SUBSETS = ("train", "valid", "test")
"""Of items and captions; the subsets of a data-bin have the same names."""
MEASURED = ("valid", "test")
ROLES = ("train", "index", "query")
INDEX_CAPTIONS = ("include", "exclude", "borrowed")
"""Which index captions of valid and test items may be trained on."""
BORROWED = "neighbours"
"""The source of index captions that `generate_captions --captioner neighbours` took from training items."""
ON_ERROR = ("fail", "skip")
"""What media that cannot be read do: end the run, or be listed and left out."""
EMBEDDING_COLUMN = "embedding"
"""The column of embeddings in Parquet and Arrow tables, unless another is named."""
