"""Outputs without some bands, of models that look at each pixel by itself until a mean or sum over places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from tests.attr.lines import BANDS, COLUMNS, ROWS, image, make
from tests.parity.reference import assert_close
from tests.toys import assert_shortcut, explainable, occlude

NAME = "affine prefix, pixel by pixel"


class Block(nn.Module):
    """Branches that meet again at each pixel, behind bands that are scaled, and a head behind a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(1, BANDS, 1, 1) + 0.5)
        self.stem, self.second, self.norm = nn.Conv2d(BANDS, 8, 1), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem((x - 0.2) * self.scale))
        x = torch.sigmoid(x) * torch.tanh(self.second(torch.relu(x)))
        return self.head(torch.tanh(x.sum((2, 3)) / 50))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 1), nn.ReLU(), nn.Conv2d(8, 7, 1), nn.ReLU(), nn.Conv2d(7, 3, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ),
    "another function": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 20, 1, bias=False), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 3)
    ),
    "branches": Block,
}  # fmt: skip


@pytest.mark.parametrize("batch", [0, 1, 4])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (5, 3), (12, 1)])
@pytest.mark.parametrize("name", NETWORKS)
def test_taken_and_equal(name: str, window: int, stride: int, batch: int) -> None:
    """Windows over a band, over neighbours that overlap, and over all there are; the last one is smaller."""
    model = make(NETWORKS[name])
    given: dict[str, Any] = {"perturbations_per_eval": batch} if batch else {}
    shape, step = (window, ROWS, COLUMNS), (stride, ROWS, COLUMNS)
    fast = occlude(model, image(), shape, step, **given)
    plain = occlude(model, image(), shape, step, shortcuts=False)
    if window < BANDS:
        assert_shortcut(fast.report, NAME)
    assert_close(fast.attributes, plain.attributes, 1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_several_images(name: str) -> None:
    """Each with its own target and baseline; batches hold samples of two."""
    model, images = make(NETWORKS[name]), [image(k, spread=0.3 * 4**k) for k in range(4)]
    given: dict[str, Any] = {"target": [0, 1, 2, 1], "baseline": [0.0, 0.5, -1.0, images[0].image / 2]}
    shape, step = (2, ROWS, COLUMNS), (1, ROWS, COLUMNS)
    fast = occlude(model, images, shape, step, **given)
    plain = occlude(model, images, shape, step, shortcuts=False, **given)
    for one, other in zip(fast, plain, strict=True):
        assert_shortcut(one.report, NAME)
        assert_close(one.attributes, other.attributes, 1e-12)


def test_superbands() -> None:
    """Bands that are no neighbours, few and most of them, by a method that fits a model."""
    model, hsi = make(Block), image()
    bands = {"a": list(range(400, 412, 3)), "b": list(range(401, 412, 3)), "c": [402], "d": [405, 408, 411]}
    found = []
    for way in ("always", False):
        with mt.options(shortcuts=way):
            found.append(mt.attr.KernelShap(explainable(model)).get_spectral_attributes(
                hsi, band_mask=mt.attr.Lime.get_band_mask(hsi, band_wavelengths=bands)[0], target=1, n_samples=16
            ))  # fmt: skip
    assert_shortcut(found[0].report, NAME)
    assert_close(found[0].attributes, found[1].attributes, 1e-12)


def test_by_hand() -> None:
    """y = mean of relu(band 0 + 2 band 1): without a band what is left of it."""
    model = nn.Sequential(nn.Conv2d(BANDS, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval()
    with torch.no_grad():
        model[0].weight.zero_()[0, :2, 0, 0] = torch.tensor([1.0, 2.0])
        model[0].bias.zero_()  # type: ignore[union-attr]
    values = torch.zeros(BANDS, 1, 4, dtype=torch.float64)
    values[0, 0] = torch.tensor([1.0, -1.0, 3.0, 0.0])
    values[1, 0] = torch.tensor([0.5, 2.0, -1.0, 0.0])
    hsi = mt.HSI(image=values, wavelengths=list(range(400, 400 + BANDS)))
    found = occlude(model, hsi, (1, 1, 4), (1, 1, 4), target=0, baseline=0.0)
    assert_shortcut(found.report, NAME)
    whole = (2 + 3 + 1 + 0) / 4
    wanted = torch.zeros(BANDS, dtype=torch.float64)
    wanted[0], wanted[1] = whole - (1 + 4 + 0 + 0) / 4, whole - (1 + 0 + 3 + 0) / 4
    torch.testing.assert_close(found.attributes[:, 0, 0], wanted, rtol=0, atol=1e-14)


def test_float32_is_as_close_to_float64_as_the_plain_path() -> None:
    model, shape, step = make(NETWORKS["convolutions"]), (2, ROWS, COLUMNS), (1, ROWS, COLUMNS)
    exact = occlude(model, image(), shape, step, shortcuts=False).attributes
    model, hsi = model.float(), image(dtype=torch.float32)
    fast, plain = (occlude(model, hsi, shape, step, way) for way in ("always", False))
    assert_shortcut(fast.report, NAME)
    error = [float((one.attributes.double() - exact).abs().max() / exact.abs().max()) for one in (fast, plain)]
    assert error[0] <= max(2 * error[1], 1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Conv2d(BANDS, 3, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        lambda: nn.Sequential(
            nn.Conv2d(BANDS, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        lambda: nn.Sequential(nn.Conv2d(BANDS, 3, 1), nn.Tanh(), nn.AdaptiveMaxPool2d(1), nn.Flatten()),
    ],
    ids=["neighbours in front", "neighbours behind", "maximum"],
)  # fmt: skip
def test_others_are_not_taken(build: Callable[[], nn.Module]) -> None:
    model, shape, step = make(build), (2, ROWS, COLUMNS), (1, ROWS, COLUMNS)
    fast, plain = (occlude(model, image(), shape, step, way) for way in ("always", False))
    assert fast.report.shortcut not in (None, NAME)
    assert_close(fast.attributes, plain.attributes, 1e-12)


def test_pixels_without_data_do_not_cost_digits() -> None:
    """Differences from -9999 would: such images keep the plain numbers."""
    model, shape, step = make(NETWORKS["convolutions"]), (2, ROWS, COLUMNS), (1, ROWS, COLUMNS)
    values = image().image.clone()
    values[:, 4:9, 3:8] = -9999
    wavelengths = list(range(400, 400 + BANDS))
    exact = occlude(model, mt.HSI(image=values, wavelengths=wavelengths), shape, step, shortcuts=False).attributes
    model = model.float()
    hsi = mt.HSI(image=values.float(), wavelengths=wavelengths)
    fast, plain = (occlude(model, hsi, shape, step, way) for way in ("always", False))
    assert fast.report.shortcut != NAME
    error = [float((one.attributes.double() - exact).abs().max() / exact.abs().max()) for one in (fast, plain)]
    assert error[0] <= max(2 * error[1], 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("window", [2, 3, 16, 17, 23, 38])
def test_few_bands_and_many(window: int, dtype: torch.dtype) -> None:
    """Few are added up one by one, many by a matrix product, and of most of them those that stay."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(40, 9, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 3)]
    model = nn.Sequential(*layers).eval().double()
    values = torch.rand(40, 7, 5, dtype=torch.float64)
    hsi, wide = (mt.HSI(image=x, wavelengths=torch.linspace(400, 900, 40)) for x in (values.to(dtype), values))
    plain = occlude(model, wide, (window, 7, 5), (1, 7, 5), shortcuts=False)
    fast = occlude(model.to(dtype), hsi, (window, 7, 5), (1, 7, 5))
    assert_shortcut(fast.report, NAME)
    assert_close(fast.attributes.double(), plain.attributes, 3e-5 if dtype == torch.float32 else 1e-12)
