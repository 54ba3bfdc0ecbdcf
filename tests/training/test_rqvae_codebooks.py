"""Codebooks of the RQ-VAE between updates: later levels follow earlier ones as they are now; where new codewords come from."""

import pytest
import torch

from cart_fairseq.rqvae.network import RQVAE, nearest


@pytest.fixture
def rqvae() -> RQVAE:
    torch.manual_seed(0)
    return RQVAE(dimension=6, latent_dimension=3, codebooks=2, codebook_size=5)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(200, 6, generator=torch.Generator().manual_seed(2))


def left_by_the_first_level(rqvae: RQVAE, x: torch.Tensor) -> torch.Tensor:
    """(B, latent) residuals that the second codebook sees."""
    latent, first = rqvae.encoder(x).detach(), rqvae.codebooks[0].detach()
    return latent - first[nearest(latent, first)]


def test_weights_of_eq_1_and_the_initialisation_are_the_design_s(rqvae):
    assert (rqvae.alpha, rqvae.beta) == (1.0, 0.25)
    for layer in (*rqvae.encoder, *rqvae.decoder):
        if isinstance(layer, torch.nn.Linear):
            bound = (6 / sum(layer.weight.shape)) ** 0.5  # Xavier uniform
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert not layer.bias.any()


def test_initial_codebooks_follow_the_seed(rqvae, x):
    found = []
    for seed in (3, 4):
        rqvae.initialise_codebooks(x, seed)
        found.append([codebook.detach().clone() for codebook in rqvae.codebooks])
    assert all(not torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_recentred_level_leaves_the_next_what_its_moved_codewords_leave(rqvae, x):
    with torch.no_grad():
        for codebook in rqvae.codebooks:
            codebook.copy_(torch.randn(codebook.shape, generator=torch.Generator().manual_seed(5)))
    first, second = (codebook.detach().clone() for codebook in rqvae.codebooks)
    before = nearest(rqvae.encoder(x), first)
    rqvae.recentre_codebooks(x)
    assert not torch.equal(before, nearest(rqvae.encoder(x), rqvae.codebooks[0]))  # rows chose anew
    left = left_by_the_first_level(rqvae, x)
    code = nearest(left, second)
    for value in code.unique():
        torch.testing.assert_close(rqvae.codebooks[1][value].detach(), left[code == value].mean(0))


def test_new_codewords_of_a_level_are_residuals_of_the_moved_level_before(rqvae, x):
    rqvae.initialise_codebooks(x, seed=3)
    with torch.no_grad():
        rqvae.codebooks[0][1:] = 1e4
        rqvae.codebooks[1][2:4] = 1e4
    assert rqvae.reseed_dead_codes(x, seed=4) == [4, 2]
    left = left_by_the_first_level(rqvae, x)
    for codeword in rqvae.codebooks[1].detach()[2:4]:
        assert (left - codeword).abs().sum(1).min() < 1e-5


def test_new_codewords_are_drawn_in_proportion_to_the_squared_error(rqvae, x):
    rqvae.encoder = torch.nn.Sequential()
    latent = torch.zeros(100, 3)
    latent[:50, 0], latent[50:, 1] = 1.0, 3.0  # squared errors 1 and 9, when every row chooses the codeword 0
    taken = 0
    for seed in range(200):
        with torch.no_grad():
            rqvae.codebooks[0].fill_(1e4)
            rqvae.codebooks[0][0] = 0
        rqvae.reseed_dead_codes(latent, seed)
        taken += int(rqvae.codebooks[0].detach()[1][1] == 3.0)
    # nine tenths, with a standard deviation of two hundredths
    assert 0.82 < taken / 200 < 0.97
