"""CART as a fairseq plugin: generative cross-modal retrieval with coarse-to-fine identifiers.

Importing it (``--user-dir cart_fairseq``) registers the tasks ``cart_retrieval`` and ``cart_rqvae``, the architectures
``cart``, ``cart_tiny`` and ``cart_rqvae``, and the criterions ``cart_rdrop`` and ``cart_rqvae``.
"""

import argparse
import logging

import torch

# fairseq's checkpoints hold their arguments in a Namespace; this lets torch's safe loading read them
torch.serialization.add_safe_globals([argparse.Namespace])
# importing fairseq says that tensorboardX is missing, whether or not anybody asked for it
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
level = logging.getLogger().level

from cart_fairseq import checkpoint_copies, criterion, model, rqvae_training, task  # noqa: E402
from cart_fairseq.retriever import CartRetriever, Hit  # noqa: E402

logging.getLogger().setLevel(level)  # importing fairseq turns on what every library says for debugging
del level
checkpoint_copies.install()

__all__ = ["CartRetriever", "Hit", "criterion", "model", "rqvae_training", "task"]
