"""Scenes from files: values, wavelengths, bad bands, no-data and place, whatever the format."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import xarray as xr

from meteors_c import HSI, io
from meteors_c.io import _raster
from tests.files.scenes import (
    BANDS,
    COLUMNS,
    CRS,
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


@pytest.fixture(autouse=True)
def _no_other_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def check(scene: Any, bands: list[int] | None = None, data: np.ndarray | None = None) -> None:
    bands = list(range(BANDS)) if bands is None else bands
    assert scene.dims == ("wavelength", "y", "x")
    np.testing.assert_array_equal(scene.values, (values() if data is None else data)[bands])
    np.testing.assert_array_equal(scene.wavelength, np.array(WAVELENGTHS)[bands])
    np.testing.assert_array_equal(scene.band, np.array(bands) + 1)
    assert scene.wavelength.attrs["units"] == "nm"
    assert scene.rio.crs == CRS
    assert scene.rio.transform() == TRANSFORM


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("suffix", [".hdr", ".img"])
def test_envi(tmp_path: Path, interleave: str, suffix: str) -> None:
    scene = io.open_scene(envi(tmp_path, interleave).with_suffix(suffix))
    # The header's projection has no name; it is the same one.
    assert scene.rio.crs.to_dict() == CRS.to_dict() or scene.rio.crs == CRS
    check(scene.rio.write_crs(CRS))
    np.testing.assert_allclose(scene.fwhm, [10, 20, 10, 30])
    assert scene.attrs["wavelength_source_unit"] == "Micrometers"
    assert scene.dtype == np.int16


def test_what_the_header_says_is_kept(tmp_path: Path) -> None:
    data = values()
    data[0, 0, 0] = NODATA
    path = envi(tmp_path, data=data, data_ignore_value=str(NODATA), sensor_type="Hyperion", bbl="{1, 0, 1, 1}")
    scene = io.open_scene(path)
    check(scene.rio.write_crs(CRS), [0, 2, 3], data)
    assert scene.rio.nodata == NODATA
    assert scene.attrs["sensor"] == "Hyperion"
    assert scene.attrs["dropped_bands"] == [2]
    kept = io.open_scene(path, bad_bands="keep")
    assert kept.good_band.values.tolist() == [True, False, True, True]
    assert io.open_scene(path, nodata=7).rio.nodata == 7
    with pytest.raises(ValueError, match="bad_bands must be"):
        io.open_scene(path, bad_bands="no")


def test_scale_is_told_and_applied_where_wanted(tmp_path: Path) -> None:
    data = values()
    data[1, 2, 3] = NODATA
    path = envi(tmp_path, data=data, reflectance_scale_factor="10000", data_ignore_value=str(NODATA))
    with pytest.warns(UserWarning, match="as stored.*0.0001.*not applied"):
        scene = io.open_scene(path)
    np.testing.assert_array_equal(scene.values, data)
    assert scene.attrs["scale_factor"] == pytest.approx(1e-4)
    np.testing.assert_array_equal(io.open_scene(path, scale=False).values, data)
    scaled = io.open_scene(path, scale=True)
    expected = np.where(data == NODATA, np.nan, data * np.float32(1e-4))
    np.testing.assert_allclose(scaled.values, expected, rtol=1e-6)
    assert np.isnan(scaled.rio.nodata)
    assert "scale_factor" not in scaled.attrs


def test_scales_of_a_tiff_that_differ_by_band(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", tags=[{"wavelength": str(w), "wavelength_units": "nm"} for w in WAVELENGTHS])
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (1.0, 2.0, 3.0, 4.0), (0.0, 0.0, 5.0, 0.0)
    scene = io.open_scene(path, scale=True, bands=[2, 1])
    np.testing.assert_allclose(scene.values, [values()[2] * 3.0 + 5.0, values()[1] * 2.0])


@pytest.mark.parametrize(
    "tags",
    [
        [{"wavelength": str(w), "wavelength_units": "Nanometers"} for w in WAVELENGTHS],
        [{"WAVELENGTH": f"{w} µm"} for w in MICROMETRES],
        [{"central_wavelength": f"{w * 10} Angstroms"} for w in WAVELENGTHS],
    ],
)
def test_geotiff_tags(tmp_path: Path, tags: list[dict[str, str]]) -> None:
    check(io.open_scene(geotiff(tmp_path / "a.tif", tags=tags)))


def test_geotiff_of_other_tags(tmp_path: Path) -> None:
    by_name = geotiff(tmp_path / "names.tif")
    with rasterio.open(by_name, "r+") as file:
        file.descriptions = tuple(f"band {i} ({w} Nanometers)" for i, w in enumerate(WAVELENGTHS))
    check(io.open_scene(by_name))
    imagery = geotiff(tmp_path / "imagery.tif")
    with rasterio.open(imagery, "r+") as file:
        for i, w in enumerate(MICROMETRES, start=1):
            file.update_tags(i, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str(w), FWHM_UM="0.02")
    scene = io.open_scene(imagery)
    check(scene)
    np.testing.assert_allclose(scene.fwhm, 20.0)
    whole = geotiff(tmp_path / "whole.tif")
    with rasterio.open(whole, "r+") as file:
        file.update_tags(wavelengths=str(WAVELENGTHS), wavelength_units="nm")
    check(io.open_scene(whole))


@pytest.mark.parametrize("dims", [("wavelength", "y", "x"), ("y", "x", "wavelength"), ("x", "wavelength", "y")])
@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_netcdf_in_any_order(tmp_path: Path, dims: tuple[str, str, str], engine: str) -> None:
    array = labelled(dims, unit="um", wavelengths=MICROMETRES)
    array.to_dataset(name="reflectance").to_netcdf(tmp_path / "a.nc", engine=engine)
    scene = io.open_scene(tmp_path / "a.nc")
    check(scene)
    assert scene.attrs["variable"] == "reflectance"


def test_netcdf_of_several_variables(tmp_path: Path) -> None:
    array = labelled()
    xr.Dataset({"a": array, "b": 2 * array}).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(ValueError, match=r"which variable.*a \(4, 5, 6\), b \(4, 5, 6\)"):
        io.open_scene(tmp_path / "a.nc")
    np.testing.assert_array_equal(io.open_scene(tmp_path / "a.nc", variable="b").values, 2 * values())
    np.testing.assert_array_equal(io.open_scene(f'NETCDF:"{tmp_path}/a.nc":b').values, 2 * values())
    with pytest.raises(ValueError, match="0 variables 'c'"):
        io.open_scene(tmp_path / "a.nc", variable="c")


def test_packed_netcdf(tmp_path: Path) -> None:
    array = labelled() / 100
    array[0, 0, 0] = np.nan
    encoding = {"reflectance": {"dtype": "int16", "scale_factor": 0.01, "_FillValue": NODATA}}
    array.to_dataset(name="reflectance").to_netcdf(tmp_path / "a.nc", encoding=encoding)
    stored = io.open_scene(tmp_path / "a.nc", scale=False)
    assert stored.dtype == np.int16
    assert stored.values[0, 0, 0] == NODATA
    assert stored.rio.nodata == NODATA
    np.testing.assert_allclose(io.open_scene(tmp_path / "a.nc", scale=True).values, array.values, rtol=1e-6)


@pytest.mark.parametrize("bands", [[2], [3, 0], None])
def test_bands_of_a_packed_file_are_scaled(tmp_path: Path, bands: Any) -> None:
    encoding = {"reflectance": {"dtype": "int16", "scale_factor": 0.5, "add_offset": 2.0}}
    labelled().to_dataset(name="reflectance").to_netcdf(tmp_path / "a.nc", encoding=encoding)
    scene = io.open_scene(tmp_path / "a.nc", scale=True, bands=bands)
    np.testing.assert_array_equal(scene, values() if bands is None else values()[bands])
    assert scene.sizes["wavelength"] == len(scene.wavelength)


def test_unsigned_values_in_classic_netcdf(tmp_path: Path) -> None:
    """The format has no unsigned numbers: an attribute tells how the bits are meant."""
    wanted = values(np.uint8) * 2
    wanted[0, 0, 0] = 255
    array = labelled(data=wanted.view(np.int8)).assign_attrs({"_Unsigned": "true", "_FillValue": np.int8(-1)})
    array.to_dataset(name="reflectance").to_netcdf(tmp_path / "a.nc", format="NETCDF3_CLASSIC")
    scene = io.open_scene(tmp_path / "a.nc")
    assert scene.dtype == np.uint8
    np.testing.assert_array_equal(scene, wanted)
    hidden = HSI.from_xarray(scene)
    np.testing.assert_array_equal(hidden.binary_mask, wanted != 255)


def test_hdf5_with_wavelengths_in_another_group(tmp_path: Path) -> None:
    """As airborne and orbital imaging spectrometers write it: bands last, their description elsewhere."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["site/Reflectance/Reflectance_Data"] = values().transpose(1, 2, 0)
        file["site/Reflectance/Reflectance_Data"].attrs["Data_Ignore_Value"] = float(NODATA)
        file["site/Metadata/Wavelength"] = MICROMETRES
        file["site/Metadata/Wavelength"].attrs["Units"] = "micrometers"
        file["site/Metadata/FWHM"] = [0.01] * BANDS
        file["site/Metadata/good_wavelengths"] = np.array([1, 1, 0, 1])
    scene = io.open_scene(tmp_path / "a.h5")
    np.testing.assert_array_equal(scene.values, values()[[0, 1, 3]])
    np.testing.assert_array_equal(scene.wavelength, np.array(WAVELENGTHS)[[0, 1, 3]])
    np.testing.assert_allclose(scene.fwhm, 10.0)
    assert scene.rio.nodata == NODATA
    assert scene.rio.crs is None
    assert "no CRS" in scene.attrs["notes"]


def neon(path: Path, bands: int = BANDS, side: int = ROWS, **place: str | None) -> np.ndarray:
    """Reflectance in the layout of NEON's airborne observatory, square, bands last; gives (bands, rows, columns)."""
    data = np.arange(1, bands * side * side + 1, dtype=np.int16).reshape(side, side, bands)
    data[0, 1] = NODATA
    texts: dict[str, str | None] = {
        "Map_Info": "UTM,  1.000,  1.000, 500000.00, 4000000.0, 3.0e+01, 3.0e+01, 33, North, WGS-84, units=Meters",
        "EPSG Code": "32633",
        **place,
    }
    text = h5py.string_dtype("ascii")
    with h5py.File(path, "w") as file:
        file["SITE/Reflectance/Reflectance_Data"] = data
        cube = file["SITE/Reflectance/Reflectance_Data"]
        cube.attrs["Data_Ignore_Value"] = float(NODATA)
        cube.attrs["Scale_Factor"] = 10000.0
        cube.attrs["Dimension_Labels"] = "Line, Sample, Wavelength"
        meta = file.create_group("SITE/Reflectance/Metadata")
        for name, numbers in {"Wavelength": np.linspace(400.0, 2500.0, bands), "FWHM": np.full(bands, 5.7)}.items():
            meta[f"Spectral_Data/{name}"] = numbers
            meta[f"Spectral_Data/{name}"].attrs["Units"] = "nanometers"
        for name, words in texts.items():
            if words is not None:
                meta.create_dataset(f"Coordinate_System/{name}", data=words, dtype=text)
        meta["Ancillary_Imagery/Aerosol_Optical_Depth"] = np.zeros((side, side), dtype=np.int16)
        meta.create_dataset("Logs/Solar_Azimuth_Angle", data=180.0)
    return data.transpose(2, 0, 1)


@pytest.mark.parametrize("bands", [BANDS, ROWS])  # with as many bands as rows, lengths tell nothing
def test_neon(tmp_path: Path, bands: int) -> None:
    data = neon(tmp_path / "a.h5", bands)
    scene = io.open_scene(tmp_path / "a.h5", scale=False)
    np.testing.assert_array_equal(scene.values, data)
    np.testing.assert_allclose(scene.wavelength, np.linspace(400.0, 2500.0, bands))
    np.testing.assert_allclose(scene.fwhm, 5.7)
    assert scene.rio.nodata == NODATA
    assert scene.rio.crs == CRS
    assert scene.rio.transform() == TRANSFORM
    assert scene.rio.transform(recalc=True) == TRANSFORM
    assert "map info" in scene.attrs["notes"]
    with pytest.warns(UserWarning, match=r"0\.0001"):
        io.open_scene(tmp_path / "a.h5")
    hsi = HSI.from_xarray(io.open_scene(tmp_path / "a.h5", scale=True))
    np.testing.assert_array_equal(hsi.binary_mask, data != NODATA)
    np.testing.assert_allclose(hsi.image, np.where(data == NODATA, 0, data / 10000), rtol=1e-6)
    assert hsi.georeference.transform == tuple(TRANSFORM)[:6]
    np.testing.assert_array_equal(hsi.georeference.x, 500000.0 + 30.0 * (np.arange(ROWS) + 0.5))
    named = io.open_scene(f'HDF5:"{tmp_path / "a.h5"}"://SITE/Reflectance/Reflectance_Data', scale=False)
    np.testing.assert_array_equal(named.values, data)


def test_places_that_texts_tell(tmp_path: Path) -> None:
    wkt = rasterio.crs.CRS.from_epsg(32719).to_wkt()
    info = "UTM, 3, 2, 560, 970, 20, 10, 19, South, WGS-84"
    cases: list[tuple[dict[str, str | None], int | None, tuple[float, ...] | None]] = [
        ({"EPSG Code": None}, 32633, (30.0, 0.0, 500000.0, 0.0, -30.0, 4000000.0)),  # the zone of the map info
        ({"EPSG Code": None, "Coordinate_System_String": wkt, "Map_Info": info}, 32719, (20, 0, 520, 0, -10, 980)),
        ({"EPSG Code": "nonsense", "Map_Info": info}, 32719, (20, 0, 520, 0, -10, 980)),
        (
            {"EPSG Code": None, "Map_Info": "Geographic Lat/Lon, 1, 1, 10, 50, .1, .2, WGS-84"},
            4326,
            (0.1, 0, 10, 0, -0.2, 50),
        ),
        ({"EPSG Code": None, "Map_Info": "Arbitrary, 1, 1, 0, 0, 1, 1"}, None, (1, 0, 0, 0, -1, 0)),
        ({"Map_Info": info + ", rotation=12.0"}, 32633, None),
        ({"Map_Info": "gone"}, 32633, None),
    ]
    for number, (place, epsg, transform) in enumerate(cases):
        neon(tmp_path / f"{number}.h5", **place)
        scene = io.open_scene(tmp_path / f"{number}.h5", scale=False)
        assert scene.rio.crs == (None if epsg is None else rasterio.crs.CRS.from_epsg(epsg)), place
        if transform is None:
            assert "x" not in scene.coords, place
            assert "map info" in scene.attrs["notes"]
        else:
            np.testing.assert_allclose(tuple(scene.rio.transform())[:6], transform, err_msg=str(place))


def test_the_nearest_place_counts(tmp_path: Path) -> None:
    """Two sites in one file: each cube has the map info of its own, and one must be named."""
    for name, east in {"ONE": 100.0, "TWO": 900.0}.items():
        with h5py.File(tmp_path / "a.h5", "a") as file:
            file[f"{name}/Reflectance_Data"] = values().transpose(1, 2, 0)
            file[f"{name}/Wavelength"] = WAVELENGTHS
            file[f"{name}/Wavelength"].attrs["Units"] = "nm"
            file[f"{name}/Metadata/Map_Info"] = f"UTM, 1, 1, {east}, 5, 1, 1, 33, North, WGS-84"
    with pytest.raises(ValueError, match=r"variable=.*ONE/Reflectance_Data.*TWO/Reflectance_Data"):
        io.open_scene(tmp_path / "a.h5")
    for name, east in {"ONE": 100.0, "TWO": 900.0}.items():
        scene = io.open_scene(tmp_path / "a.h5", variable=f"{name}/Reflectance_Data")
        assert scene.rio.transform().c == east


def test_map_info_as_an_attribute(tmp_path: Path) -> None:
    array = labelled().drop_vars(["x", "y", "spatial_ref"])
    array.encoding.clear()  # of the grid mapping that is gone
    array.attrs["map_info"] = "{UTM, 1, 1, 500000, 4000000, 30, 30, 33, North, WGS-84}"
    array.to_dataset(name="reflectance").to_netcdf(tmp_path / "a.nc")
    check(io.open_scene(tmp_path / "a.nc"))
    other = labelled()
    other.attrs["map_info"] = "{UTM, 1, 1, 1, 1, 1, 1, 12, South, WGS-84}"
    other.to_dataset(name="reflectance").to_netcdf(tmp_path / "b.nc")
    check(io.open_scene(tmp_path / "b.nc"))  # what NetCDF itself says goes first


def test_zarr(tmp_path: Path) -> None:
    labelled().to_dataset(name="reflectance").to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=True)
    check(io.open_scene(tmp_path / "a.zarr"))


def test_bands_are_chosen(tmp_path: Path) -> None:
    path = envi(tmp_path)
    for bands, indices in [([2, 0], [2, 0]), (slice(1, 3), [1, 2]), ("VNIR", [0, 1, 2]), (["red", "NIR"], [0, 2])]:
        check(io.open_scene(path, bands=bands).rio.write_crs(CRS), indices)
    check(io.open_scene(path, bands=np.array([True, False, False, True])).rio.write_crs(CRS), [0, 3])
    with pytest.raises(IndexError, match="bands has 4.*0 to 3"):
        io.open_scene(path, bands=[4])
    with pytest.raises(TypeError, match="bands must be"):
        io.open_scene(path, bands=[1.5])


def test_wavelengths_of_the_caller(tmp_path: Path) -> None:
    path = envi(tmp_path, wavelength=None, wavelength_units=None, fwhm=None, bbl="{1, 0, 1, 1}")
    with pytest.raises(ValueError, match="says nothing of the wavelengths of its 4 bands"):
        io.open_scene(path)
    check(io.open_scene(path, wavelengths=WAVELENGTHS).rio.write_crs(CRS), [0, 2, 3])
    # Those of the good bands alone will do, and other units.
    good = [MICROMETRES[i] for i in (0, 2, 3)]
    check(io.open_scene(path, wavelengths=good, wavelength_unit="um").rio.write_crs(CRS), [0, 2, 3])
    with pytest.raises(ValueError, match=r"shape \(2,\), but the file has 4 bands \(1 marked bad\)"):
        io.open_scene(path, wavelengths=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"shape \(3,\), but the file has 4 bands \(1 marked bad\)"):
        io.open_scene(path, wavelengths=WAVELENGTHS[:3], bad_bands="keep")


def test_a_header_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"3 wavelengths, but the file has 4 bands"):
        io.open_scene(envi(tmp_path, wavelength="{0.4, 0.5, 0.6}"))
    with pytest.raises(ValueError, match=r"band 1 of 4 \(counted from 0\) lacks a wavelength"):
        io.open_scene(envi(tmp_path, wavelength="{0.4, 0, 0.6, 0.7}"))
    with pytest.raises(ValueError, match=r"bands 1, 3 of 4"):
        io.open_scene(envi(tmp_path, wavelength="{0.4, nan, 0.6, ?}"))
    # A band that is dropped anyhow needs none.
    scene = io.open_scene(envi(tmp_path, wavelength="{0.4, 0, 0.6, 0.7}", bbl="{1, 0, 1, 1}"))
    assert scene.wavelength.values.tolist() == [400.0, 600.0, 700.0]
    with pytest.raises(ValueError, match="none of its 4 bands"):
        io.open_scene(envi(tmp_path, bbl="{0, 0, 0, 0}"))


def test_units(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unit 'furlongs' is unknown"):
        io.open_scene(envi(tmp_path, wavelength_units="furlongs"))
    with pytest.raises(ValueError, match="wavenumbers"):
        io.open_scene(envi(tmp_path, wavelength_units="Wavenumber"))
    with pytest.warns(UserWarning, match="no unit.*taken for um"):
        check(io.open_scene(envi(tmp_path, wavelength_units="Unknown")).rio.write_crs(CRS))
    with pytest.raises(ValueError, match="no unit, and 4000 to 9000 could be several"):
        io.open_scene(envi(tmp_path, wavelength_units=None, wavelength="{4000, 5000, 8000, 9000}"))
    with pytest.raises(ValueError, match="no unit, and 1 to 4 could be several"):
        io.open_scene(envi(tmp_path, wavelength_units="Index", wavelength="{1, 2, 3, 4}"))
    scene = io.open_scene(envi(tmp_path, wavelength_units=None), wavelength_unit="um")
    assert scene.wavelength.values.tolist() == WAVELENGTHS


def test_missing_files(tmp_path: Path) -> None:
    for name in ("none.tif", "none.hdr", "none.nc"):
        with pytest.raises(FileNotFoundError, match="none"):
            io.open_scene(tmp_path / name)
    path = envi(tmp_path)
    path.with_suffix(".img").unlink()
    with pytest.raises(FileNotFoundError, match="beside the header"):
        io.open_scene(path)
    with pytest.raises(ValueError, match="variable chooses"):
        io.open_scene(geotiff(tmp_path / "a.tif"), variable="x")


def test_what_is_no_scene(tmp_path: Path) -> None:
    for name in ("text.nc", "text.h5", "text.tif"):
        (tmp_path / name).write_text("no scene at all")
        with pytest.raises((ValueError, OSError), match=name):
            io.open_scene(tmp_path / name)
    arguments: list[tuple[Any, dict[str, Any], str]] = [
        (None, {}, "path"),
        (envi(tmp_path), {"nodata": "none"}, "nodata"),
        (envi(tmp_path), {"scale": "no"}, "scale"),
    ]
    for path, options, word in arguments:
        with pytest.raises(TypeError, match=word):
            io.open_scene(path, **options)


def test_overviews_are_not_taken_for_the_file(tmp_path: Path) -> None:
    path = geotiff(
        tmp_path / "a.tif", np.ones((1, 64, 64), np.int16), [{"wavelength": "500", "wavelength_units": "nm"}]
    )
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    with rasterio.open(path, overview_level=0) as file, pytest.raises(ValueError, match="overview"):
        io.open_scene(file)


def test_nothing_is_read_before_it_is_needed(tmp_path: Path) -> None:
    """A scene of 8 GB on disk (a file with a hole) opens; a corner of it is read, in little memory."""
    path = envi(tmp_path)
    path.write_text(path.read_text().replace("lines = 5", "lines = 100000").replace("samples = 6", "samples = 10000"))
    with open(path.with_suffix(".img"), "r+b") as file:
        file.truncate(BANDS * 100000 * 10000 * 2)
    code = f"""
from benchmarks.memory import peak_bytes
from meteors_c import HSI, io
scene = io.open_scene({str(path)!r})
assert scene.shape == (4, 100000, 10000)
assert scene[:, 5:9, 7:9].values.shape == (4, 4, 2)
print(peak_bytes() // 1_000_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1500  # MB; the whole would be 8000


@pytest.mark.parametrize("block", [(1, 2000), (256, 256), (2000, 2000)])
def test_chunks_are_whole_blocks_of_bounded_size(block: tuple[int, int]) -> None:
    rows, columns = _raster.chunk_lengths(400, 2000, 2000, 4, block)
    assert rows % block[0] == 0 or rows == 2000
    assert columns % block[1] == 0 or columns == 2000
    assert 400 * rows * columns * 4 <= max(_raster.CHUNK_BYTES, 400 * block[0] * block[1] * 4)


def test_a_place_askew(tmp_path: Path) -> None:
    turned = TRANSFORM * rasterio.Affine.rotation(20)
    tags = [{"wavelength": str(w), "wavelength_units": "nm"} for w in WAVELENGTHS]
    scene = io.open_scene(geotiff(tmp_path / "a.tif", tags=tags, transform=turned))
    assert scene.rio.transform().almost_equals(turned)
    assert scene.shape[1:] == (ROWS, COLUMNS)


def test_centres_in_attributes_and_bands_by_their_number(tmp_path: Path) -> None:
    """As in PRISMA's files: cubes without named dimensions, centres in attributes of the file."""
    path = tmp_path / "prisma.he5"
    with h5py.File(path, "w") as file:
        group = file.create_group("HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields")
        group["VNIR_Cube"] = values(np.uint16).transpose(1, 0, 2)
        group["SWIR_Cube"] = values(np.uint16)[:3].transpose(1, 0, 2)
        file.attrs["List_Cw_Vnir"] = np.array(WAVELENGTHS, dtype=np.float32)
        file.attrs["List_Cw_Vnir_Flags"] = np.ones(BANDS, dtype=np.int32)
        file.attrs["List_Fwhm_Vnir"] = np.full(BANDS, 9.5, dtype=np.float32)
    scene = io.open_scene(path, variable="VNIR_Cube", wavelength_unit="nm")
    np.testing.assert_array_equal(scene.values, values())
    assert scene.wavelength.values.tolist() == WAVELENGTHS
    assert scene.fwhm.values.tolist() == [9.5] * BANDS
    given = io.open_scene(path, variable="SWIR_Cube", wavelengths=[1600.0, 1700.0, 1800.0])
    np.testing.assert_array_equal(given.values, values()[:3])
    with pytest.raises(ValueError, match="wavelengths="):
        io.open_scene(path, variable="SWIR_Cube")


def test_micrometres_of_the_caller_are_suspected(tmp_path: Path) -> None:
    path = envi(tmp_path, wavelength=None, wavelength_units=None, fwhm=None)
    with pytest.warns(UserWarning, match="micrometres"):
        io.open_scene(path, wavelengths=MICROMETRES)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for given, unit in ((MICROMETRES, "um"), (WAVELENGTHS, None)):
            scene = io.open_scene(path, wavelengths=given, wavelength_unit=unit)
            assert scene.wavelength.values.tolist() == WAVELENGTHS


def test_zarr_folders_that_are_no_scene(tmp_path: Path) -> None:
    import zarr

    zarr.open_group(tmp_path / "other.zarr", mode="w").create_array("numbers", shape=(2, 3, 4), dtype="f4")
    with pytest.raises(ValueError, match=r"other\.zarr.*can't be read as zarr"):
        io.open_scene(tmp_path / "other.zarr")
