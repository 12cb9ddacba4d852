"""Scenes in, maps out: files of sensors as labelled arrays and images, and results as files.

`open_scene` opens what GDAL or xarray read, lazily, with wavelengths in nm. `HSI.from_xarray` makes an image of it.
Results go out by `to_xarray`, `to_geotiff` and `to_netcdf`, with the georeference of their scene, and by `save` to npz
files, which `load` reads again. All but those two need the extra ``geo``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meteors_c.io._npz import load, save
    from meteors_c.io.georeference import Georeference
    from meteors_c.io.results import to_geotiff, to_netcdf, to_xarray
    from meteors_c.io.scene import open_scene

__all__ = ["Georeference", "load", "open_scene", "save", "to_geotiff", "to_netcdf", "to_xarray"]

_PLACES = {
    "Georeference": "georeference",
    "load": "_npz",
    "open_scene": "scene",
    "save": "_npz",
    "to_geotiff": "results",
    "to_netcdf": "results",
    "to_xarray": "results",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"meteors_c.io.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'meteors_c.io' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
