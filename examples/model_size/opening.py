"""Opens what a search needs in a process of its own, searches once, and measures both.

    python examples/model_size/opening.py '{"kind": "model", "path": "MODEL"}'

prints JSON. Times count from the end of importing torch, for an index of faiss from the end of importing faiss. They
include everything else: imports of the project, of transformers and of pyarrow, too.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUERY, HITS = "a dog on a beach", 10
Search = Callable[[], Any]


def open_model(path: str, **_: Any) -> Search:
    """A MODEL folder, as users open it, on the CPU."""
    from cart_fairseq import CartRetriever

    retriever = CartRetriever.from_pretrained(path, device="cpu")
    return lambda: [(hit.item_id, hit.record) for hit in retriever.search([QUERY], k=HITS)[0]]


def open_index(path: str, records: str, flag: int, **_: Any) -> Search:
    """An index of faiss with the items' records, which are read as Arrow columns."""
    import faiss
    import numpy as np
    import pyarrow.parquet as pq

    index = faiss.read_index(path, flag)
    with pq.ParquetFile(records) as table:  # pq.read_table would import pandas
        items = table.read()

    def search() -> Any:
        vector = np.random.default_rng(1).standard_normal((1, index.d), dtype=np.float32)
        found = index.search(vector / np.linalg.norm(vector), HITS)[1][0]
        return [{name: items[name][int(row)].as_py() for name in items.column_names} for row in found if row >= 0]

    return search


def open_text_tower(path: str, **_: Any) -> Search:
    """CLIP's text tower, without its tokeniser."""
    import torch

    from cart_fairseq.base.libraries import hide_broken_torchaudio

    hide_broken_torchaudio()
    from transformers import CLIPTextModelWithProjection

    tower = CLIPTextModelWithProjection.from_pretrained(path).eval()
    tokens = torch.randint(10, 1000, (1, 77), generator=torch.Generator().manual_seed(1))

    def search() -> Any:
        with torch.inference_mode():
            return tower(input_ids=tokens).text_embeds.tolist()

    return search


KINDS: dict[str, tuple[str, Callable[..., Search]]] = {
    "model": ("torch", open_model),
    "index": ("faiss", open_index),
    "text tower": ("torch", open_text_tower),
}
"""Kind -> the library whose import does not count, and how it is opened."""


def resident() -> dict[str, float]:
    """Megabytes of memory of this process: its own, and of files that are mapped. NaN where the system does not say."""
    status = Path("/proc/self/status")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines()) if status.is_file() else {}
    names = {"own": "RssAnon", "files": "RssFile"}
    return {
        key: int(lines[name].split()[0]) * 1024 / 1e6 if name in lines else float("nan") for key, name in names.items()
    }


def measure(kind: str, **what: Any) -> dict[str, float]:
    """Open and search in this process.

    Returns:
        ``open_processor`` and ``open_wall``, seconds; ``answer_…``, those until the first answer, opening included;
        ``own_mb`` and ``files_mb``, what memory has grown by since the import, after the search; ``imports_fairseq``, 1
        if fairseq was imported, else 0.
    """
    library, opened = KINDS[kind]
    __import__(library)
    before, clocks = resident(), (time.process_time(), time.perf_counter())

    def passed(name: str) -> dict[str, float]:
        return {f"{name}_processor": time.process_time() - clocks[0], f"{name}_wall": time.perf_counter() - clocks[1]}

    search = opened(**what)
    found = passed("open")
    if not search():
        raise RuntimeError("the search found nothing")
    found |= passed("answer")
    found |= {f"{name}_mb": after - before[name] for name, after in resident().items()}
    found["imports_fairseq"] = int("fairseq" in sys.modules)
    return {name: round(value, 4) for name, value in found.items()}


def measured(repeats: int, kind: str, **what: Any) -> dict[str, Any]:
    """Measure in fresh processes, after one that is not counted: the medians, and all runs.

    Raises:
        ValueError: a process failed; the message has the end of what it printed.
    """
    runs = [_in_process({"kind": kind, **what}) for _ in range(repeats + 1)][1:]
    return {**{name: statistics.median(run[name] for run in runs) for name in runs[0]}, "runs": runs}


def _in_process(what: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, __file__, json.dumps(what, default=str)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"opening {what} failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
