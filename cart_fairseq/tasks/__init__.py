"""fairseq's tasks and what they are made of: `cart_retrieval` and `cart_rqvae`."""
