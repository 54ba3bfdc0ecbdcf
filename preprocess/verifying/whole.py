"""Whether a bundle, a data-bin, a MODEL folder, a join, embeddings or a checkpoint are what was written.

Every byte is read. Opening them checks sizes and ranges only, because reading everything takes long.
"""

import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.base.files import sha256
from cart_fairseq.base.progress import track
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.checksums import verify_files, verify_seal
from cart_fairseq.catalogue.data_bin import REMEDY, TRIE, DataBin
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.held_files import HeldFiles
from cart_fairseq.catalogue.identifiers import IdentifierBundle
from cart_fairseq.catalogue.segments import MANIFEST
from cart_fairseq.loading.checkpoint import refuse_damaged
from cart_fairseq.loading.model_folder import has_models, load_models
from cart_fairseq.queries.codec import QueryCodec
from cart_fairseq.search.dense.stored_arrays import REMEDY as STORED_REMEDY
from cart_fairseq.search.dense.stored_arrays import STORED, stored_checksums
from preprocess.data import joined_folder
from preprocess.data.embeddings import check_embeddings, open_embeddings
from preprocess.encoders import embedded_files
from preprocess.identifiers.codec import load_codec


@dataclass(frozen=True)
class Verified:
    """What `verify` has found: nothing damaged.

    Attributes:
        path: what was verified.
        kind: `bundle`, `data-bin`, `model`, `join`, `embeddings` or `checkpoint`.
        checked: number of files, or parts of a checkpoint, whose checksums are right.
        unknown: names of files and parts for which no checksum was recorded.
    """

    path: Path
    kind: str
    checked: int
    unknown: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The result as text."""
        text = f"{self.path}: {self.kind}, {self.checked} checksums are right"
        if self.unknown:
            text += f"\nnot checked, because no checksum was recorded: {', '.join(self.unknown)}"
        return text


class _Findings:
    """What is found file by file, so that all damage is named at once."""

    def __init__(self) -> None:
        self.checked = 0
        self.unknown: list[str] = []
        self.damage: list[str] = []

    def files(self, files: HeldFiles, manifest: Mapping[str, Any], prefix: str, remedy: str) -> None:
        """Compare the checksums of a manifest's files, and of the manifest itself."""
        for name in track([each for each in files.names if each != MANIFEST], "verifying", "files"):
            self._compare(partial(_has_checksum, files, manifest, name, remedy), prefix + name)

    def seal(self, path: Path, manifest: Mapping[str, Any], name: str) -> None:
        """Compare a manifest with its own checksum."""
        self._compare(lambda: verify_seal(path, manifest), name)

    def digests(self, folder: Path, expected: Mapping[str, str], remedy: str) -> None:
        """Compare the SHA-256 of files in a folder."""
        for name in track(sorted(expected), "verifying", "files"):
            path = folder / name
            if not path.is_file() or sha256(path) != expected[name]:
                self.damage.append(f"{path}: missing, or not what its record says; {remedy}")
            else:
                self.checked += 1

    def opens(self, *steps: Callable[[], object]) -> None:
        """Note what cannot be opened or is out of range, unless damage explains it already."""
        for step in steps:
            try:
                step()
            except ValueError as error:
                if not self.damage:
                    self.damage.append(str(error))

    def _compare(self, whole: Callable[[], bool], name: str) -> None:
        try:
            if whole():
                self.checked += 1
            else:
                self.unknown.append(name)
        except CatalogueError as error:
            self.damage.append(str(error))

    def result(self, path: Path, kind: str) -> Verified:
        """Return the result.

        Raises:
            ValueError: something is damaged.
        """
        if len(self.damage) == 1:
            raise ValueError(self.damage[0])
        if self.damage:
            names = ", ".join(text.split(": ")[0] for text in self.damage)
            raise ValueError(f"{path}: {len(self.damage)} files are damaged: {names}; the first: {self.damage[0]}")
        return Verified(path, kind, self.checked, tuple(self.unknown))


def _has_checksum(files: HeldFiles, manifest: Mapping[str, Any], name: str, remedy: str) -> bool:
    """Compare a file's checksum; False if none was recorded."""
    return not verify_files(files, manifest, [name], remedy)


def verify(path: str | Path) -> Verified:
    """Read all of a bundle, data-bin, MODEL folder, join, extracted embeddings or checkpoint, and compare its checksums.

    Args:
        path: a folder or file that a step of this project wrote.

    Raises:
        ValueError: something is damaged; the message names the files. Or it is none of these.
    """
    path = Path(path)
    if path.is_file():
        return _checkpoint(path)
    if (path / joined_folder.RECORD).is_file() and not (path / MANIFEST).is_file():  # a data-bin of a join has both
        return _join(path)
    if (path / embedded_files.RECORD).is_file():
        return _embeddings(path)
    if not (path / MANIFEST).is_file():
        raise ValueError(f"{path}: neither a bundle, a data-bin, a join, embeddings nor a checkpoint; check the path")
    manifest = read_json(path / MANIFEST)
    if isinstance(manifest, dict) and manifest.get("kind") == "identifiers":
        return _bundle(path)
    return _data_bin(path)


def _bundle(path: Path) -> Verified:
    found, bundle = _Findings(), IdentifierBundle.load(path)
    _check_bundle(found, bundle, "")
    return found.result(path, "bundle")


def _check_bundle(found: _Findings, bundle: IdentifierBundle, prefix: str) -> None:
    found.seal(bundle.directory / MANIFEST, bundle.manifest, prefix + MANIFEST)
    found.files(bundle.files, bundle.manifest, prefix, "build the bundle again")

    def values() -> None:
        sizes = [position.size for position in bundle.positions]
        if ((bundle.values < 0) | (bundle.values >= sizes)).any():
            raise ValueError(f"{bundle.directory}: an identifier has a value out of its position's range")

    def codec() -> None:
        if bundle.codec_settings.get("scheme") is not None:
            load_codec(bundle)

    found.opens(values, lambda: bundle.item_ids, lambda: bundle.record(0), lambda: bundle.report, codec)


def _data_bin(path: Path) -> Verified:
    found, data = _Findings(), DataBin(path)
    found.seal(data.directory / MANIFEST, data.manifest, MANIFEST)
    remedy = "export it again with python -m cart_fairseq.export" if has_models(data) else REMEDY
    found.files(data.files, data.manifest, "", remedy)
    _check_bundle(found, data.bundle, "identifiers/")
    if data.encoder_files is not None:
        found.files(data.encoder_files, data.manifest["text_encoder"], f"{data.encoder_files.folder.name}/", remedy)
    for folder in sorted((path / STORED).iterdir()) if (path / STORED).is_dir() else ():
        if not folder.is_dir() or folder.name.startswith("."):  # not ours, or of a process that was killed
            continue
        recorded = stored_checksums(folder)
        found.digests(folder, recorded, STORED_REMEDY)
        others = (each.name for each in folder.iterdir() if each.suffix == ".npy" and each.name not in recorded)
        found.unknown += [f"{STORED}/{folder.name}/{name}" for name in sorted(others)]
    found.opens(
        lambda: _check_trie(data),
        lambda: [data.queries(subset) for subset in data.subsets],
        lambda: [data.candidates(name) for name in data.candidate_names],
        lambda: _check_rows_of(data),
        lambda: QueryCodec(data) if data.has_captions else None,
    )
    if has_models(data):
        found.opens(lambda: load_models(data))
    return found.result(path, "model" if has_models(data) else "data-bin")


def _check_rows_of(data: DataBin) -> None:
    if data.dense_items is not None:
        data.dense_items.check()


def _check_trie(data: DataBin) -> None:
    trie = data.trie
    trie.check(data.directory / TRIE, len(data.bundle))
    for part in torch.arange(len(trie)).split(1 << 20):
        data.refuse_wrong(trie.rows[part].long().numpy(), trie.symbols(part).numpy())


def _join(path: Path) -> Verified:
    found, record = _Findings(), joined_folder.read_record(path)
    found.digests(path, record["files"], joined_folder.REMEDY)
    found.opens(*_rows(path / name for name in (joined_folder.ITEMS, joined_folder.ALIGNED)))
    found.opens(lambda: joined_folder.read_parts(path, record))
    return found.result(path, "join")


def _embeddings(path: Path) -> Verified:
    found, record = _Findings(), embedded_files.read_record(path / embedded_files.RECORD)
    found.digests(path, record["files"], "extract the embeddings again")
    found.opens(*_rows([path / embedded_files.EMBEDDINGS]))
    return found.result(path, "embeddings")


def _rows(paths: Iterable[Path]) -> list[Callable[[], object]]:
    """For each file that is there, a check of its values."""
    return [partial(_check_rows, path) for path in paths if path.is_file()]


def _check_rows(path: Path) -> None:
    check_embeddings(open_embeddings(path, check=False), path)


def _checkpoint(path: Path) -> Verified:
    """Check a checkpoint's archive, settings and weights, without its data-bin."""
    from cart_fairseq.tasks import plugin  # noqa: F401 - registers the names in a checkpoint, before fairseq
    from cart_fairseq.tasks.checked_checkpoints import load_checked

    try:
        state = load_checked(str(path))
    except ValueError:
        refuse_damaged(path)  # says more
        raise
    except Exception:
        refuse_damaged(path)
        raise
    if not zipfile.is_zipfile(path):
        return Verified(path, "checkpoint", 0, (f"{len(state['model'])} weights in a file of an earlier torch",))
    with zipfile.ZipFile(path) as archive:  # reading it has compared the checksums
        return Verified(path, "checkpoint", len(archive.infolist()), ())
