"""Checks the fields of a data-bin's manifest before anything is made of them."""

import re
from typing import Any

from cart_fairseq.base.files import is_plain_name
from cart_fairseq.catalogue.segments import HISTORY

INDEX_CAPTIONS = ("include", "exclude", "borrowed")
FIELDS = {
    "files": dict,
    "counts": dict,
    "inputs": dict,
    "index_captions": str,
    "valid_held_out": bool,
    "fingerprint": str,
}
"""Fields of a manifest that are read, and their types."""

OURS = re.compile(
    r"(train|valid|test)\.query-id\..*|queries\..*\.parquet|dict\.(query|id)\.txt|sentencepiece\.model|trie\.safetensors|"
    r"candidates\..*\.npy|dense\..*\.npy|join\.(json|safetensors)|vocabulary\.json|text-encoder|search|identifiers|"
    r"manifest\.json|next\..*|README(\.earlier)?\.md|config\.json|model(\.\d+)?\.safetensors"
)
"""Names in a data-bin or MODEL folder; a new one in its place keeps all others."""


def check_fields(manifest: Any) -> None:
    """Raise ValueError or KeyError for fields that no manifest of ours has, such as subsets that cannot be files' names."""
    for name, kind in FIELDS.items():
        if not isinstance(manifest[name], kind):
            raise ValueError(f"{name} is {manifest[name]!r}")
    if manifest["index_captions"] not in INDEX_CAPTIONS:
        raise ValueError(f"index_captions is {manifest['index_captions']!r}")
    history = manifest.get("history", "")
    if not isinstance(history, str) or not (history == "" or HISTORY.fullmatch(history)):
        raise ValueError(f"history is {history!r}")
    longest = manifest["inputs"]["max_query_tokens"]
    if type(longest) is not int or longest < 2:
        raise ValueError(f"max_query_tokens is {longest!r}")
    for subset, count in manifest.get("counts", {}).items():
        if not is_plain_name(subset):
            raise ValueError(f"counts names the subset {subset!r}")
        if any(type(number) is not int or number < 0 for number in count.values()):
            raise ValueError(f"counts of {subset} are {count!r}")
