"""Turns queries with parts that are not one text into the input of a search; see :mod:`cart_fairseq.search.dense.mixed_queries`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cart_fairseq.base.reading import printable
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dictionary import EOS, PAD
from cart_fairseq.queries.codec import QueryCodec
from cart_fairseq.queries.query import EMBEDDING, ITEM, MEDIA, TEXT, Part
from cart_fairseq.search.batching import BATCH_SIZE, net_input
from cart_fairseq.search.dense.item_vectors import mean_weight
from cart_fairseq.search.dense.mixed_queries import MixedQueries

MediaEncoder = Callable[[Sequence[str]], NDArray[np.float32]]
"""Maps the paths of n files to embeddings (n, E)."""
LEAST_LENGTH = 5e-4
"""Length of a sum of embeddings, relative to the sum of their lengths, below which it is rounding of float16 alone."""


class MixedInput(NamedTuple):
    """A query, ready for a search.

    Attributes:
        position: of the query among all.
        words: (T,) int64, the symbols that the decoder reads; None for none.
        word_weight: the weight of the words if they are one text of the query; 0 if they are several.
        texts: the symbols of each other text, with its weight.
        embeddings: the embedding (E,) float32 of each other part, of length 1, with its weight.
        read: (E,) float32, what the decoder reads of them; zeros for nothing.
        left_out: rows of items that the answer leaves out.
    """

    position: int
    words: Tensor | None
    word_weight: float
    texts: list[tuple[Tensor, float]]
    embeddings: list[tuple[NDArray[np.float32], float]]
    read: NDArray[np.float32]
    left_out: frozenset[int]

    def is_decoded(self, reading: bool) -> bool:
        """Whether the decoder has anything to read: words or, for models that read embeddings, one of these."""
        return self.words is not None or (reading and bool(self.read.any()))


def is_plain(parts: Sequence[Part]) -> bool:
    """Whether a query is one text."""
    return len(parts) == 1 and parts[0].kind == TEXT


def refuse_mixed(models: Sequence[Any], data: DataBin, dense_weight: float | None) -> str | None:
    """Say why models cannot answer queries that are not one text; None if they can."""
    if any(model.dense is None for model in models):
        return "the model has no dense head, so it answers single texts alone; train with --dense-dim"
    if mean_weight(models, dense_weight) == 0:  # tune may have set it
        return (
            "the weight of the dense score is 0, so single texts alone are answered; search with another dense_weight"
        )
    items = data.dense_items
    if items is None or not items.original_dim:
        return (
            f"{data.directory} has no embeddings of the items from before they were joined with captions, so single texts "
            "alone are answered; join and binarise again with this version"
        )
    return None


def mixed_inputs(
    queries: Sequence[tuple[int, list[Part]]], data: DataBin, codec: QueryCodec | None, encode_media: MediaEncoder
) -> list[MixedInput]:
    """Look up items, and encode texts and media.

    Args:
        queries: position and parts of each query.
        data: the data-bin.
        codec: encodes texts; None if no query has any.
        encode_media: encodes files.

    Raises:
        ValueError: an item is unknown, an embedding has another width than the items', a file cannot be read, nothing is
            left of a text once it is normalised, or a query's embeddings cancel each other and are all that it has; the
            message names the query's position.
    """
    items = data.dense_items
    assert items is not None
    numbered = [(position, part) for position, parts in queries for part in parts]
    vectors = _item_vectors([each for each in numbered if each[1].kind == ITEM], data)
    vectors |= _media_vectors([each for each in numbered if each[1].kind == MEDIA], encode_media)
    found = []
    for position, given in queries:
        greatest = max(abs(part.weight) for part in given)  # first, so that no sum leaves the range of floats
        parts = [part._replace(weight=part.weight / greatest) for part in given]
        total = sum(abs(part.weight) for part in parts)
        embeddings, read = [], np.zeros(items.original_dim, dtype=np.float32)
        for part in parts:
            if part.kind != TEXT:
                raw = part.value if part.kind == EMBEDDING else vectors[part.kind, part.value].vector
                vector = _unit(raw, items.original_dim, position, part.kind)
                embeddings.append((vector, part.weight / total))
                read += max(part.weight, 0) * vector
        said = [part for part in parts if part.kind == TEXT and part.weight > 0]
        words = _symbols(codec, ", ".join(part.value for part in said), position) if said else None
        word_weight = said[0].weight / total if len(said) == 1 else 0.0
        others = [part for part in parts if part.kind == TEXT and part.weight < 0] + ([] if word_weight else said)
        texts = [(_symbols(codec, part.value, position), part.weight / total) for part in others]
        if words is None and not texts:
            _refuse_cancelled(embeddings, position)
        length = float(np.linalg.norm(read))
        left_out = frozenset(vectors[ITEM, part.value].row for part in parts if part.kind == ITEM)
        read /= length or 1
        found.append(MixedInput(position, words, word_weight, texts, embeddings, read, left_out))
    return found


def mixed_batches(
    inputs: Sequence[MixedInput], device: torch.device, size: int = BATCH_SIZE
) -> Iterator[tuple[Sequence[MixedInput], dict[str, Tensor], MixedQueries]]:
    """Batch queries.

    Yields:
        The queries of a batch; what the encoder reads for the decoder; the queries as the search takes them.
    """
    for begin in range(0, len(inputs), size):
        batch = inputs[begin : begin + size]
        nothing = torch.tensor([EOS])
        source = net_input([nothing if each.words is None else each.words for each in batch], PAD)
        texts = [(number, *text) for number, each in enumerate(batch) for text in each.texts]
        parts = [(number, *part) for number, each in enumerate(batch) for part in each.embeddings]
        encoded = net_input([symbols for _, symbols, _ in texts], PAD) if texts else None
        mixed = MixedQueries(
            None if encoded is None else {name: value.to(device) for name, value in encoded.items()},
            torch.tensor([number for number, _, _ in texts], dtype=torch.int64, device=device),
            torch.tensor([weight for _, _, weight in texts], device=device),
            torch.from_numpy(
                np.array([vector for _, vector, _ in parts], dtype=np.float32).reshape(-1, len(batch[0].read))
            ).to(device),
            torch.tensor([number for number, _, _ in parts], dtype=torch.int64, device=device),
            torch.tensor([weight for _, _, weight in parts], device=device),
            torch.from_numpy(np.stack([each.read for each in batch])).to(device),
            torch.tensor([each.words is not None for each in batch], device=device),
            torch.tensor([each.word_weight for each in batch], device=device),
        )
        yield batch, {name: value.to(device) for name, value in source.items()}, mixed


def _symbols(codec: QueryCodec | None, text: str, position: int) -> Tensor:
    assert codec is not None
    return codec.query(text, position)


def _refuse_cancelled(embeddings: Sequence[tuple[NDArray[np.float32], float]], position: int) -> None:
    """Refuse embeddings of length 1, with weights whose magnitudes sum to 1, if their sum has no direction.

    Raises:
        ValueError: the sum is zero but for rounding.
    """
    total = sum(vector.astype(np.float64) * weight for vector, weight in embeddings)
    if np.linalg.norm(total) < LEAST_LENGTH:
        raise ValueError(
            f"query {position} has parts that cancel each other, so it asks for nothing; give other weights"
        )


class _Looked(NamedTuple):
    """What was looked up: an embedding (E,) float32, and the row of its item, -1 for a file."""

    vector: NDArray[np.float32]
    row: int


def _item_vectors(wanted: Sequence[tuple[int, Part]], data: DataBin) -> dict[tuple[str, str], _Looked]:
    """Look up items, given the position of the query that names each.

    Raises:
        ValueError: an item is not in the catalogue.
    """
    if not wanted:
        return {}
    rows = []
    for position, part in wanted:
        row = data.bundle.find(part.value)
        if row is None:
            try:
                data.bundle.rows_of([part.value])  # says whether it was removed
            except ValueError as error:
                raise ValueError(f"query {position}: {error}") from None
        rows.append(row)
    assert data.dense_items is not None
    vectors = data.dense_items.originals(np.array(rows, dtype=np.int64)).numpy()
    return {(ITEM, part.value): _Looked(*each) for (_, part), *each in zip(wanted, vectors, rows, strict=True)}


def _media_vectors(wanted: Sequence[tuple[int, Part]], encode_media: MediaEncoder) -> dict[tuple[str, str], _Looked]:
    """Embed files together, given the position of the query that names each.

    Raises:
        ValueError: a file cannot be embedded.
    """
    paths = [part.value for _, part in wanted]
    if not paths:
        return {}
    try:
        vectors = encode_media(paths)
    except ValueError:
        for position, part in wanted:  # which one it is
            try:
                encode_media([part.value])
            except ValueError as error:
                raise ValueError(f"query {position}: {printable(str(error))}") from None
        raise
    return {(MEDIA, path): _Looked(vector, -1) for path, vector in zip(paths, vectors, strict=True)}


def _unit(vector: NDArray[np.float32], width: int, position: int, kind: str) -> NDArray[np.float32]:
    """An embedding (E,) at length 1.

    Raises:
        ValueError: it has another width than the catalogue's.
    """
    if len(vector) != width:
        source = "the embedding" if kind == EMBEDDING else f"the embedding of its {kind}"
        raise ValueError(
            f"query {position}: {source} has width {len(vector)}, the catalogue's have {width}; embed with the "
            "encoder of the catalogue, before any join"
        )
    scaled = vector / np.abs(vector).max()  # squares of large or small values leave the range of float32
    return scaled / np.linalg.norm(scaled)
