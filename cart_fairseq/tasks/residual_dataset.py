"""Rows of residuals as fairseq batches them."""

from typing import Any

import numpy as np
import torch
from fairseq.data import FairseqDataset


class ResidualDataset(FairseqDataset):
    """Rows of a (N, D) float32 memory map in an order drawn anew for every epoch.

    An example is only a row number; the collater gathers a whole batch at once, which on memory maps is many times
    faster than stacking rows.

    Args:
        residuals: (N, D) float32.
        shard_id, num_shards: of every batch only the rows at shard_id, shard_id + num_shards … are gathered.
    """

    def __init__(self, residuals: np.ndarray, shard_id: int = 0, num_shards: int = 1):
        # A plain view: indexing the memmap subclass costs more than the copy itself.
        self.residuals = residuals.view(np.ndarray)
        self.shard_id = shard_id
        self.num_shards = num_shards

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """False: a reused iterator shuffles batches but keeps their members together."""
        return False

    def __getitem__(self, index: int) -> int:
        return int(index)

    def __len__(self) -> int:
        return len(self.residuals)

    def collater(self, samples: list[int]) -> dict[str, Any]:
        """Row numbers -> {"id": (B,) int64, "net_input": {"x": (B, D) float32}, "nsentences", "ntokens": B}."""
        rows = np.asarray(samples[self.shard_id :: self.num_shards], dtype=np.int64)
        return {
            "id": torch.from_numpy(rows),
            "net_input": {"x": torch.from_numpy(self.residuals[rows])},
            "nsentences": len(rows),
            "ntokens": len(rows),
        }

    def num_tokens(self, index: int) -> int:
        """1: a row counts as one token."""
        return 1

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """Ones, as `num_tokens`."""
        return np.ones(len(indices), dtype=np.int64)

    def size(self, index: int) -> int:
        """1, as `num_tokens`."""
        return 1

    def ordered_indices(self) -> np.ndarray:
        """A permutation of the rows; fairseq seeds numpy with seed + epoch around this call."""
        return np.random.permutation(len(self))  # noqa: NPY002, fairseq seeds the global generator
