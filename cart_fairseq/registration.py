"""Registers the plugin with fairseq as soon as both are imported, in either order.

fairseq scans the folder of ``--user-dir`` only if its package is not imported yet. A script that has imported
``cart_fairseq`` before would otherwise look for the task in vain. ``import cart_fairseq`` itself does not import fairseq.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

FAIRSEQ, PLUGIN = "fairseq", "cart_fairseq.tasks.plugin"
USERS = ("cart_fairseq.tasks.", "cart_fairseq.models.", "cart_fairseq.criterions.")
"""The modules that import fairseq themselves."""


def register_with_fairseq() -> None:
    """Register now if fairseq is imported, else after its import."""
    fairseq = sys.modules.get(FAIRSEQ)
    if fairseq is None:
        sys.meta_path.insert(0, _AfterImport())
    elif not getattr(fairseq.__spec__, "_initializing", False):
        importlib.import_module(PLUGIN)


class _AfterImport(MetaPathFinder):
    """Finds fairseq as the other finders do, and registers the plugin when it is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of fairseq; None for everything else."""
        if fullname != FAIRSEQ:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(FAIRSEQ)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def then_register(module: ModuleType) -> None:
                execute(module)
                # a module of ours that imports fairseq is incomplete here, and others need it
                if not any(name.startswith(USERS) for name in sys.modules):
                    importlib.import_module(PLUGIN)

            loader.exec_module = then_register
        return spec
