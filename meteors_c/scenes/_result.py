"""The dataset that maps of a scene are, without its values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from meteors_c._optional import import_optional
from meteors_c._version import __version__
from meteors_c.io._nodata import COORDINATE
from meteors_c.io.georeference import transform_of_part
from meteors_c.scenes._grid import Grid
from meteors_c.scenes._source import Scene, kept_attributes

__all__ = ["label_of", "template_of"]


def label_of(targets: list[Any]) -> np.ndarray:
    """Return the coordinates of the targets: their indices where each has one, else words."""
    if all(isinstance(target, int) for target in targets):
        return np.asarray(targets, dtype=np.int64)
    if targets == [None]:
        return np.zeros(1, dtype=np.int64)
    return np.asarray([str(target) for target in targets])


def template_of(
    scene: Scene, grid: Grid, targets: list[Any], keep_values: bool, method: str, says: dict[str, Any]
) -> Any:
    """Return a dataset of NaN in memory; `says` are further attributes.

    The arrays that a folder holds are not touched there, so they take no memory.
    """
    xarray = import_optional("xarray", "xarray", "geo", "maps of whole scenes")
    coords = _coords(scene, grid) | {"target": label_of(targets), "class": grid.classes}
    shape, dtype = grid.shape, scene.result_dtype
    count, bands = len(targets), scene.shape[0]
    variables = {
        "map": (("target", "y", "x"), np.broadcast_to(np.array(np.nan, dtype), (count, *shape))),
        "mean_spectrum": (
            ("target", "class", "wavelength"),
            np.full((count, len(grid.classes), bands), np.nan),
        ),
        "pixels": (("class",), np.zeros(len(grid.classes), dtype=np.int64)),
    }
    if keep_values:
        empty = np.broadcast_to(np.array(np.nan, dtype), (count, bands, *shape))
        variables["values"] = (("target", "wavelength", "y", "x"), empty)
    if len(grid.kept):
        variables["pixel_values"] = (
            ("target", "pixel", "wavelength"),
            np.full((count, len(grid.kept), bands), np.nan, dtype),
        )
        variables["pixel_spectra"] = (("pixel", "wavelength"), np.full((len(grid.kept), bands), np.nan, dtype))
        coords |= {"row": ("pixel", grid.kept[:, 0]), "column": ("pixel", grid.kept[:, 1])}
    dataset = xarray.Dataset(variables, coords)
    dataset["map"].attrs["long_name"] = f"{method}, sum over bands, or groups of them"
    dataset["mean_spectrum"].attrs["long_name"] = f"{method}, mean over the pixels of a class"
    dataset["pixels"].attrs["long_name"] = "explained pixels"
    if len(grid.kept):
        dataset["pixel_values"].attrs["long_name"] = f"{method}, of single pixels"
        dataset["pixel_spectra"].attrs["long_name"] = "the scene at single pixels"
    for name in ("map", "values"):
        if name in dataset and "spatial_ref" in dataset.coords:
            dataset[name].encoding["grid_mapping"] = "spatial_ref"
    dataset.attrs = {
        **kept_attributes(scene.array),
        "method": method,
        "target": json.dumps([str(target) if isinstance(target, tuple) else target for target in targets]),
        "meteors_c": __version__,
        **says,
    }
    return dataset


def _coords(scene: Scene, grid: Grid) -> dict[str, Any]:
    """Return the coordinates of the scene for the pixels of the map."""
    places = slice(grid.start, None, grid.stride)
    kept = scene.array.drop_vars((COORDINATE, "row", "column", "xc", "yc"), errors="ignore").isel(y=places, x=places)
    coords = {str(name): coord.compute() for name, coord in kept.coords.items()}
    for coord in coords.values():
        if coord.ndim == 0 and "GeoTransform" in coord.attrs:
            c, a, b, f, d, e = map(float, coord.attrs.pop("GeoTransform").split())
            # A part that was cut out of an array still has the transform of the whole: its coordinates know better.
            transform = transform_of_part(scene.array, (a, b, c, d, e, f), "y", "x")
            if transform is not None:
                coord.attrs["GeoTransform"] = " ".join(repr(number) for number in _strided(transform, grid))
    return coords


def _strided(transform: tuple[float, ...], grid: Grid) -> tuple[float, ...]:
    """Return GDAL's numbers of a transform for pixels that are as many times as large, about those of the map."""
    a, b, c, d, e, f = map(float, transform)
    shift, stride = grid.start + 0.5 - grid.stride / 2, grid.stride
    return c + shift * (a + b), a * stride, b * stride, f + shift * (d + e), d * stride, e * stride
