"""From identifiers and captions to the data-bin: vocabulary, subsets, dense features."""
