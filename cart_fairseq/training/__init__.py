"""Training without the network: losses, soft targets, companion captions, the allocator. No fairseq."""
