"""The RQ-VAE in plain PyTorch (CART 3.2.2, Eq. 1)."""
