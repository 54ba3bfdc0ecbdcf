"""Builds a model for searching from settings and weights, without fairseq and without memory beyond the weights'."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cart_fairseq.catalogue.data_bin import QUERY_DICTIONARY, DataBin
from cart_fairseq.catalogue.dictionary import PAD, count_symbols
from cart_fairseq.catalogue.text_encoder import TextEncoder
from cart_fairseq.loading.stored import check_ranking, check_sizes, check_weights
from cart_fairseq.loading.transformer import load_transformer
from cart_fairseq.network.config import ArchitectureConfig
from cart_fairseq.network.dense_head import DenseHead
from cart_fairseq.network.embeddings import SinusoidalPositions
from cart_fairseq.network.feature_reader import FeatureReader
from cart_fairseq.network.model import CART, build_decoder, build_encoder
from cart_fairseq.network.pretrained_encoder import PretrainedEncoder

DRAWS = ("normal_", "uniform_", "xavier_uniform_", "kaiming_uniform_")
"""Names of functions that draw weights."""
TRANSFORMER = "encoder.transformer."
"""Beginning of the names of a pretrained encoder's weights."""


def build_model(architecture: ArchitectureConfig, data: DataBin, weights: Mapping[str, Tensor]) -> CART:
    """Build a model and give it its weights.

    Args:
        architecture: the settings.
        data: the model's data-bin.
        weights: those of the model by name, all on the CPU. Those of a pretrained encoder that are missing are the
            data-bin's. They are used as they are, not copied, and converted to float32.

    Returns:
        The model in evaluation mode, float32, on the CPU.

    Raises:
        ValueError: the weights are not finite, do not fit the settings, or belong to another data-bin.
        CatalogueError: the text encoder or the dictionary of the data-bin is damaged.
    """
    check_weights(weights)
    check_ranking(weights)
    sizes = (architecture.dense_dim, architecture.media_positions, architecture.pretrained)
    check_sizes(architecture.network, *sizes, weights)
    encoder = _pretrained_encoder(data) if architecture.pretrained else None
    digest = b"" if encoder is None else encoder.digest
    _check_fingerprint(weights.get("data_fingerprint"), data.fingerprint + digest)
    with torch.device("meta"), _WithoutDraws():  # takes no memory, whatever the sizes
        model = _build(architecture, data, encoder)
    expected = model.state_dict()
    for name, value in expected.items():
        found = weights.get(name)
        if found is None and not (encoder is not None and name.startswith(TRANSFORMER)):
            raise ValueError(f"its weights lack {name}")
        if found is not None and found.shape != value.shape:
            raise ValueError(f"its weight {name} has shape {(*found.shape,)}, its settings need {(*value.shape,)}")
    unknown = sorted(weights.keys() - expected.keys())
    if unknown:
        raise ValueError(f"its weights have {unknown[0]}, which its settings do not need")
    model.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False, assign=True)
    for module in model.modules():
        if isinstance(module, SinusoidalPositions):
            module.restore()
    model.architecture = architecture
    return model.eval()


class _WithoutDraws(TorchFunctionMode):
    """Draws no initial weights: on the device ``meta`` that has no effect, but imports torch's compiler, for a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__name__", "") in DRAWS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _check_fingerprint(found: Tensor | None, expected: bytes) -> None:
    """Check that weights are of a model of this data-bin.

    Raises:
        ValueError: they belong to another one.
    """
    if found is None or found.tolist() != [*expected]:
        raise ValueError("its weights belong to other identifiers, vocabulary or text encoder than its catalogue's")


def _pretrained_encoder(data: DataBin) -> PretrainedEncoder:
    """Load the data-bin's text encoder.

    Raises:
        ValueError: it has none.
    """
    files = TextEncoder.of(data)
    if files is None:
        raise ValueError("its encoder is a pretrained text encoder, but there is no folder text-encoder")
    specials = (files.start, files.pad, files.end, files.unk)
    return PretrainedEncoder(
        load_transformer(files.files), _query_symbols(data), specials, files.max_tokens, files.digest
    )


def _query_symbols(data: DataBin) -> int:
    with data.files.reading(QUERY_DICTIONARY) as path:
        return count_symbols(path)


def _build(architecture: ArchitectureConfig, data: DataBin, encoder: PretrainedEncoder | None) -> CART:
    """Make the model without weights, except those of a pretrained encoder.

    Raises:
        ValueError: settings contradict each other or the data-bin.
    """
    cfg = architecture.network
    if encoder is not None:
        cfg.encoder.layers, cfg.encoder.embed_dim = encoder.layers, encoder.width
    positions, symbols = data.bundle.positions, int(data.bundle.offsets[-1])
    decoder = build_decoder(cfg, symbols + positions[-1].size, PAD)
    dense = reader = None
    if architecture.dense_dim or architecture.media_positions:
        items = data.dense_items
        if items is None or (architecture.media_positions and not items.original_dim):
            raise ValueError("its settings are of a model that reads embeddings of the items, but there are none")
    if architecture.dense_dim:
        assert items is not None
        widths = (cfg.encoder.embed_dim, items.width, architecture.dense_dim)
        bag = _query_symbols(data) if architecture.dense_words else 0
        dense = DenseHead(*widths, cfg.dropout, text_dim=items.text_dim, symbols=bag)
    if architecture.media_positions:
        assert items is not None
        widths = (items.original_dim, architecture.media_positions, cfg.encoder.layers)
        unknown = torch.zeros(items.original_dim)
        reader = FeatureReader(*widths, cfg.encoder.embed_dim, cfg.dropout, unknown, unknown.clone())
    fingerprint = data.fingerprint + (encoder.digest if encoder is not None else b"")
    built = encoder or build_encoder(cfg, _query_symbols(data), PAD)
    return CART(built, decoder, fingerprint, dense, reader)
