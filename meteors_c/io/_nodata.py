"""Values that mark missing ones: one for all bands, or one for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["COORDINATE", "NoData", "common_nodata", "marked", "markers", "nodata_along", "nodata_of"]

COORDINATE = "nodata"  # along the bands of a scene in which they differ
_NAMES = ("_fillvalue", "missing_value", "data_ignore_value", "nodata")

# A number, or one for each band, NaN for those without; None where there are none. NaN in the data always counts.
NoData = float | np.ndarray | None


def nodata_of(*attributes_of: Mapping[str, Any]) -> float | None:
    """Return the value that marks missing ones, by the attributes that files use for it."""
    for attributes in attributes_of:
        lower = {str(key).lower(): value for key, value in attributes.items()}
        for key in _NAMES:
            if key in lower and np.asarray(lower[key]).size == 1:
                try:
                    return float(np.asarray(lower[key]).reshape(()))
                except (TypeError, ValueError):
                    continue
    return None


def nodata_along(array: Any, bands: Any) -> NoData:
    """Return what marks missing values of a DataArray: its coordinate along the bands, else its attributes."""
    coordinate = array.coords.get(COORDINATE)
    if coordinate is not None and coordinate.dims == (bands,) and coordinate.dtype.kind in "iuf":
        return common_nodata(np.asarray(coordinate.values, dtype=np.float64))
    return nodata_of(array.attrs)


def common_nodata(of_bands: np.ndarray) -> NoData:
    """Return the numbers of bands, NaN for those without: as one number where they are the same."""
    if np.isnan(of_bands).all():
        return None
    return float(of_bands[0]) if (of_bands == of_bands[0]).all() else of_bands


def markers(nodata: float | np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return numbers that compare with values (bands, rows, columns) of a dtype, in the precision of floats."""
    numbers = np.reshape(np.asarray(nodata, dtype=np.float64), (-1, 1, 1))
    with np.errstate(over="ignore"):  # beyond float32 is infinite there
        return numbers.astype(dtype) if dtype.kind == "f" else numbers


def marked(values: np.ndarray, nodata: NoData, axis: int = 0) -> np.ndarray | None:
    """Return where values are no-data.

    Parameters
    ----------
    values : numpy.ndarray
        An image, or planes of one.
    nodata : float, numpy.ndarray or None
        One number, or one for each band.
    axis : int
        Of the bands.

    Returns
    -------
    numpy.ndarray of bool or None
        None where no value can be: without such numbers, or if none is of the dtype (-9999 is none of uint8).
    """
    if nodata is None:
        return None
    numbers = np.atleast_1d(np.asarray(nodata, dtype=np.float64))
    possible = ~np.isnan(numbers)
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        possible &= (numbers == np.floor(numbers)) & (numbers >= limits.min) & (numbers < limits.max + 1.0)
    if not possible.any():
        return None
    shape = [1] * values.ndim
    shape[axis] = -1
    with np.errstate(over="ignore"):
        found: np.ndarray = values == np.where(possible, numbers, 0).astype(values.dtype).reshape(shape)
    return found if possible.all() else found & possible.reshape(shape)
