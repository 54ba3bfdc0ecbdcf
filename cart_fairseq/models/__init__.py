"""fairseq's models: the architectures `cart`, `cart_tiny` and `cart_rqvae`."""
