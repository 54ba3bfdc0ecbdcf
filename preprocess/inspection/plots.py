"""The plots of the inspection report: use of every level, and items by t-SNE as in the paper's Figure 5."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from preprocess.data.embeddings import Embeddings
from preprocess.identifiers.prefix_groups import PrefixGroups

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b4fa3", "#222222")
"""Told apart under every common kind of colour blindness (after Okabe and Ito)."""
OTHERS = "#d4d4d8"
COMPONENTS = 50
"""Embeddings are projected to so many principal components before t-SNE, as its author advises."""


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, size in inches.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("matplotlib is not installed; pip install 'cart-fairseq[inspect]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Any) -> bytes:
    """A figure's picture."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=140, metadata={"Software": None})
    return out.getvalue()


def utilisation_plot(counts: NDArray[np.int64]) -> bytes:
    """How many items have each value of a level, most used value first.

    Args:
        counts: (size,) int64, items of each value.

    Returns:
        PNG.
    """
    figure = new_figure(5.2, 2.2)
    axes = figure.subplots()
    axes.stairs(np.sort(counts)[::-1], np.arange(len(counts) + 1), fill=True, color=COLOURS[0])
    axes.axhline(counts.sum() / len(counts), color=COLOURS[1], linewidth=1, linestyle="--", label="if all were alike")
    axes.set_xlim(0, len(counts))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("values, most used first")
    axes.set_ylabel("items")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
    return png(figure)


def tsne_rows(groups: list[PrefixGroups], sample: int, seed: int) -> NDArray[np.int64]:
    """Rows to plot, ascending: items of the largest groups, longest prefix first, the rest by chance.

    Args:
        groups: of the same items by prefixes of growing length.
        sample: how many rows; each length may fill as large a share of them as the others.
    """
    draw = np.random.default_rng(seed)
    share = sample // (len(groups) + 1)
    chosen: list[NDArray[np.int64]] = []
    for grouped in reversed(groups):
        largest = grouped.largest(len(COLOURS))
        each = max(1, share // max(1, len(largest)))
        chosen += [draw.permutation(grouped.rows(group))[:each] for group in largest]
    rows = np.concatenate([*chosen, draw.permutation(len(groups[0].order))])
    first = np.sort(np.unique(rows, return_index=True)[1])[:sample]
    return np.sort(rows[first])


def tsne_plot(
    embeddings: Embeddings, groups: list[PrefixGroups], names: list[list[str]], sample: int, seed: int
) -> bytes | None:
    """CART Figure 5: item embeddings by t-SNE, those that share a prefix in one colour; one panel a prefix length.

    Args:
        embeddings: (N, D) float16 or float32.
        groups: the same N items by prefixes of growing length.
        names: for each length, what the largest groups are called, in the order of `PrefixGroups.largest`.
        sample: how many items are plotted.

    Returns:
        PNG, or None where there is nothing to see: under four items, or all alike.
    """
    rows = tsne_rows(groups, sample, seed)
    points = np.asarray(embeddings[rows], dtype=np.float32)
    points = points - points.mean(axis=0)
    scale = np.abs(points).max()
    if len(points) < 4 or scale == 0:
        return None
    reduced = PCA(min(COMPONENTS, *points.shape), random_state=seed).fit_transform(points / scale)
    perplexity = min(30.0, (len(points) - 1) / 3)
    # Two components at least, for the first positions.
    start = np.pad(reduced[:, :2], ((0, 0), (0, max(0, 2 - reduced.shape[1]))))
    start = 1e-4 * start / start[:, 0].std()
    placed = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed).fit_transform(reduced)

    figure = new_figure(5.2 * len(groups), 5.6)
    for axes, grouped, labels in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, names, strict=True):
        of_row = grouped.of_row()[rows]
        axes.scatter(*placed.T, s=5, color=OTHERS, linewidths=0)
        for group, label, colour in zip(grouped.largest(len(COLOURS)), labels, COLOURS, strict=False):
            axes.scatter(*placed[of_row == group].T, s=14, color=colour, linewidths=0, label=label)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(OTHERS)
        if labels:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, frameon=False, markerscale=2)
    return png(figure)
