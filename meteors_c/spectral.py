"""Named parts of the spectrum: usual regions, the bands of sensors, and spyndex's names.

Regions stand in ``spectral_regions.csv`` beside this file, with their sources; bands of sensors come from spyndex,
where it is installed. Wherever bands are chosen or grouped by name (`HSI.bands`, ``band_names`` of Lime, KernelShap,
FeatureAblation and their like, ``bands`` of `meteors_c.io.open_scene`), these names are understood:

- a region: ``"red edge"``, ``"SWIR-1"``, ``"water absorption"``; case, spaces and hyphens do not count
- a band of a sensor: ``"sentinel2a B5"``
- a band or a spectral index of spyndex, as it is written there: ``"RE1"``, ``"NDVI"``
- for grouping, ``"regions"``, ``"absorption"`` or the name of a sensor: all of its bands, each a group
"""

from __future__ import annotations

import csv
import difflib
import re
from functools import cache
from importlib import resources
from numbers import Real
from typing import Any

import numpy as np

from meteors_c import _core
from meteors_c._optional import import_optional
from meteors_c.exceptions import BandSelectionError

__all__ = ["bands_in", "groups", "ranges_of", "regions", "sensors"]

Ranges = tuple[tuple[float, float], ...]

# The regions that do not overlap much and cover the reflective spectrum, in order of wavelength.
_PARTITION = "coastal aerosol,blue,green,yellow,red,red edge,NIR,SWIR-1,SWIR-2".split(",")
_ABSORPTION = "oxygen B,oxygen A,water vapour 940,water vapour 1140,water vapour 1380,water vapour 1880".split(",")
_ABSORPTION += ["carbon dioxide absorption"]


@cache
def _regions() -> dict[str, Ranges]:
    text = resources.files("meteors_c").joinpath("spectral_regions.csv").read_text(encoding="utf-8")
    found: dict[str, Ranges] = {}
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        found[row["name"]] = (*found.get(row["name"], ()), (float(row["low"]), float(row["high"])))
    return found


def regions() -> dict[str, Ranges]:
    """Return the usual spectral regions.

    Returns
    -------
    dict
        By name: ranges of wavelengths ``(low, high)`` in nm, ends included; several where a region has gaps, such as
        ``"water absorption"``.

    Examples
    --------
    >>> regions()["red edge"]
    ((680.0, 750.0),)
    """
    return dict(_regions())


@cache
def _sensors() -> dict[str, dict[str, tuple[float, float]]]:
    spyndex = import_optional("spyndex", "spyndex", "masks", "band tables of sensors")
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name in spyndex.bands:
        for sensor, band in vars(spyndex.bands[name]).items():
            if hasattr(band, "wavelength") and hasattr(band, "bandwidth"):
                half = band.bandwidth / 2
                found.setdefault(sensor, {})[band.band] = (band.wavelength - half, band.wavelength + half)
    return {
        sensor: dict(sorted(bands.items(), key=lambda item: sum(item[1]))) for sensor, bands in sorted(found.items())
    }


def sensors() -> dict[str, dict[str, tuple[float, float]]]:
    """Return the bands of multispectral sensors, from spyndex's table.

    Returns
    -------
    dict
        By sensor (``"sentinel2a"``, ``"landsat8"``, ``"planetscope"``), then by band in order of wavelength:
        ``(low, high)`` in nm, the centre less and plus half the width.

    Raises
    ------
    ImportError
        spyndex is missing; it comes with the extra ``masks``.

    Examples
    --------
    >>> list(sensors()["landsat8"])
    ['B1', 'B2', 'B3', 'B4', 'B5', 'B6', 'B7', 'B10', 'B11']
    """
    return {sensor: dict(bands) for sensor, bands in _sensors().items()}


def _sensors_if_there() -> dict[str, dict[str, tuple[float, float]]]:
    try:
        return _sensors()
    except ImportError:
        return {}


def _plain(name: str) -> str:
    """Return a name without what does not count: case, spaces, hyphens and the like; one spelling of vapour."""
    return re.sub(r"[\s_/:.-]+", "", name).lower().replace("vapour", "vapor")


def _region(name: str) -> tuple[str, Ranges] | None:
    return next(((known, ranges) for known, ranges in _regions().items() if _plain(known) == _plain(name)), None)


def _sensor(name: str) -> str | None:
    return next((known for known in _sensors_if_there() if _plain(known) == _plain(name)), None)


def _sensor_band(name: str) -> dict[str, Ranges] | None:
    for sensor, bands in _sensors_if_there().items():
        for band, limits in bands.items():
            if _plain(name) == _plain(sensor + band):
                return {f"{sensor} {band}": (limits,)}
    return None


def parts_of(name: str) -> dict[str, Ranges]:
    """Return what a name is made of, one thing but for spectral indices and sensors, and the ranges of each in nm.

    Raises
    ------
    BandSelectionError
        Unknown; the message has the nearest names.
    """
    if name in _core.band_ranges:
        return {name: (_core.band_ranges[name],)}
    region = _region(name)
    if region is not None:
        return dict([region])
    band = _sensor_band(name)
    if band is not None:
        return band
    sensor = _sensor(name)
    if sensor is not None:
        return {f"{sensor} {band}": (limits,) for band, limits in _sensors()[sensor].items()}
    return {symbol: (_core.band_ranges[symbol],) for symbol in bands_of_index(name)}


def bands_of_index(name: str) -> list[str]:
    """Return the bands in the formula of a spectral index, by spyndex's names."""
    indices: Any = import_optional("spyndex", "spyndex", "masks", f"names other than those of bands ({name!r})").indices
    if name not in indices:
        raise BandSelectionError(
            f"Invalid band name {name!r}: it is neither a band ({', '.join(_core.band_ranges)}) nor an index of "
            f"spyndex, a sensor, one of its bands ('sentinel2a B5'), or a region ({', '.join(_regions())})"
            f"{_nearest(name, indices)}"
        )
    bands = [symbol for symbol in indices[name].bands if symbol in _core.band_ranges]
    if not bands:
        raise BandSelectionError(f"The index {name!r} is not made of bands, but of {list(indices[name].bands)}")
    return bands


def _nearest(name: str, indices: Any) -> str:
    """Return known names that look like one, for the end of a message."""
    known = [*_regions(), *_sensors_if_there(), *_core.band_ranges, *indices]
    known += [f"{sensor} {band}" for sensor, bands in _sensors_if_there().items() for band in bands]
    plain = {_plain(one): one for one in reversed(known)}
    near = difflib.get_close_matches(_plain(name), plain, n=3, cutoff=0.6)
    return f". Did you mean {' or '.join(repr(plain[one]) for one in near)}?" if near else ""


def ranges_of(name: Any) -> Ranges:
    """Return the ranges of wavelengths that a name, a range, or a list of these stand for.

    Parameters
    ----------
    name : str, tuple (low, high), or list of these
        A region, a sensor or one of its bands, a name or an index of spyndex; or nm.

    Returns
    -------
    tuple of tuple of float
        ``(low, high)`` in nm, ends included.

    Raises
    ------
    BandSelectionError
        An unknown name.
    TypeError, ValueError
        Something else, or a range whose end lies below its start.

    Examples
    --------
    >>> ranges_of(["oxygen A", (900.0, 950.0)])
    ((759.0, 770.0), (900.0, 950.0))
    """
    if isinstance(name, str):
        return tuple(limits for ranges in parts_of(name).values() for limits in ranges)
    if isinstance(name, list):
        return tuple(limits for one in name for limits in ranges_of(one))
    if isinstance(name, tuple) and len(name) == 2 and all(isinstance(end, Real) for end in name):
        low, high = map(float, name)
        if not low <= high:
            raise ValueError(f"a range of wavelengths must be (low, high) with low <= high, not {name}")
        return ((low, high),)
    raise TypeError(f"bands are chosen by a name, a range (low, high) in nm or a list of these, not {name!r}")


def bands_in(wavelengths: Any, name: Any) -> np.ndarray:
    """Find the bands whose wavelengths lie in a named part of the spectrum.

    Parameters
    ----------
    wavelengths : HSI, torch.Tensor or array of numbers
        An image, or centres of bands in nm, in any order.
    name : str, tuple (low, high), or list of these
        As for `ranges_of`.

    Returns
    -------
    numpy.ndarray of int64
        Indices, ascending; empty where there is no such band.

    Raises
    ------
    BandSelectionError
        An unknown name.
    TypeError, ValueError
        Wavelengths that are no numbers, or no list of them.

    Examples
    --------
    >>> bands_in([865.0, 705.0, 560.0, 740.0], "red edge")
    array([1, 3])
    """
    wavelengths = getattr(wavelengths, "wavelengths", wavelengths)
    if hasattr(wavelengths, "detach"):
        wavelengths = wavelengths.detach().cpu().numpy()
    values = np.asarray(wavelengths)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"wavelengths must be numbers of nm or an HSI, not {wavelengths!r}")
    if values.ndim != 1:
        raise ValueError(f"wavelengths must have one axis, not shape {values.shape}")
    inside = np.zeros(values.shape, dtype=bool)
    for low, high in ranges_of(name):
        if values.dtype.kind == "f":  # rounded as the wavelengths are, so that the same decimals compare equal
            low, high = values.dtype.type(low), values.dtype.type(high)
        inside |= (values >= low) & (values <= high)
    return np.flatnonzero(inside)


def group_names(name: str) -> list[str] | None:
    """Return the names of all groups that one name stands for: of ``"regions"``, ``"absorption"`` or a sensor.

    None where the name is that of a single thing.
    """
    if _plain(name) == "regions":
        return list(_PARTITION)
    if _plain(name) == "absorption":
        return list(_ABSORPTION)
    sensor = None if name in _core.band_ranges or _region(name) is not None else _sensor(name)
    return None if sensor is None else [f"{sensor} {band}" for band in _sensors()[sensor]]


def groups(wavelengths: Any, names: Any = "regions") -> dict[str, list[int]]:
    """Group bands by named parts of the spectrum: one call for superbands, figures and tables.

    Parameters
    ----------
    wavelengths : HSI, torch.Tensor or array of numbers
        An image, or the wavelengths of its bands in nm.
    names : str or list of str, default "regions"
        ``"regions"`` (coastal aerosol to SWIR-2), ``"absorption"`` (bands of gases), a sensor, or a list of names.

    Returns
    -------
    dict
        By name: the indices of its bands, ascending; names without a band are left out. Names of a list may share
        bands; of a table, such as ``"regions"`` or a sensor, a band belongs to the narrowest that it lies in.

    Raises
    ------
    BandSelectionError
        An unknown name.
    TypeError
        Something else than names.

    Examples
    --------
    >>> groups([490.0, 560.0, 665.0, 705.0, 740.0, 842.0])
    {'blue': [0], 'green': [1], 'red': [2], 'red edge': [3, 4], 'NIR': [5]}
    """
    table = group_names(names) if isinstance(names, str) else None
    if isinstance(names, str):
        names = table or [names]
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"names must be a name or a list of names, not {names!r}")
    found = {name: bands_in(wavelengths, name).tolist() for name in names}
    if table is not None:
        taken: set[int] = set()
        for name in sorted(found, key=_width):
            found[name] = [band for band in found[name] if band not in taken]
            taken.update(found[name])
    return {name: bands for name, bands in found.items() if bands}


def _width(name: str) -> float:
    return sum(high - low for low, high in ranges_of(name))
