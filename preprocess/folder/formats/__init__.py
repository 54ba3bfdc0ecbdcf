"""Formats in which data sets are published: media packed into files, and embeddings with their metadata."""
