"""What tests of Lime share: images with features, models of the user's, and LIME in plain torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from meteors_c import HSI
from meteors_c.models import InterpretableModel
from tests.toys import SHAPE, cube, spatial_mask, values

# Ids with gaps, one of them that is in no feature; and of bands.
SEGMENTS = torch.tensor([[0, 0, 5], [0, 5, 5], [-1, 5, 7], [7, 7, 7]])
GROUPS = torch.tensor([10, 10, 3, -1, 4])


def in_axes(tensor: torch.Tensor, orientation: str) -> torch.Tensor:
    """Turn a (C, H, W) tensor."""
    return tensor.permute(["CHW".index(letter) for letter in orientation])


def masked_cube(orientation: str = "CHW", seed: int = 0) -> HSI:
    return cube(seed, binary_mask=spatial_mask()).change_orientation(orientation)


def features_of(kind: str, orientation: str = "CHW") -> tuple[str, str, torch.Tensor, torch.Tensor]:
    """The call, the name of its mask, a mask that broadcasts, and numbers of features of the image's shape."""
    ids = SEGMENTS[None] if kind == "spatial" else GROUPS[:, None, None]
    number = torch.full_like(ids, -1)
    for n, one in enumerate(ids[ids >= 0].unique()):
        number[ids == one] = n
    mask = in_axes(ids, orientation)
    name = "segmentation_mask" if kind == "spatial" else "band_mask"
    return f"get_{kind}_attributes", name, mask, in_axes(number.expand(SHAPE), orientation)


def rendered(image: torch.Tensor, numbered: torch.Tensor, samples: torch.Tensor, baseline: Any = 0.0) -> torch.Tensor:
    """The images (n, *image) of samples (n, features)."""
    kept = torch.cat([samples.bool(), torch.ones(len(samples), 1, dtype=torch.bool)], dim=1)[:, numbered]
    return torch.where(kept, image, torch.as_tensor(baseline, dtype=image.dtype))


def least_squares(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients and intercept of a weighted fit, in float64."""
    x = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
    root = w.double().sqrt()[:, None]
    solution = torch.linalg.lstsq(x * root, y.double()[:, None] * root, driver="gelsd").solution[:, 0]
    return solution[:-1], solution[-1]


def every_sample(features: int, times: int = 1) -> Any:
    """A perturb_func that gives all coalitions in turn, so that calls can be compared."""
    rows = torch.cartesian_prod(*[torch.tensor([0, 1])] * features).reshape(-1, features).repeat(times, 1)

    def perturb(original: torch.Tensor, **named: Any) -> Any:
        yield from rows[:, None]

    return perturb


class Exact(nn.Module):
    """Three outputs from sums of whole numbers, which no order of summation and no batch rounds: bits can be compared.

    For images of whole numbers, see `whole_cube`.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = (torch.arange(60.0).reshape(SHAPE) - 30, torch.ones(SHAPE), torch.arange(60.0).reshape(SHAPE) % 7)
        sums = torch.stack([(x * weight).sum((1, 2, 3)) for weight in weights], dim=1) / 256
        return sums + sums.square()


def whole_cube(seed: int = 0, dtype: torch.dtype = torch.float64) -> HSI:
    return cube(seed, image=(values(seed, dtype) * 9).round())


class Recorder(InterpretableModel):
    """Keeps what it is fitted to, and fits a weighted least squares."""

    def __init__(self) -> None:
        self.fits: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def fit(self, train_data: DataLoader[Any], **kwargs: Any) -> None:
        assert not kwargs
        batches = list(train_data)
        assert len(batches) == 1
        self.fits.append(tuple(batches[0]))
        self.solution, self.constant = least_squares(*batches[0])

    def get_representation(self) -> torch.Tensor:
        return self.solution[None]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x.double() @ self.solution + self.constant
