"""``explain``: the numbers are those of the library, in files that are whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import xarray

from meteors_c import HSI, attr
from meteors_c.attr import HSIAttributes
from meteors_c.models import ExplainableModel
from tests.cli.conftest import BANDS, COLUMNS, OUTPUTS, ROWS, WAVELENGTHS, export, network, values

Command = Callable[..., tuple[int, str, str]]


def hsi() -> HSI:
    return HSI(image=torch.from_numpy(values()), wavelengths=[1000 * one for one in WAVELENGTHS])


def model() -> ExplainableModel:
    return ExplainableModel(network(), "classification")


def explain(command: Command, folder: Path, *arguments: object, name: str = "model.pt2") -> HSIAttributes:
    """The result that the command writes."""
    scene = folder / "scene.hdr"
    status, out, err = command("explain", scene, "--model", folder / name, "--out", "map.npz", *arguments)
    assert (status, out) == (0, "map.npz\n"), err
    result = HSIAttributes.load("map.npz")
    np.testing.assert_array_equal(result.hsi.image.numpy(), values())
    np.testing.assert_allclose(result.hsi.wavelengths.numpy(), [1000 * one for one in WAVELENGTHS])
    return result


@pytest.mark.parametrize("name", ["model.pt2", "static.pt2", "script.pt"])
@pytest.mark.parametrize("method", ["saliency", "ixg", "ig"])
def test_gradients(command: Command, folder: Path, name: str, method: str) -> None:
    result = explain(command, folder, "--method", method, "--target", 2, name=name)
    kinds: dict[str, Any] = {"saliency": attr.Saliency, "ixg": attr.InputXGradient, "ig": attr.IntegratedGradients}
    wanted = kinds[method](model()).attribute(hsi(), target=2)
    torch.testing.assert_close(result.attributes, wanted.attributes, rtol=1e-4, atol=1e-6)
    assert result.target == 2
    assert (result.score is not None) == (method == "ig")


@pytest.mark.parametrize("name", ["linear.onnx", "single.onnx"])
def test_onnx_by_outputs_alone(command: Command, folder: Path, name: str) -> None:
    result = explain(command, folder, "--method", "occlusion", "--by", "bands", "--target", 1, name=name)
    weight = np.load(folder / "weight.npy")[:, 1].reshape(BANDS, -1)
    wanted = (weight * values().reshape(BANDS, -1)).sum(1)
    np.testing.assert_allclose(result.attributes[:, 0, 0].numpy(), wanted, rtol=1e-3, atol=1e-4)
    if name == "single.onnx":
        assert result.report.chunk_largest == 1


def test_options_reach_the_method(command: Command, folder: Path) -> None:
    result = explain(
        command, folder, "--method", "ig", "--target", 0, "--steps", 7, "--baseline", "mean", "--option",
        "method=riemann_middle", "--batch", 3,
    )  # fmt: skip
    wanted = attr.IntegratedGradients(model()).attribute(
        hsi(), target=0, n_steps=7, baseline="mean", method="riemann_middle"
    )
    torch.testing.assert_close(result.attributes, wanted.attributes, rtol=1e-4, atol=1e-6)
    assert result.report.chunk_largest <= 3


@pytest.mark.parametrize("baseline", ["0.1,0.2,0.3,0.4,0.5", "file"])
def test_a_spectrum_as_baseline(command: Command, folder: Path, tmp_path: Path, baseline: str) -> None:
    spectrum = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    if baseline == "file":
        baseline = str(tmp_path / "spectrum.txt")
        Path(baseline).write_text("0.1 0.2\n0.3, 0.4\n0.5\n")
    result = explain(command, folder, "--method", "ig", "--target", 0, "--baseline", baseline)
    wanted = attr.IntegratedGradients(model()).attribute(hsi(), target=0, baseline=spectrum)
    torch.testing.assert_close(result.attributes, wanted.attributes, rtol=1e-4, atol=1e-6)


def test_boxes_of_occlusion(command: Command, folder: Path) -> None:
    result = explain(command, folder, "--method", "occlusion", "--by", "pixels", "--box", 2, "--target", 0)
    wanted = attr.Occlusion(model()).get_spatial_attributes(hsi(), target=0, sliding_window_shapes=2, strides=2)
    torch.testing.assert_close(result.attributes, wanted.attributes, rtol=1e-4, atol=1e-6)
    assert type(result) is attr.HSIAttributesSpatial


@pytest.mark.parametrize("method", ["lime", "kernel-shap", "shapley", "ablation"])
def test_groups_of_bands(command: Command, folder: Path, method: str) -> None:
    result = explain(command, folder, "--method", method, "--by", "bands", "--groups", 2, "--target", 0, "--seed", 4)
    assert isinstance(result, attr.HSIAttributesSpectral)
    groups, bands = result.band_mask, result.attributes[:, 0, 0]
    assert torch.equal(groups == groups[0], torch.tensor([True, True, True, False, False]))
    assert groups.unique().numel() == 2
    assert bands.unique().numel() == (1 if method == "lime" else 2)  # the Lasso leaves nothing of effects so small


def test_named_groups_and_superpixels(command: Command, folder: Path) -> None:
    result = explain(command, folder, "--method", "kernel-shap", "--groups", "B,G,R,N", "--target", 0)
    assert isinstance(result, attr.HSIAttributesSpectral)
    assert {"B", "G", "R", "N"} <= set(result.band_names)
    result = explain(
        command, folder, "--method", "lime", "--by", "superpixels", "--superpixels", 4, "--samples", 30, "--target", 0
    )
    assert isinstance(result, attr.HSIAttributesSpatial)
    assert 2 <= result.segmentation_mask.unique().numel() <= 8
    assert result.effects is not None
    assert result.effects.samples == 30


def test_seeds_repeat(command: Command, folder: Path) -> None:
    arguments = ("--method", "smoothgrad", "--around", "ixg", "--samples", 4, "--target", 0, "--seed")
    first, again, other = (explain(command, folder, *arguments, seed).attributes for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_georeference_and_several_targets(command: Command, folder: Path) -> None:
    status, out, err = command(
        "explain", folder / "scene.hdr", "--model", folder / "model.pt2", "--method", "saliency", "--target", "0,2",
        "--target", "3", "--out", "map.tif", "--out", "map.nc", "--report", "page.html", "--no-progress",
    )  # fmt: skip
    assert (status, out.split()) == (0, ["map.tif", "map.nc", "page.html"]), err
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["map.nc", "map.tif", "page.html"]
    wanted = torch.stack([attr.Saliency(model()).attribute(hsi(), target=t).attributes for t in (0, 2, 3)])
    with rasterio.open("map.tif") as file, rasterio.open(folder / "scene.img") as scene:
        assert file.crs == scene.crs
        assert file.crs is not None
        assert file.transform == scene.transform
        np.testing.assert_allclose(file.read().reshape(wanted.shape), wanted.numpy(), rtol=1e-4, atol=1e-6)
    with xarray.open_dataset("map.nc", engine="h5netcdf") as dataset:
        assert dataset["target"].values.tolist() == [0, 2, 3]
        np.testing.assert_allclose(dataset["attributions"].values, wanted.numpy(), rtol=1e-4, atol=1e-6)
    page = Path("page.html").read_text(encoding="utf-8")
    assert len(re.findall('class="panel"', page)) == 3
    assert str(folder / "model.pt2") in page


def test_all_targets_by_outputs_alone(command: Command, folder: Path) -> None:
    status, _, err = command(
        "explain", folder / "scene.hdr", "--model", folder / "linear.onnx", "--method", "ablation", "--target", "all",
        "--out", "map.tif",
    )  # fmt: skip
    assert status == 0, err
    with rasterio.open("map.tif") as file:
        assert file.count % OUTPUTS == 0


def test_bands_are_chosen(command: Command, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "three.py").write_text("def make():\n    return lambda x: (x * x).flatten(1).sum(1)\n")
    status, _, err = command(
        "explain", folder / "scene.hdr", "--model", "three:make", "--method", "ixg", "--bands", "0-1,4", "--problem",
        "regression", "--out", "map.npz",
    )  # fmt: skip
    assert status == 0, err
    result = HSIAttributes.load("map.npz")
    np.testing.assert_allclose(result.attributes.numpy(), 2 * values()[[0, 1, 4]] ** 2, rtol=1e-5)


# ---------------------------------------------------------------- whole scenes


def patch_maps(scene: np.ndarray, targets: list[int]) -> np.ndarray:
    """Sums over the bands of InputXGradient at the centre of each 3 x 3 patch, by reflection at the border."""
    padded = np.pad(scene, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    batch = torch.from_numpy(np.ascontiguousarray(windows.transpose(1, 2, 0, 3, 4)).reshape(-1, BANDS, 3, 3))
    batch.requires_grad_()
    outputs = network(3, 3)(batch)
    maps = []
    for target in targets:
        (gradient,) = torch.autograd.grad(outputs[:, target].sum(), batch, retain_graph=True)
        maps.append((gradient * batch).detach()[:, :, 1, 1].sum(1).reshape(scene.shape[1:]).numpy())
    return np.stack(maps)


def test_patches_of_a_whole_scene(command: Command, folder: Path) -> None:
    status, out, err = command(
        "explain", folder / "scene.hdr", "--model", folder / "patches.pt", "--method", "ixg", "--window", 3,
        "--target", "1,3", "--out", "map.tif", "--out", "map.nc", "--out", "map.zarr", "--report", "page.html",
    )  # fmt: skip
    assert (status, out.split()) == (0, ["map.tif", "map.nc", "map.zarr", "page.html"]), err
    wanted = patch_maps(values(), [1, 3])
    with rasterio.open("map.tif") as file, rasterio.open(folder / "scene.img") as scene:
        np.testing.assert_allclose(file.read(), wanted, rtol=1e-3, atol=1e-5)
        assert (file.crs, file.transform) == (scene.crs, scene.transform)
    for name, engine in (("map.nc", "h5netcdf"), ("map.zarr", "zarr")):
        with xarray.open_dataset(name, engine=engine) as dataset:  # type: ignore[arg-type]
            np.testing.assert_allclose(dataset["map"].values, wanted, rtol=1e-3, atol=1e-5)
    assert len(re.findall('class="panel"', Path("page.html").read_text(encoding="utf-8"))) == 2


def test_chosen_pixels_and_strides(command: Command, folder: Path) -> None:
    arguments = ("explain", folder / "scene.hdr", "--model", folder / "patches.pt", "--method", "ixg", "--target", 1)
    wanted = patch_maps(values(), [1])[0]
    status, _, err = command(
        *arguments, "--window", 3, "--pixels", "0,0;4,5", "--out", "map.tif", "--report", "page.html"
    )
    assert status == 0, err
    with rasterio.open("map.tif") as file:
        found = file.read(1)
    places = np.zeros((ROWS, COLUMNS), dtype=bool)
    places[0, 0] = places[4, 5] = True
    np.testing.assert_allclose(found[places], wanted[places], rtol=1e-3, atol=1e-5)
    assert np.isnan(found[~places]).all()
    np.save("mask.npy", places)
    status, _, err = command(*arguments, "--window", 3, "--pixels", "mask.npy", "--out", "again.tif")
    assert status == 0, err
    with rasterio.open("again.tif") as file:
        np.testing.assert_array_equal(file.read(1), found)
    labels = np.where(places, 2.0, 255.0).astype(np.float32)  # in a raster, of which 255 marks what has no label
    with rasterio.open("labels.tif", "w", driver="GTiff", count=1, height=ROWS, width=COLUMNS, dtype="float32",
                       nodata=255) as file:  # fmt: skip
        file.write(labels, 1)
    status, _, err = command(*arguments, "--window", 3, "--pixels", "labels.tif", "--out", "labelled.nc")
    assert status == 0, err
    with xarray.open_dataset("labelled.nc", engine="h5netcdf") as dataset:
        assert dataset["class"].values.tolist() == [2]
        np.testing.assert_array_equal(dataset["map"][0], found)
    status, _, err = command(*arguments, "--window", 3, "--stride", 2, "--out", "coarse.tif", "--report", "coarse.html")
    assert status == 0, err
    with rasterio.open("coarse.tif") as file:
        assert file.res == (60, 60)


# ---------------------------------------------------------------- files


def test_what_fails_leaves_no_file(command: Command, folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from meteors_c import pages

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    Path("map.tif").write_bytes(b"before")
    monkeypatch.setattr(pages, "write", fail)
    status, out, err = command(
        "explain", folder / "scene.hdr", "--model", folder / "model.pt2", "--method", "saliency", "--target", 0,
        "--out", "map.tif", "--report", "page.html",
    )  # fmt: skip
    assert (status, out) == (1, "")
    assert "No space left" in err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]
    assert Path("map.tif").read_bytes() == b"before"


def test_named_groups_of_occlusion(command: Command, folder: Path) -> None:
    result = explain(command, folder, "--method", "occlusion", "--groups", "blue,NIR", "--target", 1)
    wanted = attr.Occlusion(model()).get_spectral_attributes(hsi(), target=1, band_names=["blue", "NIR"])
    torch.testing.assert_close(result.attributes, wanted.attributes, rtol=1e-4, atol=1e-6)
    arguments = ("--window", 3, "--method", "occlusion", "--groups", "blue,NIR", "--target", 1, "--out", "map.tif")
    status, _, err = command("explain", folder / "scene.hdr", "--model", folder / "patches.pt", *arguments)
    assert status == 0, err
    assert "warning" not in err


@pytest.mark.parametrize("method", ["saliency", "ixg", "ig", "smoothgrad"])
def test_programs_of_one_image_explain_many_windows(
    command: Command, folder: Path, tmp_path: Path, method: str
) -> None:
    export(tmp_path / "single.pt2", network(3, 3), torch.zeros(1, BANDS, 3, 3), False)
    found = []
    for number, options in enumerate(([tmp_path / "single.pt2"], [folder / "patches.pt"])):
        draws = ["--samples", 2] if method == "smoothgrad" else []
        status, _, err = command(
            "explain", folder / "scene.hdr", "--model", *options, "--method", method, "--window", 3, "--target", 1,
            "--out", f"{number}.tif", *draws,
        )  # fmt: skip
        assert status == 0, err
        with rasterio.open(f"{number}.tif") as file:
            found.append(file.read())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-5)


def test_the_scale_of_a_scene_is_applied_on_request(command: Command, folder: Path, tmp_path: Path) -> None:
    header = (folder / "scene.hdr").read_text() + "reflectance scale factor = 4\n"
    (tmp_path / "scaled.hdr").write_text(header)
    (tmp_path / "scaled.img").write_bytes((folder / "scene.img").read_bytes())
    arguments = ("--model", folder / "model.pt2", "--method", "saliency", "--target", 0, "--out", "map.npz")
    for option, factor in (("--scale", 4), ("--no-scale", 1)):
        status, _, err = command("explain", tmp_path / "scaled.hdr", *arguments, option)
        assert status == 0, err
        assert "warning" not in err
        np.testing.assert_allclose(HSIAttributes.load("map.npz").hsi.image.numpy(), values() / factor, rtol=1e-6)
    status, _, err = command("explain", tmp_path / "scaled.hdr", *arguments)
    assert status == 0, err
    assert "--scale" in err


def test_what_is_read_is_not_written_over(command: Command, folder: Path, tmp_path: Path) -> None:
    with rasterio.open(
        "scene.tif", "w", driver="GTiff", count=BANDS, height=ROWS, width=COLUMNS, dtype="float32"
    ) as file:
        file.write(values())
        for band, wavelength in enumerate(WAVELENGTHS, start=1):
            file.update_tags(band, wavelength=str(wavelength), wavelength_units="um")
    before = Path("scene.tif").read_bytes()
    Path("link.tif").symlink_to("scene.tif")
    Path("hard.tif").hardlink_to("scene.tif")
    arguments = ("--model", folder / "model.pt2", "--method", "saliency", "--target", 0)
    for name in ("scene.tif", tmp_path / "scene.tif", "link.tif", "hard.tif"):
        status, out, err = command("explain", "scene.tif", *arguments, "--out", name)
        assert (status, out) == (2, "")
        assert "would be lost" in err
        assert Path("scene.tif").read_bytes() == before
    status, _, err = command("explain", "scene.tif", *arguments, "--out", "map.tif", "--out", "./map.tif")
    assert (status, "twice" in err) == (2, True)
