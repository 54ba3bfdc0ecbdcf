"""The whole path with the commands of an installation, in a folder of its own: data, training, a request to the service."""

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ("red", "green", "blue", "dog", "cat", "bird", "tree", "house", "runs", "sleeps", "jumps", "near")
ITEMS = 96
IDENTIFIERS = "--embeddings embeddings.npy --items items.jsonl --output identifiers --scheme residual-kmeans"
SMALL = "--kmeans-clusters 4 --codebook-size 4"
BINARIZE = "--identifiers identifiers --captions captions.jsonl --output data-bin --vocab-size 60"
TRAIN = (
    "data-bin --task cart_retrieval --arch cart_tiny --criterion cart_rdrop --optimizer adam --lr 0.01 --batch-size 32 "
    "--max-update 4 --save-dir checkpoints --cpu --num-workers 0 --disable-validation"
)
EXPORT = "--data data-bin --path checkpoints/checkpoint_last.pt --output MODEL"
WRITTEN = ("identifiers", "data-bin", "checkpoints/checkpoint_last.pt", "MODEL")


@dataclass(frozen=True)
class Installation:
    """An installation to try.

    Attributes:
        scripts: the folders of its commands.
        folder: the folder to work in, outside of any checkout.
        path: PYTHONPATH of its commands; empty if the environment of the scripts has all.
    """

    scripts: tuple[Path, ...]
    folder: Path
    path: str = ""

    def environment(self) -> dict[str, str]:
        """The variables of its commands."""
        places = os.pathsep.join([*map(str, self.scripts), os.environ["PATH"]])
        return {**os.environ, "PATH": places, "PYTHONPATH": self.path, "OMP_NUM_THREADS": "1"}

    def run(self, *words: str, status: int = 0) -> str:
        """Run a command.

        Returns:
            What it printed, errors included.

        Raises:
            RuntimeError: it ended with another status.
        """
        done = subprocess.run(
            self.command(*words), cwd=self.folder, env=self.environment(), capture_output=True, text=True
        )
        if done.returncode != status:
            said = (done.stdout + done.stderr)[-4000:]
            raise RuntimeError(f"{' '.join(words)}: status {done.returncode}, not {status}:\n{said}")
        return done.stdout + done.stderr

    def command(self, *words: str) -> list[str]:
        """The words with the path of the program, which is that of this installation.

        Raises:
            RuntimeError: it has no such program.
        """
        for folder in self.scripts:
            if (folder / words[0]).is_file():
                return [str(folder / words[0]), *words[1:]]
        raise RuntimeError(f"{words[0]} is not installed in {', '.join(map(str, self.scripts))}")


def walk(installed: Installation) -> dict[str, Any]:
    """Build identifiers and a data-bin, train a few updates, export, verify, serve, and send one request.

    Returns:
        The answer of the service.
    """
    write_data(installed.folder)
    installed.run("cart", "build-identifiers", *IDENTIFIERS.split(), *SMALL.split())
    installed.run("cart", "binarize", *BINARIZE.split())
    plugin = installed.run("cart", "user-dir").strip()
    installed.run("fairseq-train", "--user-dir", plugin, *TRAIN.split())
    installed.run("cart", "export", *EXPORT.split())
    installed.run("cart", "verify", *WRITTEN)
    with serving(installed, "--model", "MODEL") as address:
        return ask(address, {"query": "a red dog", "k": 5})


def write_data(folder: Path) -> None:
    """Write embeddings, items and captions of a small catalogue."""
    draw = np.random.default_rng(0)
    np.save(folder / "embeddings.npy", draw.standard_normal((ITEMS, 12)).astype(np.float32))
    items = [{"item_id": f"{i}.jpg", "split": "train" if i % 6 else "test"} for i in range(ITEMS)]
    captions = [{"item_id": item["item_id"], "text": " ".join(draw.choice(WORDS, 5))} for item in items * 2]
    for name, rows in (("items", items), ("captions", captions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@contextlib.contextmanager
def serving(installed: Installation, *flags: str) -> Iterator[str]:
    """Serve while the block runs; gives the address."""
    log = installed.folder / "serve.log"
    command = installed.command("cart", "serve", "--port", "0", *flags)
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=installed.folder, env=installed.environment(), stderr=file)
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"cart serve does not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield found[0]
    finally:
        process.terminate()
        process.wait(60)


def ask(address: str, request: dict[str, Any]) -> dict[str, Any]:
    """Send one search; returns the answer."""
    body = json.dumps(request).encode()
    post = urllib.request.Request(f"{address}/api/search", body, {"content-type": "application/json"})
    with urllib.request.urlopen(post, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer
