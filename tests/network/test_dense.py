"""The dense head: what it learns from, what it adds to a search, and what an update of the catalogue does to its files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from changing import build, embed, make_codec, new_items
from conftest import ITEMS, make_batch, make_captions, make_model, setup_task, write_jsonl

from cart_fairseq.base.reading import read_jsonl
from cart_fairseq.catalogue.dense_items import CAPTIONS, EMBEDDINGS, DenseItems
from cart_fairseq.criterions.cart_rdrop import CARTRDropCriterion
from cart_fairseq.network.dense_head import MAPPED_SHARE, DenseHead
from cart_fairseq.search.generator import IdentifierGenerator
from cart_fairseq.training.companions import Companions
from preprocess.data.joined_folder import texts_digest, write_record
from preprocess.data_bin.build import binarize
from preprocess.data_bin.settings import DataBinSettings
from preprocess.updating.steps import add, compact, remove

WIDTH = 6


@pytest.fixture(params=["include"])
def joined(tmp_path, request):
    """Embeddings joined with captions: random halves, and one feature row a line of captions.jsonl."""
    folder = tmp_path / "joined"
    folder.mkdir()
    draw = np.random.default_rng(4)
    np.save(folder / "embeddings.npy", embed(ITEMS, 0).astype(np.float16))
    captions = read_jsonl(make_captions(tmp_path / "captions.jsonl"))[:-2]
    features = draw.standard_normal((len(captions), WIDTH // 2)).astype(np.float16)
    features[[caption["role"] == "query" for caption in captions]] = 0
    np.save(folder / "captions.npy", features)
    write_join(folder, request.param, captions)
    return folder


def write_join(folder, index_captions, captions=()):
    """Make a folder of rows look like a join."""
    said = {"captions": len(captions), "texts": texts_digest(captions)}
    settings = {"index_captions": index_captions}
    write_record(folder, {"settings": settings, "parts": [WIDTH // 2] * 2, "dimension": 9, **said})


@pytest.fixture
def dense_bin(tmp_path, joined):
    build(tmp_path / "identifiers", make_codec(), unique_size=32)
    captions = make_captions(tmp_path / "captions.jsonl")
    binarize(tmp_path / "identifiers", captions, tmp_path / "data-bin", embeddings=joined)
    return tmp_path / "data-bin"


@pytest.fixture
def dense_task(dense_bin):
    task = setup_task(dense_bin)
    for split in ("train", "test"):
        task.load_dataset(split)
    return task


def test_the_data_bin_holds_the_embeddings_and_the_training_captions_features(dense_task, joined):
    items = dense_task.data.dense_items
    np.testing.assert_array_equal(items.embeddings, np.load(joined / "embeddings.npy"))
    features = np.load(joined / "captions.npy")
    lines: list[int] = []
    for item in range(ITEMS):  # training items have four captions, the others one index caption
        lines += [4 * item + number for number in range(4 if item % 3 == 0 else 1)]
    expected = np.stack([features[line] if line < len(features) else np.zeros(WIDTH // 2) for line in lines])
    np.testing.assert_array_equal(items.captions, expected)


def test_features_of_an_item_are_its_row_and_in_training_another_caption(dense_task):
    items = dense_task.data.dense_items
    rows = np.array([3, 4])
    stored = torch.from_numpy(np.asarray(items.embeddings[rows], dtype=np.float32))
    assert torch.equal(items.features(rows), stored)
    found = items.training_features(rows, np.array([2, -1]))
    half = WIDTH // 2
    assert torch.equal(found[:, :half], stored[:, :half])
    assert torch.equal(found[0, half:], torch.from_numpy(np.asarray(items.captions[2], dtype=np.float32)))
    assert torch.equal(found[1, half:], stored[1, :half])  # nothing is known but the embedding, which stands for both


def opened(folder: Path, texts: bool = True) -> DenseItems:
    return DenseItems(folder, np.load(folder / EMBEDDINGS), np.load(folder / CAPTIONS), texts, checksum="")


def test_what_rows_hold_beside_both_parts_stays(dense_bin):
    kept = np.arange(ITEMS * 2, dtype=np.float16).reshape(ITEMS, 2)
    two = np.load(dense_bin / EMBEDDINGS)
    np.save(dense_bin / EMBEDDINGS, np.concatenate([two, kept], axis=1))
    rows, companions = np.array([3, 4]), np.array([2, -1])
    found = opened(dense_bin).training_features(rows, companions)
    np.testing.assert_array_equal(found[:, WIDTH:], kept[rows])
    np.save(dense_bin / EMBEDDINGS, two)
    assert torch.equal(found[:, :WIDTH], opened(dense_bin).training_features(rows, companions))


@pytest.mark.parametrize("joined", ["exclude"], indirect=True)
def test_excluded_index_captions_are_not_looked_at(tmp_path, joined):
    build(tmp_path / "identifiers", make_codec(), unique_size=32)
    captions = make_captions(tmp_path / "captions.jsonl")
    settings = DataBinSettings(index_captions="exclude")
    binarize(tmp_path / "identifiers", captions, tmp_path / "data-bin", settings, embeddings=joined)
    items = opened(tmp_path / "data-bin", texts=False)
    assert not setup_task(tmp_path / "data-bin").data.dense_items.texts
    found = items.features(np.arange(ITEMS))
    assert torch.equal(found[:, : WIDTH // 2], found[:, WIDTH // 2 :])


def test_companions_are_the_other_captions_of_the_same_item():
    items = np.array([5, 2, 5, 2, 9, 5, 7, 7])
    known = np.array([True, True, True, True, True, False, False, False])
    companions = Companions(items, known)
    seen: dict[int, set[int]] = {pair: set() for pair in range(len(items))}
    for seed in range(60):
        drawn = companions.draw(np.arange(len(items)), np.random.default_rng(seed))
        for pair, companion in enumerate(drawn.tolist()):
            seen[pair].add(companion)
    assert seen == {0: {2}, 2: {0}, 5: {0, 2}, 1: {3}, 3: {1}, 4: {-1}, 6: {-1}, 7: {-1}}


def test_loss_equals_info_nce_by_hand_and_skips_queries_of_the_same_item():
    torch.manual_seed(0)
    head = DenseHead(4, WIDTH, 8, dropout=0.0)
    states = torch.randn(3, 4, 4)
    padding = torch.tensor([[False] * 3, [False, False, True], [False] * 3, [False] * 3])
    encoder_out = {"encoder_out": [states], "encoder_padding_mask": [padding]}
    features, items = torch.randn(4, WIDTH), torch.tensor([1, 2, 1, 3])
    short = {"encoder_out": [states[:2, 1:2]], "encoder_padding_mask": [padding[1:2, :2]]}
    torch.testing.assert_close(head.query(short), head.query(encoder_out)[1:2])
    scores = head.query(encoder_out) @ head.item(features).T * 16
    expected = 0.0
    for one in range(4):
        negatives = [other for other in range(4) if other == one or items[other] != items[one]]
        for table in (scores, scores.T):
            expected += (table[one, negatives].logsumexp(0) - table[one, one]).item() / 2
    assert float(head.loss(head.features(encoder_out), features, items)) == pytest.approx(expected, rel=1e-5)
    second_pass = {
        name: [torch.cat([each[0], each[0]], dim=int(name == "encoder_out"))] for name, each in encoder_out.items()
    }
    assert float(head.loss(head.features(second_pass), features, items)) == pytest.approx(expected, rel=1e-5)


def test_queries_whose_item_is_unknown_do_not_count():
    torch.manual_seed(0)
    head = DenseHead(4, WIDTH, 8, dropout=0.0)
    states, padding = torch.randn(3, 4, 4), torch.zeros(4, 3, dtype=torch.bool)
    features, items = torch.randn(4, WIDTH), torch.tensor([1, -1, 2, -1])
    encoder_out = {"encoder_out": [states], "encoder_padding_mask": [padding]}
    counted = {"encoder_out": [states[:, [0, 2]]], "encoder_padding_mask": [padding[[0, 2]]]}
    expected = head.loss(head.features(counted), features[[0, 2]], items[[0, 2]])
    torch.testing.assert_close(head.loss(head.features(encoder_out), features, items), expected)
    nothing = head.loss(head.features(encoder_out), features, torch.full((4,), -1))
    nothing.backward()
    assert nothing.item() == 0


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_head_begins_by_comparing_texts_as_they_are(share):
    torch.manual_seed(0)
    head = DenseHead(3, 7, 8, dropout=0.0, text_dim=3)
    head.share_logit.data = torch.logit(torch.tensor(share))
    queries, mapped, said, kept = (torch.randn(5, width) for width in (3, 3, 3, 1))
    found, items = head.text(queries), head.item(torch.cat([mapped, said, kept], dim=1))
    for vectors in (found, items):
        assert vectors.shape == (5, head.width) == (5, 3 + 8)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    expected = torch.cosine_similarity(queries[:, None], (MAPPED_SHARE * mapped + said)[None], dim=2)
    torch.testing.assert_close(found[:, :3] @ items[:, :3].T, share * expected)
    deep = torch.cosine_similarity(found[:, None, 3:], items[None, :, 3:], dim=2)
    torch.testing.assert_close(found @ items.T, share * expected + (1 - share) * deep)


def test_a_model_s_head_begins_so_too(dense_task):
    head = make_model(dense_task, dense_dim=8).dense
    half = WIDTH // 2
    parts = [MAPPED_SHARE * torch.eye(half), torch.eye(half)]
    assert torch.equal(head.item_tower.straight.weight.detach(), torch.cat(parts, dim=1))
    assert not head.item_tower.straight.bias.any()


def test_a_head_has_a_dropout_of_its_own(dense_task):
    for own, expected in ((None, 0.1), (0.3, 0.3)):
        head = make_model(dense_task, dense_dim=8, dense_dropout=own, dropout=0.1).dense
        assert {module.p for module in head.modules() if isinstance(module, torch.nn.Dropout)} == {expected}


def test_a_head_of_an_earlier_version_is_refused(dense_task):
    model = make_model(dense_task, dense_dim=8)
    state = model.state_dict()
    model.load_state_dict(state)
    del state["dense.share_logit"]
    with pytest.raises(ValueError, match="no dense head, or one of an earlier version; train again"):
        model.load_state_dict(state)


def test_captions_that_no_join_knows_do_not_teach_the_head(dense_bin):
    captions = np.load(dense_bin / CAPTIONS)
    captions[[3, 11]] = 0
    np.save(dense_bin / CAPTIONS, captions)
    task = setup_task(dense_bin)
    task.load_dataset("train")
    assert (make_batch(task, "train")["net_input"]["items"] < 0).nonzero().flatten().tolist() == [3, 11]


@pytest.mark.parametrize("shared", [False, True])
def test_the_criterion_adds_it_weighted(dense_task, shared):
    batch = make_batch(dense_task, "train", 8)
    model = make_model(dense_task, dense_dim=8, dropout=0.0)
    model.train()
    losses = {}
    for weight in (0.0, 0.5):
        criterion = CARTRDropCriterion(dense_task, 0.15, 0.0, shared, weight).train()
        loss, _, log = criterion(model, batch)
        losses[weight] = float(loss)
    assert losses[0.5] == pytest.approx(losses[0.0] + 0.5 * float(log["contrastive"]), rel=1e-5)
    loss.backward()
    assert model.dense.item_tower.deep[1].weight.grad.abs().sum() > 0
    assert model.encoder.embed_tokens.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("shared", [False, True])
def test_what_the_head_thinks_of_symbols_is_a_part_of_the_target(dense_task, shared):
    batch = make_batch(dense_task, "train", 8)
    model = make_model(dense_task, dense_dim=8, dropout=0.0).train()
    right, half = (CARTRDropCriterion(dense_task, 0.15, 0.0, shared, 0.0, share).train() for share in (0.0, 0.5))
    loss = {share: made(model, batch)[0] for share, made in ((0.0, right), (0.5, half))}
    teacher, states = half.soft_targets, model(**batch["net_input"])[1]["query_features"]
    soft = teacher(model.dense, states, batch["target"], 1)
    log_probs = model(**batch["net_input"])[0].log_softmax(-1)
    expected = 0.5 * loss[0.0] - 0.5 * (soft * log_probs).sum()
    torch.testing.assert_close(loss[0.5], expected)
    loss[0.5].backward()
    assert model.dense.item_tower.deep[1].weight.grad.abs().sum() == 0  # it teaches, and is not taught
    with pytest.raises(ValueError, match="the model has no dense head to learn from; give --dense-dim"):
        half(make_model(dense_task).train(), batch)
    model.eval()
    torch.testing.assert_close(half.eval()(model, batch)[0], right.eval()(model, batch)[0])


def test_a_search_orders_the_beam_by_the_sum_of_both_scores(dense_task):
    model, batch = make_model(dense_task, dense_dim=8), make_batch(dense_task)
    source, items = dense_task.data.search_space, dense_task.data.dense_items

    def search(beam, **dense):
        generator = IdentifierGenerator([model], source, dense_task.id_dict.eos(), beam, lookahead=False, **dense)
        return generator.search(batch["net_input"], *source("all"))

    plain, mixed = search(7), search(7, dense=items, dense_weight=0.7)
    assert plain.rows.sort(1).values.tolist() == mixed.rows.sort(1).values.tolist()
    assert not torch.equal(plain.rows, mixed.rows)
    assert (mixed.scores[:, 1:] <= mixed.scores[:, :-1]).all()
    torch.testing.assert_close(mixed.token_scores.sum(2).sort(1).values, plain.scores.sort(1).values)
    with torch.no_grad():
        query = model.dense.query(model.encoder(batch["net_input"]["src_tokens"]))
        vectors = model.dense.item(items.features(mixed.rows[0].numpy()))
    expected = mixed.token_scores.sum(2)[0] + 0.7 * 16 * vectors @ query[0]
    torch.testing.assert_close(mixed.scores[0], expected, atol=1e-5, rtol=1e-5)
    alone = dense_task.search_with([model], 7, dense_weight=0.0)
    assert torch.equal(alone.search(batch["net_input"], *source("all")).rows, plain.rows)
    headless = make_model(dense_task)
    headless.load_state_dict({name: value for name, value in model.state_dict().items() if "dense" not in name})
    assert torch.equal(
        dense_task.search_with([headless], 7).search(batch["net_input"], *source("all")).rows, plain.rows
    )


def test_index_captions_come_as_often_as_asked(dense_bin):
    once, thrice = setup_task(dense_bin), setup_task(dense_bin, index_repeats=3)
    for task in (once, thrice):
        task.load_dataset("train")
    assert len(once.datasets["train"]) == 8 * 4 + 16
    assert len(thrice.datasets["train"]) == 8 * 4 + 3 * 16
    last = thrice.datasets["train"][len(thrice.datasets["train"]) - 1]
    assert torch.equal(last["query"], once.datasets["train"][8 * 4 + 15]["query"])
    items = make_batch(thrice, "train")["net_input"]["items"]
    assert items[: 8 * 4 + 16].tolist() == make_batch(once, "train")["net_input"]["items"].tolist()
    assert items[8 * 4 + 16 :].tolist() == [-1] * 32  # the head learns from each caption once


def test_a_head_without_embeddings_and_wrong_options_are_refused(task, dense_bin, tmp_path):
    with pytest.raises(ValueError, match="holds no embeddings of the items; binarise with --embeddings"):
        make_model(task, dense_dim=8)
    with pytest.raises(ValueError, match=r"--distillation-weight is 0.5, but .* holds no embeddings of the items"):
        CARTRDropCriterion(task, 0.15, 0.0, distillation_weight=0.5)
    with pytest.raises(ValueError, match="--distillation-weight is 1;"):
        CARTRDropCriterion(task, 0.15, 0.0, distillation_weight=1)
    with pytest.raises(ValueError, match="--index-repeats is 0"):
        setup_task(dense_bin, index_repeats=0)
    np.save(tmp_path / "few.npy", embed(5, 0))
    with pytest.raises(ValueError, match=r"few\.npy: 5 rows, but the identifiers have 24 items"):
        binarize(tmp_path / "identifiers", tmp_path / "captions.jsonl", tmp_path / "b", embeddings=tmp_path / "few.npy")


def test_a_join_of_other_captions_or_damaged_is_refused(tmp_path, joined):
    build(tmp_path / "identifiers", make_codec(), unique_size=32)
    captions = read_jsonl(tmp_path / "captions.jsonl")

    def refusal(rows, **settings) -> str:
        write_jsonl(tmp_path / "captions.jsonl", rows)
        with pytest.raises(ValueError) as refused:
            binarize(
                tmp_path / "identifiers",
                tmp_path / "captions.jsonl",
                tmp_path / "b",
                DataBinSettings(**settings),
                embeddings=joined,
            )
        assert not (tmp_path / "b").exists()
        return str(refused.value)

    assert "was joined with other captions" in refusal(captions[1:] + captions[:1])
    assert "with --index-captions include; with exclude here, exclude is needed" in refusal(
        captions, index_captions="exclude"
    )
    np.save(joined / "captions.npy", np.zeros((3, 3)))
    assert "captions.npy: missing, or not what join.json says" in refusal(captions)


def test_updates_of_the_catalogue_carry_the_embeddings(dense_bin, tmp_path):
    before, captions = (np.load(dense_bin / name) for name in (EMBEDDINGS, CAPTIONS))
    _, items = new_items(tmp_path / "new", 5)
    (tmp_path / "new-joined").mkdir()
    added = np.load(tmp_path / "new" / "embeddings.npy")
    np.save(tmp_path / "new-joined" / "embeddings.npy", added)
    write_join(tmp_path / "new-joined", "include")
    add(dense_bin, tmp_path / "new-joined", items)
    np.testing.assert_array_equal(np.load(dense_bin / EMBEDDINGS), np.concatenate([before, added.astype(np.float16)]))
    remove(dense_bin, ["item 0", "item 1", "new 2"])
    assert len(np.load(dense_bin / EMBEDDINGS)) == ITEMS + 5
    kept = np.ones(len(captions), dtype=bool)
    kept[:5] = False  # item 0 is trained with four captions, item 1 with one
    np.testing.assert_array_equal(np.load(dense_bin / CAPTIONS), captions[kept])
    compact(dense_bin)
    whole = np.concatenate([before[2:], added[[0, 1, 3, 4]].astype(np.float16)])
    np.testing.assert_array_equal(np.load(dense_bin / EMBEDDINGS), whole)
    task = setup_task(dense_bin)
    task.load_dataset("train")
    assert len(task.datasets["train"]) == len(captions) - 5
    np.save(tmp_path / "new-joined" / "embeddings.npy", embed(5, 5)[:, :3])
    write_join(tmp_path / "new-joined", "include")
    write_jsonl(items, [{"item_id": f"other {row}"} for row in range(5)])
    with pytest.raises(ValueError, match="width 3"):
        add(dense_bin, tmp_path / "new-joined", items)
