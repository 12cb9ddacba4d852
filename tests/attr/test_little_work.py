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
        # One of the calls may time the plain path, whose batches might have been faster. It is much slower here.
        found = [many(model, hsi) for _ in range(4)]
    taken = [one for one in found if one.report.shortcut is not None]
    assert len(taken) >= 3
    assert_shortcut(taken[-1].report, by_default.report.shortcut, 41)
    with mt.options(shortcuts=False):
        plain = many(model, hsi)
    assert_declined(plain.report, "switched_off")
    assert_close(by_default.attributes, plain.attributes, 1e-4)


class Whole(nn.Module):
    """Every value of the result looks at the whole image."""

    def forward(self, x: Any) -> Any:
        return x / x.square().mean((1, 2, 3), keepdim=True).sqrt()


class Counted(nn.Module):
    """A model that notes how many samples each of its calls gets."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.sizes: list[int] = []

    def forward(self, x: Any) -> Any:
        self.sizes.append(len(x))
        return self.layers(x)


def rest(width: int) -> list[nn.Module]:
    """What takes most of the time, and is not affine."""
    layers: list[nn.Module] = [nn.ReLU(), nn.Conv2d(width, 32, 3, padding=1)]
    for _ in range(4):
        layers += [nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)]
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)]


@pytest.mark.parametrize("call", [steps, windows, bands])
def test_what_is_declined_at_first_sight_costs_no_evaluation(call: Any) -> None:
    """Nothing is affine in the input, or local: seen by samples that count."""
    found = {}
    for shortcuts in (False, True):
        torch.manual_seed(20)
        model = Counted(Whole() if call is windows else nn.Tanh(), *rest(BANDS))
        with mt.options(shortcuts=shortcuts):
            found[shortcuts] = call(explainable(model.eval()), image(64))
        found[shortcuts, "sizes"] = model.sizes
    assert found[True].report.decline_reason in ("structure", "little_work")
    assert sum(found[True, "sizes"]) == sum(found[False, "sizes"])
    assert found[True].report.evaluations_verifying == found[False].report.evaluations_verifying
    assert_close(found[True].attributes, found[False].attributes, 1e-5)


def test_a_shortcut_that_saves_little_of_few_samples_is_not_prepared() -> None:
    torch.manual_seed(20)
    model, hsi = explainable(nn.Sequential(nn.Conv2d(BANDS, 32, 3, padding=1), *rest(32)).eval()), image(64)
    with mt.options(shortcuts=True):
        first = bands(model, hsi)
    assert_declined(first.report, "little_work")
    with mt.options(shortcuts=False):
        plain = bands(model, hsi)
    assert first.report.evaluations_verifying == plain.report.evaluations_verifying
    assert_close(first.attributes, plain.attributes, 1e-5)
    with mt.options(shortcuts="always"):
        assert_shortcut(bands(model, hsi).report)


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


def test_samples_that_were_timed_count_and_their_batch_is_a_recording() -> None:
    """Of few gradients some are rendered first. Where a shortcut follows, they are not evaluated again."""
    torch.manual_seed(20)
    model = nn.Sequential(nn.Conv2d(BANDS, 64, 7), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4))
    found = {}
    for shortcuts in (True, False):
        with mt.options(shortcuts=shortcuts):
            found[shortcuts] = IntegratedGradients(explainable(model.eval())).attribute(image(64), target=1, n_steps=28)
    report = found[True].report
    assert_shortcut(report)
    assert 28 - 8 <= report.shortcut_evaluations < 28 <= report.evaluations
    # One of the first batch by itself, one that is recorded by itself, and a spot check.
    assert report.evaluations_verifying <= 3
    assert_close(found[True].attributes, found[False].attributes, 1e-5)
