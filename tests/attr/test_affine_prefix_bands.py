"""Samples of HyperNoiseTunnel that replace some bands, from sums over the bands that are known: the plain numbers."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from tests.toys import assert_declined, assert_shortcut, each_pair, explainable, occlude

BANDS, ROWS, COLUMNS = 6, 19, 17


def image(seed: int = 0) -> mt.HSI:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(BANDS, ROWS, COLUMNS, generator=generator, dtype=torch.float64) - 0.3
    return mt.HSI(image=values, wavelengths=torch.linspace(400, 900, BANDS))


def make(build: Any) -> nn.Module:
    torch.manual_seed(4)
    model = build()
    model(torch.rand(2, BANDS, ROWS, COLUMNS))  # gives the lazy head its size
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model.double().eval()


def assert_same(fast: Any, plain: Any, tolerance: float = 1e-12) -> None:
    scale = float(plain.attributes.abs().max())
    assert scale > 0
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=tolerance * scale)


def head() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def conv(*given: Any, **more: Any) -> nn.Module:
    return nn.Conv2d(BANDS, *given, **more)


class Body(nn.Module):
    """A function of an image, a layer behind it, and a head."""

    def __init__(self, function: Any, layer: nn.Module) -> None:
        super().__init__()
        self.function, self.layer, self.head = function, layer, head()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.layer(self.function(x))))


class Branches(nn.Module):
    """Two sums over the bands, and the bands themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = conv(3, 3, padding=1), conv(2, 1), head()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([torch.tanh(self.left(x)), torch.tanh(self.right(x)), x[:, :1] * x[:, 1:2]], 1))


def scripted(model: nn.Module) -> nn.Module:
    model(torch.rand(2, BANDS, ROWS, COLUMNS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(model.eval(), torch.rand(2, BANDS, ROWS, COLUMNS))


BANDS_OF = {
    "convolution": lambda: nn.Sequential(
        conv(4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 2, 3), nn.Tanh(), head()
    ),
    "strides": lambda: nn.Sequential(conv(4, 3, stride=2), nn.ReLU(), head()),
    "normalised bands": lambda: nn.Sequential(nn.BatchNorm2d(BANDS), conv(4, 1), nn.Tanh(), head()),
    "matrix": lambda: Body(lambda x: (x.permute(0, 2, 3, 1) - 0.2) / 3, nn.Linear(BANDS, 4)),
    "pixels as a sequence": lambda: Body(lambda x: x.flatten(2).transpose(1, 2), nn.Linear(BANDS, 4)),
    "bands in two axes": lambda: Body(lambda x: x.unflatten(2, (1, ROWS)).squeeze(2), conv(4, 3)),
    "TorchScript": lambda: scripted(BANDS_OF["convolution"]()),
    "branches": Branches,
}


def tunnel(model: nn.Module, hsi: Any, shortcuts: bool | str = "always", **more: Any) -> Any:
    torch.manual_seed(5)
    explainer = mt.attr.HyperNoiseTunnel(mt.attr.Saliency(explainable(model)))
    with mt.options(shortcuts=shortcuts):
        return explainer.attribute(hsi, target=1, **{"n_samples": 20, "baseline": 0.4, **more})


@pytest.mark.parametrize(("name", "most", "probability"), each_pair(BANDS_OF, [None, 1, 6], [0.2, 0.9, 1.0]))
def test_bands_taken_and_equal(name: str, most: int | None, probability: float) -> None:
    model = make(BANDS_OF[name])
    given = {"perturbation_prob": probability, "steps_per_batch": most}
    fast, plain = tunnel(model, image(), **given), tunnel(model, image(), shortcuts=False, **given)
    assert_shortcut(fast.report, "affine prefix, by bands", 20)
    assert_same(fast, plain)


@pytest.mark.parametrize("name", ["convolution", "matrix"])
def test_a_seed_gives_the_same_numbers_whatever_the_batches_and_the_order(name: str) -> None:
    """But for rounding: kernels of torch round otherwise in other batches, on some machines in float64, too."""
    model, images = make(BANDS_OF[name]), [image(0), image(1), image(2)]
    wanted = tunnel(model, images, steps_per_batch=1, n_samples=70)
    for most in (2, 7, 64, None):
        found = tunnel(model, images[::-1], steps_per_batch=most, n_samples=70)
        for one, other in zip(found[::-1], wanted, strict=True):
            assert_shortcut(one.report, "affine prefix, by bands")
            assert_same(one, other, 1e-14)


def test_bands_of_a_list() -> None:
    model, images = make(BANDS_OF["convolution"]), [image(0), image(1), image(2)]
    fast, plain = tunnel(model, images, steps_per_batch=7), tunnel(model, images, shortcuts=False)
    for one, other in zip(fast, plain, strict=True):
        assert_shortcut(one.report, "affine prefix, by bands")
        assert_same(one, other)


@pytest.mark.parametrize("more", [{"standard_error": True}, {"tolerance": 0.5}, {"method": "vargrad"}])
def test_samples_that_count_one_by_one_take_no_shortcut(more: dict[str, Any]) -> None:
    assert_declined(tunnel(make(BANDS_OF["convolution"]), image(), **more).report, "nothing_shared")


OTHERS: dict[str, tuple[Any, bool]] = {
    "bands as an axis": (lambda: Body(lambda x: x.unsqueeze(1), nn.Conv3d(1, 2, 3, padding=1)), True),
    "groups": (lambda: nn.Sequential(conv(6, 3, groups=2), nn.Tanh(), head()), True),
    "bands that influence each other": (lambda: nn.Sequential(nn.Softmax(1), conv(4, 1), nn.Tanh(), head()), False),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_beginnings_are_passed_backward_once_where_they_are_affine(name: str) -> None:
    build, affine = OTHERS[name]
    model = make(build)
    fast, plain = tunnel(model, image()), tunnel(model, image(), shortcuts=False)
    if affine:
        assert_shortcut(fast.report, "affine prefix, backward once")
    else:
        assert_declined(fast.report, "structure")
    assert_same(fast, plain)


class Neighbours(nn.Module):
    """A sum over all bands, by a convolution or by a matrix, and a head."""

    def __init__(self, bands: int, by_matrix: bool) -> None:
        super().__init__()
        self.by_matrix = by_matrix
        self.stem = nn.Linear(bands, 24) if by_matrix else nn.Conv2d(bands, 24, 3, padding=1)
        self.head = nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x.movedim(1, 3)).movedim(3, 1) if self.by_matrix else self.stem(x)
        return self.head(torch.tanh(y).mean((2, 3)))


@pytest.mark.parametrize("by_matrix", [False, True])
@pytest.mark.parametrize("window", [1, 8, 9, 30, 39])
def test_windows_over_neighbouring_bands_in_float32(window: int, by_matrix: bool) -> None:
    """Bands that lie together are taken as they lie, at both ends too, and of most of them those that stay."""
    bands, size = 40, 48
    torch.manual_seed(0)
    model, values = Neighbours(bands, by_matrix).eval(), torch.rand(bands, size, size)
    hsi, wide = (mt.HSI(image=x, wavelengths=torch.linspace(400, 900, bands)) for x in (values, values.double()))
    shape, step = (window, size, size), (min(window, 7), size, size)
    fast, plain = (occlude(model, hsi, shape, step, shortcuts=way) for way in ("always", False))
    exact = occlude(model.double(), wide, shape, step, shortcuts=False).attributes
    assert_shortcut(fast.report)
    errors = [float((found.attributes - exact).abs().max() / exact.abs().max()) for found in (fast, plain)]
    assert errors[0] <= 2 * errors[1] + 1e-6
