"""Media files: what they are, where they may lie, and reading them for encoders and captioners."""
