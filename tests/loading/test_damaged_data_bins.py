"""A data-bin that cannot be used is named in the error, and not the checkpoint."""

import shutil
from pathlib import Path

import pytest

from cart_fairseq import CartRetriever
from cart_fairseq.base.files import write_json
from cart_fairseq.base.reading import read_json
from cart_fairseq.catalogue.errors import CatalogueError

OLD = Path(__file__).resolve().parents[1] / "compatibility"


def overwritten(name: str):
    """Replace a file's bytes by as many others, which the check of sizes does not notice."""

    def write(folder: Path) -> None:
        path = folder / name
        path.write_bytes(b"x" * path.stat().st_size)

    return write


def of_version(version: int, name: str):
    """The manifest says that another version of the format wrote the folder."""

    def write(folder: Path) -> None:
        write_json(folder / name, read_json(folder / name) | {"schema_version": version})

    return write


def without(key: str):
    def write(folder: Path) -> None:
        manifest = read_json(folder / "manifest.json")
        del manifest[key]
        write_json(folder / "manifest.json", manifest)

    return write


DAMAGED = {
    "item features": (overwritten("dense.embeddings.npy"), r"dense\.embeddings\.npy: damaged"),
    "query dictionary": (overwritten("dict.query.txt"), r"dict\.query\.txt: damaged"),
    "identifiers": (overwritten("identifiers/identifiers.npy"), r"identifiers\.npy: damaged"),
    "no JSON": (overwritten("manifest.json"), r"manifest\.json: not valid JSON"),
    "no fingerprint": (without("fingerprint"), r"manifest\.json: damaged \('fingerprint'\)"),
    "no list of files": (without("files"), r"manifest\.json: damaged \('files'\)"),
    "a newer format": (
        of_version(2, "manifest.json"),
        r"manifest\.json: schema_version is 2, this version reads 1; install a newer version of cart-fairseq",
    ),
    "a newer bundle": (
        of_version(2, "identifiers/manifest.json"),
        r"manifest\.json: schema_version is 2, this version reads 1; install a newer version of cart-fairseq",
    ),
    "an older format": (
        of_version(0, "manifest.json"),
        r"manifest\.json: schema_version is 0, this version reads 1; make it again with python -m preprocess\.binarize",
    ),
    "a missing file": (lambda folder: (folder / "dict.id.txt").unlink(), r"dict\.id\.txt: missing"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_data_bin_is_not_the_fault_of_the_checkpoint(tmp_path: Path, kind: str):
    damage, said = DAMAGED[kind]
    data = shutil.copytree(OLD / "dense" / "data-bin", tmp_path / "data-bin")
    damage(data)
    with pytest.raises(CatalogueError, match=rf"^{data}/.*{said}") as caught:
        CartRetriever.from_pretrained(OLD / "dense.pt", data=data)
    assert "dense.pt" not in str(caught.value)


def test_two_data_bins_are_not_the_fault_of_the_checkpoint(tmp_path: Path):
    data = OLD / "dense" / "data-bin"
    with pytest.raises(CatalogueError, match=r"^found 2 data-bins in ") as caught:
        CartRetriever.from_pretrained(OLD / "dense.pt", data=f"{data}:{data}")
    assert "dense.pt" not in str(caught.value)


def test_the_name_of_the_data_bin_does_not_decide_which_file_is_at_fault(tmp_path, monkeypatch):
    shutil.copytree(OLD / "dense" / "data-bin", tmp_path / "the")  # "the checkpoint belongs to other identifiers"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"plain\.pt: the checkpoint belongs to other identifiers") as caught:
        CartRetriever.from_pretrained(OLD / "plain.pt", data="the")
    assert not isinstance(caught.value, CatalogueError)
