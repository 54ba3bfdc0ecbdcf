"""examples/baselines/pretrained.py: every rival runs on a small model of its class; the tables say what is missing."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from baseline_samples import read_rows
from cloned_encoders import clone, save_languagebind
from conftest import load_example, write_jsonl
from media_samples import describe, write_media
from test_baseline_single_tower import save_blip2
from tiny_encoders import save_model

pytest.importorskip("transformers")
pytest.importorskip("faiss")
obtainable = load_example("baselines", "obtainable")
pretrained = load_example("baselines", "pretrained")
published = load_example("baselines", "published")
SUFFIX = {"image": "png", "audio": "wav", "video": "mp4"}
DATASET = {"image": "flickr30k", "audio": "clotho", "video": "msrvtt"}
TINY = {"clip": "clip", "siglip2": "siglip2", "clap": "clap", "pe-av": "pe_av"}
LIBRARIES = {"openclip": ["open_clip"], "mobileclip": ["open_clip", "timm"], "mobileclip2": ["open_clip", "timm"]}
LIBRARIES |= {"pe-av": ["timm", "torchvision"]}
CASES = [(rival.key, modality) for rival in obtainable.RIVALS for modality in rival.modalities]
TEST_ITEMS = 5


def write_data(folder: Path, modality: str) -> Path:
    """Five test items with two queries each, and two training items whose media are missing."""
    items: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    for number in range(TEST_ITEMS + 2):
        name, test = f"{number}.{SUFFIX[modality]}", number < TEST_ITEMS
        items.append(
            {"item_id": name, "split": "test" if test else "train", "modality": modality, "media": f"m/{name}"}
        )
        captions += [
            {"item_id": name, "text": text.lower(), "role": "query" if test else "train", "caption_id": f"{name}#{i}"}
            for i, text in enumerate(describe(number, 2))
        ]
        if test:
            write_media(folder / "m" / name, number)
    write_jsonl(folder / "items.jsonl", items)
    write_jsonl(folder / "captions.jsonl", captions)
    return folder


def save_openclip(folder: Path, mobile: bool) -> Path:
    """OpenCLIP in miniature, or MobileCLIP's class: FastViT (not small) beside a small text tower that is not causal."""
    import open_clip

    text = {"width": 16, "layers": 2, "context_length": 16, "vocab_size": 49408, "heads": 2}
    vision: dict[str, Any] = {"width": 16, "layers": 2, "image_size": 32, "patch_size": 16, "head_width": 8}
    model: dict[str, Any] = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    if mobile:
        tower = {"timm_model_name": "fastvit_mci0", "timm_model_pretrained": False, "timm_pool": "avg"}
        model |= {"vision_cfg": tower | {"timm_proj": None, "image_size": 64}, "custom_text": True}
        model |= {"text_cfg": text | {"no_causal_mask": True}}
    folder.mkdir()
    config = {"model_cfg": model, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    kind = open_clip.CustomTextCLIP if mobile else open_clip.CLIP
    towers = {"vision_cfg": open_clip.CLIPVisionCfg(**model["vision_cfg"]), "text_cfg": open_clip.CLIPTextCfg(**model["text_cfg"])}  # fmt: skip
    torch.save(kind(8, **towers).state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def small_weights(key: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Weights of a small model of a rival, as --weights takes them."""
    if key in TINY:
        return str(save_model(TINY[key], folder))
    if key == "blip2":
        return str(save_blip2(folder))
    if key in LIBRARIES:
        return f"local-dir:{save_openclip(folder, mobile=key != 'openclip')}"
    clone(key.partition("-")[0], folder.parent / "clone", monkeypatch)
    if key == "imagebind":
        from imagebind.models.imagebind_model import imagebind_huge

        torch.save(imagebind_huge().state_dict(), folder.with_suffix(".pth"))
        return str(folder.with_suffix(".pth"))
    return str(save_languagebind(key.partition("-")[2], folder))


def call(data: Path, output: Path, dataset: str, *flags: str) -> dict[str, Any]:
    arguments = [
        "--dataset",
        dataset,
        "--data",
        str(data),
        "--output",
        str(output),
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    pretrained.main([*arguments, *flags])
    return {row["key"] or row["scheme"]: row for row in json.loads((output / "tables.json").read_text())["rows"]}


def absent(key: str, folder: Path) -> str:
    """A value of --weights that names nothing, which is found without a network."""
    return f"{key}={'local-dir:' if key in LIBRARIES and key != 'pe-av' else ''}{folder / 'absent'}"


@pytest.mark.parametrize(("key", "modality"), CASES, ids=[" ".join(case) for case in CASES])
def test_every_rival_runs_on_a_small_model(key, modality, tmp_path, monkeypatch, capsys):
    missing = [name for name in LIBRARIES.get(key, []) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{key} needs {' and '.join(missing)}, not installed here")
    data, output = write_data(tmp_path / "data", modality), tmp_path / "out"
    weights = small_weights(key, tmp_path / "model", monkeypatch)
    given = ["--only", key, "--weights", f"{key}={weights}"]
    rows = call(data, output, DATASET[modality], *given)
    own = rows[key]
    assert "not_run" not in own, own
    assert (own["queries"], own["candidates"]) == (2 * TEST_ITEMS, TEST_ITEMS)
    assert 0 <= own["recall_at_1"] <= own["recall_at_5"] == 100.0
    assert own["weights"].endswith(weights)
    others = [rival.key for rival in obtainable.RIVALS if modality in rival.modalities and rival.key != key]
    assert [rows[each]["not_run"] for each in others] == ["not in --only"] * len(others)
    run = (output / f"run.{key}.test.trec").read_text().splitlines()
    assert len(run) == 2 * TEST_ITEMS * TEST_ITEMS

    printed = capsys.readouterr().out
    name = next(rival.name for rival in obtainable.RIVALS if rival.key == key)
    [line] = [line for line in printed.splitlines() if line.startswith(f"| {name} |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == own["weights"]
    assert cells[2] == f"{own['recall_at_1']:.1f}"
    # the row is kept by a call for another rival, here one without weights
    again = call(
        data, output, DATASET[modality], "--only", others[0], "--weights", given[3], absent(others[0], tmp_path)
    )
    assert again[key] == own
    assert "absent" in again[others[0]]["weights"]
    assert again[others[0]]["not_run"] != "not in --only"


def test_towers_find_what_they_can_tell_apart(tmp_path, monkeypatch):
    """The order is that of cosines, whatever the weights: ranks equal a hand computation."""
    data, output = write_data(tmp_path / "data", "image"), tmp_path / "out"
    weights = small_weights("clip", tmp_path / "model", monkeypatch)
    rows = call(data, output, "mscoco", "--only", "clip", "--weights", f"clip={weights}")
    items, texts = np.load(output / "clip" / "items" / "embeddings.npy"), np.load(output / "clip" / "queries.npy")
    best = (texts @ items.T).argmax(1)
    right = 100 * np.mean(best == np.repeat(np.arange(TEST_ITEMS), 2))
    assert rows["clip"]["recall_at_1"] == pytest.approx(right)
    assert [row["text"] for row in read_rows(output / "measured.queries.jsonl")] == [
        text.lower() for number in range(TEST_ITEMS) for text in describe(number, 2)
    ]


def test_the_results_may_lie_beside_the_data(tmp_path):
    data = write_data(tmp_path / "data", "image")
    before = {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()}
    call(data, data, "flickr30k", "--only", "clip", "--weights", absent("clip", tmp_path))
    assert {name: (data / name).read_bytes() for name in before} == before


def test_the_tables_name_every_system_of_the_paper(tmp_path, capsys):
    data, output = write_data(tmp_path / "data", "image"), tmp_path / "out"
    wrong = [absent(rival.key, tmp_path) for rival in obtainable.RIVALS]
    rows = call(data, output, "flickr30k", "--weights", *wrong)
    assert all("not_run" in row for row in rows.values())
    assert "absent: cannot be loaded" in rows["clip"]["not_run"]
    printed = capsys.readouterr().out
    for number in (1, 2, 3):
        part = printed.split(f"### {published.TITLES[number]}")[1].split("###")[0]
        for each in published.FIGURES[number]["flickr30k"]:
            figures = " | ".join("–" if value is None else str(value) for value in each[1:5])
            [line] = [line for line in part.splitlines() if line.endswith(f"| {figures} |")]
            assert line.startswith(f"| {each.method} – not run: ".replace(" (huge)", ""))
    assert "InternVL-G – not run: its weights need code" in printed
    [line] = [line for line in printed.splitlines() if line.startswith("| SigLIP 2 ")]
    assert line.endswith("| not in the paper |  |  |  |")


def test_every_row_of_the_paper_is_covered_once():
    rivals = [rival.published for rival in obtainable.RIVALS if rival.published]
    runs = [name for names in obtainable.RUNS.values() for name in names.values()]
    covered = {*rivals, *obtainable.NOT_CARRIED, *runs}
    assert not set(rivals) & set(obtainable.NOT_CARRIED)
    assert covered == {each.method for sets in published.FIGURES.values() for rows in sets.values() for each in rows}
    for rival in obtainable.RIVALS:
        pretrained.build_parser().parse_args(
            ["--dataset", "msvd", "--data", "d", "--output", "o", "--only", rival.key, "--weights", f"{rival.key}=x"]
        )


def test_wrong_calls(tmp_path, capsys):
    data = write_data(tmp_path / "data", "image")
    with pytest.raises(ValueError, match="--weights gpt=x: give KEY=NAME with KEY one of blip2, clip"):
        call(data, tmp_path / "out", "flickr30k", "--weights", "gpt=x")
    with pytest.raises(SystemExit, match="2"):
        call(data, tmp_path / "out", "flickr30k", "--only", "gpt")
    for flag, value in (("--batch-size", "0"), ("--workers", "-3"), ("--rerank", "0")):
        with pytest.raises(ValueError, match=f"{flag} is {value}; it must be a whole number"):
            call(data, tmp_path / "out", "flickr30k", flag, value)
    items = read_rows(data / "items.jsonl")
    write_jsonl(data / "items.jsonl", [items[0] | {"modality": "audio"}, *items[1:]])
    with pytest.raises(ValueError, match=r"items\.jsonl: items of audio and image; give data of one modality"):
        call(data, tmp_path / "out", "flickr30k")
