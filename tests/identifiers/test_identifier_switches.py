"""The switches of `build_identifiers --faithful`: what each does, what wins, what is recorded and what is refused."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from building import ITEMS, build, command_line, points, write_catalogue
from omegaconf import OmegaConf

from cart_fairseq.models.cart_rqvae import RQVAEModelConfig
from cart_fairseq.tasks.cart_rqvae import RQVAETask, RQVAETaskConfig
from preprocess import build_identifiers
from preprocess.data.arguments import settings_from
from preprocess.identifiers.fitting import fit_settings
from preprocess.identifiers.rqvae_runner import fairseq_arguments
from preprocess.identifiers.schemes.named import SCHEMES
from preprocess.identifiers.settings import OURS, PAPER, IdentifierSettings

SPELLED = ["--kmeans", "sklearn-default", "--no-centring", "--no-residual-scale", "--codebook-init", "random"]
SPELLED += ["--no-recentre", "--no-reseed", "--batch-size", "256", "--allow-collapse"]
"""What `--faithful` stands for, except for fitting on all rows."""


def parsed(*flags: str) -> IdentifierSettings:
    args = build_identifiers.parser().parse_args(["--embeddings", "e", "--items", "i", "--output", "o", *flags])
    return settings_from(IdentifierSettings, args)


def test_faithful_stands_for_its_switches():
    faithful = fit_settings(parsed("--faithful"), 300_000)
    assert faithful == fit_settings(parsed(*SPELLED, "--train-sample", "300000"), 300_000)
    for name in OURS.keys() - {"caption_words", "caption_vocabulary"}:  # those are of GRACE's identifiers
        assert parsed("--faithful").chosen(name) == PAPER[name]
    training = dataclasses.asdict(faithful.training)
    assert {**training, **dataclasses.asdict(faithful)}.items() >= {
        name: PAPER[name] for name in PAPER if name not in ("train_sample", "collisions", "allow_collapse")
    }.items()


@pytest.mark.parametrize(
    ("flag", "field", "value"),
    [
        ("--kmeans lloyd", "kmeans", "lloyd"),
        ("--centring", "centring", True),
        ("--residual-scale", "residual_scale", True),
        ("--codebook-init kmeans", "codebook_init", "kmeans"),
        ("--recentre", "recentre", True),
        ("--reseed", "reseed", True),
        ("--batch-size 64", "batch_size", 64),
        ("--alpha 0.5", "alpha", 0.5),
        ("--beta 0", "beta", 0.0),
        ("--train-sample 50", "train_sample", 50),
    ],
)
def test_a_given_flag_wins_over_faithful_wherever_it_stands(flag, field, value):
    for order in ([*flag.split(), "--faithful"], ["--faithful", *flag.split()]):
        settings = parsed(*order)
        assert settings.departures == {field: value}
        fit = fit_settings(settings, 1000)
        assert {**dataclasses.asdict(fit), **dataclasses.asdict(fit.training)}[field] == value


def test_switches_reach_fairseq_train(tmp_path):
    found = []
    for flags in (
        [],
        ["--no-recentre"],
        ["--no-reseed"],
        ["--codebook-init", "random"],
        ["--alpha", "2", "--beta", "0"],
    ):
        training = fit_settings(parsed(*flags), 100).training
        arguments = fairseq_arguments(tmp_path / "r.npy", tmp_path, 100, training)
        found.append(" ".join(argument for argument in arguments if argument != "--cpu"))
    default, recentre, reseed, init, weights = found
    assert "recentre" not in default
    assert "reseed" not in default
    assert recentre == f"{default} --rqvae-no-recentre"
    assert reseed == f"{default} --rqvae-reseed-interval 0"
    assert init == default.replace("--rqvae-codebook-init kmeans", "--rqvae-codebook-init random")
    assert weights == default.replace("--rqvae-alpha 1.0 --rqvae-beta 0.25", "--rqvae-alpha 2.0 --rqvae-beta 0.0")


@pytest.mark.parametrize(
    ("changes", "recentred", "reseeded"),
    [({}, True, True), ({"rqvae_no_recentre": True}, False, True), ({"rqvae_reseed_interval": 0}, True, False)],
)
def test_recentring_and_re_seeding_are_switched_off_one_by_one(tmp_path, changes, recentred, reseeded):
    np.save(tmp_path / "r.npy", points())
    config = {"rqvae_reseed_interval": 2, "rqvae_codebook_init": "random", **changes}
    task = RQVAETask(RQVAETaskConfig(data=str(tmp_path / "r.npy"), seed=5, **config))
    cfg = RQVAEModelConfig(_name="cart_rqvae", rqvae_latent_dim=4, rqvae_codebook_size=8)
    codebook = (model := task.build_model(OmegaConf.structured(cfg))).rqvae.codebooks[0]
    with torch.no_grad():
        codebook[0] = 1e4  # dead: nothing is as far
    before = codebook.detach().clone()
    task.begin_epoch(2, model)
    assert torch.equal(codebook, before) is not recentred
    assert codebook[0, 0] == 1e4
    task.begin_epoch(3, model)
    assert bool((codebook < 1e3).all()) is reseeded


def test_what_was_chosen_is_recorded_in_the_bundle_and_its_report(tmp_path):
    write_catalogue(tmp_path, points())
    changes: dict[str, Any] = {"scheme": "hierarchical-kmeans", "kmeans": "lloyd", "faithful": True}
    built = build(tmp_path, **changes)
    departures = {"kmeans": "lloyd", "kmeans_clusters": 8, "codebook_size": 8, "latent_dim": 4, "epochs": 6}
    record = built.bundle.codec_settings
    assert record["faithful"] == built.bundle.report["faithful"] == {"departures": departures}
    assert (record["settings"]["kmeans"], record["settings"]["centring"]) == ("lloyd", False)
    assert record["settings"]["training"]["codebook_init"] == "random"
    assert record["settings"]["train_sample"] == built.bundle.report["fitted_on"] == ITEMS
    assert "as in the paper       all settings but --kmeans lloyd, --kmeans-clusters 8, " in built.summary
    assert "faithful" not in build(tmp_path, output="ours", scheme="hierarchical-kmeans").bundle.report


def test_a_collapsed_level_is_reported_and_too_few_items_are_refused(tmp_path):
    embeddings = np.tile(points(1), (ITEMS, 1))
    embeddings[0] += 1
    write_catalogue(tmp_path, embeddings)
    built = build(tmp_path, scheme="hierarchical-kmeans", faithful=True)
    assert [level["name"] for level in built.bundle.report["collapsed"]] == ["h1", "h2", "h3"]
    assert built.bundle.report["collapsed"][0] == {
        "name": "h1",
        "perplexity": built.bundle.report["levels"][0]["prefix_perplexity"],
        "bound": 8,
    }
    assert "collapsed             h1: perplexity 1.0 of at most 8" in built.summary
    with pytest.raises(ValueError, match="level h1 has collapsed"):
        build(tmp_path, output="strict", scheme="hierarchical-kmeans", faithful=True, allow_collapse=False)
    write_catalogue(tmp_path, points(7))
    with pytest.raises(ValueError, match="7 items are too few for --kmeans-clusters 8"):
        build(tmp_path, output="few", scheme="hierarchical-kmeans", faithful=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--faithful --scheme atomic",
            "--faithful is for the paper's schemes coarse-fine, rqvae, hierarchical-kmeans; ",
        ),
        ("--faithful --scheme structured", "--faithful is for the paper's schemes"),
        ("--kmeans sklearn-default --scheme rqvae", "--kmeans is sklearn-default; only the schemes coarse-fine, "),
        (
            "--no-centring --scheme residual-kmeans",
            "--centring is False; only the schemes coarse-fine, rqvae, hierarch",
        ),
        ("--alpha 2 --scheme hierarchical-kmeans", "--alpha is 2.0; only the schemes coarse-fine, rqvae use it"),
        (
            "--no-reseed --scheme atomic",
            "--reseed is False; only the schemes coarse-fine, rqvae use it, and --scheme is ",
        ),
        ("--beta -1", "--beta is -1.0; it must be a finite number of at least 0"),
        ("--alpha nan", "--alpha is nan; it must be a finite number"),
    ],
)
def test_switches_without_effect_are_refused_by_name(tmp_path, flags, message):
    write_catalogue(tmp_path, points())
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        build_identifiers.main(command_line(tmp_path, *flags.split()))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_switch_that_a_scheme_names_changes_what_it_is_fitted_with(scheme):
    """A scheme takes no switch that its settings do not know."""
    known = {field.name for field in dataclasses.fields(IdentifierSettings)}
    assert SCHEMES[scheme].switches <= known
