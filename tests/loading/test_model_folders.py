"""MODEL folders that are damaged, of a stranger, of another version or no such folders: refused, with what to do."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cart_fairseq import CartRetriever
from cart_fairseq.base.files import sha256
from cart_fairseq.catalogue.checksums import sealed
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.loading.model_folder import architecture_entry, read_architecture
from cart_fairseq.network.config import ArchitectureConfig, NetworkConfig, StackConfig
from cart_fairseq.publishing.exporting import export
from preprocess.api import verify

OLD = Path(__file__).resolve().parents[1] / "compatibility"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(OLD / "dense.pt", OLD / "dense" / "data-bin", tmp_path_factory.mktemp("old") / "MODEL").path


@pytest.fixture
def folder(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "MODEL")
    return tmp_path / "MODEL"


def relist(folder: Path, *names: str) -> None:
    """Bring the manifest's entries of files up to date, as a stranger would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in names:
        manifest["files"][name] = {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
    path.write_text(json.dumps(sealed(manifest)))


def configure(folder: Path, change: Any) -> None:
    """Change config.json."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    relist(folder, "config.json")


def reweigh(folder: Path, change: Any) -> None:
    """Change the weights."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    relist(folder, "model.safetensors")


def refused(folder: Path, match: str) -> None:
    with pytest.raises(CatalogueError, match=match):
        CartRetriever.from_pretrained(folder)


def test_a_folder_is_whole(folder):
    found = verify(folder)
    assert found.kind == "model"
    assert found.unknown == ("identifiers/manifest.json",)  # as in the old data-bin
    assert CartRetriever.from_pretrained(folder).search(["a red dog"])[0]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "trie.safetensors", "sentencepiece.model"])
def test_a_file_that_is_cut_off_or_missing_is_refused(name, folder):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    refused(folder, f"{name}: {len(content) - 1} bytes, the manifest says")
    if name != "config.json":
        (folder / name).unlink()
        refused(folder, f"{name}: missing")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_byte_is_found_by_verify(name, folder):
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: sha256 is"):
        verify(folder)


def test_a_changed_record_of_stored_queries_is_found_by_verify(folder):
    (path,) = (folder / "search").glob("queries.*/vectors.npy")
    vectors = np.load(path)
    vectors[0, 0] += 1
    np.save(path, vectors)
    with pytest.raises(ValueError, match=r"vectors.npy: missing, or not what its record says"):
        verify(folder)


NETWORK = ["models", 0, "network"]
CONFIGS: list[tuple[list[Any], Any, str]] = [
    (["format"], "other", "is not the settings of a model of this project"),
    (["format_version"], 2, "format_version is 2, this version reads 1; install a newer version"),
    (["format_version"], 0, "format_version is 0, this version reads 1; export the model again"),
    (["format_version"], True, "format_version is True, not a whole number"),
    (["models"], [], "names 0 models"),
    (["models"], [{}] * 100, "names 100 models"),
    (["models"], [{}] * 2, "config.json: its settings have no section 'network'"),
    (["models", 0], "all", "its settings have no section 'network'"),
    ([*NETWORK, "encoder"], 5, "its settings have no section 'encoder'"),
    ([*NETWORK, "encoder", "layers"], 1 << 40, "its setting encoder_layers is"),
    ([*NETWORK, "encoder", "layers"], 3, "its weights lack encoder"),
    ([*NETWORK, "decoder", "embed_dim"], 1 << 19, "its settings are of a model of"),
    ([*NETWORK, "decoder", "embed_dim"], 8, "has shape"),
    ([*NETWORK, "decoder", "layers"], -1, "its setting decoder_layers is -1"),
    ([*NETWORK, "decoder", "layers"], 2.5, "its setting layers is 2.5"),
    ([*NETWORK, "decoder", "attention_heads"], 3, "config.json: |model.safetensors: "),
    ([*NETWORK, "max_source_positions"], 1 << 30, "its setting max_source_positions is"),
    ([*NETWORK, "activation_fn"], "__import__('os')", "its setting activation_fn is"),
    ([*NETWORK, "fusion"], "${oc.env:HOME}", "its setting fusion is"),
    ([*NETWORK, "fusion"], None, "its setting fusion is None"),
    ([*NETWORK, "new_option"], 1, "its setting new_option is unknown; a newer version may know it"),
    ([*NETWORK, "dropout"], "0.1", "its setting dropout is '0.1'"),
    (["models", 0, "dense_dim"], 1 << 30, "its setting dense_dim is"),
    (["models", 0, "dense_dim"], 4, "its weight dense."),
    (["models", 0, "dense_dim"], 0, "its weights have dense."),
    (["models", 0, "media_positions"], 4, "its settings are of a model that reads embeddings|its weights lack reader"),
    (["models", 0, "media_positions"], -4, "config.json: |model.safetensors: "),
    (["models", 0, "pretrained"], True, "there is no folder text-encoder"),
    (["models", 0, "pretrained"], "yes", "its setting pretrained is 'yes'"),
]


@pytest.mark.parametrize(("place", "value", "match"), CONFIGS, ids=lambda each: str(each)[:40])
def test_settings_that_no_export_writes_are_refused(place, value, match, folder):
    def change(config: Any) -> None:
        *inner, last = place
        for key in inner:
            config = config[key]
        config[last] = value

    configure(folder, change)
    refused(folder, match)


def test_broken_settings_are_refused(folder):
    (folder / "config.json").write_text("{" * 200)
    relist(folder, "config.json")
    refused(folder, r"config.json: ")


WEIGHTS: list[tuple[str, Any, str]] = [
    ("decoder.embed_tokens.weight", None, "its weights lack decoder.embed_tokens.weight"),
    ("more", torch.zeros(2), "its weights have more, which its settings do not need"),
    ("level_discount", torch.tensor(2.0), "its weight level_discount is 2"),
    ("dense.weight", torch.tensor(float("nan")), "its weight dense.weight holds NaN"),
    ("data_fingerprint", torch.zeros(32), "its weights belong to other identifiers"),
    ("data_fingerprint", None, "its weights belong to other identifiers"),
    ("encoder.embed_tokens.weight", torch.zeros(1, 16), "encoder.embed_tokens.weight has shape"),
    ("calibration", torch.full((6,), -1.0), "its weight calibration is"),
]


@pytest.mark.parametrize(("name", "value", "match"), WEIGHTS, ids=lambda each: str(each)[:30])
def test_weights_that_do_not_fit_are_refused(name, value, match, folder):
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights.pop(name, None)
        if value is not None:
            weights[name] = value

    reweigh(folder, change)
    refused(folder, rf"model.safetensors: .*{match}.*; export the model again")


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 64, (1 << 62).to_bytes(8, "little") + b"{}", b"PK\3\4" + b"\0" * 90]
)
def test_a_file_that_is_no_safetensors_is_refused(content, folder):
    (folder / "model.safetensors").write_bytes(content)
    relist(folder, "model.safetensors")
    refused(folder, r"model.safetensors: ")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", ".hidden", "a/b.npy"])
def test_names_that_lead_out_are_refused(name, folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 0}
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))
    refused(folder, "which is none of ours; do not use what a stranger changed")


def test_other_embeddings_than_those_of_the_items_are_refused(folder):
    """The first file asks for an item tower of many gigabytes, and has no rows."""
    path = folder / "dense.embeddings.npy"
    np.save(path, np.zeros((0, 1 << 34), dtype=np.float16))
    relist(folder, path.name)
    refused(folder, r"dense.embeddings.npy: float16 of shape \(0, .*expected float16 or float32 with 48 rows")
    np.save(path, np.zeros((48, 1 << 16), dtype=np.float16))
    relist(folder, path.name)
    refused(folder, "its weight dense.item_tower.* has shape")


def test_rows_that_are_no_items_are_found_by_verify(folder):
    trie = load_file(folder / "trie.safetensors")
    with safe_open(folder / "trie.safetensors", "pt") as file:
        metadata = file.metadata()
    trie["rows"][5] = 48
    save_file(trie, folder / "trie.safetensors", metadata)
    relist(folder, "trie.safetensors")
    with pytest.raises(ValueError, match=r"trie.safetensors: names rows from 0 to 48"):
        verify(folder)


def test_stored_queries_of_another_width_are_refused(folder):
    (path,) = (folder / "search").glob("queries.*/vectors.npy")
    (priors,) = (folder / "search").glob("priors.*")
    shutil.rmtree(priors)
    np.save(path, np.zeros((3, 5), dtype=np.float32))
    with pytest.raises(CatalogueError, match=r"vectors.npy: holds float32 of shape \(3, 5\)"):
        CartRetriever.from_pretrained(folder, prior_share=0.5).search(["a red dog"])


def test_what_is_no_model_folder_says_what_to_do(tmp_path):
    (tmp_path / "empty").mkdir()
    cases = {
        tmp_path / "none": "no such MODEL folder; make one with python -m cart_fairseq.export",
        tmp_path / "empty": "no config.json and manifest.json, so this is no MODEL folder",
        OLD / "dense.pt": "is a file, no MODEL folder; for a checkpoint, give its data-bin as data",
        OLD / "dense" / "data-bin": "holds no model; give a checkpoint, with this folder as data",
    }
    for path, match in cases.items():
        with pytest.raises(ValueError, match=match):
            CartRetriever.from_pretrained(path)


def test_a_model_folder_with_a_data_bin_says_that_it_needs_none(folder):
    with pytest.raises(ValueError, match="is a MODEL folder, which has its own catalogue; leave out the data-bin"):
        CartRetriever.from_pretrained(folder, data=OLD / "dense" / "data-bin")


def test_settings_survive_json():
    network = NetworkConfig(StackConfig(2, 16), StackConfig(4, 8, learned_pos=True), fusion="coarse", dropout=0)
    given = ArchitectureConfig(network, 8, 2, True)
    assert read_architecture(json.loads(json.dumps(architecture_entry(given)))) == given
    assert read_architecture({"network": {"encoder": {}, "decoder": {}}}) == ArchitectureConfig()
