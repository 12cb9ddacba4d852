"""Noise tunnels: how their samples are distributed, and what a seed promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import meteors_c as mt
from meteors_c import HSI
from meteors_c.attr import HyperNoiseTunnel, InputXGradient, IntegratedGradients, NoiseTunnel, Occlusion, Saliency
from tests.attr.tunnels import INNERS, MOMENTS, OPTIONS, TUNNELS, Elementwise, run, samples, threads
from tests.parity.reference import assert_close, gradient
from tests.parity.reference_perturbation import moment
from tests.toys import SHAPE, Linear, Quadratic, cube, explainable, spatial_mask, values

# ---------------------------------------------------------------- distribution

MANY = 2000


def close_in_distribution(found: torch.Tensor, wanted: torch.Tensor, variance: torch.Tensor) -> None:
    """Within four standard errors of each of two independent estimates, or of rounding where nothing varies."""
    error = 4 * (variance / MANY + variance / MANY).sqrt()
    assert ((found - wanted).abs() <= error + 1e-12 * (1 + wanted.abs())).all()


@pytest.mark.parametrize("explainer", [Saliency, InputXGradient])
@pytest.mark.parametrize("kind", TUNNELS)
def test_mean_and_variance_of_many_samples(kind: type, explainer: type) -> None:
    model, hsi, baseline = Quadratic(), cube(binary_mask=spatial_mask()), values(9)
    torch.manual_seed(99)
    if kind is NoiseTunnel:
        given: dict[str, Any] = {"stdevs": 0.4}
        plain = (hsi.image + 0.4 * torch.randn(MANY, *SHAPE, dtype=torch.float64)) * hsi.binary_mask
    else:
        given = {"baseline": baseline, "perturbation_prob": 0.3}
        replaced = torch.rand(MANY, SHAPE[0], 1, 1) < 0.3
        plain = torch.where(replaced, baseline, hsi.image) * hsi.binary_mask
    drawn = torch.stack([model.gradient(sample, 1) for sample in plain])
    drawn = drawn if explainer is Saliency else drawn * plain
    found = {
        method: run(kind, explainer, model, hsi, 4, 1, n_samples=MANY, method=method, **given).attributes
        for method in MOMENTS
    }
    centred = drawn - drawn.mean(0)
    close_in_distribution(found["smoothgrad"], drawn.mean(0), drawn.var(0))
    close_in_distribution(found["smoothgrad_sq"], (drawn**2).mean(0), (drawn**2).var(0))
    close_in_distribution(found["vargrad"], moment("vargrad", drawn), (centred**2).var(0))
    torch.testing.assert_close(found["vargrad"], found["smoothgrad_sq"] - found["smoothgrad"] ** 2)


@pytest.mark.parametrize("explainer", [IntegratedGradients, Occlusion])
@pytest.mark.parametrize("kind", TUNNELS)
def test_mean_of_many_samples_where_attributions_are_known(kind: type, explainer: type) -> None:
    """On sum(weight x) both give weight * sample, of known mean and variance."""
    model, hsi, baseline, count = Linear(), cube(), values(9), 300
    weight = model.weight[1].detach()
    if kind is NoiseTunnel:
        given: dict[str, Any] = {"stdevs": 0.4}
        mean, variance = hsi.image, torch.full(SHAPE, 0.16, dtype=torch.float64)
    else:
        given = {"baseline": baseline, "perturbation_prob": 0.3}
        mean, variance = 0.7 * hsi.image + 0.3 * baseline, 0.21 * (hsi.image - baseline) ** 2
    found = run(kind, explainer, model, hsi, 8, 1, n_samples=count, **given).attributes
    assert ((found - weight * mean).abs() <= 4 * weight.abs() * (variance / count).sqrt() + 1e-13).all()


def test_noise_is_normal_and_independent() -> None:
    torch.manual_seed(2)
    noise = NoiseTunnel.perturb_input(torch.zeros(SHAPE, dtype=torch.float64), MANY).reshape(MANY, -1)
    count = noise.numel()
    for power, wanted, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs(float((noise**power).mean()) - wanted) < 4 * math.sqrt(variance / count)
    level = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    found = (noise.reshape(-1, 1) < math.sqrt(2) * torch.erfinv(2 * level - 1)).double().mean(0)
    assert ((found - level).abs() < 4 * (level * (1 - level) / count).sqrt()).all()
    for one, other in [(noise[:, 1:], noise[:, :-1]), (noise[1:], noise[:-1]), (noise[:, :30], noise[:, 30:])]:
        assert abs(float((one * other).mean())) < 4 / math.sqrt(one.numel())


def test_bands_are_replaced_with_their_probability_and_independently() -> None:
    torch.manual_seed(2)
    image = torch.zeros(40, 1, 2)
    for probability in (0.1, 0.5, 0.85):
        drawn = HyperNoiseTunnel.perturb_input(image, torch.ones_like(image), MANY, probability)
        assert torch.equal(drawn[..., 0], drawn[..., 1])
        replaced = drawn[:, :, 0, 0].double()
        error = math.sqrt(probability * (1 - probability) / MANY)
        assert ((replaced.mean(0) - probability).abs() < 4 * error).all()
        neighbours = (replaced[:, 1:] * replaced[:, :-1]).mean()
        assert abs(float(neighbours) - probability**2) < 4 * error / math.sqrt(39)
        number = replaced.sum(1).var()
        assert float(number) == pytest.approx(40 * probability * (1 - probability), rel=0.15)


def test_gradients_of_the_quadratic_are_known() -> None:
    """Two references agree: the formula of the toy and autograd."""
    assert_close(Quadratic().gradient(values(), 1), gradient(Quadratic(), values(), 1), 1e-13)


# ---------------------------------------------------------------- a seed repeats a run


@pytest.mark.parametrize("method", MOMENTS)
@pytest.mark.parametrize("explainer", INNERS)
@pytest.mark.parametrize("kind", TUNNELS)
def test_the_same_bytes_whatever_the_batches_and_the_order(kind: type, explainer: type, method: str) -> None:
    images = [cube(0), cube(1, binary_mask=spatial_mask()), cube(2)]
    model = Elementwise()
    given = {"n_samples": 9, "method": method}
    wanted = run(kind, explainer, model, images, 6, **given)
    for most in (1, 2, 4, 100):
        found = run(kind, explainer, model, images, 6, steps_per_batch=most, **given)
        for one, other in zip(found, wanted, strict=True):
            assert torch.equal(one.attributes, other.attributes)
    found = run(kind, explainer, model, images[::-1], 6, steps_per_batch=3, **given)
    for one, other in zip(found[::-1], wanted, strict=True):
        assert torch.equal(one.attributes, other.attributes)
    for hsi, other in zip(images, wanted, strict=True):
        assert torch.equal(run(kind, explainer, model, hsi, 6, **given).attributes, other.attributes)


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("explainer", [Saliency, InputXGradient])
def test_the_same_bytes_whatever_the_threads(kind: type, explainer: type) -> None:
    """Large enough that threads share an image."""
    shape = (16, 96, 64)
    hsi = HSI(image=values(0, torch.float32, shape), wavelengths=list(range(1, 17)))
    model = Elementwise(shape, torch.float32)
    given = {"n_samples": 5, "method": "vargrad"}
    wanted = run(kind, explainer, model, hsi, 6, **given).attributes
    shown = samples(kind, hsi, 6)
    with threads(2):
        assert torch.equal(samples(kind, hsi, 6), shown)
        for options in OPTIONS:
            with mt.options(**options):
                assert torch.equal(run(kind, explainer, model, hsi, 6, **given).attributes, wanted)


@pytest.mark.parametrize("kind", TUNNELS)
def test_the_generator_moves_on(kind: type) -> None:
    torch.manual_seed(1)
    explainer = kind(Saliency(explainable(Elementwise())))
    first, second = (explainer.attribute(cube(), target=0).attributes for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(explainer.attribute(cube(), target=0).attributes, first)
    torch.manual_seed(2)
    assert not torch.equal(explainer.attribute(cube(), target=0).attributes, first)


@pytest.mark.parametrize("kind", TUNNELS)
def test_more_samples_begin_with_the_same_ones(kind: type) -> None:
    assert torch.equal(samples(kind, cube(), 3, n_samples=12)[:5], samples(kind, cube(), 3, n_samples=5))


def test_all_samples_differ() -> None:
    shown = samples(NoiseTunnel, cube(), n_samples=200).reshape(200, -1)
    assert shown.unique(dim=0).shape == shown.shape
