"""The model card of a MODEL folder, ``README.md``: data, recipe, figures and limits, with fields to fill in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.measuring.labels import METRIC_LABELS

LOCAL = re.compile(r"(^|[:@])(?:[~.][^/]*)?/(?:.*/)?([^/]+)/?$", re.DOTALL)
"""A path of a machine, alone or at the end of the name of an encoder; ``ORGANISATION/NAME`` of the hub is none."""
FILL = "*to be filled in*"


def model_card(config: Mapping[str, Any], data: DataBin, record: Path | None) -> str:
    """Write a model card.

    Args:
        config: the content of ``config.json``.
        data: the data-bin on which the model was trained.
        record: ``run.json`` of the recipe that trained it; None if there is none.

    Returns:
        Markdown with a head in YAML, as the Hugging Face Hub reads it.

    Raises:
        ValueError: the record cannot be read.
    """
    run = {} if record is None else read_json(record)
    run = run if isinstance(run, dict) else {}
    return "\n".join([_HEAD, _use(config), _data(config, data), _recipe(config, run), _figures(run), _LIMITS])


_HEAD = """---
library_name: cart-fairseq
tags:
- cross-modal-retrieval
- generative-retrieval
license: other
license_name: to-be-filled-in
---

# A CART model
"""


def _use(config: Mapping[str, Any]) -> str:
    return f"""
Finds items of a catalogue for text queries. It generates the identifiers of items (CART, generative cross-modal
retrieval with coarse-to-fine identifiers). The folder has all that a search needs, the catalogue of
{config["exported"]["items"]:,} items too.

```python
from cart_fairseq import CartRetriever

retriever = CartRetriever.from_pretrained("MODEL")  # this folder, or its name on the Hugging Face Hub
retriever.search(["a dog on a beach"], k=10)
```
"""


def _data(config: Mapping[str, Any], data: DataBin) -> str:
    manifest = data.manifest
    counts, encoder = manifest["counts"], manifest.get("encoder")
    rows = {
        "data set": FILL,
        "licence of the data": FILL,
        "licence of this model": FILL,
        "items": f"{config['exported']['items']:,}",
        "training captions": f"{counts['train']['queries']:,}" if "train" in counts else "unknown",
        "captions of valid and test items in training": manifest["index_captions"],
        "encoder of the items": _name(encoder.get("encoder") if isinstance(encoder, dict) else None),
        "text encoder": _name((manifest.get("text_encoder") or {}).get("name")),
    }
    return "## Data\n\n" + _table(("", ""), [[name, value] for name, value in rows.items()])


def _recipe(config: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    tuned = config["tuned"]
    rows = {
        "models": str(len(config["models"])),
        "precision of the weights": config["precision"],
        "level discount": _numbers(tuned["level_discount"]),
        "weight of the dense score": _numbers(tuned["dense_weight"]),
        "share of priors": _numbers(tuned["prior_share"]),
        "probabilities of hits": "no" if tuned["calibration"] is None else "calibrated",
    }
    rows |= {name: str(run[name]) for name in ("recipe", "seed", "commit") if name in run}
    text = "## Recipe\n\n" + _table(("", ""), [[name, value] for name, value in rows.items()])
    flags = run.get("train_flags")
    return text + (f"\n```text\nfairseq-train {' '.join(map(str, flags))}\n```\n" if isinstance(flags, list) else "")


def _figures(run: Mapping[str, Any]) -> str:
    """Recall and mean reciprocal rank that the record has."""
    rows = []
    metrics = run.get("metrics")
    for chosen, subsets in (metrics if isinstance(metrics, dict) else {}).items():
        for subset, found in (subsets if isinstance(subsets, dict) else {}).items():
            if isinstance(found, dict) and all(name in found for name in METRIC_LABELS):
                competing = f"{found.get('candidates', '?')} ({'of the split' if chosen == 'split' else 'all items'})"
                rows.append([subset, competing, *(f"{found[name]:.1f}" for name in METRIC_LABELS)])
    if not rows:
        return f"## Figures\n\n{FILL}\n"
    head = ("subset", "candidates", *METRIC_LABELS.values())
    return "## Figures\n\nIn percent, as the record of the run has them.\n\n" + _table(head, rows)


_LIMITS = f"""## Limits

- Only items of the catalogue are found. `python -m preprocess.update_identifiers` adds and removes items.
- The best hit is returned whether or not anything fits, unless a search asks for a least probability.
- Languages and kinds of queries are those of the training captions.
- {FILL}
"""


def _name(spec: Any) -> str:
    return str(without_folders(spec)) if spec else "none"


def without_folders(value: Any) -> Any:
    """Return JSON in which names of encoders have no folders of the machine that made them; other texts stay.

    >>> without_folders({"encoder": "clip:/home/me/models/clip-b", "name": "openai/clip", "size": 3})
    {'encoder': 'clip:clip-b', 'name': 'openai/clip', 'size': 3}
    """
    if isinstance(value, dict):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    return LOCAL.sub(r"\1\2", value) if isinstance(value, str) else value


def _numbers(values: Any) -> str:
    return "none" if not values else ", ".join(f"{value:g}" for value in values)


def _table(head: Any, rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
