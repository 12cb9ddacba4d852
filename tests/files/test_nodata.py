"""Bands whose missing values are marked by different numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import xarray
from rasterio.shutil import copy as copy_raster

from meteors_c import HSI, attr, io, pages
from meteors_c.cli import main
from meteors_c.models import ExplainableModel
from tests.files.scenes import BANDS, COLUMNS, ROWS, WAVELENGTHS, geotiff, values

NODATA = [0.0, 7.0, None, -5.0]  # of each band
TAGS = [{"wavelength": str(w), "wavelength_units": "nm"} for w in WAVELENGTHS]


def data() -> np.ndarray:
    """Values that mark missing ones in one band, and are values in others."""
    found = values()
    found[:, 0, 0] = 0
    found[:, 0, 1] = 7
    found[:, 1, 0] = -5
    return found


def missing() -> np.ndarray:
    there = data()
    return np.stack(
        [there[b] == number if number is not None else there[b] != there[b] for b, number in enumerate(NODATA)]
    )


def vrt(folder: Path, array: np.ndarray | None = None, nodata: list[float | None] = NODATA) -> Path:
    """A virtual raster whose bands have no-data values of their own, which a GeoTIFF can't have."""
    array = data() if array is None else array
    path = folder / "scene.vrt"
    geotiff(folder / "scene.tif", array, TAGS)
    copy_raster(folder / "scene.tif", path, driver="VRT")
    text = path.read_text()
    for band, number in enumerate(nodata, start=1):
        head, mark, rest = text.partition(f'band="{band}"')
        end = rest.index(">") + 1
        said = "" if number is None else f"<NoDataValue>{number:g}</NoDataValue>"
        text = f"{head}{mark}{rest[:end]}{said}{rest[end:]}"
    path.write_text(text)
    with rasterio.open(path) as file:
        assert list(file.nodatavals) == nodata
    return path


def test_each_band_has_its_own(tmp_path: Path) -> None:
    scene = io.open_scene(vrt(tmp_path))
    assert scene.dtype == np.int16
    np.testing.assert_array_equal(scene.nodata, [0, 7, np.nan, -5])
    image = HSI.from_xarray(scene)
    np.testing.assert_array_equal(~image.binary_mask.numpy(), missing())
    np.testing.assert_array_equal(image.image, np.where(missing(), 0, data()))
    np.testing.assert_array_equal(~HSI.from_xarray(scene.transpose("y", "wavelength", "x")).binary_mask, missing())


@pytest.mark.parametrize("bands", [[3, 0], [2], [1, 2]])
def test_chosen_bands_keep_theirs(bands: list[int], tmp_path: Path) -> None:
    path = vrt(tmp_path)
    chosen, cut = io.open_scene(path, bands=bands), io.open_scene(path).isel(wavelength=bands)
    for scene in (chosen, cut):
        np.testing.assert_array_equal(~HSI.from_xarray(scene).binary_mask, missing()[bands])


def test_an_orientation_of_ones_own(tmp_path: Path) -> None:
    scene = io.open_scene(vrt(tmp_path)).transpose("y", "x", "wavelength")
    image = HSI(image=scene, orientation="HWC")
    np.testing.assert_array_equal(~image.binary_mask.numpy(), missing().transpose(1, 2, 0))


def test_one_for_all_stays_one(tmp_path: Path) -> None:
    scene = io.open_scene(vrt(tmp_path, nodata=[7.0] * BANDS))
    assert scene.rio.nodata == 7
    assert "nodata" not in scene.coords
    given = io.open_scene(vrt(tmp_path), nodata=0)
    np.testing.assert_array_equal(~HSI.from_xarray(given).binary_mask, data() == 0)


def test_a_dataset_of_rasterio(tmp_path: Path) -> None:
    with rasterio.open(vrt(tmp_path)) as file:
        np.testing.assert_array_equal(~HSI(image=file).binary_mask.numpy(), missing())


def test_scaled_values_are_missing_where_stored_ones_are(tmp_path: Path) -> None:
    path = vrt(tmp_path)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (2.0,) * BANDS, (1.0,) * BANDS
    with rasterio.open(path) as file:
        assert list(file.nodatavals) == NODATA
    scene = io.open_scene(path, scale=True)
    np.testing.assert_array_equal(np.isnan(scene), missing())
    np.testing.assert_array_equal(scene.where(~missing(), 0), np.where(missing(), 0, 2.0 * data() + 1))


def test_numbers_beyond_the_dtype_mark_nothing(tmp_path: Path) -> None:
    array = data().astype(np.uint8)
    image = HSI.from_xarray(
        xarray.DataArray(
            array,
            dims=("wavelength", "y", "x"),
            coords={
                "wavelength": ("wavelength", WAVELENGTHS, {"units": "nm"}),
                "nodata": ("wavelength", [-9999.0, 7.0, 0.5, 256.0]),
            },
        )
    )
    np.testing.assert_array_equal(~image.binary_mask.numpy(), (array == 7) & (np.arange(BANDS) == 1)[:, None, None])


def test_floats_are_compared_in_their_own_precision(tmp_path: Path) -> None:
    array = data().astype(np.float32)
    array[:, 2, 2] = -3.4e38
    array[:, 2, 3] = 0.1
    path = vrt(tmp_path, array, [-3.4e38, 0.1, None, 3.0])
    with rasterio.open(path) as file:
        numbers = file.nodatavals
    wanted = np.stack(
        [array[b] == np.float32(n) if n is not None else array[b] != array[b] for b, n in enumerate(numbers)]
    )
    assert wanted.sum() >= 2
    np.testing.assert_array_equal(~HSI.from_xarray(io.open_scene(path)).binary_mask, wanted)


def test_maps_of_scenes_leave_out_each_bands_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(BANDS * 9, 2)).eval()
    explainer = attr.InputXGradient(ExplainableModel(net, "classification"))
    scene = io.open_scene(vrt(tmp_path))
    with_mask = HSI.from_xarray(scene)
    found = attr.explain_scene(explainer, scene, window=3, target=0, values=True)
    want = attr.explain_scene(explainer, with_mask, window=3, target=0, values=True)
    np.testing.assert_array_equal(found["values"], want["values"])
    assert "nodata" not in found.coords
    # the pixel has -5 in all bands, and that is a value in all but the last
    assert (found["values"].values[0, :, 1, 0] == 0).tolist() == missing()[:, 1, 0].tolist() == [False] * 3 + [True]
    pages.write_maps(tmp_path / "page.html", scene, found)


def test_files_written_of_it_keep_it(tmp_path: Path) -> None:
    scene = io.open_scene(vrt(tmp_path)).rename("reflectance")
    scene.drop_attrs(deep=False).to_netcdf(tmp_path / "scene.nc", engine="h5netcdf")
    again = io.open_scene(tmp_path / "scene.nc", bands=[3, 1])
    np.testing.assert_array_equal(~HSI.from_xarray(again).binary_mask, missing()[[3, 1]])


def test_info_tells(tmp_path: Path, capsys: Any) -> None:
    assert main(["info", str(vrt(tmp_path))]) == 0
    told = capsys.readouterr().out
    lines = {line.split("  ")[0].strip(): line for line in told.splitlines()}
    assert "-5, 0, 7" in lines["no-data"]
    assert "1 band" in lines["no-data"]
    assert f"{int(missing().sum())} of {BANDS * ROWS * COLUMNS}" in lines["missing"]
