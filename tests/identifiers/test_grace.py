"""The schemes of GRACE: atomic and structured."""

import numpy as np

from cart_fairseq.catalogue.positions import unique_tokens
from preprocess.identifiers.schemes.grace import AtomicCodec, digit_levels
from preprocess.identifiers.schemes.named import SCHEMES


def test_atomic_codes_are_empty_decode_to_the_mean_and_the_unique_token_is_the_row():
    points = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    codec = AtomicCodec.fit(points)
    codes = codec.encode(points)
    assert codes.shape == (30, 0)
    assert codec.positions == []
    np.testing.assert_allclose(codec.decode(codes), np.tile(points.mean(axis=0), (30, 1)), rtol=1e-5, atol=1e-6)
    tokens = unique_tokens(codes, SCHEMES["atomic"].unique_symbols(30, 8))
    assert tokens[:, 0].tolist() == list(range(30))
    assert tokens.shape == (30, 1)


def test_structured_has_as_many_digits_as_the_number_of_items():
    assert [len(digit_levels(items)) for items in (1, 2, 10, 11, 100, 101, 1_000_000)] == [1, 1, 1, 2, 2, 3, 6]
    assert set(digit_levels(500)) == {10}
    assert SCHEMES["structured"].unique_symbols(500, 128) == 10
    assert SCHEMES["rqvae"].unique_symbols(500, 128) == 128
