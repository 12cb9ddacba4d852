"""The Indian Pines scene: its arrays, corrected wavelengths, and held-out pixels that lie apart."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from meteors_c import datasets
from meteors_c.datasets import IndianPines
from meteors_c.exceptions import ShapeMismatchError

tensorly_datasets = pytest.importorskip("tensorly.datasets")

COUNTS = [10776, 46, 1428, 830, 237, 483, 730, 28, 478, 20, 972, 2455, 593, 205, 1265, 386, 93]  # the published ones


@pytest.fixture(scope="module")
def scene() -> IndianPines:
    return datasets.load_indian_pines()


def test_image_and_labels_are_those_of_the_package(scene: IndianPines) -> None:
    bunch = tensorly_datasets.load_indian_pines()
    assert scene.hsi.orientation == ("C", "H", "W")
    assert scene.hsi.image.dtype == torch.float32
    np.testing.assert_array_equal(scene.hsi.image.permute(1, 2, 0), bunch.tensor)
    np.testing.assert_array_equal(scene.labels, bunch.ticks[0])
    assert scene.labels.dtype == torch.uint8
    assert torch.bincount(scene.labels.flatten().int()).tolist() == COUNTS
    assert len(scene.class_names) == 17
    assert "10.4231/R7RX991C" in scene.citation
    assert scene.licence.startswith("CC BY 3.0")
    assert torch.equal(scene.hsi.wavelengths, scene.wavelengths)


def test_class_names_are_in_the_order_of_the_ground_truth(scene: IndianPines) -> None:
    """By their known sizes, none of which occurs twice."""
    sizes = {"unlabelled": 10776, "Alfalfa": 46, "Oats": 20, "Soybean-mintill": 2455, "Woods": 1265, "Wheat": 205}
    for name, size in sizes.items():
        assert COUNTS[scene.class_names.index(name)] == size


def test_wavelengths_step_as_four_spectrometers_do(scene: IndianPines) -> None:
    steps = scene.wavelengths.double().diff()
    back = [index for index, step in enumerate(steps) if step < 0]
    assert back == [30, 93], "where a spectrometer begins before the last one ends"
    assert all(-10 < steps[index] < -9 for index in back)
    gaps = [index for index, step in enumerate(steps) if step > 20]
    assert gaps == [102, 143], "where bands were removed for water vapour"
    # 5 and 14 bands are missing there: the gap is as wide as that many bands and one.
    assert steps[102] / 6 == pytest.approx(9.95, abs=0.02)
    others = [step for index, step in enumerate(steps) if index not in back + gaps]
    assert 9.5 < min(others) <= max(others) < 10.0


def test_wavelengths_are_those_of_the_package_one_band_earlier_after_the_first_gap(scene: IndianPines) -> None:
    listed = np.array(tensorly_datasets.load_indian_pines().ticks[1])
    ours = scene.wavelengths.double().numpy()
    np.testing.assert_allclose(ours[:103], listed[:103], atol=1e-4)
    kept = [index for index in range(104, 200) if index not in (144, 171, 172)]  # added, and the two mistakes
    np.testing.assert_allclose(ours[kept], listed[[index - 1 for index in kept]], atol=1e-4)


def centre_of_absorption(scene: IndianPines, low: float, high: float) -> float:
    """Mean wavelength of what the line between two wavelengths has above the brightest pixels' mean radiance."""
    bands = [int((scene.wavelengths - value).abs().argmin()) for value in (low, high)]
    part = slice(bands[0], bands[1] + 1)
    pixels = scene.hsi.image.flatten(1).double() - 1000.0
    bright = pixels[:, pixels[110:140].mean(0) >= pixels[110:140].mean(0).quantile(0.9)].mean(1)[part].numpy()
    line = np.linspace(bright[0], bright[-1], len(bright))
    depth = (1.0 - bright / line).clip(min=0.0)
    return float((depth * scene.wavelengths[part].double().numpy()).sum() / depth.sum())


@pytest.mark.parametrize(
    ("low", "high", "known"), [(1541, 1602, 1575.3), (1591, 1651, 1605.7), (1983, 2034, 2008.9), (2033, 2083, 2060.3)]
)
def test_carbon_dioxide_absorbs_where_it_does(scene: IndianPines, low: float, high: float, known: float) -> None:
    """A list that is one band off is 10 nm off."""
    assert centre_of_absorption(scene, low, high) == pytest.approx(known, abs=3.0)


def test_training_and_held_out_patches_share_no_pixel(scene: IndianPines) -> None:
    def patches(where: torch.Tensor) -> torch.Tensor:
        """Every pixel of a 9 x 9 patch about a pixel in `where`."""
        return torch.nn.functional.max_pool2d(where[None].float(), 9, stride=1, padding=4)[0] > 0

    assert not (patches(scene.training) & patches(scene.held_out)).any()
    for part in scene.training, scene.held_out:
        assert (scene.labels[part] > 0).all()
    for names in ("Corn", "Soybean", "Grass", "Woods"):
        assert (scene.pixels(names) & scene.training).any()
        assert (scene.pixels(names) & scene.held_out).any()


def test_pixels_of_classes(scene: IndianPines) -> None:
    corn = scene.pixels("Corn")
    assert torch.equal(corn, (scene.labels >= 2) & (scene.labels <= 4))
    assert torch.equal(scene.pixels("Corn", "Oats"), corn | (scene.labels == 9))
    with pytest.raises(ValueError, match="Rice"):
        scene.pixels("Corn", "Rice")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorly", None)
    with pytest.raises(ImportError, match="pip install tensorly"):
        datasets.load_indian_pines()


def test_another_scene_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bunch = tensorly_datasets.load_indian_pines()
    bunch.tensor = bunch.tensor[..., :100]
    monkeypatch.setattr(tensorly_datasets, "load_indian_pines", lambda: bunch)
    with pytest.raises(ShapeMismatchError, match="100"):
        datasets.load_indian_pines()
