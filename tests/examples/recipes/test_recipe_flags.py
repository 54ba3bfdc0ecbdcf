"""Flags of the user, in variables and behind the command: all are parsed before the first step."""

import sys
from pathlib import Path

import pytest
from conftest import load_example
from recipe_calls import Stopped, call, training_here
from recipe_samples import manifest, write_data

from cart_fairseq.base.reading import read_json

calls, defaults, fairseq_calls = (load_example("recipes", name) for name in ("calls", "defaults", "fairseq_calls"))
QUICK = {"IDENTIFIER_FLAGS": "--scheme residual-kmeans --kmeans-clusters 3 --codebook-size 3 --allow-collapse"}
TINY = ("--arch", "cart_tiny", "--batch-size", "16", "--max-epoch", "1")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.mark.parametrize(
    ("variable", "flags", "said"),
    [
        ("IDENTIFIER_FLAGS", "--nonsense", "unrecognized arguments: --nonsense; .*build_identifiers --help lists the"),
        ("IDENTIFIER_FLAGS", "stray", "unrecognized arguments: stray"),
        ("IDENTIFIER_FLAGS", "--epochs none", "argument --epochs: 'none' is not a whole number of at least 1"),
        ("IDENTIFIER_FLAGS", "--epochs", "argument --epochs: expected one argument"),
        ("IDENTIFIER_FLAGS", "--unique-size 1", "--unique-size is 1; reserve at least 2"),
        ("IDENTIFIER_FLAGS", "--scheme no", "argument --scheme: invalid choice: 'no'"),
        ("IDENTIFIER_FLAGS", "--output elsewhere", "--output is set by the recipe; leave it out"),
        ("IDENTIFIER_FLAGS", "--out elsewhere", "--output is set by the recipe; leave it out"),
        ("IDENTIFIER_FLAGS", "--items=i.jsonl", "--items is set by the recipe"),
        ("IDENTIFIER_FLAGS", "--embeddings e.npy", "--embeddings is set by the recipe"),
        ("BINARIZE_FLAGS", "--identifiers other", "--identifiers is set by the recipe"),
        ("BINARIZE_FLAGS", "--captions c.jsonl", "--captions is set by the recipe"),
        ("BINARIZE_FLAGS", "--vocab-size 0", "--vocab-size is 0; it must be a whole number of at least 1"),
        ("BINARIZE_FLAGS", "--help", "has a flag that only prints, such as --help; leave it out"),
        ("JOIN_FLAGS", "--pca 0", "argument --pca: '0' is not"),
        ("JOIN_FLAGS", "--like old", "--like is set by the recipe; leave it out"),
        ("JOIN_FLAGS", "--index-captions exclude", "--index-captions is set by the recipe; set INDEX_CAPTIONS"),
        ("BINARIZE_FLAGS", "--text-encoder bert", "--text-encoder is set by the recipe; set TEXT_ENCODER"),
        ("BINARIZE_FLAGS", "--embeddings e.npy", "--embeddings is set by the recipe; leave it out"),
    ],
)
def test_a_variable_is_parsed_by_its_command_before_the_first_step(data, tmp_path, capfd, variable, flags, said):
    with pytest.raises(ValueError, match=f"^{variable}: {said}") as refused:
        call("own_data/run", data, tmp_path / "out", RECIPE="joined", **{variable: flags})
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--batch-sizes", "3"], r"unrecognized arguments: --batch-sizes 3; fairseq-train --help lists the flags"),
        (["stray"], "unrecognized arguments: stray"),
        (["--lr", "nonsense"], "argument --lr: invalid .* value: 'nonsense'"),
        (["--arch", "no"], "argument --arch/-a: invalid choice: 'no'; "),
        (["-a", "transformer"], "--arch transformer is none of this project; use cart or cart_tiny"),
        (["--max-epoch", "0"], "argument --max-epoch: '0' is not a whole number of at least 1"),
        (["--max-update=0"], "argument --max-update: '0' is not a whole number of at least 1"),
        (["--batch-size", "0"], "argument --batch-size/--max-sentences: '0' is not"),
        (["--max-sentences", "-3"], "argument --batch-size/--max-sentences: (expected one argument|'-3' is not)"),
        (["--update-freq", "2,0"], "argument --update-freq: '0' is not"),
        (["--index-repeats", "0"], "argument --index-repeats: '0' is not"),
        (["--max-epoch", "all"], "argument --max-epoch: 'all' is not"),
        (["--eval-beam", "3"], "--eval-beam is 3; recall_at_10 needs a beam of at least 10"),
        (["--level-discount", "-1"], ".*--?level.discount"),
        (["--help"], "has a flag that only prints"),
        (["--save-dir", "elsewhere"], "--save-dir is set by the recipe; leave it out and choose OUT"),
        (["--user-dir=."], "--user-dir is set by the recipe; leave it out"),
        (["--no-save"], "with --no-save a run could not go on; leave it out"),
        (["--no-last-checkpoints"], "with --no-last-checkpoints a run could not go on"),
        (["--lr-scheduler", "fixed"], "do not go with the recipe's own: unrecognized arguments: .*--lr-period-updates"),
        (["--decoder-learned-pos", "maybe"], "argument --decoder-learned-pos: 'maybe' is neither True nor False"),
        (["--update-freq", "maybe"], ".*maybe"),
        (["--fusion", "coarse", "--fusion-bias", "single"], "--fusion-bias is single, which has no effect"),
        (["--fusion", "none", "--coarse-gating", "self"], "--coarse-gating is self, which has no effect"),
        (["--encoder-layers", "0"], "--encoder-layers is 0; at least 1 is needed"),
        (["--encoder-attention-heads", "7"], "--encoder-attention-heads is 7, which does not divide"),
        (
            ["--encoder-states", "raw", "--encoder-normalize-before", "False"],
            "--encoder-states is raw, but a post-norm",
        ),
        (["--dropout", "2"], "--dropout is 2.0; it must be from 0 to 1"),
        (["--adam-betas", "maybe"], "--adam-betas is 'maybe'; give two numbers from 0 to below 1"),
        (["--best-checkpoint-metric", "nope"], "--best-checkpoint-metric is 'nope', which no validation reports"),
        (["--restore-file", "/nonexist"], "--restore-file is /nonexist; there is no such file"),
        (["--validate-interval", "0"], "--validate-interval is 0; it must be at least 1"),
        (["--lr", "-1"], r"--lr is \[-1.0\]; it must not be below 0"),
        (["--seed", "-1"], "--seed is -1; it must be"),
        (["--finetune-from-model", "/nonexist"], "--finetune-from-model is /nonexist; there is no such file"),
        (["--fp16", "--bf16"], "Cannot combine --fp16 and --tpu"),
    ],
)
def test_flags_of_training_are_parsed_before_the_first_step(data, tmp_path, monkeypatch, flags, said):
    monkeypatch.setattr(sys, "argv", ["run.py", *flags])  # fairseq looks there, too
    with pytest.raises(ValueError, match=rf"^fairseq-train flags:? {said}") as refused:
        call("own_data/run", data, tmp_path / "out", *flags, **QUICK, RECIPE="cpu")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500
    assert not (tmp_path / "out").exists()


def test_flags_that_a_model_was_trained_with_are_not_parsed_again(data, tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(fairseq_calls, "check_train_flags", lambda user, *_: checked.append(list(user)))
    with training_here() as trainings:
        for flags in ((), TINY, TINY):
            trainings.stop_at = None if flags else tmp_path / "out" / "checkpoints"
            try:
                call("own_data/run", data, tmp_path / "out", *flags, **QUICK, RECIPE="cpu")
            except Stopped:
                assert not flags
    assert checked == [list(TINY)]
    assert len(trainings.calls) == 1


def test_flags_of_fine_tuning_and_of_the_split_are_parsed_first(data, tmp_path):
    wrong = {"FINE_TUNE_FLAGS": "--max-epoch 0", "SPLIT_FLAGS": "--new-split train"}
    for variable, flags in wrong.items():
        with pytest.raises(ValueError, match=rf"^{variable}: argument --(max-epoch|new-split): "):
            call("changing_catalogue/run", data, tmp_path / "out", **{variable: flags})
    with pytest.raises(ValueError, match=r"^FINE_TUNE_FLAGS: unrecognized arguments: --no"):
        call("changing_catalogue/run", data, tmp_path / "out", FINE_TUNE_FLAGS="--no")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("variable", "flags", "said"),
    [
        ("ANNOTATION_FLAGS", "--nonsense", "unrecognized arguments: --nonsense"),
        ("ANNOTATION_FLAGS", "--output elsewhere", "--output is set by the recipe"),
        ("EMBEDDING_FLAGS", "--encoder clip", "--encoder is set by the recipe; set ENCODER"),
        ("EMBEDDING_FLAGS", "--texts t", "argument --texts: not allowed with argument --items"),
        ("CAPTION_FLAGS", "--captioner blip", "--captioner is set by the recipe; set CAPTIONER"),
        ("CAPTION_FLAGS", "--embeddings e.npy", "--embeddings is set by the recipe; leave it out"),
        ("CAPTION_FLAGS", "--top-p 2", "--top-p is 2.0; it must be"),
    ],
)
def test_preparation_parses_all_its_variables_first(tmp_path, variable, flags, said):
    (tmp_path / "raw").mkdir()
    with pytest.raises(ValueError, match=f"^{variable}: {said}"):
        call("flickr30k/prepare", tmp_path / "raw", tmp_path / "out", **{variable: flags})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("recipe", "source"), [("flickr30k/prepare", "raw"), ("icons/prepare", "raw")])
def test_preparation_refuses_a_folder_that_fairseq_does_not_take(tmp_path, recipe, source):
    (tmp_path / source).mkdir()
    with pytest.raises(ValueError, match="has ':' in its path"):
        call(recipe, tmp_path / source, tmp_path / "o:ut")
    assert not (tmp_path / "o:ut").exists()


def test_the_recipe_of_a_begun_model_stays_when_the_machine_changes(tmp_path, monkeypatch):
    steps, settings = load_example("recipes", "steps"), load_example("recipes", "settings")
    monkeypatch.setattr(steps, "this_machine", lambda user: defaults.Machine("cpu" if "--cpu" in user else "cuda", 1))
    nothing = settings.from_environment({})
    assert steps.recipe_of(tmp_path, ["--cpu"], nothing) == "cpu"
    assert steps.recipe_of(tmp_path, [], nothing) == "cuda"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "plan.json").write_text('{"sized_for": "cpu"}')
    (tmp_path / "checkpoints" / "checkpoint_last.pt").write_bytes(b"")
    assert steps.recipe_of(tmp_path, [], nothing) == "cpu"
    assert steps.recipe_of(tmp_path, [], settings.from_environment({"RECIPE": "joined"})) == "joined"


def test_the_commit_is_that_of_the_project_within_another_repository_s_hook(tmp_path, monkeypatch):
    provenance = load_example("recipes", "provenance")
    expected = provenance.commit()
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert provenance.commit() == expected


def test_a_subset_or_scheme_that_does_not_exist_is_refused_first(data, tmp_path):
    with pytest.raises(ValueError, match=r"^SUBSET is 'foo'; use one of valid, test, or leave it out$"):
        call("ablations/run", "4", data, tmp_path / "out", SUBSET="foo")
    with pytest.raises(ValueError, match=r"^SCHEMES names 'foo'; use some of coarse-fine"):
        call("baselines/rivals", data, tmp_path / "out", SCHEMES="atomic foo")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("recipe", "before"),
    [
        ("demo/run", ()),
        ("ablations/run", ("4", "DATA")),
        ("ablations/readings", ("DATA",)),
        ("baselines/rivals", ("DATA",)),
        ("changing_catalogue/run", ("DATA",)),
        ("flickr8k/ablations", ("DATA",)),
        ("flickr8k/compare", ("DATA",)),
        ("identifiers/literal", ("DATA",)),
    ],
)
def test_recipes_of_several_runs_check_their_flags_before_any_work(data, tmp_path, recipe, before):
    arguments = [data if each == "DATA" else each for each in before]
    for flags, variables, said in (
        ([], {"BINARIZE_FLAGS": "--vocab-size 0"}, "BINARIZE_FLAGS: --vocab-size is 0"),
        (["--nonsense"], {}, "fairseq-train flags: unrecognized arguments: --nonsense"),
    ):
        with pytest.raises(ValueError, match=f"^{said}"):
            call(recipe, *arguments, tmp_path / "out", *flags, **variables)
        assert not (tmp_path / "out").exists()


def test_a_seed_of_zero_is_recorded(data, tmp_path):
    with training_here(stop_at=tmp_path / "out" / "checkpoints"), pytest.raises(Stopped):
        call("own_data/run", data, tmp_path / "out", *TINY, "--seed", "0", **QUICK, RECIPE="cpu")
    assert read_json(tmp_path / "out" / "checkpoints" / "plan.json")["seed"] == 0


def test_only_the_paper_s_recipe_is_literal(data, tmp_path):
    for recipe in ("paper", "cuda", "cpu", "joined"):
        flags = defaults.train_flags(manifest(500), recipe, defaults.Machine("cuda", 1), [])
        assert ("--float32-matmul-precision" in flags) == (recipe != "paper")
        assert ("--faithful" in defaults.identifier_flags(500, recipe)) == (recipe == "paper")
    small = "--kmeans-clusters 3 --codebook-size 3 --epochs 2 --latent-dim 4"
    for scheme, literal in (("rqvae", True), ("atomic", False)):
        out = tmp_path / scheme
        with training_here(stop_at=out / "checkpoints"), pytest.raises(Stopped):
            call("own_data/run", data, out, RECIPE="paper", IDENTIFIER_FLAGS=f"--scheme {scheme} {small}")
        codec = read_json(out / "identifiers" / "codec.json")
        assert ("residual_scale" in str(codec)) == literal
        (out / "checkpoints" / "checkpoint_last.pt").write_bytes(b"")
        before = (out / "identifiers" / "manifest.json").stat().st_mtime_ns
        with training_here(stop_at=out / "checkpoints"), pytest.raises(Stopped):
            call("own_data/run", data, out, RECIPE="paper", IDENTIFIER_FLAGS=f"--scheme {scheme} {small}")
        assert (out / "identifiers" / "manifest.json").stat().st_mtime_ns == before


def test_a_long_list_of_choices_is_left_out():
    short, long = ("argument --x: invalid choice: 'y' (choose from 'a', 'b')", "'y' (choose from " + "'a', " * 99 + ")")
    assert calls.shortened(short) == short
    assert calls.shortened(long) == "'y'"
