"""Checks of files of this project: `python -m preprocess.verify`."""
