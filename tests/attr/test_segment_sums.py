"""The shortcut for superpixels of models that begin with an affine part and need no pool: sums of what each adds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import meteors_c as mt
from meteors_c.attr import FeatureAblation, KernelShap, Lime, ShapleyValueSampling
from meteors_c.models.linear import SkLearnLinearRegression
from tests.toys import assert_declined, assert_shortcut, each_pair, explainable

BANDS, ROWS, COLUMNS = 6, 24, 20
ROW, COLUMN = torch.arange(ROWS)[:, None], torch.arange(COLUMNS)[None]
SIX = (ROW // 8 * 2 + COLUMN // 10)[None]  # superpixels in a grid of 3 x 2
THIRTY = (ROW // 4 * 5 + COLUMN // 4)[None]  # 6 x 5
CUBES = THIRTY + 30 * (torch.arange(BANDS)[:, None, None] // 3)  # the same in either half of the bands
NAME = "affine prefix, by superpixels"


class Flat(nn.Module):
    """Ends with other weights for every place, so that no place can be taken together with another."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(BANDS, 4, 3, padding=1)
        self.head = nn.Linear(4 * ROWS * COLUMNS, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(functional.gelu(self.first(x)).flatten(1))


class Patches(Flat):
    """Attention among patches, as vision transformers begin."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(BANDS, 8, 4, stride=4), nn.Linear(8 * 30, 3)
        self.places = nn.Parameter(torch.randn(1, 30, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x).flatten(2).transpose(1, 2) + self.places
        return self.head((torch.softmax(y @ y.transpose(1, 2), -1) @ y).flatten(1))


class Branches(Flat):
    """Two affine branches, one of which leaves channels last, that meet behind other functions."""

    def __init__(self) -> None:
        super().__init__()
        self.spectral, self.wide = nn.Linear(BANDS, 4), nn.Conv2d(BANDS, 4, 5, padding=2)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean.uniform_(0.1, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.norm(self.wide(x)), self.spectral(x.permute(0, 2, 3, 1))
        return self.head((left.tanh() * right.permute(0, 3, 1, 2).sigmoid()).flatten(1))


class Tokens(Flat):
    """A matrix on tokens. Its result for one sample lies in memory as that of no batch does."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(BANDS, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.project(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])
        return self.head(torch.tanh(tokens).flatten(1))


class Volumes(Flat):
    """A convolution over bands, rows and columns."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv3d(1, 4, 3, stride=(2, 2, 1)), nn.Linear(4 * 2 * 11 * 18, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(functional.relu(self.first(x[:, None])).flatten(1))


def made(kind: type[Flat], dtype: torch.dtype = torch.float64) -> Flat:
    torch.manual_seed(1)
    model: Flat = kind().to(dtype).eval()
    return model


def image(seed: int = 0, dtype: torch.dtype = torch.float64, **fields: Any) -> mt.HSI:
    values = torch.randn(BANDS, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mt.HSI(image=values.to(dtype), wavelengths=torch.linspace(400, 900, BANDS), **fields)


def explained(method: Any, model: Any, hsi: Any, mask: Any, shortcuts: Any = "always", **arguments: Any) -> Any:
    torch.manual_seed(2)
    arguments = {"target": 1, "baseline": 0.1, **arguments}
    with mt.options(shortcuts=shortcuts):
        explainer = method(explainable(model), *([SkLearnLinearRegression()] if method is Lime else []))
        if method is FeatureAblation:
            return explainer.attribute(hsi, feature_mask=mask, **arguments)
        return explainer.get_spatial_attributes(hsi, mask, **arguments)


def difference(got: Any, want: Any) -> float:
    """The largest one, relative to the largest attribution."""
    assert want.attributes.abs().max() > 0
    return float((got.attributes - want.attributes).abs().max() / want.attributes.abs().max())


METHODS = [
    (KernelShap, SIX, {}),
    (Lime, THIRTY, {"n_samples": 60}),
    (ShapleyValueSampling, SIX, {"n_samples": 12}),
    (FeatureAblation, THIRTY[0], {}),
    (FeatureAblation, CUBES, {}),
]


@pytest.mark.parametrize(("method", "kind"), each_pair(METHODS, [Flat, Patches, Branches, Tokens, Volumes]))
def test_the_plain_numbers(method, kind):
    method, mask, arguments = method
    model, hsi = made(kind), image()
    got = explained(method, model, hsi, mask, **arguments)
    assert_shortcut(got.report, NAME)
    assert difference(got, explained(method, model, hsi, mask, False, **arguments)) <= 1e-11


@pytest.mark.parametrize("kind", [Flat, Patches, Branches, Tokens, Volumes])
def test_float32_is_no_further_from_float64(kind):
    exact = explained(KernelShap, made(kind), image(), SIX, False)
    model, hsi = made(kind, torch.float32), image(dtype=torch.float32)
    got, plain = (explained(KernelShap, model, hsi, SIX, how) for how in ("always", False))
    assert_shortcut(got.report, NAME)
    assert difference(got, exact) <= 2 * difference(plain, exact) + 1e-6


@pytest.mark.parametrize("size", [1, 5])
def test_batch_sizes(size):
    model, hsi = made(Flat), image()
    got = explained(KernelShap, model, hsi, SIX, perturbations_per_eval=size)
    assert_shortcut(got.report, NAME)
    assert got.report.chunk_largest <= size
    assert difference(got, explained(KernelShap, model, hsi, SIX, False)) <= 1e-11


def test_images_with_superpixels_of_their_own():
    model, images = made(Branches), [image(seed) for seed in range(3)]
    masks = [SIX, (ROW // 12 * 2 + COLUMN // 7)[None].clamp(max=4), (ROW // 4 + 0 * COLUMN)[None]]
    got = explained(KernelShap, model, images, masks)
    want = explained(KernelShap, model, images, masks, False)
    for one, other in zip(got, want, strict=True):
        assert_shortcut(one.report, NAME)
        assert difference(one, other) <= 1e-11


def test_pixels_under_the_mask_keep_their_values():
    used = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    used[:, 3:5, 4:14] = False
    model, hsi = made(Flat), image(binary_mask=used.expand(BANDS, -1, -1))
    got = explained(KernelShap, model, hsi, SIX)
    assert_shortcut(got.report, NAME)
    assert difference(got, explained(KernelShap, model, hsi, SIX, False)) <= 1e-11


def test_superpixels_of_a_linear_model_add_up():
    torch.manual_seed(0)
    weights, hsi = torch.randn(BANDS, ROWS, COLUMNS, dtype=torch.float64), image()

    class Sum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (functional.pad(x, (0, 0)) * weights).flatten(1) @ torch.ones(weights.numel(), 2).double()

    got = explained(FeatureAblation, Sum(), hsi, SIX[0]).attributes
    by_hand = ((hsi.image - 0.1) * weights).sum(0)
    for s in range(6):
        assert torch.allclose(got[0][SIX[0] == s], by_hand[SIX[0] == s].sum(), rtol=1e-11)


def test_values_that_would_lose_digits():
    hsi = image()
    values = hsi.image.clone()
    values[2, 4:6, 3:9] = -1e9
    got = explained(KernelShap, made(Flat), mt.HSI(image=values, wavelengths=hsi.wavelengths), SIX)
    assert_declined(got.report, "values")
