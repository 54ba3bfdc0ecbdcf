"""Turns queries with parts that are not one text into the input of a search; see :mod:`cart_fairseq.search.dense.mixed_queries`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dictionary import EOS, PAD
from cart_fairseq.queries.codec import QueryCodec
from cart_fairseq.queries.query import EMBEDDING, ITEM, MEDIA, TEXT, Part
from cart_fairseq.search.batching import BATCH_SIZE, net_input
from cart_fairseq.search.dense.mixed_queries import MixedQueries

MediaEncoder = Callable[[Sequence[str]], NDArray[np.float32]]
"""Maps the paths of n files to embeddings (n, E)."""


class MixedInput(NamedTuple):
    """A query, ready for a search.

    Attributes:
        position: of the query among all.
        words: (T,) int64, the symbols that the decoder reads; None for none.
        texts: the symbols of each text, with its weight.
        embeddings: the embedding (E,) float32 of each other part, of length 1, with its weight.
        read: (E,) float32, what the decoder reads of them; zeros for nothing.
        left_out: rows of items that the answer leaves out.
    """

    position: int
    words: Tensor | None
    texts: list[tuple[Tensor, float]]
    embeddings: list[tuple[NDArray[np.float32], float]]
    read: NDArray[np.float32]
    left_out: frozenset[int]


def is_plain(parts: Sequence[Part]) -> bool:
    """Whether a query is one text."""
    return len(parts) == 1 and parts[0].kind == TEXT


def refuse_mixed(models: Sequence[Any], data: DataBin, dense_weight: float | None) -> str | None:
    """Say why models cannot answer queries that are not one text; None if they can."""
    if any(model.dense is None for model in models):
        return "the model has no dense head, so it answers single texts alone; train with --dense-dim"
    if dense_weight == 0:
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
    queries: Sequence[tuple[int, list[Part]]], data: DataBin, codec: QueryCodec, encode_media: MediaEncoder
) -> list[MixedInput]:
    """Look up items, encode texts and media, and sum them up.

    Args:
        queries: position and parts of each query.
        data: the data-bin.
        codec: encodes texts.
        encode_media: encodes files.

    Raises:
        ValueError: an item is unknown, an embedding has another width than the items', or a file cannot be read; the
            message names the query's position.
    """
    items = data.dense_items
    assert items is not None
    rows = _rows([(position, part.value) for position, parts in queries for part in parts if part.kind == ITEM], data)
    found = []
    for position, parts in queries:
        total = sum(abs(part.weight) for part in parts)
        embeddings, read = [], np.zeros(items.original_dim, dtype=np.float32)
        for part in parts:
            if part.kind == TEXT:
                continue
            if part.kind == ITEM:
                vector = items.originals(np.array([rows[part.value]]))[0].numpy()
            else:
                vector = _embedding(position, part, items.original_dim, encode_media)
            embeddings.append((vector, part.weight / total))
            read += max(part.weight, 0) * vector
        texts = [
            (codec.symbols(part.value), part.weight / total) for part in parts if part.kind == TEXT and part.weight
        ]
        said = [part.value for part in parts if part.kind == TEXT and part.weight > 0]
        length = float(np.linalg.norm(read))
        left_out = frozenset(rows[part.value] for part in parts if part.kind == ITEM)
        words = codec.symbols(", ".join(said)) if said else None
        found.append(MixedInput(position, words, texts, embeddings, read / (length or 1), left_out))
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
        )
        yield batch, {name: value.to(device) for name, value in source.items()}, mixed


def _rows(wanted: Sequence[tuple[int, str]], data: DataBin) -> dict[str, int]:
    """Rows of items, given the position of the query that names each.

    Raises:
        ValueError: an item is not in the catalogue.
    """
    if not wanted:
        return {}
    try:
        rows = data.bundle.rows_of([item_id for _, item_id in wanted])
    except ValueError:
        for position, item_id in wanted:
            try:
                data.bundle.rows_of([item_id])
            except ValueError as error:
                raise ValueError(f"query {position}: {error}") from None
        raise
    return {data.bundle.item_id(row): row for row in rows.tolist()}


def _embedding(position: int, part: Part, width: int, encode_media: MediaEncoder) -> NDArray[np.float32]:
    """The embedding of a part, of length 1."""
    try:
        vector = encode_media([part.value])[0] if part.kind == MEDIA else part.value
    except ValueError as error:
        raise ValueError(f"query {position}: {error}") from None
    if len(vector) != width:
        source = "its media file" if part.kind == MEDIA else EMBEDDING
        raise ValueError(
            f"query {position}: the embedding of {source} has width {len(vector)}, the catalogue's have {width}; embed with the "
            "encoder of the catalogue, before any join"
        )
    vector = np.asarray(vector, dtype=np.float32)
    return vector / np.abs(vector).max() / np.linalg.norm(vector / np.abs(vector).max())
