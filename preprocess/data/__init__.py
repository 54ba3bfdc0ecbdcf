"""Input and output files of every step: items, captions, embeddings, tables, media, working folders."""
