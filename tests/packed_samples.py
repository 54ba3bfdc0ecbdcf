"""Data sets in tar, Parquet and Arrow files, and folders of clip-retrieval, for tests: the layouts as published."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

MEDIUM = pa.struct({"bytes": pa.binary(), "path": pa.string()})
"""An image or a sound as `datasets` stores it."""
TIME = 1_600_000_000
WORDS = ("dog", "cat", "car", "boat", "tree", "house", "lake", "road", "bird", "horse")


def picture_bytes(colour: str | tuple[int, int, int] = "red", kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(file, kind)
    return file.getvalue()


def member(name: str, size: int, **more: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = size, TIME
    for field, value in more.items():
        setattr(info, field, value)
    return info


def write_tar(
    path: Path, members: Mapping[str, bytes | str], mode: str = "w", links: Sequence[tarfile.TarInfo] = ()
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            archive.addfile(member(name, len(data)), io.BytesIO(data))
        for info in links:
            archive.addfile(info)
    return path


def sample(key: str, colour: Any, caption: str, **meta: Any) -> dict[str, bytes | str]:
    """A sample as img2dataset writes it."""
    fields = {"url": f"http://example.com/{key}.jpg", "caption": caption, "key": key, "status": "success", **meta}
    return {f"{key}.jpg": picture_bytes(colour), f"{key}.txt": caption, f"{key}.json": json.dumps(fields, indent=4)}


def img2dataset(folder: Path, shards: int = 2, each: int = 3) -> Path:
    """The `webdataset` format: a tar file, a table without media and statistics for each shard."""
    for shard in range(shards):
        members: dict[str, bytes | str] = {}
        keys = [f"{shard:05d}{number:04d}" for number in range(each)]
        for number, key in enumerate(keys):
            members |= sample(key, (40 * shard, 40 * number, 90), f"a {WORDS[number]} in shard {shard}", width=16)
        write_tar(folder / f"{shard:05d}.tar", members)
        pq.write_table(pa.table({"url": keys, "caption": keys, "key": keys}), folder / f"{shard:05d}.parquet")
        (folder / f"{shard:05d}_stats.json").write_text("{}")
    return folder


def media_table(rows: Sequence[Mapping[str, Any]], types: Mapping[str, pa.DataType], labels: Any = None) -> pa.Table:
    """A table with the note that `datasets` keeps of its features."""
    features = {name: {"names": names, "_type": "ClassLabel"} for name, names in (labels or {}).items()}
    note = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(types, metadata=note))


def write_stream(path: Path, table: pa.Table) -> Path:
    """A file of `Dataset.save_to_disk`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def clip_retrieval(folder: Path, rows: Sequence[int] = (3, 4), width: int = 8, **columns: Any) -> Path:
    """What `clip-retrieval inference` writes, in shards of these numbers of rows."""
    values = np.random.default_rng(0).standard_normal((sum(rows), width)).astype(np.float16)
    start = 0
    for kind in ("img_emb", "text_emb", "metadata"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number, count in enumerate(rows):
        keys = [f"{number:05d}{row:04d}" for row in range(count)]
        table: dict[str, list[Any]] = {
            "image_path": [f"/data/{key}.jpg" for key in keys],
            "caption": [f"a {WORDS[row]} in part {number}" for row in range(count)],
            "key": list(keys),
            "url": [f"http://example.com/{'long' * 60}/{key}" for key in keys],
        }
        table = {name: each for name, each in (table | columns).items() if each is not None}
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", values[start : start + count])
        np.save(folder / "text_emb" / f"text_emb_{number}.npy", -values[start : start + count])
        pq.write_table(
            pa.table({name: each[:count] for name, each in table.items()}),
            folder / "metadata" / f"metadata_{number}.parquet",
        )
        start += count
    return folder
