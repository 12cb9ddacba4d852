"""Files with named dimensions, through xarray: NetCDF, HDF5 and Zarr, and which variable in them is the scene."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meteors_c._optional import import_optional
from meteors_c.io._bands import BandTable
from meteors_c.io._nodata import COORDINATE, NoData, nodata_along, nodata_of
from meteors_c.io._placing import normalised, placed, texts_near
from meteors_c.io._raster import chunk_lengths, has_dask
from meteors_c.io.georeference import COLUMNS, ROWS

__all__ = ["Opened", "is_labelled", "open_variable", "spatial_dimensions", "spectral_dimension"]

_NETCDF = (".nc", ".nc4", ".nc3", ".cdf")
_HDF5 = (".h5", ".hdf5", ".he5")
_ZARR = (".zarr",)
_PREFIXED = re.compile(r'^(NETCDF|HDF5|ZARR):"?(.+?)"?:(?://)?([^:]+)$', re.IGNORECASE)
SPECTRAL = ("wavelength", "wavelengths", "wvl", "wl", "lambda", "band", "bands", "spectral", "channel", "channels")
_WAVELENGTHS = re.compile(r"wavelength|wvl|^wl$|^lambda$|cent(er|re|ral)_?wave|band_?cent", re.IGNORECASE)
_LISTED = re.compile(
    r"(^|_)cw(_|$)", re.IGNORECASE
)  # of attributes: centres of wavelengths, as PRISMA's files have them
_WIDTHS = re.compile(r"fwhm|bandwidth|half_?max", re.IGNORECASE)
_GOOD = re.compile(r"^(good_(wavelengths|bands?)|bbl|bad_band_list)$", re.IGNORECASE)
_BAD = re.compile(r"^bad_(wavelengths|bands?)$", re.IGNORECASE)
_FLAGS = re.compile(r"flags?$", re.IGNORECASE)
_USUAL = ("attributions", "reflectance", "radiance")  # what a file is about, whatever else of that shape is in it


@dataclass
class Opened:
    """A variable of a file: lazily, over ``("band", "y", "x")``, and what the file says of its bands."""

    array: Any
    table: BandTable
    nodata: NoData
    scaling: tuple[np.ndarray, np.ndarray]
    attrs: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _split(path: str) -> tuple[str, str | None]:
    """Return the file and the variable of a name such as ``NETCDF:"scene.nc":reflectance``."""
    match = _PREFIXED.match(path)
    return (match.group(2), match.group(3)) if match else (path, None)


def is_labelled(path: str) -> bool:
    """Tell whether a path is that of a NetCDF, HDF5 or Zarr file."""
    return bool(_PREFIXED.match(path)) or path.rstrip("/").lower().endswith(_NETCDF + _HDF5 + _ZARR)


def _open_groups(path: str) -> dict[str, Any]:
    """Open all groups lazily, values as stored."""
    xarray = import_optional("xarray", "xarray", "geo", "scenes in files")
    suffix = os.path.splitext(path.rstrip("/"))[1].lower()
    options: dict[str, Any] = {"mask_and_scale": False, "decode_times": False, "decode_coords": "all"}
    if suffix in _HDF5:
        import_optional("h5netcdf", "h5netcdf", "geo", "scenes in HDF5 files")
        options |= {"engine": "h5netcdf", "phony_dims": "access"}
    elif suffix in _ZARR:
        import_optional("zarr", "zarr", "dask", "scenes in Zarr stores")
        options |= {"engine": "zarr"}
    try:
        with warnings.catch_warnings():
            # Metadata of all groups in one place save time with stores that are far away; most have none.
            warnings.filterwarnings("ignore", message="Failed to open Zarr store with consolidated metadata")
            return xarray.open_groups(path, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path!r} can't be read as {suffix.lstrip('.') or 'NetCDF'}: {error}") from error


def open_variable(path: str, variable: str | None, wavelengths: Any = None) -> Opened:
    """Open the variable that is the scene; see `open_scene`. Given wavelengths tell how many bands there are."""
    file, inside = _split(path)
    if not os.path.exists(file):
        raise FileNotFoundError(f"there is no file {file!r}")
    groups = _open_groups(file)
    name, array = _scene_of(groups, file, variable or inside)
    array = _with_labels(array)
    spectral = spectral_dimension(array) or _by_length(array, groups, file, name, wavelengths)
    rows, columns = spatial_dimensions(array, spectral)
    table = _describe(array, spectral, groups)
    count = array.sizes[spectral]
    notes: list[str] = []
    factor, offset = _scaling(array.attrs, notes)
    scaling = (np.broadcast_to(factor, (count,)).copy(), np.broadcast_to(offset, (count,)).copy())
    attrs = {"variable": name}
    sensor = next((groups["/"].attrs[key] for key in ("instrument", "sensor") if key in groups["/"].attrs), None)
    if sensor is not None:
        attrs["sensor"] = str(sensor)
    nodata: NoData = nodata_along(array, spectral) if COORDINATE in array.coords else None
    nodata = nodata_of(array.attrs, array.encoding) if nodata is None else nodata
    array, nodata = _unsigned(array, nodata)
    plain = placed(_plain(array, spectral, rows, columns), texts_near(groups, name), notes)
    return Opened(plain, table, nodata, scaling, attrs, notes)


def _with_labels(array: Any) -> Any:
    """Name dimensions that the format leaves without a name as the attribute ``Dimension_Labels`` does."""
    told = {normalised(name): value for name, value in array.attrs.items()}.get("dimension_labels")
    if told is None or not all(str(dimension).startswith("phony_dim") for dimension in array.dims):
        return array
    words = told.decode(errors="replace") if isinstance(told, bytes) else told
    listed = words.split(",") if isinstance(words, str) else [str(word) for word in np.ravel(words)]
    labels = [normalised(label) for label in listed]
    if len(labels) != array.ndim or len(set(labels)) != array.ndim or any(label in array.coords for label in labels):
        return array
    return array.rename(dict(zip(array.dims, labels, strict=True)))


def _scaling(attributes: Mapping[str, Any], notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return what values are multiplied by, and what is added then.

    ``scale_factor`` of the CF conventions multiplies. Files of imaging spectrometers spell it otherwise
    (``Scale_Factor``), and mean how many steps the unit has where it is above 1.
    """
    other = {normalised(name): value for name, value in attributes.items() if normalised(name) != name}
    if "scale_factor" in attributes or "scale_factor" not in other:
        factor = np.asarray(attributes.get("scale_factor", 1.0), dtype=np.float64)
    else:
        factor = np.asarray(other["scale_factor"], dtype=np.float64)
        if (factor > 1).all():
            notes.append(f"Scale_Factor {factor.flat[0]:g} divides")
            factor = 1 / factor
    return factor, np.asarray(attributes.get("add_offset", 0.0), dtype=np.float64)


def _unsigned(array: Any, nodata: NoData) -> tuple[Any, NoData]:
    """Read bits as unsigned numbers where the file says so: classic NetCDF has signed ones alone."""
    if str(array.attrs.get("_Unsigned", "")).lower() != "true" or array.dtype.kind != "i":
        return array, nodata
    unsigned = np.dtype(f"u{array.dtype.itemsize}")
    marker = nodata
    if nodata is not None:
        signed = np.asarray(nodata, dtype=np.float64)
        marker = np.where(signed < 0, signed + 2.0 ** (8 * unsigned.itemsize), signed)[()]
    return array.astype(unsigned).assign_attrs(array.attrs), marker


def _candidates(groups: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of three axes that hold numbers, by their path."""
    found = {}
    for group, dataset in groups.items():
        for name, array in dataset.data_vars.items():
            once = array.squeeze(
                [d for d in array.dims if str(d).lower() in ("time", "target") and array.sizes[d] == 1]
            )
            if once.ndim == 3 and once.dtype.kind in "biuf":
                found[f"{group.strip('/')}/{name}".lstrip("/")] = once
    return found


def _scene_of(groups: dict[str, Any], file: str, wanted: str | None) -> tuple[str, Any]:
    found = _candidates(groups)
    listed = ", ".join(f"{name} {tuple(array.sizes.values())}" for name, array in found.items()) or "none"
    if wanted is not None:
        wanted = wanted.strip("/")
        named = {name: array for name, array in found.items() if name == wanted or name.endswith(f"/{wanted}")}
        if len(named) != 1:
            raise ValueError(f"{file!r} has {len(named)} variables {wanted!r} of three axes; those there are: {listed}")
        return next(iter(named.items()))
    found = {name: array for name, array in found.items() if array.dtype.kind != "b"} or found
    for usual in _USUAL:
        named = {name: array for name, array in found.items() if name.rpartition("/")[2].lower() == usual}
        found = named if len(named) == 1 else found
    if len(found) > 1:
        labelled = {name: array for name, array in found.items() if _bands_known(array, groups)}
        found = labelled if len(labelled) == 1 else found
    if len(found) != 1:
        raise ValueError(f"{file!r}: which variable is the scene? Give variable=; those of three axes are: {listed}")
    return next(iter(found.items()))


def _bands_known(array: Any, groups: dict[str, Any]) -> bool:
    spectral = spectral_dimension(array)
    return spectral is not None and _along(array, spectral, groups, _WAVELENGTHS) is not None


# ---------------------------------------------------------------- dimensions


def spectral_dimension(array: Any) -> str | None:
    """Return the dimension that its name, or a coordinate of wavelengths along it, shows to be that of the bands."""
    for name in SPECTRAL:
        for dimension in array.dims:
            if str(dimension).lower() == name:
                return dimension
    for name, coordinate in array.coords.items():
        if coordinate.ndim == 1 and _WAVELENGTHS.search(str(name)) and not _WIDTHS.search(str(name)):
            return coordinate.dims[0]
    return None


def _by_length(array: Any, groups: dict[str, Any], file: str, name: str, given: Any) -> str:
    """Find the dimension of the bands by the length of wavelengths: those given, or any that the file lists."""
    lengths = {listed.size for listed in _lists(groups, _WAVELENGTHS)} if given is None else {np.size(given)}
    fitting = [dimension for dimension in array.dims if array.sizes[dimension] in lengths]
    if len(fitting) != 1:
        raise ValueError(
            f"{file!r}: which of the dimensions {dict(array.sizes)} of {name!r} is that of the bands can't be told: "
            "give wavelengths=, one for each band; or rename it to 'wavelength' and use HSI.from_xarray"
        )
    return fitting[0]


def spatial_dimensions(array: Any, spectral: str | None) -> tuple[str, str]:
    """Return the dimensions of rows and columns, beside that of bands: by their names, else in their order."""
    first, second = (dimension for dimension in array.dims if dimension != spectral)
    lower = str(first).lower(), str(second).lower()
    swapped = (lower[0] in COLUMNS and lower[1] not in COLUMNS) or (lower[1] in ROWS and lower[0] not in ROWS)
    return (second, first) if swapped else (first, second)


def _plain(array: Any, spectral: str, rows: str, columns: str) -> Any:
    """Bring the dimensions to ``("band", "y", "x")``, in chunks where dask is there."""
    if has_dask():
        stored = array.encoding.get("preferred_chunks") or {}
        stored_rows, stored_columns = stored.get(rows, 1), stored.get(columns, array.sizes[columns])
        down, across = chunk_lengths(
            array.sizes[spectral], array.sizes[rows], array.sizes[columns], array.dtype.itemsize,
            (int(stored_rows), int(stored_columns)),
        )  # fmt: skip
        array = array.chunk({spectral: -1, rows: down, columns: across})
    crs = array.rio.set_spatial_dims(x_dim=columns, y_dim=rows).rio.crs
    transform = array.coords[array.rio.grid_mapping].attrs.get("GeoTransform") if _has_mapping(array) else None
    kept = {str(name): array.coords[name] for name in (rows, columns) if name in array.coords}
    array = array.drop_vars(list(array.coords)).transpose(spectral, rows, columns)
    array = array.rename({spectral: "band", rows: "y", columns: "x"})
    for old, new in ((rows, "y"), (columns, "x")):
        if old in kept and kept[old].ndim == 1 and kept[old].dtype.kind in "iuf":
            array = array.assign_coords({new: (new, np.asarray(kept[old].values), kept[old].attrs)})
    array.attrs, array.encoding = {}, {}
    array = array.rio.set_spatial_dims(x_dim="x", y_dim="y")
    if crs is not None:
        array = array.rio.write_crs(crs)
    if transform is not None and crs is not None:
        array.coords["spatial_ref"].attrs["GeoTransform"] = transform
    return array


def _has_mapping(array: Any) -> bool:
    return array.rio.grid_mapping in array.coords


# ---------------------------------------------------------------- bands


def _lists(groups: dict[str, Any], pattern: re.Pattern[str]) -> list[Any]:
    """Return the lists of numbers whose name fits, coordinates and attributes too; plainer names first."""
    xarray = import_optional("xarray", "xarray", "geo", "scenes in files")
    found = {}
    for group, dataset in groups.items():
        for name, array in dataset.variables.items():
            wanted = pattern.search(str(name)) and not (pattern is _WAVELENGTHS and _excluded(str(name)))
            if wanted and array.ndim == 1 and array.dtype.kind in "biuf":
                found[f"{group}/{name}"] = array
        for name, value in dataset.attrs.items():
            fits = pattern.search(str(name)) or (pattern is _WAVELENGTHS and _LISTED.search(str(name)))
            values = np.asarray(value)
            other = _FLAGS.search(str(name)) or (pattern is _WAVELENGTHS and _excluded(str(name)))
            if fits and not other and values.ndim == 1 and values.dtype.kind in "iuf":
                found[f"{group}/attribute/{name}"] = xarray.Variable(("in attribute",), values)
    return [found[name] for name in sorted(found, key=lambda name: len(name.rpartition("/")[2]))]


def _excluded(name: str) -> bool:
    return any(pattern.search(name) for pattern in (_WIDTHS, _GOOD, _BAD))


def _along(array: Any, spectral: str, groups: dict[str, Any], pattern: re.Pattern[str]) -> Any | None:
    """Return the first such list along the dimension or, in another group, of its length."""
    lists = [listed for listed in _lists(groups, pattern) if listed.size == array.sizes[spectral]]
    return next((listed for listed in lists if listed.dims == (spectral,)), lists[0] if lists else None)


def _describe(array: Any, spectral: str, groups: dict[str, Any]) -> BandTable:
    count = array.sizes[spectral]
    table = BandTable(count, origin="the file's wavelengths")
    wavelengths = _along(array, spectral, groups, _WAVELENGTHS)
    if wavelengths is not None:
        table.wavelengths = np.asarray(wavelengths.values, dtype=np.float64)
        table.unit = unit_of(wavelengths)
    widths = _along(array, spectral, groups, _WIDTHS)
    if widths is not None and unit_of(widths) in (None, table.unit):
        table.fwhm = np.asarray(widths.values, dtype=np.float64)
    for pattern, bad_if in ((_GOOD, False), (_BAD, True)):
        marks = _along(array, spectral, groups, pattern)
        if marks is not None and table.bad is None:
            table.bad = np.asarray(marks.values).astype(bool) == bad_if
    return table


def unit_of(array: Any) -> str | None:
    """Return the attribute ``units`` or ``unit`` of a coordinate, whatever its case; None where it has none."""
    lower = {str(key).lower(): value for key, value in array.attrs.items()}
    unit = lower.get("units", lower.get("unit"))
    if isinstance(unit, bytes):
        unit = unit.decode(errors="replace")
    return unit if isinstance(unit, str) else None
