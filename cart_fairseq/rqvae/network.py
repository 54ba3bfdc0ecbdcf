"""RQ-VAE: an autoencoder that quantises its latent vector as a sum of codewords (CART section 3.2.2, Eq. 1).

This file has the module and its numerics. `cart_fairseq.tasks.cart_rqvae` trains it; `preprocess.build_identifiers`
computes its input, the embedding minus its k-means centre.

Eq. 1 prints the commitment term with r_i. Here the residual that is pulled to codeword i is r_(i-1), the one before
the codeword is subtracted, as in the residual quantisers that the paper cites. Squared errors are summed over
dimensions, not averaged: an average over a thousand dimensions makes the reconstruction term too small, and the
codebooks collapse.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

HIDDEN_WIDTHS = (512, 256, 128)
"""Widths of the encoder's three hidden layers (CART appendix C)."""


@dataclass
class RQVAEOutput:
    """The output of one forward pass of `RQVAE`.

    Attributes:
        codes: (B, M) int64, the index of the codeword chosen at each level.
        reconstruction: (B, D) float, D(Q(E(x))).
        reconstruction_loss: (B,) float, squared error of each row, summed over its D dimensions.
        commitment_loss: (B,) float, codebook and commitment terms of each row, summed over levels and dimensions.
        loss: (B,) float, reconstruction_loss + alpha * commitment_loss.
    """

    codes: Tensor
    reconstruction: Tensor
    reconstruction_loss: Tensor
    commitment_loss: Tensor
    loss: Tensor


def multilayer_perceptron(widths: list[int]) -> nn.Sequential:
    """Make linear layers of the given widths with ELU between them, Xavier-uniform weights and zero biases."""
    layers: list[nn.Module] = []
    for index, (width_in, width_out) in enumerate(itertools.pairwise(widths)):
        linear = nn.Linear(width_in, width_out)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if index < len(widths) - 2:
            layers.append(nn.ELU())
    return nn.Sequential(*layers)


class RQVAE(nn.Module):
    """Encoder D-512-256-128-latent, M independent codebooks, symmetric decoder.

    Args:
        dimension: D, width of the input.
        latent_dimension: width of the latent vector and of every codeword (paper: 64).
        codebooks: M, number of levels (paper: 2).
        codebook_size: codewords per level (paper: 128).
        alpha: weight of the commitment loss (Eq. 1).
        beta: weight of the encoder's term within the commitment loss (Eq. 1).

    Raises:
        ValueError: a size is below 1.
    """

    def __init__(
        self,
        dimension: int,
        latent_dimension: int = 64,
        codebooks: int = 2,
        codebook_size: int = 128,
        alpha: float = 1.0,
        beta: float = 0.25,
    ):
        super().__init__()
        for name, value in (
            ("dimension", dimension),
            ("latent_dimension", latent_dimension),
            ("codebooks", codebooks),
            ("codebook_size", codebook_size),
        ):
            if value < 1:
                raise ValueError(f"RQ-VAE: {name} is {value}; it must be at least 1")
        self.alpha = alpha
        self.beta = beta
        widths = [dimension, *HIDDEN_WIDTHS, latent_dimension]
        self.encoder = multilayer_perceptron(widths)
        self.decoder = multilayer_perceptron(widths[::-1])
        self.codebooks = nn.ParameterList(
            nn.Parameter(torch.randn(codebook_size, latent_dimension) / latent_dimension**0.5) for _ in range(codebooks)
        )

    def forward(self, x: Tensor) -> RQVAEOutput:
        """Quantise and reconstruct x, (B, D) float; the straight-through estimator passes gradients to the encoder."""
        latent = self.encoder(x)
        codes, quantised, commitment_loss = self.quantise(latent)
        reconstruction = self.decoder(latent + (quantised - latent).detach())
        reconstruction_loss = (x - reconstruction).square().sum(dim=1)
        loss = reconstruction_loss + self.alpha * commitment_loss
        return RQVAEOutput(codes, reconstruction, reconstruction_loss, commitment_loss, loss)

    def quantise(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise latent vectors, level by level.

        Each codebook gets gradients from its own level only ("updated independently", section 3.2.2): the codeword that
        is subtracted is detached.

        Args:
            latent: (B, latent) float.

        Returns:
            Codes, (B, M) int64; the sum of the chosen codewords, (B, latent) float; the commitment loss, (B,) float.
        """
        residual = latent
        quantised = torch.zeros_like(latent)
        commitment_loss = latent.new_zeros(latent.shape[0])
        codes = []
        for codebook in self.codebooks:
            code = nearest(residual.detach(), codebook.detach())
            codeword = F.embedding(code, codebook)
            to_codebook = (residual.detach() - codeword).square().sum(dim=1)
            to_encoder = (residual - codeword.detach()).square().sum(dim=1)
            commitment_loss = commitment_loss + to_codebook + self.beta * to_encoder
            residual = residual - codeword.detach()
            quantised = quantised + codeword.detach()
            codes.append(code)
        return torch.stack(codes, dim=1), quantised, commitment_loss

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Encode x: (B, D) float -> codes (B, M) int64, equal to those of `quantise`, without computing losses."""
        residual, codes = x, []
        for layer in self.encoder:
            # in place, because new memory costs as much time as the activation, and no gradient is needed
            residual = F.elu_(residual) if isinstance(layer, nn.ELU) else layer(residual)
        for codebook in self.codebooks:
            codes.append(nearest(residual, codebook))
            residual = residual - F.embedding(codes[-1], codebook)
        return torch.stack(codes, dim=1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Reconstruct from codes: (B, M) int64 -> (B, D) float."""
        return self.decoder(sum(F.embedding(codes[:, m], codebook) for m, codebook in enumerate(self.codebooks)))

    @torch.no_grad()
    def initialise_codebooks(self, x: Tensor, seed: int) -> None:
        """Set every codebook to the k-means centres of the residuals of its level.

        Args:
            x: (n, D) float, a sample of the training data. If a level has no more distinct residuals than codewords,
                the codewords are these residuals, repeated.
            seed: seed of scikit-learn's k-means, which runs in one thread so that the result does not depend on the
                number of threads.
        """
        residual = self.encoder(x)
        for level, codebook in enumerate(self.codebooks):
            centres = k_means_centres(residual.cpu().numpy(), len(codebook), seed + level)
            codebook.copy_(torch.from_numpy(centres))
            residual = residual - F.embedding(nearest(residual, codebook), codebook)

    @torch.no_grad()
    def recentre_codebooks(self, x: Tensor) -> None:
        """Move every codeword to the mean of the residuals that choose it: one step of Lloyd's k-means at each level.

        The gradient of Eq. 1 moves codewords in the same direction. But Adam moves a coordinate by little more than the
        learning rate per update, and the encoder's latent vectors grow faster. Codebooks trained by gradients alone
        ended with almost twice the error of codebooks fitted to the final latent vectors.

        Args:
            x: (n, D) float, a sample of the training data.
        """
        residual = self.encoder(x)
        for codebook in self.codebooks:
            code = nearest(residual, codebook)
            count = torch.bincount(code, minlength=len(codebook)).unsqueeze(1)
            total = torch.zeros_like(codebook).index_add_(0, code, residual)
            codebook.copy_(torch.where(count > 0, total / count.clamp(min=1), codebook))
            residual = residual - F.embedding(nearest(residual, codebook), codebook)

    @torch.no_grad()
    def reseed_dead_codes(self, x: Tensor, seed: int) -> list[int]:
        """Move every codeword that no row of x chooses to the residual of a random row.

        Rows are drawn without replacement with probability proportional to their squared quantisation error. The result
        depends on x, the weights and the seed only, so a resumed run equals an uninterrupted one.

        Args:
            x: (n, D) float, a sample of the training data.
            seed: seed of the random rows.

        Returns:
            The number of moved codewords for each level. Some dead codewords stay if too few rows have an error.
        """
        moved = []
        residual = self.encoder(x)
        for level, codebook in enumerate(self.codebooks):
            code = nearest(residual, codebook)
            dead = torch.bincount(code, minlength=len(codebook)).eq(0).nonzero()[:, 0]
            error = (residual - F.embedding(code, codebook)).square().sum(dim=1).double().cpu().numpy()
            count = min(len(dead), int((error > 0).sum()))
            if count:
                draw = np.random.default_rng([seed, level])
                rows = draw.choice(len(error), size=count, replace=False, p=error / error.sum())
                codebook[dead[:count]] = residual[torch.from_numpy(rows).to(residual.device)]
                code = nearest(residual, codebook)
            residual = residual - F.embedding(code, codebook)
            moved.append(count)
        return moved


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest codeword by Euclidean distance: (B, latent), (size, latent) -> (B,) int64."""
    # |p - c|² without |p|², which is equal for all codewords
    distances = torch.addmm(codebook.square().sum(dim=1), points, codebook.t(), alpha=-2.0)
    return distances.min(dim=1).indices  # twice as fast as argmin


def k_means_centres(points: NDArray[np.float32], size: int, seed: int) -> NDArray[np.float32]:
    """Compute `size` k-means centres of points (n, latent); at most `size` distinct points are returned, repeated."""
    distinct = np.unique(points, axis=0)
    if len(distinct) <= size:
        return np.resize(distinct, (size, points.shape[1]))
    with threadpool_limits(limits=1):
        return KMeans(size, n_init=1, max_iter=50, random_state=seed).fit(points).cluster_centers_
