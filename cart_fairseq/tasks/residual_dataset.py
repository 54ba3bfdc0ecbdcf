"""The fairseq data set of residuals."""

from typing import Any

import numpy as np
import torch
from fairseq.data import FairseqDataset


class ResidualDataset(FairseqDataset):
    """Rows of a (N, D) float32 memory map, in a new random order in each epoch.

    An example is a row number. The collater reads all rows of a batch at once, which is many times faster on memory
    maps than stacking single rows.

    Args:
        residuals: (N, D) float32.
        shard_id, num_shards: the collater reads the batch's rows shard_id, shard_id + num_shards … only.
    """

    def __init__(self, residuals: np.ndarray, shard_id: int = 0, num_shards: int = 1):
        # a plain view, because indexing numpy's memmap class costs more than the copy
        self.residuals = residuals.view(np.ndarray)
        self.shard_id = shard_id
        self.num_shards = num_shards

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """False: a reused iterator shuffles the batches but keeps their members."""
        return False

    def __getitem__(self, index: int) -> int:
        return int(index)

    def __len__(self) -> int:
        return len(self.residuals)

    def collater(self, samples: list[int]) -> dict[str, Any]:
        """Read a batch: {"id": (B,) int64, "net_input": {"x": (B, D) float32}, "nsentences": B, "ntokens": B}."""
        rows = np.asarray(samples[self.shard_id :: self.num_shards], dtype=np.int64)
        return {
            "id": torch.from_numpy(rows),
            "net_input": {"x": torch.from_numpy(self.residuals[rows])},
            "nsentences": len(rows),
            "ntokens": len(rows),
        }

    def num_tokens(self, index: int) -> int:
        """Return 1: a row counts as one token."""
        return 1

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """Return the `num_tokens` of each index: (n,) int64 ones."""
        return np.ones(len(indices), dtype=np.int64)

    def size(self, index: int) -> int:
        """Return 1, see `num_tokens`."""
        return 1

    def ordered_indices(self) -> np.ndarray:
        """Return a random permutation of the rows; fairseq seeds numpy with seed + epoch for this call."""
        return np.random.permutation(len(self))  # noqa: NPY002, fairseq seeds the global generator
