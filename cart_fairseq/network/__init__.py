"""The network in plain PyTorch: encoder, decoder, fusion, dense head (CART 3.4). No files, no fairseq."""
