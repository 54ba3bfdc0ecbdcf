"""A data-bin with media and a checkpoint, for the tests of the service."""

import asyncio
import json
import shutil
import socket
import struct
import threading
import time
import wave
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi.testclient import TestClient

from cart_fairseq.serving.service import Service
from cart_fairseq.serving.settings import ServingSettings
from cart_fairseq.serving.web.application import create_app
from preprocess.api import add

OLD = Path(__file__).resolve().parents[1] / "compatibility"
WIDTH = 12
PICTURE = "a/picture of a dog?.png"
SOUND, CLIP, PAGE, SECRET = "sound", "clip", "page", "secret"
MEDIA: list[dict[str, Any]] = [
    {"item_id": PICTURE, "media": "pictures/dog.png", "year": 2020, "tags": ["dog", "old"], "seen": True},
    {"item_id": SOUND, "media": "bark.mp3", "year": 2021, "tags": ["dog"], "seen": False},
    {"item_id": CLIP, "media": "clip.bin", "year": 2021},
    {"item_id": PAGE, "media": "page.html"},
    {"item_id": SECRET, "media": "../secret.txt"},
    {"item_id": "absolute", "media": "/etc/passwd"},
    {"item_id": "link", "media": "link.png"},
    {"item_id": "folder", "media": "pictures"},
    {"item_id": "missing", "media": "no such file.png"},
    {"item_id": "drawing", "media": "drawing.svg"},
]
"""Items that are added to the 48 of the old data-bin; the last seven have no file that is served as it is named."""


def png(width: int = 2, height: int = 2) -> bytes:
    """A black picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(3 * width) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def make_media(folder: Path) -> Path:
    """Write the files of the items into FOLDER/media, and a secret beside it; return FOLDER/media."""
    media = folder / "media"
    (media / "pictures").mkdir(parents=True)
    (media / "pictures" / "dog.png").write_bytes(png())
    with wave.open(str(media / "bark.mp3"), "wb") as sound:  # its content, not its name, says what it is
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    (media / "clip.bin").write_bytes(b"\0\0\0\x18ftypisom" + bytes(range(256)) * 40)
    (media / "page.html").write_text("<script>alert(1)</script>")
    (media / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    (folder / "secret.txt").write_text("secret")
    (media / "link.png").symlink_to(folder / "secret.txt")
    return media


def copy_world(folder: Path, media: bool = False) -> Path:
    """Copy the old data-bin and its checkpoint into a folder; with the items that have media, if wanted."""
    shutil.copytree(OLD / "dense" / "data-bin", folder / "data-bin")
    shutil.copy(OLD / "dense.pt", folder / "checkpoint.pt")
    if media:
        make_media(folder)
        add_items(folder / "data-bin", MEDIA)
    return folder


def add_items(data: Path, items: list[dict[str, Any]], seed: int = 1) -> None:
    """Add items of random embeddings to a data-bin."""
    folder = data.parent / f"new.{seed}"
    folder.mkdir(exist_ok=True)
    np.save(folder / "embeddings.npy", np.random.default_rng(seed).standard_normal((len(items), WIDTH)).astype("f4"))
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    add(data, folder / "embeddings.npy", folder / "items.jsonl")


def settings(folder: Path, **options: Any) -> ServingSettings:
    """The settings of a service on a copied world."""
    chosen = {"precision": "float32", "device": "cpu", "port": 0, "poll": 0.0, **options}
    return ServingSettings(folder / "data-bin", folder / "checkpoint.pt", **chosen)


@contextmanager
def client_of(folder: Path, **options: Any) -> Iterator[TestClient]:
    """A client of a service on a copied world; `client.app.state.service` is the service."""
    with TestClient(create_app(Service(settings(folder, **options)))) as client:
        yield client


@contextmanager
def listening(service: Service) -> Iterator[int]:
    """The port of a service that answers in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        own = {"http": "h11", "loop": "asyncio", "ws": "none", "log_config": None, "timeout_keep_alive": 75}
        server = uvicorn.Server(uvicorn.Config(create_app(service), **own))  # type: ignore[arg-type]
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(60)
