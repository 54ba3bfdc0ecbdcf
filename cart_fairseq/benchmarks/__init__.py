"""Benchmarks of the field: adapters that run a MODEL folder on them."""
