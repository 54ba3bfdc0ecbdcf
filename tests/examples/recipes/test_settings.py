"""The environment's variables: one quoting rule for all of them."""

import dataclasses

import pytest
from conftest import load_example

settings = load_example("recipes", "settings")
FLAGS = [field.name.upper() for field in dataclasses.fields(settings.Settings) if field.name.endswith("_flags")]
HOSTILE = ["--name", "a  b", "it's", '"', "$(touch x)", "*", "", "new\nline", "~", "a|b", "back\\slash"]


def test_every_variable_of_flags_has_a_field():
    assert sorted(FLAGS) == [
        "ANNOTATION_FLAGS",
        "BINARIZE_FLAGS",
        "CAPTION_FLAGS",
        "EMBEDDING_FLAGS",
        "IDENTIFIER_FLAGS",
        "JOIN_FLAGS",
    ]


@pytest.mark.parametrize("name", [*FLAGS, "SPLIT_FLAGS", "FINE_TUNE_FLAGS"])
def test_values_are_quoted_as_in_a_shell(name):
    import shlex

    environment = {name: shlex.join(HOSTILE)}
    assert settings.words(name, environment=environment) == HOSTILE
    if name in FLAGS:
        assert getattr(settings.from_environment(environment), name.lower()) == tuple(HOSTILE)
    with pytest.raises(ValueError, match=f"^{name} is .*: no closing quotation; close every quote"):
        settings.words(name, environment={name: "--name 'a b"})


def test_an_empty_variable_is_one_that_is_not_set():
    assert settings.from_environment({"RECIPE": "", "JOIN_FLAGS": ""}) == settings.from_environment({})
    assert settings.words("FINE_TUNE_FLAGS", "--max-epoch 3", {"FINE_TUNE_FLAGS": ""}) == ["--max-epoch", "3"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RECIPE": "papers"}, "RECIPE is 'papers'; use one of paper, cuda, cpu, joined, or leave it out"),
        ({"INDEX_CAPTIONS": "no"}, "INDEX_CAPTIONS is 'no'; use one of include, exclude, borrowed, or leave it out"),
    ],
)
def test_values_that_nothing_understands_are_refused(variables, message):
    with pytest.raises(ValueError, match=message):
        settings.from_environment(variables)
