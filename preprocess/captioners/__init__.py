"""Captioners, one file a family, and the step that writes captions of items with them."""
