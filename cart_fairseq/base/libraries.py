"""Imports `transformers` and `sentence_transformers` although the installed torchaudio may not load.

fairseq installs torchaudio. Its binary often belongs to another build of torch; importing it then raises OSError.
`transformers` imports torchaudio if it is installed, and would fail too, although nothing here needs torchaudio.
"""

import importlib
import sys
from typing import Any


def hide_broken_torchaudio() -> None:
    """Mark torchaudio as not installed in this process if importing it fails."""
    try:
        import torchaudio  # noqa: F401
    except Exception:
        sys.modules["torchaudio"] = None  # type: ignore[assignment]  # `import` and `find_spec` then find none


def import_library(name: str) -> Any:
    """Import `transformers`, `sentence_transformers` or one of their modules.

    Raises:
        ImportError: the library is not installed.
    """
    hide_broken_torchaudio()
    return importlib.import_module(name)
