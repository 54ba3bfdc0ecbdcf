"""The fairseq tasks `cart_retrieval` and `cart_rqvae`, with their data sets and checkpoint handling."""
