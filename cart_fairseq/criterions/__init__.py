"""The fairseq criterions `cart_rdrop` and `cart_rqvae`."""
