"""A small catalogue of pictures, sounds, clips and texts, and the service on it, for the tests of the page."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
import soundfile
import uvicorn
from conftest import write_jsonl
from mixed_world import retriever
from PIL import Image, ImageDraw

from cart_fairseq.catalogue.identifiers import write_bundle
from cart_fairseq.catalogue.positions import Position, unique_positions, unique_tokens
from cart_fairseq.search.calibration import Calibration
from cart_fairseq.serving import loading
from cart_fairseq.serving.served import Served
from cart_fairseq.serving.service import Service
from cart_fairseq.serving.settings import ServingSettings
from cart_fairseq.serving.web.application import create_app
from preprocess.data_bin.build import binarize
from preprocess.encoders.extract import extract_embeddings
from preprocess.encoders.settings import EmbeddingSettings

RATE, FRAMES, OPENING = 16000, 10, 12
SKIES = [((250, 190, 120), (90, 60, 130)), ((120, 190, 240), (240, 240, 230)), ((20, 30, 70), (90, 90, 160))]
HILLS = [(40, 90, 60), (110, 80, 50), (60, 60, 90), (150, 120, 60), (30, 70, 90)]
TIMES, PLACES = ("dusk", "noon", "night"), ("woods", "fields", "mountains", "dunes", "sea")
SIZES = [(640, 480), (480, 640), (640, 360), (500, 500), (900, 300), (640, 427)]
LONG = "a-very-long-identifier-without-any-space/" + "0123456789abcdef" * 5
TWINS = ("picture 0", "picture 0 again", "picture 0 small")


def landscape(number: int, size: tuple[int, int] = (640, 480), step: int = 0) -> Image.Image:
    """Hills under a sky with a sun; `step` moves the sun."""
    width, height = size
    rng = np.random.default_rng(number)
    top, bottom = (np.array(each) for each in SKIES[number % 3])
    shade = np.linspace(0, 1, height)[:, None, None]
    picture = Image.fromarray(np.broadcast_to(top * (1 - shade) + bottom * shade, (height, width, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    x, y, r = width * rng.uniform(0.2, 0.8) + 8 * step, height * rng.uniform(0.15, 0.4), height * 0.08
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 240, 200))
    for layer in range(3):
        tall, wide, begin = height * (0.55 + 0.15 * layer), rng.uniform(1, 4), rng.uniform(0, 6)
        points = [
            (each, tall + height * 0.1 * np.sin(begin + each / width * wide * 3)) for each in range(0, width + 9, 8)
        ]
        colour = tuple(int(part * (0.6 + 0.25 * layer)) for part in HILLS[number % 5])
        draw.polygon([(0, height), *points, (width, height)], fill=colour)
    return picture


def write_clip(path: Path, number: int, codec: str = "libx264") -> None:
    """A clip of 3 s whose first OPENING frames are black; an animated picture where the name says so."""
    if path.suffix == ".webp":
        first, *rest = (landscape(number, (320, 240), step) for step in range(FRAMES))
        first.save(path, save_all=True, append_images=rest, duration=100)
        return
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=FRAMES, options={"g": "5"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for step in range(3 * FRAMES):
            shown = Image.new("RGB", (320, 240)) if step < OPENING else landscape(number, (320, 240), step)
            container.mux(stream.encode(av.VideoFrame.from_image(shown)))
        container.mux(stream.encode())


def write_sound(path: Path, number: int) -> None:
    """A melody of 4 s that fades."""
    rng = np.random.default_rng(number)
    seconds = np.arange(RATE // 2) / RATE
    notes = [
        np.sin(2 * np.pi * 220 * 2 ** (rng.integers(0, 12) / 12) * seconds) * np.exp(-rng.uniform(1, 6) * seconds)
        for _ in range(8)
    ]
    soundfile.write(path, np.concatenate(notes).astype(np.float32) / 2, RATE)


def write_items(media: Path) -> list[dict[str, Any]]:
    """Write the files of the catalogue; return the records."""
    items: list[dict[str, Any]] = []

    def add(name: str, file: str, modality: str, caption: str | None, number: int) -> None:
        record = {"item_id": name, "media": file, "modality": modality, "split": "train", "year": 2015 + number % 6}
        record["tags"] = [TIMES[number % 3], PLACES[number % 5]]
        items.append({**record, "caption": caption} if caption else record)

    for number in range(24):
        file = f"{number}.jpg"
        landscape(number, SIZES[number % len(SIZES)]).save(media / file, quality=92)
        add(f"picture {number}", file, "image", f"{PLACES[number % 5]} at {TIMES[number % 3]}".capitalize(), number)
    landscape(0, SIZES[0]).save(media / "again.jpg", quality=60)
    add(TWINS[1], "again.jpg", "image", "The same woods at dusk, saved once more", 0)
    landscape(0, SIZES[0]).resize((320, 240)).save(media / "small.png")
    add(TWINS[2], "small.png", "image", "The same woods at dusk, smaller", 0)
    for number in range(6):
        write_sound(media / f"{number}.wav", number)
        add(f"sound {number}", f"{number}.wav", "audio", f"Melody {number}, played on bells", number)
    for number in range(5):
        file = f"{number}.mp4" if number < 4 else "4.webp"
        write_clip(media / file, 30 + number)
        add(f"clip {number}", file, "video", f"The sun over {PLACES[number % 5]}, filmed", 30 + number)
    write_clip(media / "old.avi", 40, "mpeg4")
    add("old clip", "old.avi", "video", "A clip of an old camera, which browsers do not play", 40)
    for name, caption in (
        ("note 1", "A story of a sea at night that nobody has drawn yet"),
        (LONG, None),
        ("gone", "A picture that is damaged"),
    ):
        landscape(50 + len(items)).save(media / f"{len(items)}.jpg")
        add(name, f"{len(items)}.jpg", "image", caption, len(items))
    return items


def write_world(root: Path) -> Path:
    """Write media and a data-bin of their embeddings by the encoder `plain`; return the data-bin."""
    media = root / "media"
    media.mkdir()
    items = write_items(media)
    write_jsonl(media / "items.jsonl", items)
    extract_embeddings(media / "items.jsonl", root / "extracted", EmbeddingSettings("plain", workers=0))
    (media / items[-1]["media"]).write_bytes(b"no picture any more")
    del items[-3]["media"], items[-2]["media"]
    texts = [{"item_id": item["item_id"], "text": item.get("caption", "unnamed")} for item in items for _ in range(2)]
    write_jsonl(root / "captions.jsonl", texts)
    codes = np.zeros((len(items), 1), dtype=np.int64)
    unique = unique_tokens(codes, 64)
    positions = [Position("k", 1), *unique_positions(unique.shape[1], 64)]
    write_bundle(root / "identifiers", np.concatenate([codes, unique], 1), positions, items, {}, {}, {})
    binarize(
        root / "identifiers",
        root / "captions.jsonl",
        root / "data-bin",
        embeddings=root / "extracted" / "embeddings.npy",
    )
    return root / "data-bin"


@contextlib.contextmanager
def serving(
    data: Path, calibrated: Calibration | None = None, dense_dim: int = 4, **options: Any
) -> Iterator[tuple[str, Service]]:
    """Serve a data-bin with a model of random weights; yield the address and the service."""
    own = retriever(data, dense_dim=dense_dim)
    own.calibration = calibrated
    settings = ServingSettings(data, "checkpoint.pt", media_root=data.parent / "media", poll=0, device="cpu", **options)
    with (
        mock.patch.object(loading, "load", return_value=Served(own)),
        mock.patch.object(loading, "stamps_of", return_value=None),
    ):
        service = Service(settings)
    with listening(service) as address:
        yield address, service


@contextlib.contextmanager
def serving_examples(data: Path) -> Iterator[str]:
    """Serve the items of the world without captions and without a model; yield the address."""
    root = data.parent
    binarize(root / "identifiers", None, root / "bare", embeddings=root / "extracted" / "embeddings.npy")
    with listening(Service(ServingSettings(root / "bare", media_root=root / "media", poll=0, device="cpu"))) as address:
        yield address


@contextlib.contextmanager
def listening(service: Service) -> Iterator[str]:
    """Answer requests; yield the address."""
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_level="error", ws="none", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
