"""Scenes and models of the tests, which workers import too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray
from torch import nn

from meteors_c import HSI
from meteors_c.models import ExplainableModel

WAVELENGTHS = [450.0, 520.0, 600.0, 650.0]
BANDS = len(WAVELENGTHS)


def field(rows: int = 23, columns: int = 19, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    """Values (bands, rows, columns) in [-1, 1)."""
    return (2 * np.random.RandomState(seed).rand(BANDS, rows, columns) - 1).astype(dtype)


def scene(values: np.ndarray | None = None, **attributes: Any) -> xarray.DataArray:
    """A scene with coordinates and a coordinate system."""
    values = field() if values is None else values
    array = xarray.DataArray(
        values,
        dims=("wavelength", "y", "x"),
        coords={
            "wavelength": ("wavelength", WAVELENGTHS, {"units": "nm"}),
            "fwhm": ("wavelength", np.full(BANDS, 10.0)),
            "y": 5000.0 - 10.0 * np.arange(values.shape[1]) - 5.0,
            "x": 1000.0 + 10.0 * np.arange(values.shape[2]) + 5.0,
        },
        attrs=attributes,
    )
    marks = {"crs_wkt": "LOCAL", "GeoTransform": "1000.0 10.0 0.0 5000.0 0.0 -10.0"}
    return array.assign_coords(spatial_ref=((), 0, marks))


def windows_of(values: np.ndarray, window: int) -> list[HSI]:
    """The window around each pixel, row by row, by NumPy's own padding."""
    half = window // 2
    padded = np.pad(values, ((0, 0), (half, half), (half, half)), mode="reflect")
    return [
        HSI(image=padded[:, r : r + window, c : c + window].copy(), wavelengths=WAVELENGTHS)
        for r in range(values.shape[1])
        for c in range(values.shape[2])
    ]


def patch_model(window: int = 5, outputs: int = 3, kind: str = "classification") -> ExplainableModel:
    """A tanh network over the values of a window."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(BANDS * window * window, 6), nn.Tanh(), nn.Linear(6, outputs))
    return ExplainableModel(net.double().eval(), kind)


class Counting(nn.Module):
    """Sums of weights times squares, exact in whole numbers; writes how many samples each call had to a file.

    Parameters
    ----------
    log : path
        Of the file.
    die_at : int or None
        The first process whose calls have had so many samples ends itself, as if killed.
    nap : float
        Seconds that each call takes; the variable ``COUNTING_NAP`` of the environment adds some to all.
    """

    def __init__(self, log: Path, die_at: int | None = None, nap: float = 0.0) -> None:
        super().__init__()
        self.log, self.die_at, self.nap = str(log), die_at, nap
        self.register_buffer("weight", torch.arange(1.0, 1.0 + 3 * BANDS, dtype=torch.float64).reshape(3, BANDS, 1, 1))
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        import time

        time.sleep(self.nap + float(os.environ.get("COUNTING_NAP", "0")))
        self.seen += len(x)
        dead = self.log + ".dead"
        if self.die_at is not None and self.seen >= self.die_at and not os.path.exists(dead):
            Path(dead).touch()
            os.kill(os.getpid(), 9)
        with open(self.log, "a") as file:
            file.write(f"{len(x)}\n")
        return (x[:, None] ** 2 * self.weight).sum(dim=(2, 3, 4))


def samples_in(log: Path) -> int:
    """How many samples the calls had that a file tells of."""
    return sum(map(int, log.read_text().split())) if log.exists() else 0


def whole(rows: int = 12, columns: int = 10) -> xarray.DataArray:
    """A scene of whole numbers, on which `Counting` rounds nowhere."""
    values = np.random.RandomState(1).randint(-5, 6, (BANDS, rows, columns)).astype(np.float64)
    return scene(values)


# ---------------------------------------------------------------- networks that make maps


class UNet(nn.Module):
    """Two levels of pooling, with what each level knows joined on the way up."""

    def __init__(self, upsample: str = "nearest") -> None:
        super().__init__()
        self.first = nn.Conv2d(BANDS, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, padding=1)
        self.third = nn.Conv2d(5, 5, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2, mode=upsample)
        self.join = nn.Conv2d(10, 4, 3, padding=1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.tanh(self.first(x))
        second = torch.tanh(self.second(nn.functional.max_pool2d(first, 2)))
        third = torch.tanh(self.third(nn.functional.avg_pool2d(second, 2)))
        up = torch.tanh(self.join(torch.cat([self.up(third), second], 1)))
        return self.last(torch.cat([self.up(up), first], 1))


class Excited(nn.Module):
    """Features weighed by their means over the image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(BANDS, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = torch.tanh(self.first(x))
        return self.last(features * torch.sigmoid(features.mean((2, 3), keepdim=True)))


class Placed(nn.Module):
    """Features that hold the column."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(BANDS + 1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        column = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype).expand(len(x), 1, *x.shape[-2:])
        return torch.tanh(self.last(torch.cat([x, column], 1)))


def convolutions(dilation: int = 1) -> nn.Module:
    """Two layers of 3 x 3: 1 + dilation pixels on each side."""
    return nn.Sequential(
        nn.Conv2d(BANDS, 5, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(5, 2, 3, padding=dilation, dilation=dilation),
        nn.Tanh(),
        nn.Conv2d(2, 2, 1),
    )


def sums(maps: torch.Tensor) -> torch.Tensor:
    """The sum of each map."""
    return maps.sum(dim=(2, 3))


def means(maps: torch.Tensor) -> torch.Tensor:
    """The mean of each map."""
    return maps.mean(dim=(2, 3))


def mapper(net: nn.Module, seed: int = 5, dtype: torch.dtype = torch.float64) -> ExplainableModel:
    """A network of maps as a model of their sums, with weights of a seed."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return ExplainableModel(net.to(dtype).eval(), "segmentation", sums)
