"""Fixed-length beam search over the identifier trie (CART 3.5): only real items come out, in exactly J steps."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from fairseq.models import FairseqEncoderDecoderModel
from torch import Tensor, nn

from cart_fairseq.trie import IdentifierTrie


class SearchResult(NamedTuple):
    """The K best items of B queries, best first; K is the beam, or the number of candidates where that is smaller.

    Attributes:
        rows: (B, K) int64 item rows.
        scores: (B, K) float32, the sum of the identifier's natural-log probabilities; -inf marks an empty place.
        tokens: (B, K, J) int64 identifiers in symbols of the target dictionary.
        token_scores: (B, K, J) float32, each symbol's natural-log probability.
    """

    rows: Tensor
    scores: Tensor
    tokens: Tensor
    token_scores: Tensor


class IdentifierGenerator(nn.Module):
    """Trie-constrained beam search for one model or an ensemble.

    Scores are log-softmax over the whole identifier vocabulary, then masked, as in fairseq's
    ``PrefixConstrainedBeamSearch``; all identifiers have one length and end by themselves, so there is no end-of-sentence
    step and no length normalisation. An ensemble averages probabilities symbol by symbol.

    Args:
        models: ``cart`` models that share dictionaries.
        tries: name of a candidate set -> its trie.
        start: the symbol the decoder begins with (fairseq's ``</s>``).
        beam_size: at least 1.
        temperature: divides the logits.

    Raises:
        ValueError: ``beam_size`` is below 1 or ``temperature`` not above 0.
    """

    def __init__(
        self,
        models: Sequence[FairseqEncoderDecoderModel],
        tries: Callable[[str], IdentifierTrie],
        start: int,
        beam_size: int = 30,
        temperature: float = 1.0,
    ):
        super().__init__()
        if beam_size < 1 or temperature <= 0:
            raise ValueError(f"--beam {beam_size} must be at least 1 and --temperature {temperature} above 0")
        self.models = nn.ModuleList(models)
        self.members: list[Any] = list(models)
        self.tries = tries
        self.start = start
        self.beam_size = beam_size
        self.temperature = temperature
        self.symbols_to_strip_from_output = {start}

    @torch.no_grad()
    def search(self, net_input: dict[str, Tensor], trie: IdentifierTrie) -> SearchResult:
        """Find the best identifiers for a batch of queries.

        Args:
            net_input: ``src_tokens`` (B, T) int64 and ``src_lengths`` (B,).
            trie: the candidates.
        """
        self.models.eval()
        src_tokens = net_input["src_tokens"]
        batch, device = len(src_tokens), src_tokens.device
        trie = trie.to(device)
        encoder_outs = [model.encoder(src_tokens, net_input["src_lengths"]) for model in self.members]
        states: list[dict[str, Any]] = [{} for _ in self.models]
        # beams of one query are consecutive rows; at first there is one
        nodes = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        scores = torch.zeros(batch, 1, device=device)
        tokens = torch.full((batch, 1, 1), self.start, dtype=torch.int64, device=device)
        token_scores = torch.zeros(batch, 1, 0, device=device)
        for step in range(trie.length):
            log_probs = self._log_probs(tokens.flatten(0, 1), encoder_outs, states)
            child, symbols, exists = trie.children(step, nodes.flatten())
            step_scores = log_probs.gather(1, symbols).masked_fill(~exists, float("-inf"))
            step_scores = step_scores.view(batch, nodes.size(1), -1)
            total = (scores.unsqueeze(2) + step_scores).flatten(1)
            beams = min(self.beam_size, total.size(1), trie.num_nodes(step + 1))
            scores, chosen = total.topk(beams, dim=1)
            parent = chosen // step_scores.size(2)
            row = (parent + nodes.size(1) * torch.arange(batch, device=device).unsqueeze(1)).flatten()
            nodes = child.view(batch, -1).gather(1, chosen)
            new_tokens = symbols.view(batch, -1).gather(1, chosen)
            new_scores = step_scores.flatten(1).gather(1, chosen)
            tokens = torch.cat([tokens.flatten(0, 1)[row].view(batch, beams, -1), new_tokens.unsqueeze(2)], dim=2)
            token_scores = torch.cat(
                [token_scores.flatten(0, 1)[row].view(batch, beams, -1), new_scores.unsqueeze(2)], dim=2
            )
            if step + 1 < trie.length:
                for model, state in zip(self.members, states, strict=True):
                    model.decoder.reorder_beams(state, row)
        return SearchResult(trie.rows[nodes], scores, tokens[:, :, 1:], token_scores)

    def _log_probs(self, tokens: Tensor, encoder_outs: list[Any], states: list[dict[str, Any]]) -> Tensor:
        """Natural-log probabilities (R, V) of what follows each row of ``tokens`` (R, L)."""
        each = []
        for model, encoder_out, state in zip(self.members, encoder_outs, states, strict=True):
            logits, _ = model.decoder(tokens, encoder_out=encoder_out, incremental_state=state)
            each.append(torch.log_softmax(logits[:, -1].float() / self.temperature, dim=-1))
        return each[0] if len(each) == 1 else torch.stack(each).logsumexp(0) - torch.tensor(float(len(each))).log()

    @torch.no_grad()
    def generate(
        self, models: Any, sample: dict[str, Any], prefix_tokens: Tensor | None = None, constraints: Any = None
    ) -> list[list[dict[str, Tensor]]]:
        """What fairseq's commands call: hypotheses of each query, best first, on the CPU.

        ``models`` is part of fairseq's interface; the generator searches with those it was built for.
        """
        if prefix_tokens is not None or constraints is not None:
            raise ValueError("--prefix-size and --constraints do not apply to identifiers; leave them out")
        result = self.search(sample["net_input"], self.tries(sample.get("candidates", "all")))
        scores, tokens, token_scores = (t.cpu() for t in (result.scores, result.tokens, result.token_scores))
        empty = torch.empty(0)
        return [
            [
                {
                    "tokens": tokens[query, place],
                    "score": scores[query, place],
                    "positional_scores": token_scores[query, place],
                    "attention": empty,
                    "alignment": empty,
                }
                for place in range(scores.size(1))
                if scores[query, place] > float("-inf")
            ]
            for query in range(len(scores))
        ]
