"""Noise tunnels: standard errors, and stopping once they are small enough."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from meteors_c.attr import HSIAttributes, InputXGradient, IntegratedGradients, NoiseTunnel, Occlusion, Saliency
from tests.attr.tunnels import INNERS, MOMENTS, TUNNELS, Elementwise, run, samples
from tests.parity.reference import assert_close
from tests.parity.reference_perturbation import inner
from tests.toys import SHAPE, Linear, convolutional, cube, each_pair, each_value, explainable, name_of, smooth, values


@pytest.mark.parametrize(("kind", "method", "explainer"), each_pair(TUNNELS, MOMENTS[:2], INNERS), ids=name_of)
def test_standard_error(kind: type, method: str, explainer: type) -> None:
    """The sample standard deviation of what is averaged, by the root of the number of samples."""
    hsi, model, n = cube(), convolutional(), 6
    found = run(kind, explainer, model, hsi, 3, n_samples=n, method=method, standard_error=True)
    drawn = torch.stack([inner(explainer.__name__, model, 0)(one) for one in samples(kind, hsi, 3, n_samples=n)])
    drawn = drawn if method == "smoothgrad" else drawn**2
    assert found.standard_error.shape == SHAPE
    assert_close(found.standard_error, drawn.std(0) / math.sqrt(n), 1e-6)
    without = run(kind, explainer, model, hsi, 3, n_samples=n, method=method)
    assert_close(without.attributes, found.attributes, 1e-13)


@pytest.mark.parametrize("kind", TUNNELS)
def test_standard_error_tells_the_spread_of_repeated_runs(kind: type) -> None:
    model = Elementwise()
    runs = [run(kind, InputXGradient, model, cube(), seed, n_samples=40, standard_error=True) for seed in range(300)]
    spread = torch.stack([one.attributes for one in runs]).std(0)
    told = torch.stack([one.standard_error for one in runs]).square().mean(0).sqrt()
    ratio = (spread / told).flatten()
    assert float(ratio.mean()) == pytest.approx(1, abs=0.05)
    assert ((ratio - 1).abs() < 4 * 0.07 + 0.1).all()  # 1 / sqrt(2 * 299) = 0.041, and heavy tails of x^3


def test_no_standard_error_unless_asked_for() -> None:
    assert run(NoiseTunnel, Saliency, smooth(), cube()).standard_error is None


def test_standard_errors_of_a_list() -> None:
    images = [cube(0), cube(1)]
    for explainer in INNERS:
        found = run(NoiseTunnel, explainer, Elementwise(), images, 3, standard_error=True)
        for one, hsi in zip(found, images, strict=True):
            alone = run(NoiseTunnel, explainer, Elementwise(), hsi, 3, standard_error=True)
            assert torch.equal(one.standard_error, alone.standard_error)


def precision(found: HSIAttributes) -> float:
    return float(found.standard_error.max() / found.attributes.abs().max())


@pytest.mark.parametrize(("kind", "explainer", "method"), each_pair(TUNNELS, INNERS, MOMENTS[:2]), ids=name_of)
def test_tolerance_stops_at_the_first_power_of_two_that_is_precise(kind: type, explainer: type, method: str) -> None:
    """From 8 on; with the result of that many samples, and the cost of no more."""
    given = {"method": method, "standard_error": True, "steps_per_batch": 1}
    given |= {"stdevs": 0.2} if kind is NoiseTunnel else {"perturbation_prob": 0.2}
    model = Elementwise()
    each = {Saliency: 1, InputXGradient: 1, IntegratedGradients: 50, Occlusion: 61}[explainer]
    stops = [run(kind, explainer, model, cube(), 3, n_samples=n, **given) for n in (8, 16, 32)]
    for tolerance in [precision(one) * (1 + 1e-6) for one in stops]:
        found = run(kind, explainer, model, cube(), 3, n_samples=100, tolerance=tolerance, **given)
        wanted = next(one for one in stops if precision(one) <= tolerance)
        assert precision(found) <= tolerance
        assert torch.equal(found.attributes, wanted.attributes)
        assert torch.equal(found.standard_error, wanted.standard_error)
        assert found.report.evaluations == wanted.report.evaluations
        used, left = divmod(found.report.evaluations + found.report.evaluations_saved, each)
        assert used == found.report.samples_used == wanted.report.samples_used
        assert used in (8, 16, 32)
        assert left == 0


def test_tolerance_that_is_not_reached_takes_all_samples() -> None:
    found = run(NoiseTunnel, Saliency, Elementwise(), cube(), 3, n_samples=21, tolerance=1e-9, standard_error=True)
    assert found.report.evaluations == found.report.samples_used == 21
    assert precision(found) > 1e-9
    without = run(NoiseTunnel, Saliency, Elementwise(), cube(), 3, n_samples=21, standard_error=True)
    assert torch.equal(found.attributes, without.attributes)


@pytest.mark.parametrize("explainer", INNERS)
def test_tolerance_does_not_depend_on_the_batches(explainer: type) -> None:
    """Samples behind the point where it is precise enough do not count, and each image stops for itself."""
    flat = cube(image=torch.full(SHAPE, 0.5, dtype=torch.float64))
    images, given = [cube(0), flat], {"n_samples": 70, "tolerance": 0.5, "stdevs": [1.0, 1e-3]}
    wanted = run(NoiseTunnel, explainer, Elementwise(), images, 3, steps_per_batch=1, **given)
    for most in (3, 50, None):
        found = run(NoiseTunnel, explainer, Elementwise(), images, 3, steps_per_batch=most, **given)
        for one, other in zip(found, wanted, strict=True):
            assert torch.equal(one.attributes, other.attributes)
    assert torch.equal(
        wanted[1].attributes,
        run(NoiseTunnel, explainer, Elementwise(), flat, 3, n_samples=8, stdevs=1e-3).attributes,
    )


def test_samples_that_are_all_the_same_are_precise_at_once() -> None:
    found = run(NoiseTunnel, Saliency, Linear(), cube(), n_samples=10**6, tolerance=1e-6, steps_per_batch=1)
    assert found.report.evaluations == found.report.samples_used == 8


@pytest.mark.parametrize(("explainer", "kind"), each_value(INNERS, TUNNELS), ids=name_of)
def test_the_report_of_each_image_tells_its_own_samples(explainer: type, kind: type, tmp_path: Path) -> None:
    """The second image hardly varies and stops at once; the first takes all there are."""
    images: list[Any] = [cube(0), cube(1)]
    given: dict[str, Any] = {"stdevs": [1.0, 1e-9]} if kind is NoiseTunnel else {"baseline": [0.0, values(1)]}
    found = run(kind, explainer, Elementwise(), images, 3, n_samples=20, tolerance=1e-6, **given)
    assert [one.report.samples_used for one in found] == [20, 8]
    assert repr(found[1].report) != repr(found[0].report)
    assert replace(found[0].report, samples_used=8) == found[1].report
    found[1].save(tmp_path / "r")
    assert HSIAttributes.load(tmp_path / "r").report == found[1].report


def test_without_tolerance_all_samples_are_used() -> None:
    for method in MOMENTS:
        assert run(NoiseTunnel, Saliency, smooth(), cube(), n_samples=11, method=method).report.samples_used == 11
    saliency = Saliency(explainable(smooth())).attribute(cube(), target=0)
    assert saliency.report.samples_used is None
