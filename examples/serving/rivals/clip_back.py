"""clip-retrieval's own back end with another text encoder in CLIP's place.

python examples/serving/rivals/clip_back.py --vectors FOLDER --encoder MODEL --port 8002
"""

import importlib
import importlib.util
import json
import logging
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import torch
from searcher import PROBES, Searcher, arguments


def back_end(load_clip: Any) -> Any:
    """clip-retrieval's module of the back end alone, without what it needs for other commands.

    Args:
        load_clip: called in place of the function that loads CLIP.
    """
    stand_in = types.ModuleType("all_clip")
    stand_in.load_clip = load_clip  # type: ignore[attr-defined]
    sys.modules["all_clip"] = stand_in
    spec = importlib.util.find_spec("clip_retrieval")
    assert spec is not None
    package = types.ModuleType("clip_retrieval")
    package.__path__ = list(spec.submodule_search_locations or [])
    sys.modules["clip_retrieval"] = package
    return importlib.import_module("clip_retrieval.clip_back")


def main(argv: Sequence[str] | None = None) -> None:
    """Serve; see the module's docstring."""
    args = arguments("clip-retrieval's back end with another text encoder.", 8002).parse_args(argv)
    torch.set_num_threads(1)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    encoder = Searcher(Path("nowhere"), args.encoder)

    def load_clip(*_: Any, **__: Any) -> tuple[Any, None, Any]:
        return encoder, None, encoder.tokens

    clip_back = back_end(load_clip)
    open_index = clip_back.load_index

    def load_index(path: str, mapped: bool) -> Any:
        index = open_index(path, mapped)
        faiss.extract_index_ivf(index).nprobe = PROBES
        return index

    clip_back.load_index = load_index
    with tempfile.TemporaryDirectory() as folder:
        indices = Path(folder) / "indices.json"
        indices.write_text(json.dumps({"items": str(args.vectors)}))
        options = {"enable_mclip_option": False, "use_jit": False, "provide_aesthetic_embeddings": False}
        columns = ["item_id", "caption"]
        clip_back.clip_back(str(indices), args.port, columns_to_return=columns, **options)


if __name__ == "__main__":
    main()
