"""A small world with every kind of file that our commands read, the commands that read them, and ways to damage a file."""

import gzip
import io
import json
import lzma
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import annotation_samples
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cart_fairseq import evaluate
from cart_fairseq.base.files import write_jsonl
from preprocess import binarize, build_identifiers, join_captions, update_identifiers
from preprocess.annotations import __main__ as annotations

OLD = Path(__file__).resolve().parents[1] / "compatibility"
sys.path.append(str(OLD))
import old_catalogue  # noqa: E402

Damage = Callable[[bytes], bytes | None]
"""From the bytes of a file to others; None: the file is removed."""
KINDS = "--scheme residual-kmeans --kmeans lloyd --kmeans-clusters 4 --codebook-size 4 --unique-size 8"
COMMANDS: dict[str, tuple[Callable[[Sequence[str]], None], str]] = {
    "build": (build_identifiers.main, f"--embeddings in/embeddings.npy --items in/items.jsonl --output out {KINDS}"),
    "build from a table": (
        build_identifiers.main,
        f"--embeddings in/table.parquet --items in/items.jsonl --output out {KINDS}",
    ),
    "build from Arrow": (
        build_identifiers.main,
        f"--embeddings in/table.arrow --items in/items.jsonl --output out {KINDS}",
    ),
    "binarize": (binarize.main, "--identifiers bundle --captions in/captions.jsonl --output out --vocab-size 64"),
    "binarize a join": (
        binarize.main,
        "--identifiers data-bin/identifiers --captions in/captions.jsonl --output out --vocab-size 64 --embeddings joined",
    ),
    "join": (
        join_captions.main,
        "--like joined --embeddings in/embeddings.npy --items in/items.jsonl --captions in/captions.jsonl --output out",
    ),
    "add": (update_identifiers.main, "add --data-bin plain --embeddings in/new.npy --items in/new.jsonl"),
    "remove": (update_identifiers.main, "remove --data-bin data-bin --item-ids-from in/ids.txt"),
    "search": (evaluate.main, "--data data-bin --path dense.pt --queries in/queries.jsonl --subset test --beam 5"),
    "measure": (evaluate.main, "in/generate-test.txt --data data-bin"),
    "clotho": (
        annotations.main,
        "clotho --output out --missing-media keep --train in/clotho_captions_development.csv --valid "
        "in/clotho_captions_validation.csv --test in/clotho_captions_evaluation.csv",
    ),
    "karpathy": (
        annotations.main,
        "karpathy --output out --missing-media keep --annotations in/dataset_flickr30k.json",
    ),
}


def make_world(folder: Path) -> None:
    """Write the inputs of all commands."""
    given = folder / "in"
    old_catalogue.write(given)
    shutil.copytree(OLD / "dense" / "data-bin", folder / "data-bin")
    shutil.copytree(OLD / "plain" / "data-bin", folder / "plain")
    shutil.copytree(OLD / "plain" / "data-bin" / "identifiers", folder / "bundle")
    shutil.copytree(OLD / "joined", folder / "joined")
    shutil.copyfile(OLD / "dense.pt", folder / "dense.pt")
    np.save(given / "new.npy", old_catalogue.embeddings(3, 3))
    write_jsonl(given / "new.jsonl", old_catalogue.NEW)
    (given / "ids.txt").write_text("item 1\nitem 4\n", encoding="utf-8")
    queries = [
        {"item_id": f"item {i}", "text": text, "role": "query", "split": old_catalogue.split_of(i)}
        for i, text in enumerate(old_catalogue.QUERIES)
        if old_catalogue.split_of(i) != "train"
    ]
    write_jsonl(given / "queries.jsonl", queries)
    rows = old_catalogue.embeddings()
    table = pa.table({"embedding": pa.array(rows.tolist(), pa.list_(pa.float32()))})
    pq.write_table(table, given / "table.parquet")
    with pa.ipc.new_file(given / "table.arrow", table.schema) as writer:
        writer.write_table(table)
    samples = annotation_samples.make_samples()
    annotation_samples.write_clotho(given, samples)
    annotation_samples.write_flickr30k(given, samples)
    tested = [item for item in range(old_catalogue.ITEMS) if old_catalogue.split_of(item) == "test"]
    lines = [f"D-{number}\t{-1 - place}\titem {item}\n" for number in range(16) for place, item in enumerate(tested)]
    (given / "generate-test.txt").write_text("".join(lines), encoding="utf-8")


def link_world(source: Path, target: Path) -> None:
    """Make the files of a world at a second place; commands replace files and change none."""
    shutil.copytree(source, target, copy_function=os.link)


def damage(path: Path, kind: Damage) -> None:
    """Replace a file of a linked world."""
    new = kind(path.read_bytes())
    path.unlink()
    if new is not None:
        path.write_bytes(new)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def bit(place: float) -> Damage:
    """Flip a bit somewhere in the file."""

    def flip(content: bytes) -> bytes:
        at = int(place * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]

    return flip


def header(old: bytes, new: bytes) -> Damage:
    """Replace a part of a file by another of the same length."""
    assert len(old) == len(new)

    def write(content: bytes) -> bytes:
        assert old in content, (old, content[:200])
        return content.replace(old, new, 1)

    return write


def archive(content: bytes) -> bytes:
    """An array as `numpy.savez` writes it."""
    out = io.BytesIO()
    np.savez(out, embeddings=np.load(io.BytesIO(content)))
    return out.getvalue()


def pickled(content: bytes) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}] * 48, dtype=object), allow_pickle=True)
    return out.getvalue()


def value(*keys: str | int, to: Any = ...) -> Damage:
    """Set a value in JSON, or remove it."""

    def change(content: bytes) -> bytes:
        whole = json.loads(content)
        inner = whole
        for key in keys[:-1]:
            inner = inner[key]
        if to is ...:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = to
        return json.dumps(whole).encode()

    return change


def row(number: int, **fields: Any) -> Damage:
    """Set fields of a row of a .jsonl file; None removes one."""

    def change(content: bytes) -> bytes:
        lines = content.decode().splitlines()
        found = json.loads(lines[number]) | fields
        lines[number] = json.dumps({name: each for name, each in found.items() if each is not ...})
        return ("\n".join(lines) + "\n").encode()

    return change


def line(number: int, text: bytes) -> Damage:
    """Replace a line."""

    def change(content: bytes) -> bytes:
        lines = content.split(b"\n")
        lines[number] = text
        return b"\n".join(lines)

    return change


DEEP = b'{"item_id": "item 1", "text": "x", "n": ' + b"[" * 5000 + b"]" * 5000 + b"}"
DIGITS = b'{"item_id": "item 1", "text": "x", "n": ' + b"9" * 5000 + b"}"
ANY: dict[str, Damage] = {
    "missing": lambda content: None,
    "empty": lambda content: b"",
    "cut": cut,
    "text": lambda content: b"hello\n",
    "zeros": lambda content: bytes(len(content)),
    "same size": lambda content: b"x" * len(content),
    "gzip": gzip.compress,
    "xz": lzma.compress,
}
TEXT: dict[str, Damage] = {
    "BOM": lambda content: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "Latin-1": lambda content: content + "zürich\n".encode("latin-1"),
    "CRLF": lambda content: content.replace(b"\n", b"\r\n"),
    "NUL": lambda content: content[:20] + b"\0" + content[20:],
}
LINES: dict[str, Damage] = {
    "deep": line(1, DEEP),
    "digits": line(1, DIGITS),
    "a list": line(1, b"[1]"),
    "a number": line(1, b"1e999"),
}
WHOLE: dict[str, Damage] = {
    "deep": lambda content: DEEP,
    "digits": lambda content: DIGITS,
    "a list": lambda content: b"[1]",
    "a number": lambda content: b"12",
    "null": lambda content: b"null",
    "an empty object": lambda content: b"{}",
}
NPY: dict[str, Damage] = {
    ".npz": archive,
    "pickled": pickled,
    "header too long": lambda content: content[:8] + b"\xff\xff" + content[10:],
    "header too short": lambda content: content[:8] + b"\x02\x00" + content[10:],
    "version 9": lambda content: content[:6] + b"\x09\x00" + content[8:],
    "header deep": lambda content: content[:10] + b"(" * 118 + content[128:],
    "header no tuple": header(b"'shape': (", b"'shape': ["),
}
