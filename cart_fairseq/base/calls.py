"""How a command was called, for its help and its errors: ``python -m MODULE`` or ``cart NAME``."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_CALL: ContextVar[str | None] = ContextVar("call", default=None)


def program(module: str) -> str:
    """The words that call a command, for argparse's ``prog``.

    Args:
        module: the command's module, such as ``cart_fairseq.serve``.

    >>> program("cart_fairseq.serve")
    'python -m cart_fairseq.serve'
    """
    return _CALL.get() or f"python -m {module}"


@contextmanager
def called(words: str) -> Iterator[None]:
    """Run a command that was called by other words than ``python -m MODULE``.

    >>> with called("cart serve"):
    ...     program("cart_fairseq.serve")
    'cart serve'
    """
    token = _CALL.set(words)
    try:
        yield
    finally:
        _CALL.reset(token)
