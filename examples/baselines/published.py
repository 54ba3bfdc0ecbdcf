"""The figures of the paper's Tables 1, 2 and 3 (Fang et al., ACL 2025), to print beside those measured here.

They were measured on other machines and with larger encoders, and most rivals' figures come from other papers. They are
for orientation only.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """One row of a table for one data set: percent, and queries per second. None: the paper has no figure."""

    method: str
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    mrr_at_10: float | None = None
    queries_per_second: float | None = None


DATASETS = ("flickr30k", "mscoco", "clotho", "audiocaps", "msrvtt", "msvd")

TITLES = {
    1: "Table 1, beside single-tower models",
    2: "Table 2, beside dual-tower models",
    3: "Table 3, beside generative models",
}

# table -> data set -> rows; queries per second in Table 1 are for a batch of 100 queries and 1M simulated candidates
FIGURES: dict[int, dict[str, list[Published]]] = {
    1: {
        "flickr30k": [
            Published("BLIP-2", 89.7, 98.1, 98.9, None, 1.68),
            Published("InternVL-G", 85.0, 97.0, 98.6, None, 2.03),
            Published("CART", 81.8, 96.1, 98.4, None, 105.8),
        ],
        "mscoco": [
            Published("BLIP-2", 66.3, 86.5, 91.8, None, 1.68),
            Published("InternVL-G", 58.6, 81.3, 88.0, None, 2.03),
            Published("CART", 52.4, 77.5, 86.1, None, 105.8),
        ],
    },
    2: {
        "flickr30k": [
            Published("CLIP", 55.9, 82.8, 90.6, 67.3),
            Published("OpenCLIP", 63.9, 87.3, 93.2, 74.1),
            Published("MobileCLIP", 74.9, 92.9, 96.3, 82.6),
            Published("ONE-PEACE (pretrained)", 73.4, 91.5, 95.4, 81.2),
            Published("ImageBind (huge)", 74.9, 93.0, 96.1, 82.7),
            Published("LanguageBind (image)", 69.5, 90.8, 94.9, 78.7),
            Published("CART", 81.8, 96.1, 98.4, 88.0),
        ],
        "mscoco": [
            Published("CLIP", 30.4, 55.9, 66.8, 41.3),
            Published("OpenCLIP", 39.4, 65.4, 75.6, 50.4),
            Published("MobileCLIP", 50.3, 74.9, 82.4, 60.8),
            Published("ONE-PEACE (pretrained)", 48.0, 71.6, 79.5, 58.0),
            Published("ImageBind (huge)", 49.4, 73.3, 81.5, 59.6),
            Published("LanguageBind (image)", 45.3, 69.8, 78.6, 55.8),
            Published("CART", 52.4, 77.5, 86.1, 63.2),
        ],
        "clotho": [
            Published("CLAP-HTSAT", 16.1, 38.3, 51.1, 25.7),
            Published("HTSAT-BERT", 19.7, 45.7, 59.4, 37.6),
            Published("LanguageBind (audio)", 16.3, 40.4, 53.9, 32.9),
            Published("VALOR-B", 17.5, 42.7, 55.3, 34.5),
            Published("ONE-PEACE (pretrained)", 22.4, 49.0, 62.7, 40.7),
            Published("CART", 46.4, 70.6, 76.0, 52.3),
        ],
        "audiocaps": [
            Published("CLAP-HTSAT", 36.1, 71.8, 83.9, 52.1),
            Published("HTSAT-BERT", 42.2, 76.5, 87.1, 57.4),
            Published("LanguageBind (audio)", 15.2, 49.8, 67.6, 29.8),
            Published("VALOR-B", 40.1, 73.9, 83.1, 58.7),
            Published("ONE-PEACE (pretrained)", 42.5, 77.5, 88.4, 60.5),
            Published("CART", 49.8, 79.8, 86.8, 62.0),
        ],
        "msrvtt": [
            Published("CLIP2Video", 45.6, 72.5, 81.7),
            Published("CLIP4Clip", 44.5, 71.4, 81.6),
            Published("UMT-B", 46.3, 72.7, 82.0),
            Published("Cap4Video", 49.3, 74.3, 83.8),
            Published("ImageBind (huge)", 36.8, 61.8, 70.0, 46.4),
            Published("LanguageBind (video)", 42.7, 67.1, 77.0, 54.4),
            Published("CART", 52.6, 75.4, 84.2, 61.8),
        ],
        "msvd": [
            Published("CLIP2Video", 47.0, 76.8, 85.9),
            Published("CLIP4Clip", 46.2, 76.1, 84.6),
            Published("UMT-B", 47.4, 76.8, 84.0),
            Published("Cap4Video", 51.8, 80.8, 88.3),
            Published("ImageBind (huge)", 39.3, 67.5, 78.5, 53.4),
            Published("LanguageBind (video)", 53.5, 80.5, 87.5, 60.6),
            Published("CART", 63.6, 87.9, 92.8, 73.6),
        ],
    },
    3: {
        "flickr30k": [
            Published("GRACE, semantic ids", 22.9, 34.9, 37.4),
            Published("GRACE, structured ids", 37.4, 59.5, 66.2),
            Published("GRACE, atomic ids", 68.4, 88.9, 93.7),
            Published("CART, coarse-fine ids", 81.78, 96.14, 98.38),
        ],
        "mscoco": [
            Published("GRACE, semantic ids", 13.3, 30.4, 35.9),
            Published("GRACE, structured ids", 16.7, 39.2, 50.3),
            Published("GRACE, atomic ids", 41.5, 69.1, 79.1),
            Published("CART, coarse-fine ids", 52.42, 77.53, 86.11),
        ],
    },
}
