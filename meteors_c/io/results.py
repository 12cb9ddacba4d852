"""Attribution results as labelled arrays, GeoTIFF and NetCDF, with the georeference of their scene."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from meteors_c._files import replacing
from meteors_c._optional import import_optional
from meteors_c._version import __version__
from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.io._raster import quiet
from meteors_c.utils import warn_caller

__all__ = ["to_geotiff", "to_netcdf", "to_xarray"]

Results = HSIAttributes | Sequence[HSIAttributes]
_PURPOSE = "labelled results"


def to_xarray(results: Results) -> Any:
    """Label results with wavelengths, coordinates and CRS.

    Parameters
    ----------
    results : HSIAttributes or sequence of them
        One, or several of the same image: of several targets, or of several methods.

    Returns
    -------
    xarray.Dataset
        As `HSIAttributes.to_xarray` says; of several results, with a first dimension ``target``, ``method`` where the
        targets are the same, or ``result`` where both are.

    Raises
    ------
    TypeError
        Something else than results.
    ValueError
        No result, results of images that differ in wavelengths, place or mask, or a georeference of another size.

    Examples
    --------
    >>> import torch
    >>> from meteors_c import HSI, attr, io
    >>> hsi = HSI(image=torch.rand(3, 4, 5), wavelengths=[450.0, 550.0, 650.0])
    >>> both = [attr.HSIAttributes(hsi=hsi, attributes=torch.rand(3, 4, 5), target=t) for t in (0, 2)]
    >>> io.to_xarray(both).attributions.dims
    ('target', 'wavelength', 'y', 'x')
    """
    xarray = import_optional("xarray", "xarray", "geo", _PURPOSE)
    import_optional("rioxarray", "rioxarray", "geo", _PURPOSE)
    listed = _listed(results)
    datasets = [_dataset(xarray, result) for result in listed]
    if len(listed) == 1 and isinstance(results, HSIAttributes):
        return _placed(datasets[0].assign_attrs(_said(listed[0])), listed[0])
    dimension, labels = _labels(listed)
    # The mask is that of the image, and so has no such dimension.
    shared = [name for name in datasets[0].data_vars if name == "binary_mask"]
    parts = [dataset.drop_vars(shared) for dataset in datasets]
    whole = xarray.concat(parts, xarray.Variable((dimension,), labels), coords="minimal", compat="override")
    whole = whole.assign({name: datasets[0][name] for name in shared})
    whole = whole.assign_coords({dimension: labels}) if dimension not in whole.coords else whole
    scores = [result.score for result in listed]
    if any(score is not None for score in scores):
        whole["score"] = (dimension, [np.nan if score is None else score for score in scores])
    said = [_said(result) for result in listed]
    attrs = {key: value for key, value in said[0].items() if all(other.get(key) == value for other in said)}
    attrs["report"] = json.dumps([_report(result) for result in listed])
    attrs.pop("score", None)
    return _placed(whole.assign_attrs(attrs), listed[0])


def to_geotiff(results: Results, path: str | os.PathLike[str]) -> None:
    """Write results as a GeoTIFF with the CRS and transform of their scene.

    Parameters
    ----------
    results : HSIAttributes or sequence of them
        One, or several of the same image, whose bands follow each other.
    path : str or path-like
        The file; one that is there is replaced in one step.

    Raises
    ------
    TypeError, ValueError
        As for `to_xarray`.
    ImportError
        A package of the extra ``geo`` is missing.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> from meteors_c import HSI, attr, io
    >>> place = io.Georeference.from_transform((30.0, 0.0, 5e5, 0.0, -30.0, 4e6), 4, 5, "EPSG:32633")
    >>> hsi = HSI(image=torch.rand(3, 4, 5), wavelengths=[450.0, 550.0, 650.0], georeference=place)
    >>> result = attr.HSIAttributes(hsi=hsi, attributes=torch.rand(3, 4, 5), attribution_method="Saliency")
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "map.tif"
    >>> io.to_geotiff(result, path)
    >>> io.open_scene(path).rio.crs.to_epsg()
    32633
    """
    rasterio = import_optional("rasterio", "rasterio", "geo", "GeoTIFF files")
    listed = _listed(results)
    place = _checked_place(listed[0])
    maps = [_map(result) for result in listed]
    dtype = np.result_type(*maps)
    count, (height, width) = sum(map(len, maps)), maps[0].shape[1:]
    profile = {
        "driver": "GTiff", "count": count, "height": height, "width": width, "dtype": dtype, "compress": "deflate",
        "predictor": 3 if dtype.kind == "f" else 2, "BIGTIFF": "IF_SAFER", "interleave": "band",
    }  # fmt: skip
    if place is not None and place.transform is not None:
        profile["transform"] = rasterio.Affine(*place.transform)
    if place is not None and place.crs is not None:
        profile["crs"] = _crs(rasterio, place.crs)
    else:
        warn_caller(f"the image has no CRS, and so {os.path.basename(path)!r} has none: set hsi.georeference")
    if place is not None and place.transform is None:
        warn_caller(
            f"hsi.georeference has no transform, and so {os.path.basename(path)!r} does not say where its pixels lie"
        )
    used = _used(listed[0]).any(0)
    environment = rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_PAM_ENABLED=False)
    with replacing(path) as temporary, quiet(), environment, rasterio.open(temporary, "w", **profile) as file:
        file.update_tags(**_tags(listed))
        if not used.all():
            file.write_mask(used)
        _write_bands(file, listed, maps, dtype)


def to_netcdf(results: Results, path: str | os.PathLike[str]) -> None:
    """Write what `to_xarray` gives as a NetCDF file.

    Parameters
    ----------
    results, path
        As for `to_geotiff`, with its errors.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> from meteors_c import HSI, attr, io
    >>> hsi = HSI(image=torch.rand(3, 4, 5), wavelengths=[450.0, 550.0, 650.0])
    >>> result = attr.HSIAttributes(hsi=hsi, attributes=torch.rand(3, 4, 5), attribution_method="Saliency")
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "map.nc"
    >>> io.to_netcdf(result, path)
    >>> io.open_scene(path).shape
    (3, 4, 5)
    """
    dataset = to_xarray(results)
    import_optional("netCDF4", "netCDF4", "geo", "NetCDF files")
    for array in dataset.data_vars.values():
        array.encoding |= {"zlib": True, "shuffle": True} if array.ndim else {}  # beside the name of its grid mapping
    with replacing(path) as temporary:
        dataset.to_netcdf(temporary, engine="netcdf4")


# ---------------------------------------------------------------- results


def _listed(results: Results) -> list[HSIAttributes]:
    """Return results as a list, of which all are of one image."""
    listed = list(results) if isinstance(results, Iterable) and not isinstance(results, str) else [results]
    wrong = [type(result).__name__ for result in listed if not isinstance(result, HSIAttributes)]
    if wrong:
        raise TypeError(f"results must be HSIAttributes, or a sequence of them, not {wrong[0]}")
    if not listed:
        raise ValueError("results holds none")
    first = listed[0].hsi
    for i, result in enumerate(listed):
        hsi = result.hsi
        if hsi is not first and (
            hsi.image.shape[hsi.spectral_axis] != first.image.shape[first.spectral_axis]
            or _map_shape(hsi) != _map_shape(first)
            or not torch.equal(hsi.wavelengths, first.wavelengths)
            or hsi.georeference != first.georeference
        ):
            raise ValueError(f"results must be of one image to lie in one file, but results[{i}] is of another place")
        if hsi is not first and not np.array_equal(_used(result), _used(listed[0])):
            raise ValueError(
                f"results must be of one image to lie in one file, but results[{i}] has another binary_mask: write it "
                "by itself, or give all the same"
            )
        if type(result) is not type(listed[0]):
            raise ValueError(
                f"results must be of one class, but are {type(listed[0]).__name__} and {type(result).__name__}"
            )
    return listed


def _map_shape(hsi: Any) -> tuple[int, int]:
    return hsi.image.shape[hsi.orientation.index("H")], hsi.image.shape[hsi.orientation.index("W")]


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return values as NumPy and GDAL have them: half precision as float32, which holds the same numbers."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy()


def _axes(result: HSIAttributes) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Return the dimensions that a result depends on, and what selects them of a tensor in CHW."""
    if isinstance(result, HSIAttributesSpatial):
        return ("y", "x"), (0,)
    if isinstance(result, HSIAttributesSpectral):
        return ("wavelength",), (slice(None), 0, 0)
    return ("wavelength", "y", "x"), ()


def _map(result: HSIAttributes) -> np.ndarray:
    """Return the attributions as ``(bands, height, width)``, a single band of spatial results."""
    values = _numpy(result.change_orientation("CHW").attributes)
    values = values[:1] if isinstance(result, HSIAttributesSpatial) else values
    return values.astype(np.uint8) if values.dtype == bool else values


def _used(result: HSIAttributes) -> np.ndarray:
    """Return which values of the image are used, ``(bands, height, width)``."""
    return result.hsi.change_orientation("CHW").binary_mask.cpu().numpy()


def _report(result: HSIAttributes) -> Any:
    report = result.report
    if report is None:
        return None
    return report.to_dict() if hasattr(report, "to_dict") else str(report)


def _target(target: Any) -> Any:
    """Return a target as a number, a string or a list of numbers, which files can hold."""
    if isinstance(target, torch.Tensor):
        target = target.tolist()
    if isinstance(target, np.generic):
        target = target.item()
    if isinstance(target, (int, float, str)):
        return target
    return [_target(part) for part in target] if isinstance(target, (tuple, list)) else str(target)


def _said(result: HSIAttributes) -> dict[str, Any]:
    """Return what made a result, as values that files can hold."""
    said: dict[str, Any] = {
        "method": result.attribution_method,
        "target": None if result.target is None else _target(result.target),
        "score": result.score,
        "report": None if result.report is None else json.dumps(_report(result)),
        "source": result.hsi.source,
        "software": f"meteors_c {__version__}",
    }
    if isinstance(result, HSIAttributesSpectral):
        names = {"/".join(n) if isinstance(n, tuple) else n: segment for n, segment in result.band_names.items()}
        said["band_names"] = json.dumps(names)
    return {name: value for name, value in said.items() if value is not None}


def _labels(results: list[HSIAttributes]) -> tuple[str, list[Any]]:
    """Return the dimension along which results differ, and their labels on it."""
    targets = [_target(result.target) for result in results]
    if len(results) == 1 or len(set(map(str, targets))) == len(targets):
        whole = all(isinstance(target, int) for target in targets)
        return "target", targets if whole else [str(target) for target in targets]
    methods = [str(result.attribution_method) for result in results]
    return ("method", methods) if len(set(methods)) == len(methods) else ("result", list(range(len(results))))


# ---------------------------------------------------------------- labels


def _dataset(xarray: Any, result: HSIAttributes) -> Any:
    turned = result.change_orientation("CHW")
    dimensions, at = _axes(result)
    tensors = {
        "attributions": turned.attributes,
        "standard_error": turned.standard_error,
        "segments": turned.mask,
    }
    variables = {name: (dimensions, _numpy(t[at])) for name, t in tensors.items() if t is not None}
    used = _used(result)
    if not used.all():
        flat = used.strides[0] == 0 or (used == used[:1]).all()
        variables["binary_mask"] = (("y", "x"), used[0]) if flat else (("wavelength", "y", "x"), used)
    wavelengths = result.hsi.wavelengths.detach().cpu().to(torch.float64).numpy()
    labelled = {"wavelength": ("wavelength", wavelengths, {"units": "nm", "long_name": "wavelength"})}
    needed = {dimension for names, _ in variables.values() for dimension in names}
    return xarray.Dataset(variables, {k: v for k, v in labelled.items() if k in needed})


def _checked_place(result: HSIAttributes) -> Any:
    """Return the georeference, if any; it must be that of the image as it is now."""
    place = result.hsi.georeference
    height, width = _map_shape(result.hsi)
    sizes = {getattr(place, "shape", None) or (height, width)}
    if place is not None and place.x is not None and place.y is not None:
        sizes.add((len(place.y), len(place.x)))
    wrong = sizes - {(height, width)}
    if wrong:
        raise ValueError(
            f"hsi.georeference is that of {wrong.pop()} rows and columns, but the image has {(height, width)}: give it "
            "that of the part, or None"
        )
    return place


def _crs(rasterio: Any, text: str) -> Any:
    try:
        return rasterio.crs.CRS.from_user_input(text)
    except rasterio.errors.CRSError as error:
        raise ValueError(f"the crs of hsi.georeference is none that GDAL knows ({error}): {text[:80]!r}") from error


def _placed(dataset: Any, result: HSIAttributes) -> Any:
    """Add coordinates, CRS and transform to a dataset of maps."""
    place = _checked_place(result)
    if place is None or "y" not in dataset.dims:
        return dataset
    if place.x is not None and place.y is not None:
        dataset = dataset.assign_coords(y=("y", place.y), x=("x", place.x))
    rasterio = import_optional("rasterio", "rasterio", "geo", _PURPOSE)
    dataset = dataset.rio.set_spatial_dims(x_dim="x", y_dim="y")
    if place.crs is not None:
        dataset = dataset.rio.write_crs(_crs(rasterio, place.crs)).rio.write_coordinate_system()
    if place.transform is not None:
        dataset = dataset.rio.write_transform(rasterio.Affine(*place.transform))
    return dataset


# ---------------------------------------------------------------- files


def _tags(results: list[HSIAttributes]) -> dict[str, str]:
    """Return what made the results, as texts."""
    said = _said(results[0])
    if len(results) > 1:
        dimension, labels = _labels(results)
        said |= {dimension: json.dumps(labels), "report": json.dumps([_report(result) for result in results])}
        said.pop("score", None)
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items()}


def _write_bands(file: Any, results: list[HSIAttributes], maps: list[np.ndarray], dtype: np.dtype[Any]) -> None:
    dimension, labels = _labels(results)
    index = 0
    for result, label, values in zip(results, labels, maps, strict=True):
        wavelengths = result.hsi.wavelengths.tolist()
        for band, plane in enumerate(values):
            index += 1
            file.write(plane.astype(dtype, copy=False), index)
            words = [] if len(results) == 1 else [f"{dimension} {label}"]
            if not isinstance(result, HSIAttributesSpatial):
                words.append(f"{wavelengths[band]:g} nm")
                file.update_tags(index, wavelength=repr(float(wavelengths[band])), wavelength_units="nm")
                file.update_tags(index, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=f"{wavelengths[band] / 1000:.6f}")
            if len(results) > 1:
                file.update_tags(index, **{dimension: str(label)})
            file.set_band_description(index, ", ".join(words) or "attributions")
