"""Packages with the interface of ImageBind's and LanguageBind's code, which are no dependencies, around tiny networks.

They stand for a user's clone: names, signatures, shapes and outputs are those of the real packages, whose own classes
are used where they are installed (`tests/encoders/test_cloned.py`). What they compute is meaningless.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from cart_fairseq.base.libraries import hide_broken_torchaudio

IMAGEBIND_MODEL = """
import torch
from torch import nn

INPUTS = {"vision": 3, "audio": 1}


class ImageBindModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.modality_heads = nn.ModuleDict({"vision": nn.Sequential(nn.Identity(), nn.Linear(12, 8))})
        self.heads = nn.ModuleDict({"audio": nn.Linear(4, 8), "text": nn.Embedding(256, 8)})

    def forward(self, inputs):
        outputs = {}
        for name, values in inputs.items():
            if name == "text":
                outputs[name] = self.heads["text"](values).mean(1)
                continue
            clips = values.ndim >= 5
            shape = values.shape[:2]
            values = values.reshape(-1, *values.shape[2:]) if clips else values
            if values.ndim == 5:
                values = values.mean(2)
            assert values.shape[1] == INPUTS[name]
            head = self.modality_heads["vision"] if name == "vision" else self.heads["audio"]
            out = head(nn.functional.adaptive_avg_pool2d(values, 2).flatten(1))
            outputs[name] = out.reshape(*shape, -1).mean(1) if clips else out
        return outputs


def imagebind_huge(pretrained=False):
    assert not pretrained, "there is no network"
    torch.manual_seed(0)
    return ImageBindModel()
"""
IMAGEBIND_DATA = """
import torch


def waveform2melspec(waveform, sample_rate, num_mel_bins, target_length):
    spectrum = waveform.diff(dim=1).unfold(1, 400, 160).square().mean(2)[:, None]
    return torch.nn.functional.interpolate(spectrum, target_length).expand(1, num_mel_bins, target_length)


def uniform_crop(images, size, spatial_idx, boxes=None, scale_size=None):
    scaled = torch.nn.functional.interpolate(images, (scale_size, 2 * scale_size))
    start = spatial_idx * (scaled.shape[3] - size) // 2
    return scaled[..., start : start + size], boxes


def load_and_transform_text(text, device):
    letters = [[ord(letter) % 256 for letter in line[:77].ljust(77)] for line in text]
    return torch.tensor(letters, device=device)
"""
LANGUAGEBIND_MODEL = """
import json
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

SHAPES = {"image": (3, 224, 224), "video": (3, 8, 224, 224), "audio": (3, 112, 1036)}


class LanguageBindKIND(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = SimpleNamespace(**config | {"vision_config": SimpleNamespace(**config["vision_config"])})
        torch.manual_seed(0)
        self.visual_projection, self.text = nn.Linear(12, 8), nn.Embedding(config["vocabulary"], 8)

    @classmethod
    def from_pretrained(cls, name, cache_dir=None):
        return cls(json.loads((Path(name) / "config.json").read_text()))

    def get_image_features(self, pixel_values=None):
        assert pixel_values.shape[1:] == SHAPES["KIND".lower()]
        flat = pixel_values.flatten(2, 3) if pixel_values.ndim == 5 else pixel_values
        return self.visual_projection(nn.functional.adaptive_avg_pool2d(flat, 2).flatten(1))

    def get_text_features(self, input_ids=None, attention_mask=None):
        assert input_ids.shape[1] == attention_mask.shape[1] == 77
        weights = attention_mask[..., None].float()
        return (self.text(input_ids) * weights).sum(1) / weights.sum(1)
"""
KALDI = """

def fbank(waveform, num_mel_bins=23, **settings):
    frames = waveform.diff(dim=1).unfold(1, 400, 160).square().mean(2)[0]
    return frames[:, None].expand(-1, num_mel_bins)
"""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VISION = {"num_frames": 8, "audio_sample_rate": 16000, "num_mel_bins": 112, "target_length": 1036}


def write(path: Path, text: str) -> None:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def modules_of(file: str) -> list[str]:
    """Return the module in a file without its suffix, and the packages around it.

    >>> modules_of("a/b/c")
    ['a', 'a.b', 'a.b.c']
    """
    parts = file.removesuffix("/__init__").split("/")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def forget(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Make modules be imported anew, and be as they are now after the test."""
    for module in modules:
        if module not in sys.modules:
            monkeypatch.setitem(sys.modules, module, None)  # remembered as absent
        monkeypatch.delitem(sys.modules, module)


def clone(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in of `imagebind` or `languagebind` first on the path for one test."""
    if name == "imagebind":
        files = {
            "__init__": "",
            "models/__init__": "",
            "models/imagebind_model": IMAGEBIND_MODEL,
            "data": IMAGEBIND_DATA,
        }
    else:
        files = {"__init__": "raise RuntimeError('the whole package is not to be imported')"}
        for kind in ("image", "audio", "video"):
            files[f"{kind}/modeling_{kind}"] = LANGUAGEBIND_MODEL.replace("KIND", kind.title())
    for module, text in files.items():
        write(root / name / f"{module}.py", text)
    if name == "languagebind":
        stand_in_for_torchaudio(root, monkeypatch)
        # which the stand-in does not need; other tests import the library anew, so that it is looked up here
        monkeypatch.setattr(importlib.import_module("transformers"), "__version__", "4.53.3")
    forget(monkeypatch, name, *{part for file in files for part in modules_of(f"{name}/{file}")})
    monkeypatch.syspath_prepend(str(root))


def stand_in_for_torchaudio(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide the one function of torchaudio that is used, where the installed one does not fit torch."""
    hide_broken_torchaudio()
    if importlib.util.find_spec("torchaudio") is None:
        for module, text in {"__init__": "", "compliance/__init__": "", "compliance/kaldi": KALDI}.items():
            write(root / "torchaudio" / f"{module}.py", text)
        forget(monkeypatch, "torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi")


def save_languagebind(kind: str, folder: Path) -> Path:
    """Configuration and tokenizer of a LanguageBind model."""
    vocabulary = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vision = VISION | {"audio_mean": -4.27, "audio_std": 4.57}
    config = {"model_type": f"LanguageBind{kind.title()}", "projection_dim": 8, "vocabulary": len(vocabulary)}
    write(folder / "config.json", json.dumps(config | {"vision_config": vision}))
    write(folder / "vocab.json", json.dumps({word: number for number, word in enumerate(vocabulary)}))
    write(folder / "merges.txt", "#version: 0.2\n")
    write(folder / "tokenizer_config.json", json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder
