"""Embeddings joined with features of captions."""
