"""The nearest code with room, for items whose own code is full.

Such an item takes another value on the last level, the nearest that has room. If none has, it takes another value on the
level before, and below that again the nearest, and so on.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.progress import Progress
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.identifiers.schemes.scheme import Codec

Prefix = tuple[int, ...]


def nearest_codes(
    codec: Codec, embeddings: Embeddings, codes: NDArray[np.int32], room: Callable[[Prefix, int], NDArray[np.int64]]
) -> NDArray[np.int32]:
    """Give items other codes than theirs, one after the other.

    Args:
        embeddings: (n, D).
        codes: (n, C) int32, the items' own, which are full.
        room: a function of the first C - 1 values of codes and the number of values that may follow. It returns how many
            more items each of these codes can take: (values,) int64. It is called once for each prefix.

    Returns:
        (n, C) int32.

    Raises:
        ValueError: no code has room for an item.
    """
    length, found = codes.shape[1], np.empty_like(codes)
    if not length:
        raise no_room()
    search = NearestCode(codec, length, room)
    with Progress(len(codes), "finding codes with room", "items") as progress:
        for block in blocks(*embeddings.shape):
            points = np.asarray(embeddings[block], dtype=np.float32)
            distances = codec.distances(points, codes[block, :-1])
            for row, code in enumerate(codes[block].tolist()):
                found[block.start + row] = search.take(points[row : row + 1], code, distances[row])
                progress.update()
    return found


def no_room() -> ValueError:
    """The error when all codes are full."""
    return ValueError(
        "the symbols reserved for the unique token are used up, and no code has room for another item; build the "
        "identifiers again with a larger --unique-size"
    )


class NearestCode:
    """Hands out places on codes.

    Args:
        codec: whose codes they are.
        length: C, how many values they have.
        room: as for `nearest_codes`.
    """

    def __init__(self, codec: Codec, length: int, room: Callable[[Prefix, int], NDArray[np.int64]]):
        self.codec = codec
        self.length = length
        self.ask = room
        self.room: dict[Prefix, NDArray[np.int64]] = {}
        self.full: set[Prefix] = set()

    def take(self, embedding: NDArray[np.float32], code: list[int], distances: NDArray[np.float32]) -> Prefix:
        """A place for an item (1, D) that shares the longest possible prefix with `code`.

        Args:
            distances: (values,) to the codewords of the last level, given the values of `code` before.

        Raises:
            ValueError: there is none.
        """
        found = self._last(tuple(code[:-1]), distances)
        for level in reversed(range(self.length - 1)):
            found = found or self._below(embedding, tuple(code[:level]))
        if found is None:
            raise no_room()
        return found

    def _last(self, prefix: Prefix, distances: NDArray[np.float32]) -> Prefix | None:
        if prefix not in self.room:
            self.room[prefix] = self.ask(prefix, len(distances))
        free = np.flatnonzero((self.room[prefix] > 0) & np.isfinite(distances))
        if not len(free):
            self.full.add(prefix)
            return None
        value = int(free[distances[free].argmin()])
        self.room[prefix][value] -= 1
        return (*prefix, value)

    def _below(self, embedding: NDArray[np.float32], prefix: Prefix) -> Prefix | None:
        if prefix in self.full:
            return None
        distances = self.codec.distances(embedding, np.array([prefix], dtype=np.int32).reshape(1, -1))[0]
        if len(prefix) == self.length - 1:
            return self._last(prefix, distances)
        for value in np.argsort(distances, kind="stable").tolist():
            found = self._below(embedding, (*prefix, value)) if np.isfinite(distances[value]) else None
            if found is not None:
                return found
        self.full.add(prefix)
        return None
