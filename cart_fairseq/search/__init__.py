"""Beam search over the identifier trie (CART 3.5). No fairseq."""
