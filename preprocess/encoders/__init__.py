"""Frozen encoders, which compute embeddings of media and texts, and the step that applies them."""
