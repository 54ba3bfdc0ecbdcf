"""Offline steps from media and embeddings to training data, each a command: `python -m preprocess.NAME --help`."""
