"""Registers the plugin with fairseq as soon as both are imported, in either order.

fairseq scans the folder of ``--user-dir`` only if its package is not imported yet. A script that has imported
``cart_fairseq`` before would otherwise look for the task in vain. ``import cart_fairseq`` itself does not import fairseq.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

FAIRSEQ, COMMANDS, PLUGIN = "fairseq", "fairseq_cli", "cart_fairseq.tasks.plugin"
USERS = ("cart_fairseq.tasks.", "cart_fairseq.models.", "cart_fairseq.criterions.")
"""The modules that import fairseq themselves."""


def register_with_fairseq() -> None:
    """Register now if fairseq is imported, else after its import."""
    if _complete(FAIRSEQ):
        importlib.import_module(PLUGIN)
    elif not any(type(finder).__name__ == _AfterImport.__name__ for finder in sys.meta_path):  # reloaded: another class
        sys.meta_path.insert(0, _AfterImport())


def _complete(name: str) -> bool:
    """Whether a module has been imported; None in its place blocks an import."""
    return sys.modules.get(name) is not None and not _incomplete(name)


def _incomplete(name: str) -> bool:
    """Whether a module is still being imported."""
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)


class _AfterImport(MetaPathFinder):
    """Finds fairseq as the other finders do, and registers the plugin when it has been imported.

    If one of our own modules imports fairseq, it is incomplete at that time, and the plugin needs it. The plugin is then
    registered when that module has been imported.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of fairseq, or of a module of ours that imports it; None for everything else."""
        if fullname.partition(".")[0] == COMMANDS and _complete(FAIRSEQ):
            self.register()
        if fullname != FAIRSEQ and not fullname.startswith(USERS):
            return None
        others = (finder.find_spec(fullname, path, target) for finder in [*sys.meta_path] if finder is not self)
        spec = next((found for found in others if found is not None), None)
        if spec is not None and spec.loader is not None:
            self.follow(spec.loader)
        return spec

    def follow(self, loader: Any) -> None:
        """Register when the loader has executed its module, if fairseq is there then."""
        execute = loader.exec_module

        def then_register(module: ModuleType) -> None:
            loader.exec_module = execute  # a loader of a zip file has other modules, too
            execute(module)
            if module.__name__ == FAIRSEQ or _complete(FAIRSEQ):
                self.register(module.__name__)

        loader.exec_module = then_register

    def register(self, executed: str = "") -> None:
        """Import the plugin, unless one of our modules that import fairseq is incomplete.

        Args:
            executed: name of a module that has been executed, although its import has not ended.
        """
        ours = [name for name in sys.modules if name.startswith(USERS) and name != executed]
        if self in sys.meta_path and not any(_incomplete(name) for name in ours):
            sys.meta_path.remove(self)
            importlib.import_module(PLUGIN)
