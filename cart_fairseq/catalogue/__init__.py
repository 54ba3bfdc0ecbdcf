"""The items of a data-bin: identifiers, trie, candidate sets, records. No network, no fairseq."""
