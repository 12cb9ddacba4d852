"""Images from arrays of other packages: xarray, dask, h5py, rasterio and SPy.

Each is told by the package that its type comes from, so that none is imported which the caller has not.
"""

from __future__ import annotations

import logging
import re
import sys
from numbers import Real
from typing import Any

import numpy as np

from meteors_c.exceptions import ShapeMismatchError, ValidationError
from meteors_c.io._nodata import NoData, marked, nodata_along, nodata_of
from meteors_c.io._wavelengths import guess_unit, guessed_words, is_unit, missing, numbers_in, to_nm
from meteors_c.io.georeference import Georeference, georeference_of, read_map_info
from meteors_c.utils import warn_caller

__all__ = ["dimension_of_bands", "from_xarray", "read", "wavelengths_along"]

_logger = logging.getLogger("meteors_c")


def _is(value: Any, module: str, name: str) -> bool:
    """Tell whether a value is of a class in a module, if anybody has imported that."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def read(given: dict[str, Any]) -> dict[str, Any] | None:
    """Turn the arguments of ``HSI()`` with an image of another package into those with a plain one.

    Parameters
    ----------
    given : dict
        The keyword arguments, ``image`` among them.

    Returns
    -------
    dict or None
        None where the image is of no package that is known here.
    """
    image = given["image"]
    known = {name: given[name] for name in _ARGUMENTS if given.get(name) is not None}
    if _is(image, "xarray", "DataArray"):
        return _from_labelled(image, known)
    if _is(image, "rasterio", "DatasetReader") or _is(image, "rasterio.io", "DatasetReader"):
        return _from_rasterio(image, known)
    if _is(image, "spectral.image", "Image"):
        return _from_spy(image, known)
    if _is(image, "dask.array", "Array"):
        return known | {"image": _computed(image), "source": f"a dask array of shape {image.shape}, computed"}
    if _is(image, "h5py", "Dataset"):
        return _from_hdf5(image, known)
    return None


_ARGUMENTS = (
    "image",
    "wavelengths",
    "orientation",
    "device",
    "binary_mask",
    "georeference",
    "source",
    "wavelength_unit",
)


def _computed(array: Any) -> np.ndarray:
    """Compute a dask array in one pass, each chunk into its place: the parts and the whole are never there together."""
    import dask.array

    values = np.empty(array.shape, dtype=array.dtype)
    dask.array.store(array, values, lock=False)
    return values


# ---------------------------------------------------------------- xarray


def from_xarray(
    kind: type[Any],
    da: Any,
    spectral: str = "wavelength",
    *,
    binary_mask: Any = None,
    nodata: float | None = None,
    wavelengths: Any = None,
    wavelength_unit: str | None = None,
    device: Any = None,
) -> Any:
    """Make an HSI of a DataArray; see `HSI.from_xarray`."""
    if not _is(da, "xarray", "DataArray"):
        hint = "; take one of its variables" if _is(da, "xarray", "Dataset") else ""
        raise TypeError(f"from_xarray takes an xarray.DataArray, not {type(da).__name__}{hint}")
    known = {"binary_mask": binary_mask, "wavelengths": wavelengths, "wavelength_unit": wavelength_unit}
    return kind(**_from_labelled(da, {**known, "device": device}, spectral, nodata))


def _from_labelled(
    da: Any, known: dict[str, Any], spectral: str | None = None, nodata: float | None = None, fresh: bool = False
) -> dict[str, Any]:
    """Read a DataArray: its values (``fresh``: that nobody else will hold), wavelengths, mask and georeference."""
    from meteors_c.io._labelled import spatial_dimensions

    if da.ndim != 3:
        raise ShapeMismatchError(f"an image has three dimensions, but the DataArray has {dict(da.sizes)}")
    orientation = known.get("orientation")
    if orientation is None:
        dimension = dimension_of_bands(da, spectral, known.get("wavelengths"))
        rows, columns = spatial_dimensions(da, dimension)
        order = [dimension, rows, columns]
    else:
        letters = dict(zip(tuple(orientation), da.dims, strict=False))
        dimension, rows, columns = (letters.get(letter, da.dims[0]) for letter in "CHW")
        order = list(da.dims)
    made = {name: value for name, value in known.items() if value is not None}
    notes = [f"dimensions {', '.join(map(str, da.dims))}"]
    if made.get("wavelengths") is None:
        made["wavelengths"] = wavelengths_along(da, spectral, dimension, made.pop("wavelength_unit", None), notes)
    transposed = da.transpose(*order)
    mask = made.pop("binary_mask", None)
    if _is(mask, "xarray", "DataArray"):
        mask = mask.broadcast_like(transposed).transpose(*order).values
    # Not by da.encoding: what is marked there has become NaN when the file was decoded, and the number may be a value.
    if nodata is not None and not isinstance(nodata, Real):
        raise TypeError(f"nodata must be a number or None, not {nodata!r}")
    marker = nodata_along(da, dimension) if nodata is None else float(nodata)
    made.setdefault("orientation", "CHW")
    lazy = _is(transposed.data, "dask.array", "Array")
    values = _computed(transposed.data) if lazy else np.asarray(transposed.values)
    made |= _masked(values, mask, marker, notes, made["orientation"], fresh or lazy)
    place = made.get("georeference") or georeference_of(da, rows, columns)
    if place is not None:
        made["georeference"] = place
    if place is None or place.crs is None:
        notes.append("no CRS")
    notes += [note for note in str(da.attrs.get("notes", "")).split("; ") if note and note not in notes]
    made.setdefault("source", _said(da.attrs.get("source") or f"DataArray {da.name or ''}".strip(), notes))
    return made


def dimension_of_bands(da: Any, spectral: str | None, wavelengths: Any) -> Any:
    """Find the dimension of the bands of a DataArray: the first, where nothing tells but wavelengths are given."""
    from meteors_c.io._labelled import spectral_dimension

    if spectral is not None:
        if spectral in da.dims:
            return spectral
        if spectral in da.coords and da.coords[spectral].ndim == 1:
            return da.coords[spectral].dims[0]
    found = spectral_dimension(da)
    if found is not None and (spectral in (None, "wavelength")):
        return found
    if spectral is None and wavelengths is not None:
        return da.dims[0]  # as for arrays without names: CHW
    wanted = "wavelength" if spectral is None else spectral
    raise ValueError(
        f"the DataArray has neither a dimension nor a coordinate along one that is called {wanted!r}: its dimensions "
        f"are {tuple(da.dims)}, its coordinates {tuple(da.coords)}; give spectral="
    )


def wavelengths_along(da: Any, spectral: str | None, dimension: Any, unit: str | None, notes: list[str]) -> np.ndarray:
    """Return the wavelengths of a DataArray in nm; what was done is added to `notes`."""
    from meteors_c.io._labelled import unit_of

    names = [spectral, "wavelength", dimension, *da.coords]
    fitting = [name for name in names if name in da.coords and da.coords[name].dims == (dimension,)]
    words = ("wave", "lambda", "wvl", "wl")
    fitting = [name for name in fitting if name == spectral or any(word in str(name).lower() for word in words)]
    fitting.sort(key=_says_wavenumbers)
    if not fitting:
        raise ValueError(
            f"the DataArray has no wavelengths along its dimension {dimension!r}: give wavelengths=, or a coordinate"
        )
    coordinate = da.coords[fitting[0]]
    try:
        values = np.asarray(coordinate.values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the coordinate {fitting[0]!r} holds no wavelengths, but {coordinate.dtype}") from error
    lacking = missing(values)
    if lacking:
        raise ValidationError(
            f"wavelengths[{lacking[0]}] is {values[lacking[0]]:g}, but must be a finite number above 0"
            + (f"; so are {len(lacking) - 1} more" if len(lacking) > 1 else "")
        )
    unit = unit or unit_of(coordinate)
    return _in_nm(values, "wavenumber" if not is_unit(unit) and _says_wavenumbers(fitting[0]) else unit, notes)


def _says_wavenumbers(name: Any) -> bool:
    """Tell whether a name is that of wavenumbers, which go in the other direction."""
    return re.search(r"wave[_ ]?num", str(name).lower()) is not None


def _in_nm(values: np.ndarray, unit: str | None, notes: list[str]) -> np.ndarray:
    if is_unit(unit):
        if to_nm([1.0], unit)[0] != 1.0:  # type: ignore[arg-type]
            notes.append(f"wavelengths converted from {unit}")
        return to_nm(values, unit)  # type: ignore[arg-type]
    guessed = guess_unit(values)
    if guessed is None:
        raise ValueError(
            f"the wavelengths have no unit, and {values.min():g} to {values.max():g} could be several: give "
            "wavelength_unit=, or wavelengths= in nm"
        )
    notes.append(f"wavelengths without a unit taken for {guessed}")
    said = guessed_words(values.min(), values.max(), guessed)
    warn_caller(f"{said}. An attribute units={guessed!r} of the coordinate says so without this warning.")
    return to_nm(values, guessed)


# ---------------------------------------------------------------- missing values


def _masked(
    values: np.ndarray, mask: Any, nodata: NoData, notes: list[str], orientation: Any = "CHW", fresh: bool = False
) -> dict[str, Any]:
    """Leave NaN and no-data out of the mask, and put 0 in their place, as the model sees values under the mask.

    Parameters
    ----------
    values : numpy.ndarray
        The image.
    mask : as for HSI or None
        Which values to use of those that are valid.
    nodata : float, numpy.ndarray or None
        Marks missing values beside NaN: one number, or one for each band.
    notes : list of str
        What was found is added.
    orientation : tuple, list or str
        Of the image.
    fresh : bool
        Whether `values` may be written to.
    """
    absent = _missing(values, nodata, list(orientation).index("C") if "C" in orientation else 0)
    count = int(np.count_nonzero(absent))
    if not count:
        return {"image": values} | ({} if mask is None else {"binary_mask": mask})
    if not (fresh and values.flags.writeable):
        values = values.copy()
    np.copyto(values, 0, where=absent)
    told = f"{count} values are NaN or no-data"
    if mask is None:
        notes.append(f"{told} and masked")
        return {"image": values, "binary_mask": _not(absent)}
    given = _expanded(mask, values, orientation)
    inside = int(np.count_nonzero(absent & given))
    notes.append(f"{told}: {count - inside} outside the given mask, {inside} inside it, masked too")
    return {"image": values, "binary_mask": given & _not(absent)}


def _missing(values: np.ndarray, nodata: NoData, axis: int = 0) -> np.ndarray:
    """Return where values are NaN or no-data: one plane, repeated, where all are alike, so that it is small.

    Planes are those of the first axis; `axis` is the one of the bands, of which each may have its own number.
    """

    def of(number: int) -> np.ndarray:
        plane = values[number : number + 1]
        own = nodata[number : number + 1] if isinstance(nodata, np.ndarray) and axis == 0 else nodata
        found = marked(plane, own, axis)
        absent = np.isnan(plane) if plane.dtype.kind == "f" else np.zeros(plane.shape, dtype=bool)
        return (absent if found is None else absent | found)[0]

    if not values.size or (nodata is None and values.dtype.kind != "f"):
        return np.broadcast_to(np.zeros((), dtype=bool), values.shape)
    first, whole = of(0), None
    for number in range(len(values)):
        absent = of(number)
        if whole is None and not np.array_equal(absent, first):
            whole = np.empty(values.shape, dtype=bool)
            whole[:number] = first
        if whole is not None:
            whole[number] = absent
    return np.broadcast_to(first, values.shape) if whole is None else whole


def _not(absent: np.ndarray) -> np.ndarray:
    """Return the opposite of a mask, in its place if it is a whole one, one plane if it repeats one."""
    if absent.strides[0] == 0 and len(absent) > 1:
        return np.broadcast_to(~absent[0], absent.shape)
    return np.logical_not(absent, out=absent if absent.flags.writeable else None)


def _expanded(mask: Any, values: np.ndarray, orientation: Any) -> np.ndarray:
    """Return a mask as HSI takes it, in the image's shape."""
    from meteors_c import _core

    return _core._hsi_mask(mask, _core._hsi_image(values), orientation, "cpu").numpy()


# ---------------------------------------------------------------- rasterio, SPy, HDF5


def _from_rasterio(dataset: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Read a dataset as `open_scene` does; bands that are marked bad are left out."""
    from meteors_c.io.scene import open_scene

    asked = {name: known[name] for name in ("wavelengths", "wavelength_unit") if name in known}
    scene = open_scene(dataset, **asked)
    rest = {name: value for name, value in known.items() if name not in (*asked, "image")}
    orientation = rest.pop("orientation", None)
    if orientation is not None and "".join(orientation) != "CHW":
        raise ValueError(f"a rasterio dataset has the orientation CHW, not {''.join(orientation)!r}")
    return _from_labelled(scene, rest, "wavelength", fresh=True)


def _from_spy(image: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Read an image of SPy: values as it gives them, (rows, columns, bands), with its scale factor applied."""
    orientation = known.pop("orientation", None)
    if orientation is not None and "".join(orientation) != "HWC":
        raise ValueError(f"an image of SPy has the orientation HWC, not {''.join(orientation)!r}")
    header = {str(key).lower(): value for key, value in (image.metadata or {}).items()}
    if isinstance(image, np.ndarray):
        values, fresh = np.asarray(image), False
    else:
        # SPy divides by the scale factor in float32; where there is none, values keep their dtype.
        scaled = getattr(image, "scale_factor", 1.0) != 1
        loaded = image.load() if scaled else image.load(dtype=np.dtype(image.dtype).newbyteorder("="))
        values, fresh = np.asarray(loaded), True
    values = values.transpose(2, 0, 1)
    notes = ["axes rows, columns, bands"]
    count = values.shape[0]
    centers = image.bands.centers
    if "wavelengths" not in known:
        if not centers:
            raise ValidationError("the image of SPy has no wavelengths (bands.centers): give wavelengths=")
        good = _good_bands(header.get("bbl"), count, notes)
        numbers = np.asarray(centers, dtype=np.float64)[good]
        lacking = missing(numbers)
        if lacking:
            raise ValidationError(f"band {np.flatnonzero(good)[lacking[0]]} of {count} lacks a wavelength above 0")
        unit = known.pop("wavelength_unit", None) or image.bands.band_unit
        known["wavelengths"] = _in_nm(numbers, unit, notes)
        values = values if good.all() else values[good]
    nodata = header.get("data ignore value")
    marker = _one_number(nodata)
    factor = getattr(image, "scale_factor", 1.0)
    if marker is not None and factor != 1:
        marker = float(np.asarray(marker, dtype=values.dtype) / np.asarray(factor, dtype=values.dtype))
        notes.append(f"values divided by the scale factor {factor:g}")
    made = known | _masked(values, known.pop("binary_mask", None), marker, notes, fresh=fresh)
    if "georeference" not in made and "map info" in header:
        place = _map_info(header, values.shape[1:])
        if place is not None:
            made["georeference"] = place
        else:
            notes.append("no georeference: its map info is rotated, or not understood")
    made.setdefault("source", _said(str(getattr(image, "filename", "an image of SPy")), notes))
    return made | {"orientation": "CHW"}


def _good_bands(bbl: Any, count: int, notes: list[str]) -> np.ndarray:
    """Return which bands are not marked bad by the header."""
    listed = [] if bbl is None else [numbers_in(str(item))[0] for item in bbl]
    if len(listed) != count:
        return np.ones(count, dtype=bool)
    good = np.asarray(listed) != 0
    if not good.all():
        notes.append(f"{int((~good).sum())} of {count} bands are marked bad and left out")
    return good


def _one_number(text: Any) -> float | None:
    numbers = [] if text is None else numbers_in(str(text))
    return numbers[0] if len(numbers) == 1 else None


def _map_info(header: dict[str, Any], shape: tuple[int, ...]) -> Georeference | None:
    """Read where an ENVI header says that the image lies."""
    transform, _ = read_map_info(header["map info"])
    if transform is None:
        return None
    crs = header.get("coordinate system string")
    if isinstance(crs, (list, tuple)):
        crs = ", ".join(map(str, crs))
    wkt = str(crs).strip("{} \n") if crs else None
    return Georeference.from_transform(transform, shape[0], shape[1], wkt or None)


def _from_hdf5(dataset: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Read a dataset of h5py, in the order of its axes; no-data by the attributes that files use for it."""
    notes = [f"shape {dataset.shape}, read"]
    orientation, mask = known.get("orientation", "CHW"), known.pop("binary_mask", None)
    rest = _masked(np.asarray(dataset[...]), mask, nodata_of(dataset.attrs), notes, orientation, fresh=True)
    name = f"{dataset.file.filename}:{dataset.name}"
    return known | rest | {"source": known.get("source") or _said(name, notes)}


def _said(source: str, notes: list[str]) -> str:
    """Say once what was read and how, and return it."""
    text = f"{source}: {'; '.join(notes)}" if notes else source
    _logger.info("image from %s", text)
    return text
