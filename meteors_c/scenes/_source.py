"""A scene as blocks are read from it: values and a mask of any part, bands first, and what the maps take over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from meteors_c._optional import import_optional
from meteors_c.exceptions import ShapeMismatchError
from meteors_c.hsi import HSI
from meteors_c.io._labelled import spatial_dimensions
from meteors_c.io._nodata import NoData, marked, nodata_along
from meteors_c.io._sources import dimension_of_bands, wavelengths_along

__all__ = ["Scene", "scene_of"]

DIMS = ("wavelength", "y", "x")
# Attributes that say something of the values of a scene, and so are not true of its maps.
_OF_VALUES = (
    "_fillvalue missing_value data_ignore_value nodata scale_factor add_offset units long_name standard_name "
    "grid_mapping"
).split()


@dataclass
class Scene:
    """A scene, lazily.

    Attributes
    ----------
    array : xarray.DataArray or None
        The values, dims ``(wavelength, y, x)``; None where they are sent with each block.
    mask : numpy.ndarray or None
        bool, of the same shape; a view where it repeats.
    orientation : tuple of str
        The order of axes that the model gets.
    nodata : float, numpy.ndarray or None
        A value that stands for none, or one for each band. NaN always does.
    shape : tuple of int
        Bands, rows, columns.
    dtype : numpy.dtype
        Of the values.
    wavelengths : numpy.ndarray
        One for each band, nm.
    """

    array: Any
    mask: np.ndarray | None
    orientation: tuple[str, str, str]
    nodata: NoData
    shape: tuple[int, int, int]
    dtype: np.dtype
    wavelengths: np.ndarray

    @property
    def result_dtype(self) -> np.dtype:
        """The dtype of attributions: float64 for such scenes, float32 for all others."""
        return np.dtype(np.float64 if self.dtype == np.float64 else np.float32)

    @property
    def in_memory(self) -> bool:
        """Whether the values lie in this process, and must be sent to others, who can't read them by themselves."""
        return self.array is not None and self.array.chunks is None and bool(self.array.variable._in_memory)

    def without_values(self) -> Scene:
        """Return the same scene for a process that gets the values with each block."""
        return Scene(None, None, self.orientation, self.nodata, self.shape, self.dtype, self.wavelengths)

    def part(self, bands: list[int], rows: slice, columns: slice) -> Scene:
        """Return some bands, and a part of the rows and columns, in this process."""
        array = self.array.isel(wavelength=bands, y=rows, x=columns)
        return replace(
            self,
            array=array,
            mask=None if self.mask is None else self.mask[bands, rows, columns],
            nodata=self.nodata[bands] if isinstance(self.nodata, np.ndarray) else self.nodata,
            shape=array.shape,
            wavelengths=self.wavelengths[bands],
        )

    def read(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Return values ``(bands, rows, columns)`` and where they are used, None for all."""
        part = self.array.isel(y=rows, x=columns)
        if part.chunks is not None:  # by this thread: a task of a cluster must not wait for other tasks
            part = part.compute(scheduler="synchronous")
        values = np.asarray(part.data if isinstance(part.data, np.ndarray) else part.values)
        if not values.dtype.isnative:
            values = values.astype(values.dtype.newbyteorder("="))
        used = None if self.mask is None else self.mask[:, rows, columns]
        return values, _used(values, used, self.nodata)

    def image(self, values: np.ndarray, used: np.ndarray | None) -> HSI:
        """Return values and mask as an image in the orientation of the scene."""
        image = HSI(image=values, wavelengths=self.wavelengths, binary_mask=used)
        return image if self.orientation == ("C", "H", "W") else image.change_orientation(self.orientation)


def _used(values: np.ndarray, used: np.ndarray | None, nodata: NoData) -> np.ndarray | None:
    """Return where values are used, None where all are."""
    missing = np.isnan(values) if np.issubdtype(values.dtype, np.floating) else None
    absent = marked(values, nodata)
    if absent is not None:
        missing = absent if missing is None else missing | absent
    if missing is not None and missing.any():
        used = ~missing if used is None else used & ~missing
    return None if used is None or used.all() else np.ascontiguousarray(used)


# ---------------------------------------------------------------- what users give


def scene_of(scene: Any, wavelengths: Any = None) -> Scene:
    """Return what a user gave as a scene.

    Parameters
    ----------
    scene : xarray.DataArray, HSI, numpy.ndarray, dask array, torch.Tensor or dataset of h5py
        A DataArray names its dims, as for `HSI.from_xarray`; arrays are ``(bands, rows, columns)``.
    wavelengths : array-like, optional
        Of the bands in nm, where the scene has none of its own.

    Raises
    ------
    TypeError, ValueError, ShapeMismatchError
        For something else, without wavelengths, or with more or fewer of them than bands.
    """
    xarray = import_optional("xarray", "xarray", "geo", "maps of whole scenes")
    if isinstance(scene, HSI):
        if wavelengths is not None:
            raise ValueError("wavelengths are for scenes without their own, and an HSI has them: leave them out")
        return _from_hsi(scene, xarray)
    if isinstance(scene, torch.Tensor):
        scene = scene.detach().cpu().numpy()
    if isinstance(scene, xarray.DataArray):
        return _from_array(*_named(scene, wavelengths))
    if not all(hasattr(scene, name) for name in ("shape", "dtype", "ndim")):
        raise TypeError(f"scene must be an xarray.DataArray, an HSI or an array, not {type(scene).__name__}")
    if scene.ndim != 3:
        raise ShapeMismatchError(f"scene must have the axes (bands, rows, columns), not shape {tuple(scene.shape)}")
    if isinstance(scene, np.memmap):
        scene = scene.view(np.ndarray)  # what is read of it is read from the file all the same
    elif not isinstance(scene, np.ndarray) and not hasattr(scene, "dask"):
        dask = import_optional("dask.array", "dask", "dask", "scenes in files")
        scene = dask.from_array(scene, lock=True)
    return _from_array(xarray.DataArray(scene, dims=DIMS), wavelengths)


def _named(array: Any, wavelengths: Any) -> tuple[Any, Any]:
    """Return a DataArray with the dims ``(wavelength, y, x)``, whatever they were called, and its wavelengths in nm."""
    if array.ndim != 3:
        raise ShapeMismatchError(f"scene must have one spectral and two spatial dims, not {array.dims}")
    bands = dimension_of_bands(array, None, wavelengths)
    given = (bands, *spatial_dimensions(array, bands))
    if wavelengths is None:
        wavelengths = wavelengths_along(array, None, bands, None, [])
    array = array.drop_vars([bands, "wavelength"], errors="ignore").transpose(*given)
    return array.rename({old: new for old, new in zip(given, DIMS, strict=True) if old != new}), wavelengths


def _from_array(array: Any, wavelengths: Any) -> Scene:
    """Return the scene of a DataArray over ``(wavelength, y, x)``."""
    if wavelengths is None:
        raise ValueError("scene has no wavelengths: give wavelengths=, one number of nm for each band")
    wavelengths = np.asarray(wavelengths, dtype=np.float64)
    if wavelengths.shape != array.shape[:1]:
        raise ShapeMismatchError(
            f"wavelengths must have one number for each of the {len(array)} bands of scene, not "
            f"shape {wavelengths.shape}"
        )
    if 0 in array.shape:
        raise ValueError(f"scene must have bands and pixels, not shape {array.shape}")
    array = array.assign_coords(wavelength=("wavelength", wavelengths, {"units": "nm"}))
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "fiu":
        raise TypeError(f"scene must be made of real numbers, not {dtype}")
    return Scene(array, None, ("C", "H", "W"), nodata_along(array, "wavelength"), array.shape, dtype, wavelengths)


def _from_hsi(hsi: HSI, xarray: Any) -> Scene:
    if hsi.image.dtype in (torch.float16, torch.bfloat16):
        raise TypeError(f"scene must be float32, float64 or of integers, not {hsi.image.dtype}")
    bands_first = hsi.change_orientation("CHW")
    array = xarray.DataArray(bands_first.image.detach().cpu().numpy(), dims=DIMS)
    place = getattr(hsi, "georeference", None)
    if place is not None:
        centres = {name: np.asarray(of) for name in ("y", "x") if (of := getattr(place, name)) is not None}
        array = array.assign_coords(centres).assign_coords(spatial_ref=((), 0, _grid_mapping(place)))
    scene = _from_array(array, bands_first.wavelengths.cpu().numpy())
    used = bands_first.binary_mask
    scene.mask = None if bool(used.all()) else used.cpu().numpy()
    scene.orientation = hsi.orientation
    return scene


def _grid_mapping(place: Any) -> dict[str, str]:
    """Return the attributes by which GDAL and rioxarray know a coordinate system and a transform (six numbers)."""
    attributes = {}
    if place.transform is not None:
        a, b, c, d, e, f = [float(value) for value in tuple(place.transform)[:6]]
        attributes["GeoTransform"] = f"{c!r} {a!r} {b!r} {f!r} {d!r} {e!r}"
    return attributes | ({"crs_wkt": str(place.crs), "spatial_ref": str(place.crs)} if place.crs else {})


def kept_attributes(array: Any) -> dict[str, Any]:
    """Return the attributes of a scene that are true of its maps too."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in array.attrs.items()
        if name.lower() not in _OF_VALUES and isinstance(value, str | int | float | np.number)
    }
