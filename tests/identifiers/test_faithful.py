"""`build_identifiers --faithful` equals a plain implementation of the paper, which this file has."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from building import CODES, ITEMS, SMALL, WIDTH, build, points, training_here, write_catalogue
from omegaconf import OmegaConf
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from cart_fairseq.criterions.cart_rqvae import RQVAECriterion
from cart_fairseq.models.cart_rqvae import RQVAEModelConfig
from cart_fairseq.tasks.cart_rqvae import RQVAETask, RQVAETaskConfig
from preprocess.identifiers.clustering import fit_centres, nearest_centres
from preprocess.identifiers.codec import load_codec
from preprocess.updating.steps import add

__all__ = ["training_here"]  # a fixture


class PlainRQVAE(nn.Module):
    """The RQ-VAE of section 3.2.2 and appendix C, without a line of the project."""

    def __init__(self, dimension: int, latent: int, codebooks: int, size: int):
        super().__init__()
        widths = [dimension, 512, 256, 128, latent]
        self.encoder, self.decoder = self.network(widths), self.network(widths[::-1])
        self.codebooks = nn.ParameterList(
            nn.Parameter(torch.randn(size, latent) / latent**0.5) for _ in range(codebooks)
        )

    @staticmethod
    def network(widths: list[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            linear = nn.Linear(before, after)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.ELU()]
        return nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, alpha: float = 1.0, beta: float = 0.25) -> tuple[Tensor, Tensor]:
        """The loss of each row (Eq. 1), and the codes."""
        z = self.encoder(x)
        residual, quantised, commit, codes = z, torch.zeros_like(z), torch.zeros(len(z)), []
        for codebook in self.codebooks:
            codes.append(torch.cdist(residual, codebook).argmin(dim=1))
            e = codebook[codes[-1]]
            commit = commit + F.mse_loss(residual.detach(), e, reduction="none").sum(dim=1)
            commit = commit + beta * F.mse_loss(residual, e.detach(), reduction="none").sum(dim=1)
            residual, quantised = residual - e.detach(), quantised + e.detach()
        reconstruction = self.decoder(z + (quantised - z).detach())
        return ((x - reconstruction) ** 2).sum(dim=1) + alpha * commit, torch.stack(codes, dim=1)


def plain_identifiers(
    embeddings: np.ndarray, seed: int, epochs: int, clusters: int, size: int, latent: int
) -> tuple[np.ndarray, PlainRQVAE]:
    """(N, 3) k, v1, v2 and the RQ-VAE, for catalogues of a single batch, in which the order of rows has no effect."""
    x = embeddings.astype(np.float32)
    k_means = MiniBatchKMeans(clusters, random_state=seed).fit(x)
    residuals = torch.from_numpy(x - k_means.cluster_centers_[k_means.labels_])
    torch.manual_seed(seed)
    rqvae = PlainRQVAE(x.shape[1], latent, 2, size)
    adam, warmup = torch.optim.Adam(rqvae.parameters()), epochs * 3 // 5
    for update in range(epochs):
        rising = 1e-6 + (1e-4 - 1e-6) * update / warmup
        adam.param_groups[0]["lr"] = rising if update < warmup else 1e-4 * (warmup / update) ** 0.5
        adam.zero_grad()
        rqvae(residuals)[0].mean().backward()
        adam.step()
    return np.column_stack([k_means.labels_, rqvae(residuals)[1].numpy()]), rqvae


def far_points(count: int, width: int, dtype: Any) -> np.ndarray:
    """Rows so far from the origin that float32 rounds away much of what tells centres apart."""
    return (np.random.default_rng(0).standard_normal((count, width)) + 40).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("seed", [1, 7])
def test_labels_are_those_of_scikit_learn_s_default_estimator(seed, dtype):
    rows = far_points(3000, 64, dtype)
    expected = MiniBatchKMeans(32, random_state=seed).fit(rows.astype(np.float32))
    centres = fit_centres(rows.astype(np.float32), 32, "sklearn-default", seed, block_rows=500, centring=False)
    np.testing.assert_array_equal(centres, expected.cluster_centers_)
    np.testing.assert_array_equal(nearest_centres(rows, centres, centring=False), expected.labels_)
    # Rounding decides for some of these rows, so another way to compute distances gives other labels.
    assert (nearest_centres(rows, centres) != expected.labels_).any()


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.25), (0.5, 2.0)])
def test_a_training_step_has_the_loss_and_gradients_of_the_plain_rq_vae(tmp_path, alpha, beta):
    rows = 3 * points()
    np.save(tmp_path / "r.npy", rows)
    task = RQVAETask(RQVAETaskConfig(data=str(tmp_path / "r.npy"), rqvae_codebook_init="random", seed=5))
    cfg = RQVAEModelConfig(
        _name="cart_rqvae", rqvae_latent_dim=4, rqvae_codebook_size=8, rqvae_alpha=alpha, rqvae_beta=beta
    )
    torch.manual_seed(5)
    model = task.build_model(OmegaConf.structured(cfg))
    torch.manual_seed(5)
    plain = PlainRQVAE(WIDTH, 4, 2, 8)
    for (name, tensor), expected in zip(model.rqvae.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(tensor, expected), name

    loss, count, _ = RQVAECriterion(task)(model, task.residuals.collater(list(range(ITEMS))))
    loss.backward()
    losses, codes = plain(torch.from_numpy(rows), alpha, beta)
    losses.sum().backward()
    assert count == ITEMS
    torch.testing.assert_close(loss, losses.sum())
    torch.testing.assert_close(model.rqvae(torch.from_numpy(rows)).codes, codes)
    for name, parameter in model.rqvae.named_parameters():
        torch.testing.assert_close(parameter.grad, dict(plain.named_parameters())[name].grad, msg=name)


def test_a_faithful_bundle_is_that_of_the_plain_implementation(tmp_path, training_here):
    embeddings = (points() + 3).astype(np.float16)
    built = build(write_catalogue(tmp_path, embeddings), faithful=True, epochs=30, seed=4).bundle
    expected, rqvae = plain_identifiers(embeddings, seed=4, epochs=30, clusters=8, size=8, latent=4)
    np.testing.assert_array_equal(built.values[:, :3], expected)
    tensors = built.codec_tensors()
    assert tensors["scale"] == 1
    for name, weight in rqvae.state_dict().items():
        np.testing.assert_allclose(tensors[f"rqvae.{name}"], weight.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)
    # The settings at which the two differ matter here.
    ours = build(tmp_path, output="ours", epochs=30, seed=4, allow_collapse=True).bundle
    assert (ours.values[:, :3] != expected).any(axis=0).all()


def test_new_items_of_a_faithful_bundle_get_scikit_learn_s_labels(tmp_path, training_here):
    embeddings, new = far_points(ITEMS, WIDTH, np.float32), far_points(2 * ITEMS, WIDTH, np.float32)[ITEMS:]
    bundle = build(write_catalogue(tmp_path, embeddings), faithful=True, unique_size=128).bundle
    k_means = MiniBatchKMeans(8, random_state=SMALL.seed).fit(embeddings)
    np.testing.assert_array_equal(load_codec(bundle).encode(embeddings), bundle.values[:, :3])
    write_catalogue(tmp_path / "new", new)
    items = (tmp_path / "new/items.jsonl").read_text().replace("item ", "new ")
    (tmp_path / "new/items.jsonl").write_text(items)
    grown = add(tmp_path / "identifiers", tmp_path / "new/embeddings.npy", tmp_path / "new/items.jsonl").bundle
    np.testing.assert_array_equal(grown.values[ITEMS:, 0], k_means.predict(new))


def test_the_scheme_rqvae_quantises_the_embeddings_themselves(tmp_path, training_here):
    """The paper's "w/o K-Means": there is no centre to subtract."""
    bundle = build(write_catalogue(tmp_path, points()), faithful=True, scheme="rqvae").bundle
    assert not bundle.codec_tensors()["centres"].any()
    np.testing.assert_array_equal(load_codec(bundle).encode(points()), bundle.values[:, :3])


def test_a_faithful_tree_is_made_of_scikit_learn_s_default_k_means(tmp_path):
    embeddings = far_points(ITEMS, WIDTH, np.float32)
    built = build(write_catalogue(tmp_path, embeddings), faithful=True, scheme="hierarchical-kmeans").bundle
    labels = MiniBatchKMeans(8, random_state=SMALL.seed).fit(embeddings).labels_
    np.testing.assert_array_equal(built.values[:, 0], labels)
    np.testing.assert_array_equal(load_codec(built).encode(embeddings), built.values[:, :3])


def test_a_faithful_run_repeats_itself(tmp_path, training_here):
    write_catalogue(tmp_path, points())
    first, again = (build(tmp_path, output=name, faithful=True).bundle for name in ("first", "again"))
    assert not build(tmp_path, output="first", faithful=True).is_new
    for file in CODES:
        assert (first.directory / file).read_bytes() == (again.directory / file).read_bytes(), file
