"""``info``: what a scene is."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from meteors_c.cli._scenes import open_from
from meteors_c.io._nodata import NoData, markers, nodata_along

__all__ = ["info"]

Row = tuple[str, str]


def info(arguments: argparse.Namespace) -> None:
    """Run the command."""
    scene = open_from(arguments, bad_bands="keep")
    rows = [
        ("scene", os.fspath(arguments.scene)),
        *_size(scene),
        *_wavelengths(scene),
        *_values(scene),
        *_place(scene),
        *_regions(scene),
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name.ljust(width)}  {text}")


def _size(scene: Any) -> Iterator[Row]:
    bands, rows, columns = (scene.sizes[name] for name in ("wavelength", "y", "x"))
    yield "size", f"{bands} bands, {rows} rows, {columns} columns"
    yield "values", f"{scene.dtype}, {scene.dtype.itemsize * scene.size / 1e6:.1f} MB"
    if "sensor" in scene.attrs:
        yield "sensor", str(scene.attrs["sensor"])
    if scene.attrs.get("notes"):
        yield "notes", str(scene.attrs["notes"])


def _wavelengths(scene: Any) -> Iterator[Row]:
    centres = np.asarray(scene["wavelength"].values, dtype=np.float64)
    unit = scene.attrs.get("wavelength_source_unit", "nm")
    converted = "" if unit == "nm" else f" (in the file: {unit})"
    yield "wavelengths", f"{centres.min():.1f} to {centres.max():.1f} nm{converted}"
    if len(centres) > 1:
        gaps = np.abs(np.diff(np.sort(centres)))
        yield "spacing", f"{np.median(gaps):.2f} nm, {gaps.max():.2f} at most"
    if "fwhm" in scene.coords:
        widths = np.asarray(scene["fwhm"].values, dtype=np.float64)
        yield "fwhm", f"{np.nanmin(widths):.2f} to {np.nanmax(widths):.2f} nm"
    good = np.asarray(scene["good_band"].values if "good_band" in scene.coords else np.ones(len(centres)), dtype=bool)
    bad = np.asarray(scene["band"].values)[~good] - 1  # counted from 0, as in --bands
    yield "bad bands", f"{len(bad)}: {_ranges(bad)}" if len(bad) else "none are marked"


def _ranges(numbers: Any) -> str:
    """Return numbers as ranges, ``0-3, 7``."""
    groups = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups)


def _values(scene: Any) -> Iterator[Row]:
    """Return what is missing, and the range of the rest, in one pass over the scene."""
    nodata = nodata_along(scene, "wavelength")
    yield "no-data", _nodata_said(nodata)
    real = scene.dtype.kind == "f"
    lost = scene.isnull() if real else (scene != scene)
    marked = (lost & False) if nodata is None else (scene == markers(nodata, scene.dtype))
    used = scene.where(~(lost | marked))
    summed = {
        "lost": lost.sum(),
        "marked": marked.sum(),
        "pixels": (lost | marked).all("wavelength").sum(),
        "low": used.min(),
        "high": used.max(),
    }
    import xarray

    found = {name: value.item() for name, value in xarray.Dataset(summed).compute().items()}
    if real:
        yield "NaN", _part(found["lost"], scene.size)
    if nodata is not None:
        yield "missing", f"{_part(found['marked'], scene.size)}, {int(found['pixels'])} pixels in all bands"
    yield "range", f"{found['low']:.6g} to {found['high']:.6g}"


def _nodata_said(nodata: NoData) -> str:
    if not isinstance(nodata, np.ndarray):
        return "not said" if nodata is None else f"{nodata:g}"
    numbers = sorted(set(nodata[~np.isnan(nodata)].tolist()))
    without = int(np.isnan(nodata).sum())
    said = "differs by band: " + ", ".join(f"{number:g}" for number in numbers[:8]) + (", ..." if numbers[8:] else "")
    return said + (f"; {without} bands have none" if without else "")


def _part(count: float, size: int) -> str:
    return f"{int(count)} of {size} values ({100 * count / size:.2g} %)" if count else "none"


def _place(scene: Any) -> Iterator[Row]:
    crs = scene.rio.crs
    yield "CRS", "none" if crs is None else (f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else crs.to_wkt())
    transform = scene.rio.transform()
    if not transform.is_identity:
        yield "resolution", f"{abs(scene.rio.resolution()[0]):.6g} x {abs(scene.rio.resolution()[1]):.6g}"
        yield "bounds", ", ".join(f"{bound:.12g}" for bound in scene.rio.bounds())


def _regions(scene: Any) -> Iterator[Row]:
    from meteors_c import spectral

    centres = np.asarray(scene["wavelength"].values, dtype=np.float64)
    names = list(spectral.groups(centres, list(spectral.regions())))
    yield "regions", ", ".join(names) if names else "none that have a name"
