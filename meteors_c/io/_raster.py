"""Files that GDAL reads, through rasterio and rioxarray: ENVI, GeoTIFF and what else its build has."""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from meteors_c._optional import import_optional
from meteors_c.io._bands import BandTable
from meteors_c.io._nodata import NoData, common_nodata
from meteors_c.io._wavelengths import numbers_in, wavelength_in_text
from meteors_c.io.georeference import pixel_numbers

__all__ = [
    "CHUNK_BYTES",
    "chunk_lengths",
    "data_file",
    "describe",
    "has_dask",
    "has_mask",
    "nodata_of_bands",
    "open_array",
    "open_raster",
    "quiet",
]

# About as much as a worker of dask can hold several times over.
CHUNK_BYTES = 64 * 2**20
_DATA_SUFFIXES = ("", ".img", ".dat", ".raw", ".bsq", ".bil", ".bip", ".bin", ".cube")
_WAVELENGTH_KEYS = ("wavelength", "wavelengths", "central_wavelength", "center_wavelength", "centre_wavelength")
_UNIT_KEYS = ("wavelength_units", "wavelength_unit", "units", "unit")


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what is told elsewhere: rasterio's word on files without a georeference, rioxarray's on scales."""
    rasterio = import_optional("rasterio", "rasterio", "geo", "scenes in files")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        warnings.filterwarnings("ignore", message=".*differ across bands")
        yield


def data_file(path: str) -> str:
    """Return the file with the values, for the path of an ENVI header too."""
    if not path.lower().endswith(".hdr"):
        return path
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path!r}")
    stem = Path(path).with_suffix("")
    for suffix in _DATA_SUFFIXES:
        for candidate in (stem.with_name(stem.name + suffix), stem.with_name(stem.name + suffix.upper())):
            if candidate.is_file():
                return str(candidate)
    raise FileNotFoundError(f"beside the header {path!r} there is no file with its values, such as {stem.name}.img")


def open_raster(path: Any) -> Any:
    """Open what rasterio takes as a dataset; of a container with one scene inside, that."""
    rasterio = import_optional("rasterio", "rasterio", "geo", "scenes in files")
    dataset = rasterio.open(path)
    if dataset.count:
        return dataset
    inside = list(dataset.subdatasets)
    dataset.close()
    if len(inside) == 1:
        return rasterio.open(inside[0])
    listed = "".join(f"\n  {name}" for name in inside) or " none"
    raise ValueError(f"{str(path)!r} has no bands itself; open one of its subdatasets by its name:{listed}")


def has_dask() -> bool:
    """Tell whether arrays can be read in chunks by dask."""
    return importlib.util.find_spec("dask") is not None


def chunk_lengths(bands: int, height: int, width: int, itemsize: int, block: tuple[int, int]) -> tuple[int, int]:
    """Choose rows and columns of a chunk that holds `bands` bands: whole blocks of the file, about `CHUNK_BYTES`.

    Parameters
    ----------
    bands, height, width : int
        Of the part that is read.
    itemsize : int
        Bytes of a value.
    block : tuple of int
        Rows and columns in which the file is stored.

    Returns
    -------
    tuple of int
        Rows and columns.
    """
    rows, columns = min(block[0], height), min(block[1], width)
    blocks = max(1, CHUNK_BYTES // (bands * rows * columns * itemsize))
    across = min(blocks, math.ceil(width / columns))
    down = min(max(1, blocks // across), math.ceil(height / rows))
    return min(rows * down, height), min(columns * across, width)


def open_array(dataset: Any, bands: np.ndarray) -> Any:
    """Open bands of a dataset lazily, as a DataArray over ``("band", "y", "x")`` with its CRS and transform.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
        Open; it may be closed afterwards.
    bands : numpy.ndarray of int
        Positions, from 0.

    Returns
    -------
    xarray.DataArray
        In the dtype of the file.
    """
    rioxarray = import_optional("rioxarray", "rioxarray", "geo", "scenes in files")
    chunks = None
    if has_dask():
        itemsize = np.dtype(dataset.dtypes[0]).itemsize
        rows, columns = chunk_lengths(len(bands), dataset.height, dataset.width, itemsize, dataset.block_shapes[0])
        # A few bands of many are read one by one; else all of a place are read together.
        chunks = {"band": -1 if 2 * len(bands) > dataset.count else 1, "y": rows, "x": columns}
    with quiet():
        # Not the dataset itself: an array that outlives it, and that other processes can open, goes by its name.
        array = rioxarray.open_rasterio(dataset.name, chunks=chunks, masked=False, parse_coordinates=True)
    if array.shape[1:] != dataset.shape:
        raise ValueError(
            f"{dataset.name!r} is open at {dataset.shape[0]} x {dataset.shape[1]} pixels, but the file has "
            f"{array.shape[1]} x {array.shape[2]}: an overview can't be opened lazily; write it to a file first"
        )
    array = array.isel(band=bands) if len(bands) < dataset.count or (np.diff(bands) != 1).any() else array
    array = array.drop_vars([name for name in array.coords if name not in ("band", "y", "x", "spatial_ref")])
    if dataset.transform.b != 0 or dataset.transform.d != 0:
        array = array.assign_coords(pixel_numbers(dataset.height, dataset.width, "y", "x"))
    array.attrs.clear()
    return array.chunk({"band": -1}) if chunks is not None else array


def nodata_of_bands(dataset: Any, bands: np.ndarray) -> NoData:
    """Return what marks missing values in these bands (positions, from 0) of a dataset."""
    values = [dataset.nodatavals[band] for band in bands]
    if all(value is None for value in values):
        return None
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.nan if np.isnan(numbers).all() else common_nodata(numbers)


def has_mask(dataset: Any) -> bool:
    """Tell whether a file has a mask of its own, beside a no-data value."""
    rasterio = import_optional("rasterio", "rasterio", "geo", "scenes in files")
    return any(rasterio.enums.MaskFlags.per_dataset in flags for flags in dataset.mask_flag_enums)


# ---------------------------------------------------------------- what is said of bands


def describe(dataset: Any) -> BandTable:
    """Read the wavelengths, widths and marks of bad bands from the tags of a dataset."""
    envi = _lower(dataset.tags(ns="ENVI"))
    table = BandTable(dataset.count, bad=_bad(dataset, envi))
    for read in (_envi, _band_tags, _imagery, _dataset_tags, _descriptions):
        found = read(dataset, envi)
        if found is not None:
            table.wavelengths, table.unit, table.fwhm, table.origin = found
            break
    return table


_Found = tuple[np.ndarray, str | None, np.ndarray | None, str]


def _lower(tags: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in tags.items()}


def _first(tags: dict[str, str], keys: tuple[str, ...]) -> str | None:
    return next((tags[key] for key in keys if tags.get(key, "").strip()), None)


def _listed(text: str | None, count: int) -> np.ndarray | None:
    """Read one number for each band, None where there are others."""
    values = None if text is None else np.array(numbers_in(text), dtype=np.float64)
    return values if values is not None and len(values) == count else None


def _envi(dataset: Any, envi: dict[str, str]) -> _Found | None:
    text = envi.get("wavelength")
    if text is None:
        return None
    values = np.array(numbers_in(text), dtype=np.float64)
    return values, envi.get("wavelength_units"), _listed(envi.get("fwhm"), dataset.count), "the ENVI header"


def _band_tags(dataset: Any, envi: dict[str, str]) -> _Found | None:
    values = np.full((2, dataset.count), np.nan)
    units: set[str | None] = set()
    for i, index in enumerate(dataset.indexes):
        tags = _lower(dataset.tags(index))
        text = _first(tags, _WAVELENGTH_KEYS)
        with_unit = wavelength_in_text(text)
        if with_unit is not None:
            values[0, i], unit = with_unit
            units.add(unit)
        elif text is not None:
            values[0, i] = (numbers_in(text) or [np.nan])[0]
            units.add(_first(tags, _UNIT_KEYS))
        values[1, i] = (numbers_in(tags.get("fwhm", "")) or [np.nan])[0]
    if np.isnan(values[0]).all():
        return None
    if len(units) > 1:
        raise ValueError(
            f"{dataset.name!r}: the wavelengths of its bands have several units: {units}; give wavelengths="
        )
    widths = values[1] if np.isfinite(values[1]).all() else None
    return values[0], units.pop(), widths, "the tags of the bands"


def _imagery(dataset: Any, envi: dict[str, str]) -> _Found | None:
    tags = [_lower(dataset.tags(index, ns="IMAGERY")) for index in dataset.indexes]
    values, widths = (
        np.array([(numbers_in(tag.get(key, "")) or [np.nan])[0] for tag in tags])
        for key in ("central_wavelength_um", "fwhm_um")
    )
    if np.isnan(values).all():
        return None
    return values, "um", widths if np.isfinite(widths).all() else None, "the IMAGERY tags of the bands"


def _dataset_tags(dataset: Any, envi: dict[str, str]) -> _Found | None:
    tags = _lower(dataset.tags())
    values = _listed(_first(tags, _WAVELENGTH_KEYS), dataset.count)
    if values is None:
        return None
    return values, _first(tags, _UNIT_KEYS), _listed(tags.get("fwhm"), dataset.count), "the tags of the file"


def _descriptions(dataset: Any, envi: dict[str, str]) -> _Found | None:
    found = [wavelength_in_text(text) for text in dataset.descriptions]
    units = {pair[1] for pair in found if pair is not None}
    if len(units) != 1:
        return None
    return np.array([np.nan if p is None else p[0] for p in found]), units.pop(), None, "the names of the bands"


def _bad(dataset: Any, envi: dict[str, str]) -> np.ndarray | None:
    """Return which bands are marked as bad: 0 in ENVI's bad band list."""
    listed = _listed(envi.get("bbl") or _lower(dataset.tags()).get("bbl"), dataset.count)
    return None if listed is None else listed == 0


def scaling(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what each band's values are multiplied by, and what is added then."""
    scales, offsets = np.array(dataset.scales, dtype=np.float64), np.array(dataset.offsets, dtype=np.float64)
    factor = numbers_in(_lower(dataset.tags(ns="ENVI")).get("reflectance_scale_factor", ""))
    if factor and factor[0] > 0 and (scales == 1).all():
        scales = scales / factor[0]
    return scales, offsets
