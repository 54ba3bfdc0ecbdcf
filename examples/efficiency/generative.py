"""The generative contenders: this project's search, fairseq's with the same model, Hugging Face's with an equal BART."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from catalogue import VOCABULARY
from dict_trie import DictTrie
from fairseq.search import PrefixConstrainedBeamSearch
from fairseq.sequence_generator import SequenceGenerator
from stock_model import as_stock
from timing import Contender
from torch import Tensor, nn

from cart_fairseq.base.libraries import hide_broken_torchaudio
from cart_fairseq.models.flags import DEFAULTS
from cart_fairseq.search.generator import IdentifierGenerator
from cart_fairseq.search.result import SearchResult

TOLERANCE = 1e-4


class EveryChild:
    """Replaces an ``IdentifierTrie`` to measure the cost of the mask. Every prefix can be followed by all values.

    A node's number is computed from its values, so that no array grows with the catalogue.
    """

    def __init__(self, sizes: Sequence[int], offsets: Sequence[int]):
        self.length = len(sizes)
        self.sizes = self.width = tuple(sizes)
        self.offsets = tuple(offsets)
        self.rows = _Itself()

    def to(self, device: torch.device) -> "EveryChild":
        """Return itself, because it has no tensors."""
        return self

    def named_errors(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that does nothing, because no file can be damaged."""
        return contextlib.nullcontext()

    def __len__(self) -> int:
        return math.prod(self.sizes)

    def num_nodes(self, depth: int) -> int:
        """Return the number of prefixes of ``depth`` values."""
        return math.prod(self.sizes[:depth])

    def leaves(self, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first leaf below each node and the end of the range, both in the shape of ``nodes``."""
        below = math.prod(self.sizes[depth:])
        return nodes * below, (nodes + 1) * below

    def children(self, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return child nodes, symbols and whether they exist, each (R, size), for all values of the position."""
        values = torch.arange(self.sizes[depth], device=nodes.device).expand(len(nodes), -1)
        child = nodes.unsqueeze(1) * self.sizes[depth] + values
        return child, values + self.offsets[depth], torch.ones_like(values, dtype=torch.bool)


class _Itself:
    def __getitem__(self, nodes: Tensor) -> Tensor:
        return nodes


def ours(name: str, generator: IdentifierGenerator, net_input: dict[str, Tensor], trie: Any) -> Contender:
    """Return this project's search with an ``IdentifierTrie``, or without a mask with :class:`EveryChild`."""

    def run() -> dict[str, Any]:
        generator.search(net_input, trie)
        return {"decoder_rows": list(generator.decoder_rows)}

    return Contender(name, run)


@contextlib.contextmanager
def counted_rows(layer: nn.Module) -> Iterator[list[int]]:
    """Collect the number of rows in each call of a decoder layer."""
    rows: list[int] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: rows.append(math.prod(inputs[0].shape[:-1])))
    try:
        yield rows
    finally:
        handle.remove()


class _EndForFree(PrefixConstrainedBeamSearch):
    """Sets the score of the forced end of sentence to zero, to compare scores."""

    def __init__(self, dictionary: Any, allowed: Any, length: int):
        super().__init__(dictionary, allowed)
        self.length = length

    def step(self, step: int, lprobs: Tensor, *arguments: Any, **options: Any) -> Any:
        """Give the step after the last symbol a score of zero."""
        if step == self.length:
            lprobs = torch.full_like(lprobs, -math.inf)
            lprobs[..., self.eos] = 0
        return super().step(step, lprobs, *arguments, **options)


class StockFairseq:
    """fairseq's ``SequenceGenerator`` with ``PrefixConstrainedBeamSearch``.

    Args:
        model: a ``cart`` model.
        dictionary: the target dictionary.
        trie: the valid identifiers.
        length: J.
        free_end: leave the forced end of sentence out of the scores. Stock fairseq includes it.
    """

    def __init__(self, model: Any, dictionary: Any, trie: DictTrie, length: int, beam: int, free_end: bool = False):
        def allowed(query: int, prefix: Tensor) -> list[int]:
            return trie(tuple(prefix.tolist()))

        if free_end:
            strategy = _EndForFree(dictionary, allowed, length)
        else:
            strategy = PrefixConstrainedBeamSearch(dictionary, allowed)
        self.model = model
        self.stock = as_stock(model, dictionary)
        self.generator = SequenceGenerator(
            [self.stock],
            dictionary,
            beam_size=beam,
            max_len_b=length,
            normalize_scores=False,
            search_strategy=strategy,
        )

    def search(self, net_input: dict[str, Tensor]) -> list[list[dict[str, Tensor]]]:
        """Return fairseq's hypotheses for each query, best first."""
        sample = {"id": torch.arange(len(net_input["src_tokens"])), "net_input": net_input}
        return self.generator.generate([self.stock], sample)

    def contender(self, name: str, net_input: dict[str, Tensor]) -> Contender:
        """The search, for timing."""

        def run() -> dict[str, Any]:
            with counted_rows(self.model.decoder.layers[0]) as rows:
                self.search(net_input)
            return {"decoder_rows": rows}

        return Contender(name, run)


class HuggingFace:
    """``generate(num_beams, prefix_allowed_tokens_fn)`` on a BART with random weights and the sizes of ``cart``.

    It stops after J symbols, so it needs no pass for the end of sentence.

    Args:
        symbols: size of the target dictionary.
        length: J.
    """

    def __init__(self, symbols: int, length: int, beam: int, seed: int):
        hide_broken_torchaudio()
        from transformers import BartConfig, BartForConditionalGeneration

        torch.manual_seed(seed)
        sizes: dict[str, Any] = DEFAULTS
        config = BartConfig(
            vocab_size=symbols,
            d_model=sizes["encoder_embed_dim"],
            encoder_layers=sizes["encoder_layers"],
            decoder_layers=sizes["decoder_layers"],
            encoder_attention_heads=sizes["encoder_attention_heads"],
            decoder_attention_heads=sizes["decoder_attention_heads"],
            encoder_ffn_dim=sizes["encoder_ffn_embed_dim"],
            decoder_ffn_dim=sizes["encoder_ffn_embed_dim"],
            bos_token_id=0,  # fairseq's <s>, <pad> and </s>
            pad_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=2,
            forced_eos_token_id=None,
            init_std=0.1,
        )
        self.model: Any = BartForConditionalGeneration(config).eval()
        self.model.model.encoder.embed_tokens = nn.Embedding(VOCABULARY, sizes["encoder_embed_dim"], 1)  # its own
        self.length = length
        self.beam = beam

    def search(self, net_input: dict[str, Tensor], trie: DictTrie) -> Tensor:
        """Return (Q, beam, J) symbols, best first."""
        tokens = net_input["src_tokens"]
        with torch.no_grad():
            found = self.model.generate(
                input_ids=tokens,
                attention_mask=(tokens != 1).long(),
                num_beams=self.beam,
                num_return_sequences=self.beam,
                max_new_tokens=self.length,
                do_sample=False,
                length_penalty=0.0,
                prefix_allowed_tokens_fn=lambda query, prefix: trie(tuple(prefix.tolist())),
            )
        return found[:, 1:].view(len(tokens), self.beam, -1)

    def contender(self, name: str, net_input: dict[str, Tensor], trie: DictTrie) -> Contender:
        """The search, for timing."""

        def run() -> dict[str, Any]:
            with counted_rows(self.model.model.decoder.layers[0]) as rows:
                self.search(net_input, trie)
            return {"decoder_rows": rows}

        return Contender(name, run)


def compare(found: SearchResult, stock: list[list[dict[str, Tensor]]]) -> dict[str, Any]:
    """Compare a search with stock fairseq's hypotheses for the same queries (``free_end``).

    Items whose scores differ by less than the tolerance may be in either order.

    Returns:
        The largest difference of two scores at the same rank, and the number of ranks with tied items in another order.

    Raises:
        ValueError: an item or a score differs; the message gives query and rank.
    """
    largest, swapped = 0.0, 0
    for query, hypotheses in enumerate(stock):
        for place, (tokens, score) in enumerate(
            zip(found.tokens[query].tolist(), found.scores[query].tolist(), strict=True)
        ):
            if place == len(hypotheses):
                raise ValueError(f"query {query}: fairseq found {place} items, ours {len(found.tokens[query])}")
            expected = float(hypotheses[place]["score"])
            same = hypotheses[place]["tokens"][:-1].tolist() == tokens
            largest = max(largest, abs(score - expected))
            swapped += not same
            if abs(score - expected) > TOLERANCE or not (same or _listed(tokens, score, hypotheses)):
                raise ValueError(
                    f"query {query}, place {place}: ours found {tokens} with {score:.6f}, "
                    f"fairseq {hypotheses[place]['tokens'][:-1].tolist()} with {expected:.6f}"
                )
    return {"largest_difference": largest, "tied_places": swapped}


def _listed(tokens: list[int], score: float, hypotheses: list[dict[str, Tensor]]) -> bool:
    """Whether fairseq found the item with this score at another rank, or it is tied with fairseq's last item."""
    for hypothesis in hypotheses:
        if hypothesis["tokens"][:-1].tolist() == tokens:
            return abs(float(hypothesis["score"]) - score) <= TOLERANCE
    return abs(float(hypotheses[-1]["score"]) - score) <= TOLERANCE
