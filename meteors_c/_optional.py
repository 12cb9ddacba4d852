"""Packages that only some functions need: imported when they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["import_optional"]


def import_optional(module: str, package: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of a package that may be missing.

    Parameters
    ----------
    module : str
        The module, such as ``"skimage.segmentation"``.
    package : str
        The package that it comes with, as pip knows it.
    extra : str
        The extra of this package that installs it.
    purpose : str
        What it is needed for; the subject of the message.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        The package is missing, or fails to import; the message says how to install it.

    Examples
    --------
    >>> slic = import_optional("skimage.segmentation", "scikit-image", "masks", "SLIC superpixels").slic
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} need the package {package}, which can't be imported ({error}); "
            f'it comes with pip install "meteors_c[{extra}]"',
            name=module,
        ) from error
