"""Item vectors in the data-bin, memory-mapped, so that a search of a large catalogue runs no item tower."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cart_fairseq.base.arrays import new_array
from cart_fairseq.base.files import replacing
from cart_fairseq.base.progress import Progress
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.dense_items import DenseItems
from cart_fairseq.search.dense.item_vectors import BLOCK, item_vectors, kept
from cart_fairseq.search.dense.mixed_items import Items, MixedItems
from cart_fairseq.search.dense.outdated import opened_if_there
from cart_fairseq.search.dense.stored_arrays import check_finite, digest_of, folder_to_write, note_checksums, open_array
from cart_fairseq.search.dense.stored_statistics import EXACT_ITEMS, OF_ITEMS

VECTORS = "vectors"


def vectors_of(models: Sequence[Any], items: Items, stored: Path | None) -> Callable[[Tensor], Tensor]:
    """Return a function that maps item rows (n,) int64 to vectors (n, D) float32, on the device of the rows.

    Stored vectors are float16. Without them, the item towers compute each vector when it is asked for.

    Args:
        models: models with a dense head.
        items: the features of the items.
        stored: the folder with stored vectors; None for none.

    Raises:
        CatalogueError: stored vectors are damaged; of values that are no numbers the function says so.
    """

    if isinstance(items, MixedItems):
        mixed, plain = items, vectors_of(models, items.items, stored)
        return lambda rows: torch.cat([plain(rows), mixed.columns(rows)], dim=1)

    def opened() -> Callable[[Tensor], Tensor]:
        computed = partial(item_vectors, models, items)
        if stored is None:
            return computed
        folder, width = stored / vectors_name(models, items), sum(model.dense.width for model in models)
        shape = [len(items.embeddings), width]
        array = opened_if_there(folder, lambda: open_array(folder, VECTORS, np.float16, shape, mapped=True))
        if array is None:
            return computed

        def read(rows: Tensor) -> Tensor:
            found = array[rows.cpu().numpy()]
            check_finite(folder, VECTORS, found)
            return torch.from_numpy(found).to(rows.device).float()

        return read

    return kept(models, items, VECTORS, None, opened, head_only=True)


def store_vectors(models: Sequence[Any], data: DataBin, exact_items: int = EXACT_ITEMS) -> Path | None:
    """Compute the vectors of a large catalogue's items, and write them into its data-bin.

    Args:
        models: models with a dense head.
        data: their data-bin.
        exact_items: the largest number of items whose vectors each search keeps in memory instead.

    Returns:
        The folder of the vectors; None if none are needed.

    Raises:
        OSError: the data-bin cannot be written to.
    """
    items = data.dense_items
    if items is None or len(data.trie) <= exact_items:
        return None
    folder = folder_to_write(items) / vectors_name(models, items)
    if folder.is_dir():
        return folder
    rows, width = torch.arange(len(items.embeddings)), sum(model.dense.width for model in models)
    rows = rows.to(next(models[0].parameters()).device)
    with replacing(folder, directory=True) as new, Progress(len(rows), "vectors of the items", "items") as progress:
        shape = (len(rows), width)
        out = new_array(new / f"{VECTORS}.npy", np.float16, shape)
        for block in rows.split(BLOCK):
            with torch.no_grad():
                out[block.cpu().numpy()] = item_vectors(models, items, block).cpu().numpy()
            progress.update(len(block))
        out.flush()
        note_checksums(new, [VECTORS])
    return folder


def vectors_name(models: Sequence[Any], items: DenseItems) -> str:
    """Return the name of the folder with stored vectors."""
    return f"{VECTORS}.{digest_of(models, OF_ITEMS, f'{items.checksum} {items.texts}')[:16]}"
