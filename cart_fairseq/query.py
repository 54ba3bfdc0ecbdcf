"""Query: what a search asks with. Texts, items of the catalogue, embeddings and media files, or a weighted sum of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.checks import is_encodable

TEXT, ITEM, EMBEDDING, MEDIA = "text", "item_id", "embedding", "media"


class Part(NamedTuple):
    """One part of a query.

    Attributes:
        kind: ``text``, ``item_id``, ``embedding`` or ``media``.
        value: the text, the item's id, the embedding (D,) float32, or the file's path.
        weight: its weight in the sum.
    """

    kind: str
    value: Any
    weight: float


@dataclass(frozen=True, eq=False)
class Query:
    """A query that is not only one text. At least one part has a weight above 0.

    Args:
        text: a text, or several.
        item_id: the id of an item of the catalogue ("more like this"), or several. The answer leaves these items out.
        embedding: a vector (D,) of the encoder that made the catalogue's embeddings, or several: (n, D).
        media: the path of a picture, sound or video, or several.
        weights: the weight of each part, in the order text, item_id, embedding, media; negative weights turn the
            search away from a part. None: all parts count alike. Only the ratios of the weights matter.

    >>> Query(item_id="beach-17", text=["at night", "people"], weights=[1, -1, 2]).parts()
    [Part(kind='text', value='at night', weight=1.0), Part(kind='text', value='people', weight=-1.0), \
Part(kind='item_id', value='beach-17', weight=2.0)]
    """

    text: str | Sequence[str] | None = None
    item_id: str | Sequence[str] | None = None
    embedding: Any = None
    media: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None
    weights: float | Sequence[float] | None = None

    def parts(self) -> list[Part]:
        """Return the parts, checked.

        Raises:
            ValueError: a part is empty, of the wrong type or not finite; there is none; or the weights do not fit.
        """
        values = [(TEXT, _text(each)) for each in _several(TEXT, self.text, str)]
        values += [(ITEM, _item_id(each)) for each in _several(ITEM, self.item_id, str)]
        values += [(EMBEDDING, each) for each in _embeddings(self.embedding)]
        values += [(MEDIA, _path(each)) for each in _several(MEDIA, self.media, (str, PathLike))]
        if not values:
            raise ValueError("asks for nothing; give it a text, item_id, embedding or media")
        return [Part(kind, value, weight) for (kind, value), weight in zip(values, self._weights(len(values)), strict=True)]

    def _weights(self, count: int) -> list[float]:
        if self.weights is None:
            return [1.0] * count
        given = [*self.weights] if isinstance(self.weights, Iterable) else [self.weights]
        if len(given) != count:
            raise ValueError(f"has {count} parts and {len(given)} weights; give one weight for each part")
        for weight in given:
            real = isinstance(weight, int | float | np.integer | np.floating) and not isinstance(weight, bool)
            if not real or not math.isfinite(weight):
                raise ValueError(f"has the weight {weight!r}; give finite numbers")
        if max(given) <= 0:
            raise ValueError(f"has no weight above 0 ({given}); give one part a positive weight")
        return [float(weight) for weight in given]


def parts_of(queries: Any) -> list[list[Part]]:
    """Return the parts of each query, checked.

    Args:
        queries: a series of strings and :class:`Query`; not one of them alone.

    Raises:
        ValueError: it is no series, or a query is wrong; the message names its position.
    """
    if isinstance(queries, str | Query) or not isinstance(queries, Iterable):
        raise ValueError(f"queries is {queries!r}; give a list of queries")
    found = []
    for position, query in enumerate(queries):
        try:
            found.append(query.parts() if isinstance(query, Query) else [Part(TEXT, _text(query), 1.0)])
        except ValueError as error:
            raise ValueError(f"query {position} {error}") from None
    return found


def _several(name: str, value: Any, single: Any) -> list[Any]:
    """Return the values of a kind as a list."""
    if value is None:
        return []
    if isinstance(value, single):
        return [value]
    if not isinstance(value, Iterable):
        raise ValueError(f"has {name} {value!r}; give one value or a list")
    return [*value]


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise ValueError(f"is {text!r}; give a text")
    if not text.strip():
        raise ValueError("is empty; give it some text")
    if not is_encodable(text):
        raise ValueError(f"holds half a surrogate pair ({text!r}); give valid Unicode")
    return text


def _item_id(item_id: Any) -> str:
    if not isinstance(item_id, str):
        raise ValueError(f"has item_id {item_id!r}; give the id of an item, which is a string")
    return item_id


def _path(path: Any) -> str:
    if not isinstance(path, str | PathLike) or not isinstance(fspath(path), str):
        raise ValueError(f"has media {path!r}; give the path of a file")
    return str(fspath(path))


def _embeddings(value: Any) -> list[NDArray[np.float32]]:
    """Return each vector (D,) of one vector, or of several, which may be a list of lists or an array (n, D)."""
    if value is None:
        return []
    try:
        rows = np.asarray(value)
        if rows.dtype.kind not in "fiu":
            raise ValueError
        rows = np.atleast_2d(rows.astype(np.float32))
    except (ValueError, TypeError, OverflowError):
        raise ValueError("has an embedding that is no vector of numbers; give (D,), or (n, D) for several") from None
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"has an embedding of shape {np.shape(value)}; give (D,), or (n, D) for several")
    if not np.isfinite(rows).all():
        raise ValueError("has an embedding with NaN or infinite values; give finite numbers")
    if not rows.any(axis=1).all():
        raise ValueError("has an embedding of zeros only; give one with a direction")
    return [*rows]
