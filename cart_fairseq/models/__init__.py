"""The fairseq models: architectures `cart`, `cart_tiny` and `cart_rqvae`."""
