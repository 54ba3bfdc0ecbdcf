"""Query: what a search asks with. Texts, items of the catalogue, embeddings and media files, or a weighted sum of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fsencode, fspath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cart_fairseq.base.checks import is_encodable, is_number, is_series, plain, short

TEXT, ITEM, EMBEDDING, MEDIA = "text", "item_id", "embedding", "media"
LONGEST_PATH = 4096
"""Characters of a path, more than systems open."""


class Part(NamedTuple):
    """One part of a query.

    Attributes:
        kind: ``text``, ``item_id``, ``embedding`` or ``media``.
        value: the text, the item's id, the embedding (D,) float32 with a greatest magnitude of 1, or the
            file's path.
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
        embedding: a vector (D,) of the encoder that made the catalogue's embeddings, or several: (n, D). Lists, arrays
            and tensors.
        media: the path of a picture, sound or video, or several.
        weights: for each kind, the weight of its part, or a list with one for each; 1 for kinds that are not named.
            Negative weights turn the search away from a part. Only the ratios of all weights matter.

    >>> Query(item_id="beach-17", text=["at night", "people"], weights={"text": [1, -0.5]}).parts()
    [Part(kind='text', value='at night', weight=1.0), Part(kind='text', value='people', weight=-0.5), \
Part(kind='item_id', value='beach-17', weight=1.0)]
    """

    text: str | Sequence[str] | None = None
    item_id: str | Sequence[str] | None = None
    embedding: Any = None
    media: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None
    weights: Mapping[str, float | Sequence[float]] | None = None

    def parts(self) -> list[Part]:
        """Return the parts, checked.

        Raises:
            ValueError: a part is empty, of the wrong type or not finite; there is none; or the weights do not fit.
        """
        values: dict[str, list[Any]] = {
            TEXT: [_text(each) for each in _several(TEXT, self.text, str)],
            ITEM: [_item_id(each) for each in _several(ITEM, self.item_id, str)],
            EMBEDDING: _embeddings(self.embedding),
            MEDIA: [_path(each) for each in _several(MEDIA, self.media, (str, PathLike))],
        }
        weights = _weights(self.weights, {kind: len(of_kind) for kind, of_kind in values.items()})
        pairs = {kind: zip(values[kind], weights[kind], strict=True) for kind in values}
        found = [Part(kind, value, weight) for kind in values for value, weight in pairs[kind]]
        if not found:
            raise ValueError("asks for nothing; give it a text, item_id, embedding or media")
        if max(part.weight for part in found) <= 0:
            raise ValueError("has no weight above 0; give one part a positive weight")
        return found


def parts_of(queries: Any) -> list[list[Part]]:
    """Return the parts of each query, checked.

    Args:
        queries: a series of strings and :class:`Query`; not one of them alone.

    Raises:
        ValueError: it is no series, or a query is wrong; the message names its position.
    """
    if isinstance(queries, str | Query) or not is_series(queries):
        raise ValueError(f"queries is {short(queries)}; give a list of queries")
    found = []
    for position, query in enumerate(map(plain, queries)):
        try:
            found.append(query.parts() if isinstance(query, Query) else [Part(TEXT, _text(query), 1.0)])
        except ValueError as error:
            raise ValueError(f"query {position} {error}") from None
    return found


def _several(name: str, value: Any, single: Any) -> list[Any]:
    """Return the values of a kind as a list."""
    value = plain(value)
    if value is None:
        return []
    if isinstance(value, single):
        return [value]
    if isinstance(value, bytes | Mapping) or not is_series(value):
        raise ValueError(f"has {name} {short(value)}; give one value or a list")
    return [plain(each) for each in value]


def _weights(given: Any, counts: dict[str, int]) -> dict[str, list[float]]:
    """Return the weights of each kind, given how many values the kinds have."""
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise ValueError(f"has weights {short(given)}; give a mapping such as {{'text': [1, -0.5], 'item_id': 1}}")
    for kind in given:
        if kind not in counts:
            raise ValueError(f"has a weight for {short(kind)}; the kinds are {', '.join(counts)}")
    found = {}
    for kind, count in counts.items():
        weights = _several("weights", given.get(kind, [1.0] * count), (int, float, np.number))
        if len(weights) != count:
            raise ValueError(f"has {count} values of {kind} and {len(weights)} weights for them; give one for each")
        for weight in weights:
            if not is_number(weight):
                raise ValueError(f"has the weight {short(weight)} for {kind}; give finite numbers")
        found[kind] = [float(weight) for weight in weights]
    return found


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise ValueError(f"is {short(text)}; give a text")
    if not text.strip():
        raise ValueError("is empty; give it some text")
    if not is_encodable(text):
        raise ValueError(f"holds half a surrogate pair ({short(text)}); give valid Unicode")
    return text


def _item_id(item_id: Any) -> str:
    if not isinstance(item_id, str):
        raise ValueError(f"has item_id {short(item_id)}; give the id of an item, which is a string")
    if not is_encodable(item_id):
        raise ValueError(f"has item_id {short(item_id)}, which holds half a surrogate pair; give valid Unicode")
    return item_id


def _path(path: Any) -> str:
    if not isinstance(path, str | PathLike) or not isinstance(fspath(path), str) or not fspath(path):
        raise ValueError(f"has media {short(path)}; give the path of a file")
    found = str(fspath(path))
    if "\0" in found or len(found) > LONGEST_PATH or not _is_file_name(found):
        raise ValueError(f"has media {short(found)}, which can be no path; give the path of a file")
    return found


def _is_file_name(path: str) -> bool:
    """Whether a path can be passed to the system. A half surrogate pair may stand for a byte that is not UTF-8."""
    try:
        fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def _readable(value: Any) -> Any:
    """A value as numpy reads it, if it is a tensor of torch, which may have a gradient, be in bfloat16 or on a GPU."""
    if not hasattr(value, "detach"):
        return value
    found = value.detach().cpu()
    return found.double() if found.is_floating_point() else found


def _embeddings(value: Any) -> list[NDArray[np.float32]]:
    """Return each vector (D,) of one vector, or of several, which may be a list of lists or an array (n, D).

    Their greatest magnitude is 1: float64 has values whose direction float32 cannot hold.
    """
    if value is None:
        return []
    several = isinstance(value, list | tuple)
    if any(np.ma.is_masked(each) for each in (value if several else [value])):
        raise ValueError("has an embedding with masked values; give finite numbers")
    try:
        rows = np.asarray([_readable(each) for each in value] if several else _readable(value))
        if rows.dtype.kind not in "fiu":
            raise ValueError
    except (ValueError, TypeError, OverflowError, RuntimeError):
        raise ValueError("has an embedding that is no vector of numbers; give (D,), or (n, D) for several") from None
    shape, rows = rows.shape, np.atleast_2d(rows.astype(np.promote_types(rows.dtype, np.float64)))
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"has an embedding of shape {shape}; give (D,), or (n, D) for several")
    if not np.isfinite(rows).all():
        raise ValueError("has an embedding with NaN or infinite values; give finite numbers")
    if not rows.any(axis=1).all():
        raise ValueError("has an embedding of zeros only; give one with a direction")
    return [*(rows / np.abs(rows).max(axis=1, keepdims=True)).astype(np.float32)]
