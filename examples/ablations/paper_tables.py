"""The ablation tables of the paper, 4 to 11: what each line changes, and what the paper found (on test queries, in percent)."""

import dataclasses

Figures = tuple[float, float, float, float]
WITHOUT_KMEANS = ("--scheme", "rqvae", "--allow-collapse")
WITHOUT_RQVAE = ("--scheme", "hierarchical-kmeans", "--allow-collapse")


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a table, which is one run.

    Attributes:
        folder: where the run lies; lines of one folder in several tables are one run.
        labels: the line's first cells.
        paper: the paper's R@1, R@5, R@10 and MRR@10.
        identifiers: flags of build_identifiers; with none, the run takes the identifiers of ``cart``.
        train: flags of fairseq-train.
    """

    folder: str
    labels: tuple[str, ...]
    paper: Figures
    identifiers: tuple[str, ...] = ()
    train: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: its caption, the data set of the paper's figures, the heads of the first columns, the lines."""

    title: str
    data: str
    heads: tuple[str, ...]
    lines: tuple[Line, ...]


def parts(
    title: str, data: str, consistency: Figures, fusion: Figures, kmeans: Figures, rqvae: Figures, cart: Figures
) -> Table:
    """Tables 4, 8 and 9: CART, and CART without each of its parts."""
    lines = (
        Line("without-consistency", ("w/o consistency loss",), consistency, train=("--consistency-weight", "0")),
        Line("without-fusion", ("w/o fusion strategy",), fusion, train=("--fusion", "none")),
        Line("without-kmeans", ("w/o K-Means",), kmeans, identifiers=WITHOUT_KMEANS),
        Line("without-rqvae", ("w/o RQ-VAE",), rqvae, identifiers=WITHOUT_RQVAE),
        Line("cart", ("CART",), cart),
    )
    return Table(title, data, ("Setting",), lines)


def layers(side: str, figures: tuple[Figures, ...]) -> tuple[Line, ...]:
    """1 to 5 layers on one side of the model."""
    return tuple(
        Line("cart", (str(n),), found)
        if n == 3
        else Line(f"{side}-layers-{n}", (str(n),), found, train=(f"--{side}-layers", f"{n}"))
        for n, found in enumerate(figures, start=1)
    )


def sizes(figures: dict[tuple[int, int], Figures]) -> tuple[Line, ...]:
    """K of k-means by the size of both codebooks."""
    return tuple(
        Line("cart", (str(k), f"{n}*{n}"), found)
        if (k, n) == (128, 128)
        else Line(
            f"k-{k}-codebook-{n}",
            (str(k), f"{n}*{n}"),
            found,
            identifiers=("--kmeans-clusters", f"{k}", "--codebook-size", f"{n}", "--allow-collapse"),
        )
        for (k, n), found in figures.items()
    )


TABLES = {
    "4": parts(
        "Table 4: ablation study on Flickr30k",
        "Flickr30k",
        (81.64, 95.94, 98.04, 87.85),
        (75.54, 93.54, 96.72, 83.11),
        (79.50, 94.92, 97.52, 86.12),
        (76.22, 92.86, 96.16, 83.31),
        (81.78, 96.14, 98.38, 88.04),
    ),
    "5": Table(
        "Table 5: results with varying encoder layers",
        "Flickr30k",
        ("Layers",),
        layers(
            "encoder",
            (
                (76.16, 94.48, 97.78, 84.11),
                (80.52, 95.16, 97.92, 86.87),
                (81.78, 96.14, 98.38, 88.04),
                (82.10, 95.68, 98.22, 88.11),
                (81.08, 95.64, 97.78, 87.37),
            ),
        ),
    ),
    "6": Table(
        "Table 6: results with different identifier sizes",
        "Flickr30k",
        ("K", "Codebook"),
        sizes(
            {
                (64, 64): (75.76, 92.91, 96.48, 83.12),
                (64, 128): (81.22, 95.52, 97.54, 87.39),
                (64, 256): (79.84, 95.58, 98.18, 86.44),
                (128, 64): (78.64, 93.96, 97.08, 85.31),
                (128, 128): (81.78, 96.14, 98.38, 88.04),
                (128, 256): (80.86, 95.61, 98.01, 87.26),
                (256, 64): (77.68, 94.81, 97.62, 84.93),
                (256, 128): (81.54, 95.81, 98.31, 87.68),
                (256, 256): (80.48, 95.96, 98.34, 87.21),
            }
        ),
    ),
    "7": Table(
        "Table 7: results with different identifier lengths",
        "Flickr30k",
        ("Length",),
        (
            Line("cart", ("4",), (81.78, 96.14, 98.38, 88.04)),
            Line(
                "codebooks-3",
                ("5",),
                (81.84, 96.38, 98.44, 88.51),
                identifiers=("--codebooks", "3", "--allow-collapse"),
            ),
            Line(
                "codebooks-4",
                ("6",),
                (80.54, 95.44, 98.06, 87.57),
                identifiers=("--codebooks", "4", "--allow-collapse"),
            ),
        ),
    ),
    "8-clotho": parts(
        "Table 8: ablation study on text-to-audio retrieval, Clotho",
        "Clotho",
        (44.51, 68.76, 74.56, 49.87),
        (43.44, 66.15, 73.03, 48.92),
        (45.81, 69.31, 74.05, 51.59),
        (44.39, 68.91, 75.11, 49.51),
        (46.4, 70.6, 76.0, 52.3),
    ),
    "8-audiocaps": parts(
        "Table 8: ablation study on text-to-audio retrieval, AudioCaps",
        "AudioCaps",
        (47.86, 76.74, 83.89, 57.68),
        (46.04, 76.96, 82.21, 55.01),
        (47.21, 77.11, 85.19, 52.88),
        (44.94, 73.27, 82.45, 50.34),
        (49.8, 79.8, 86.8, 62.0),
    ),
    "8-msrvtt": parts(
        "Table 8: ablation study on text-to-video retrieval, MSR-VTT",
        "MSR-VTT",
        (51.5, 75.1, 82.7, 61.53),
        (48.4, 70.3, 80.5, 56.38),
        (50.1, 73.1, 80.9, 59.79),
        (46.5, 70.1, 78.9, 56.62),
        (52.6, 75.4, 84.2, 61.77),
    ),
    "8-msvd": parts(
        "Table 8: ablation study on text-to-video retrieval, MSVD",
        "MSVD",
        (61.19, 87.16, 92.38, 72.03),
        (60.75, 86.57, 91.64, 71.71),
        (61.04, 85.52, 91.34, 71.69),
        (58.95, 82.98, 87.91, 68.65),
        (63.58, 87.91, 92.84, 73.59),
    ),
    "9": parts(
        "Table 9: ablation study on MS-COCO",
        "MS-COCO",
        (49.86, 75.69, 83.73, 60.02),
        (43.41, 69.27, 79.12, 54.34),
        (48.11, 74.87, 84.08, 59.53),
        (51.03, 76.94, 84.97, 62.12),
        (52.42, 77.53, 86.11, 63.19),
    ),
    "10": Table(
        "Table 10: results with different number of decoder layers",
        "Flickr30k",
        ("Layers",),
        layers(
            "decoder",
            (
                (79.48, 94.66, 97.02, 85.96),
                (82.52, 95.86, 98.04, 88.31),
                (81.78, 96.14, 98.38, 88.04),
                (73.18, 92.66, 96.61, 81.62),
                (67.32, 92.22, 96.54, 77.86),
            ),
        ),
    ),
    "11": Table(
        "Table 11: results for different settings of codebook dimension",
        "Flickr30k",
        ("Dimensions",),
        (
            Line(
                "latent-32",
                ("32",),
                (77.84, 93.62, 96.58, 84.66),
                identifiers=("--latent-dim", "32", "--allow-collapse"),
            ),
            Line("cart", ("64",), (81.78, 96.14, 98.38, 88.04)),
            Line(
                "latent-128",
                ("128",),
                (79.88, 94.52, 97.02, 85.91),
                identifiers=("--latent-dim", "128", "--allow-collapse"),
            ),
        ),
    ),
}
