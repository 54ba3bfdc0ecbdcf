"""Registers all tasks, models and criterions with fairseq, and corrects fairseq's logging, its handling of
checkpoints and its checks of options.

fairseq imports this module with the rest of ``tasks/`` for ``--user-dir cart_fairseq``. Python code can import it too.
"""

import logging

from cart_fairseq.loading.checkpoint import allow_namespaces

allow_namespaces()
# fairseq logs at import that tensorboardX is missing, although nothing needs it
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
_level = logging.getLogger().level

from cart_fairseq.criterions import cart_rdrop  # noqa: E402
from cart_fairseq.criterions import cart_rqvae as rqvae_criterion  # noqa: E402
from cart_fairseq.models import cart  # noqa: E402
from cart_fairseq.models import cart_rqvae as rqvae_model  # noqa: E402
from cart_fairseq.tasks import (  # noqa: E402
    cart_retrieval,
    cart_rqvae,
    checked_checkpoints,
    checkpoint_files,
    command_output,
    training_options,
)

logging.getLogger().setLevel(_level)  # importing fairseq sets the root logger to DEBUG
checked_checkpoints.install()
checkpoint_files.install()
training_options.install()
command_output.install()

__all__ = ["cart", "cart_rdrop", "cart_retrieval", "cart_rqvae", "rqvae_criterion", "rqvae_model"]
