"""The positions of an identifier (CART 3.2)."""

import dataclasses
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Position:
    """One position of every identifier: its name (``k``, ``v1`` … ``u``) and its number of possible values."""

    name: str
    size: int

    def symbol(self, value: int) -> str:
        """Return the dictionary's word for a value, e.g. ``<v1_3>``."""
        return f"<{self.name}_{value}>"


def semantic_positions(positions: Sequence[Position]) -> tuple[Position, ...]:
    """The positions that carry meaning: all before the unique token ``u``, or ``u1`` ….

    In scheme ``atomic`` an identifier has only the unique token; then all positions are returned.
    """
    semantic = tuple(position for position in positions if not re.fullmatch(r"u\d*", position.name))
    return semantic or tuple(positions)
