"""The trained dual tower: two small heads on frozen embeddings, trained with symmetric InfoNCE (CLIP's loss).

The training loop is plain torch, because fairseq's trainer expects sequences. Each epoch uses each item once, with a
random one of its training captions, so that no text has two correct items in a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cart_fairseq.base.progress import Progress
from cart_fairseq.network.dense_head import info_nce

FIRST_TEMPERATURE, LARGEST_SCALE = 0.07, 100.0  # CLIP's


@dataclass(frozen=True)
class ProjectionSettings:
    """How the heads are built and trained.

    Attributes:
        hidden: width of the hidden layer of each head. 0: linear heads.
        width: width of the common space.
        epochs: maximum number of epochs.
        patience: number of epochs without improvement after which training ends.
    """

    hidden: int = 0
    width: int = 512
    dropout: float = 0.2
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    epochs: int = 100
    patience: int = 15
    seed: int = 1


class Heads(nn.Module):
    """Two projections into one space, and the learned temperature.

    Args:
        items, texts: (n, D) float32, the training rows of each side. Their means and deviations standardise all rows.
    """

    def __init__(self, items: NDArray[np.float32], texts: NDArray[np.float32], settings: ProjectionSettings):
        super().__init__()
        self.items, self.texts = head(items, settings), head(texts, settings)
        self.log_scale = nn.Parameter(torch.tensor(1 / FIRST_TEMPERATURE).log())

    def forward(self, side: str, vectors: Tensor) -> Tensor:
        """(n, D) float32 of `items` or `texts` -> (n, width) of unit length."""
        return F.normalize(getattr(self, side)(vectors), dim=1)

    def loss(self, items: Tensor, texts: Tensor) -> Tensor:
        """Symmetric InfoNCE of matching rows (n, D) and (n, D'). The other rows of the batch are negatives."""
        scale = self.log_scale.exp().clamp(max=LARGEST_SCALE)
        each = torch.arange(len(items), device=items.device)
        return info_nce(self("texts", texts), self("items", items), each, scale) / len(items)

    @torch.no_grad()
    def project(self, side: str, vectors: NDArray[np.float32], block: int = 65536) -> NDArray[np.float32]:
        """Project all rows of one side, in evaluation mode."""
        self.eval()
        device = self.log_scale.device
        parts = [self(side, part.to(device)).cpu() for part in torch.from_numpy(vectors).split(block)]
        return torch.cat(parts).numpy()


class Standardise(nn.Module):
    """Subtracts the mean of the training rows and divides by their standard deviation."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, rows: NDArray[np.float32]):
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(rows.mean(0)))
        self.register_buffer("deviation", torch.from_numpy(rows.std(0).clip(min=1e-6)))

    def forward(self, vectors: Tensor) -> Tensor:
        """(n, D) -> (n, D)."""
        return (vectors - self.mean) / self.deviation


def head(rows: NDArray[np.float32], settings: ProjectionSettings) -> nn.Sequential:
    """Build one projection: linear, or with one hidden layer."""
    entry, dropout = Standardise(rows), nn.Dropout(settings.dropout)
    if not settings.hidden:
        return nn.Sequential(entry, dropout, nn.Linear(rows.shape[1], settings.width))
    layers = nn.Linear(rows.shape[1], settings.hidden), nn.GELU(), dropout, nn.Linear(settings.hidden, settings.width)
    return nn.Sequential(entry, *layers)


def train(
    items: NDArray[np.float32],
    texts: NDArray[np.float32],
    owner: NDArray[np.int64],
    settings: ProjectionSettings,
    device: str,
    figure: Callable[[Heads], float] | None = None,
) -> tuple[Heads, list[float]]:
    """Fit the heads.

    Args:
        items: (N, D) embeddings of all items. Only items with a text are used.
        texts: (M, D') embeddings of the training captions.
        owner: (M,) the row of each caption's item.
        figure: a metric, larger is better. The heads of the best epoch are kept. None: all epochs are run.

    Returns:
        The heads, on the CPU, and the metric after each epoch.
    """
    torch.manual_seed(settings.seed)
    known, place = np.unique(owner, return_inverse=True)
    captions_of = np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
    item_rows, text_rows = torch.from_numpy(items[known]).to(device), torch.from_numpy(texts).to(device)
    heads = Heads(items[known], texts, settings).to(device)
    optimiser = torch.optim.AdamW(heads.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    draw = np.random.default_rng(settings.seed)
    figures: list[float] = []
    best = {key: value.clone() for key, value in heads.state_dict().items()}
    with Progress(settings.epochs, "projection", "epochs") as progress:
        for _ in range(settings.epochs):
            heads.train()
            chosen = torch.from_numpy(np.array([draw.choice(rows) for rows in captions_of]))
            for batch in torch.from_numpy(draw.permutation(len(known))).split(settings.batch):
                optimiser.zero_grad()
                heads.loss(item_rows[batch], text_rows[chosen[batch]]).backward()
                optimiser.step()
            progress.update()
            if figure is not None:
                figures.append(figure(heads))
                progress.note(f"{figures[-1]:.1f}")
                if ended(figures, settings.patience):
                    break
            if figure is None or figures[-1] > max(figures[:-1], default=float("-inf")):
                best = {key: value.clone() for key, value in heads.state_dict().items()}
    heads.load_state_dict(best)
    return heads.cpu().eval(), figures


def ended(figures: Sequence[float], patience: int) -> bool:
    """Whether the best figure is more than `patience` epochs old."""
    return len(figures) - 1 - int(np.argmax(figures)) >= patience
