"""Gradients along the line of models that look at each pixel by itself, and then take a mean or sum."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import meteors_c as mt
from tests.attr.lines import (
    BANDS,
    attribute,
    check_float32,
    check_on_threads,
    check_several_images,
    check_taken,
    check_without_data,
    image,
    make,
)
from tests.parity.reference import assert_close
from tests.toys import METHODS, assert_shortcut

NAME = "piecewise linear prefix, pixel by pixel"


class Mean(nn.Module):
    def __init__(self, *axes: int, keep: bool = False, total: bool = False) -> None:
        super().__init__()
        self.axes, self.keep, self.total = axes, keep, total

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(self.axes, keepdim=self.keep) if self.total else x.mean(self.axes, keepdim=self.keep)


class ByPixel(nn.Module):
    """Linear layers, a normalisation and a softmax over the features of each pixel, which come last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(BANDS, 9), nn.Linear(9, 5), nn.Linear(5, 4)
        self.norm = nn.LayerNorm(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.leaky_relu(self.first(x.permute(0, 2, 3, 1)), 0.2)
        return torch.softmax(self.last(self.norm(self.second(x))), -1).mean((1, 2))


class Block(nn.Module):
    """Branches that meet again, side by side and as a sum and a product, at each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(BANDS, 8, 1), nn.Conv2d(8, 6, 1)
        self.second, self.third = nn.Conv2d(6, 6, 1, groups=2), nn.Conv2d(12, 6, 1)
        self.norm, self.bend = nn.BatchNorm2d(6), nn.PReLU(6)
        self.scale = nn.Parameter(torch.rand(6, 1, 1) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(torch.relu(self.stem(x)))
        y = self.bend(self.norm(self.second(torch.tanh(x)))) + x
        return self.third(torch.cat([y, torch.sigmoid(x) * y * self.scale], 1)).mean((2, 3))


def head(features: int) -> list[nn.Module]:
    """Behind the mean, so that gradients there differ from point to point."""
    return [nn.Flatten(), nn.Tanh(), nn.Linear(features, 3)]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "a linear layer last": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 1), nn.ReLU(), nn.Conv2d(8, 7, 1), nn.ReLU(), nn.Conv2d(7, 3, 1), Mean(2, 3)
    ),
    "a function last": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 1), nn.ReLU(), nn.Conv2d(8, 20, 1), nn.GELU(), nn.AdaptiveAvgPool2d(1), *head(20)
    ),
    "both ends of a function passed between two points": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 37, 1), nn.Hardtanh(-0.01, 0.01), nn.Conv2d(37, 6, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), *head(6)
    ),
    "nothing between the layer and the mean": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), *head(4)
    ),
    "a sum": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 5, 1), nn.Softplus(), nn.Conv2d(5, 4, 1),
        Mean(2, 3, total=True), *head(4),
    ),
    "axes one by one, of three pieces": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 9, 1), nn.Hardtanh(-0.4, 0.5), nn.Conv2d(9, 5, 1), nn.ELU(),
        Mean(3, keep=True), Mean(2), *head(5),
    ),
    "neighbours in the prefix": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 33, 1), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), *head(33),
    ),
    "three axes": lambda: nn.Sequential(
        nn.Unflatten(1, (1, BANDS)), nn.Conv3d(1, 6, (5, 1, 1), stride=(3, 1, 1)), nn.LeakyReLU(0.1),
        nn.Conv3d(6, 4, 1), nn.Tanh(), nn.AdaptiveAvgPool3d(1), *head(4),
    ),
    "a spectrum": lambda: nn.Sequential(
        Mean(2, 3), nn.Unflatten(1, (1, BANDS)), nn.Conv1d(1, 6, 3), nn.ReLU(), nn.Conv1d(6, 4, 1), nn.Tanh(),
        Mean(2), *head(4),
    ),
    "linear layers": ByPixel,
    "branches": Block,
}  # fmt: skip


@pytest.mark.parametrize("batch", [None, 1, 7])
@pytest.mark.parametrize("name", NETWORKS)
def test_taken_and_equal(name: str, batch: int | None) -> None:
    model = make(NETWORKS[name])
    fast = attribute(model, image(), internal_batch_size=batch)
    plain = attribute(model, image(), shortcuts=False)
    assert_shortcut(fast.report, NAME, 30)
    assert_close(fast.attributes, plain.attributes, 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_each_rule_of_quadrature(method: str) -> None:
    """Points at both ends, and weights that differ."""
    check_taken(make(Block), image(), NAME, method=method)


@pytest.mark.parametrize("name", ["axes one by one, of three pieces", "linear layers"])
def test_more_points_than_are_made_at_once(name: str) -> None:
    fast = check_taken(make(NETWORKS[name]), image(), NAME, 300, n_steps=300)
    assert fast.report.chunk_largest < 300


@pytest.mark.parametrize("batch", [None, 23])
@pytest.mark.parametrize("name", ["a sum", "branches", "a spectrum"])
def test_several_images(name: str, batch: int | None) -> None:
    """Batches hold samples of two."""
    check_several_images(make(NETWORKS[name]), NAME, batch)


def test_a_large_image_is_shared_by_threads() -> None:
    """Pixels in parts, of which the last is smaller."""
    check_on_threads(make(NETWORKS["a function last"]), NAME)


def test_by_hand() -> None:
    """y = mean of 3 relu(2 x - 1) over four pixels: the gradient is 6 / 4 behind the kink at a x = 1 / 2."""
    first, second = nn.Conv2d(BANDS, 1, 1), nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        first.weight.zero_()[0, 0] = 2
        first.bias.fill_(-1)  # type: ignore[union-attr]
        second.weight.fill_(3)
        second.bias.zero_()  # type: ignore[union-attr]
    model = nn.Sequential(first, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval()
    values = torch.zeros(BANDS, 1, 4, dtype=torch.float64)
    values[0, 0] = torch.tensor([0.4, 1.0, 2.0, -5.0])
    found = attribute(
        model, mt.HSI(image=values, wavelengths=list(range(400, 400 + BANDS))), target=0, n_steps=40,
        method="riemann_middle",
    )  # fmt: skip
    assert_shortcut(found.report, NAME)
    points = [(k + 0.5) / 40 for k in range(40)]
    wanted = torch.zeros_like(values)
    for pixel, x in enumerate(values[0, 0].tolist()):
        wanted[0, 0, pixel] = x * 6 / 4 * sum(a * x > 0.5 for a in points) / 40
    torch.testing.assert_close(found.attributes, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["a linear layer last", "a sum", "axes one by one, of three pieces"])
def test_ties(name: str) -> None:
    """Pixels without data are at the kink itself all the way."""
    model = make(NETWORKS[name])
    nn.init.zeros_(model[0].bias)  # type: ignore[index, arg-type]
    values = image().image.clone()
    values[:, 3:9, :6] = 0
    hsi = mt.HSI(image=values, wavelengths=list(range(400, 400 + BANDS)))
    check_taken(model, hsi, NAME)


def test_completeness() -> None:
    model = make(Block)
    hsi = image()
    with torch.no_grad():
        ends = model(torch.stack([hsi.image, torch.zeros_like(hsi.image)]))[:, 1]
    found = attribute(model, hsi, n_steps=2000, method="riemann_middle")
    assert_shortcut(found.report, NAME)
    size = float(found.attributes.abs().sum())
    assert float(found.attributes.sum()) == pytest.approx(float(ends[0] - ends[1]), abs=1e-4 * size)


def test_float32_is_as_close_to_float64_as_the_plain_path() -> None:
    check_float32(make(NETWORKS["a linear layer last"]), NAME)


def stem(kernel: int, **more: int) -> list[nn.Module]:
    return [nn.Conv2d(BANDS, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, kernel, **more)]


class ByPosition(nn.Module):
    """A constant for each place is added behind the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(BANDS, 8, 1), nn.Conv2d(8, 5, 1)
        self.position = nn.Parameter(torch.randn(1, 1, 13, 11))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.second(torch.relu(self.first(x))) + self.position).mean((2, 3))


class Gated(ByPosition):
    """The mean over places is a factor at each of them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(torch.relu(self.first(x)))
        return torch.tanh(x * torch.sigmoid(x.mean((2, 3), keepdim=True))).mean((2, 3))


class RowsAsChannels(nn.Module):
    """Batch norm and a PReLU of what comes first, which are rows: those of other rows are not theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(BANDS, 9), nn.Linear(9, 5)
        self.norm, self.bend = nn.BatchNorm2d(13), nn.PReLU(13)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(torch.relu(self.first(x.permute(0, 2, 3, 1))))
        return torch.tanh(self.bend(self.norm(x))).mean((1, 2))


@pytest.mark.parametrize(
    "build",
    [
        ByPosition,
        Gated,
        RowsAsChannels,
        lambda: nn.Sequential(*stem(3), nn.Tanh(), Mean(2, 3)),
        lambda: nn.Sequential(*stem(1, stride=2), nn.Tanh(), Mean(2, 3)),
        lambda: nn.Sequential(*stem(1, groups=2), nn.Tanh(), Mean(2, 3)),
        lambda: nn.Sequential(*stem(1), nn.Tanh(), nn.AdaptiveMaxPool2d(1), *head(4)),
        lambda: nn.Sequential(*stem(1), nn.Softmax(2), nn.SiLU(), Mean(2, 3)),
        lambda: nn.Sequential(*stem(1), nn.GroupNorm(2, 4), Mean(2, 3)),
        lambda: nn.Sequential(*stem(1), nn.Tanh(), Mean(2), *head(44)),
    ],
    ids=[
        "a constant for each place", "gated by the mean", "rows as channels", "neighbours behind", "stride", "groups",
        "maximum", "softmax over rows", "norm over places", "mean over rows alone",
    ],
)  # fmt: skip
def test_others_are_not_taken_pixel_by_pixel(build: Callable[[], nn.Module]) -> None:
    model = make(build)
    fast, plain = (attribute(model, image(), way) for way in ("always", False))
    assert fast.report.shortcut not in (None, NAME)
    assert_close(fast.attributes, plain.attributes, 1e-12)


def test_pixels_without_data_do_not_cost_digits() -> None:
    check_without_data(make(NETWORKS["a linear layer last"]), NAME)
