"""Integrated gradients of small networks along the line from the baseline, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import meteors_c as mt
from benchmarks.models import give_statistics
from meteors_c.attr import IntegratedGradients
from tests.toys import explainable

BANDS, ROWS, COLUMNS = 12, 13, 11


def image(seed: int = 0, dtype: torch.dtype = torch.float64, spread: float = 3.0) -> mt.HSI:
    generator = torch.Generator().manual_seed(seed)
    values = spread * torch.randn(BANDS, ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    return mt.HSI(image=values.to(dtype), wavelengths=list(range(400, 400 + BANDS)))


def make(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    model = build().double().eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            give_statistics(layer)
    return model


def attribute(model: nn.Module, hsi: Any, shortcuts: bool | str = "always", **more: Any) -> Any:
    given = {"target": 1, "baseline": 0.0, "n_steps": 30, **more}
    with mt.options(shortcuts=shortcuts):
        return IntegratedGradients(explainable(model)).attribute(hsi, **given)
