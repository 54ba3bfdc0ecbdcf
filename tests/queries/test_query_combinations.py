"""Kinds of queries, kinds of search and a catalogue that has changed, together: masked searches equal a slow reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_model, setup_task, write_jsonl
from join_samples import ITEMS, SMALL, WIDTH, write_world

from cart_fairseq import CartRetriever, Query
from cart_fairseq.catalogue.dictionary import EOS
from cart_fairseq.queries.item_priors import priors_of
from cart_fairseq.queries.query import ITEM, TEXT, parts_of
from preprocess.api import add, remove
from preprocess.data_bin.build import binarize
from preprocess.identifiers.build import build_identifiers
from preprocess.identifiers.settings import IdentifierSettings
from preprocess.join.build import join_captions
from preprocess.join.settings import JoinSettings

NEW, GONE = 3, 5
NEW_ROWS = np.random.default_rng(8).normal(size=(NEW, WIDTH)).astype(np.float32)
EVERYTHING = ITEMS + NEW
NOISE = np.random.default_rng(9).normal(size=(2, WIDTH))
QUERIES: list[str | Query] = [
    "red cat",
    Query(item_id="i3"),
    Query(embedding=NOISE[0]),
    Query(embedding=NOISE[1], text="old house"),
    Query(item_id="i7", text="red", weights={"text": -0.5}),
    Query(text=["red cat", "old dog"], weights={"text": [1, 0.3]}),
    Query(item_id="n1"),
    Query(text=["red", "dog"], item_id="n0", weights={"text": [2, -1]}),
]
SETS = [["i1", "i9", "n0"], ["i3", "i4", "n2"], None, ["n0", "n2"], ["i2", "i7", "n1"], ["n1"], None, ["i8", "i40"]]
"""The candidates of each query: old items, new ones, both, all of them."""
MODELS: dict[str, tuple[int, ...]] = {"one": (0,), "two": (0, 0), "reader": (2,), "readers": (2, 3), "mixed": (2, 0)}
"""The media positions of the models of each ensemble."""
SEARCHES: dict[str, dict[str, Any]] = {
    "usual": {},
    "priors": {"prior_share": 0.5},
    "reranked": {"prior_share": 0.5, "lookahead": False, "level_discount": 0.7, "dense_weight": 1.5},
}


@pytest.fixture(scope="module")
def data_bin(tmp_path_factory):
    """A data-bin of a join to which items were added, and from which one was removed."""
    root = tmp_path_factory.mktemp("world")
    files = write_world(root)
    settings = JoinSettings(**SMALL, keep_embedding=True)
    join_captions(files.embeddings, files.items, files.captions, files.output, settings)
    identified = IdentifierSettings(scheme="residual-kmeans", kmeans_clusters=4, codebooks=1, codebook_size=4)
    build_identifiers(files.output, files.items, root / "identifiers", identified)
    binarize(root / "identifiers", files.captions, root / "data-bin", embeddings=files.output)
    np.save(root / "new.npy", NEW_ROWS)
    write_jsonl(root / "new.jsonl", [{"item_id": f"n{number}"} for number in range(NEW)])
    add(root / "data-bin", root / "new.npy", root / "new.jsonl")
    remove(root / "data-bin", [f"i{GONE}"])
    return root / "data-bin"


@pytest.fixture(scope="module")
def task(data_bin):
    return setup_task(data_bin)


@pytest.fixture(scope="module", params=MODELS)
def models(request, task):
    """Models that know the items from before the update, each with another weight of the dense score."""
    found = [
        make_model(task, seed, dense_dim=4, media_positions=count) for seed, count in enumerate(MODELS[request.param])
    ]
    for number, model in enumerate(found):
        model.revision = 0
        model.dense.weight.fill_(0.5 + number)
    return found


@pytest.mark.parametrize("options", [*SEARCHES.values(), {"scoring": "renormalised"}], ids=[*SEARCHES, "renormalised"])
def test_a_batch_answers_each_query_as_if_it_were_alone(models, task, options):
    opened = CartRetriever(models, task.data, beam=3, **options)
    alone = [opened.search([query], 3, [allowed])[0] for query, allowed in zip(QUERIES, SETS, strict=True)]
    for together in (opened.search(QUERIES, 3, SETS), opened.search(QUERIES[::-1], 3, SETS[::-1])[::-1]):
        for found, own in zip(together, alone, strict=True):
            assert [hit.item_id for hit in found] == [hit.item_id for hit in own]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in own], abs=1e-4)


@pytest.mark.parametrize("sets", [None, SETS], ids=["whole", "sets"])
@pytest.mark.parametrize("options", SEARCHES.values(), ids=SEARCHES)
def test_a_batch_ranks_as_a_slow_reference(models, task, options, sets):
    opened = CartRetriever(models, task.data, beam=EVERYTHING, **options)
    answers = opened.search(QUERIES, EVERYTHING, sets)
    for query, allowed, hits in zip(QUERIES, sets or [None] * len(QUERIES), answers, strict=True):
        wanted = expected(opened, query, allowed)
        assert {hit.item_id: hit.score for hit in hits} == pytest.approx(wanted, abs=2e-3)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


UNANSWERED = {
    "embedding": Query(embedding=NOISE[0]),
    "media": Query(media="no such file.png"),
    "text, item_id": Query(item_id="i3", text="red"),
    "text": Query(text=["red", "cat"]),
}


@pytest.mark.parametrize("query", UNANSWERED.values(), ids=UNANSWERED)
@pytest.mark.parametrize(
    ("dims", "remedy"),
    [([0], "train with --dense-dim"), ([4, 0], "train with --dense-dim"), ([4], "search with another dense_weight")],
    ids=["no head", "one head of two", "tuned to weight 0"],
)
def test_models_without_a_dense_score_name_the_query_and_the_remedy(task, query, dims, remedy):
    models = [make_model(task, seed, dense_dim=dim) for seed, dim in enumerate(dims)]
    for model in models:
        if model.dense is not None:
            model.dense.weight.fill_(0)
    kinds = next(name for name, each in UNANSWERED.items() if each is query)
    with pytest.raises(ValueError, match=rf"^query 2 asks with {kinds}, but .* {remedy}$"):
        CartRetriever(models, task.data).search(["red cat", Query(text="dog"), query, query])


@torch.no_grad()
def expected(opened: CartRetriever, query: str | Query, allowed: Sequence[str] | None) -> dict[str, float]:
    """The score of each item that the answer may hold; all items are scored one by one."""
    bundle, [parts] = opened.data.bundle, parts_of([query])
    rows = bundle.kept if allowed is None else bundle.rows_of(allowed)
    dense = dense_scores(opened, parts)[rows]
    scores, written = dense, written_scores(opened, parts)
    if written is not None:
        old = rows < ITEMS
        before = written[rows[old]] + dense[old]
        shares = np.exp(before - before.max()) if len(before) else before
        scores = dense + (shares @ written[rows[old]] / shares.sum() if len(before) else 0.0)
        scores[old] = before
    left_out = {part.value for part in parts if part.kind == ITEM}
    named = zip(map(bundle.item_id, rows.tolist()), scores.tolist(), strict=True)
    return {item_id: score for item_id, score in named if item_id not in left_out}


def dense_scores(opened: CartRetriever, parts: Sequence[Any]) -> np.ndarray:
    """(N,) float64, the weighted mean over the parts."""
    kept, items = opened.data.bundle.kept, opened.data.dense_items
    assert items is not None
    heads: list[Any] = [model.dense for model in opened.models]
    weights = [float(head.weight) if opened.dense_weight is None else opened.dense_weight for head in heads]
    vectors = [head.item(items.features(np.arange(EVERYTHING))).double() * head.scale().double() for head in heads]
    between = [vector[kept] @ vector[kept].T / head.scale() for vector, head in zip(vectors, heads, strict=True)]
    spread = float(torch.stack(between).mean(0)[~torch.eye(len(kept), dtype=torch.bool)].std(correction=0))
    found = np.zeros(EVERYTHING)
    for part in parts:
        if part.kind == TEXT:
            symbols = opened.codec.symbols(part.value).unsqueeze(0)
            states = [model.encoder(symbols) for model in opened.models]
            asked = [head.query(state)[0].double() for head, state in zip(heads, states, strict=True)]
            pairs = zip(vectors, asked, weights, strict=True)
            score = torch.stack([vector @ query * weight for vector, query, weight in pairs]).mean(0).numpy()
            if opened.prior_share:
                score = (
                    score
                    - opened.prior_share
                    * np.mean(weights)
                    * priors_of(opened.models, opened.data, opened.dense_weight).numpy()
                )
        else:
            score = items.originals(np.arange(EVERYTHING)).double().numpy() @ vector_of(opened, part)
            score *= 2 * spread * np.mean(weights) / score[kept].std()
        found += part.weight * score
    return found / sum(abs(part.weight) for part in parts)


def written_scores(opened: CartRetriever, parts: Sequence[Any]) -> np.ndarray | None:
    """(N,) float64, the log probability of each identifier; None if there is nothing that all models can read."""
    said = [part.value for part in parts if part.kind == TEXT and part.weight > 0]
    shown = [part.weight * vector_of(opened, part) for part in parts if part.kind != TEXT and part.weight > 0]
    if not said and not all(model.reader is not None for model in opened.models):
        return None
    symbols = opened.codec.symbols(", ".join(said)) if said else torch.tensor([EOS])
    targets = torch.from_numpy(opened.data.bundle.values.astype(np.int64) + opened.data.bundle.offsets)
    previous = torch.cat([torch.full((EVERYTHING, 1), EOS), targets[:, :-1]], dim=1)
    each = []
    for model in opened.models:
        encoded = model.encoder(symbols.unsqueeze(0))
        if shown and model.reader is not None:
            read = torch.from_numpy(sum(shown) / np.linalg.norm(sum(shown))).float().unsqueeze(0)
            encoded = model.reader(encoded, read, torch.tensor([True]), torch.tensor([bool(said)]))
        logits, _ = model.decoder(previous, encoded)
        each.append(logits.double().softmax(-1).gather(2, targets.unsqueeze(2)).squeeze(2))
    discounts = np.power(opened.level_discount, np.arange(targets.size(1)))
    return torch.stack(each).mean(0).log().numpy() @ discounts


def vector_of(opened: CartRetriever, part: Any) -> np.ndarray:
    """The embedding of an item, or one that is given: (E,) float64, of length 1."""
    found = part.value
    if part.kind == ITEM:
        assert opened.data.dense_items is not None
        found = opened.data.dense_items.originals(np.array([opened.data.bundle.find(part.value)]))[0].double().numpy()
    return found / np.linalg.norm(found)
