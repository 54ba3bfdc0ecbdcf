"""From files to networks: pretrained text encoders, checkpoints."""
