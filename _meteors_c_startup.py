"""Makes ``import meteors`` give meteors_c, without importing anything before that.

``meteors_c.pth`` imports this module at the start of Python where the environment variable METEORS_C is set, and
``python -m meteors_c`` does before it runs a script: so it lies beside the package, whose own import costs more.
"""

from __future__ import annotations

import os
import sys

# The modules that these names come from would be most of the cost of this one.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
else:
    ModuleSpec = type(__spec__)


class StartupFinder:
    """Finder and loader of the name ``meteors``: the first import of it calls `meteors_c.install`."""

    def __init__(self, fallback: bool) -> None:
        self.fallback = fallback
        self.spec: ModuleSpec | None = None

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Answer for ``meteors`` alone; its submodules come from the finder that `meteors_c.install` adds."""
        return ModuleSpec(name, self) if name == "meteors" else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Install the aliases and give the package meteors_c itself."""
        from meteors_c import dropin

        dropin.install(fallback=self.fallback)
        module = sys.modules["meteors"]
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the package back its own spec, which the import system has replaced."""
        module.__spec__ = self.spec


def add(fallback: bool | None = None) -> None:
    """Add the finder to those of Python, once.

    Parameters
    ----------
    fallback : bool, optional
        As in `meteors_c.install`; by default whether METEORS_C is ``fallback``.
    """
    if fallback is None:
        fallback = os.environ.get("METEORS_C") == "fallback"
    others = [finder for finder in sys.meta_path if not isinstance(finder, StartupFinder)]
    sys.meta_path[:] = [StartupFinder(fallback), *others]
