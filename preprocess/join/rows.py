"""The rows of a join, computed and written a block at a time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.preprocessing import normalize

from cart_fairseq.base.arrays import new_array
from cart_fairseq.base.progress import Progress
from preprocess.data.embeddings import Embeddings, blocks
from preprocess.data.joined_folder import ALIGNED, ITEMS, ORIGINALS
from preprocess.data.roles import Caption
from preprocess.data.row_store import RowStore
from preprocess.join.fitting import Features, Parts
from preprocess.join.text_space import ItemTexts, centred


def embed(features: Features, captions: Sequence[Caption], work: Path) -> np.ndarray:
    """(U, T) float32 features of captions, memory-mapped in the working folder; batches that are there stay."""
    batches = -(-len(captions) // features.batch_rows)
    stamps = np.ones(batches, dtype=np.uint64)
    store = RowStore(work, len(captions), features.dimension, stamps, features.batch_rows)
    pending = store.pending()
    ahead = sum(len(store.rows_of(number)) for number in pending)
    with Progress(len(captions), "text features", "captions", done=len(captions) - ahead) as progress:
        progress.foresee(lambda: features([captions[len(captions) // 2].text]))
        for number in pending:
            places = store.rows_of(number)
            store.keep(number, places, features([captions[i].text for i in places]), {})
            progress.update(len(places))
    return store.values


def write_items(folder: Path, embeddings: Embeddings, texts: ItemTexts, parts: Parts, block_rows: int) -> None:
    """Write the items' rows, float16, and their embeddings from before the join, of length 1.

    A joined row (N, 2T), or (N, 2T + D), is the mapped embedding, the text features or else the mapped embedding again,
    and the kept embedding if the join has it. Aligned rows are (N, T + A).
    """

    def rows(name: str, columns: int) -> np.memmap:
        shape = (len(embeddings), columns)
        return new_array(folder / name, np.float16, shape)

    width, alignment = len(parts.centre), parts.alignment
    joined, originals = rows(ITEMS, sum(parts.widths)), rows(ORIGINALS, embeddings.shape[1])
    aligned = rows(ALIGNED, alignment.width) if alignment else None
    with Progress(len(embeddings), "joining", "items") as progress:
        for block in blocks(len(embeddings), embeddings.shape[1], block_rows):
            mapped = parts.text_map(embeddings[block])
            originals[block] = normalize(embeddings[block].astype(np.float32))
            said = centred(texts.means(np.arange(block.start, block.stop)), parts.centre)
            joined[block, :width] = mapped
            joined[block, width : 2 * width] = np.where(said.any(axis=1, keepdims=True), said, mapped)
            if parts.kept is not None:
                joined[block, 2 * width :] = parts.kept(embeddings[block])
            if alignment is not None and aligned is not None:
                aligned[block] = alignment(joined[block].astype(np.float32))
            progress.update(len(mapped))
    joined.flush()
    originals.flush()
    if aligned is not None:
        aligned.flush()


def write_captions(path: Path, values: np.ndarray, captions: Sequence[Caption], lines: int, centre: np.ndarray) -> None:
    """Write (C, T) float16: row i belongs to line i of the file, zeros where the caption is not among `captions`."""
    out = new_array(path, np.float16, (lines, len(centre)))
    for block in blocks(len(values), len(centre)):
        out[[caption.number - 1 for caption in captions[block]]] = centred(values[block], centre)
    out.flush()
