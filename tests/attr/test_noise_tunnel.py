"""Noise tunnels: moments over the samples that the model saw, their distribution, and what a seed promises."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c import HSI
from meteors_c.attr import (
    HSIAttributes,
    HyperNoiseTunnel,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from meteors_c.attr.noise_tunnel import torch_random_choice
from meteors_c.exceptions import ShapeMismatchError
from meteors_c.models import ExplainableModel
from tests.parity.reference import assert_close, gradient, mean_gradient
from tests.parity.reference_perturbation import inner, moment, tunnel
from tests.toys import (
    ORIENTATIONS,
    SHAPE,
    WAVELENGTHS,
    Linear,
    Quadratic,
    Watched,
    convolutional,
    cube,
    explainable,
    smooth,
    spatial_mask,
    traced,
    values,
)

INNERS = [Saliency, InputXGradient, IntegratedGradients, Occlusion]
MOMENTS = ["smoothgrad", "smoothgrad_sq", "vargrad"]
TUNNELS = [NoiseTunnel, HyperNoiseTunnel]
OPTIONS = [{}, {"shortcuts": False}, {"native": False}]


class Elementwise(nn.Module):
    """f_k(x) = sum(weight_k * x^3): the gradient of a sample does not know the others of its batch."""

    def __init__(self, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.weight = nn.Parameter(values(70, dtype, (2, *shape)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cube = x * x * x
        return torch.stack([(cube * weight).sum((1, 2, 3)) for weight in self.weight], 1)


class Recorder(nn.Module):
    """A model that remembers what it saw."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach().clone())
        return self.body(x)


def run(
    kind: type, explainer: type, model: Any, hsi: Any, seed: int = 0, target: Any = 0, **arguments: Any
) -> HSIAttributes | Any:
    torch.manual_seed(seed)
    return kind(explainer(explainable(model))).attribute(hsi, target=target, **arguments)


def samples(kind: type, hsi: HSI, seed: int = 0, **arguments: Any) -> torch.Tensor:
    """What the model is shown under a seed: a Saliency sees every sample once."""
    model = Recorder(Elementwise(tuple(hsi.image.shape), hsi.image.dtype))
    run(kind, Saliency, model, hsi, seed, **arguments)
    return torch.cat(model.seen)


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- moments of what the model saw


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("method", MOMENTS)
@pytest.mark.parametrize("explainer", INNERS)
@pytest.mark.parametrize("kind", TUNNELS)
def test_moments(kind: type, explainer: type, method: str, options: dict[str, bool]) -> None:
    """The samples of a seed are the same whatever explains them."""
    hsi, model = cube(binary_mask=spatial_mask()), convolutional()
    given = {"n_samples": 6, "stdevs": 0.3} if kind is NoiseTunnel else {"n_samples": 6, "baseline": values(2)}
    shown = samples(kind, hsi, 5, **given)
    assert shown.shape == (6, *SHAPE)
    with mt.options(**options):
        found = run(kind, explainer, model, hsi, 5, 1, method=method, **given)
    wanted = tunnel(method, inner(explainer.__name__, model, 1), shown)
    assert_close(found.attributes, wanted, 1e-9)
    assert found.hsi is hsi
    assert found.target == 1
    assert found.attribution_method == kind.get_name()
    assert not found.attributes.requires_grad


@pytest.mark.parametrize("kind", TUNNELS)
def test_the_inner_explainer_keeps_its_construction(kind: type) -> None:
    hsi, model = cube(), convolutional()
    shown = samples(kind, hsi, 3)
    torch.manual_seed(3)
    mean = kind(IntegratedGradients(explainable(model), multiply_by_inputs=False)).attribute(hsi, target=0)
    assert_close(mean.attributes, torch.stack([mean_gradient(model, one, target=0) for one in shown]).mean(0), 1e-9)


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("explainer", INNERS)
def test_saliency_is_signed_and_the_explainer_is_left_as_it_was(kind: type, explainer: type) -> None:
    used = explainer(explainable(Linear()))
    before, wanted = dict(vars(used)), used.attribute(cube(), target=0).attributes
    found = kind(used).attribute(cube(), target=0).attributes
    assert vars(used) == before
    assert used.attribute.__func__ is explainer.attribute
    assert torch.equal(used.attribute(cube(), target=0).attributes, wanted)
    if explainer is Saliency:
        assert_close(found, Linear().weight[0].detach(), 1e-13)


def test_without_noise_it_is_the_inner_explainer() -> None:
    for explainer in INNERS:
        wanted = explainer(explainable(convolutional()))
        wanted = wanted.attribute(cube(), target=0, **({"abs": False} if explainer is Saliency else {})).attributes
        for kind, none in [
            (NoiseTunnel, {"stdevs": 0.0}),
            (NoiseTunnel, {"stdevs": 0}),
            (HyperNoiseTunnel, {"perturbation_prob": 0}),
            (HyperNoiseTunnel, {"num_perturbed_bands": 0}),
            (HyperNoiseTunnel, {"baseline": values(), "perturbation_prob": 1.0}),
        ]:
            found = run(kind, explainer, convolutional(), cube(), n_samples=3, **none).attributes
            assert_close(found, wanted, 1e-9)
            squared = run(kind, explainer, convolutional(), cube(), n_samples=3, method="vargrad", **none).attributes
            assert float(squared.abs().max()) < 1e-12 * float((wanted**2).max())


def test_variance_is_never_negative() -> None:
    for dtype in (torch.float32, torch.float64):
        found = run(NoiseTunnel, Saliency, Linear(dtype=dtype), cube(dtype=dtype), n_samples=7, method="vargrad")
        assert float(found.attributes.min()) >= 0


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
    hsi = HSI(image=values(0, torch.float32, shape), wavelengths=list(range(16)))
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


# ---------------------------------------------------------------- where the noise goes


@pytest.mark.parametrize("kind", TUNNELS)
def test_noise_is_drawn_before_the_mask(kind: type) -> None:
    mask = spatial_mask().expand(SHAPE)
    given: dict[str, Any] = {} if kind is NoiseTunnel else {"baseline": 0.5}
    masked = samples(kind, cube(binary_mask=mask), 3, n_samples=6, **given)
    assert torch.equal(masked, samples(kind, cube(), 3, n_samples=6, **given) * mask)


def test_stdevs() -> None:
    shown = samples(NoiseTunnel, cube(), 3, stdevs=0.25) - values()
    assert_close(shown, 0.25 * (samples(NoiseTunnel, cube(), 3) - values()), 1e-12)


def test_numbers_may_be_those_of_numpy() -> None:
    for kind, given in [
        (NoiseTunnel, {"stdevs": 0.5, "tolerance": 0.25, "n_samples": 20}),
        (NoiseTunnel, {"perturbation_axis": (1, slice(None), -1)}),
        (HyperNoiseTunnel, {"perturbation_prob": 0.25}),
        (HyperNoiseTunnel, {"num_perturbed_bands": 2, "steps_per_batch": 3}),
    ]:
        same = {
            name: tuple(np.int64(one) if isinstance(one, int) else one for one in value)
            if isinstance(value, tuple)
            else np.float32(value)
            if isinstance(value, float)
            else np.int64(value)
            for name, value in given.items()
        }
        wanted = run(kind, Saliency, Elementwise(), cube(), 3, **given).attributes
        assert torch.equal(run(kind, Saliency, Elementwise(), cube(), 3, **same).attributes, wanted)


@pytest.mark.parametrize("container", [list, tuple])
def test_a_stdev_for_each_image(container: Callable[[Any], Any]) -> None:
    model, images = Recorder(Elementwise()), [cube(0), cube(1), cube(2)]
    found = run(NoiseTunnel, Saliency, model, images, 3, n_samples=4, stdevs=container([0.5, 0, 2]))
    shown = torch.cat(model.seen).reshape(3, 4, *SHAPE)
    for one, hsi, stdev in zip(shown, images, (0.5, 0, 2), strict=True):
        assert float((one - hsi.image).std()) == pytest.approx(stdev, rel=0.25)
    for one, hsi, stdev in zip(found, images, (0.5, 0, 2), strict=True):
        wanted = run(NoiseTunnel, Saliency, Elementwise(), hsi, 3, n_samples=4, stdevs=stdev)
        assert torch.equal(one.attributes, wanted.attributes)


@pytest.mark.parametrize(
    "axis",
    [
        (0,),
        (-1,),
        (slice(1, 3),),
        (slice(None), 2),
        (slice(None, None, 2), slice(-2, None), 0),
        (3, 1, 2),
        (slice(None),) * 3,
        (),
        (slice(2, 2),),
        (slice(None, None, -1), slice(0, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("explainer", [Saliency, Occlusion])
def test_perturbation_axis(axis: Any, explainer: type) -> None:
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[tuple(slice(one, one + 1 or None) if isinstance(one, int) else slice(None) for one in axis)] = True
    chosen = torch.zeros(SHAPE)
    chosen.numpy()[axis] = 1
    shown = samples(NoiseTunnel, cube(), 3, perturbation_axis=axis, n_samples=3)
    assert torch.equal((shown != values()).all(0), chosen.bool())
    assert torch.equal((shown != values()).any(0), chosen.bool())
    found = run(NoiseTunnel, explainer, convolutional(), cube(), 3, perturbation_axis=axis, n_samples=3).attributes
    assert_close(found, tunnel("smoothgrad", inner(explainer.__name__, convolutional(), 0), shown), 1e-9)


def test_perturbation_axis_is_in_the_axes_of_the_image() -> None:
    hsi = cube().change_orientation("HWC")
    shown = samples(NoiseTunnel, hsi, perturbation_axis=(slice(None), slice(None), 4))
    assert (shown != hsi.image).any(0).nonzero()[:, 2].unique().tolist() == [4]


@pytest.mark.parametrize("number", range(6))
def test_exactly_so_many_bands_are_replaced(number: int) -> None:
    shown = samples(HyperNoiseTunnel, cube(), 3, n_samples=60, num_perturbed_bands=number, baseline=7)
    replaced = shown == 7
    assert torch.equal(replaced, replaced[:, :, :1, :1].expand_as(replaced))
    assert torch.equal(shown[~replaced], values().expand_as(shown)[~replaced])
    bands = replaced[:, :, 0, 0]
    assert bands.sum(1).tolist() == [number] * 60
    if 0 < number < 5:
        assert bands.any(0).all()
        assert not bands.all(0).any()


@pytest.mark.parametrize("explainer", INNERS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_bands_of_every_orientation(orientation: str, explainer: type) -> None:
    """Model, baseline and result are in the image's own axes; the caller's list and images stay as they are."""
    order = ["CHW".index(letter) for letter in orientation]
    back = [orientation.index(letter) for letter in "CHW"]
    image, baseline = values().permute(order).contiguous(), values(9).permute(order)
    hsi = HSI(image=image, wavelengths=WAVELENGTHS, orientation=orientation)
    hsi.binary_mask = spatial_mask().expand(SHAPE).permute(order)
    body = convolutional()

    def model(x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == image.shape
        return body(x.permute(0, *(1 + axis for axis in back)))

    images, baselines = [hsi, hsi], [baseline, 0.5]
    found = run(HyperNoiseTunnel, explainer, model, images, 3, baseline=baselines, n_samples=3)
    assert images[0] is images[1] is hsi
    assert len(images) == len(baselines) == 2
    assert hsi.orientation == tuple(orientation)
    assert hsi.image.data_ptr() == image.data_ptr()
    assert torch.equal(image.permute(back), values())
    for one, level in zip(found, [values(9), 0.5], strict=True):
        plain = cube(binary_mask=spatial_mask())
        wanted = run(HyperNoiseTunnel, explainer, body, plain, 3, baseline=level, n_samples=3).attributes
        assert one.orientation == tuple(orientation)
        assert_close(one.attributes.permute(back), wanted, 1e-11)


# ---------------------------------------------------------------- arguments


def test_names_and_defaults_are_those_of_the_peer() -> None:
    noise = {
        "hsi": inspect.Parameter.empty,
        "target": None,
        "additional_forward_args": None,
        "n_samples": 5,
        "steps_per_batch": None,
        "perturbation_axis": None,
        "stdevs": 1.0,
        "method": "smoothgrad",
        "keep_gradient": False,
    }
    bands = {
        "hsi": inspect.Parameter.empty,
        "baseline": None,
        "target": None,
        "additional_forward_args": None,
        "n_samples": 5,
        "steps_per_batch": None,
        "perturbation_prob": 0.5,
        "num_perturbed_bands": None,
        "method": "smoothgrad",
        "keep_gradient": False,
    }
    for kind, wanted in [(NoiseTunnel, noise), (HyperNoiseTunnel, bands)]:
        found = {name: one.default for name, one in inspect.signature(kind.attribute).parameters.items()}
        found.pop("self")
        assert list(found.items())[: len(wanted)] == list(wanted.items())


@pytest.mark.parametrize("kind", TUNNELS)
def test_properties(kind: type) -> None:
    saliency = Saliency(explainable(smooth()))
    tunnel_of = kind(saliency)
    assert tunnel_of.chained_explainer is saliency
    assert tunnel_of.explainable_model is saliency.explainable_model
    assert tunnel_of._attribution_method is None
    assert not tunnel_of.multiplies_by_inputs
    assert not tunnel_of.has_convergence_delta()
    assert tunnel_of.get_name() == {NoiseTunnel: "Noise Tunnel", HyperNoiseTunnel: "Hyper Noise Tunnel"}[kind]


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("explainer", INNERS)
@pytest.mark.parametrize("most", [1, 3, 100])
def test_the_model_never_sees_more_than_it_may(kind: type, explainer: type, most: int) -> None:
    model = Watched(smooth())
    run(kind, explainer, model, [cube(0), cube(1)], n_samples=4, steps_per_batch=most)
    assert max(model.sizes) <= most
    model.sizes.clear()
    with mt.options(shortcuts=False):
        found = run(kind, explainer, model, [cube(0), cube(1)], n_samples=4, steps_per_batch=most)
    assert max(model.sizes) <= most
    # Occlusion and IntegratedGradients run once for each image; the others see all samples of all images as equals.
    each = {Saliency: 8, InputXGradient: 8, IntegratedGradients: 4 * 50, Occlusion: 4 * 61}[explainer]
    assert model.sizes[0] == min(most, each)
    evaluations = {Saliency: 8, InputXGradient: 8, IntegratedGradients: 8 * 50, Occlusion: 8 * 61}[explainer]
    assert found[0].report.evaluations + found[0].report.evaluations_saved == evaluations


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("explainer", INNERS)
def test_progress_counts_every_evaluation(kind: type, explainer: type) -> None:
    told: list[tuple[int, int]] = []
    run(kind, explainer, smooth(), [cube(0), cube(1)], show_progress=lambda *pair: told.append(pair))
    wanted = 10 * {Saliency: 1, InputXGradient: 1, IntegratedGradients: 50, Occlusion: 61}[explainer]
    assert told[-1] == (wanted, wanted)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {to_do for _, to_do in told} == {wanted}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("explainer", INNERS)
def test_the_floating_dtype_is_kept(kind: type, explainer: type, dtype: torch.dtype) -> None:
    model = smooth(dtype=dtype)
    found = run(kind, explainer, model, cube(dtype=dtype), standard_error=True, keep_gradient=True)
    assert found.attributes.dtype == found.standard_error.dtype == dtype


@pytest.mark.parametrize("kind", TUNNELS)
def test_integer_images_are_explained_as_float32(kind: type) -> None:
    image = (100 * values()).to(torch.int16)
    model = smooth(dtype=torch.float32)
    given: dict[str, Any] = {"stdevs": 0.5} if kind is NoiseTunnel else {"baseline": 5}
    found = run(kind, InputXGradient, model, cube(image=image), 3, **given)
    wanted = run(kind, InputXGradient, model, cube(image=image.float()), 3, **given)
    assert torch.equal(found.attributes, wanted.attributes)


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("explainer", INNERS)
def test_lists_with_targets_and_arguments_of_their_own(kind: type, explainer: type) -> None:
    images, factors = [cube(0), cube(1)], torch.tensor([2.0, -3.0], dtype=torch.float64)
    body = smooth()

    def model(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        assert len(factor) == len(x)
        return body(x) * factor[:, None]

    found = run(kind, explainer, model, images, 3, [2, 0], additional_forward_args=factors, n_samples=3)
    for one, hsi, target, factor in zip(found, images, [2, 0], factors, strict=True):
        wanted = run(kind, explainer, body, hsi, 3, target, n_samples=3).attributes * factor
        assert one.target == target
        assert_close(one.attributes, wanted, 1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("explainer", INNERS)
def test_an_argument_of_the_only_image(explainer: type, options: dict[str, bool]) -> None:
    """It is repeated along with the samples, whatever runs inside."""
    factor, body = torch.tensor([3.0], dtype=torch.float64), smooth()

    def model(x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        assert given.tolist() == [3.0] * len(x)
        return body(x) * given[:, None]

    with mt.options(**options):
        found = run(NoiseTunnel, explainer, model, cube(), 3, additional_forward_args=factor, n_samples=3)
    assert_close(found.attributes, 3 * run(NoiseTunnel, explainer, body, cube(), 3, n_samples=3).attributes, 1e-10)


@pytest.mark.parametrize("kind", TUNNELS)
def test_a_list_of_one_gives_the_bare_result(kind: type) -> None:
    assert isinstance(run(kind, Saliency, smooth(), [cube()]), HSIAttributes)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("explainer", INNERS)
def test_models_that_give_one_number_for_a_batch(explainer: type, options: dict[str, bool]) -> None:
    net = smooth(1)
    with mt.options(**options):
        found = run(NoiseTunnel, explainer, lambda x: net(x).mean(), cube(), 3, None, steps_per_batch=4, n_samples=4)
    wanted = run(NoiseTunnel, explainer, net, cube(), 3, n_samples=4)
    assert_close(found.attributes, wanted.attributes, 1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("most", [1, 2, None])
@pytest.mark.parametrize("kind", TUNNELS)
def test_models_that_write_into_their_input(kind: type, most: int | None, options: dict[str, bool]) -> None:
    plain = Elementwise()

    def model(x: torch.Tensor) -> torch.Tensor:
        y = plain(x)
        x.mul_(0)
        return y

    given = {"n_samples": 3, "steps_per_batch": most}
    with mt.options(**options):
        found = run(kind, Occlusion, model, cube(), 3, **given)
    assert_close(found.attributes, run(kind, Occlusion, plain, cube(), 3, **given).attributes, 1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("most", [1, 2, None])
@pytest.mark.parametrize("kind", TUNNELS)
def test_products_are_with_the_sample_not_with_what_a_model_made_of_it(
    kind: type, most: int | None, options: dict[str, bool]
) -> None:
    plain = Elementwise()

    def model(x: torch.Tensor) -> torch.Tensor:
        y = plain(x.clone())
        with torch.no_grad():
            x.mul_(0)
        return y

    given = {"n_samples": 3, "steps_per_batch": most}
    with mt.options(**options):
        found = run(kind, InputXGradient, model, cube(), 3, **given)
    assert_close(found.attributes, run(kind, InputXGradient, plain, cube(), 3, **given).attributes, 1e-12)


@pytest.mark.parametrize("explainer", INNERS)
def test_torchscript(explainer: type) -> None:
    found = run(HyperNoiseTunnel, explainer, traced(convolutional()), cube(), 3)
    assert found.report.model == "TorchScript"
    assert_close(found.attributes, run(HyperNoiseTunnel, explainer, convolutional(), cube(), 3).attributes, 1e-10)


def test_a_model_on_arrays_has_outputs_only() -> None:
    weight = Linear().weight.detach().numpy()
    model = ExplainableModel(lambda x: (x[:, None] * weight).sum((2, 3, 4)), "regression", array_input=True)
    torch.manual_seed(3)
    found = NoiseTunnel(Occlusion(model)).attribute(cube(), target=0)
    assert_close(found.attributes, run(NoiseTunnel, Occlusion, Linear(), cube(), 3).attributes, 1e-10)
    with pytest.raises(RuntimeError, match="differentiated"):
        NoiseTunnel(Saliency(model)).attribute(cube(), target=0)


# ---------------------------------------------------------------- chains


@pytest.mark.parametrize("kind", TUNNELS)
def test_chains_have_one_level(kind: type) -> None:
    model = explainable(smooth())
    for other in TUNNELS:
        with pytest.raises(ValueError, match="chain"):
            kind(other(Saliency(model)))
    with pytest.raises(ValueError, match="chain"):
        kind(Saliency(Saliency(model)))
    for wrong in (model, model.forward_func, None, Saliency):
        with pytest.raises(RuntimeError, match="Explainer"):
            kind(wrong)


@pytest.mark.parametrize("kind", TUNNELS)
def test_explainers_that_it_does_not_know(kind: type) -> None:
    class Own(mt.attr.Explainer):
        """Not one of ours."""

    class Changed(Saliency):
        def attribute(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            raise AssertionError("never called")

    class Named(Saliency):
        """A name of its own."""

    rebound = Saliency(explainable(smooth()))
    rebound.attribute = Changed(explainable(smooth())).attribute  # type: ignore[method-assign]
    for unknown, explainer in [(own, own(explainable(smooth()))) for own in (Own, Changed)] + [(Saliency, rebound)]:
        with pytest.raises(TypeError) as caught:
            kind(explainer).attribute(cube(), target=0)
        assert unknown.__name__ in str(caught.value)
        assert "InputXGradient" in str(caught.value)
    wanted = run(kind, Saliency, smooth(), cube()).attributes
    assert torch.equal(run(kind, Named, smooth(), cube()).attributes, wanted)


@pytest.mark.parametrize("kind", TUNNELS)
def test_an_inner_explainer_without_its_method(kind: type) -> None:
    saliency = Saliency(explainable(smooth()))
    saliency._attribution_method = None
    with pytest.raises(RuntimeError, match="attribution method"):
        kind(saliency).attribute(cube(), target=0)


# ---------------------------------------------------------------- keep_gradient


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("explainer", INNERS)
@pytest.mark.parametrize("method", MOMENTS)
def test_keep_gradient_runs_through_the_image_factor_alone(kind: type, explainer: type, method: str) -> None:
    """The derivative of the moment of sample * g, where the model's g is a constant, by finite differences."""
    mask, baseline, model = spatial_mask().expand(SHAPE), values(9), convolutional()
    leaf = values().requires_grad_()
    hsi = cube(image=leaf, binary_mask=mask)
    given: dict[str, Any] = {"n_samples": 5, "method": method}
    given |= {"stdevs": 0.3} if kind is NoiseTunnel else {"baseline": baseline}
    plain = run(kind, explainer, model, hsi, 3, **given).attributes
    kept = run(kind, explainer, model, hsi, 3, keep_gradient=True, **given).attributes
    assert not plain.requires_grad
    assert kept.requires_grad == (explainer in (InputXGradient, IntegratedGradients))
    assert_close(kept.detach(), plain, 1e-12)
    if not kept.requires_grad:
        return
    given.pop("method")
    shown = samples(kind, cube(binary_mask=mask), 3, **given)
    moved = samples(kind, cube(image=values() + 1, binary_mask=mask), 3, **given)
    moves = moved - shown  # 1 where a step of the image moves the sample, 0 where it is masked or replaced
    constant = torch.stack([inner(explainer.__name__, model, 0)(sample) for sample in shown])
    constant = torch.where(shown == 0, 0.0, constant / shown)

    def formula(step: float) -> torch.Tensor:
        return moment(method, (shown + step * moves) * constant)

    wanted = (formula(1e-4) - formula(-1e-4)) / 2e-4
    (found,) = torch.autograd.grad(kept.sum(), leaf)
    assert_close(found, wanted, 1e-7)


def test_keep_gradient_of_an_image_that_does_not_require_it() -> None:
    for kind in TUNNELS:
        for explainer in (InputXGradient, IntegratedGradients):
            found = run(kind, explainer, smooth(), cube(), keep_gradient=True)
            assert found.attributes.requires_grad
            assert not found.hsi.image.requires_grad
        mean = IntegratedGradients(explainable(smooth()), multiply_by_inputs=False)
        assert not kind(mean).attribute(cube(), target=0, keep_gradient=True).attributes.requires_grad


# ---------------------------------------------------------------- standard error and tolerance


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("method", ["smoothgrad", "smoothgrad_sq"])
@pytest.mark.parametrize("explainer", INNERS)
def test_standard_error(kind: type, method: str, explainer: type) -> None:
    """The sample standard deviation of what is averaged, by the root of the number of samples."""
    hsi, model, n = cube(), convolutional(), 6
    found = run(kind, explainer, model, hsi, 3, n_samples=n, method=method, standard_error=True)
    drawn = torch.stack([inner(explainer.__name__, model, 0)(one) for one in samples(kind, hsi, 3, n_samples=n)])
    drawn = drawn if method == "smoothgrad" else drawn**2
    assert found.standard_error.shape == SHAPE
    assert_close(found.standard_error, drawn.std(0) / math.sqrt(n), 1e-6)
    assert torch.equal(run(kind, explainer, model, hsi, 3, n_samples=n, method=method).attributes, found.attributes)


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


@pytest.mark.parametrize("method", ["smoothgrad", "smoothgrad_sq"])
@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("explainer", INNERS)
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
        assert used in (8, 16, 32)
        assert left == 0


def test_tolerance_that_is_not_reached_takes_all_samples() -> None:
    found = run(NoiseTunnel, Saliency, Elementwise(), cube(), 3, n_samples=21, tolerance=1e-9, standard_error=True)
    assert found.report.evaluations == 21
    assert precision(found) > 1e-9
    assert torch.equal(found.attributes, run(NoiseTunnel, Saliency, Elementwise(), cube(), 3, n_samples=21).attributes)


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
    assert found.report.evaluations == 8


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("method", ["smoothgrad", "vargrad"])
@pytest.mark.parametrize("explainer", [Saliency, InputXGradient])
@pytest.mark.parametrize("kind", TUNNELS)
def test_memory_does_not_depend_on_the_number_of_samples(kind: type, explainer: type, method: str) -> None:
    shape = (8, 32, 32)
    hsi = HSI(image=values(0, torch.float32, shape), wavelengths=list(range(8)))
    model = Elementwise(shape, torch.float32)
    few, many = (
        run(kind, explainer, model, hsi, n_samples=n, method=method, steps_per_batch=4).report for n in (10, 500)
    )
    assert (few.evaluations, many.evaluations) == (10, 500)
    assert many.peak_bytes <= 1.05 * few.peak_bytes


@pytest.mark.parametrize("kind", TUNNELS)
@pytest.mark.parametrize("explainer", [IntegratedGradients, Occlusion])
def test_memory_of_nested_runs_does_not_depend_on_the_number_of_samples(kind: type, explainer: type) -> None:
    hsi = HSI(image=torch.ones(4, 4, 4), wavelengths=list(range(4)))
    few, many = (
        run(kind, explainer, Elementwise((4, 4, 4), torch.float32), hsi, n_samples=n, steps_per_batch=8).report
        for n in (10, 500)
    )
    assert many.evaluations > 20 * few.evaluations
    assert many.peak_bytes <= 1.05 * few.peak_bytes


def test_memory_of_a_large_image_is_a_handful_of_images() -> None:
    """10 MB, three samples of 50 steps each."""
    hsi = HSI(image=torch.ones(10, 512, 512), wavelengths=list(range(10)))
    net = nn.Sequential(nn.Conv2d(10, 1, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = run(HyperNoiseTunnel, IntegratedGradients, net, hsi, n_samples=3, steps_per_batch=1)
    assert found.report.peak_bytes < 13 * hsi.image.numel() * 4


# ---------------------------------------------------------------- samples alone


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_perturb_input_with_noise(dtype: torch.dtype) -> None:
    image = values(0, dtype)
    torch.manual_seed(3)
    found = NoiseTunnel.perturb_input(image, 50, None, 0.5)
    assert found.shape == (50, *SHAPE)
    assert found.dtype == dtype
    assert float((found - image).std()) == pytest.approx(0.5, rel=0.05)
    torch.manual_seed(3)
    assert torch.equal(NoiseTunnel.perturb_input(image, n_samples=50, stdevs=0.5), found)
    assert torch.equal(image, values(0, dtype))
    assert NoiseTunnel.perturb_input(image).shape == (1, *SHAPE)
    part = NoiseTunnel.perturb_input(image, 2, (1, slice(0, 2)), 1.0)
    assert (part != image).any(0).nonzero().unique(dim=0)[:, :2].unique(dim=0).tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_perturb_input_with_bands(dtype: torch.dtype) -> None:
    image, baseline = values(0, dtype), values(1, dtype)
    torch.manual_seed(3)
    found = HyperNoiseTunnel.perturb_input(image, baseline, 50)
    assert found.shape == (50, *SHAPE)
    assert found.dtype == dtype
    from_baseline = (found == baseline).all((2, 3))
    assert torch.equal(from_baseline, ~(found == image).all((2, 3)))
    assert 0.3 < float(from_baseline.double().mean()) < 0.7
    torch.manual_seed(3)
    assert torch.equal(HyperNoiseTunnel.perturb_input(image, baseline, 50), found)
    exact = HyperNoiseTunnel.perturb_input(image, baseline, 20, 0.5, 2)
    assert (exact == baseline).all((2, 3)).sum(1).tolist() == [2] * 20
    assert torch.equal(HyperNoiseTunnel.perturb_input(image, baseline, perturbation_prob=0)[0], image)
    assert torch.equal(HyperNoiseTunnel.perturb_input(image, baseline, perturbation_prob=1)[0], baseline)


def test_perturb_input_takes_views() -> None:
    image, baseline = values().permute(2, 0, 1), values(1).permute(2, 0, 1)
    found = HyperNoiseTunnel.perturb_input(image, baseline, 8, num_perturbed_bands=1)
    assert (found == baseline).all((2, 3)).sum(1).tolist() == [1] * 8
    assert (found == image).all((2, 3)).sum(1).tolist() == [2] * 8
    assert torch.equal(NoiseTunnel.perturb_input(image, stdevs=0)[0], image)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: NoiseTunnel.perturb_input(x, 0), ValueError, "n_samples"),
        (lambda x: NoiseTunnel.perturb_input(x, -1), ValueError, "n_samples"),
        (lambda x: NoiseTunnel.perturb_input(x, 1, (0,) * 4), IndexError, "perturbation_axis"),
        (lambda x: NoiseTunnel.perturb_input(x, 1, None, -1.0), ValueError, "stdevs"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x, 0), ValueError, "n_samples"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x, 1, 1.5), ValueError, "perturbation_prob"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x, 1, -0.1), ValueError, "perturbation_prob"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x, 1, 0.5, 6), ValueError, "num_perturbed_bands"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x, 1, 0.5, -1), ValueError, "num_perturbed_bands"),
        (lambda x: HyperNoiseTunnel.perturb_input(x), ValueError, "baseline"),
        (lambda x: HyperNoiseTunnel.perturb_input(x, x[:4]), ShapeMismatchError, "baseline"),
    ],
)
def test_perturb_input_refuses(call: Callable[[torch.Tensor], Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        call(values())


@pytest.mark.parametrize(("n", "k"), [(1, 0), (1, 1), (7, 3), (7, 7), (40, 1), (40, 39)])
def test_torch_random_choice(n: int, k: int) -> None:
    torch.manual_seed(1)
    found = torch_random_choice(n, k, 500)
    assert found.dtype == torch.bool
    assert found.shape == (500, n)
    assert found.sum(1).tolist() == [k] * 500
    share, error = k / n, math.sqrt(k / n * (1 - k / n) / 500)
    assert ((found.double().mean(0) - share).abs() <= 4 * error + 1e-12).all()
    torch.manual_seed(1)
    assert torch.equal(torch_random_choice(n, k, 500, device="cpu"), found)


def test_torch_random_choice_chooses_every_pair() -> None:
    torch.manual_seed(1)
    found = torch_random_choice(5, 2, 5000).double()
    pairs = (found.T @ found)[torch.ones(5, 5).triu(1).bool()]
    assert ((pairs - 500).abs() < 4 * math.sqrt(5000 * 0.1 * 0.9)).all()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((3, 4, 1), ValueError),
        ((3, -1, 1), ValueError),
        ((-3, 0, 1), ValueError),
        ((3.0, 1, 1), TypeError),
        ((3, 1.0, 1), TypeError),
        ((3, 1, 1.0), TypeError),
        ((3, 1, "1"), TypeError),
        ((torch.tensor(3.0), 1, 1), TypeError),
    ],
)
def test_torch_random_choice_refuses(arguments: tuple[Any, ...], error: Any) -> None:
    with pytest.raises(error):
        torch_random_choice(*arguments)


def test_gradients_of_the_quadratic_are_known() -> None:
    """Two references agree: the formula of the toy and autograd."""
    assert_close(Quadratic().gradient(values(), 1), gradient(Quadratic(), values(), 1), 1e-13)
