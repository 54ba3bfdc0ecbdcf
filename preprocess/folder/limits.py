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
URL_LETTERS = 2000
"""Letters of the field `url`."""
LISTED = 64
"""Texts in a field that is a list. A field with more is left out."""
LARGEST = 1 << 63
"""Absolute value of a whole number. A field with a larger one is left out."""
GROWTH = 20
"""Bytes that a packed file may unpack to, for each of its own. Media hardly shrink, so more is no data set."""
SMALLEST = 1 << 24
"""Bytes that every packed file may unpack to."""
READ_BYTES = 1 << 20
"""Bytes of a packed file that are read at a time. A name or header of a tar file that is longer is refused."""
PATH_PARTS, PART_BYTES = 6, 80
"""Most folders in the name of an unpacked file, and most bytes in each part of the name."""
PACKED_LETTERS = 4 * CAPTION_LETTERS
"""Letters of a text in a table that are unpacked with a medium."""
