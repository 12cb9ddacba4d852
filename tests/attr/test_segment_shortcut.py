"""The shortcut for superpixels: sums over places that the same superpixels reach in front of a pool."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import meteors_c as mt
from meteors_c.attr import FeatureAblation, KernelShap, Lime, ShapleyValueSampling
from meteors_c.models.linear import SkLearnLinearRegression
from tests.toys import assert_shortcut, each_pair, explainable

BANDS, ROWS, COLUMNS = 6, 24, 20
ROW, COLUMN = torch.arange(ROWS)[:, None], torch.arange(COLUMNS)[None]
SIX = ROW // 8 * 2 + COLUMN // 10  # superpixels in a grid of 3 x 2
THIRTY = ROW // 4 * 5 + COLUMN // 4  # 6 x 5


def image(seed: int = 0, dtype: torch.dtype = torch.float64, **fields: Any) -> mt.HSI:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(BANDS, ROWS, COLUMNS, generator=generator, dtype=torch.float64).to(dtype)
    return mt.HSI(image=values, wavelengths=torch.linspace(400, 900, BANDS), **fields)


class Network(nn.Module):
    """Layers that functions of this file put together."""

    def __init__(self, forward: Callable[[Network, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = forward
        self.pixel, self.mix = nn.Conv2d(BANDS, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.layer_norm = nn.BatchNorm2d(8), nn.LayerNorm(8)
        self.spectral, self.few, self.head = nn.Linear(BANDS, 8), nn.Linear(8, 4), nn.Linear(8, 3)
        self.spectrum = nn.Conv1d(1, 2, 3)
        self.cubes = nn.Conv3d(1, 8, (3, 3, 3), stride=(2, 1, 1), padding=(0, 1, 1))
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8, dilation=2, padding="same")
        self.strided = nn.Conv2d(8, 8, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def pixelwise(net: Network, x: torch.Tensor) -> torch.Tensor:
    return net.head(functional.gelu(net.pixel(x)).mean((2, 3)))


def convolutions(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = functional.relu(net.norm(net.mix(net.pixel(x))))
    return net.head(functional.adaptive_avg_pool2d(net.mix(y), 1).flatten(1))


def strides_and_pools(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = functional.max_pool2d(functional.silu(net.strided(net.pixel(x))), 3, stride=2, padding=1, ceil_mode=True)
    return net.head(functional.avg_pool2d(y, 2, stride=1).sum((2, 3)))


def residual(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = functional.relu(net.pixel(x))
    return net.head(functional.relu_(net.depthwise(y) + y).mean(-1).mean(-1))


def gated(net: Network, x: torch.Tensor) -> torch.Tensor:
    left, right = functional.pad(torch.cat([net.pixel(x), net.mix(net.pixel(x))], 1), (1, 0, 2, 1)).chunk(2, 1)
    return net.head((left * right.sigmoid()).mean((2, 3)))


def upsampled(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = net.up(functional.avg_pool2d(net.pixel(x), 2))
    y = functional.interpolate(functional.max_pool2d(y, 2), scale_factor=2, mode="bilinear", align_corners=False)
    return net.head(functional.pixel_shuffle(y.tanh().repeat(1, 4, 1, 1), 2).mean((2, 3)))


def nearest(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = functional.interpolate(net.strided(net.pixel(x)), scale_factor=2)
    return net.head(functional.pad(y, (1, 1, 1, 1), mode="replicate").tanh().mean((2, 3)))


def channels_last(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = functional.gelu(net.layer_norm(net.spectral(x.permute(0, 2, 3, 1))))
    return net.head(y.reshape(len(x), -1, 8).softmax(-1).mean(1))


def each_spectrum(net: Network, x: torch.Tensor) -> torch.Tensor:
    n, bands, rows, columns = x.shape
    spectra = x.permute(0, 2, 3, 1).reshape(-1, 1, bands)
    return net.few(functional.relu(net.spectrum(spectra)).flatten(1)).view(n, rows * columns, 4).mean(1)


def three_axes(net: Network, x: torch.Tensor) -> torch.Tensor:
    return net.head(functional.relu(net.cubes(x[:, None])).mean((2, 3, 4)))


def rules(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = net.pixel(x)
    return net.head(torch.where(x[:, 1:2] > 0, y, y * 0.5).mean((2, 3)))


def two_pools(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = net.pixel(x)
    return net.head(functional.relu(net.mix(y)).mean((2, 3)) + y.tanh().amax((2, 3)))


def maximum(net: Network, x: torch.Tensor) -> torch.Tensor:
    return net.head(functional.adaptive_max_pool2d(net.mix(net.pixel(x)), 1).flatten(1))


def sums_of_outputs(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = pixelwise(net, x).tanh()
    return torch.stack([y.sum(1), y.amax(1)], 1)


# With the most samples that may be evaluated in front of the pool for the 64 coalitions of six superpixels.
TAKEN = [
    (pixelwise, 4), (convolutions, 25), (strides_and_pools, 40), (residual, 25), (gated, 25), (upsampled, 40),
    (nearest, 40), (channels_last, 4), (each_spectrum, 4), (three_axes, 25), (rules, 4), (two_pools, 25), (maximum, 25),
    (sums_of_outputs, 4),
]  # fmt: skip


def attention(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = functional.avg_pool2d(net.pixel(x), 4).flatten(2).transpose(1, 2)
    return net.head((torch.softmax(y @ y.transpose(1, 2), -1) @ y).mean(1))


def global_context(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = net.pixel(x)
    return net.head((y * y.mean((2, 3), keepdim=True).sigmoid()).mean((2, 3)))


def wide(net: Network, x: torch.Tensor) -> torch.Tensor:
    y = net.pixel(x)
    for _ in range(8):
        y = net.mix(functional.max_pool2d(y, 3, stride=1, padding=1)).tanh()
    return net.head(y.mean((2, 3)))


def instance_statistics(net: Network, x: torch.Tensor) -> torch.Tensor:
    return net.head(functional.instance_norm(net.pixel(x)).relu().mean((2, 3)))


def made(function: Callable[[Network, torch.Tensor], torch.Tensor], dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    net = Network(function).to(dtype)
    net.norm.running_mean.uniform_(0.1, 0.5)
    net.norm.running_var.uniform_(0.5, 2)
    return net.eval()


def explained(method: Any, model: Any, hsi: Any, mask: Any, shortcuts: Any = "always", **arguments: Any) -> Any:
    torch.manual_seed(2)
    arguments = {"target": 1, "baseline": 0.1, **arguments}
    with mt.options(shortcuts=shortcuts), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = method(explainable(model), *([SkLearnLinearRegression()] if method is Lime else []))
        if method is FeatureAblation:
            masks = [one.squeeze(0) for one in mask] if isinstance(mask, list) else mask.squeeze(0)
            return explainer.attribute(hsi, feature_mask=masks, **arguments)
        return explainer.get_spatial_attributes(hsi, mask, **arguments)


def assert_same(got: Any, want: Any, within: float = 1e-11) -> None:
    many = isinstance(want, list)
    for one, other in zip(got if many else [got], want if many else [want], strict=True):
        scale = other.attributes.abs().max()
        assert scale > 0
        assert (one.attributes - other.attributes).abs().max() <= within * scale


def expected(report: Any) -> int:
    """Evaluations in front of the pool that the report announces."""
    return int(re.search(r"(\d+) evaluations", report.shortcut)[1])


@pytest.mark.parametrize(("function", "most"), TAKEN)
def test_all_coalitions_cost_few_evaluations(function, most):
    model, hsi = made(function), image()
    got = explained(KernelShap, model, hsi, SIX[None])
    assert_shortcut(got.report)
    assert expected(got.report) <= most
    assert_same(got, explained(KernelShap, model, hsi, SIX[None], False))


METHODS = [
    (KernelShap, SIX, {}),
    (KernelShap, SIX, {"n_samples": 40}),
    (Lime, SIX, {"n_samples": 100}),
    (ShapleyValueSampling, SIX, {"n_samples": 12}),
    (FeatureAblation, THIRTY, {}),
]


@pytest.mark.parametrize(
    ("method", "function"), each_pair(METHODS, [pixelwise, convolutions, channels_last, two_pools])
)
def test_methods(method, function):
    method, mask, arguments = method
    model, hsi = made(function), image()
    got = explained(method, model, hsi, mask[None], **arguments)
    assert_shortcut(got.report)
    assert_same(got, explained(method, model, hsi, mask[None], False, **arguments))


@pytest.mark.parametrize("size", [1, 5])
def test_batch_sizes(size):
    model, hsi = made(convolutions), image()
    got = explained(KernelShap, model, hsi, SIX[None], perturbations_per_eval=size)
    assert got.report.chunk_largest <= size
    assert_same(got, explained(KernelShap, model, hsi, SIX[None], False))


@pytest.mark.parametrize(("function", "most"), [(pixelwise, 3), (convolutions, 11)])
def test_superpixels_far_apart_are_left_out_together(function, most):
    model, hsi = made(function), image()
    got = explained(FeatureAblation, model, hsi, THIRTY[None])
    assert_shortcut(got.report)
    assert expected(got.report) <= most
    assert_same(got, explained(FeatureAblation, model, hsi, THIRTY[None], False))


@pytest.mark.parametrize("function", [attention, global_context, wide, instance_statistics])
def test_nothing_is_shared_where_all_superpixels_meet(function):
    model, hsi = made(function), image()
    got = explained(KernelShap, model, hsi, SIX[None])
    assert expected(got.report) == 64  # as many as there are coalitions: "always" takes it nevertheless
    assert_same(got, explained(KernelShap, model, hsi, SIX[None], False))


OWN = [
    (KernelShap, [SIX[None], (ROW // 12 * 2 + COLUMN // 7)[None].clamp(max=4), (ROW // 4 + 0 * COLUMN)[None]]),
    (FeatureAblation, [THIRTY[None], (ROW // 6 * 5 + COLUMN // 4)[None], (ROW // 4 * 4 + COLUMN // 5)[None]]),
]


@pytest.mark.parametrize(("method", "masks"), OWN)
def test_images_with_masks_of_their_own(method, masks):
    model = made(convolutions)
    images = [image(0), image(1), image(2)]
    got = explained(method, model, images, masks)
    assert all(one.report.shortcut for one in got)
    assert_same(got, explained(method, model, images, masks, False))


def test_pixels_under_the_mask_keep_their_values():
    model = made(convolutions)
    used = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    used[:, 3:5, 4:14] = False
    hsi = image(binary_mask=used.expand(BANDS, -1, -1))
    got = explained(KernelShap, model, hsi, SIX[None])
    assert_shortcut(got.report)
    assert_same(got, explained(KernelShap, model, hsi, SIX[None], False))


@pytest.mark.parametrize("function", [pixelwise, channels_last])
def test_features_of_bands_and_pixels(function):
    mask = torch.cat([SIX.expand(3, -1, -1) // 2, SIX.expand(3, -1, -1) // 2 + 3])  # 3 superpixels x 2 superbands
    model, hsi = made(function), image()
    got = explained(FeatureAblation, model, hsi, mask)
    assert_same(got, explained(FeatureAblation, model, hsi, mask, False))


@pytest.mark.parametrize("orientation", ["HWC", "WCH"])
def test_orientations(orientation):
    axes = ["CHW".index(letter) for letter in orientation]
    back = [orientation.index(letter) for letter in "CHW"]
    body = made(convolutions)
    model = nn.Sequential(Turned(back), body).eval()
    hsi = mt.HSI(
        image=image().image.permute(axes).contiguous(),
        wavelengths=torch.linspace(400, 900, BANDS),
        orientation=tuple(orientation),
    )
    mask = SIX[None].permute(axes)
    got = explained(KernelShap, model, hsi, mask)
    assert_shortcut(got.report)
    assert_same(got, explained(KernelShap, model, hsi, mask, False))


class Turned(nn.Module):
    """Axes of images in another order."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.order = [0, *(axis + 1 for axis in order)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(self.order)


@pytest.mark.parametrize("function", [pixelwise, convolutions])
def test_single_precision_is_as_near_to_double_as_the_model(function):
    exact = explained(KernelShap, made(function), image(), SIX[None], False).attributes
    errors = {}
    for shortcuts in ["always", False]:
        got = explained(KernelShap, made(function, torch.float32), image(dtype=torch.float32), SIX[None], shortcuts)
        errors[shortcuts] = (got.attributes - exact).abs().max() / exact.abs().max()
    assert errors["always"] <= max(2 * errors[False], 1e-6)
