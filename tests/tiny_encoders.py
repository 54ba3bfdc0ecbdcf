"""Models of the encoders' own classes, tiny and with random weights, saved as `save_pretrained` does."""

import importlib
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from media_samples import COLOURS
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["<pad>", "<s>", "</s>", "<unk>", *COLOURS, "a", "above", "half", "over", "first", "then", "number"]
LAYERS: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION: dict[str, Any] = LAYERS | {"image_size": 16, "patch_size": 8}
SPECIAL: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXT: dict[str, Any] = LAYERS | SPECIAL | {"vocab_size": len(WORDS), "max_position_embeddings": 16}
SQUARE: dict[str, Any] = {"height": 16, "width": 16}
SHORT_SIDE: dict[str, Any] = {"shortest_edge": 16}
RATE = 16000


def image_processor(name: str, **settings: Any) -> Any:
    """The Pillow version of a model's image processor, which needs no torchvision."""
    module = importlib.import_module(f"transformers.models.{name}.image_processing_pil_{name}")
    found = next(value for key, value in vars(module).items() if key.lower() == f"{name}imageprocessorpil")
    return found(**settings)


def save_tokenizer(folder: Path) -> None:
    """Words of the sample captions, one token each, between start and end."""
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=16, **special)
    tokenizer.save_pretrained(folder)


def clip() -> tuple[Any, ...]:
    """CLIP with a shared space of 8 dimensions."""
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)
    return transformers.CLIPModel(config), image_processor("clip", size=SHORT_SIDE, crop_size=SQUARE)


def siglip() -> tuple[Any, ...]:
    """SigLIP."""
    config = transformers.SiglipConfig(text_config=TEXT | {"projection_size": 16}, vision_config=VISION)
    return transformers.SiglipModel(config), image_processor("siglip", size=SQUARE)


def siglip2() -> tuple[Any, ...]:
    """SigLIP 2 of any aspect ratio."""
    vision: dict[str, Any] = LAYERS | {"num_patches": 16, "patch_size": 8}
    config = transformers.Siglip2Config(text_config=TEXT | {"projection_size": 16}, vision_config=vision)
    return transformers.Siglip2Model(config), image_processor("siglip2", patch_size=8, max_num_patches=16)


def clap(fused: bool = False) -> tuple[Any, ...]:
    """CLAP of pieces of a second, with or without fusion of pieces of longer sounds."""
    bins = 64
    audio: dict[str, Any] = {
        "hidden_size": 32,
        "patch_embeds_hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
    }
    audio |= {
        "num_mel_bins": bins,
        "spec_size": 2 * bins,
        "patch_stride": [4, 4],
        "window_size": 4,
        "projection_dim": 8,
    }
    if fused:
        audio |= {"enable_fusion": True, "fusion_type": "aff_2d"}
    text: dict[str, Any] = TEXT | {"max_position_embeddings": 20, "projection_dim": 8, "type_vocab_size": 1}
    config = transformers.ClapConfig(audio_config=audio, text_config=text, projection_dim=8)
    extractor = transformers.ClapFeatureExtractor(
        feature_size=bins,
        sampling_rate=RATE,
        max_length_s=1,
        hop_length=160,
        fft_window_size=400,
        frequency_max=RATE // 2,
        truncation="fusion" if fused else "rand_trunc",
    )
    return transformers.ClapModel(config), extractor


def clap_fused() -> tuple[Any, ...]:
    """CLAP with fusion."""
    return clap(fused=True)


PE_TEXT: dict[str, Any] = TEXT | {"model_type": "modernbert", "cls_token_id": 1, "sep_token_id": 2}
PE_DAC: dict[str, Any] = {"downsampling_ratios": [2, 4], "encoder_hidden_size": 4, "codebook_dim": 8, "hidden_size": 16}
PE_AUDIO: dict[str, Any] = LAYERS | {"head_dim": 8, "dac_config": PE_DAC}


def pe_audio() -> tuple[Any, ...]:
    """The part of PE-AV for sounds."""
    config = transformers.PeAudioConfig(text_config=PE_TEXT, audio_config=PE_AUDIO)
    return transformers.PeAudioModel(config), transformers.PeAudioFeatureExtractor(hop_length=8, sampling_rate=RATE)


def pe_av() -> tuple[Any, ...]:
    """PE-AV, whose picture side is a model of timm."""
    from transformers.models.pe_video.video_processing_pe_video import PeVideoVideoProcessor

    size: dict[str, Any] = {"embed_dim": 16, "depth": 1, "num_heads": 2, "img_size": 32}
    vision: dict[str, Any] = {"architecture": "vit_pe_core_tiny_patch16_384", "num_classes": 12, "model_args": size}
    video: dict[str, Any] = LAYERS | {"head_dim": 8, "vision_config": vision}
    both: dict[str, Any] = LAYERS | {"head_dim": 8, "audio_config": PE_AUDIO, "video_config": video}
    model = transformers.PeAudioVideoModel(
        transformers.PeAudioVideoConfig(text_config=PE_TEXT, audio_video_config=both)
    )
    extractor = transformers.PeAudioFeatureExtractor(hop_length=8, sampling_rate=RATE)
    half = [0.5, 0.5, 0.5]
    pictures = PeVideoVideoProcessor(
        size={"height": 32, "width": 32},
        image_mean=half,
        image_std=half,
        do_resize=True,
        do_rescale=True,
        do_normalize=True,
        do_convert_rgb=True,
    )
    return model, extractor, pictures


def vit() -> tuple[Any, ...]:
    """A vision transformer with a pooler."""
    return transformers.ViTModel(transformers.ViTConfig(**VISION)), image_processor("vit", size=SQUARE)


def vit_classifier() -> tuple[Any, ...]:
    """A vision transformer without a pooler, under a classifier."""
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VISION))
    return model, image_processor("vit", size=SQUARE)


def convnext() -> tuple[Any, ...]:
    """A convolutional network."""
    config = transformers.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    return transformers.ConvNextModel(config), image_processor("convnext", size={"shortest_edge": 32})


def video_processor() -> Any:
    """For models of 4 frames."""
    return image_processor("videomae", size=SHORT_SIDE, crop_size=SQUARE)


def videomae() -> tuple[Any, ...]:
    """A model of videos."""
    return transformers.VideoMAEModel(transformers.VideoMAEConfig(**VISION, num_frames=4)), video_processor()


def xclip() -> tuple[Any, ...]:
    """Dual towers of videos and texts."""
    mit: dict[str, Any] = {f"mit_{name}": value for name, value in LAYERS.items()} | {"mit_hidden_size": 8}
    vision: dict[str, Any] = VISION | mit | {"num_frames": 4}
    config = transformers.XCLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=8)
    return transformers.XCLIPModel(config), video_processor()


def wav2vec2(mask: bool = True) -> tuple[Any, ...]:
    """A model of waveforms."""
    convolutions: dict[str, Any] = {
        "conv_dim": [8, 8],
        "conv_kernel": [10, 8],
        "conv_stride": [5, 4],
        "feat_extract_norm": "layer",
    }
    positions: dict[str, Any] = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**LAYERS, **convolutions, **positions))
    return model, transformers.Wav2Vec2FeatureExtractor(return_attention_mask=mask)


def wav2vec2_unmasked() -> tuple[Any, ...]:
    """A model of waveforms that must not be padded."""
    return wav2vec2(mask=False)


def whisper() -> tuple[Any, ...]:
    """An encoder-decoder."""
    sides: dict[str, Any] = {
        f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads", "ffn_dim")
    }
    config = transformers.WhisperConfig(
        **sides, **SPECIAL, d_model=16, vocab_size=len(WORDS), decoder_start_token_id=1, max_source_positions=50
    )
    return transformers.WhisperModel(config), transformers.WhisperFeatureExtractor(chunk_length=1)


def bert() -> tuple[Any, ...]:
    """A model of texts."""
    return (transformers.BertModel(transformers.BertConfig(**TEXT)),)


BUILDERS = (
    clip,
    siglip,
    siglip2,
    clap,
    clap_fused,
    pe_audio,
    pe_av,
    vit,
    vit_classifier,
    convnext,
    videomae,
    xclip,
    wav2vec2,
    wav2vec2_unmasked,
    whisper,
    bert,
)


def save_model(name: str, folder: Path) -> Path:
    """Build the model of one of the functions above and save it with all that it needs."""
    torch.manual_seed(1)
    save_tokenizer(folder)
    model, *others = next(builder for builder in BUILDERS if builder.__name__ == name)()
    if name == "pe_av":
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        others = [cast(Any, transformers.PeAudioVideoProcessor)(*others, tokenizer)]
    for part in (model, *others):
        part.save_pretrained(folder)
    return folder
