"""Offline steps from media and embeddings to training data, each a command: `python -m preprocess.NAME --help`."""

import cart_fairseq  # noqa: F401 - before fairseq itself, whose import it keeps from printing
