"""Retrieval metrics, result tables and TREC files."""
