"""Small scenes on disk, in the formats that sensors come in, with every number known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr

BANDS, ROWS, COLUMNS = 4, 5, 6
WAVELENGTHS = [650.0, 480.0, 860.0, 2300.0]  # neither ascending nor descending
MICROMETRES = [0.65, 0.48, 0.86, 2.3]
NODATA = -9999
CRS = rasterio.crs.CRS.from_epsg(32633)
TRANSFORM = rasterio.Affine(30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0)


def values(dtype: Any = np.int16) -> np.ndarray:
    """Different numbers in every place, (BANDS, ROWS, COLUMNS)."""
    return (np.arange(BANDS * ROWS * COLUMNS).reshape(BANDS, ROWS, COLUMNS) + 1).astype(dtype)


def envi(folder: Path, interleave: str = "bsq", data: np.ndarray | None = None, **fields: str | None) -> Path:
    """An ENVI file; fields of the header may be replaced, or left out by None. Returns the header's path."""
    data = values() if data is None else data
    order = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}[interleave]
    kinds = {"int16": 2, "float32": 4, "uint16": 12, "uint8": 1}
    header: dict[str, str | None] = {
        "samples": str(data.shape[2]),
        "lines": str(data.shape[1]),
        "bands": str(data.shape[0]),
        "header offset": "0",
        "file type": "ENVI Standard",
        "data type": str(kinds[data.dtype.name]),
        "interleave": interleave,
        "byte order": "0",
        "map info": "{UTM, 1, 1, 500000, 4000000, 30, 30, 33, North, WGS-84, units=Meters}",
        "wavelength units": "Micrometers",
        "wavelength": "{" + ", ".join(map(str, MICROMETRES)) + "}",
        "fwhm": "{0.01, 0.02, 0.01, 0.03}",
    }
    header |= {name.replace("_", " "): text for name, text in fields.items()}
    path = folder / f"{interleave}.hdr"
    data.transpose(order).astype(data.dtype.newbyteorder("<")).tofile(path.with_suffix(".img"))
    lines = [f"{name} = {text}" for name, text in header.items() if text is not None]
    path.write_text("\n".join(["ENVI", *lines, ""]))
    return path


def geotiff(
    path: Path, data: np.ndarray | None = None, tags: list[dict[str, str]] | None = None, **profile: Any
) -> Path:
    data = values() if data is None else data
    settings: dict[str, Any] = {
        "driver": "GTiff", "count": len(data), "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype,
        "crs": CRS, "transform": TRANSFORM,
    }  # fmt: skip
    with rasterio.open(path, "w", **(settings | profile)) as file:
        file.write(data)
        for i, tag in enumerate(tags or [], start=1):
            file.update_tags(i, **tag)
    return path


def labelled(
    dims: tuple[str, str, str] = ("wavelength", "y", "x"),
    data: np.ndarray | None = None,
    unit: str | None = "nm",
    wavelengths: Any = WAVELENGTHS,
) -> xr.DataArray:
    """A DataArray with its dimensions in any order."""
    attrs = {} if unit is None else {"units": unit}
    whole = xr.DataArray(
        values(np.float32) if data is None else data,
        dims=("wavelength", "y", "x"),
        coords={
            "wavelength": ("wavelength", list(wavelengths), attrs),
            "y": 4000000.0 - 30.0 * (np.arange(ROWS) + 0.5),
            "x": 500000.0 + 30.0 * (np.arange(COLUMNS) + 0.5),
        },
    )
    return whole.rio.write_crs(CRS).transpose(*dims)
