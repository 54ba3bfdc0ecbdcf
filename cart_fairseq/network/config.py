"""Sizes and options of the network, named after the architecture's flags (CART 3.4, appendix C and F)."""

from dataclasses import dataclass, field

from cart_fairseq.network.activations import ACTIVATIONS

FUSIONS = ("coarse-fine", "coarse", "fine", "none")
COARSE_GATINGS = ("sigmoid", "self")
FINE_SCALINGS = ("none", "sqrt")
FUSION_ATTENTIONS = ("shared", "separate")
FUSION_BIASES = ("per-state", "single")
FUSION_QUERIES = ("after-self-attention", "decoder-input")
ENCODER_STATES = ("normed", "raw")
CHOICES = {
    "activation_fn": ACTIVATIONS,
    "fusion": FUSIONS,
    "coarse_gating": COARSE_GATINGS,
    "fine_scaling": FINE_SCALINGS,
    "fusion_attention": FUSION_ATTENTIONS,
    "fusion_bias": FUSION_BIASES,
    "fusion_query": FUSION_QUERIES,
    "encoder_states": ENCODER_STATES,
}
"""Settings of :class:`NetworkConfig` that have one of a few values."""
TARGET_POSITIONS = 64
"""The length of the longest identifier, in symbols."""


@dataclass
class StackConfig:
    """Sizes of the encoder or the decoder.

    Attributes:
        layers: number of layers, at least 1.
        embed_dim: width C.
        ffn_embed_dim: width of the feed-forward network's hidden layer.
        attention_heads: number of heads; must divide the width.
        normalize_before: layer norm before each block (pre-norm) if True, after it (post-norm) if False.
        learned_pos: learned positional embeddings if True, sinusoidal ones if False.
    """

    layers: int = 3
    embed_dim: int = 512
    ffn_embed_dim: int = 2048
    attention_heads: int = 8
    normalize_before: bool = True
    learned_pos: bool = False


@dataclass
class NetworkConfig:
    """All settings of the network.

    Attributes:
        encoder, decoder: their sizes.
        dropout, attention_dropout, activation_dropout: probabilities in [0, 1).
        activation_fn: a name of :data:`cart_fairseq.network.activations.ACTIVATIONS`.
        fusion: which encoder states the decoder reads, one of :data:`FUSIONS`.
        coarse_gating: one of :data:`COARSE_GATINGS`.
        fine_scaling: one of :data:`FINE_SCALINGS`.
        fusion_attention: one cross-attention for all memories, or one for each; one of :data:`FUSION_ATTENTIONS`.
        fusion_bias: a bias of the gates for each encoder state, or a single one; one of :data:`FUSION_BIASES`.
        fusion_query: what queries the memories, one of :data:`FUSION_QUERIES`.
        encoder_states: with or without the final layer norm of a pre-norm encoder, one of :data:`ENCODER_STATES`.
        no_decoder_ffn: leave the feed-forward network out of the decoder layers.
        share_decoder_input_output_embed: use the decoder's embeddings as its output projection.
        max_source_positions: length of the longest query, in symbols.
    """

    encoder: StackConfig = field(default_factory=StackConfig)
    decoder: StackConfig = field(default_factory=StackConfig)
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    activation_fn: str = "relu"
    fusion: str = "coarse-fine"
    coarse_gating: str = "sigmoid"
    fine_scaling: str = "none"
    fusion_attention: str = "shared"
    fusion_bias: str = "per-state"
    fusion_query: str = "after-self-attention"
    encoder_states: str = "normed"
    no_decoder_ffn: bool = False
    share_decoder_input_output_embed: bool = False
    max_source_positions: int = 1024


@dataclass
class ArchitectureConfig:
    """All settings by which a model is built on its data-bin for searching.

    Attributes:
        network: those of encoder and decoder.
        dense_dim: width of the dense head; 0: none.
        media_positions: positions by which the decoder reads embeddings; 0: none.
        pretrained: whether the encoder is the data-bin's pretrained one.
        dense_words: whether the dense head reads a bag of the query's symbols.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    dense_dim: int = 0
    media_positions: int = 0
    pretrained: bool = False
    dense_words: bool = False
