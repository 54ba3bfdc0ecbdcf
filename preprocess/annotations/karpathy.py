"""Karpathy's JSON of Flickr8k, Flickr30k and MS-COCO: `dataset_flickr8k.json` and so on, of `caption_datasets.zip`.

Source: Karpathy and Fei-Fei, Deep Visual-Semantic Alignments for Generating Image Descriptions (2015),
https://cs.stanford.edu/people/karpathy/deepimagesent/. The file is one object::

    {"images": [{"filepath": "val2014", "filename": "COCO_val2014_000000391895.jpg", "cocoid": 391895, "imgid": 0,
                 "split": "test", "sentids": [770337, ...],
                 "sentences": [{"raw": "A man with a red helmet ...", "tokens": [...], "imgid": 0, "sentid": 770337}, ...]},
                ...],
     "dataset": "coco"}

Only MS-COCO has `filepath` and `cocoid`. `split` is train, val, test or, in MS-COCO, `restval`: the images of val2014
that are neither val nor test. They are training images here, as in Lee et al. (2018), whose split the paper uses:
113,287 images. MS-COCO's images of 2017 are those of 2014 under other names (`000000391895.jpg`). The reader finds
these names, too.
"""

from pathlib import Path
from typing import Any

from preprocess.annotations.entries import Entry, Published, Reading, Seen, check_name, check_text
from preprocess.annotations.sources import read_array, read_json

SPLIT_OF = {"train": "train", "restval": "train", "val": "valid", "test": "test"}
COCO = {"train": 113287, "valid": 5000, "test": 5000}
PUBLISHED = {
    "flickr8k": Published("flickr8k", {"train": 6000, "valid": 1000, "test": 1000}, {}),
    "flickr30k": Published(
        "flickr30k",
        {"train": 29000, "valid": 1014, "test": 1000},
        {"train": 29783, "valid": 1000, "test": 1000},
        "the paper uses its own split of all 31,783 images of Flickr30k; Karpathy's file has 31,014 of them",
    ),
    "coco": Published("coco", COCO, COCO),
}


def read(annotations: Path) -> Reading:
    """Read the file.

    Raises:
        ValueError: the file has another format, or an image has a bad or repeated file name, an unknown split or no
            caption.
    """
    content = read_json(annotations)
    images = read_array(annotations, content, "images")
    seen = Seen("filename", "remove one of the two")
    entries = []
    for number, image in enumerate(images, start=1):
        where = f"{annotations}, row {number} of images"
        name = check_name(where, "filename", image.get("filename"))
        seen.add(where, name)
        split = image.get("split")
        if split not in SPLIT_OF:
            raise ValueError(f"{where}: split is {split!r}, must be one of {', '.join(SPLIT_OF)}; correct it")
        entries.append(Entry(name, "image", SPLIT_OF[split], _files(where, name, image), _captions(where, image)))
    dataset = str(content.get("dataset"))
    return Reading(entries, PUBLISHED.get(dataset, Published(dataset, {}, {})))


def _captions(where: str, image: dict[str, Any]) -> tuple[str, ...]:
    sentences = image.get("sentences")
    if not isinstance(sentences, list) or not sentences:
        raise ValueError(f"{where}: sentences is {sentences!r}, must be an array of captions; remove the image")
    captions = []
    for number, sentence in enumerate(sentences, start=1):
        raw = sentence.get("raw") if isinstance(sentence, dict) else None
        captions.append(check_text(where, f"raw of sentence {number}", raw))
    return tuple(captions)


def _files(where: str, name: str, image: dict[str, Any]) -> tuple[str, ...]:
    folder, number = image.get("filepath"), image.get("cocoid")
    files = (name,) if folder is None else (f"{check_name(where, 'filepath', folder)}/{name}", name)
    return (*files, f"{number:012d}.jpg") if isinstance(number, int) else files
