"""Results as labelled arrays and files: the place of the scene, and every value bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import torch
import xarray as xr

from meteors_c import HSI, attr, io
from meteors_c.models import ExplainableModel
from tests.files.scenes import BANDS, COLUMNS, CRS, ROWS, TRANSFORM, WAVELENGTHS, geotiff, labelled, values


def scene(orientation: str = "CHW", **changes: Any) -> HSI:
    data = values(np.float32)
    data[:, 2, 3] = np.nan
    return HSI.from_xarray(labelled(data=data)).change_orientation(orientation).model_copy(update=changes)


def result(orientation: str = "CHW", **fields: Any) -> attr.HSIAttributes:
    hsi = scene(orientation)
    torch.manual_seed(3)
    attributes = torch.randn(BANDS, ROWS, COLUMNS).permute(*("CHW".index(letter) for letter in orientation))
    settings = {"attribution_method": "Saliency", "target": 2, "score": 0.5} | fields
    return attr.HSIAttributes(hsi=hsi, attributes=attributes, **settings)


def chw(one: attr.HSIAttributes) -> np.ndarray:
    return one.change_orientation("CHW").attributes.numpy()


@pytest.mark.parametrize("orientation", ["CHW", "HWC", "WCH"])
def test_xarray(orientation: str) -> None:
    one = result(orientation, standard_error=torch.rand(scene(orientation).image.shape))
    labelled_result = one.to_xarray()
    assert labelled_result.attributions.dims == ("wavelength", "y", "x")
    np.testing.assert_array_equal(labelled_result.attributions, chw(one))
    expected = one.change_orientation("CHW").standard_error
    np.testing.assert_array_equal(labelled_result.standard_error, expected)
    assert labelled_result.wavelength.values.tolist() == WAVELENGTHS
    assert labelled_result.rio.crs == CRS
    assert labelled_result.rio.transform() == TRANSFORM
    np.testing.assert_array_equal(labelled_result.binary_mask, scene().binary_mask[0])
    assert labelled_result.attrs["method"] == "Saliency"
    assert labelled_result.attrs["target"] == 2
    assert labelled_result.attrs["score"] == 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_geotiff_in_rasterio(tmp_path: Path, dtype: torch.dtype) -> None:
    one = result("HWC")
    one.attributes = one.attributes.to(dtype)
    one.attributes[0, 0, 0], one.attributes[0, 0, 1] = float("nan"), -0.0
    one.to_geotiff(tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs == CRS
        assert file.transform == TRANSFORM
        wide = one.change_orientation("CHW").attributes
        wide = wide.float() if wide.dtype.itemsize == 2 else wide
        assert file.read().tobytes() == np.ascontiguousarray(wide.numpy()).tobytes()
        assert [file.tags(i)["wavelength"] for i in file.indexes] == [repr(w) for w in WAVELENGTHS]
        assert file.descriptions[1] == "480 nm"
        assert file.tags()["method"] == "Saliency"
        assert json.loads(file.tags()["target"]) == 2
        np.testing.assert_array_equal(file.dataset_mask() > 0, scene().binary_mask[0])
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]
    assert io.open_scene(tmp_path / "map.tif").wavelength.values.tolist() == WAVELENGTHS


def test_netcdf_in_rasterio_and_xarray(tmp_path: Path) -> None:
    one = result(standard_error=torch.rand(BANDS, ROWS, COLUMNS))
    one.to_netcdf(tmp_path / "map.nc")
    with rasterio.open(f"netcdf:{tmp_path}/map.nc:attributions") as file:
        assert file.crs == CRS
        assert file.transform == TRANSFORM
        assert file.read().tobytes() == chw(one).tobytes()
    with xr.open_dataset(tmp_path / "map.nc", decode_coords="all") as back:
        assert back.attributions.values.tobytes() == chw(one).tobytes()
        assert back.attrs["method"] == "Saliency"
        assert back.rio.crs == CRS
    again = io.open_scene(tmp_path / "map.nc")
    assert again.rio.crs == CRS
    assert HSI.from_xarray(again).georeference == one.hsi.georeference


def test_spatial_and_spectral_results(tmp_path: Path) -> None:
    hsi = scene()
    plane = torch.rand(1, ROWS, COLUMNS).expand(BANDS, -1, -1)
    segments = torch.arange(ROWS * COLUMNS).reshape(1, ROWS, COLUMNS).expand(BANDS, -1, -1)
    spatial = attr.HSIAttributesSpatial(hsi=hsi, attributes=plane, mask=segments)
    assert spatial.to_xarray().attributions.dims == ("y", "x")
    np.testing.assert_array_equal(spatial.to_xarray().segments, segments[0])
    spatial.to_geotiff(tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.count == 1
        np.testing.assert_array_equal(file.read(1), plane[0])
    mask = torch.tensor([1, 1, 2, 2]).reshape(BANDS, 1, 1).expand(BANDS, ROWS, COLUMNS)
    spectral = attr.HSIAttributesSpectral(hsi=hsi, attributes=mask * 0.5, mask=mask, band_names={"a": 1, ("b", "c"): 2})
    named = spectral.to_xarray()
    assert named.attributions.dims == ("wavelength",)
    assert named.attributions.values.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert json.loads(named.attrs["band_names"]) == {"a": 1, "b/c": 2}
    spectral.to_netcdf(tmp_path / "map.nc")
    with xr.open_dataset(tmp_path / "map.nc") as back:
        assert back.attributions.values.tolist() == [0.5, 0.5, 1.0, 1.0]


def test_reports_of_a_run(tmp_path: Path) -> None:
    model = ExplainableModel(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(BANDS * ROWS * COLUMNS, 3)).eval(), "classification"
    )
    results = attr.Occlusion(model).get_spatial_attributes(scene(), target="all", sliding_window_shapes=2, strides=2)
    whole = io.to_xarray(results)
    assert whole.attributions.dims == ("target", "y", "x")
    assert whole.target.values.tolist() == [0, 1, 2]
    for i, one in enumerate(results):
        np.testing.assert_array_equal(whole.attributions.sel(target=i), one.flattened_attributes.detach())
    assert json.loads(whole.attrs["report"])[0]["evaluations"] == results[0].report.evaluations
    io.to_geotiff(results, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.count == 3
        assert file.descriptions == ("target 0", "target 1", "target 2")
        np.testing.assert_array_equal(file.read(3), results[2].flattened_attributes.detach())
        assert json.loads(file.tags()["target"]) == [0, 1, 2]
    io.to_netcdf(results, tmp_path / "map.nc")
    with xr.open_dataset(tmp_path / "map.nc", decode_coords="all") as back:
        xr.testing.assert_equal(back.attributions.drop_vars("spatial_ref"), whole.attributions.drop_vars("spatial_ref"))
    assert json.loads(results[0].to_xarray().attrs["report"])["method"] == results[0].report.method


def test_results_that_differ_otherwise() -> None:
    one, other = result(), result(attribution_method="Occlusion")
    assert io.to_xarray([one, other]).method.values.tolist() == ["Saliency", "Occlusion"]
    assert io.to_xarray([one, result()]).sizes["result"] == 2
    assert io.to_xarray([one]).sizes["target"] == 1
    elsewhere = attr.HSIAttributes(hsi=scene(georeference=None), attributes=one.attributes)
    with pytest.raises(ValueError, match=r"results\[1\]"):
        io.to_xarray([one, elsewhere])
    masked = scene()
    masked = masked.model_copy(update={"binary_mask": masked.binary_mask & (torch.arange(COLUMNS) != 1)})
    elsewhere = attr.HSIAttributes(hsi=masked, attributes=one.attributes)
    with pytest.raises(ValueError, match=r"results\[1\].*binary_mask"):
        io.to_xarray([one, elsewhere])
    with pytest.raises(ValueError, match="none"):
        io.to_xarray([])
    with pytest.raises(TypeError, match="not NoneType"):
        io.to_xarray(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not int"):
        io.to_geotiff([3], "x.tif")  # type: ignore[list-item]


def test_without_a_place(tmp_path: Path) -> None:
    one = result()
    one.hsi = one.hsi.model_copy(update={"georeference": None})
    assert "x" not in one.to_xarray().coords
    with pytest.warns(UserWarning, match="no CRS"):
        one.to_geotiff(tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.crs is None
        assert file.read().tobytes() == chw(one).tobytes()


def test_what_can_not_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="result"):
        io.save(None, tmp_path / "a.npz")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="six numbers"):
        io.Georeference.from_transform((30.0, 500000.0), 2, 3)


def test_a_mask_in_a_file_is_told(tmp_path: Path) -> None:
    result().to_geotiff(tmp_path / "map.tif")
    with pytest.warns(UserWarning, match="mask in the file"):
        assert io.open_scene(tmp_path / "map.tif").shape == (BANDS, ROWS, COLUMNS)


def test_pixels_that_are_not_evenly_spaced(tmp_path: Path) -> None:
    array = labelled().drop_vars("spatial_ref").assign_coords(y=-30.0 * np.arange(ROWS) ** 2).rio.write_crs(CRS)
    hsi = HSI.from_xarray(array)
    one = attr.HSIAttributes(hsi=hsi, attributes=torch.ones(BANDS, ROWS, COLUMNS))
    np.testing.assert_array_equal(one.to_xarray()["y"], array["y"])
    with pytest.warns(UserWarning, match="no transform"):
        one.to_geotiff(tmp_path / "map.tif")


def test_a_place_of_another_image_is_refused(tmp_path: Path) -> None:
    hsi = scene()
    part = HSI(image=hsi.image[:, :3, :2], wavelengths=WAVELENGTHS, georeference=hsi.georeference)
    one = attr.HSIAttributes(hsi=part, attributes=torch.zeros(BANDS, 3, 2))
    for write in (one.to_geotiff, one.to_netcdf):
        with pytest.raises(ValueError, match=r"\(5, 6\) rows and columns, but the image has \(3, 2\)"):
            write(tmp_path / "map")
    assert not list(tmp_path.iterdir())


def test_places_askew(tmp_path: Path) -> None:
    turned = TRANSFORM * rasterio.Affine.rotation(20)
    place = io.Georeference.from_transform(tuple(turned), ROWS, COLUMNS, CRS.to_wkt())
    assert place.x is None
    one = attr.HSIAttributes(hsi=scene(georeference=place), attributes=torch.rand(BANDS, ROWS, COLUMNS))
    one.to_geotiff(tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.transform.almost_equals(turned)
    assert one.to_xarray().rio.transform().almost_equals(turned)


def test_a_file_that_is_there_is_replaced_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.tif"
    path.write_text("before")
    with pytest.raises(IsADirectoryError):
        result().to_geotiff(tmp_path)
    with pytest.raises(FileNotFoundError, match="folder"):
        result().to_netcdf(tmp_path / "none" / "map.nc")
    broken = result()
    broken.hsi.georeference = io.Georeference("no CRS at all", None)
    for write in (broken.to_geotiff, broken.to_netcdf):
        with pytest.raises(ValueError, match="crs of hsi.georeference"):
            write(path)

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("meteors_c.io.results._write_bands", fail)  # in the middle of the file
        with pytest.raises(KeyboardInterrupt):
            result().to_geotiff(path)
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["map.tif"]
    result().to_geotiff(path)
    assert [one.name for one in tmp_path.iterdir()] == ["map.tif"]


def test_npz_keeps_the_place(tmp_path: Path) -> None:
    one = result()
    one.save(tmp_path / "a.npz")
    back = attr.HSIAttributes.load(tmp_path / "a.npz")
    assert back == one
    assert back.hsi.georeference == one.hsi.georeference
    assert back.hsi.source == one.hsi.source


def test_missing_packages_are_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "rasterio", None)
    for call in (lambda: result().to_geotiff(tmp_path / "a.tif"), lambda: io.open_scene("NAME:x")):
        with pytest.raises(ImportError, match=r"meteors_c\[geo\]"):
            call()


@pytest.mark.parametrize("written", [True, False])
def test_a_part_of_a_grid_that_is_askew_lies_where_it_does(tmp_path: Path, written: bool) -> None:
    turned = TRANSFORM * rasterio.Affine.rotation(20)
    geotiff(tmp_path / "askew.tif", tags=[{"wavelength": f"{one} nm"} for one in WAVELENGTHS], transform=turned)
    if written:
        whole = io.open_scene(tmp_path / "askew.tif")
    else:  # as rioxarray itself opens it
        opened = rioxarray.open_rasterio(tmp_path / "askew.tif").rename(band="wavelength")
        whole = opened.assign_coords(wavelength=("wavelength", WAVELENGTHS, {"units": "nm"}))
    for part, shift, step in (
        (whole.isel(y=slice(1, 4), x=slice(2, 6)), (2, 1), (1, 1)),
        (whole.isel(y=slice(None, None, 2), x=slice(1, None, 3)), (0.5 + 1 - 1.5, 0.5 - 1), (3, 2)),
        (whole.isel(y=slice(4, 5), x=slice(3, 4)), (3, 4), (1, 1)),
    ):
        wanted = turned * rasterio.Affine.translation(*shift) * rasterio.Affine.scale(*step)
        hsi = HSI.from_xarray(part)
        attr.HSIAttributes(hsi=hsi, attributes=torch.rand(hsi.image.shape)).to_geotiff(tmp_path / "map.tif")
        with rasterio.open(tmp_path / "map.tif") as file:
            assert file.transform.almost_equals(wanted, 1e-6)
            assert file.crs == CRS
    uneven = HSI.from_xarray(whole.isel(x=[0, 1, 4]))
    assert uneven.georeference is not None
    assert uneven.georeference.transform is None


def test_pixels_that_only_count_are_no_place(tmp_path: Path) -> None:
    bare = xr.DataArray(values(np.float32), dims=("wavelength", "y", "x"), coords={"wavelength": WAVELENGTHS})
    bare = bare.assign_coords(wavelength=("wavelength", WAVELENGTHS, {"units": "nm"}))
    counted = bare.assign_coords(x=np.arange(COLUMNS), y=np.arange(ROWS))
    for array in (bare, counted, counted.assign_coords(x=np.arange(COLUMNS) + 0.5, y=np.arange(ROWS) + 0.5)):
        assert HSI.from_xarray(array).georeference is None


def test_the_warning_of_a_missing_crs_names_the_file_alone(tmp_path: Path) -> None:
    one = attr.HSIAttributes(
        hsi=HSI(image=torch.rand(2, 3, 4), wavelengths=[500.0, 600.0]), attributes=torch.rand(2, 3, 4)
    )
    with pytest.warns(UserWarning, match=r"so 'map\.tif' has none"):
        one.to_geotiff(tmp_path / "map.tif")
