"""Registers with fairseq everything that this package has, and mends what fairseq does at import and when it copies.

fairseq imports it with the rest of ``tasks/`` for ``--user-dir cart_fairseq``; Python code imports it for the same effect.
"""

import argparse
import logging

import torch

# fairseq's checkpoints hold their arguments in a Namespace; this lets torch's safe loading read them
torch.serialization.add_safe_globals([argparse.Namespace])
# importing fairseq says that tensorboardX is missing, whether or not anybody asked for it
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
_level = logging.getLogger().level

from cart_fairseq.criterions import cart_rdrop  # noqa: E402
from cart_fairseq.models import cart  # noqa: E402
from cart_fairseq.tasks import cart_retrieval, cart_rqvae, checkpoint_copies  # noqa: E402

logging.getLogger().setLevel(_level)  # importing fairseq turns on what every library says for debugging
checkpoint_copies.install()

__all__ = ["cart", "cart_rdrop", "cart_retrieval", "cart_rqvae"]
