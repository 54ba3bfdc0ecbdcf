"""preprocess.identifiers.encode: blocks give what the whole gives, and a pass that was broken off goes on where it stopped."""

import numpy as np
import pytest
import torch

from cart_fairseq.rqvae.network import RQVAE
from preprocess.identifiers import encode
from preprocess.identifiers.clustering import CHUNK_ROWS
from preprocess.identifiers.codec import TransformedCodec, restore_codec
from preprocess.identifiers.encode import encode_catalogue, local_engine, reconstruction_error
from preprocess.identifiers.schemes.coarse_fine import ResidualCodec
from preprocess.identifiers.schemes.named import SCHEMES
from preprocess.identifiers.schemes.tree import TreeCodec
from preprocess.identifiers.transform import Transform

ROWS, WIDTH, BLOCK = 70, 6, 16


def residual_codec(width: int = WIDTH) -> ResidualCodec:
    torch.manual_seed(0)
    centres = np.random.default_rng(1).standard_normal((5, width)).astype(np.float32)
    return ResidualCodec(centres, 8, RQVAE(width, 4, 2, 8).requires_grad_(False).eval(), 0.7)


def points(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((rows, WIDTH)).astype(np.float16)


def codecs() -> list:
    plane = Transform(True, np.full(WIDTH, 0.1, np.float32), np.eye(WIDTH, dtype=np.float32)[:4])
    tree = TreeCodec.fit(points(), [4, 4], "lloyd", seed=1)
    return [residual_codec(), tree, TransformedCodec(plane, residual_codec(4)), TransformedCodec(Transform(True), tree)]


@pytest.mark.parametrize("number", range(4))
def test_blocks_give_what_the_whole_gives(tmp_path, number):
    codec, embeddings = codecs()[number], points()
    engine = local_engine(codec, embeddings, BLOCK)
    codes, error = encode_catalogue(engine, (ROWS, WIDTH), len(codec.positions), BLOCK, tmp_path)
    np.testing.assert_array_equal(codes, codec.encode(embeddings))
    scheme = SCHEMES["hierarchical-kmeans" if number % 2 else "coarse-fine"]
    restored = restore_codec(scheme, codec.tensors(), codec.positions)
    np.testing.assert_array_equal(restored.encode(embeddings), codes)
    # The figure, by its definition, in float64.
    target = embeddings.astype(np.float64)
    if isinstance(codec, TransformedCodec):
        target /= np.linalg.norm(target, axis=1, keepdims=True)
    expected = np.square(target - codec.decode(codes)).sum() / np.square(target - target.mean(axis=0)).sum()
    assert error == pytest.approx(expected, rel=1e-5)
    assert reconstruction_error(codec, embeddings, codes) == pytest.approx(expected, rel=1e-5)


def test_chunks_do_not_show():
    codec, embeddings = residual_codec(), points(2 * CHUNK_ROWS + 5)
    codes = codec.encode(embeddings)
    for row in (0, CHUNK_ROWS - 1, CHUNK_ROWS, 2 * CHUNK_ROWS + 4):
        np.testing.assert_array_equal(codec.encode(embeddings[row : row + 1])[0], codes[row])


def test_error_of_equal_rows_is_zero_and_of_their_mean_one():
    tree = TreeCodec.fit(np.ones((3, 2), dtype=np.float32), [2], "lloyd", seed=1)
    equal = np.ones((5, 2), dtype=np.float32)
    assert reconstruction_error(tree, equal, tree.encode(equal)) == 0
    around = np.array([[0, 0], [2, 2]], dtype=np.float32)
    assert reconstruction_error(tree, around, np.zeros((2, 1), dtype=np.int32)) == pytest.approx(1)


@pytest.mark.parametrize("broken_after", [0, 1, 2, 3, 4])
def test_a_broken_pass_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch, broken_after):
    monkeypatch.setattr(encode, "CHECKPOINT_BLOCKS", 2)
    codec, embeddings = residual_codec(), points()
    engine = local_engine(codec, embeddings, BLOCK)
    asked: list[list[int]] = []

    def failing(pending):
        for count, result in enumerate(engine(pending)):
            if count == broken_after:
                raise KeyboardInterrupt
            yield result

    def recording(pending):
        asked.append(pending.tolist())
        return engine(pending)

    with pytest.raises(KeyboardInterrupt):
        encode_catalogue(failing, (ROWS, WIDTH), 3, BLOCK, tmp_path / "broken")
    resumed = encode_catalogue(recording, (ROWS, WIDTH), 3, BLOCK, tmp_path / "broken")
    unbroken = encode_catalogue(engine, (ROWS, WIDTH), 3, BLOCK, tmp_path / "unbroken")
    assert asked == [list(range(broken_after // 2 * 2, 5))]
    np.testing.assert_array_equal(resumed[0], unbroken[0])
    assert resumed[1] == unbroken[1]
    assert encode_catalogue(recording, (ROWS, WIDTH), 3, BLOCK, tmp_path / "broken")[1] == unbroken[1]
    assert len(asked) == 1
