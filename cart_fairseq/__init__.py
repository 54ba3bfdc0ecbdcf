"""CART as a fairseq plugin: generative cross-modal retrieval with coarse-to-fine identifiers.

``--user-dir cart_fairseq`` registers the tasks ``cart_retrieval`` and ``cart_rqvae``, the architectures ``cart``,
``cart_tiny`` and ``cart_rqvae``, and the criterions ``cart_rdrop`` and ``cart_rqvae``. In Python,
``import cart_fairseq`` does the same as soon as fairseq is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cart_fairseq.base.version import VERSION
from cart_fairseq.registration import register_with_fairseq

if TYPE_CHECKING:
    from cart_fairseq.example_retriever import ExampleRetriever
    from cart_fairseq.queries.hit import Hit
    from cart_fairseq.queries.query import Query
    from cart_fairseq.retriever import CartRetriever

__all__ = ["CartRetriever", "ExampleRetriever", "Hit", "Query"]
__version__ = VERSION
MODULES = {
    "CartRetriever": "retriever",
    "ExampleRetriever": "example_retriever",
    "Hit": "queries.hit",
    "Query": "queries.query",
}


def __getattr__(name: str) -> Any:
    """Import the public API on first use, because importing torch takes seconds, which would slow down ``--help``."""
    if name in MODULES:
        return getattr(importlib.import_module(f"cart_fairseq.{MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register_with_fairseq()
