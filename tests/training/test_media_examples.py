"""Examples with embeddings: what is drawn, what they add to the loss, and a model that learns from them."""

import math

import pytest
import torch
from conftest import make_model, setup_task
from mixed_world import write_data_bin

from cart_fairseq.criterions.cart_rdrop import CARTRDropCriterion
from cart_fairseq.training.media_examples import SHARE, MediaExamples


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_data_bin(root)
    task = setup_task(root / "data-bin")
    task.load_dataset("train")
    return task


def batch_of(task, size=16):
    dataset = task.datasets["train"]
    return dataset.collater([dataset[number] for number in range(size)])


def symbols_of(task, rows):
    return torch.from_numpy(task.data.bundle.values[rows] + task.data.bundle.offsets).long()


def test_half_are_items_of_the_batch_with_words_and_half_any_items_without(task):
    sample, examples = batch_of(task), MediaExamples(task.data, 2)
    batch, target = examples.draw(sample["item_rows"])
    half = round(SHARE * 16 / 2)
    assert batch.words.tolist() == [True] * half + [False] * half
    assert len(set(batch.query[:half].tolist())) == half
    rows = sample["item_rows"][batch.query[:half]].numpy()
    assert torch.equal(target[:half], symbols_of(task, rows))
    assert torch.equal(batch.embeddings[:half], task.data.dense_items.originals(rows))
    assert torch.equal(batch.previous[:, 1:], target[:, :-1])
    assert (batch.previous[:, 0] == 2).all()
    drawn = torch.cat([examples.draw(sample["item_rows"]).target[half:] for _ in range(1000)])
    assert len(drawn.unique(dim=0)) == len(task.data.bundle)  # those of valid and test, too


@pytest.mark.parametrize("shared", [True, False])
def test_the_loss_adds_their_cross_entropy(task, shared):
    model, sample = (
        make_model(task, dense_dim=4, media_positions=2, dropout=0.0, dense_dropout=0.0).train(),
        batch_of(task),
    )
    criterion = CARTRDropCriterion(task, 0.15, 0.0, shared)
    torch.manual_seed(3)
    loss, size, log = criterion(model, sample)
    reader, model.reader = model.reader, None
    plain, _, _ = criterion(model, sample)
    model.reader = reader
    torch.manual_seed(3)
    batch, target = criterion.media_examples.draw(sample["item_rows"])
    expected = 0.0
    for number in range(len(target)):  # each example alone, without padding
        tokens = sample["net_input"]["src_tokens"][batch.query[number]]
        tokens = tokens[tokens != 1] if batch.words[number] else torch.tensor([2])
        out = model.encoder(tokens.unsqueeze(0), torch.tensor([len(tokens)]))
        words = batch.words[number : number + 1]
        front = reader(out, batch.embeddings[number : number + 1], torch.tensor([True]), words)
        logits, _ = model.decoder(batch.previous[number : number + 1], front)
        expected -= float(logits[0].log_softmax(-1).gather(1, target[number].unsqueeze(1)).sum())
    assert float(loss - plain) == pytest.approx(expected, rel=1e-3)
    assert float(log["media_loss"]) == pytest.approx(expected * size / target.numel(), rel=1e-3)


def test_validation_and_models_that_read_none_are_as_before(task):
    sample, criterion = batch_of(task), CARTRDropCriterion(task, 0.15, 0.0)
    criterion.eval()
    model = make_model(task, dense_dim=4, media_positions=2)
    loss, _, log = criterion(model, sample)
    model.reader = None
    assert torch.equal(loss, criterion(model, sample)[0])
    assert "media_loss" not in log


def test_a_model_learns_to_write_identifiers_from_embeddings(task):
    model = make_model(task, dense_dim=4, media_positions=2, dropout=0.0).train()
    criterion, sample = CARTRDropCriterion(task, 0.0, 0.0), batch_of(task)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(120):
        loss, size, log = criterion(model, sample)
        optimizer.zero_grad()
        (loss / size).backward()
        optimizer.step()
        losses.append(float(log["media_loss"]) / size / math.log(2))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"media_positions": -1, "dense_dim": 4}, "--media-positions is -1; it must be from 0"),
        ({"media_positions": 2, "dense_dim": 0}, "--media-positions is 2, but without a dense head"),
    ],
)
def test_settings_that_cannot_be_are_refused(task, flags, message):
    with pytest.raises(ValueError, match=message):
        make_model(task, **flags)


def test_a_checkpoint_without_a_reader_is_refused_by_name(task):
    plain = make_model(task, dense_dim=4).state_dict()
    model = make_model(task, dense_dim=4, media_positions=2)
    with pytest.raises(ValueError, match="trained without --media-positions"):
        model.upgrade_state_dict_named(plain, "")
    model.upgrade_state_dict_named(dict(model.state_dict()), "")
