"""How much of a stranger's files is read and kept, so that none of them fills memory or the lists."""

SIDECAR_BYTES = 1 << 20
"""Size of a `.txt` or `.json` beside a medium. A larger one is skipped."""
TABLE_BYTES = 1 << 28
"""Size of a metadata table, unpacked. A larger one is skipped."""
CAPTION_LETTERS = 4000
"""Letters of a caption. Longer ones are cut."""
CAPTIONS = 100
"""Captions of an item. Further ones are left out."""
FIELDS = 64
"""Fields of an item besides the project's own: as many as the service takes for facets. Further ones are left out."""
NAME_LETTERS = 64
"""Letters of a field's name. A field with a longer one is left out."""
VALUE_LETTERS = 200
"""Letters of a field's text, or of each in a list. A field with a longer one is left out."""
LISTED = 64
"""Texts in a field that is a list. A field with more is left out."""
LARGEST = 1 << 63
"""Absolute value of a whole number. A field with a larger one is left out."""
