"""A checkpoint that torch's safe mode accepts runs no code, opens no path of its own and takes no more than its size."""

import argparse
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run, train_flags
from fairseq import checkpoint_utils
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import TASK_REGISTRY

from cart_fairseq import CartRetriever, evaluate, tune
from cart_fairseq.catalogue.errors import CatalogueError
from cart_fairseq.catalogue.held_files import HeldFiles
from cart_fairseq.catalogue.text_encoder import CONFIG, WEIGHTS
from cart_fairseq.loading.checkpoint import read_checkpoint, write_checkpoint
from cart_fairseq.models.cart import CARTModel
from cart_fairseq.models.cart_rqvae import RQVAEModel
from cart_fairseq.rqvae.network import RQVAE
from cart_fairseq.tasks.cart_retrieval import CartRetrievalTask
from cart_fairseq.tasks.cart_rqvae import RQVAETask
from cart_fairseq.tasks.checked_checkpoints import accept, load_checked

OLD = Path(__file__).resolve().parents[1] / "compatibility"
GOOD, DATA = OLD / "plain.pt", OLD / "plain" / "data-bin"
State = dict[str, Any]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def changed(change: Callable[[State], object], path: str = "evil.pt", source: Path = GOOD) -> Path:
    """A checkpoint that differs from a good one, written and accepted in torch's safe mode."""
    state = read_checkpoint(source)
    change(state)
    write_checkpoint(path, state)
    read_checkpoint(path)
    return Path(path).resolve()


def fconv(state: State) -> None:
    """Name a model of fairseq that evaluates options."""
    code = "__import__('pathlib').Path('CODE_RAN').write_text('yes')"
    sizes = {"encoder_embed_dim": 8, "decoder_embed_dim": 8, "decoder_out_embed_dim": 8, "dropout": 0.1}
    paths = {"encoder_embed_path": None, "decoder_embed_path": None}
    most = {"max_source_positions": 10, "max_target_positions": 10, "share_input_output_embed": False}
    layers = {"encoder_layers": code, "decoder_layers": code, "decoder_attention": "False"}
    state["cfg"]["model"] = argparse.Namespace(_name="fconv", arch="fconv", **sizes, **paths, **most, **layers)


def assert_nothing_ran() -> None:
    assert not Path("CODE_RAN").exists()


def settings(name: str, **values: Any) -> Callable[[State], None]:
    def change(state: State) -> None:
        found = state["cfg"][name]
        (vars(found) if isinstance(found, argparse.Namespace) else found).update(values)

    return change


def weight(name: str, value: Any) -> Callable[[State], None]:
    return lambda state: state["model"].update({name: value})


def filled(name: str, value: float) -> Callable[[State], None]:
    return lambda state: state["model"][name].view(-1)[-1:].fill_(value)


def shared(state: State) -> None:
    """Give 400 layers the values of one."""
    for name in [*state["model"]]:
        if name.startswith("encoder.layers.0."):
            rest = name.removeprefix("encoder.layers.0.")
            state["model"].update({f"encoder.layers.{i}.{rest}": state["model"][name] for i in range(1, 400)})
    settings("model", encoder_layers=400)(state)


REFUSED: dict[str, tuple[Callable[[State], Any], str]] = {
    "another model": (fconv, "architecture fconv"),
    "the other task's model": (settings("model", _name="cart_rqvae"), "architecture cart_rqvae, which is none of task"),
    "a model of no name": (settings("model", _name=None, arch=["fconv"]), "architecture"),
    "another task": (settings("task", _name="translation"), "task translation; give one of cart_retrieval"),
    "another criterion": (settings("criterion", _name="ctc"), "criterion ctc"),
    "settings of an old fairseq": (lambda s: s.update(args=argparse.Namespace(arch="fconv", task="x")), "before 0.12"),
    "ten million layers": (settings("model", encoder_layers=10**7), "encoder_layers is 10000000, not between 1 and"),
    "more layers than weights": (settings("model", decoder_layers=900), "are of a model of .* weights, but it holds"),
    "a width of millions": (settings("model", encoder_embed_dim=1 << 19), "are of a model of .* weights"),
    "a feed-forward network of millions": (settings("model", decoder_ffn_embed_dim=1 << 20), "are of a model of"),
    "negative width": (settings("model", decoder_embed_dim=-16), "--decoder-embed-dim is -16; at least 1 is needed"),
    "a size that is a text": (settings("model", decoder_layers="2"), "decoder_layers is '2', not of type int"),
    "a size that is no number": (settings("model", encoder_embed_dim=float("nan")), "encoder_embed_dim is nan"),
    "too many positions": (settings("model", max_source_positions=10**9), "max_source_positions is 1000000000"),
    "a dense head of millions": (settings("model", dense_dim=1 << 20), "no dense head, or one of an earlier version"),
    "dropout above 1": (settings("model", dropout=1e9), "dropout is 1000000000"),
    "a variable of the environment": (settings("task", eval_beam="${oc.env:HOME}"), "eval_beam is '..oc.env:HOME}'"),
    "a beam of millions": (settings("task", eval_beam=10**7), "--eval-beam is 10000000; .* at most 10,000"),
    "millions of repeats": (settings("task", index_repeats=10**7), "--index-repeats is 10000000; .* at most 1,000"),
    "a discount of millions": (settings("task", level_discount=10**7), "--level-discount is 10000000"),
    "a beam that is a text": (settings("task", eval_beam="30"), "eval_beam is '30', not of type int"),
    "a choice that is none": (settings("task", candidates="none"), "candidates is 'none', not one of split, all"),
    "a weight of the loss that is a text": (
        settings("criterion", consistency_weight="1"),
        "consistency_weight is '1', not of type float",
    ),
    "a revision below 0": (
        weight("revision_digits", torch.tensor([1.0, -1.0])),
        "revision_digits is .*-1.0., not digits",
    ),
    "a digit above 255": (
        weight("revision_digits", torch.tensor([0.0, 256.0])),
        "revision_digits is .*256.0., not digits",
    ),
    "a revision that is no list": (weight("revision_digits", torch.tensor(3.0)), "revision_digits is 3.0, not digits"),
    "weight NaN": (filled("decoder.layer_norm.weight", float("nan")), "decoder.layer_norm.weight holds NaN"),
    "weight infinite": (
        filled("encoder.layers.1.fc1.bias", float("-inf")),
        "encoder.layers.1.fc1.bias holds NaN or inf",
    ),
    "level discount NaN": (filled("level_discount", float("nan")), "level_discount holds NaN"),
    "level discount 0": (filled("level_discount", 0.0), "level_discount is 0; choose another"),
    "level discount above 1": (filled("level_discount", 1.5), "level_discount is 1.5; choose another"),
    "a calibration of another length": (weight("calibration", torch.ones(3)), "calibration has shape .3,.; tune again"),
    "a negative slope": (
        weight("calibration", torch.tensor([-1.0, 1, 0, 0, 0, 0])),
        "calibration is .-1.0, .*; tune again",
    ),
    "a calibration of no scoring": (
        weight("calibration", torch.tensor([1.0, 1, 0, 0, 0, 7])),
        "calibration is .*7.0.; tune again",
    ),
    "a calibration with NaN": (weight("calibration", torch.full((6,), float("nan"))), "calibration holds NaN"),
    "a tensor that repeats one value": (
        weight("decoder.output_projection.weight", torch.zeros(1).expand(10**6, 10**5)),
        "no plain tensor of shape .1000000, 100000",
    ),
    "layers that share values": (shared, "share the values of one another"),
    "a sparse tensor": (weight("level_discount", torch.zeros(3).to_sparse()), "not a tensor"),
    "a weight that is a text": (weight("level_discount", "1"), "not a tensor"),
    "meters of no class": (
        lambda s: s["extra_state"].update(metrics={"default": [(0, "loss", "__import__", {})]}),
        "metrics of training are damaged",
    ),
    "no history": (lambda s: s.update(optimizer_history=[]), "optimizer_history"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_checkpoint_of_others_is_refused_before_anything_is_built(kind: str, monkeypatch: pytest.MonkeyPatch):
    change, said = REFUSED[kind]
    path = changed(change)
    for model in {*ARCH_MODEL_REGISTRY.values()}:
        monkeypatch.setattr(model, "build_model", lambda *args: pytest.fail("a model was built"))
    for task in {*TASK_REGISTRY.values()}:
        monkeypatch.setattr(task, "setup_task", lambda *args, **kwargs: pytest.fail("a task was built"))
    with pytest.raises(ValueError, match=said) as caught:
        CartRetriever.from_pretrained(path, data=DATA)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).count(str(path)) == 1
    with pytest.raises(ValueError, match=said):
        checkpoint_utils.load_model_ensemble_and_task([str(path)], arg_overrides={"data": str(DATA)})
    assert_nothing_ran()


def test_a_dense_weight_below_zero_or_not_finite_is_refused():
    for value in (-1.0, float("inf"), float("nan")):
        path = changed(filled("dense.weight", value), source=OLD / "dense.pt")
        with pytest.raises(ValueError, match=r"dense\.weight"):
            CartRetriever.from_pretrained(path, data=OLD / "dense" / "data-bin")


def test_python_and_our_commands_run_no_code_of_a_checkpoint(capsys: pytest.CaptureFixture):
    evil = changed(fconv)
    queries = Path("queries.jsonl")
    queries.write_text(json.dumps({"item_id": "item 1", "text": "a dog"}) + "\n")
    for path in (evil, f"{GOOD}:{evil}"):
        with pytest.raises(ValueError, match="architecture fconv"):
            CartRetriever.from_pretrained(path, data=DATA)
        with pytest.raises(ValueError, match="architecture fconv"):
            evaluate.main(["--data", str(DATA), "--queries", str(queries), "--path", str(path)])
    with pytest.raises(ValueError, match="architecture fconv"):
        tune.main(["--data", str(DATA), "--path", str(evil)])
    assert_nothing_ran()


@pytest.mark.parametrize("command", ["generate", "validate", "interactive", "train", "finetune"])
def test_fairseq_runs_no_code_of_a_checkpoint(command: str):
    evil = changed(fconv)
    if command in ("train", "finetune"):
        flag = "--restore-file" if command == "train" else "--finetune-from-model"
        flags = train_flags(DATA, Path("checkpoints"), flag, evil, "--max-epoch", 1)
        output = run(*flags, fails=True)
    else:
        task = ["--user-dir", Path(__file__).parents[2] / "cart_fairseq", "--task", "cart_retrieval"]
        subset: dict[str, list] = {
            "generate": ["--gen-subset", "test"],
            "validate": ["--valid-subset", "test", "--batch-size", 5],
        }
        flags = [DATA, *task, "--path", evil, "--cpu", *subset.get(command, [])]
        output = run(*flags, module=f"fairseq_cli.{command}", fails=True, stdin="a dog\n")
    assert f"{evil}: it is a checkpoint of architecture fconv" in output
    assert_nothing_ran()


def test_an_rqvae_is_resumed_only_from_its_own_kind(tmp_path: Path):
    torch.manual_seed(0)
    model = RQVAEModel(RQVAE(6, latent_dimension=4, codebooks=2, codebook_size=8))
    state = read_checkpoint(GOOD) | {"model": model.state_dict()}
    state["cfg"] |= {
        "task": {"_name": "cart_rqvae", "data": "rows.npy", "rqvae_codebook_init": "kmeans", "seed": 1},
        "model": {"_name": "cart_rqvae", **rqvae_options()},
        "criterion": {"_name": "cart_rqvae"},
    }
    assert accept(state)["cfg"].model["rqvae_codebooks"] == 2
    for name, value in (("rqvae_codebooks", 10**7), ("rqvae_codebook_size", 1 << 22), ("rqvae_latent_dim", "4")):
        broken = state | {"cfg": state["cfg"] | {"model": state["cfg"]["model"] | {name: value}}}
        with pytest.raises(ValueError, match=name if name != "rqvae_codebook_size" else "are of a model of"):
            accept(broken)


def rqvae_options() -> dict[str, Any]:
    sizes = {"rqvae_latent_dim": 4, "rqvae_codebooks": 2, "rqvae_codebook_size": 8}
    return {**sizes, "rqvae_alpha": 1.0, "rqvae_beta": 0.25}


def test_stored_paths_and_names_of_code_are_left_out():
    names = {"_name": "sentencepiece", "sentencepiece_model": "/etc/passwd"}

    def change(state: State) -> None:
        state["cfg"] |= {"bpe": dict(names), "tokenizer": dict(names), "common": {"user_dir": "/nowhere/evil"}}
        state["cfg"]["generation"]["replace_unk"] = "/etc/passwd"
        state["cfg"]["model"].user_dir = state["cfg"]["model"].quantization_config_path = "/nowhere/evil"
        state["task_state"] = {"data": "evil"}

    found = load_checked(str(changed(change)))
    kept = repr(found["cfg"]) + repr(found["task_state"])
    assert "evil" not in kept
    assert "passwd" not in kept
    assert found["cfg"].task.data == ""
    assert load_checked(str(GOOD), {"data": "mine"})["cfg"].task.data == "mine"


def test_every_architecture_of_ours_and_no_other_is_accepted():
    ours = {name for name, model in ARCH_MODEL_REGISTRY.items() if model in (CARTModel, RQVAEModel)}
    assert {"cart", "cart_tiny", "cart_rqvae"} <= ours
    assert {TASK_REGISTRY["cart_retrieval"], TASK_REGISTRY["cart_rqvae"]} == {CartRetrievalTask, RQVAETask}
    state = read_checkpoint(GOOD)
    for arch in ARCH_MODEL_REGISTRY.keys() - {"cart", "cart_tiny"}:
        settings("model", _name=arch)(state)
        with pytest.raises(ValueError, match="architecture"):
            accept(state)
    settings("model", _name="cart")(state)
    assert accept(state)["cfg"].model.arch == "cart"


def encoder_in(folder: Path) -> HeldFiles:
    return HeldFiles(folder, (CONFIG, WEIGHTS), "remedy")


def test_a_text_encoder_with_code_or_larger_than_its_weights_is_refused(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    from cart_fairseq.loading.transformer import load_transformer

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 30}
    transformers.BertModel(transformers.BertConfig(num_hidden_layers=2, **sizes)).save_pretrained(tmp_path / "good")
    assert load_transformer(encoder_in(tmp_path / "good")).config.num_hidden_layers == 2
    Path("evil.py").write_text("open('CODE_RAN', 'w')\n")
    code = {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}, "model_type": "evil"}
    for values in (code, {"num_hidden_layers": 10**7}, {"vocab_size": 10**9}, {"num_hidden_layers": 9}):
        folder = Path(shutil.copytree(tmp_path / "good", tmp_path / "evil", dirs_exist_ok=True))
        shutil.copy("evil.py", folder)
        (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | values))
        with pytest.raises(CatalogueError, match=r"config\.json: damaged"):
            load_transformer(encoder_in(folder))
        shutil.rmtree(folder)
    assert_nothing_ran()
    assert "evil" not in sys.modules


def test_what_is_written_by_training_is_accepted_whole(tmp_path: Path):
    buffer = io.BytesIO(GOOD.read_bytes())
    state = torch.load(buffer, weights_only=True)
    found = accept(state)
    assert found["model"] is state["model"]
    for name in ("optimizer_history", "last_optimizer_state", "criterion"):
        assert found[name] == state[name]
