"""cart_fairseq.rqvae.network: quantisation, Eq. 1, gradients, initialisation and re-seeding."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cart_fairseq.rqvae.network import RQVAE, k_means_centres, nearest


@pytest.fixture
def rqvae() -> RQVAE:
    torch.manual_seed(0)
    return RQVAE(dimension=12, latent_dimension=5, codebooks=3, codebook_size=7)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(40, 12, generator=torch.Generator().manual_seed(1))


def reference_codes(latent: torch.Tensor, codebooks: list[torch.Tensor]) -> list[list[int]]:
    """Residual quantisation one row, one level and one codeword at a time, in float64."""
    rows = []
    for z in latent.double():
        residual, codes = z, []
        for codebook in codebooks:
            distances = [float((residual - codeword).norm()) for codeword in codebook.double()]
            codes.append(distances.index(min(distances)))
            residual = residual - codebook.double()[codes[-1]]
        rows.append(codes)
    return rows


def test_layers_are_those_of_the_paper():
    widths = [m.in_features for m in RQVAE(1024).encoder if isinstance(m, torch.nn.Linear)]
    assert widths == [1024, 512, 256, 128]
    model = RQVAE(1024)
    assert [m.out_features for m in model.decoder if isinstance(m, torch.nn.Linear)] == [128, 256, 512, 1024]
    assert [type(m).__name__ for m in model.encoder] == ["Linear", "ELU"] * 3 + ["Linear"]
    assert [tuple(c.shape) for c in model.codebooks] == [(128, 64), (128, 64)]


def test_codes_equal_a_plain_loop(rqvae, x):
    expected = reference_codes(rqvae.encoder(x).detach(), [c.detach() for c in rqvae.codebooks])
    assert rqvae.encode(x).tolist() == expected
    assert rqvae(x).codes.tolist() == expected


def test_reconstruction_is_the_decoded_sum_of_codewords(rqvae, x):
    output = rqvae(x)
    summed = sum(codebook[output.codes[:, m]] for m, codebook in enumerate(rqvae.codebooks))
    torch.testing.assert_close(output.reconstruction, rqvae.decoder(summed))
    torch.testing.assert_close(rqvae.decode(output.codes), output.reconstruction.detach())


def test_loss_equals_a_computation_by_hand():
    """One row, identity encoder and decoder, two codebooks: every term of Eq. 1 in plain numbers."""
    model = RQVAE(2, latent_dimension=2, codebooks=2, codebook_size=2, alpha=0.5, beta=0.25)
    model.encoder = model.decoder = torch.nn.Sequential()
    with torch.no_grad():
        model.codebooks[0].copy_(torch.tensor([[1.0, 0.0], [10.0, 10.0]]))
        model.codebooks[1].copy_(torch.tensor([[-9.0, 0.0], [1.0, 1.0]]))
    output = model(torch.tensor([[3.0, 1.0]]))
    # r0 = (3, 1) -> (1, 0), squared distance 5; r1 = (2, 1) -> (1, 1), squared distance 1; Q = (2, 1).
    assert output.codes.tolist() == [[0, 1]]
    assert output.reconstruction_loss.tolist() == [1.0]
    assert output.commitment_loss.tolist() == [1.25 * 5 + 1.25 * 1]
    assert output.loss.tolist() == [1.0 + 0.5 * 7.5]


def test_losses_are_summed_over_dimensions_not_averaged(rqvae, x):
    output = rqvae(x)
    torch.testing.assert_close(
        output.reconstruction_loss, F.mse_loss(output.reconstruction, x, reduction="none").sum(1)
    )


def test_gradients_reach_encoder_decoder_and_every_codebook(rqvae, x):
    rqvae(x).loss.sum().backward()
    for name, parameter in rqvae.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_codebook_gradient_comes_from_its_own_level_only(rqvae, x):
    output = rqvae(x)
    output.loss.sum().backward()
    residual = rqvae.encoder(x).detach()
    for m, codebook in enumerate(rqvae.codebooks):
        chosen = codebook.detach()[output.codes[:, m]]
        expected = torch.zeros_like(codebook).index_add(0, output.codes[:, m], 2 * (chosen - residual))
        torch.testing.assert_close(codebook.grad, expected)
        residual = residual - chosen


def test_straight_through_gradient_to_the_encoder(rqvae, x):
    """The encoder sees the decoder's gradient at Q(z) as if quantisation were the identity, plus the beta terms."""
    latent = rqvae.encoder(x).detach().requires_grad_()
    rqvae.encoder = torch.nn.Identity()
    rqvae.decoder[-1] = torch.nn.Linear(512, 5)
    output = rqvae(latent)
    output.loss.sum().backward()
    quantised = sum(c.detach()[output.codes[:, m]] for m, c in enumerate(rqvae.codebooks)).requires_grad_()
    (latent.detach() - rqvae.decoder(quantised)).square().sum().backward()
    expected = quantised.grad + 2 * (latent.detach() - rqvae.decoder(quantised).detach())
    residual = latent.detach()
    for m, codebook in enumerate(rqvae.codebooks):
        residual = residual - codebook.detach()[output.codes[:, m]]
        expected = expected + 2 * rqvae.beta * residual
    torch.testing.assert_close(latent.grad, expected)


def test_initialisation_uses_every_codeword_and_repeats_itself(rqvae):
    x = torch.randn(200, 12, generator=torch.Generator().manual_seed(2))
    rqvae.initialise_codebooks(x, seed=3)
    codes = rqvae.encode(x)
    assert all(len(codes[:, m].unique()) == 7 for m in range(3))
    before = [c.detach().clone() for c in rqvae.codebooks]
    rqvae.initialise_codebooks(x, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(before, rqvae.codebooks, strict=True))


def test_initialisation_from_fewer_rows_than_codewords(rqvae, x):
    rqvae.initialise_codebooks(x[:3], seed=1)
    latent = rqvae.encoder(x[:3])
    quantised = rqvae.quantise(latent)[1]
    torch.testing.assert_close(quantised, latent)
    assert all(torch.isfinite(c).all() for c in rqvae.codebooks)
    assert k_means_centres(np.ones((4, 2), dtype=np.float32), 3, 0).tolist() == [[1, 1]] * 3


def test_dead_codewords_move_to_current_residuals(rqvae):
    x = torch.randn(200, 12, generator=torch.Generator().manual_seed(2))
    rqvae.initialise_codebooks(x, seed=3)
    with torch.no_grad():
        rqvae.codebooks[0][2:5] = 1e4
        rqvae.codebooks[2][6] = -1e4
    alive = rqvae.codebooks[0].detach()[[0, 1, 5, 6]]
    moved = rqvae.reseed_dead_codes(x, seed=4)
    assert moved[0] == 3
    assert moved[2] >= 1
    latents = rqvae.encoder(x).detach()
    assert all(latents.eq(c).all(dim=1).any() for c in rqvae.codebooks[0].detach()[2:5])
    torch.testing.assert_close(rqvae.codebooks[0].detach()[[0, 1, 5, 6]], alive)
    assert len(rqvae.encode(x)[:, 0].unique()) == 7


def test_reseeding_repeats_itself_and_leaves_living_codewords_alone(rqvae):
    x = torch.randn(200, 12, generator=torch.Generator().manual_seed(2))
    state = {name: tensor.clone() for name, tensor in rqvae.state_dict().items()}
    rqvae.reseed_dead_codes(x, seed=4)
    first = [c.detach().clone() for c in rqvae.codebooks]
    rqvae.load_state_dict(state)
    rqvae.reseed_dead_codes(x, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first, rqvae.codebooks, strict=True))
    rqvae.initialise_codebooks(x, seed=0)
    assert rqvae.reseed_dead_codes(x, seed=4) == [0, 0, 0]


def test_identical_rows_leave_nothing_to_reseed(rqvae, x):
    same = x[:1].repeat(9, 1)
    rqvae.initialise_codebooks(same, seed=1)
    assert rqvae.reseed_dead_codes(same, seed=1) == [0, 0, 0]


@pytest.mark.parametrize("name", ["dimension", "latent_dimension", "codebooks", "codebook_size"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        RQVAE(**{"dimension": 3, name: 0})


def test_recentred_codewords_are_the_means_of_what_chooses_them():
    torch.manual_seed(0)
    rqvae = RQVAE(6, 3, 2, 8)
    x = torch.randn(200, 6)
    rqvae.initialise_codebooks(x[:20], seed=1)
    with torch.no_grad():
        rqvae.codebooks[1][5] = 1e3  # serves nobody
        latent = rqvae.encoder(x)
        before = (latent - rqvae.quantise(latent)[1]).square().sum()
        code = nearest(latent, rqvae.codebooks[0])
        rqvae.recentre_codebooks(x)
        after = (latent - rqvae.quantise(latent)[1]).square().sum()
    assert after < before
    for value in code.unique():
        torch.testing.assert_close(rqvae.codebooks[0][value].detach(), latent[code == value].mean(dim=0))
    assert (rqvae.codebooks[1][5] == 1e3).all()
    for _ in range(50):
        rqvae.recentre_codebooks(x)
    settled = [codebook.detach().clone() for codebook in rqvae.codebooks]
    rqvae.recentre_codebooks(x)
    torch.testing.assert_close([codebook.detach() for codebook in rqvae.codebooks], settled)
