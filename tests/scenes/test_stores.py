"""Maps in folders: written block by block, gone on with, and never mixed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import rasterio
import rioxarray
import torch
import xarray
import zarr
from affine import Affine
from torch import nn

from meteors_c import HSI, attr
from meteors_c.models import ExplainableModel
from meteors_c.scenes._grid import grid_of
from meteors_c.scenes._store import ZarrStore
from tests.scenes.models import (
    BANDS,
    WAVELENGTHS,
    Counting,
    convolutions,
    field,
    mapper,
    patch_model,
    samples_in,
    scene,
    whole,
)

ROOT = Path(__file__).parents[2]


def explain(log: Path, array: xarray.DataArray | None = None, **arguments: Any) -> xarray.Dataset:
    model = ExplainableModel(Counting(log).eval(), "classification")
    given = {"window": 3, "target": [0, 2], "chunk": (4, 5), "values": True, **arguments}
    return attr.explain_scene(attr.Saliency(model), whole() if array is None else array, **given)


def same(found: xarray.Dataset, want: xarray.Dataset) -> None:
    for name in ("map", "values", "mean_spectrum", "pixels"):
        assert found[name].dims == want[name].dims
        np.testing.assert_array_equal(found[name].values, want[name].values)
    assert {name: found.attrs[name] for name in ("method", "target")} == {
        name: want.attrs[name] for name in ("method", "target")
    }


def test_folder_holds_what_memory_does(tmp_path: Path) -> None:
    labels = np.random.RandomState(2).randint(0, 3, (12, 10))
    labels[:4] = 0  # blocks without a pixel
    for pixels in (None, labels):
        out = tmp_path / f"{pixels is None}.zarr"
        found = explain(tmp_path / "log", pixels=pixels, out=out)
        want = explain(tmp_path / "log", pixels=pixels)
        same(found, want)
        assert found["map"].chunks is not None  # read when it is looked at
        opened = xarray.open_zarr(out, consolidated=False, decode_coords="all")
        assert opened["spatial_ref"].attrs["crs_wkt"] == "LOCAL"
        assert opened["map"].encoding["grid_mapping"] == "spatial_ref"
        np.testing.assert_array_equal(opened["y"], whole()["y"])
        assert opened["wavelength"].attrs["units"] == "nm"


def test_second_start_does_what_is_missing(tmp_path: Path) -> None:
    log, out, want = tmp_path / "log", tmp_path / "scene.zarr", explain(tmp_path / "other")

    def stop(done: int, total: int) -> None:
        if done >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(log, out=out, progress=stop)
    before = samples_in(log)
    assert 0 < before < samples_in(tmp_path / "other")
    told: list[int] = []
    same(explain(log, out=out, progress=lambda done, total: told.append(done)), want)
    assert told[0] == 40
    one_run = samples_in(tmp_path / "other")
    # each start looks at the model in its first block once more
    assert samples_in(log) < one_run + before
    after = samples_in(log)
    same(explain(log, out=out), want)
    assert samples_in(log) == after


def test_block_without_its_mark_is_done_again(tmp_path: Path) -> None:
    """What a process leaves that dies while it writes: a chunk, or half of one, and no mark."""
    out, want = tmp_path / "scene.zarr", explain(tmp_path / "log")
    explain(tmp_path / "log", out=out)
    group = zarr.open_group(out, mode="r+")
    group["blocks/done"][2] = 0
    group["map"][:, 4:6, 0:5] = -1.0
    assert ZarrStore(str(out), grid_of((12, 10), (4, 5), 1, None)).done.tolist() == [
        True,
        True,
        False,
        True,
        True,
        True,
    ]
    same(explain(tmp_path / "log", out=out), want)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"target": [0, 1]}, "target"),
        ({"window": 5}, "window"),
        ({"chunk": 3}, "chunk"),
        ({"seed": 4}, "seed"),
        ({"abs": False}, "arguments"),
        ({"reduce": "window"}, "reduce"),
        ({"pixels": [(1, 1)]}, "pixels"),
        ({"array": whole() + 1}, "scene"),
    ],
)
def test_other_arguments_are_refused(arguments: dict[str, Any], word: str, tmp_path: Path) -> None:
    out = tmp_path / "scene.zarr"
    explain(tmp_path / "log", out=out)
    with pytest.raises(FileExistsError, match=word):
        explain(tmp_path / "log", out=out, **arguments)


def test_other_models_are_refused(tmp_path: Path) -> None:
    out, array = tmp_path / "scene.zarr", scene(field(8, 8))
    arguments: dict[str, Any] = {"window": 3, "target": 0, "out": out}
    attr.explain_scene(attr.Saliency(patch_model(3)), array, **arguments)
    attr.explain_scene(attr.Saliency(patch_model(3)), array, **arguments)
    other = patch_model(3)
    other.forward_func[1].bias.data += 1  # type: ignore[index]
    for explainer in (attr.Saliency(other), attr.InputXGradient(patch_model(3))):
        with pytest.raises(FileExistsError, match="explainer"):
            attr.explain_scene(explainer, array, **arguments)


def test_other_masks_and_orientations_are_refused(tmp_path: Path) -> None:
    image = HSI(image=field(6, 6), wavelengths=WAVELENGTHS)
    part = image.model_copy(update={"binary_mask": torch.arange(36).reshape(1, 6, 6).expand(BANDS, 6, 6) != 8})
    out = tmp_path / "scene.zarr"
    attr.explain_scene(attr.Saliency(patch_model(3)), image, window=3, target=0, out=out)
    for other in (part, image.change_orientation("CWH")):
        with pytest.raises(FileExistsError, match="scene"):
            attr.explain_scene(attr.Saliency(patch_model(3)), other, window=3, target=0, out=out)


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text").write_text("mine")
    with pytest.raises(FileExistsError, match="notes"):
        explain(tmp_path / "log", out=tmp_path / "notes")
    assert (tmp_path / "notes" / "text").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        explain(tmp_path / "log", out=tmp_path / "nowhere" / "scene.zarr")


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_addresses(kind: str, tmp_path: Path) -> None:
    """What fsspec knows, written by Zarr's stores: begun, cut short, gone on with, read, and not mixed with another."""
    out = (tmp_path / "a scene.zarr").as_uri() if kind == "file" else f"memory://{tmp_path.name}/scene.zarr"
    log, want = tmp_path / "log", explain(tmp_path / "other", values=7)

    def stop(done: int, total: int) -> None:
        if done >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(log, out=out, values=7, progress=stop)
    told: list[int] = []
    found = explain(log, out=out, values=7, progress=lambda done, total: told.append(done))
    assert told[0] == 40
    for name in ("map", "mean_spectrum", "pixels", "pixel_values", "pixel_spectra", "row", "column"):
        np.testing.assert_array_equal(found[name].values, want[name].values)
    opened = xarray.open_zarr(
        tmp_path / "a scene.zarr" if kind == "file" else out, consolidated=False, decode_coords="all"
    )
    np.testing.assert_array_equal(opened["map"], want["map"])
    before = samples_in(log)
    explain(log, out=out, values=7)
    assert samples_in(log) == before
    with pytest.raises(FileExistsError, match="values"):
        explain(log, out=out, values=8)
    if kind == "file":
        assert (tmp_path / "a scene.zarr").is_dir()


def test_addresses_that_are_something_else(tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}-other"
    files = fsspec.filesystem("memory")
    files.pipe(f"{place}/notes/text", b"mine")
    with pytest.raises(FileExistsError, match="notes"):
        explain(tmp_path / "log", out=f"{place}/notes")
    assert files.cat(f"{place}/notes/text") == b"mine"
    with pytest.raises(ValueError, match="nosuch"):
        explain(tmp_path / "log", out="nosuch://bucket/scene.zarr")
    with pytest.raises(ValueError, match="memory"):
        explain(tmp_path / "log", out=f"{place}/scene.zarr", client=object())


# ---------------------------------------------------------------- single pixels


@pytest.mark.parametrize("kind", ["all", "labels", "places", "stride", "tiles"])
@pytest.mark.parametrize("folder", [False, True])
def test_values_of_some_pixels_are_those_of_all(kind: str, folder: bool, tmp_path: Path) -> None:
    array = whole()
    array[:, 3, 4] = np.nan
    array[1, 7, 2] = np.nan
    labels = np.random.RandomState(2).randint(-2, 3, (12, 10))
    arguments: dict[str, Any] = {
        "all": {}, "labels": {"pixels": labels}, "places": {"pixels": [(3, 4), (7, 2), (11, 9)]},
        "stride": {"stride": 3}, "tiles": {"window": None, "pixels": labels},
    }[kind]  # fmt: skip
    if kind == "tiles":
        explainer, given = attr.Saliency(mapper(nn.Conv2d(BANDS, 3, 1))), {"target": [0, 2], "chunk": (4, 5)}
        run: Any = lambda **more: attr.explain_scene(explainer, array, **{**given, **arguments, **more})  # noqa: E731
    else:
        run = lambda **more: explain(tmp_path / "log", array, **{**arguments, **more})  # noqa: E731
    every = run(values=True)
    explained = int((labels > 0).sum()) if "pixels" in arguments and kind != "places" else every["map"][0].size
    explained = 3 if kind == "places" else explained
    for number in (5, 1000):
        found = run(values=number, out=tmp_path / f"{number}.zarr" if folder else None)
        assert found.sizes["pixel"] == min(number, explained)
        rows, columns = found["row"].values, found["column"].values
        assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows)
        assert "values" not in found
        want = every["values"].values[:, :, rows, columns].transpose(0, 2, 1)
        np.testing.assert_array_equal(found["pixel_values"].values, want)
        step = 3 if kind == "stride" else 1
        spectra = array.values[:, (step - 1) // 2 + step * rows, (step - 1) // 2 + step * columns].T
        seen = np.isfinite(spectra).any(1)
        np.testing.assert_array_equal(found["pixel_spectra"].values[seen], spectra[seen])
        np.testing.assert_array_equal(found["map"].values, every["map"].values)


def test_some_pixels_are_spread_over_all(tmp_path: Path) -> None:
    found = explain(tmp_path / "log", scene(field(40, 40)), values=100, chunk=(16, 16))
    for name in ("row", "column"):
        counts = np.bincount(found[name].values // 10, minlength=4)
        assert (counts > 12).all()
    for wrong in (0, -3, 2.5, "all"):
        with pytest.raises((TypeError, ValueError), match="values"):
            explain(tmp_path / "log", values=wrong)


def test_tiles_in_a_folder(tmp_path: Path) -> None:
    explainer = attr.Saliency(mapper(convolutions()))
    array = scene(field(40, 50)).chunk({"y": 16, "x": 16})
    found, want = (
        attr.explain_scene(explainer, array, target=0, chunk=20, out=out) for out in (tmp_path / "scene.zarr", None)
    )
    np.testing.assert_allclose(found["map"], want["map"], atol=1e-12)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_maps_lie_where_the_scene_does(tmp_path: Path) -> None:
    """By the reckoning of rasterio and rioxarray, for a scene in a file and maps in memory and in a folder."""
    place = Affine(10.0, 0.0, 500000.0, 0.0, -10.0, 4000000.0)
    profile = {"driver": "GTiff", "count": 4, "height": 12, "width": 10, "dtype": "float64", "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "scene.tif", "w", transform=place, nodata=-9.0, **profile) as file:
        file.write(field(12, 10))
    array = rioxarray.open_rasterio(tmp_path / "scene.tif", chunks={"x": 5, "y": 5})
    for stride, out in ((1, None), (3, None), (3, tmp_path / "scene.zarr")):
        found = attr.explain_scene(
            attr.Saliency(patch_model(3)), array, window=3, stride=stride, target=0, out=out,
            wavelengths=[450.0, 520.0, 600.0, 650.0],
        )  # fmt: skip
        assert found["map"].rio.crs == rasterio.CRS.from_epsg(32633)
        assert found["map"].rio.transform(recalc=True) == place * Affine.scale(stride)
        assert found["map"].rio.transform() == place * Affine.scale(stride)


MEMORY = """
import sys
import dask.array as da, numpy as np, torch, xarray
from torch import nn
from meteors_c import attr
from benchmarks.memory import peak_bytes
from meteors_c.models import ExplainableModel

kind, side, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
bands = 50
torch.manual_seed(0)
torch.set_num_threads(1)
values = da.random.default_rng(0).random((bands, side, side), chunks=(bands, 128, 128), dtype="float32")
scene = xarray.DataArray(values, dims=("wavelength", "y", "x"), coords={"wavelength": 400.0 + np.arange(bands)})
if kind == "tiles":
    net = nn.Sequential(nn.Conv2d(bands, 2, 1), nn.Tanh()).eval()
    arguments = {"chunk": 128}
else:
    net = nn.Sequential(nn.Flatten(), nn.Linear(bands * 9, 2)).eval()
    arguments = {"window": 3, "chunk": 128, "pixels": np.indices((side, side)).sum(0) % 301 == 0}
explainer = attr.Saliency(ExplainableModel(net, "classification"))
found = attr.explain_scene(explainer, scene, target=0, values=True, out=out, **arguments)
assert np.isfinite(found["mean_spectrum"].values).all()
print(peak_bytes())
"""


@pytest.mark.parametrize("kind", ["tiles", "windows"])
def test_memory_does_not_grow_with_the_scene(kind: str, tmp_path: Path) -> None:
    """Nine times the pixels, of 13 MB and 118 MB, and values as many again."""
    peaks = [
        int(
            subprocess.run(
                [sys.executable, "-c", MEMORY, kind, str(side), str(tmp_path / f"{side}.zarr")],
                capture_output=True, text=True, check=True, cwd=ROOT,
            ).stdout
        )
        for side in (256, 768)
    ]  # fmt: skip
    assert peaks[1] - peaks[0] < 60_000_000
