"""Text queries to symbols, and identifiers back to item ids, in the shape of a fairseq BPE."""

import numpy as np
import sentencepiece

from cart_fairseq.data_bin import DataBin


class QueryCodec:
    """What fairseq's commands call to encode a query and to decode a hypothesis.

    Args:
        data: the opened data-bin.
    """

    def __init__(self, data: DataBin):
        self.data = data
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(data.directory / "sentencepiece.model"))
        symbols = data.bundle.positions
        self.value_of = [{p.symbol(value): value for value in range(p.size)} for p in symbols]
        trie = data.trie
        self.values = [tensor.cpu().numpy() for tensor in trie.values]
        self.first_child = [tensor.cpu().numpy() for tensor in trie.first_child]
        self.rows = trie.rows.cpu().numpy()

    def encode(self, text: str) -> str:
        """A query's sentencepiece pieces, separated by spaces."""
        return " ".join(self.pieces.encode(text, out_type=str))

    def decode(self, symbols: str) -> str:
        """The item id that an identifier names; a query's pieces become text again."""
        words = symbols.split()
        if len(words) == len(self.value_of) and all(w in known for w, known in zip(words, self.value_of, strict=True)):
            node = 0
            for depth, (word, known) in enumerate(zip(words, self.value_of, strict=True)):
                low, high = self.first_child[depth][node : node + 2].tolist()
                node = low + int(np.searchsorted(self.values[depth][low:high], known[word]))
                if node == high or self.values[depth][node] != known[word]:
                    return self.pieces.decode(words)
            return self.data.bundle.item_id(int(self.rows[node]))
        return self.pieces.decode(words)
