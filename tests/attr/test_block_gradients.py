"""Gradients of convolutions with few input channels or strides, which are computed by blocks: torch's own numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c import attr

CONVOLUTIONS: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}


class First(nn.Module):
    """A convolution over the input seen as `shape` (channels, ...), then weights that no two values share."""

    def __init__(self, shape: tuple[int, ...], outputs: int, kernel: Any, stride: Any, padding: Any) -> None:
        super().__init__()
        self.shape = shape
        self.layer = CONVOLUTIONS[len(shape) - 1](shape[0], outputs, kernel, stride, padding)
        with torch.no_grad():
            self.register_buffer("weights", torch.randn_like(self.layer(torch.zeros(1, *shape))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.sin(self.layer(x.reshape(len(x), *self.shape))) * self.weights).flatten(1).sum(1, keepdim=True)


def gradients(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    x = images.clone().requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None
    return x.grad


def saliency(model: nn.Module, images: torch.Tensor, **options: Any) -> tuple[torch.Tensor, mt.attr.Report]:
    """Signed gradients, and the report of their run."""
    wavelengths = list(range(400, 400 + images.shape[1]))
    samples = [mt.HSI(image=image, wavelengths=wavelengths) for image in images]
    explainer = mt.models.ExplainableModel(model.eval(), "regression")
    with mt.options(**options):
        results = attr.Saliency(explainer).attribute(samples, target=0, abs=False)
    return torch.stack([result.attributes for result in results]), results[0].report


@pytest.mark.parametrize(
    ("shape", "outputs", "kernel", "stride", "padding"),
    [
        ((1, 60, 9, 9), 8, (7, 3, 3), (2, 1, 1), 0),
        ((1, 61, 9, 10), 8, (7, 3, 3), (2, 1, 1), (3, 1, 1)),
        ((1, 59, 12, 11), 16, (5, 5, 3), (1, 2, 1), (2, 0, 1)),
        ((1, 40, 16, 16), 16, (3, 3, 3), (3, 2, 2), (0, 1, 1)),
        ((4, 31, 12, 12), 16, (5, 3, 3), (2, 1, 1), (4, 2, 2)),
        ((2, 64, 9, 9), 12, (7, 1, 3), (2, 1, 1), (3, 0, 0)),
        ((3, 96, 97), 32, 7, 2, 3),
        ((3, 95, 64), 24, (5, 7), (2, 3), (1, 3)),
        ((1, 120, 90), 32, 5, 1, 2),
        ((8, 101, 99), 32, 5, (2, 1), 0),
        ((1, 101, 99), 32, 9, 4, (8, 1)),
        ((1, 101, 99), 32, 9, 2, (3, 8)),
    ],
)
def test_the_gradient_of_a_convolution_is_as_exact_as_torchs(
    shape: tuple[int, ...], outputs: int, kernel: Any, stride: Any, padding: Any
) -> None:
    torch.manual_seed(3)
    model = First(shape, outputs, kernel, stride, padding)
    flat = shape if len(shape) == 3 else (shape[0] * shape[1], *shape[2:])
    images = torch.rand(12, *flat)
    found, report = saliency(model, images)
    own, plain = saliency(model, images, shortcuts=False)
    exact = gradients(model.double(), images.double())
    scale = exact.abs().max()
    assert report.kernels is not None
    assert plain.kernels is None
    assert (found - exact).abs().max() <= 2 * (own - exact).abs().max() + 1e-6 * scale
    assert (found - exact).norm() <= 2 * (own - exact).norm() + 1e-7 * exact.norm()


class Patches(nn.Module):
    """Three 3-D convolutions over the bands, as patch classifiers begin."""

    def __init__(self) -> None:
        super().__init__()
        widths = [1, 8, 16, 32]
        self.features = nn.Sequential(
            *(
                layer
                for before, after in pairwise(widths)
                for layer in (nn.Conv3d(before, after, (5, 3, 3), stride=(2, 1, 1)), nn.Tanh())
            )
        )
        self.classify = nn.LazyLinear(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(x.unsqueeze(1)).flatten(1))


@pytest.fixture
def patches() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(5)
    model, images = Patches(), torch.rand(16, 100, 9, 9)
    model(images[:1])
    return model, images


def test_without_shortcuts_gradients_are_torchs_bit_for_bit(patches: tuple[nn.Module, torch.Tensor]) -> None:
    model, images = patches
    explainer = mt.models.ExplainableModel(model.eval(), "regression")
    hsi = mt.HSI(image=images[0], wavelengths=list(range(400, 500)))
    with mt.options(shortcuts=False, threads="all"):
        result = attr.Saliency(explainer).attribute(hsi, target=1, abs=False)
    x = images[:1].clone().requires_grad_()
    model(x)[0, 1].backward()
    assert x.grad is not None
    assert torch.equal(result.attributes, x.grad[0])


def test_training_beside_explaining_stays_as_it_is(patches: tuple[nn.Module, torch.Tensor]) -> None:
    model, images = patches

    def trained() -> list[torch.Tensor]:
        model.zero_grad()
        x = images.clone().requires_grad_()
        model(x).square().sum().backward()
        grads = [x.grad, *(parameter.grad for parameter in model.parameters())]
        return [grad.clone() for grad in grads if grad is not None]

    before = trained()
    assert saliency(model, images, threads="all")[1].kernels is not None
    assert all(torch.equal(a, b) for a, b in zip(before, trained(), strict=True))


def test_a_run_repeats_bit_for_bit(patches: tuple[nn.Module, torch.Tensor]) -> None:
    model, images = patches
    first, report = saliency(model, images, threads="all")
    assert report.kernels is not None
    assert torch.equal(first, saliency(model, images, threads="all")[0])


@pytest.mark.parametrize("method", ["ig", "noise"])
def test_sums_of_gradients_take_them_too(patches: tuple[nn.Module, torch.Tensor], method: str) -> None:
    model, images = patches
    hsi = mt.HSI(image=images[0], wavelengths=list(range(400, 500)))

    def explained(shortcuts: Any, dtype: torch.dtype) -> Any:
        explainer = mt.models.ExplainableModel(model.to(dtype).eval(), "regression")
        image = mt.HSI(image=images[0].to(dtype), wavelengths=hsi.wavelengths)
        torch.manual_seed(1)
        with mt.options(shortcuts=shortcuts):
            if method == "ig":
                return attr.IntegratedGradients(explainer).attribute(image, target=0, n_steps=40)
            return attr.NoiseTunnel(attr.Saliency(explainer)).attribute(image, target=0, n_samples=40, stdevs=0.01)

    found, plain = explained(True, torch.float32), explained(False, torch.float32)
    assert found.report.kernels is not None
    assert plain.report.kernels is None
    difference = (found.attributes - plain.attributes).abs().max() / plain.attributes.abs().max()
    assert difference <= 1e-5
    assert explained(True, torch.float64).report.kernels is None


def test_weights_that_change_between_calls_count(patches: tuple[nn.Module, torch.Tensor]) -> None:
    model, images = patches
    before, _ = saliency(model, images)
    with torch.no_grad():
        model.features[0].weight.mul_(2)  # type: ignore[index,union-attr,operator]
    found, report = saliency(model, images)
    assert report.kernels is not None
    assert not torch.allclose(found, before)
    assert (found - saliency(model, images, shortcuts=False)[0]).abs().max() <= 1e-5 * found.abs().max()


def test_small_convolutions_and_those_with_many_channels_are_left_to_torch() -> None:
    torch.manual_seed(3)
    small = saliency(First((1, 20, 5, 5), 4, 3, 1, 0), torch.rand(2, 20, 5, 5))[1]
    wide = saliency(First((64, 40, 40), 64, 3, 1, 1), torch.rand(4, 64, 40, 40))[1]
    grouped = nn.Sequential(nn.Conv2d(8, 64, 5, stride=2, groups=8), nn.Flatten(), nn.LazyLinear(1))
    grouped(torch.zeros(1, 8, 96, 96))
    assert small.kernels is None
    assert wide.kernels is None
    assert saliency(grouped, torch.rand(4, 8, 96, 96))[1].kernels is None


def test_padding_beyond_the_kernel_is_left_to_torch() -> None:
    torch.manual_seed(3)
    model = First((1, 60, 60), 32, 5, 2, 7)
    images = torch.rand(12, 1, 60, 60)
    found, report = saliency(model, images)
    assert report.kernels is None
    torch.testing.assert_close(found, gradients(model, images))


class Rooted(First):
    """The slope of a square root at 0 is infinite: that of the output at one place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.layer(x.reshape(len(x), *self.shape))
        return made.flatten(1).sum(1, keepdim=True) + torch.sqrt(made[:, 0, 3, 3, 3] * 0).unsqueeze(1)


@pytest.mark.filterwarnings("ignore:.*finite")
def test_what_is_not_finite_stays_where_it_is() -> None:
    torch.manual_seed(3)
    model = Rooted((1, 60, 9, 9), 8, (7, 3, 3), (2, 1, 1), 0)
    images = torch.rand(12, 60, 9, 9)
    found, _ = saliency(model, images)
    exact = gradients(model, images)
    assert exact.isnan().any()
    assert not exact.isnan().all()
    assert torch.equal(found.isnan(), exact.isnan())


def test_reports_and_pages_name_the_kernels(patches: tuple[nn.Module, torch.Tensor]) -> None:
    _, report = saliency(*patches)
    assert report.kernels in repr(report)
    assert report.kernels in report._repr_html_()
