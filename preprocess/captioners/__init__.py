"""Captioners, one module for each family, and the step that generates captions with them."""
