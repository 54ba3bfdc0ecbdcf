"""What a data-bin knows of its items: identifiers, trie, candidate sets, records. No network, no fairseq."""
