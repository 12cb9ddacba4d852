"""Images from arrays of other packages: the same numbers, bands and pixels, and what is missing as the mask."""

from __future__ import annotations

import copy
import itertools
import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array
import h5py
import numpy as np
import pytest
import rasterio
import spectral
import torch
import xarray as xr

from meteors_c import HSI, attr, io
from meteors_c.exceptions import ShapeMismatchError, ValidationError
from meteors_c.models import ExplainableModel
from tests.files.scenes import (
    BANDS,
    COLUMNS,
    MICROMETRES,
    NODATA,
    ROWS,
    TRANSFORM,
    WAVELENGTHS,
    envi,
    geotiff,
    labelled,
    values,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("dims", list(itertools.permutations(("wavelength", "y", "x"))))
def test_any_order_of_dimensions(dims: tuple[str, str, str]) -> None:
    hsi = HSI.from_xarray(labelled(dims))
    assert hsi.orientation == ("C", "H", "W")
    np.testing.assert_array_equal(hsi.image, values())
    assert hsi.wavelengths.tolist() == WAVELENGTHS
    assert hsi.binary_mask.all()
    assert hsi.georeference.transform == tuple(TRANSFORM)[:6]
    assert hsi == HSI(image=labelled(dims))


def test_no_copy_where_nothing_is_missing() -> None:
    array = labelled(("y", "x", "wavelength"))
    array.values[0, 0, 0] = 123.0
    assert HSI.from_xarray(array).image.data_ptr() == array.values.ctypes.data


def test_descending_wavelengths_stay_with_their_bands() -> None:
    descending = labelled(wavelengths=sorted(WAVELENGTHS, reverse=True))
    hsi = HSI.from_xarray(descending)
    assert hsi.wavelengths.tolist() == sorted(WAVELENGTHS, reverse=True)
    np.testing.assert_array_equal(hsi.image, values())
    red, expected = hsi.extract_band_by_name("R", normalize=False), descending.sel(wavelength=650.0).values
    np.testing.assert_array_equal(red, expected)


def test_names_of_dimensions_and_coordinates() -> None:
    other = labelled(("x", "wavelength", "y")).rename(wavelength="band", x="lon", y="lat")
    other = other.drop_vars("band").assign_coords(centre_wavelength=("band", MICROMETRES, {"units": "µm"}))
    for hsi in (HSI.from_xarray(other, spectral="centre_wavelength"), HSI.from_xarray(other)):
        np.testing.assert_array_equal(hsi.image, values())
        assert hsi.wavelengths.tolist() == WAVELENGTHS
    with pytest.raises(ValueError, match="neither a dimension nor a coordinate.*'spectrum'"):
        HSI.from_xarray(other, spectral="spectrum")
    bare = xr.DataArray(values(np.float32))
    np.testing.assert_array_equal(HSI(image=bare, wavelengths=WAVELENGTHS).image, values())
    turned = HSI(image=bare.transpose("dim_1", "dim_2", "dim_0"), wavelengths=WAVELENGTHS, orientation="HWC")
    np.testing.assert_array_equal(turned.change_orientation("CHW").image, values())
    with pytest.raises(ValueError, match="give spectral="):
        HSI.from_xarray(bare)


def test_missing_values_become_the_mask() -> None:
    data = values(np.float32)
    data[0, 0, 0] = np.nan
    data[:, 2, 3] = np.nan
    array = labelled(("y", "wavelength", "x"), data)
    hsi = HSI.from_xarray(array)
    np.testing.assert_array_equal(hsi.binary_mask, ~np.isnan(data))
    np.testing.assert_array_equal(hsi.image, np.nan_to_num(data, nan=0.0))
    assert np.isnan(array.values).sum() == 1 + BANDS  # the caller's array is as it was
    assert "5 values are NaN or no-data and masked" in hsi.source


@pytest.mark.parametrize("how", ["argument", "rio", "attribute"])
def test_no_data_becomes_the_mask(how: str) -> None:
    data = values(np.int16)
    data[1, 1, 1] = NODATA
    array = labelled(data=data)
    array = array.rio.write_nodata(NODATA) if how == "rio" else array
    array = array.assign_attrs(missing_value=NODATA) if how == "attribute" else array
    hsi = HSI.from_xarray(array, nodata=NODATA if how == "argument" else None)
    np.testing.assert_array_equal(hsi.binary_mask, data != NODATA)
    assert hsi.image.dtype == torch.int16
    assert hsi.image[1, 1, 1] == 0
    # A marker that the dtype can't hold marks nothing.
    assert HSI.from_xarray(labelled(data=values(np.uint8)), nodata=NODATA).binary_mask.all()


def test_a_value_that_marked_missing_ones_in_the_file_may_be_one_once_decoded(tmp_path: Path) -> None:
    """Packed as value = 0.5 stored + 1, so that the value 0 is stored as -2 and a stored 0 is missing."""
    data = values(np.float32) * 0.5
    data[0, 0, 0], data[1, 1, 1] = np.nan, 0.0
    data[data == 1.0] = 1.5  # what would be stored as 0
    packing = {"dtype": "int16", "scale_factor": 0.5, "add_offset": 1.0, "_FillValue": 0}
    labelled(data=data).to_dataset(name="reflectance").to_netcdf(tmp_path / "a.nc", encoding={"reflectance": packing})
    with xr.open_dataset(tmp_path / "a.nc", decode_coords="all") as file:
        hsi = HSI.from_xarray(file["reflectance"])
    np.testing.assert_array_equal(hsi.binary_mask, ~np.isnan(data))
    np.testing.assert_array_equal(hsi.image, np.nan_to_num(data))


def test_a_mask_of_the_caller_is_combined() -> None:
    data = values(np.float32)
    data[0, 0, 0] = data[0, 4, 5] = np.nan
    given = np.ones((ROWS, COLUMNS), dtype=bool)
    given[0, 0] = given[1, 1] = False
    expected = ~np.isnan(data) & given
    as_array = xr.DataArray(given.T, dims=("x", "y"))
    for mask in (given, torch.from_numpy(given), as_array):
        hsi = HSI.from_xarray(labelled(("x", "wavelength", "y"), data), binary_mask=mask)
        np.testing.assert_array_equal(hsi.binary_mask, expected)
        assert "1 outside the given mask, 1 inside" in hsi.source


def test_pixels_missing_in_all_bands_take_one_plane_of_memory() -> None:
    data = values(np.float32)
    data[:, 1, 1] = np.nan
    assert HSI.from_xarray(labelled(data=data)).binary_mask.stride(0) == 0


@pytest.mark.parametrize("method", [attr.IntegratedGradients, attr.Saliency, attr.InputXGradient, attr.Occlusion])
def test_missing_values_leave_attributions_finite(method: Any) -> None:
    data = values(np.float32)
    data[:, 2, 3] = np.nan
    data[1, 0, 0] = np.nan
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Conv2d(BANDS, 3, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten())
    network.append(torch.nn.Linear(3 * ROWS * COLUMNS, 2))
    model = ExplainableModel(network.eval(), "classification")
    hsi = HSI.from_xarray(labelled(data=data))
    filled = HSI.from_xarray(labelled(data=np.nan_to_num(data, nan=777.0)), binary_mask=~np.isnan(data))
    one, other = (method(model).attribute(image, target=1).attributes for image in (hsi, filled))
    assert one.isfinite().all()
    torch.testing.assert_close(one, other)  # what stood there has no part in it


def test_units_and_wavelengths() -> None:
    assert HSI.from_xarray(labelled(unit="Micrometers", wavelengths=MICROMETRES)).wavelengths.tolist() == WAVELENGTHS
    with pytest.warns(UserWarning, match="taken for nm.*wavenumbers"):
        assert HSI.from_xarray(labelled(unit=None)).wavelengths.tolist() == WAVELENGTHS
    with pytest.warns(UserWarning, match="taken for um"):
        assert HSI.from_xarray(labelled(unit=None, wavelengths=MICROMETRES)).wavelengths.tolist() == WAVELENGTHS
    assert HSI.from_xarray(labelled(unit="x"), wavelength_unit="nm").wavelengths.tolist() == WAVELENGTHS
    with pytest.raises(ValueError, match="'x' is unknown"):
        HSI.from_xarray(labelled(unit="x"))
    with pytest.raises(ValueError, match="could be several"):
        HSI.from_xarray(labelled(unit=None, wavelengths=[1, 2, 3, 4]))
    with pytest.raises(ValidationError, match=r"wavelengths\[2\] is nan"):
        HSI.from_xarray(labelled(wavelengths=[500.0, 600.0, np.nan, 700.0]))
    given = HSI.from_xarray(labelled(), wavelengths=MICROMETRES, wavelength_unit="um")
    assert given.wavelengths.tolist() == WAVELENGTHS


@pytest.mark.parametrize("name", ["wavenumber", "wave_number", "Wavenumbers"])
def test_wavenumbers_are_not_taken_for_wavelengths(name: str) -> None:
    """In cm-1, infrared scenes have numbers that could be nm."""
    array = labelled(unit=None, wavelengths=[2500.0, 1800.0, 1000.0, 700.0]).rename(wavelength=name)
    with pytest.raises(ValueError, match="wavenumber"):
        HSI.from_xarray(array, spectral=name)
    both = array.assign_coords(wavelength=(name, WAVELENGTHS, {"units": "nm"}))
    assert HSI.from_xarray(both).wavelengths.tolist() == WAVELENGTHS


def test_what_is_none() -> None:
    with pytest.raises(TypeError, match="not Dataset; take one of its variables"):
        HSI.from_xarray(labelled().to_dataset(name="a"))
    with pytest.raises(TypeError, match="not ndarray"):
        HSI.from_xarray(values())
    with pytest.raises(ShapeMismatchError, match="three dimensions"):
        HSI.from_xarray(labelled()[0])
    with pytest.raises(ValueError, match="no wavelengths along"):
        HSI.from_xarray(labelled().drop_vars("wavelength"))


def test_subclasses_stay_themselves() -> None:
    class Scene(HSI):
        pass

    assert type(Scene.from_xarray(labelled())) is Scene


# ---------------------------------------------------------------- other packages


def test_dask_arrays_are_computed(caplog: pytest.LogCaptureFixture) -> None:
    array = dask.array.from_array(values(np.float32), chunks=(2, 3, 3))
    hsi = HSI(image=array, wavelengths=WAVELENGTHS)
    np.testing.assert_array_equal(hsi.image, values())
    with caplog.at_level(logging.INFO, logger="meteors_c"):
        lazy = HSI.from_xarray(labelled().chunk({"y": 2}))
    assert lazy == HSI.from_xarray(labelled())
    assert "image from" in caplog.text
    with pytest.raises(ValidationError, match="wavelengths"):
        HSI(image=array)


COMPUTED = """
import sys
import dask, dask.array as da, numpy as np, xarray
from benchmarks.memory import peak_bytes
from meteors_c import HSI

bands, side, kind, missing = 100, 800, sys.argv[1], sys.argv[2]
calls = []

def chunk(block_info):
    (rows, columns), (first, _) = block_info[None]["array-location"][1:], block_info[None]["array-location"][0]
    calls.append((first, rows[0], columns[0]))
    values = np.full(block_info[None]["chunk-shape"], rows[0] + 1, dtype=np.float32)
    if missing == "pixels":
        values[:, 0, 0] = np.nan
    if missing == "values":
        values[0, 0, 0] = np.nan
    return values

lazy = da.map_blocks(chunk, chunks=((50, 50), (100,) * 8, (100,) * 8), dtype=np.float32)
if kind != "array":
    lazy = xarray.DataArray(lazy, dims=("wavelength", "y", "x")).transpose("y", "x", "wavelength")
wavelengths = np.linspace(400, 2400, bands)
HSI.from_xarray(lazy[:2, :2] if kind != "array" else xarray.DataArray(lazy[:, :2, :2], dims=("wavelength", "y", "x")),
                wavelengths=wavelengths)  # what is imported when it is used
calls.clear()
before = peak_bytes()
with dask.config.set(num_workers=2):
    hsi = HSI(image=lazy, wavelengths=wavelengths) if kind == "array" else HSI.from_xarray(
        lazy.assign_coords(wavelength=("wavelength", wavelengths, {"units": "nm"})))
image = bands * side * side * 4
assert hsi.image.shape == (bands, side, side)
assert (hsi.image[:, 1, 1] == 1).all() and (hsi.image[:, 750, 1] == 701).all()
assert len(calls) == len(set(calls)) == 2 * 64, len(calls)
print((peak_bytes() - before) / image)
"""


@pytest.mark.parametrize(
    ("kind", "missing"), [("array", "no"), ("xarray", "no"), ("xarray", "pixels"), ("xarray", "values")]
)
def test_dask_arrays_are_computed_in_one_pass_and_not_held_twice(kind: str, missing: str) -> None:
    """The image has 256 MB; a mask that differs by band is a quarter of it, and part of the result."""
    done = subprocess.run(
        [sys.executable, "-c", COMPUTED, kind, missing], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < (1.4 if missing == "values" else 1.2)


def test_h5py_datasets(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = values().transpose(1, 2, 0)
        data = data.copy()
        data[0, 0, 0] = NODATA
        file["cube"] = data
        plain = HSI(image=file["cube"], wavelengths=WAVELENGTHS, orientation="HWC")
        np.testing.assert_array_equal(plain.image, data)
        assert plain.binary_mask.all()
        file["cube"].attrs["_FillValue"] = np.int16(NODATA)
        masked = HSI(image=file["cube"], wavelengths=WAVELENGTHS, orientation="HWC")
        np.testing.assert_array_equal(masked.binary_mask, data != NODATA)
        assert "cube" in masked.source


def test_rasterio_datasets(tmp_path: Path) -> None:
    tags = [{"wavelength": str(w), "wavelength_units": "um"} for w in MICROMETRES]
    data = values()
    data[2, 2, 2] = NODATA
    path = geotiff(tmp_path / "a.tif", data, tags, nodata=NODATA)
    with rasterio.open(path) as file:
        hsi = HSI(image=file)
        np.testing.assert_array_equal(hsi.image, np.where(data == NODATA, 0, data))
        np.testing.assert_array_equal(hsi.binary_mask, data != NODATA)
        assert hsi.wavelengths.tolist() == WAVELENGTHS
        assert hsi.georeference.crs == file.crs.to_wkt()
        assert hsi.georeference.transform == tuple(file.transform)[:6]
        assert HSI(image=file, wavelengths=[1.0, 2.0, 3.0, 4.0]).wavelengths.tolist() == [1, 2, 3, 4]
        with pytest.raises(ValueError, match="CHW"):
            HSI(image=file, orientation="HWC")
    assert hsi == HSI.from_xarray(io.open_scene(path))


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_spy_images(tmp_path: Path, interleave: str, loaded: bool) -> None:
    data = values()
    data[0, 3, 1] = NODATA
    path = envi(tmp_path, interleave, data, data_ignore_value=str(NODATA), bbl="{1, 1, 0, 1}")
    image = spectral.open_image(str(path))
    hsi = HSI(image=image.load() if loaded else image)
    kept = [0, 1, 3]
    np.testing.assert_array_equal(hsi.image, np.where(data == NODATA, 0, data)[kept])
    np.testing.assert_array_equal(hsi.binary_mask, (data != NODATA)[kept])
    assert hsi.wavelengths.tolist() == [WAVELENGTHS[i] for i in kept]
    assert hsi.image.dtype == (torch.float32 if loaded else torch.int16)
    assert hsi.georeference.transform == tuple(TRANSFORM)[:6]
    assert "1 of 4 bands are marked bad" in hsi.source


def test_spy_scale_factor(tmp_path: Path) -> None:
    path = envi(tmp_path, reflectance_scale_factor="100", wavelength=None, fwhm=None)
    image = spectral.open_image(str(path))
    with pytest.raises(ValidationError, match="no wavelengths"):
        HSI(image=image)
    hsi = HSI(image=image, wavelengths=WAVELENGTHS)
    np.testing.assert_allclose(hsi.image, values() / 100, rtol=1e-6)


# ---------------------------------------------------------------- the fields


def test_spy_images_that_are_rotated_say_that_they_have_no_place(tmp_path: Path) -> None:
    rotated = "{UTM, 1, 1, 500000, 4000000, 30, 30, 33, North, WGS-84, units=Meters, rotation=20}"
    hsi = HSI(image=spectral.open_image(str(envi(tmp_path, map_info=rotated))))
    assert hsi.georeference is None
    assert "no georeference" in hsi.source


def test_georeference_survives() -> None:
    hsi = HSI.from_xarray(labelled())
    place = hsi.georeference
    np.testing.assert_allclose(place.x, labelled().x)
    np.testing.assert_allclose(place.y, labelled().y)
    copies = [
        copy.copy(hsi),
        copy.deepcopy(hsi),
        hsi.model_copy(),
        pickle.loads(pickle.dumps(hsi)),
        hsi.change_orientation("HWC"),
        hsi.to("cpu"),
    ]
    for one in copies:
        assert one.georeference == place
        assert one.source == hsi.source
    assert copies[0] == copies[1] == copies[3] == hsi
    other = hsi.model_copy(update={"georeference": None})
    assert other != hsi
    assert other.georeference is None
    with pytest.raises(TypeError, match="crs"):
        hsi.georeference = "EPSG:32633"
    with pytest.raises(TypeError, match="source"):
        hsi.source = 3
    assert HSI(image=torch.rand(1, 2, 2), wavelengths=[500.0]).georeference is None


def test_pixels_that_are_not_evenly_spaced_have_no_transform() -> None:
    array = labelled().drop_vars("spatial_ref")
    place = HSI.from_xarray(array).georeference
    assert place.transform == pytest.approx(tuple(TRANSFORM)[:6])
    uneven = array.assign_coords(y=array["y"].values[0] - 30.0 * np.arange(ROWS) ** 2)
    place = HSI.from_xarray(uneven).georeference
    assert place.transform is None
    np.testing.assert_array_equal(place.y, uneven["y"])
    written = uneven.rio.write_transform(TRANSFORM)
    assert HSI.from_xarray(written).georeference.transform is None


def test_states_of_earlier_versions_are_read() -> None:
    hsi = HSI(image=torch.rand(1, 2, 2), wavelengths=[500.0])
    make, arguments, (fields, attributes) = hsi.__reduce__()
    old = make(*arguments)
    old.__setstate__((fields[:5], attributes))
    assert old == hsi


@pytest.mark.parametrize("unit", ["um", "µm", "μm", "Micrometers", " MICRONS ", "micrometre", "[um]"])
def test_wavelength_units(unit: str) -> None:
    hsi = HSI(image=torch.rand(4, 2, 2), wavelengths=MICROMETRES, wavelength_unit=unit)
    assert hsi.wavelengths.tolist() == WAVELENGTHS


def test_other_wavelength_units() -> None:
    def made(wavelengths: Any, unit: str | None) -> torch.Tensor:
        return HSI(image=torch.rand(2, 2, 2), wavelengths=wavelengths, wavelength_unit=unit).wavelengths

    assert made([5000.0, 7000.0], "Å").tolist() == [500.0, 700.0]
    assert made([5000, 7000], "angstrom").tolist() == [500.0, 700.0]
    assert made([4e-7, 5e-7], "m").tolist() == pytest.approx([400.0, 500.0])
    assert made(np.array([0.4, 0.5], dtype=np.float64), "um").dtype == torch.float64
    assert made([400, 500], "Nanometers").dtype == torch.int64
    for unit, word in [("cm-1", "wavenumbers"), ("GHz", "frequencies"), ("parsec", "unknown")]:
        with pytest.raises(ValueError, match=word):
            made([400.0, 500.0], unit)
    with pytest.raises(ValidationError, match=r"wavelengths\[1\] is 0"):
        made([0.4, 0.0], "um")


def test_micrometres_are_suspected(recwarn: pytest.WarningsRecorder) -> None:
    image = torch.rand(3, 2, 2)
    for harmless in ([1, 2, 3], [1.0, 2.0, 3.0], [450.5, 500.0, 600.0]):
        HSI(image=image, wavelengths=harmless)
    HSI(image=image, wavelengths=[0.4, 0.5, 2.5], wavelength_unit="nm")
    assert not recwarn.list
    with pytest.warns(UserWarning, match="0.4 to 2.5 look like micrometres"):
        HSI(image=image, wavelengths=[0.4, 0.5, 2.5])
