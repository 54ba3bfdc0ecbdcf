"""Items where captions find them: joined rows turned by a dual tower, for identifiers that queries can name.

The largest differences between joined rows need not be what queries ask for. Two towers, of captions and of items, are
trained to meet (symmetric InfoNCE), each item seen with another caption of its own than the one that asks for it.
Identifiers are then built from the item tower's vectors. The paper has no such step.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cart_fairseq.base.progress import track
from cart_fairseq.network.dense_head import DenseHead, info_nce
from cart_fairseq.training.companions import Companions

EPOCHS, UPDATES, BATCH, DROPOUT = 10, 400, 512, 0.25
"""Training lasts EPOCHS epochs, and longer with few captions: at least UPDATES updates."""
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2
PREFIX = "aligned."


@dataclass
class TowerPairs:
    """Captions and their items, as the towers learn from them.

    captions: (P, T) float32, centred text features, of length 1.
    owners: (P,) int64, for each caption the row of its item in `mapped`.
    mapped: (M, T) float32, embeddings mapped into the space of text features.
    texts: whether the items to be found have captions; else the mapped part stands for both.
    kept: (M, D) float32, embeddings as joined rows keep them, where they do.
    """

    captions: NDArray[np.float32]
    owners: NDArray[np.int64]
    mapped: NDArray[np.float32]
    texts: bool
    kept: NDArray[np.float32] | None = None

    @property
    def width(self) -> int:
        """W, of a joined row."""
        return 2 * self.mapped.shape[1] + (0 if self.kept is None else self.kept.shape[1])

    def items(self, pairs: NDArray[np.int64], companions: NDArray[np.int64]) -> Tensor:
        """(n,) pairs, each with a companion or -1 -> (n, W) float32: rows joined with one caption, if there is one."""
        rows = self.owners[pairs]
        mapped = self.mapped[rows]
        said = mapped
        if self.texts:
            said = np.where(companions[:, None] >= 0, self.captions[np.maximum(companions, 0)], mapped)
        kept = [] if self.kept is None else [self.kept[rows]]
        return torch.from_numpy(np.concatenate([mapped, said, *kept], axis=1))


class Alignment:
    """The two towers. A call applies the item tower: joined rows (n, W) -> (n, T + A) float32 of length 1.

    Attributes:
        width: T + A.
    """

    def __init__(self, head: DenseHead):
        self.head = head.eval()
        self.width = head.width

    @torch.inference_mode()
    def __call__(self, joined: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.head.item(torch.from_numpy(joined)).numpy()

    @torch.inference_mode()
    def queries(self, captions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Centred text features (n, T) -> (n, T + A) float32 of length 1: the other tower."""
        return self.head.text(torch.from_numpy(captions)).numpy()

    @classmethod
    def fit(cls, pairs: TowerPairs, dim: int, seed: int) -> "Alignment":
        """Train both towers; the same seed draws the same.

        Args:
            dim: A, width of what a hidden layer adds to the T values of a linear map.

        Raises:
            ValueError: captions of fewer than two items, so there is nothing to tell apart.
        """
        if len(np.unique(pairs.owners)) < 2:
            raise ValueError("captions of fewer than 2 items, so towers have nothing to tell apart; leave --align out")
        count, width = pairs.captions.shape
        draw = np.random.default_rng(seed)
        companions = Companions(pairs.owners, np.ones(count, dtype=bool))
        batches = -(-count // BATCH)
        epochs = max(EPOCHS, -(-UPDATES // batches))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = DenseHead(width, pairs.width, dim, DROPOUT, text_dim=width)
            towers = cls(head)
            head.train()
            optimizer = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * batches)
            drawn = (batch for _ in range(epochs) for batch in np.array_split(draw.permutation(count), batches))
            for batch in track(drawn, "aligning", "updates", total=epochs * batches):
                vectors = head.item(pairs.items(batch, companions.draw(batch, draw)))
                found = head.text(torch.from_numpy(pairs.captions[batch]))
                loss = info_nce(found, vectors, torch.from_numpy(pairs.owners[batch]), head.scale()) / len(batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        head.eval()
        return towers

    def tensors(self) -> dict[str, np.ndarray]:
        """All of it, the query tower too."""
        return {PREFIX + name: value.numpy() for name, value in self.head.state_dict().items()}

    @classmethod
    def load(cls, tensors: dict[str, np.ndarray]) -> "Alignment | None":
        """The inverse of `tensors`; None where there are none of it."""
        state = {
            name[len(PREFIX) :]: torch.from_numpy(value) for name, value in tensors.items() if name.startswith(PREFIX)
        }
        if not state:
            return None
        width, item = (state[f"{side}_tower.straight.weight"].shape[1] for side in ("query", "item"))
        head = DenseHead(width, item, len(state["item_tower.deep.4.bias"]), DROPOUT, text_dim=width)
        head.load_state_dict({"prior_share": head.prior_share, **state})  # joins of earlier versions lack it
        return cls(head)
