"""Captioners of the real classes with tiny random weights, saved as checkpoints on the hub are, and media for them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

WORDS = [
    "a",
    "the",
    "two",
    "dog",
    "cat",
    "bird",
    "runs",
    "sleeps",
    "on",
    "under",
    "red",
    "blue",
    "grass",
    "picture",
    "of",
]
TINY: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
VISION: dict[str, Any] = {**TINY, "image_size": 32, "patch_size": 16}
SIZE = {"height": 32, "width": 32}


def spread(model: Any) -> Any:
    """Weights large enough for different inputs to give different logits."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model


def word_tokenizer(specials: list[str], words: list[str], **options):
    """One token a word; `specials` begins with the unknown, start, end and padding tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*specials, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=specials[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    unknown, start, end, padding = specials[:4]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=unknown, bos_token=start, eos_token=end, pad_token=padding, **options
    )


def save_blip(folder: Path) -> Path:
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate([*specials, *WORDS])})
    # Captions begin with a token that the tokenizer does not know, as in the real checkpoints.
    text = {**TINY, "vocab_size": len(tokenizer) + 2, "encoder_hidden_size": 16, "max_position_embeddings": 64}
    text |= {"bos_token_id": len(tokenizer), "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(text_config=text, vision_config=VISION, projection_dim=16)
    spread(BlipForConditionalGeneration(config)).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size=SIZE), tokenizer).save_pretrained(folder)
    return folder


def save_blip2(folder: Path) -> Path:
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessor,
        OPTConfig,
    )

    tokenizer = word_tokenizer(["<unk>", "<s>", "</s>", "<pad>"], WORDS)
    processor = Blip2Processor(BlipImageProcessor(size=SIZE), tokenizer, num_query_tokens=4)
    language = OPTConfig(
        vocab_size=len(processor.tokenizer),
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    config = Blip2Config(
        vision_config=VISION,
        qformer_config={**TINY, "encoder_hidden_size": 16, "vocab_size": 8},
        text_config=language.to_dict(),
        num_query_tokens=4,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    spread(Blip2ForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_llava(folder: Path, template: bool = True) -> Path:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    specials = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "USER"]
    asked = ["Describe", "this", "image", "video", "in", "one", "sentence", "."]
    tokenizer = word_tokenizer(specials, [*WORDS, *asked], extra_special_tokens={"image_token": "<image>"})
    chat = (
        "{% for message in messages %}USER {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIZE),
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat if template else None,
    )
    language = LlamaConfig(**TINY, vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=3)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION, projection_dim=16),
        text_config=language,
        image_token_index=4,
        vision_feature_layer=-1,
    )
    spread(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_whisper(folder: Path) -> Path:
    """As MU-NLPC's: `pytorch_model.bin`, a class in the configuration that `transformers` lacks, no processor file."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    marks = ["endoftext", "startoftranscript", "en", "translate", "transcribe", "startofprev", "notimestamps"]
    specials = [f"<|{mark}|>" for mark in marks]
    vocabulary = {piece: i for i, piece in enumerate([*bytes_to_unicode().values(), *specials])}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[], additional_special_tokens=specials[1:])
    end = vocabulary["<|endoftext|>"]
    config = WhisperConfig(
        vocab_size=len(vocabulary),
        num_mel_bins=8,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_source_positions=50,
        max_target_positions=64,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=vocabulary["<|startoftranscript|>"],
    )
    model = spread(WhisperForConditionalGeneration(config))
    config.architectures = ["WhisperForAudioCaptioning"]
    config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    generation = model.generation_config
    generation.lang_to_id = {"<|en|>": vocabulary["<|en|>"]}
    generation.task_to_id = {task: vocabulary[f"<|{task}|>"] for task in ("translate", "transcribe")}
    generation.no_timestamps_token_id = vocabulary["<|notimestamps|>"]
    generation.is_multilingual = True
    generation.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    return folder


def save_image(path: Path, seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((48, 40), Image.Resampling.NEAREST).save(path)
    return path.name


def save_video(path: Path, seed: int, frames: int = 10) -> str:
    """An animated WebP whose frames differ."""
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, 6, 8, 3), dtype=np.uint8)
    pictures = [Image.fromarray(frame).resize((48, 40), Image.Resampling.NEAREST) for frame in pixels]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    return path.name


def save_sound(path: Path, seed: int, seconds: float = 0.5) -> str:
    import soundfile

    rate = 8000
    noise = np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate))
    soundfile.write(path, noise + 0.3 * np.sin(np.arange(len(noise)) * (0.1 + 0.1 * seed)), rate)
    return path.name
