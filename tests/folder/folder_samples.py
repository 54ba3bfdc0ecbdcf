"""Folders as strangers have them, for the tests of `read_folder`."""

from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from cart_fairseq.base.reading import read_jsonl
from preprocess.folder.build import ReadFolder, read_folder
from preprocess.folder.settings import FolderSettings


class Lists(NamedTuple):
    """What was written: items by id, sources and texts of captions by item, reasons by path."""

    result: ReadFolder
    items: dict[str, dict[str, Any]]
    captions: dict[str, list[tuple[str, str]]]
    skipped: dict[str, str]


def lists_of(folder: Path, workers: int = 0, **settings: Any) -> Lists:
    """Read a folder into OUT beside it."""
    out = folder.parent / "out"
    result = read_folder(folder, out, FolderSettings(workers=workers, **settings))
    captions: dict[str, list[tuple[str, str]]] = {}
    for row in read_jsonl(out / "captions.jsonl"):
        captions.setdefault(row["item_id"], []).append((row["source"], row["text"]))
    skipped = {row["path"]: row["reason"] for row in read_jsonl(out / "skipped.jsonl")}
    return Lists(result, {row["item_id"]: row for row in read_jsonl(out / "items.jsonl")}, captions, skipped)


def write(path: Path, content: str | bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def picture(path: Path, colour: str = "red", **options: Any) -> Path:
    """A picture in the format of the ending, JPEG where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.suffix:
        options.setdefault("format", "JPEG")
    Image.new("RGB", (16, 16), colour).save(path, **options)
    return path


def tagged(path: Path, codec: str, tags: dict[str, str]) -> Path:
    """A short sound with tags, by FFmpeg."""
    with av.open(str(path), "w") as container:
        container.metadata.update(tags)
        stream: Any = container.add_stream(codec, rate=48000)
        stream.layout = "mono"
        kind = stream.codec_context.format.name
        data = np.zeros((1, 48000 // 10), {"s16": np.int16, "s32": np.int32, "flt": np.float32}[kind.removesuffix("p")])
        frame = av.AudioFrame.from_ndarray(data, format=kind, layout="mono")
        frame.rate = 48000
        fifo = av.AudioFifo()
        fifo.write(frame)
        while part := fifo.read(stream.codec_context.frame_size or 1024):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path
