"""A search as LitServe serves it: one worker, which encodes and searches batches.

python examples/serving/rivals/litserve_app.py --vectors FOLDER --encoder MODEL --port 8001
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import litserve
import torch
from searcher import Searcher, arguments


class SearchAPI(litserve.LitAPI):
    """Answers ``{"query": TEXT, "k": N}``."""

    def __init__(self, vectors: Path, encoder: Path, **options: Any):
        super().__init__(**options)
        self.vectors, self.encoder = vectors, encoder

    def setup(self, device: str) -> None:
        """Open encoder and index in the worker."""
        torch.set_num_threads(1)
        self.searcher = Searcher(self.vectors, self.encoder)

    def predict(self, requests: Any) -> Any:
        """Search for a batch of requests."""
        found = self.searcher.search([each["query"] for each in requests], max(each["k"] for each in requests))
        return [{"hits": hits[: each["k"]]} for hits, each in zip(found, requests, strict=True)]


def main(argv: Sequence[str] | None = None) -> None:
    """Serve; see the module's docstring."""
    args = arguments("A search served by LitServe.", 8001).parse_args(argv)
    api = SearchAPI(args.vectors, args.encoder, max_batch_size=32, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=False)
    server.run(host="127.0.0.1", port=args.port, num_api_servers=1, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
