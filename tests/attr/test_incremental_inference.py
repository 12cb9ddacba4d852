"""What a window reaches in a model is computed again: lists, targets and batches; ways to write a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import meteors_c as mt
from tests.toys import assert_declined, assert_shortcut, occlude

BANDS, ROWS, COLUMNS = 6, 19, 17


def image(seed: int = 0) -> mt.HSI:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(BANDS, ROWS, COLUMNS, generator=generator, dtype=torch.float64) - 0.3
    return mt.HSI(image=values, wavelengths=torch.linspace(400, 900, BANDS))


def head() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def conv(before: int, after: int, *given: Any, **more: Any) -> nn.Module:
    return nn.Conv2d(before, after, *given, **more)


def pooled() -> nn.Module:
    """Seven operators, all of which a window reaches in part."""
    return nn.Sequential(
        conv(BANDS, 4, 3, padding=1), nn.ReLU6(), nn.MaxPool2d(2), conv(4, 3, 3, padding=1), nn.Hardswish(), head()
    )


def padded() -> nn.Module:
    return nn.Sequential(
        conv(BANDS, 4, 3, padding=1),
        nn.ReLU(),
        conv(4, 3, 3, padding=1),
        nn.Tanh(),
        conv(3, 2, 1),
        nn.Sigmoid(),
        head(),
    )


def make(build: Any) -> nn.Module:
    torch.manual_seed(4)
    model = build()
    model(torch.rand(2, BANDS, ROWS, COLUMNS))  # gives the lazy head its size
    return model.double().eval()


def assert_same(fast: Any, plain: Any) -> None:
    scale = float(plain.attributes.abs().max())
    assert scale > 0
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-12 * scale)


def test_images_of_a_list_and_all_targets() -> None:
    model, images = make(pooled), [image(0), image(1), image(2)]
    given: dict[str, Any] = {"target": "all", "perturbations_per_eval": 5}
    baselines = [0.0, image(7).image, None]
    fast = occlude(model, images, (3, 4, 4), (3, 2, 2), baseline=baselines, **given)
    plain = occlude(model, images, (3, 4, 4), (3, 2, 2), shortcuts=False, baseline=baselines, **given)
    for one, other in zip(fast, plain, strict=True):
        for target in range(3):
            assert one[target].report.shortcut_evaluations == one[target].report.evaluations
            assert_same(one[target], other[target])


def test_the_choice_of_batches_changes_no_more_than_rounding() -> None:
    model = make(pooled)
    found = [occlude(model, image(), (2, 3, 3), (2, 2, 2), perturbations_per_eval=n) for n in (1, 3, 64)]
    for other in found[1:]:
        assert_same(other, found[0])


class Functional(nn.Module):
    """Functions in place of modules: what they compute must be known, or is computed."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.one, self.two, self.head, self.body = conv(BANDS, 4, 3), conv(4, 4, 3), head(), body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self, x))


OTHERS: dict[str, Any] = {
    "functions": lambda m, x: m.two(F.max_pool2d(F.relu(m.one(x)), 2)),
    "residual": lambda m, x: (lambda z: F.relu(m.two(z)) + z[:, :, 1:-1, 1:-1])(F.relu(m.one(x))),
    "written in place": lambda m, x: m.two(m.one(x).relu_()),
    "first layer without a module": lambda m, x: m.two(F.conv2d(x, m.one.weight)),
    "the input scaled first": lambda m, x: m.two(F.relu(m.one(2 * x))),
    "a layer used twice": lambda m, x: m.two(F.relu(m.two(m.one(x)))),
    "no gradients": lambda m, x: m.two(m.one(x).detach()),
}
MIXED: dict[str, Any] = {
    "input": lambda m, x: m.two(F.relu(m.one(x))) * (2 + x.detach().mean()),
    "features": lambda m, x: (lambda z: m.two(F.relu(z)) * (2 + z.detach().mean()))(m.one(x)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_written_in_other_ways(name: str) -> None:
    model, hsi = make(lambda: Functional(OTHERS[name])), image()
    fast = occlude(model, hsi, (6, 2, 2), (6, 1, 1))
    assert fast.report.shortcut.startswith("incremental inference"), fast.report
    assert fast.report.shortcut_evaluations == fast.report.evaluations
    assert_same(fast, occlude(model, hsi, (6, 2, 2), (6, 1, 1), shortcuts=False))


@pytest.mark.parametrize("name", MIXED)
def test_a_mean_over_the_batch_is_declined(name: str) -> None:
    model, hsi = make(lambda: Functional(MIXED[name])), image()
    fast = occlude(model, hsi, (6, 2, 2), (6, 1, 1))
    assert fast.report.decline_reason in ("structure", "verification")
    assert_declined(fast.report, fast.report.decline_reason)
    assert_same(fast, occlude(model, hsi, (6, 2, 2), (6, 1, 1), shortcuts=False, perturbations_per_eval=1))


def test_a_single_window_over_everything() -> None:
    """Two evaluations, of which nothing is shared: declined or not, they are right."""
    model = make(padded)
    fast = occlude(model, image(), (BANDS, ROWS, COLUMNS), (BANDS, ROWS, COLUMNS))
    assert_same(fast, occlude(model, image(), (BANDS, ROWS, COLUMNS), (BANDS, ROWS, COLUMNS), shortcuts=False))


def test_a_field_of_which_most_is_dark_is_followed() -> None:
    values = image().image.clone()
    values[:, 4:] = 0
    hsi = mt.HSI(image=values, wavelengths=list(image().wavelengths))
    model = make(padded)
    fast = occlude(model, hsi, (6, 2, 2), (6, 1, 1), baseline=0)
    assert_shortcut(fast.report)
    assert_same(fast, occlude(model, hsi, (6, 2, 2), (6, 1, 1), baseline=0, shortcuts=False))
