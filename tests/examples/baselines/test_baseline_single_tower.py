"""The single tower of examples/baselines on tiny BLIP and BLIP-2 matching models with random weights."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import load_example
from PIL import Image

from cart_fairseq.measuring.results import Ranking

pytest.importorskip("transformers")
matching = load_example("baselines", "matching")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "green", "cat", "dog", "runs"]
LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
VISION = {**LAYERS, "image_size": 16, "patch_size": 8}
TEXTS = ["a red cat", "green", "a dog runs a dog runs"]


def save(folder: Path, config: Any, model: Any) -> Path:
    """A checkpoint as those on the hub, its weights wide enough for scores to differ."""
    from transformers import BertTokenizer, BlipImageProcessor

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    model.save_pretrained(folder)
    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}, model_max_length=16).save_pretrained(
        folder
    )
    BlipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def save_blip(folder: Path, architecture: str = "BlipForImageTextRetrieval") -> Path:
    import transformers

    text = {**LAYERS, "vocab_size": len(WORDS) + 2, "encoder_hidden_size": 16, "max_position_embeddings": 16}
    text |= {"bos_token_id": len(WORDS), "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    config = transformers.BlipConfig(text_config=text, vision_config=VISION, projection_dim=8, image_text_hidden_size=8)
    return save(folder, config, getattr(transformers, architecture)(config))


def save_blip2(folder: Path) -> Path:
    from transformers import Blip2Config, Blip2ForImageTextRetrieval

    reader = {**LAYERS, "encoder_hidden_size": 16, "vocab_size": len(WORDS), "use_qformer_text_input": True}
    reader |= {"cross_attention_frequency": 1, "max_position_embeddings": 16}
    config = Blip2Config(vision_config=VISION, qformer_config=reader, num_query_tokens=4, image_text_hidden_size=8)
    return save(folder, config, Blip2ForImageTextRetrieval(config))


@pytest.fixture(scope="module", params=["blip", "blip-2"])
def matcher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("matcher")
    return matching.Matcher(str((save_blip if request.param == "blip" else save_blip2)(folder)), "cpu")


def pictures(number: int) -> list[Image.Image]:
    generator = np.random.default_rng(5)
    return [Image.fromarray(generator.integers(0, 255, (20, 24, 3), dtype=np.uint8)) for _ in range(number)]


def test_scores_are_those_of_the_models_own_forward(matcher):
    images = pictures(3)
    inputs = {"pixel_values": matcher.pictures(images, return_tensors="pt")["pixel_values"]}
    tokens = matcher.tokenizer(TEXTS, padding=True, return_tensors="pt")
    inputs |= {name: tokens[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        if matcher.kind == "blip":
            logits = matcher.model(**inputs, use_itm_head=True).itm_score
        else:
            logits = matcher.model(**inputs, use_image_text_matching_head=True).logits_per_image
    found = matcher.score(matcher.encode(images), TEXTS)
    torch.testing.assert_close(found, logits[:, 1] - logits[:, 0], rtol=1e-4, atol=1e-5)
    assert len({round(score, 3) for score in found.tolist()}) == 3


def test_the_first_stage_ranks_by_the_models_own_contrastive_part(matcher):
    images = pictures(5)
    pixels = matcher.pictures(images, return_tensors="pt")["pixel_values"]
    scores = []
    for text in TEXTS:
        tokens = matcher.tokenizer([text] * 5, padding=True, return_tensors="pt")
        inputs = {"pixel_values": pixels, "input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
        with torch.no_grad():
            if matcher.kind == "blip":
                scores.append(matcher.model(**inputs, use_itm_head=False).itm_score[:, 0])
            else:
                output = matcher.model(**inputs, use_image_text_matching_head=False)
                scores.append(output.logits_per_image[:, 0])
    asked = [10, 11, 12, 13, 14]
    found = matcher.first_stage(TEXTS, asked, lambda row: images[row - 10], 3, 2)
    for expected, ranking in zip(scores, found, strict=True):
        best = expected.topk(3)
        assert ranking.rows == [asked[place] for place in best.indices.tolist()]
        np.testing.assert_allclose(ranking.scores, best.values.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_reranking_scores_every_pair_and_encodes_each_picture_once(matcher, batch):
    images = pictures(5)
    rankings = [Ranking([4, 0, 2], [0.9, 0.8, 0.1]), Ranking([0], [0.5]), Ranking([3, 4, 2, 0], [4.0, 3.0, 2.0, 1.0])]
    asked: list[int] = []

    def picture(row: int) -> Image.Image:
        asked.append(row)
        return images[row]

    found, seconds = matching.rerank(matcher, TEXTS, rankings, picture, batch)
    assert sorted(asked) == [0, 2, 3, 4]
    assert seconds > 0
    for text, before, after in zip(TEXTS, rankings, found, strict=True):
        own = matcher.score(matcher.encode([images[row] for row in before.rows]), [text] * len(before.rows))
        order = np.argsort(-own.numpy(), kind="stable")
        assert after.rows == [before.rows[place] for place in order]
        np.testing.assert_allclose(after.scores, own.numpy()[order], rtol=1e-4, atol=1e-5)


def test_models_without_a_matching_head_are_refused(tmp_path):
    captioner = save_blip(tmp_path / "captioner", "BlipForConditionalGeneration")
    with pytest.raises(
        ValueError, match=r"captioner: lacks \d+ weights of BlipForImageTextRetrieval .* would be random"
    ):
        matching.Matcher(str(captioner), "cpu")
    from transformers import BertConfig

    BertConfig(hidden_size=16).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="is a model of type 'bert'; the single tower needs blip or blip-2"):
        matching.Matcher(str(tmp_path / "bert"), "cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: cannot be loaded"):
        matching.Matcher(str(tmp_path / "empty"), "cpu")


def test_without_transformers_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"the single tower: transformers is not installed; pip install"):
        matching.Matcher("anything", "cpu")
