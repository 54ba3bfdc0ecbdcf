"""Import of `transformers` and `sentence_transformers` beside a torchaudio that does not load.

fairseq installs torchaudio. Its binary often fits another build of torch and then raises OSError. `transformers` imports
torchaudio wherever it is installed, although nothing here needs it, and would fail with it.
"""

import importlib
import sys
from typing import Any


def hide_broken_torchaudio() -> None:
    """Make torchaudio count as not installed in this process, if importing it fails."""
    try:
        import torchaudio  # noqa: F401
    except Exception:
        sys.modules["torchaudio"] = None  # type: ignore[assignment]  # `import` and `find_spec` then find nothing


def import_library(name: str) -> Any:
    """Import `transformers`, `sentence_transformers` or one of their modules.

    Raises:
        ImportError: it is not installed.
    """
    hide_broken_torchaudio()
    return importlib.import_module(name)
