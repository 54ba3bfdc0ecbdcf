"""Checksums of manifests: of the files that they list, and of the manifests themselves."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cart_fairseq.base.files import digest, sha256
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.held_files import HeldFiles

SEAL = "checksum"
"""The field of a manifest with a checksum of its other fields."""


def verify_files(files: HeldFiles, manifest: Mapping[str, Any], names: Iterable[str], remedy: str) -> list[str]:
    """Compare the SHA-256 of held files with their entries in the manifest.

    Args:
        files: the held files.
        manifest: the manifest that lists them.
        names: of the files to compare.
        remedy: the last part of the error message.

    Returns:
        The names of those without a recorded checksum, which could not be compared.

    Raises:
        CatalogueError: a checksum differs; the message names the file.
    """
    unknown = []
    for name in names:
        expected = manifest["files"].get(name, {}).get("sha256")
        if expected is None:
            unknown.append(name)
            continue
        with files.reading(name) as path:
            found = sha256(path)
        if found != expected:
            raise CatalogueError(
                f"{files.folder / name}: sha256 is {found[:12]}…, the manifest says {str(expected)[:12]}…; the file was "
                f"changed or damaged, restore it or {remedy}"
            )
    return unknown


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with its own checksum, by which `preprocess.verify` notices that it was damaged."""
    content = {name: value for name, value in manifest.items() if name != SEAL}
    return {**content, SEAL: digest(content)}


def verify_seal(path: Path, manifest: Mapping[str, Any]) -> bool:
    """Compare a manifest with its own checksum. False if it has none, as those of earlier versions.

    Raises:
        CatalogueError: they differ.
    """
    if SEAL not in manifest:
        return False
    if sealed(manifest)[SEAL] != manifest[SEAL]:
        raise CatalogueError(f"{path}: its content was changed or damaged since it was written; restore it")
    return True
