"""Scenes by windows: each pixel is explained as the window around it is by itself."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array
import numpy as np
import pytest
import torch
import xarray

from meteors_c import HSI, _core, attr
from meteors_c.exceptions import ShapeMismatchError
from meteors_c.models import ExplainableModel, SkLearnRidge
from tests.scenes.models import BANDS, WAVELENGTHS, field, patch_model, scene, windows_of

ROWS, COLUMNS, WINDOW = 9, 7, 5
MODEL = patch_model()
EXPLAINERS: dict[str, tuple[attr.Explainer, dict[str, Any]]] = {
    "saliency": (attr.Saliency(MODEL), {"abs": False}),
    "integrated gradients": (attr.IntegratedGradients(MODEL), {"n_steps": 8, "baseline": "mean"}),
    "occlusion": (attr.Occlusion(MODEL), {"sliding_window_shapes": (2, 5, 5), "strides": (2, 5, 5), "baseline": 0.1}),
    "noise tunnel": (attr.NoiseTunnel(attr.Saliency(MODEL)), {"n_samples": 3, "stdevs": 0.1}),
}


@pytest.fixture
def values() -> np.ndarray:
    return field(ROWS, COLUMNS)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_each_pixel_is_explained_as_its_window(name: str, values: np.ndarray) -> None:
    explainer, arguments = EXPLAINERS[name]
    found = attr.explain_scene(
        explainer, scene(values), window=WINDOW, target=[2, 0], values=True, chunk=(4, 3), **arguments
    )
    for position, target in enumerate([2, 0]):
        torch.manual_seed(0)
        alone = explainer.attribute(windows_of(values, WINDOW), target=target, **arguments)
        if name == "noise tunnel":  # draws of its own; what it stands for is tested below
            assert np.isfinite(found["map"]).all()
            continue
        spectra = np.stack([result.attributes[:, 2, 2].numpy() for result in alone]).reshape(ROWS, COLUMNS, BANDS)
        np.testing.assert_allclose(found["values"][position].transpose("y", "x", "wavelength"), spectra, atol=1e-12)
        np.testing.assert_allclose(found["map"][position], spectra.sum(-1), atol=1e-12)
        np.testing.assert_allclose(found["mean_spectrum"][position, 0], spectra.mean((0, 1)), atol=1e-12)
    assert found["target"].values.tolist() == [2, 0]
    assert int(found["pixels"].sum()) == ROWS * COLUMNS


def test_sums_over_windows_are_complete(values: np.ndarray) -> None:
    """Integrated gradients of a window sum to the difference of its outputs."""
    found = attr.explain_scene(
        attr.IntegratedGradients(MODEL), scene(values), window=WINDOW, target=1, reduce="window", n_steps=60
    )
    batch = torch.stack([window.image for window in windows_of(values, WINDOW)])
    with torch.no_grad():
        difference = MODEL.forward_func(batch)[:, 1] - MODEL.forward_func(torch.zeros_like(batch))[:, 1]
    np.testing.assert_allclose(found["map"][0].values.ravel(), difference.numpy(), atol=1e-8)


def test_numbers_of_groups_are_not_summed_over_windows(values: np.ndarray) -> None:
    """The one number of a band would count as often as the window has pixels."""
    with pytest.raises(ValueError, match="reduce"):
        attr.explain_scene(
            attr.Occlusion(MODEL),
            scene(values),
            window=WINDOW,
            target=0,
            reduce="window",
            call="get_spectral_attributes",
        )


def test_window_larger_than_the_scene(values: np.ndarray) -> None:
    small = values[:, :3, :2]
    model = patch_model(9)
    found = attr.explain_scene(attr.Saliency(model), scene(small), window=9, target=0, abs=False)
    half = np.pad(small, ((0, 0), (4, 4), (4, 4)), mode="reflect")
    first = HSI(image=half[:, :9, :9].copy(), wavelengths=WAVELENGTHS)
    alone = attr.Saliency(model).attribute(first, target=0, abs=False)
    np.testing.assert_allclose(found["map"][0, 0, 0], alone.attributes[:, 4, 4].sum(), atol=1e-12)


def test_windows_are_views_of_the_scene(values: np.ndarray) -> None:
    for orientation in ("CHW", "HWC", "WCH"):
        image = HSI(image=values, wavelengths=WAVELENGTHS, binary_mask=values > -2).change_orientation(orientation)
        places = np.array([0, 3, 4]), np.array([1, 0, 2])
        for window, row, column in zip(_core.windows(image, *places, 5, 3), *places, strict=True):
            whole = image.change_orientation("CHW").image
            cut = window.change_orientation("CHW").image
            assert window.orientation == image.orientation
            assert torch.equal(cut, whole[:, row : row + 5, column : column + 3])
            assert cut.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
            assert window.binary_mask.untyped_storage().data_ptr() == image.binary_mask.untyped_storage().data_ptr()


def test_windows_refuse(values: np.ndarray) -> None:
    image = HSI(image=values, wavelengths=WAVELENGTHS)
    for rows in (np.array([5]), np.array([-1])):
        with pytest.raises(ValueError, match="inside the 9 rows"):
            _core.windows(image, rows, np.array([0]), 5, 5)
    with pytest.raises(TypeError, match="int64"):
        _core.windows(image, np.array([0.0]), np.array([0]), 5, 5)


# ---------------------------------------------------------------- which pixels


def test_labels_give_a_mean_spectrum_for_each_class(values: np.ndarray) -> None:
    labels = np.random.RandomState(4).randint(-1, 4, (ROWS, COLUMNS)) * 10
    every = attr.explain_scene(attr.Saliency(MODEL), scene(values), window=WINDOW, target=0, values=True)
    found = attr.explain_scene(attr.Saliency(MODEL), scene(values), window=WINDOW, target=0, pixels=labels, chunk=4)
    assert found["class"].values.tolist() == [10, 20, 30]
    for label in (10, 20, 30):
        spectrum = every["values"][0].values[:, labels == label].mean(1)
        np.testing.assert_allclose(found["mean_spectrum"].sel({"class": label})[0], spectrum, atol=1e-12)
        assert int(found["pixels"].sel({"class": label})) == (labels == label).sum()
    np.testing.assert_array_equal(np.isnan(found["map"][0]), labels <= 0)
    np.testing.assert_allclose(found["map"].values[0][labels > 0], every["map"].values[0][labels > 0], atol=1e-12)


def test_masks_and_places_are_the_same_pixels(values: np.ndarray) -> None:
    mask = np.zeros((ROWS, COLUMNS), dtype=bool)
    mask[2, 3] = mask[8, 6] = True
    maps = [
        attr.explain_scene(attr.Saliency(MODEL), scene(values), window=WINDOW, target=0, pixels=pixels)["map"]
        for pixels in (mask, [(8, 6), (2, 3)], np.array([[2, 3], [8, 6]]), xarray.DataArray(mask, dims=("y", "x")))
    ]
    for other in maps[1:]:
        xarray.testing.assert_equal(maps[0], other)
    np.testing.assert_array_equal(np.isfinite(maps[0][0]), mask)


def test_pixels_with_named_axes_lie_where_these_say() -> None:
    values, chosen = field(8, 8), np.zeros((8, 8), dtype=bool)
    chosen[1, 6] = True
    for given in (xarray.DataArray(chosen, dims=("y", "x")), xarray.DataArray(chosen.T, dims=("x", "y"))):
        found = attr.explain_scene(attr.Saliency(MODEL), scene(values), window=WINDOW, target=0, pixels=given)
        np.testing.assert_array_equal(found["map"][0].notnull(), chosen)


def test_stride_takes_every_third_pixel(values: np.ndarray) -> None:
    every = attr.explain_scene(attr.Saliency(MODEL), scene(values), window=WINDOW, target=0)
    found = attr.explain_scene(attr.Saliency(MODEL), scene(values), window=WINDOW, target=0, stride=3, chunk=2)
    xarray.testing.assert_allclose(found["map"], every["map"][:, 1::3, 1::3], atol=1e-12)
    # a pixel of the map covers 3 x 3 of the scene, about its middle: the corner stays where it was
    assert found["spatial_ref"].attrs["GeoTransform"].split() == ["1000.0", "30.0", "0.0", "5000.0", "0.0", "-30.0"]
    assert found["spatial_ref"].attrs["crs_wkt"] == "LOCAL"


def test_a_part_of_a_scene_lies_where_it_does(values: np.ndarray) -> None:
    """xarray cuts the coordinates of a part, but leaves it the transform of the whole."""
    part = scene(values).isel(y=slice(2, None), x=slice(1, None))
    for stride, numbers in ((None, "1010.0 10.0 0.0 4980.0 0.0 -10.0"), (3, "1010.0 30.0 0.0 4980.0 0.0 -30.0")):
        found = attr.explain_scene(attr.Saliency(MODEL), part, window=WINDOW, target=0, stride=stride)
        assert found["spatial_ref"].attrs["GeoTransform"] == numbers
    askew = scene(values).drop_vars(["x", "y"])
    askew["spatial_ref"].attrs["GeoTransform"] = "1000.0 10.0 5.0 5000.0 5.0 -10.0"
    rows, columns = (np.arange(askew.sizes[name]) for name in ("y", "x"))
    askew = askew.assign_coords(row=("y", rows), column=("x", columns)).isel(y=slice(2, None), x=slice(1, None))
    found = attr.explain_scene(attr.Saliency(MODEL), askew, window=WINDOW, target=0, values=3)
    assert found["spatial_ref"].attrs["GeoTransform"] == "1020.0 10.0 5.0 4985.0 5.0 -10.0"
    uneven = part.assign_coords(x=part["x"].values ** 2)
    found = attr.explain_scene(attr.Saliency(MODEL), uneven, window=WINDOW, target=0)
    assert "GeoTransform" not in found["spatial_ref"].attrs


@pytest.mark.parametrize("mark", ["nan", "nodata"])
def test_pixels_without_values_are_masked(mark: str, values: np.ndarray) -> None:
    holes = values.copy()
    holes[:, 4, 3] = np.nan if mark == "nan" else -9999.0
    holes[1, 0, 0] = np.nan if mark == "nan" else -9999.0
    attributes = {} if mark == "nan" else {"_FillValue": -9999.0}
    found = attr.explain_scene(attr.Saliency(MODEL), scene(holes, **attributes), window=WINDOW, target=0)
    zeros = values.copy()
    zeros[:, 4, 3] = zeros[1, 0, 0] = 0.0
    other = attr.explain_scene(attr.Saliency(MODEL), scene(zeros), window=WINDOW, target=0)
    assert np.isnan(found["map"]).sum() == 1
    assert np.isnan(found["map"][0, 4, 3])
    np.testing.assert_allclose(found["map"].fillna(other["map"]), other["map"], atol=1e-12)
    assert int(found["pixels"][0]) == ROWS * COLUMNS - 1


# ---------------------------------------------------------------- what is a scene


def test_forms_of_a_scene(values: np.ndarray) -> None:
    array = scene(values)
    want = attr.explain_scene(attr.Saliency(MODEL), array, window=WINDOW, target=0)
    image = HSI(image=values, wavelengths=WAVELENGTHS)
    forms = {
        "other order": array.transpose("x", "wavelength", "y"),
        "lazy": array.chunk({"y": 4, "x": 3, "wavelength": 2}),
        "bands with wavelengths": array.rename(wavelength="band")
        .assign_coords(wavelength=("band", WAVELENGTHS))
        .rename(y="row", x="column"),
        "HSI": image,
        "array": values,
        "other byte order": values.astype(">f8"),
    }
    for form, given in forms.items():
        lacks = form in ("array", "other byte order")
        found = attr.explain_scene(
            attr.Saliency(MODEL), given, window=WINDOW, target=0, wavelengths=WAVELENGTHS if lacks else None, chunk=4
        )
        np.testing.assert_allclose(found["map"], want["map"], atol=1e-12, err_msg=form)
        np.testing.assert_allclose(found["mean_spectrum"], want["mean_spectrum"], atol=1e-12, err_msg=form)
        assert found["wavelength"].values.tolist() == WAVELENGTHS
    assert want["fwhm"].values.tolist() == [10.0] * BANDS
    np.testing.assert_array_equal(want["y"], array["y"])


def test_units_of_wavelengths_are_read(values: np.ndarray) -> None:
    micrometres = scene(values).assign_coords(wavelength=("wavelength", np.array(WAVELENGTHS) / 1000, {"units": "um"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = attr.explain_scene(attr.Saliency(MODEL), micrometres, window=WINDOW, target=0, pixels=[(4, 4)])
    assert found["wavelength"].values.tolist() == WAVELENGTHS
    assert found["wavelength"].attrs["units"] == "nm"
    counted = scene(values).assign_coords(wavelength=("wavelength", np.arange(1.0, 1.0 + BANDS)))
    with pytest.raises(ValueError, match="no unit"):
        attr.explain_scene(attr.Saliency(MODEL), counted, window=WINDOW, target=0)


def test_wavelengths_of_an_image_are_its_own(values: np.ndarray) -> None:
    image = HSI(image=values, wavelengths=WAVELENGTHS)
    with pytest.raises(ValueError, match="wavelengths"):
        attr.explain_scene(
            attr.Saliency(MODEL), image, window=WINDOW, target=0, wavelengths=[500.0, 600.0, 700.0, 800.0]
        )


def test_of_a_lazy_scene_only_what_windows_see_is_computed(values: np.ndarray) -> None:
    """A scene of 28 x 28 pixels in chunks of 7, of which two pixels are explained."""
    whole, computed = np.tile(values[:, :7], (1, 4, 4)), set()

    def chunk(block_info: Any) -> np.ndarray:
        _, (top, bottom), (left, right) = block_info[None]["array-location"]
        computed.add((top // 7, left // 7))
        return whole[:, top:bottom, left:right]

    lazy = dask.array.map_blocks(chunk, chunks=((BANDS,), (7,) * 4, (7,) * 4), dtype=whole.dtype)
    computed.clear()  # dask looks at the function once
    pixels = [(3, 3), (15, 13)]  # the window around the second one reaches four chunks
    arguments: dict[str, Any] = {"window": WINDOW, "target": 0, "pixels": pixels, "chunk": 1, "values": 2}
    found = attr.explain_scene(attr.Saliency(MODEL), scene(whole).copy(data=lazy), **arguments)
    assert computed == {(0, 0), (1, 1), (1, 2), (2, 1), (2, 2)}
    want = attr.explain_scene(attr.Saliency(MODEL), scene(whole), **arguments)
    np.testing.assert_array_equal(found["map"], want["map"])


def test_orientation_of_an_image_is_what_the_model_gets(values: np.ndarray) -> None:
    net = MODEL.forward_func
    turned = ExplainableModel(lambda x: net(x.permute(0, 3, 1, 2)), "classification")
    image = HSI(image=values, wavelengths=WAVELENGTHS, binary_mask=values > -0.9).change_orientation("HWC")
    want = attr.explain_scene(
        attr.Saliency(MODEL), image.change_orientation("CHW"), window=WINDOW, target=0, values=True
    )
    found = attr.explain_scene(attr.Saliency(turned), image, window=WINDOW, target=0, values=True)
    xarray.testing.assert_allclose(found["values"], want["values"], atol=1e-12)


class Placed(HSI):
    """An image that says where it lies."""

    georeference = SimpleNamespace(
        crs="LOCAL", transform=(10.0, 0.0, 1000.0, 0.0, -10.0, 5000.0), x=1005.0 + 10.0 * np.arange(COLUMNS), y=None
    )


def test_place_of_an_image_is_kept(values: np.ndarray) -> None:
    found = attr.explain_scene(
        attr.Saliency(MODEL), Placed(image=values, wavelengths=WAVELENGTHS), window=WINDOW, target=0
    )
    assert found["spatial_ref"].attrs["GeoTransform"] == "1000.0 10.0 0.0 5000.0 0.0 -10.0"
    assert found["spatial_ref"].attrs["crs_wkt"] == "LOCAL"
    np.testing.assert_array_equal(found["x"], Placed.georeference.x)
    assert "y" not in found.coords


def test_integers_and_float32(values: np.ndarray) -> None:
    for dtype in (np.int16, np.uint8, np.float32):
        numbers = (100 * np.abs(values)).astype(dtype)
        found = attr.explain_scene(attr.Saliency(MODEL), scene(numbers), window=WINDOW, target=0)
        want = attr.explain_scene(attr.Saliency(MODEL), scene(numbers.astype(np.float64)), window=WINDOW, target=0)
        assert found["map"].dtype == np.float32
        np.testing.assert_allclose(found["map"], want["map"], rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- random methods


@pytest.mark.parametrize("name", ["Lime", "KernelShap", "ShapleyValueSampling", "HyperNoiseTunnel", "NoiseTunnel"])
@pytest.mark.filterwarnings("ignore")
def test_draws_do_not_depend_on_blocks(name: str, values: np.ndarray) -> None:
    model = patch_model(3, 2)
    arguments: dict[str, Any] = {"n_samples": 6}
    if "Tunnel" in name:
        explainer: attr.Explainer = getattr(attr, name)(attr.Saliency(model))
        if name == "NoiseTunnel":
            arguments["stdevs"] = 0.2
    else:
        explainer = getattr(attr, name)(model)
        arguments |= {"attribution_type": "spectral", "band_mask": torch.arange(BANDS)}
        arguments |= {"band_names": {str(band): band for band in range(BANDS)}}
    maps = []
    for chunk, seed in ((64, 1), ((2, 5), 1), (64, 2)):
        torch.manual_seed(chunk if isinstance(chunk, int) else 0)
        maps.append(
            attr.explain_scene(
                explainer, scene(values), window=3, target=1, chunk=chunk, seed=seed, values=True, **arguments
            )["values"].values
        )
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-10)
    assert np.abs(maps[0] - maps[2]).max() > 1e-6


def test_pixels_do_not_share_the_draws_of_lime() -> None:
    """All windows are equal: what differs is what was drawn."""
    model = patch_model(3, 2)
    found = attr.explain_scene(
        attr.Lime(model, SkLearnRidge(alpha=1e-3)), scene(np.full((BANDS, 5, 5), 0.7)), window=3, target=0, n_samples=8,
        attribution_type="spectral", band_mask=torch.arange(BANDS), band_names={str(b): b for b in range(BANDS)},
    )  # fmt: skip
    assert len(np.unique(found["map"].values.round(9))) > 1


def test_one_set_of_evaluations_serves_all_targets(values: np.ndarray) -> None:
    arguments = {"sliding_window_shapes": (BANDS, 5, 5), "strides": (BANDS, 5, 5)}
    one, two = (
        attr.explain_scene(attr.Occlusion(MODEL), scene(values), window=WINDOW, target=target, **arguments)
        for target in (1, [0, 1])
    )
    assert one.attrs["report"] == two.attrs["report"]
    np.testing.assert_allclose(one["map"][0], two["map"][1], atol=1e-12)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"window": 4}, ValueError, "odd"),
        ({"window": 0}, ValueError, "window"),
        ({"stride": 0}, ValueError, "stride"),
        ({"stride": 100}, ValueError, "stride 100 leaves no pixel"),
        ({"reduce": "sum"}, ValueError, "reduce"),
        ({"pixels": np.zeros((ROWS, COLUMNS), dtype=bool)}, ValueError, "pixels has none"),
        ({"pixels": np.ones((ROWS, 2 * COLUMNS), dtype=bool)}, ShapeMismatchError, "mask or labels"),
        ({"pixels": [(ROWS, 0)]}, IndexError, "outside"),
        ({"pixels": [(0, 0)], "stride": 2}, ValueError, "places"),
        ({"pixels": np.full((ROWS, COLUMNS), 0.5)}, TypeError, "fractions"),
        ({"overlap": 3}, ValueError, "overlap"),
        ({"target": []}, ValueError, "target"),
        ({"baseline": [0.0, 1.0]}, ValueError, "baseline has an entry for each image"),
        ({"additional_forward_args": attr.PerImage([1.0])}, ValueError, "PerImage"),
        ({"call": "explain"}, ValueError, "call"),
        ({"per_target": True}, TypeError, "per_target"),
        ({"seed": -1}, ValueError, "seed"),
        ({"client": 5}, TypeError, "client"),
        ({"out": 5}, TypeError, "out"),
        ({"values": "no"}, TypeError, "values"),
        ({"out": "nosuch://bucket/maps"}, ValueError, "address"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], word: str, values: np.ndarray) -> None:
    with pytest.raises(error, match=word):
        attr.explain_scene(
            attr.IntegratedGradients(MODEL), scene(values), **{"window": WINDOW, "target": 0, **arguments}
        )


@pytest.mark.parametrize(
    ("given", "error", "word"),
    [
        ("scene.tif", TypeError, "scene must be"),
        (np.zeros((2, 3)), ShapeMismatchError, "bands, rows, columns"),
        (np.zeros((4, 3, 3)), ValueError, "wavelengths"),
        (np.zeros((4, 3, 3), dtype=complex), TypeError, "real numbers"),
        (xarray.DataArray(np.zeros((4, 3, 3)), dims=("a", "b", "c")), ValueError, "dimension"),
        (scene()[:, :0], ValueError, "pixels"),
    ],
)
def test_wrong_scenes(given: Any, error: type[Exception], word: str) -> None:
    lengths = WAVELENGTHS if isinstance(given, np.ndarray) and given.dtype == complex else None
    with pytest.raises(error, match=word):
        attr.explain_scene(attr.Saliency(MODEL), given, window=3, target=0, wavelengths=lengths)


def test_superpixels_of_windows_must_be_given(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="segmentation_mask"):
        attr.explain_scene(attr.Lime(MODEL), scene(values), window=5, target=0, attribution_type="spatial")


def test_progress_knows_its_total_from_the_start(values: np.ndarray) -> None:
    told: list[tuple[int, int]] = []
    attr.explain_scene(
        attr.Saliency(MODEL), scene(values), window=WINDOW, target=0, chunk=4,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told[0] == (0, ROWS * COLUMNS)
    assert told[-1] == (ROWS * COLUMNS, ROWS * COLUMNS)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_datasets_of_files_are_read_block_by_block(values: np.ndarray, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    mapped = np.lib.format.open_memmap(tmp_path / "scene.npy", mode="w+", dtype=np.float64, shape=values.shape)
    mapped[...] = values
    want = attr.explain_scene(attr.Saliency(MODEL), scene(values), window=WINDOW, target=0)
    with h5py.File(tmp_path / "scene.h5", "w") as file:
        for given in (file.create_dataset("scene", data=values), mapped):
            found = attr.explain_scene(
                attr.Saliency(MODEL), given, window=WINDOW, target=0, wavelengths=WAVELENGTHS, chunk=4
            )
            np.testing.assert_allclose(found["map"], want["map"], atol=1e-12)


def test_only_what_lies_about_a_block_is_read(values: np.ndarray) -> None:
    read: list[tuple[int, int]] = []

    def load(block_info: Any) -> np.ndarray:
        _, (row, _), (column, _) = block_info[None]["array-location"]
        read.append((row, column))
        return values[:, row : row + 1, column : column + 1]

    lazy = xarray.DataArray(
        dask.array.map_blocks(
            load, chunks=((BANDS,), (1,) * ROWS, (1,) * COLUMNS), dtype=values.dtype, meta=np.empty((0, 0, 0))
        ),
        dims=("wavelength", "y", "x"),
    )
    attr.explain_scene(
        attr.Saliency(MODEL), lazy, window=WINDOW, target=0, wavelengths=WAVELENGTHS, pixels=[(4, 3)], chunk=(1, 1)
    )
    assert sorted(read) == [(row, column) for row in range(2, 7) for column in range(1, 6)]
