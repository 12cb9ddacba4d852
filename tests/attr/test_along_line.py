"""Gradients along the line from the baseline through a ReLU or a pool and the convolution behind it."""

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

NAME = "piecewise linear prefix"


def head(channels: int) -> list[nn.Module]:
    """What is not piecewise linear, so that each point of the line has another gradient."""
    return [nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3)]


class Residual(nn.Module):
    """A block around which its input goes: convolution and sum both read what the pool gives."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(BANDS, 6, 3, padding=1)
        self.first, self.second = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Sequential(*head(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.max_pool2d(torch.relu(self.stem(x)), 3, 2, 1)
        return self.head(self.second(torch.relu(self.first(x))) + x)


class ByPixel(nn.Module):
    """Linear layers over the bands of each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(BANDS, 9), nn.Linear(9, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.leaky_relu(self.first(x.permute(0, 2, 3, 1)), 0.2)
        return self.last(torch.tanh(self.second(x))).amax((1, 2))


class Spectrum(nn.Module):
    """One-dimensional convolutions over the mean spectrum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(1, 4, 3), nn.Conv1d(4, 5, 2, stride=2, dilation=2)
        self.last = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool1d(torch.relu(self.first(x.mean((2, 3)).unsqueeze(1))), 2, stride=1)
        return self.last(torch.tanh(self.second(x)).mean(-1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": lambda: nn.Sequential(nn.Conv2d(BANDS, 8, 1), nn.ReLU(), nn.Conv2d(8, 5, 3, padding=1), *head(5)),
    "pool, then ReLU": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(8, 40, 3), *head(40)
    ),
    "ReLU, then overlapping windows": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Conv2d(8, 6, 2), *head(6)
    ),
    "a pool alone, dilated": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 4, 1), nn.MaxPool2d(2, 1, dilation=2), nn.Conv2d(4, 6, 3, stride=2), *head(6)
    ),
    "ReLU6 and groups": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 1), nn.ReLU6(), nn.Conv2d(8, 16, 3, stride=2, padding=2, dilation=2, groups=4), *head(16)
    ),
    "hardtanh and one channel each": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 1), nn.Hardtanh(-2, 0.5), nn.Conv2d(8, 8, 3, stride=(1, 2), groups=8), *head(8)
    ),
    "three axes": lambda: nn.Sequential(
        nn.Unflatten(1, (1, BANDS)), nn.Conv3d(1, 4, 3, stride=(2, 1, 1)), nn.ReLU(), nn.Conv3d(4, 6, (2, 3, 3)),
        nn.Tanh(), nn.Flatten(), nn.Linear(6 * 4 * 9 * 7, 3),
    ),
    "all bands at once": lambda: nn.Sequential(
        nn.Unflatten(1, (1, BANDS)), nn.Conv3d(1, 4, (3, 1, 1)), nn.MaxPool3d((1, 2, 2)), nn.ReLU(),
        nn.Conv3d(4, 6, (10, 2, 2)), nn.Flatten(1, 2), *head(6),
    ),
    "batch norms": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 1), nn.BatchNorm2d(5), *head(5)
    ),
    "vectors": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(BANDS, 10), nn.ReLU(), nn.Linear(10, 6), nn.Tanh(),
        nn.Linear(6, 3),
    ),
    "residual": Residual,
    "linear layers of pixels": ByPixel,
    "a spectrum": Spectrum,
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
    check_taken(make(Residual), image(), NAME, method=method)


@pytest.mark.parametrize(
    "name", ["ReLU, then overlapping windows", "residual", "three axes", "linear layers of pixels"]
)
def test_many_points(name: str) -> None:
    """More than are added up before they go back through the convolution."""
    check_taken(make(NETWORKS[name]), image(), NAME, 300, n_steps=300)


@pytest.mark.parametrize("name", ["pool, then ReLU", "residual", "a spectrum"])
def test_several_images(name: str) -> None:
    """Batches hold samples of two."""
    check_several_images(make(NETWORKS[name]), NAME, 23)


def test_a_large_image_is_shared_by_threads() -> None:
    """Parts of the image, with convolutions across their borders, give what one thread gives."""
    layers = nn.Conv2d(BANDS, 40, 3), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(40, 6, 5, stride=2, padding=3)
    check_on_threads(make(lambda: nn.Sequential(*layers, *head(6))), NAME)


def test_by_hand() -> None:
    """y = 3 relu(2 x - 1): the gradient is 6 behind the kink at a x = 1 / 2, and 0 in front of it."""
    first, second = nn.Conv2d(BANDS, 1, 1), nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        first.weight.zero_()[0, 0] = 2
        first.bias.fill_(-1)  # type: ignore[union-attr]
        second.weight.fill_(3)
        second.bias.zero_()  # type: ignore[union-attr]
    model = nn.Sequential(first, nn.ReLU(), second, nn.Flatten()).double().eval()
    values = torch.zeros(BANDS, 1, 4, dtype=torch.float64)
    values[0, 0] = torch.tensor([0.4, 1.0, 2.0, -5.0])
    hsi = mt.HSI(image=values, wavelengths=list(range(400, 400 + BANDS)))
    wanted = []
    for x in values[0, 0].tolist():
        points = [(k + 0.5) / 40 for k in range(40)]
        wanted.append(x * 6 * sum(a * x > 0.5 for a in points) / 40)
    for pixel in range(4):
        found = attribute(model, hsi, target=pixel, n_steps=40, method="riemann_middle")
        assert_shortcut(found.report, NAME)
        one = torch.zeros_like(values)
        one[0, 0, pixel] = wanted[pixel]
        torch.testing.assert_close(found.attributes, one, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["ReLU, then overlapping windows", "ReLU6 and groups", "residual", "pool, then ReLU"])
def test_ties(name: str) -> None:
    """Pixels without data: all values of a window are equal, and at the kink itself, all the way."""
    model = make(NETWORKS[name])
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels == BANDS:
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    values = image().image.clone()
    values[:, 3:9, :6] = 0
    hsi = mt.HSI(image=values, wavelengths=list(range(400, 400 + BANDS)))
    check_taken(model, hsi, NAME)


def test_completeness() -> None:
    """The attributions of many points sum to what the output changes by."""
    model = make(NETWORKS["ReLU, then overlapping windows"])
    hsi = image()
    with torch.no_grad():
        ends = model(torch.stack([hsi.image, torch.zeros_like(hsi.image)]))[:, 1]
    found = attribute(model, hsi, n_steps=2000, method="riemann_middle")
    assert_shortcut(found.report, NAME)
    assert float(found.attributes.sum()) == pytest.approx(float(ends[0] - ends[1]), rel=1e-3)


def test_float32_is_as_close_to_float64_as_the_plain_path() -> None:
    check_float32(make(NETWORKS["pool, then ReLU"]), NAME)


def between_reads(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x.mean((2, 3)) + y.mean((2, 3)))[:, :3]


class ReadsThePrefix(nn.Module):
    """What the ReLU takes is read again behind the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(BANDS, 8, 3), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return between_reads(torch.tanh(self.second(torch.relu(x))), x)


class Detached(ReadsThePrefix):
    """No gradient comes through the ReLU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = torch.relu(self.first(x))
        return between_reads(torch.tanh(self.second(y)), self.first(x))


@pytest.mark.parametrize(
    "build",
    [
        ReadsThePrefix,
        Detached,
        lambda: nn.Sequential(nn.Conv2d(BANDS, 8, 3), nn.GELU(), nn.Conv2d(8, 5, 3), *head(5)),
        lambda: nn.Sequential(nn.Conv2d(BANDS, 8, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 5, 3), *head(5)),
        lambda: nn.Sequential(nn.Conv2d(BANDS, 8, 3), nn.LeakyReLU(-0.5), nn.Conv2d(8, 5, 3), *head(5)),
        lambda: nn.Sequential(nn.Conv2d(BANDS, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 5, 3), *head(5)),
    ],
    ids=["reads the prefix", "detached", "GELU", "average pool", "a function that falls", "transposed"],
)
def test_others_have_the_affine_prefix(build: Callable[[], nn.Module]) -> None:
    model = make(build)
    fast, plain = (attribute(model, image(), way) for way in ("always", False))
    assert fast.report.shortcut != NAME
    assert_close(fast.attributes, plain.attributes, 1e-12)


def test_values_that_are_not_finite() -> None:
    """The shortcut is declined, and the plain path says what it says."""
    model = make(NETWORKS["ReLU"])
    with torch.no_grad():
        model[0].weight[0] = 1e308  # type: ignore[index]
    found = []
    for way in ("always", False):
        try:
            found.append(attribute(model, image(), way).attributes)
        except Exception as error:
            found.append(type(error))
    if isinstance(found[0], torch.Tensor):
        torch.testing.assert_close(found[0], found[1], equal_nan=True)
    else:
        assert found[0] is found[1]


def test_pixels_without_data_do_not_cost_digits() -> None:
    check_without_data(make(NETWORKS["ReLU"]), NAME)
