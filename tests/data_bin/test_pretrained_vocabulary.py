"""A tokeniser's vocabulary as the query dictionary, and the text encoder in the data-bin."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny_text_encoders as tiny
import torch
from commands import ENVIRONMENT
from conftest import make_model, write_jsonl
from transformers import AutoTokenizer, BertConfig, BertModel, GPT2Config, GPT2Model, T5Config, T5Model

from cart_fairseq.base.reading import read_json, read_jsonl
from cart_fairseq.catalogue.text_encoder import TokenSymbols
from cart_fairseq.queries.codec import QueryCodec
from preprocess.data_bin.build import binarize
from preprocess.data_bin.settings import DataBinSettings


@pytest.fixture(scope="module", params=tiny.KINDS)
def any_kind(request, tmp_path_factory):
    """A folder of an encoder and a data-bin made with it, for each kind."""
    root = tmp_path_factory.mktemp(request.param)
    return tiny.save(root / "source", request.param), tiny.make_data_bin(root, root / "source")


@pytest.fixture
def bert_task(tmp_path):
    return tiny.loaded(tiny.make_data_bin(tmp_path / "bert", tiny.save(tmp_path / "bert/source", "bert")))


def test_queries_are_the_tokeniser_s_without_what_goes_around(any_kind):
    source, data = any_kind
    task = tiny.loaded(data)
    tokenizer, codec = AutoTokenizer.from_pretrained(source), QueryCodec(task.data)
    texts = pq.read_table(data / "queries.test.parquet")["text"].to_pylist()
    for text, query in zip(texts, task.datasets["test"].queries, strict=True):
        assert (query[:-1] - 4).tolist() == tokenizer(text, padding=False, truncation=False)["input_ids"][1:-1]
        again = task.query_dict.encode_line(codec.encode(text), add_if_not_exist=False)
        assert again.tolist() == query.tolist()
        assert codec.decode(codec.encode(text)) == text
    assert not (data / "sentencepiece.model").exists()
    assert len(task.query_dict) == 4 + len(tokenizer)


def test_markup_in_a_query_is_text_and_the_unknown_is_unk(bert_task):
    codec, dictionary = QueryCodec(bert_task.data), bert_task.query_dict
    assert codec.encode("a [SEP] b") == "a [ s ##e ##p ] b"
    assert codec.encode("red ☃") == "red <unk>"
    assert dictionary.encode_line(codec.encode("☃"), add_if_not_exist=False).tolist() == [dictionary.unk(), 2]
    encoder = make_model(bert_task).encoder
    assert encoder.token_of[torch.tensor([0, 1, 2, 3, 4, 9])].tolist() == [2, 0, 3, 1, 0, 5]


def test_words_of_the_dictionary_are_unique_and_free_of_white_space(tmp_path):
    from fairseq.data import Dictionary
    from tokenizers import Tokenizer, models

    texts = {"a": 0, "</s>": 1, "\u2028": 2, "<token_1>": 3, " b": 5, "<unk>": 7}  # 4 and 6 are holes
    symbols = TokenSymbols(Tokenizer(models.WordLevel(texts, unk_token="<unk>")).to_str(), 7)
    assert symbols.words == ["a", *(f"<token_{i}>" for i in range(1, 8))]
    (tmp_path / "dict.txt").write_text(symbols.dictionary(), encoding="utf-8", newline="\n")
    dictionary = Dictionary.load(str(tmp_path / "dict.txt"))
    assert len(dictionary) == len(symbols) == 12
    for token, word in enumerate(symbols.words):
        assert dictionary.encode_line(word, add_if_not_exist=False, append_eos=False).tolist() == [4 + token]


def test_a_second_run_does_nothing_unless_something_changed(tmp_path):
    source = tiny.save(tmp_path / "source", "bert")
    data = tiny.make_data_bin(tmp_path, source)
    inputs = (tmp_path / "identifiers", tmp_path / "captions.jsonl", data)
    assert not binarize(*inputs, text_encoder=str(source)).is_new
    whole = (data / "text-encoder/model.safetensors").read_bytes()
    (data / "text-encoder/model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"model\.safetensors: \d+ bytes, the manifest says"):
        make_model(tiny.loaded(data))
    assert binarize(*inputs, text_encoder=str(source)).is_new
    assert (data / "text-encoder/model.safetensors").read_bytes() == whole
    tiny.save(source, "bert", seed=2)
    before = make_model(tiny.loaded(data)).state_dict()
    assert binarize(*inputs, text_encoder=str(source)).is_new
    with pytest.raises(ValueError, match="identifiers, vocabulary or text encoder"):
        make_model(tiny.loaded(data)).load_state_dict(before)


def test_queries_change_nothing_of_the_encoder(tmp_path):
    source = tiny.save(tmp_path / "source", "bert")
    data = tiny.make_data_bin(tmp_path, source)
    rows = read_jsonl(tmp_path / "captions.jsonl")
    write_jsonl(tmp_path / "captions.jsonl", [row | {"text": "qqq"} if row["role"] == "query" else row for row in rows])
    other = tiny.make_data_bin(tmp_path, source, "other")
    manifests = [read_json(path / "manifest.json") for path in (data, other)]
    assert manifests[0]["text_encoder"] == manifests[1]["text_encoder"]
    changed = {name for name, entry in manifests[0]["files"].items() if entry != manifests[1]["files"][name]}
    assert changed == {
        "queries.valid.parquet",
        "queries.test.parquet",
        *(f"{subset}.query-id.query.{end}" for subset in ("valid", "test") for end in ("bin", "idx")),
    }


def assert_refused(tmp_path: Path, model, tokenizer, message: str, **options) -> None:
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "source")
    with pytest.raises(ValueError, match=message):
        tiny.make_data_bin(tmp_path, tmp_path / "source", **options)
    assert not (tmp_path / "data-bin").exists()


def test_other_templates_and_models_are_refused(tmp_path):
    model, tokenizer = tiny.make("bert")
    bare = tiny.word_pieces()
    bare.backend_tokenizer.post_processor = None
    gpt = GPT2Model(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=200))
    assert_refused(tmp_path / "a", gpt, bare, "reads 'a dog' as a dog, not as one special token")
    t5 = T5Model(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=200))
    assert_refused(tmp_path / "b", t5, tokenizer, "a T5Model, not an encoder of texts")
    few = BertModel(BertConfig(**tiny.SIZES, vocab_size=50))
    assert_refused(tmp_path / "c", few, tokenizer, rf"its tokeniser has {len(tokenizer)} tokens, its model 50")
    assert_refused(
        tmp_path / "d", model, tokenizer, "takes 259 at most", settings=DataBinSettings(max_query_tokens=260)
    )
    tokenizer.pad_token = None
    assert_refused(tmp_path / "e", model, tokenizer, "has no padding token")


def test_what_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: cannot be loaded"):
        tiny.make_data_bin(tmp_path, tmp_path / "empty")
    model, _ = tiny.make("bert")
    model.save_pretrained(tmp_path / "half")
    with pytest.raises(ValueError, match="half: no tokeniser"):  # transformers would make an empty one
        tiny.make_data_bin(tmp_path, tmp_path / "half")


def test_missing_libraries_are_named(tmp_path, bert_task, monkeypatch):
    source = tiny.save(tmp_path / "source", "bert")
    message = r"needs the library {}, which is missing; pip install 'cart-fairseq\[encoders\]'"
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=message.format("transformers")):
        tiny.make_data_bin(tmp_path, source)
    with pytest.raises(ValueError, match=message.format("transformers")):
        make_model(bert_task)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=message.format("tokenizers")):
        QueryCodec(bert_task.data)


def test_nothing_imports_transformers_unasked():
    code = "import sys, cart_fairseq, preprocess.data_bin.build; print({'transformers', 'tokenizers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout == "set()\n"
