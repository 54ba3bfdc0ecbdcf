"""Frozen encoders that turn media and texts into rows of numbers, and the step that embeds with them."""
