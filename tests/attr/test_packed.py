"""Convolutions whose weights are laid out once (float32 on CPUs): as exact as torch's own, and nothing is hidden."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import meteors_c as mt
from meteors_c import attr
from tests.toys import assert_shortcut, explainable

SHAPE = (8, 19, 22)


class Network(nn.Module):
    """A layer over an image seen as `shape` (channels, ...), then weights that no two values share."""

    def __init__(self, layer: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer, self.shape = layer, shape
        with torch.no_grad():
            self.register_buffer("weights", torch.randn_like(layer(torch.zeros(1, *shape))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.leaky_relu(self.layer(x.reshape(len(x), *self.shape)), 0.2)
        return (y * self.weights).flatten(1).sum(1, keepdim=True)


LAYERS: list[tuple[Any, Any, tuple[int, ...]]] = [
    (nn.Conv2d, {"out_channels": 12, "kernel_size": 3, "padding": 1}, SHAPE),
    (nn.Conv2d, {"out_channels": 12, "kernel_size": (5, 3), "padding": (4, 0), "bias": False}, SHAPE),
    (nn.Conv2d, {"out_channels": 16, "kernel_size": 3, "stride": (2, 3), "padding": 1}, SHAPE),
    (nn.Conv2d, {"out_channels": 16, "kernel_size": 3, "dilation": 2, "groups": 4}, SHAPE),
    (nn.Conv2d, {"out_channels": 8, "kernel_size": 5, "padding": "same", "groups": 8}, SHAPE),
    (nn.Conv2d, {"out_channels": 9, "kernel_size": 4, "padding": "same"}, SHAPE),
    (nn.Conv2d, {"out_channels": 9, "kernel_size": 3, "padding": 2, "padding_mode": "circular"}, SHAPE),
    (nn.Conv2d, {"out_channels": 40, "kernel_size": 1}, SHAPE),
    (nn.Conv3d, {"out_channels": 6, "kernel_size": 3, "stride": (2, 1, 1), "padding": (0, 1, 1)}, (1, *SHAPE)),
    (nn.Conv3d, {"out_channels": 8, "kernel_size": (3, 1, 1), "groups": 2}, (2, 4, 19, 22)),
    (nn.Conv1d, {"out_channels": 6, "kernel_size": 7, "stride": 2, "padding": 3}, (8, 418)),
    (nn.Conv1d, {"out_channels": 16, "kernel_size": 5, "dilation": 3, "groups": 2}, (8, 418)),
    (nn.ConvTranspose2d, {"out_channels": 6, "kernel_size": 3, "stride": 2}, SHAPE),
]


def image(dtype: torch.dtype) -> mt.HSI:
    values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return mt.HSI(image=values.to(dtype), wavelengths=torch.linspace(400, 900, SHAPE[0]))


def occlusion(model: nn.Module, dtype: torch.dtype, shortcuts: Any) -> Any:
    with mt.options(shortcuts=shortcuts):
        return attr.Occlusion(explainable(model)).attribute(
            image(dtype), target=0, sliding_window_shapes=(3, 5, 5), strides=(3, 5, 4), baseline=0.3
        )


def integrated_gradients(model: nn.Module, dtype: torch.dtype, shortcuts: Any) -> Any:
    with mt.options(shortcuts=shortcuts):
        return attr.IntegratedGradients(explainable(model)).attribute(image(dtype), target=0, baseline=0.3, n_steps=20)


@pytest.mark.parametrize("method", [occlusion, integrated_gradients])
@pytest.mark.parametrize(("kind", "form", "shape"), LAYERS)
@pytest.mark.parametrize("way", ["replay", "always"])
def test_as_exact_as_torch(way, kind, form, shape, method):
    torch.manual_seed(0)
    model = Network(kind(shape[0], **form), shape).eval()
    got, plain = (method(model, torch.float32, how) for how in (way, False))
    exact = method(model.double(), torch.float64, False).attributes
    assert_shortcut(got.report)
    scale = exact.abs().max()
    error, usual = ((one.attributes - exact).abs().max() / scale for one in (got, plain))
    assert error <= 3 * usual + 1e-6


def test_what_is_not_a_number_is_not_hidden_by_functions_behind():
    """max(x, 0) of what is not a number is 0 in some kernels."""

    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.next = nn.Conv2d(SHAPE[0], 8, 3), nn.Conv2d(8, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x / x[:, :, :4, :4].mean((1, 2, 3), keepdim=True)  # 0 / 0 where a window hides that corner
            return functional.relu(self.next(functional.relu(self.first(y)))).mean((2, 3))

    def run(shortcuts: Any) -> Any:
        with mt.options(shortcuts=shortcuts):
            explainer = attr.Occlusion(explainable(Normalised().eval()))
            return explainer.get_spatial_attributes(
                image(torch.float32), target=0, sliding_window_shapes=8, strides=8, baseline=0
            )

    for how in (False, "replay", "always"):
        torch.manual_seed(0)
        with pytest.warns(UserWarning, match="NaN"):
            found = run(how)
        assert found.report.nonfinite_outputs == 1
        assert found.attributes.isnan().sum() == SHAPE[0] * 8 * 8


def test_views_of_results_with_channels_last():
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(SHAPE[0], 4, 3)
            self.head = nn.Linear(4 * 17 * 20, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(functional.relu(self.first(x)).view(len(x), -1))

    torch.manual_seed(0)
    model = Viewed().eval()
    for method in (occlusion, integrated_gradients):
        got, plain = (method(model, torch.float32, how) for how in ("replay", False))
        assert_shortcut(got.report, "replay")
        assert torch.allclose(got.attributes, plain.attributes, atol=1e-5 * float(plain.attributes.abs().max()))


def test_weights_that_change_between_calls():
    torch.manual_seed(0)
    model = Network(nn.Conv2d(SHAPE[0], 12, 3), SHAPE).eval()
    explainer = attr.Occlusion(explainable(model))
    for _ in range(4):
        with torch.no_grad():
            model.layer.weight.mul_(1.5)
        with mt.options(shortcuts="always"):
            got = explainer.get_spatial_attributes(image(torch.float32), target=0, sliding_window_shapes=5, strides=5)
        with mt.options(shortcuts=False):
            plain = explainer.get_spatial_attributes(image(torch.float32), target=0, sliding_window_shapes=5, strides=5)
        assert torch.allclose(got.attributes, plain.attributes, atol=1e-5 * float(plain.attributes.abs().max()))


class Cancelling(nn.Module):
    """Squares of sums of many terms that nearly cancel: their gradients are as exact as the sums are."""

    def __init__(self, bands: int, channels: int, size: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(bands, channels, size), nn.Conv2d(channels, 16, 3)
        self.slope = 1 if size == 1 else 20
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.weight -= layer.weight.mean(dim=(1, 2, 3), keepdim=True)
                layer.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(1 + 0.2 * torch.tanh(self.slope * self.first(x))).square().flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("channels", [32, 64, 256])  # short sums, long ones, and very long ones
@pytest.mark.parametrize(
    ("method", "size"), [("IntegratedGradients", 1), ("HyperNoiseTunnel", 1), ("HyperNoiseTunnel", 5)]
)
def test_long_sums_of_gradients_round_as_on_the_plain_path(method, size, channels):
    torch.manual_seed(0)
    bands = 64
    model = Cancelling(bands, channels, size)
    values = 1 + 0.1 * torch.rand(bands, 30, 33, dtype=torch.float64)

    def attributed(model: nn.Module, dtype: torch.dtype, shortcuts: Any) -> Any:
        hsi = mt.HSI(image=values.to(dtype), wavelengths=torch.linspace(400, 900, bands))
        torch.manual_seed(0)
        with mt.options(shortcuts=shortcuts):
            if method == "IntegratedGradients":
                return attr.IntegratedGradients(explainable(model)).attribute(hsi, target=0, baseline=0.9, n_steps=20)
            return attr.HyperNoiseTunnel(attr.Saliency(explainable(model))).attribute(
                hsi, target=0, baseline=0.9, n_samples=10
            )

    got, plain = (attributed(model, torch.float32, how) for how in ("always", False))
    exact = attributed(model.double(), torch.float64, False).attributes
    assert_shortcut(got.report)
    error, usual = ((one.attributes - exact).square().mean().sqrt() for one in (got, plain))
    assert error <= 1.15 * usual
