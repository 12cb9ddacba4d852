"""A shortcut is prepared where it pays, unless it is always or never wanted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from benchmarks.models import convolutional_net
from meteors_c.attr import HyperNoiseTunnel, IntegratedGradients, Occlusion, Saliency
from tests.parity.reference import assert_close
from tests.toys import assert_declined, assert_shortcut, convolutional, cube, explainable

BANDS = 30


def image(size: int) -> mt.HSI:
    generator = torch.Generator().manual_seed(5)
    values = torch.rand(BANDS, size, size, generator=generator)
    return mt.HSI(image=values, wavelengths=torch.linspace(400, 900, BANDS))


def network() -> Any:
    torch.manual_seed(20)
    return explainable(convolutional_net(BANDS).eval())


def small_network() -> Any:
    """A fraction of a millisecond for a small image, gradient and all."""
    torch.manual_seed(20)
    layers = nn.Conv2d(BANDS, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    return explainable(nn.Sequential(*layers).eval())


def steps(model: Any, hsi: Any) -> Any:
    return IntegratedGradients(model).attribute(hsi, target=1, n_steps=17)


def windows(model: Any, hsi: Any) -> Any:
    size = hsi.image.shape[1] // 4
    return Occlusion(model).get_spatial_attributes(hsi, 1, size, size)


def bands(model: Any, hsi: Any) -> Any:
    torch.manual_seed(0)
    return HyperNoiseTunnel(Saliency(model)).attribute(hsi, target=1, n_samples=17)


def many(model: Any, hsi: Any) -> Any:
    """Forty windows, and the image itself."""
    size = hsi.image.shape[1]
    return Occlusion(model).attribute(hsi, 1, (6, size // 4, size // 2), (6, size // 4, size // 2))


@pytest.mark.parametrize("call", [steps, windows, bands])
def test_small_images_are_little_work(call: Any) -> None:
    """Enough samples for the shortcut, as `always` shows, but each of them is fast."""
    model, hsi = small_network(), image(20)
    with mt.options(shortcuts="always"):
        always = call(model, hsi)
    assert_shortcut(always.report)
    with mt.options(shortcuts=True):
        # A machine that is busy just then may make a sample look slow once.
        found = [call(model, hsi) for _ in range(10)]
    by_choice = next((one for one in found if one.report.shortcut is None), None)
    assert by_choice is not None
    assert_declined(by_choice.report, "little_work")
    assert by_choice.report.evaluations == always.report.evaluations
    assert by_choice.report.evaluations_discarded == 0
    with mt.options(shortcuts=False):
        never = call(model, hsi)
    assert_declined(never.report, "switched_off")
    assert_close(by_choice.attributes, never.attributes, 1e-5)
    assert_close(always.attributes, never.attributes, 1e-4)


def test_large_images_are_not() -> None:
    model, hsi = network(), image(128)
    by_default = many(model, hsi)
    assert_shortcut(by_default.report, evaluations=41)
    with mt.options(shortcuts=True):
        # One of the first calls may time the plain path, whose batches might have been faster. It is much slower here.
        found = [many(model, hsi) for _ in range(4)]
    assert sum(one.report.shortcut is None for one in found) <= 1
    assert_shortcut(found[-1].report, by_default.report.shortcut, 41)
    with mt.options(shortcuts=False):
        plain = many(model, hsi)
    assert_declined(plain.report, "switched_off")
    assert_close(by_default.attributes, plain.attributes, 1e-4)


def test_what_is_asked_to_find_out_is_counted() -> None:
    """One sample or two are asked alone, some to try a shortcut with, and one more of a batch or as a spot check."""
    with mt.options(shortcuts=True):
        report = steps(small_network(), image(20)).report
    assert 1 <= report.evaluations_verifying <= 8
    assert report.evaluations == 17


def test_too_few_samples_are_little_work_whatever_is_wanted() -> None:
    with mt.options(shortcuts="always"):
        report = IntegratedGradients(explainable(convolutional())).attribute(cube(), target=0, n_steps=1).report
    assert_declined(report, "little_work")
