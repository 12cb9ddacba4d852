"""Where a scene lies by texts of its file: ENVI's ``map info`` and codes of coordinate systems, wherever they stand.

Files in HDF5 write them as attributes, or as datasets of their own beside the values, where no library looks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from meteors_c._optional import import_optional
from meteors_c.io.georeference import Georeference, read_map_info

__all__ = ["normalised", "placed", "texts_near"]

_MAP_INFO = ("map_info",)
_EPSG = ("epsg_code", "epsg")
_WKT = ("coordinate_system_string", "crs_wkt", "wkt")


def normalised(name: Any) -> str:
    """Return a name in small letters, with underscores for spaces."""
    return str(name).strip().lower().replace(" ", "_")


def texts_near(groups: Mapping[str, Any], path: str) -> dict[str, str]:
    """Return the texts that stand near a variable of a file, by their normalised names; the nearest of a name.

    Parameters
    ----------
    groups : dict
        The groups of the file as datasets, by their paths.
    path : str
        Of the variable.

    Returns
    -------
    dict
        Attributes of the variable and of the groups around it, and scalars beside it, or below these groups.
    """
    group, _, name = path.rpartition("/")
    found = dict(_texts(groups["/" + group][name].attrs.items()))
    parts = group.split("/") if group else []
    for depth in range(len(parts), -1, -1):
        around = "/" + "/".join(parts[:depth])
        inside = [at for at in groups if at == around or at.startswith(around.rstrip("/") + "/")]
        for at in sorted(inside, key=lambda at: (at.count("/"), at)):
            for name, text in (*_texts(groups[at].attrs.items()), *_texts(groups[at].variables.items())):
                found.setdefault(name, text)
    return found


def _texts(entries: Iterable[tuple[Any, Any]]) -> Iterator[tuple[str, str]]:
    wanted = (*_MAP_INFO, *_EPSG, *_WKT)
    for name, value in entries:
        if normalised(name) in wanted and getattr(value, "size", 1) == 1:
            one = np.asarray(value).reshape(-1)[0]
            yield normalised(name), one.decode(errors="replace") if isinstance(one, bytes) else str(one)


def placed(array: Any, texts: Mapping[str, str], notes: list[str]) -> Any:
    """Return an array over ``(..., "y", "x")`` with the place that texts tell, where it has none itself.

    What is read, and what can't be, is added to `notes`.
    """
    told = {
        names[0]: next((texts[name] for name in names if name in texts), None) for names in (_MAP_INFO, _EPSG, _WKT)
    }
    info = told["map_info"]
    transform, by_words = (None, None) if info is None else read_map_info(info)
    if info is not None and transform is None:
        notes.append("its map info has a rotation, or lacks numbers, and is not read")
    if array.rio.crs is None:
        crs = _crs(told["epsg_code"], told["coordinate_system_string"], by_words)
        array = array if crs is None else array.rio.write_crs(crs)
        if crs is not None:
            notes.append(f"CRS by its {'EPSG code' if told['epsg_code'] else 'map info'}")
    if transform is None or "x" in array.coords or "y" in array.coords:
        return array
    place = Georeference.from_transform(transform, array.sizes["y"], array.sizes["x"])
    affine = import_optional("affine", "affine", "geo", "scenes in files").Affine(*transform)
    array = array.assign_coords(y=("y", place.y), x=("x", place.x)).rio.write_transform(affine)
    notes.append("place by its map info")
    return array


def _crs(epsg: str | None, wkt: str | None, by_words: str | None) -> Any | None:
    """Return the first coordinate system that can be read."""
    rasterio = import_optional("rasterio", "rasterio", "geo", "scenes in files")
    for text in (None if epsg is None else f"EPSG:{epsg.strip().upper().removeprefix('EPSG:')}", wkt, by_words):
        if text:
            try:
                return rasterio.crs.CRS.from_user_input(text)
            except (rasterio.errors.CRSError, ValueError):
                continue
    return None
