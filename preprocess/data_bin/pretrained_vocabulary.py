"""A pretrained text encoder of transformers and its vocabulary, as parts of a data-bin.

`cart_fairseq.catalogue.text_encoder` reads them.

transformers is imported when it is asked for.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from cart_fairseq.base.files import sha256
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.catalogue.held_files import HeldFiles
from cart_fairseq.catalogue.segments import file_entry
from cart_fairseq.catalogue.text_encoder import CONFIG, FOLDER, TOKENIZER, WEIGHTS, TextEncoder, TokenSymbols, missing
from cart_fairseq.loading.transformer import load_transformer, without_pooler
from preprocess.data_bin.vocabulary import DICTIONARY
from preprocess.encoders.pretrained import load_model, load_part

PROBE = "a dog"
UNLIMITED = 1 << 20
REMEDY = "choose an encoder of the kind of BERT, DistilBERT, MPNet or RoBERTa"


class PretrainedVocabulary:
    """Texts to symbols of the query dictionary that a tokeniser makes.

    Args:
        symbols: the tokeniser.
        entry: what the manifest says about the text encoder, its files left out.
        save: writes config.json, model.safetensors and tokenizer.json into an existing folder.
    """

    def __init__(self, symbols: TokenSymbols, entry: dict[str, Any], save: Callable[[Path], None]):
        self.symbols = symbols
        self.entry = entry
        self._save = save

    @classmethod
    def load(cls, name: str) -> "PretrainedVocabulary":
        """Of a model on the hub, or of a folder that ``save_pretrained`` wrote.

        Raises:
            ValueError: it cannot be loaded, is no text encoder, or expects other things around a text than one token
                before it and one after it; or the library transformers is missing.
        """
        try:
            model = without_pooler(load_model(name, optional=("pooler",))[0]).float().eval()
            tokenizer = load_part("AutoTokenizer", name)
        except ImportError as error:
            raise missing(error.name or "transformers") from None
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(f"--text-encoder {name}: its tokeniser cannot be written as tokenizer.json; {REMEDY}")
        content = _tokenizer_file(tokenizer)
        pad, unk = tokenizer.pad_token_id, tokenizer.unk_token_id
        if pad is None:
            raise ValueError(f"--text-encoder {name}: its tokeniser has no padding token; {REMEDY}")
        symbols = TokenSymbols(content, pad if unk is None else unk)
        # transformers makes an empty one where files are missing
        if len(symbols.words) <= len(tokenizer.all_special_ids):
            raise ValueError(f"--text-encoder {name}: no tokeniser beside the model; save both with save_pretrained")
        start, end = _around(name, tokenizer, symbols)
        _check_model(name, model, symbols)

        def save(folder: Path) -> None:
            model.save_pretrained(folder, max_shard_size="1TB")
            (folder / TOKENIZER).write_text(content, encoding="utf-8", newline="\n")
            _check_copy(name, model, folder, [start, *next(symbols.tokens([PROBE])), end])

        entry = {"name": name, "start": start, "end": end, "pad": pad, "unk": symbols.unk}
        entry["max_tokens"] = _capacity(model)
        return cls(symbols, entry, save)

    @classmethod
    def of(cls, data: DataBin, encoder: TextEncoder) -> "PretrainedVocabulary":
        """That of an existing data-bin."""
        entry = {key: value for key, value in data.manifest["text_encoder"].items() if key != "files"}

        def save(folder: Path) -> None:
            for name in (CONFIG, WEIGHTS, TOKENIZER):
                with encoder.files.reading(name) as path:
                    shutil.copyfile(path, folder / name)

        return cls(TokenSymbols.load(encoder), entry, save)

    def __len__(self) -> int:
        """Symbols of the dictionary, fairseq's four specials included."""
        return len(self.symbols)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Symbols of each text, without end of sentence; empty where normalisation leaves nothing of a text."""
        return self.symbols.encode(texts)

    def check_length(self, max_query_tokens: int) -> None:
        """Refuse queries that the model has no positions for.

        Raises:
            ValueError: ``max_query_tokens``, end of sentence included, are too many.
        """
        most = self.entry["max_tokens"] - 1
        if max_query_tokens > most:
            raise ValueError(
                f"--max-query-tokens is {max_query_tokens}, but the text encoder {self.entry['name']} takes {most} at most; "
                f"give --max-query-tokens {most}"
            )

    def write(self, directory: Path) -> dict[str, Any]:
        """Write ``text-encoder/`` and ``dict.query.txt``; returns what the manifest says about them."""
        folder = directory / FOLDER
        folder.mkdir()
        self._save(folder)
        (directory / DICTIONARY).write_text(self.symbols.dictionary(), encoding="utf-8", newline="\n")
        return {"text_encoder": {**self.entry, "files": {p.name: file_entry(p) for p in sorted(folder.iterdir())}}}


def identity(name: str) -> str:
    """The identity of an encoder before it is loaded: a checksum of its folder's files, or its name on the hub."""
    if not Path(name).is_dir():
        return name
    files = {path.name: sha256(path) for path in sorted(Path(name).iterdir()) if path.is_file()}
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _around(name: str, tokenizer: Any, symbols: TokenSymbols) -> tuple[int, int]:
    """The tokens that a model expects before and after a text."""
    (bare,) = symbols.tokens([PROBE])
    whole = list(tokenizer(PROBE)["input_ids"])
    if not bare or len(whole) != len(bare) + 2 or whole[1:-1] != bare:
        shown = " ".join(tokenizer.convert_ids_to_tokens(whole))
        raise ValueError(
            f"--text-encoder {name}: reads {PROBE!r} as {shown}, not as one special token, the text and another special "
            f"token; {REMEDY}"
        )
    return whole[0], whole[-1]


def _tokenizer_file(tokenizer: Any) -> str:
    """``tokenizer.json`` without the truncation and padding that some come with."""
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy.to_str(pretty=True)


def _check_model(name: str, model: Any, symbols: TokenSymbols) -> None:
    """Refuse a model that is no encoder of texts, or does not belong to this tokeniser."""
    config = model.config
    sizes = [getattr(config, key, None) for key in ("num_hidden_layers", "hidden_size", "vocab_size")]
    decodes = getattr(config, "is_encoder_decoder", False) or getattr(config, "is_decoder", False)
    if decodes or not all(isinstance(size, int) for size in sizes):
        raise ValueError(f"--text-encoder {name}: a {type(model).__name__}, not an encoder of texts; {REMEDY}")
    if len(symbols.words) > config.vocab_size:
        raise ValueError(
            f"--text-encoder {name}: its tokeniser has {len(symbols.words)} tokens, its model {config.vocab_size}; save them "
            "together with save_pretrained"
        )


def _capacity(model: Any) -> int:
    """The longest text in tokens; some models leave the first positions unused."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return UNLIMITED
    tables = [module for key, module in model.named_modules() if key.endswith("position_embeddings")]
    unused = [table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None]
    return positions - max(unused, default=0)


def _check_copy(name: str, model: Any, folder: Path, tokens: list[int]) -> None:
    """Refuse a model that its own files do not make again, or whose layers cannot be read."""
    with torch.no_grad():
        expected, found = (
            each(input_ids=torch.tensor([tokens]), output_hidden_states=True)
            for each in (model, load_transformer(HeldFiles(folder, (CONFIG, WEIGHTS), REMEDY)).eval())
        )
    states = found.hidden_states or ()
    shapes = {tuple(state.shape) for state in states}
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    if len(states) != layers + 1 or shapes != {(1, len(tokens), width)}:
        raise ValueError(f"--text-encoder {name}: does not return the {layers} states of its layers; {REMEDY}")
    if not torch.equal(found.last_hidden_state, expected.last_hidden_state):
        raise ValueError(f"--text-encoder {name}: computes something else once it is saved and loaded; {REMEDY}")
