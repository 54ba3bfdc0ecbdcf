"""Loads networks from files: pretrained text encoders and checkpoints."""
