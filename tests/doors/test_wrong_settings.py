"""Settings of another type, and settings with values of another type, are refused in one sentence by every step."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

import preprocess.api
from cart_fairseq.base.checks import short
from cart_fairseq.base.settings import EvaluationSettings, TuningSettings
from cart_fairseq.steps.evaluation import evaluate
from cart_fairseq.steps.tuning import tune
from preprocess.api import (
    AddSettings,
    AnnotationSettings,
    CaptionSettings,
    DataBinSettings,
    EmbeddingSettings,
    FolderSettings,
    IdentifierSettings,
    InspectionSettings,
    JoinSettings,
)

FUNCTIONS = [
    function
    for function in [*(getattr(preprocess.api, name) for name in preprocess.api.__all__), evaluate, tune]
    if inspect.isfunction(function) and "settings" in inspect.signature(function).parameters
]
REQUIRED: dict[type, dict[str, Any]] = {
    EmbeddingSettings: {"encoder": "clip"},
    CaptionSettings: {"captioner": "blip"},
}
SETTINGS = [
    AddSettings,
    AnnotationSettings,
    CaptionSettings,
    DataBinSettings,
    EmbeddingSettings,
    EvaluationSettings,
    FolderSettings,
    IdentifierSettings,
    InspectionSettings,
    JoinSettings,
    TuningSettings,
]
FIELDS = [(kind, field.name) for kind in SETTINGS for field in dataclasses.fields(kind)]


@pytest.mark.parametrize("found", [{"seed": 2}, {}, "fast", 3, IdentifierSettings, AddSettings()], ids=repr)
@pytest.mark.parametrize("keyword", [True, False])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_settings_of_another_type_are_refused(function: Any, keyword: bool, found: Any):
    if function.__name__ == "add" and isinstance(found, AddSettings):
        found = DataBinSettings()
    parameters = inspect.signature(function).parameters
    paths = [f"/nowhere/{name}" for name in [*parameters][: [*parameters].index("settings")]]
    wanted = str(parameters["settings"].annotation).partition(" |")[0].rpartition(".")[2].strip("'>")
    with pytest.raises(TypeError) as caught:
        function(*paths, settings=found) if keyword else function(*paths, found)
    assert str(caught.value) == f"{function.__name__}: settings is {short(found)}; give {wanted}(…)"


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_what_is_no_path_is_refused_with_the_name_of_the_argument(function: Any):
    first, *others = [*inspect.signature(function).parameters][
        : [*inspect.signature(function).parameters].index("settings")
    ]
    wanted = "a text" if first == "reader" else "a path"
    for value, shown in ((3, "3"), (np.zeros((9, 9)), "an object of type ndarray")):
        with pytest.raises(TypeError) as caught:
            function(value, *[f"/nowhere/{name}" for name in others])
        assert str(caught.value) == f"{function.__name__}: {first} is {shown}; give {wanted}"


@pytest.mark.parametrize("files", ["dataset.json", {"annotations": None}, ["dataset.json"]], ids=repr)
def test_annotation_files_of_another_type_are_refused(files: Any, tmp_path: Path):
    with pytest.raises(TypeError, match=r"^read_annotations: files is .*give a path for each name"):
        preprocess.api.read_annotations("karpathy", files, tmp_path / "out")


def test_every_step_is_among_them():
    names = {function.__name__ for function in FUNCTIONS}
    assert names == {
        *("add", "binarize", "build_identifiers", "evaluate", "extract_embeddings", "extract_text_embeddings"),
        *("generate_captions", "inspect_identifiers", "join_captions", "read_annotations", "read_folder"),
        "tune",
    }


@pytest.mark.parametrize("value", [object(), b"1", 1 + 2j, {"a": 1}, {"a": 10**5000}], ids=range(5))
@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
def test_values_of_another_type_are_refused(kind: Any, name: str, value: Any):
    with pytest.raises(ValueError, match=rf"^--{name.replace('_', '-')} is ") as caught:
        kind(**REQUIRED.get(kind, {}) | {name: value})
    assert short(value) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "value", "said"),
    [
        (IdentifierSettings, "epochs", "3", "it must be a whole number"),
        (IdentifierSettings, "epochs", 3.0, "it must be a whole number"),
        (IdentifierSettings, "epochs", True, "it must be a whole number"),
        (IdentifierSettings, "unique_size", None, "it must be a whole number"),
        (IdentifierSettings, "normalize", "no", "it must be True or False"),
        (IdentifierSettings, "normalize", 1, "it must be True or False"),
        (JoinSettings, "ridge", "10", "it must be a finite number"),
        (JoinSettings, "ridge", np.float32(2), "it must be a finite number"),
        (JoinSettings, "ridge", float("nan"), "it must be a finite number"),
        (CaptionSettings, "temperature", float("inf"), "it must be a finite number"),
        (CaptionSettings, "top_p", True, "it must be a finite number"),
        (CaptionSettings, "splits", "train", "it must be a list, each a text or None"),
        (CaptionSettings, "splits", [1], "it must be a list, each a text or None"),
        (InspectionSettings, "media", 3, "it must be a text or a path or None"),
        (TuningSettings, "candidates", "everything", "it must be one of split, all"),
        (TuningSettings, "weights", 1.0, "it must be a list, each a finite number"),
        (EvaluationSettings, "dense_weight", float("nan"), "it must be a finite number or None"),
        (EvaluationSettings, "candidates", "", "give a name"),
    ],
)
def test_what_is_wrong_is_said(kind: Any, name: str, value: Any, said: str):
    with pytest.raises(ValueError, match=rf"^--{name.replace('_', '-')} is .*; {said}"):
        kind(**REQUIRED.get(kind, {}) | {name: value})


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_default_is_accepted_and_every_type_is_known(kind: Any):
    made = kind(**REQUIRED.get(kind, {}))
    assert dataclasses.replace(made) == made
    assert get_type_hints(kind).keys() == {field.name for field in dataclasses.fields(kind)}
