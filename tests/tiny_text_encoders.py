"""Text encoders of the kinds a data-bin can hold: tiny, with random weights, saved as `save_pretrained` does."""

import shutil
import string
from pathlib import Path
from typing import Any

import torch
from conftest import WORDS, make_bundle, make_captions, setup_task
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from cart_fairseq.tasks.cart_retrieval import CartRetrievalTask
from preprocess.data_bin.build import binarize

LAYERS, WIDTH, POSITIONS = 3, 16, 260
SIZES = {"num_hidden_layers": LAYERS, "hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 32}


def word_pieces() -> PreTrainedTokenizerFast:
    """As BERT has it: lower case, words, pieces of words, between [CLS] and [SEP]; cuts and pads, as some do."""
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase), "[", "]"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, "<s>", "<token_3>"]
    tokens = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokens.normalizer = normalizers.BertNormalizer()
    tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokens.decoder = decoders.WordPiece()
    tokens.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokens.enable_truncation(4)
    tokens.enable_padding(length=4)
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokens, mask_token="[MASK]", **names)


def byte_pairs() -> PreTrainedTokenizerFast:
    """As RoBERTa has it: pairs of bytes, between <s> and </s>."""
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator([" ".join(WORDS)], trainer)
    tokens.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokens, **names)


ABROAD = ("ein roter hund am strand", "un chien rouge sur la plage", "красная собака на пляже", "海边的红狗")
"""A red dog on a beach, in other languages."""


def multilingual_pieces() -> PreTrainedTokenizerFast:
    """As XLM-RoBERTa has it, on which multilingual sentence encoders build: pieces of a unigram model, in any script."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters = sorted({letter for text in ABROAD for letter in text if letter != " "} | {*string.ascii_lowercase})
    pieces = ["▁", *(f"▁{word}" for word in WORDS), *letters]
    scores = [(token, 0.0) for token in special] + [(piece, -float(len(letters)) / len(piece)) for piece in pieces]
    tokens = Tokenizer(models.Unigram(scores, unk_id=3))
    tokens.normalizer = normalizers.NFKC()
    tokens.pre_tokenizer = pre_tokenizers.Metaspace()
    tokens.decoder = decoders.Metaspace()
    tokens.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokens, cls_token="<s>", sep_token="</s>", **names)


def make(kind: str, seed: int = 1) -> tuple[Any, PreTrainedTokenizerFast]:
    """A model, spread out so that texts differ, and its tokeniser; see :data:`KINDS`."""
    torch.manual_seed(seed)
    tokenizer = multilingual_pieces() if kind == "xlm-roberta" else None
    tokenizer = tokenizer or (byte_pairs() if kind in ("roberta", "mpnet") else word_pieces())
    size = len(tokenizer) + (5 if kind == "roberta" else 0)  # some models have room for more tokens
    common = {**SIZES, "vocab_size": size, "max_position_embeddings": POSITIONS, "pad_token_id": tokenizer.pad_token_id}
    model: Any
    if kind == "roberta":
        model = RobertaModel(RobertaConfig(**common, bos_token_id=0, eos_token_id=2))
    elif kind == "xlm-roberta":
        model = XLMRobertaModel(XLMRobertaConfig(**common, bos_token_id=0, eos_token_id=2))
    elif kind == "mpnet":
        model = MPNetModel(MPNetConfig(**common, bos_token_id=0, eos_token_id=2))
    elif kind == "distilbert":
        names = {"num_hidden_layers": "n_layers", "hidden_size": "dim", "num_attention_heads": "n_heads"}
        names["intermediate_size"] = "hidden_dim"
        model = DistilBertModel(DistilBertConfig(**{names.get(key, key): value for key, value in common.items()}))
    else:
        model = BertModel(BertConfig(**common))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval(), tokenizer


KINDS = ("bert", "roberta", "distilbert", "mpnet", "xlm-roberta")


def save(folder: Path, kind: str, seed: int = 1) -> Path:
    """A folder as `--text-encoder` takes it."""
    for part in make(kind, seed):
        part.save_pretrained(folder)
    return folder


def make_data_bin(root: Path, encoder: Path, name: str = "data-bin", **options) -> Path:
    """A data-bin of the small world with an encoder."""
    if not (root / "identifiers").exists():
        make_bundle(root / "identifiers")
        make_captions(root / "captions.jsonl")
    binarize(root / "identifiers", root / "captions.jsonl", root / name, text_encoder=str(encoder), **options)
    return root / name


def loaded(data: Path) -> CartRetrievalTask:
    """The task over a data-bin, with all subsets."""
    task = setup_task(data)
    for split in ("train", "valid", "test"):
        task.load_dataset(split)
    return task


def weights(data: Path) -> dict[str, torch.Tensor]:
    """Those that a data-bin holds."""
    return load_file(data / "text-encoder" / "model.safetensors")


def saved(checkpoint: Path) -> dict[str, torch.Tensor]:
    """A checkpoint's model."""
    return torch.load(checkpoint, weights_only=True)["model"]


def make_moved_data_bin(root: Path) -> Path:
    """A data-bin with an encoder whose own folder is gone, at another place than where it was made."""
    made = make_data_bin(root, save(root / "source", "bert"))
    shutil.rmtree(root / "source")
    return made.rename(root / "moved")
