"""Scenes of sensors, opened lazily as labelled arrays."""

from __future__ import annotations

import logging
import os
from numbers import Real
from typing import Any

import numpy as np

from meteors_c._optional import import_optional
from meteors_c.io import _labelled, _raster
from meteors_c.io._bands import BandTable, Chosen, choose
from meteors_c.io._nodata import COORDINATE, NoData, common_nodata, markers
from meteors_c.utils import warn_caller

__all__ = ["open_scene"]

_logger = logging.getLogger("meteors_c")


def open_scene(
    path: str | os.PathLike[str] | Any,
    *,
    wavelengths: Any = None,
    bad_bands: str = "drop",
    nodata: float | None = None,
    bands: Any = None,
    wavelength_unit: str | None = None,
    variable: str | None = None,
    scale: bool | None = None,
) -> Any:
    """Open a scene lazily, with the wavelengths of its bands.

    ENVI files (BSQ, BIL, BIP; by their header or their data), GeoTIFF and what else GDAL reads go through rasterio;
    NetCDF, HDF5 and Zarr, whose dimensions may stand in any order, through xarray. A file of one cube needs no name of
    it, however deep in its groups that lies; where it has neither coordinates nor a CRS in the manner of NetCDF, ENVI's
    ``map info`` and the EPSG code or WKT that stand near the cube are taken (as in NEON's reflectance).

    Parameters
    ----------
    path : str, path-like or rasterio.DatasetReader
        The file, or a name that GDAL knows. ``NETCDF:"scene.nc":reflectance`` and
        ``HDF5:"scene.h5"://SITE/Reflectance/Reflectance_Data`` choose a variable.
    wavelengths : array of numbers, optional
        Centres of the bands, for files that lack them or have wrong ones: one for each band of the file or, where bad
        ones are dropped, for each other. In nm or `wavelength_unit`.
    bad_bands : {"drop", "keep"}, default "drop"
        What happens with bands that the file marks as bad (``bbl`` of ENVI, ``good_wavelengths``). If kept, they are
        told by the coordinate ``good_band``.
    nodata : float, optional
        The value that marks missing ones in all bands; by default what the file says, of each band.
    bands : sequence of int, slice, bools or names, optional
        Which bands to take: indices in the file, from 0, or spectral regions such as ``"VNIR"``.
    wavelength_unit : str, optional
        Unit of the wavelengths (``"nm"``, ``"um"``), for files that lack it or are wrong. A unit that is missing is
        found out where only one is possible, with a warning.
    variable : str, optional
        The variable of a NetCDF, HDF5 or Zarr file; needed where several could be the scene.
    scale : bool, optional
        Whether values are multiplied and shifted by the factor and offset of the file, no-data becoming NaN. By
        default they are as stored, and a warning tells of a factor that is not applied. ``scale_factor`` multiplies;
        ENVI's ``reflectance scale factor`` divides, and so does a ``Scale_Factor`` above 1.

    Returns
    -------
    xarray.DataArray
        Over ``("wavelength", "y", "x")``, backed by dask where it is installed. Coordinates along the first:
        ``wavelength`` and, where known, ``fwhm`` in nm, and ``band``, the number of the band in the file, from 1. CRS,
        transform and no-data by ``.rio``; where bands have no-data values of their own, these are the coordinate
        ``nodata`` along the first, NaN for bands without. ``attrs`` has the source, the sensor, the unit of
        its wavelengths, the bands that were dropped, and the scale and offset if they are not applied.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        No wavelengths, one that is missing (which), a unit that is unknown or can't be found out, numbers of
        wavelengths and bands that differ, or several variables that could be the scene.
    IndexError
        A band that the file does not have.
    ImportError
        A package of the extra ``geo`` is missing.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from meteors_c import HSI, io
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.arange(24, dtype="<i2").tofile(folder / "scene.img")
    >>> header = '''ENVI
    ... samples = 4
    ... lines = 3
    ... bands = 2
    ... data type = 2
    ... interleave = bsq
    ... byte order = 0
    ... wavelength units = Micrometers
    ... wavelength = {0.65, 0.86}'''
    >>> _ = (folder / "scene.hdr").write_text(header)
    >>> scene = io.open_scene(folder / "scene.hdr")
    >>> scene.dims, scene.wavelength.values
    (('wavelength', 'y', 'x'), array([650., 860.]))
    >>> HSI.from_xarray(scene).image.shape
    torch.Size([2, 3, 4])
    """
    import_optional("xarray", "xarray", "geo", "scenes in files")
    import_optional("rioxarray", "rioxarray", "geo", "scenes in files")
    _check(nodata, scale)
    asked = (wavelengths, wavelength_unit, bad_bands, bands)
    if not isinstance(path, (str, os.PathLike)):
        if not hasattr(path, "block_shapes"):
            raise TypeError(f"path must be that of a file, or a dataset of rasterio, not {type(path).__name__}")
        return _from_dataset(path, path.name, asked, nodata, scale)
    name = os.fspath(path)
    if _labelled.is_labelled(name):
        opened = _labelled.open_variable(name, variable, wavelengths)
        chosen = choose(opened.table, name, *asked)
        array = opened.array.isel(band=chosen.indices)
        scaling = (opened.scaling[0][chosen.indices], opened.scaling[1][chosen.indices])
        chosen.notes[:0] = opened.notes
        of_file = opened.nodata
        of_file = common_nodata(of_file[chosen.indices]) if isinstance(of_file, np.ndarray) else of_file
        return _finish(array, name, chosen, opened.table, nodata, of_file, scale, scaling, opened.attrs)
    if variable is not None:
        raise ValueError(f"variable chooses one of a NetCDF, HDF5 or Zarr file, which {name!r} is not")
    data = _raster.data_file(name)
    if not os.path.exists(data) and ":" not in data and not data.startswith("/vsi"):
        raise FileNotFoundError(f"there is no file {name!r}")
    with _raster.quiet(), _raster.open_raster(data) as dataset:
        return _from_dataset(dataset, name, asked, nodata, scale)


def _check(nodata: Any, scale: Any) -> None:
    if nodata is not None and not isinstance(nodata, Real):
        raise TypeError(f"nodata must be a number or None, not {nodata!r}")
    if scale is not None and not isinstance(scale, bool | np.bool_):
        raise TypeError(f"scale must be True, False or None, not {scale!r}")


def _from_dataset(dataset: Any, name: str, asked: tuple[Any, ...], nodata: Any, scale: bool | None) -> Any:
    """Make the scene of a dataset that rasterio has opened."""
    table = _raster.describe(dataset)
    chosen = choose(table, name, *asked)
    if _raster.has_mask(dataset):
        warn_caller(
            f"{name!r}: the mask in the file is not read, so the pixels that it hides count as values: give "
            "binary_mask= to HSI.from_xarray, such as dataset_mask() of rasterio"
        )
    array = _raster.open_array(dataset, chosen.indices)
    scales, offsets = _raster.scaling(dataset)
    scaling = (scales[chosen.indices], offsets[chosen.indices])
    tags = {key.lower(): value for key, value in {**dataset.tags(), **dataset.tags(ns="ENVI")}.items()}
    sensor = next((tags[key] for key in ("sensor_type", "sensor", "instrument", "platform") if tags.get(key)), None)
    attrs = {} if sensor is None else {"sensor": sensor}
    of_file = _raster.nodata_of_bands(dataset, chosen.indices)
    return _finish(array, name, chosen, table, nodata, of_file, scale, scaling, attrs)


def _finish(
    array: Any,
    name: str,
    chosen: Chosen,
    table: BandTable,
    nodata: float | None,
    nodata_of_file: NoData,
    scale: bool | None,
    scaling: tuple[np.ndarray, np.ndarray],
    attrs: dict[str, Any],
) -> Any:
    """Label an array over ``("band", "y", "x")`` that holds the chosen bands."""
    array = array.rename(band="wavelength").assign_coords(
        wavelength=("wavelength", chosen.wavelengths, {"units": "nm", "long_name": "wavelength"}),
        band=("wavelength", chosen.indices + 1, {"long_name": "number of the band in the file, from 1"}),
    )
    if chosen.fwhm is not None:
        array = array.assign_coords(
            fwhm=("wavelength", chosen.fwhm, {"units": "nm", "long_name": "full width at half maximum"})
        )
    if table.bad is not None and not chosen.good.all():
        array = array.assign_coords(good_band=("wavelength", chosen.good))
    missing = nodata_of_file if nodata is None else nodata
    array.attrs = {**attrs, "source": name, "wavelength_source_unit": chosen.unit, "bands_in_file": table.count}
    if chosen.dropped:
        array.attrs["dropped_bands"] = [i + 1 for i in chosen.dropped]
    notes = list(chosen.notes)
    array, missing = _scaled(array, missing, scale, scaling, name, notes)
    if isinstance(missing, np.ndarray):
        notes.append("no-data values that differ by band")
        told = {"long_name": "the value that marks missing ones, NaN: none"}
        array = array.assign_coords({COORDINATE: ("wavelength", missing, told)})
    elif missing is not None:
        array = array.rio.write_nodata(missing)
    if array.rio.crs is None:
        notes.append("no CRS")
    array.attrs["notes"] = "; ".join(notes)
    array.name = array.name or "scene"
    _logger.info(
        "opened %s: %d bands from %g to %g nm, %d x %d pixels%s",
        name,
        array.sizes["wavelength"],
        chosen.wavelengths.min(),
        chosen.wavelengths.max(),
        array.sizes["y"],
        array.sizes["x"],
        "".join(f"; {note}" for note in notes),
    )
    return array


def _scaled(
    array: Any,
    nodata: NoData,
    scale: bool | None,
    scaling: tuple[np.ndarray, np.ndarray],
    name: str,
    notes: list[str],
) -> tuple[Any, NoData]:
    """Apply scale and offset, or note them; also returns what marks missing values then."""
    scales, offsets = scaling
    if (scales == 1).all() and (offsets == 0).all():
        return array, nodata
    same = (scales == scales[0]).all() and (offsets == offsets[0]).all()
    factor, offset = (scales[0].item(), offsets[0].item()) if same else (scales.tolist(), offsets.tolist())
    told = f"scale {factor:g} and offset {offset:g}" if same else "scales and offsets that differ by band"
    if not scale:
        array.attrs |= {"scale_factor": factor, "add_offset": offset}
        notes.append(f"values as stored, {told} not applied")
        if scale is None:
            warn_caller(f"{name!r}: values are as stored; its {told} are not applied: give scale=True or False")
        return array, nodata
    dtype = np.float32 if array.dtype.itemsize <= 2 or array.dtype == np.float32 else np.float64
    wide = array.astype(dtype)
    shape = (-1, 1, 1)
    if nodata is not None:
        wide = wide.where(array != markers(nodata, array.dtype))
    result = wide * scales.astype(dtype).reshape(shape) + offsets.astype(dtype).reshape(shape)
    result = result.assign_attrs(array.attrs)
    notes.append(f"values in physical units, {told} applied")
    return result, float("nan") if nodata is not None else None
