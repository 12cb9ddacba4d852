"""Attribution methods for hyperspectral and multispectral models, with a native core.

The modules load when they are first used: ``import meteors_c`` costs little more than ``import torch``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from meteors_c._options import options
from meteors_c._version import __version__

if TYPE_CHECKING:
    from meteors_c import (
        attr,
        datasets,
        dropin,
        exceptions,
        hub,
        io,
        models,
        pages,
        shap,
        spectral,
        utils,
        visualize,
    )
    from meteors_c.dropin import install, load_ipython_extension, uninstall, unload_ipython_extension
    from meteors_c.hsi import HSI

__all__ = [
    "HSI",
    "__version__",
    "attr",
    "datasets",
    "dropin",
    "exceptions",
    "hub",
    "install",
    "io",
    "load_ipython_extension",
    "models",
    "options",
    "pages",
    "shap",
    "spectral",
    "uninstall",
    "unload_ipython_extension",
    "utils",
    "visualize",
]

_MODULES = {
    "attr",
    "datasets",
    "dropin",
    "exceptions",
    "hub",
    "io",
    "models",
    "pages",
    "shap",
    "spectral",
    "utils",
    "visualize",
}
_FROM = {  # the module of each name that is no module
    "HSI": "hsi",
    "install": "dropin",
    "load_ipython_extension": "dropin",
    "uninstall": "dropin",
    "unload_ipython_extension": "dropin",
}


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(importlib.import_module(f"meteors_c.{_FROM[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"meteors_c.{name}")
    raise AttributeError(f"module 'meteors_c' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
