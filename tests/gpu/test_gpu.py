"""A GPU computes what a processor computes. Each test also runs on the processor, which shows that it can fail."""

import argparse
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import load_example, make_batch, make_model, setup_task
from fairseq import utils

from cart_fairseq.criterions.cart_rdrop import CARTRDropCriterion
from cart_fairseq.rqvae.network import RQVAE
from cart_fairseq.search.result import SearchResult

load_example("efficiency", "catalogue")  # which `agreement` imports by its name
agreement = load_example("gpu", "agreement")

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])


@pytest.fixture(autouse=True)
def exact_products():
    """float32 products without TensorFloat32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def loss_and_gradients(task, model, batch: dict) -> tuple[float, dict[str, torch.Tensor]]:
    """Of the criterion, without dropout, on the CPU."""
    criterion = CARTRDropCriterion(task, consistency_weight=0.15, label_smoothing=0.1)
    loss, _, _ = criterion(model, batch)
    loss.sum().backward()
    gradients = {name: each.grad.cpu() for name, each in model.named_parameters() if each.grad is not None}
    return float(loss.detach().sum()), gradients


def moved(batch: dict, device: str) -> dict:
    return utils.move_to_cuda(batch) if device == "cuda" else batch


@DEVICES
@pytest.mark.parametrize("fusion", ["coarse-fine", "none"])
def test_loss_and_gradients_are_those_of_a_processor(task, device: str, fusion: str):
    model = make_model(task, fusion=fusion, dropout=0.0)
    other = copy.deepcopy(model).to(device)
    batch = make_batch(task, "train")
    expected, gradients = loss_and_gradients(task, model, batch)
    found, same = loss_and_gradients(task, other, moved(batch, device))
    assert found == pytest.approx(expected, rel=1e-5)
    assert same.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@DEVICES
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_loss_in_half_precision_is_near(task, device: str, precision: str):
    model = make_model(task, dropout=0.0)
    other = copy.deepcopy(model).to(device)
    other = other.bfloat16() if precision == "bf16" else other.half()
    batch = make_batch(task, "train")
    expected, gradients = loss_and_gradients(task, model, batch)
    found, same = loss_and_gradients(task, other, moved(batch, device))
    assert found == pytest.approx(expected, rel=0.02)
    one, two = (torch.cat([each.flatten().float() for each in group.values()]) for group in (gradients, same))
    assert torch.nn.functional.cosine_similarity(one, two, dim=0) > 0.99


@DEVICES
def test_a_search_finds_the_items_of_a_processor(device: str):
    rows = list(agreement.measure(device, items=2_000, queries=8, beams=(5,)))
    assert len(rows) == 6
    for row in rows:
        if row["precision"] == "float32":
            assert row["different"] == 0
            assert row["largest_difference"] < agreement.TOLERANCE
        else:
            assert row["overlap"] > 75


@DEVICES
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_search_of_a_data_bin_ends_with_items_that_exist(data_bin: Path, device: str, precision: str):
    task = setup_task(data_bin, inference_precision=precision)
    task.load_dataset("test")
    model = make_model(task).to(device)
    generator = task.build_generator([model], argparse.Namespace(beam=10))
    found = generator.generate([model], moved(make_batch(task), device))
    known = {tuple(row) for row in task.data.bundle.values.tolist()}
    sizes = [position.size for position in task.data.bundle.positions]
    offsets = np.cumsum([0, *sizes[:-1]]) + len(task.target_dictionary) - sum(sizes)
    for hypotheses in found:
        assert hypotheses
        for hypothesis in hypotheses:
            assert tuple((hypothesis["tokens"].cpu().numpy() - offsets).tolist()) in known


@DEVICES
def test_rqvae_loss_gradients_and_codes_are_those_of_a_processor(device: str):
    torch.manual_seed(0)
    model = RQVAE(dimension=16, latent_dimension=4, codebooks=2, codebook_size=8)
    other = copy.deepcopy(model).to(device)
    rows = torch.randn(32, 16)
    expected, found = model(rows), other(rows.to(device))
    expected.loss.sum().backward()
    found.loss.sum().backward()
    assert torch.equal(found.codes.cpu(), expected.codes)
    torch.testing.assert_close(found.loss.cpu(), expected.loss)
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    same = {name: each.grad.cpu() for name, each in other.named_parameters() if each.grad is not None}
    torch.testing.assert_close(same, gradients, rtol=1e-4, atol=1e-5)


def result(rows: list[list[int]], scores: list[list[float]]) -> SearchResult:
    tokens = torch.zeros(*np.shape(rows), 1, dtype=torch.int64)
    return SearchResult(torch.tensor(rows), torch.tensor(scores), tokens, torch.tensor(scores).unsqueeze(2))


def test_equal_scores_may_change_places_and_nothing_else_may():
    expected = result([[1, 2, 3]], [[-1.0, -2.0, -2.0]])
    swapped = agreement.compare(result([[1, 3, 2]], [[-1.0, -2.0, -2.0]]), expected)
    assert swapped["different"] == swapped["same_order"] == 0
    assert swapped["same_items"] == swapped["same_first"] == swapped["overlap"] == 100
    wrong = agreement.compare(result([[2, 1, 4]], [[-1.0, -1.5, -2.0]]), expected)
    assert wrong["different"] == 100
    assert wrong["same_first"] == wrong["same_items"] == 0
    assert wrong["overlap"] == pytest.approx(200 / 3)
    assert wrong["largest_difference"] == 1.0
