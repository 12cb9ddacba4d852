"""Integrated gradients of small networks along the line from the baseline, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import meteors_c as mt
from benchmarks.models import give_statistics
from meteors_c.attr import IntegratedGradients
from tests.parity.reference import assert_close
from tests.toys import assert_shortcut, explainable

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


def check_taken(model: nn.Module, hsi: mt.HSI, name: str, evaluations: int | None = None, **given: Any) -> Any:
    """The shortcut `name` is taken and gives the numbers of the plain path; returns what it gave."""
    fast, plain = (attribute(model, hsi, way, **given) for way in ("always", False))
    assert_shortcut(fast.report, name, evaluations)
    assert_close(fast.attributes, plain.attributes, 1e-12)
    return fast


def check_several_images(model: nn.Module, name: str, batch: int | None) -> None:
    """Each has its own target and baseline."""
    images = [image(k, spread=0.3 * 4**k) for k in range(4)]
    given: dict[str, Any] = {"target": [0, 1, 2, 1], "baseline": [0.0, 0.5, -1.0, images[0].image / 2]}
    fast = attribute(model, images, internal_batch_size=batch, **given)
    plain = attribute(model, images, shortcuts=False, **given)
    for one, other in zip(fast, plain, strict=True):
        assert_shortcut(one.report, name)
        assert_close(one.attributes, other.attributes, 1e-12)


def check_on_threads(model: nn.Module, name: str) -> None:
    """Parts of a large image give the same on any number of threads."""
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(BANDS, 90, 81, generator=generator, dtype=torch.float64)
    hsi = mt.HSI(image=values, wavelengths=list(range(400, 400 + BANDS)))
    threads = torch.get_num_threads()
    found = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            found.append(attribute(model, hsi, n_steps=12))
            assert_shortcut(found[-1].report, name)
    finally:
        torch.set_num_threads(threads)
    plain = attribute(model, hsi, shortcuts=False, n_steps=12).attributes
    for one in found:
        assert_close(one.attributes, plain, 1e-12)


def check_float32(model: nn.Module, name: str) -> None:
    """No farther from float64 than the plain path, over all pixels: rounding takes single ones past a kink."""
    exact = attribute(model, image(), shortcuts=False, n_steps=50).attributes
    model = model.float()
    hsi = image(dtype=torch.float32)
    fast, plain = (attribute(model, hsi, way, n_steps=50) for way in ("always", False))
    assert_shortcut(fast.report, name)
    error = [float((one.attributes.double() - exact).norm() / exact.norm()) for one in (fast, plain)]
    assert error[0] <= max(2 * error[1], 1e-6)


def check_without_data(model: nn.Module, name: str) -> None:
    """Sums that -9999 was added to and taken from would keep its rounding: another shortcut than `name` is taken."""
    values = image().image.clone()
    values[:, 4:9, 3:8] = -9999
    wavelengths = list(range(400, 400 + BANDS))
    exact = attribute(model, mt.HSI(image=values, wavelengths=wavelengths), shortcuts=False, n_steps=50).attributes
    model = model.float()
    hsi = mt.HSI(image=values.float(), wavelengths=wavelengths)
    fast, plain = (attribute(model, hsi, way, n_steps=50) for way in ("always", False))
    assert fast.report.shortcut not in (None, name)
    data = values != -9999
    error = [float((one.attributes.double() - exact)[data].norm() / exact[data].norm()) for one in (fast, plain)]
    assert error[0] <= max(2 * error[1], 1e-6)
