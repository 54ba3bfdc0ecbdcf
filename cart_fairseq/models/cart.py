"""The fairseq architecture ``cart``: its flags, its construction for a task, and its checkpoints.

The network itself is :class:`cart_fairseq.network.model.CART`.
"""

import argparse
import importlib.util
from typing import Any

import torch
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from torch import Tensor

from cart_fairseq.catalogue.text_encoder import TextEncoder
from cart_fairseq.loading.transformer import load_transformer
from cart_fairseq.models.flags import add_flags, network_config, set_defaults
from cart_fairseq.network.config import ArchitectureConfig, NetworkConfig
from cart_fairseq.network.dense_head import DenseHead
from cart_fairseq.network.encoder import CARTEncoder
from cart_fairseq.network.feature_reader import FeatureReader
from cart_fairseq.network.model import CART, build_decoder, build_encoder
from cart_fairseq.network.pretrained_encoder import PretrainedEncoder

SAMPLE = 1000
"""Number of items of whose embeddings mean and standard deviation are computed."""


@register_model("cart")
class CARTModel(CART, BaseFairseqModel):
    """CART's encoder-decoder for fairseq. Checkpoints store which identifiers and vocabulary they belong to."""

    _loaded = False

    @classmethod
    def add_args(cls, parser: Any) -> None:
        """Add the architecture's flags to fairseq's parser."""
        add_flags(parser)

    @classmethod
    def build_model(cls, args: argparse.Namespace, task: Any) -> "CARTModel":
        """Build the model for a task that has dictionaries and a ``data_fingerprint``.

        Raises:
            ValueError: a number of layers is out of range, heads do not divide a width, a flag does not belong to this
                architecture, or the data-bin lacks something that a flag needs.
        """
        cart_architecture(args)
        cfg = network_config(args)
        encoder, fingerprint = _build_encoder(cfg, args, task), task.data_fingerprint
        if isinstance(encoder, PretrainedEncoder):
            cfg.encoder.layers, cfg.encoder.embed_dim = encoder.layers, encoder.width
            fingerprint += encoder.digest
        decoder = build_decoder(cfg, len(task.target_dictionary), task.target_dictionary.pad())
        dense = _build_dense_head(cfg, args, task) if args.dense_dim else None
        reader = _build_reader(cfg, args, task) if args.media_positions else None
        model = cls(encoder, decoder, fingerprint, dense, reader)
        pretrained = isinstance(encoder, PretrainedEncoder)
        model.architecture = ArchitectureConfig(cfg, args.dense_dim, args.media_positions, pretrained, args.dense_words)
        return model

    def get_normalized_probs(self, net_output: Any, log_probs: bool, sample: Any = None) -> Tensor:
        """Probabilities (R, J, V) float32, or their natural logarithms, from the output of :meth:`forward`."""
        logits = net_output[0].float()
        return logits.log_softmax(-1) if log_probs else logits.softmax(-1)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights, as fairseq does; from then on :meth:`half` changes nothing."""
        self._loaded = True
        return super().load_state_dict(*args, **kwargs)

    def half(self) -> "CARTModel":
        """Halve a model that is to be trained with ``--fp16``.

        fairseq's commands of inference halve what they have loaded. Here the search chooses the precision of each part, and
        halved weights would be others than those that its stored arrays were computed from.
        """
        return self if self._loaded else super().half()

    def upgrade_state_dict_named(self, state_dict: dict[str, Any], name: str) -> None:
        """Check that a checkpoint belongs to this model, and convert checkpoints of earlier versions, in place.

        Raises:
            ValueError: the checkpoint was trained on other identifiers, another vocabulary or another text encoder, or
                has no dense head of this version, or no reader of embeddings, although the model has one.
        """
        saved, own = state_dict.get("data_fingerprint"), self.data_fingerprint
        if saved is None or saved.shape != own.shape or not torch.equal(saved.float().cpu(), own.float().cpu()):
            found, expected = (bytes(t.byte().tolist()).hex()[:12] if t is not None else "none" for t in (saved, own))
            raise ValueError(
                f"the checkpoint belongs to other identifiers, vocabulary or text encoder (fingerprint {found}, this "
                f"data-bin has {expected}); give the data-bin it was trained on, or train again in a new --save-dir"
            )
        if self.dense is not None and "dense.share_logit" not in state_dict:
            raise ValueError(
                "the checkpoint has no dense head, or one of an earlier version; train again in a new --save-dir"
            )
        if self.dense is not None and self.dense.bag is not None and "dense.bag.vectors.weight" not in state_dict:
            raise ValueError(
                "the checkpoint was trained without --dense-words; leave it out, or train again in a new --save-dir"
            )
        if self.reader is not None and "reader.mean" not in state_dict:
            raise ValueError(
                "the checkpoint was trained without --media-positions; leave it out, or train again in a new --save-dir"
            )
        # earlier checkpoints lack these; for them every item that was added to the catalogue is younger
        state_dict.setdefault("level_discount", self.level_discount)
        state_dict.setdefault("calibration", self.calibration)
        state_dict.setdefault("revision_digits", torch.zeros_like(self.revision_digits))
        state_dict.setdefault("history_bytes", torch.zeros_like(self.history_bytes))
        if self.dense is not None:
            state_dict.setdefault("dense.prior_share", self.dense.prior_share)
        own_keys = self.state_dict().keys()
        for key in [key for key in state_dict if key.endswith(".key.bias") and key not in own_keys]:
            del state_dict[key]  # checkpoints of 0.1 have key biases, which have no effect


def _build_encoder(cfg: NetworkConfig, args: argparse.Namespace, task: Any) -> CARTEncoder | PretrainedEncoder:
    """Build the data-bin's pretrained encoder, or a new one if it has none or ``--text-encoder scratch`` is given.

    Raises:
        ValueError: ``--train-text-layers`` is given without a pretrained encoder, or is out of range;
            ``--encoder-states raw`` is given with one.
    """
    data = getattr(task, "data", None)  # benchmarks have tasks without a data-bin
    files = TextEncoder.of(data) if data is not None and args.text_encoder == "auto" else None
    symbols = len(task.source_dictionary)
    if files is not None:
        if cfg.encoder_states != "normed":
            raise ValueError(
                f"--encoder-states is {cfg.encoder_states}, but a pretrained text encoder's states are what its library "
                "returns; leave it out, or give --text-encoder scratch"
            )
        return PretrainedEncoder(
            load_transformer(files.files),
            symbols,
            (files.start, files.pad, files.end, files.unk),
            files.max_tokens,
            files.digest,
            args.train_text_layers,
            args.text_state_cache,
        )
    if args.train_text_layers:
        raise ValueError(
            f"--train-text-layers is {args.train_text_layers}, but there is no pretrained text encoder; binarise with "
            "--text-encoder and leave out --text-encoder scratch here, or leave out --train-text-layers"
        )
    return build_encoder(cfg, symbols, task.source_dictionary.pad())


def _build_dense_head(cfg: NetworkConfig, args: argparse.Namespace, task: Any) -> DenseHead:
    """Build the dense head for the data-bin's item features.

    Raises:
        ValueError: the data-bin has none.
    """
    items = task.data.dense_items
    if items is None:
        raise ValueError(
            f"--dense-dim is {args.dense_dim}, but {task.data.directory} holds no embeddings of the items; binarise "
            "with --embeddings"
        )
    given = task.cfg.dense_weight
    weight = 1.0 if given is None else given
    dropout = cfg.dropout if args.dense_dropout is None else args.dense_dropout
    symbols = len(task.source_dictionary) if args.dense_words else 0
    return DenseHead(cfg.encoder.embed_dim, items.width, args.dense_dim, dropout, weight, items.text_dim, symbols)


def _build_reader(cfg: NetworkConfig, args: argparse.Namespace, task: Any) -> FeatureReader:
    """Build what reads the embeddings of the data-bin's items.

    Raises:
        ValueError: the data-bin has none from before a join.
    """
    items = task.data.dense_items
    if not items.original_dim:
        raise ValueError(
            f"--media-positions is {args.media_positions}, but {task.data.directory} has no embeddings of the items from "
            "before they were joined with captions; join and binarise again with this version"
        )
    kept = task.data.bundle.kept
    sample = items.originals(kept[:: max(1, len(kept) // SAMPLE)])
    mean, spread = sample.mean(0), sample.std(0, correction=0).clamp(min=1e-6)
    sizes = (items.original_dim, args.media_positions, cfg.encoder.layers, cfg.encoder.embed_dim)
    return FeatureReader(*sizes, cfg.dropout, mean, spread)


@register_model_architecture("cart", "cart")
def cart_architecture(args: argparse.Namespace) -> None:
    """Set 3 + 3 layers as in the paper (CART Tables 5 and 10); width 512 and 8 heads are our choice."""
    set_defaults(args)
    _allow_reduced_precision(args)


def _allow_reduced_precision(args: argparse.Namespace) -> None:
    """Make ``--bf16`` work on GPUs and CPUs, and both ``--bf16`` and ``--fp16`` without a GPU.

    fairseq assumes a TPU for ``--bf16``. Its half-precision optimisers need a CUDA device unless gradients are kept
    unflattened.
    """
    if getattr(args, "bf16", False) and importlib.util.find_spec("torch_xla") is None:
        args.tpu = False
    if getattr(args, "cpu", False) or not torch.cuda.is_available():
        args.fp16_no_flatten_grads = True


@register_model_architecture("cart", "cart_tiny")
def cart_tiny_architecture(args: argparse.Namespace) -> None:
    """Set small sizes for tests and first trials: 2 + 2 layers of width 64, 4 heads."""
    tiny = {
        "encoder_embed_dim": 64,
        "encoder_ffn_embed_dim": 128,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_layers": 2,
        "decoder_attention_heads": 4,
    }
    for name, value in tiny.items():
        setattr(args, name, getattr(args, name, value))
    cart_architecture(args)
