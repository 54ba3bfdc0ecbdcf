"""The service: search over HTTP with micro-batches, facets and media, over a catalogue that may change meanwhile."""
