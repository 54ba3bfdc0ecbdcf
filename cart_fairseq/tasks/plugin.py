"""Registers with fairseq everything that this package has, and mends what fairseq does at import and when it copies.

fairseq imports it with the rest of ``tasks/`` for ``--user-dir cart_fairseq``; Python code imports it for the same effect.
"""

import logging

from cart_fairseq.loading.checkpoint import allow_namespaces

allow_namespaces()
# importing fairseq says that tensorboardX is missing, whether or not anybody asked for it
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
_level = logging.getLogger().level

from cart_fairseq.criterions import cart_rdrop  # noqa: E402
from cart_fairseq.criterions import cart_rqvae as rqvae_criterion  # noqa: E402
from cart_fairseq.models import cart  # noqa: E402
from cart_fairseq.models import cart_rqvae as rqvae_model  # noqa: E402
from cart_fairseq.tasks import cart_retrieval, cart_rqvae, checkpoint_copies  # noqa: E402

logging.getLogger().setLevel(_level)  # importing fairseq turns on what every library says for debugging
checkpoint_copies.install()

__all__ = ["cart", "cart_rdrop", "cart_retrieval", "cart_rqvae", "rqvae_criterion", "rqvae_model"]
