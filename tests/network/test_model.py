"""The encoder-decoder: incremental equals full decoding, every fusion follows its equation, options are honoured."""

import itertools

import pytest
import torch
from conftest import make_batch, make_model, setup_task

from cart_fairseq.network.config import FUSIONS


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("pre_norm", [True, False])
def test_incremental_decoding_equals_full_decoding(task, fusion, pre_norm):
    model = make_model(task, fusion=fusion, encoder_normalize_before=pre_norm, decoder_normalize_before=pre_norm)
    batch = make_batch(task)
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


@pytest.mark.parametrize("fusion", FUSIONS)
def test_beams_share_their_query_s_memory(task, fusion):
    model = make_model(task, fusion=fusion)
    batch = make_batch(task, size=5)
    source, prefix = batch["net_input"]["src_tokens"], batch["net_input"]["prev_output_tokens"]
    beams = torch.stack([prefix, prefix.flip(0)], 1).flatten(0, 1)
    with torch.no_grad():
        shared, _ = model.decoder(beams, encoder_out=model.encoder(source))
        repeated, _ = model.decoder(beams, encoder_out=model.encoder(source.repeat_interleave(2, 0)))
    torch.testing.assert_close(shared, repeated, atol=1e-5, rtol=1e-4)


def test_padding_has_no_influence(task):
    model = make_model(task)
    batch = make_batch(task)
    source = batch["net_input"]["src_tokens"]
    wider = torch.cat([source, source.new_full((len(source), 3), task.source_dictionary.pad())], 1)
    with torch.no_grad():
        expected, _ = model(**batch["net_input"])
        found, _ = model(wider, None, batch["net_input"]["prev_output_tokens"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_decoder_cannot_see_the_future(task):
    model = make_model(task)
    batch = make_batch(task)
    changed = {**batch["net_input"], "prev_output_tokens": batch["net_input"]["prev_output_tokens"].clone()}
    changed["prev_output_tokens"][:, -1] = 4
    with torch.no_grad():
        before, after = model(**batch["net_input"])[0], model(**changed)[0]
    torch.testing.assert_close(before[:, :-1], after[:, :-1])
    assert not torch.allclose(before[:, -1], after[:, -1])


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_any_number_of_layers_and_every_parameter_learns(task, layers):
    model = make_model(task, encoder_layers=layers, decoder_layers=layers)
    model(**make_batch(task)["net_input"])[0].square().sum().backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert unused == []
    assert len(model.encoder.layers) == len(model.decoder.layers) == layers


def test_initialisation_is_xavier_uniform(task):
    model = make_model(task, decoder_ffn_embed_dim=64, encoder_layers=3)
    weight = model.decoder.layers[0].fc1.weight
    bound = (6 / sum(weight.shape)) ** 0.5
    assert 0.9 * bound < weight.abs().max() <= bound
    fusion = model.decoder.layers[0].fusion
    bound = (6 / (3 * 16)) ** 0.5  # each W_i maps 2 C to C, and is kept in two halves
    for half in (fusion.gate_context, fusion.gate_query.weight):
        assert 0.9 * bound < half.abs().max() <= bound
    assert not fusion.gate_query.bias.any()
    for side in (model.encoder, model.decoder):
        assert not side.embed_tokens.weight[task.source_dictionary.pad()].any()


@pytest.mark.parametrize("option", [{"encoder_layers": 0}, {"decoder_layers": 0}, {"decoder_attention_heads": 5}])
def test_impossible_sizes_are_refused_with_their_numbers(task, option):
    with pytest.raises(ValueError, match=str(next(iter(option.values())))):
        make_model(task, **option)


def test_checkpoint_of_other_identifiers_is_refused(task, data_bin, tmp_path):
    state = make_model(task).state_dict()
    make_model(task, seed=1).load_state_dict(state)
    state["data_fingerprint"] = state["data_fingerprint"].flip(0)
    with pytest.raises(ValueError, match="belongs to other identifiers"):
        make_model(task).load_state_dict(state)
    del state["data_fingerprint"]
    with pytest.raises(ValueError, match="belongs to other identifiers"):
        make_model(task).load_state_dict(state)


def test_flags_change_the_result(task):
    batch = make_batch(task)
    options = [{"fusion": fusion} for fusion in FUSIONS] + [{"coarse_gating": "self"}, {"fine_scaling": "sqrt"}]
    with torch.no_grad():
        results = [make_model(task, **option)(**batch["net_input"])[0] for option in options]
    for (i, a), (j, b) in itertools.combinations(enumerate(results), 2):
        assert torch.allclose(a, b) == ({i, j} == {0}), (options[i], options[j])


def test_task_refuses_too_small_an_evaluation_beam(data_bin):
    with pytest.raises(ValueError, match="--eval-beam is 5"):
        setup_task(data_bin, eval_beam=5)
