"""fairseq's criterions: `cart_rdrop` and `cart_rqvae`."""
