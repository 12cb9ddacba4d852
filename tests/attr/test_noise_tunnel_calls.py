"""Noise tunnels: arguments, lists, models of every kind, and memory."""

from __future__ import annotations

import inspect
from typing import Any

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
from meteors_c.models import ExplainableModel
from tests.attr.tunnels import INNERS, TUNNELS, Elementwise, run
from tests.parity.reference import assert_close
from tests.toys import (
    PATHS,
    Linear,
    Watched,
    convolutional,
    cube,
    each_pair,
    each_value,
    explainable,
    name_of,
    smooth,
    traced,
    values,
)

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


@pytest.mark.parametrize(("kind", "explainer", "most"), each_pair(TUNNELS, INNERS, [3, 100]), ids=name_of)
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


@pytest.mark.parametrize(("explainer", "kind"), each_value(INNERS, TUNNELS), ids=name_of)
def test_progress_counts_every_evaluation(explainer: type, kind: type) -> None:
    told: list[tuple[int, int]] = []
    run(kind, explainer, smooth(), [cube(0), cube(1)], show_progress=lambda *pair: told.append(pair))
    wanted = 10 * {Saliency: 1, InputXGradient: 1, IntegratedGradients: 50, Occlusion: 61}[explainer]
    assert told[-1] == (wanted, wanted)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {to_do for _, to_do in told} == {wanted}


@pytest.mark.parametrize(
    ("kind", "explainer", "dtype"), each_pair(TUNNELS, INNERS, [torch.float32, torch.float64]), ids=name_of
)
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


@pytest.mark.parametrize(("explainer", "path"), each_value([*INNERS, INNERS[2], INNERS[0]], PATHS), ids=name_of)
def test_an_argument_of_the_only_image(explainer: type, path: str) -> None:
    """It is repeated along with the samples, whatever runs inside."""
    factor, body = torch.tensor([3.0], dtype=torch.float64), smooth()

    def model(x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        assert given.tolist() == [3.0] * len(x)
        return body(x) * given[:, None]

    with mt.options(**PATHS[path]):
        found = run(NoiseTunnel, explainer, model, cube(), 3, additional_forward_args=factor, n_samples=3)
    assert_close(found.attributes, 3 * run(NoiseTunnel, explainer, body, cube(), 3, n_samples=3).attributes, 1e-10)


@pytest.mark.parametrize("kind", TUNNELS)
def test_a_list_of_one_gives_the_bare_result(kind: type) -> None:
    assert isinstance(run(kind, Saliency, smooth(), [cube()]), HSIAttributes)


@pytest.mark.parametrize(("explainer", "path"), each_value([*INNERS, INNERS[2], INNERS[0]], PATHS), ids=name_of)
def test_models_that_give_one_number_for_a_batch(explainer: type, path: str) -> None:
    net = smooth(1)
    with mt.options(**PATHS[path]):
        found = run(NoiseTunnel, explainer, lambda x: net(x).mean(), cube(), 3, None, steps_per_batch=4, n_samples=4)
    wanted = run(NoiseTunnel, explainer, net, cube(), 3, n_samples=4)
    assert_close(found.attributes, wanted.attributes, 1e-10)


@pytest.mark.parametrize(
    ("kind", "most", "path"), each_pair(TUNNELS, [1, 2], ["shortcut", "python calls"]), ids=name_of
)
def test_models_that_write_into_their_input(kind: type, most: int, path: str) -> None:
    plain = Elementwise()

    def model(x: torch.Tensor) -> torch.Tensor:
        y = plain(x)
        x.mul_(0)
        return y

    given = {"n_samples": 3, "steps_per_batch": most}
    with mt.options(**PATHS[path]):
        found = run(kind, Occlusion, model, cube(), 3, **given)
    assert_close(found.attributes, run(kind, Occlusion, plain, cube(), 3, **given).attributes, 1e-12)


@pytest.mark.parametrize(
    ("kind", "most", "path"), each_pair(TUNNELS, [1, 2], ["shortcut", "python calls"]), ids=name_of
)
def test_products_are_with_the_sample_not_with_what_a_model_made_of_it(kind: type, most: int, path: str) -> None:
    plain = Elementwise()

    def model(x: torch.Tensor) -> torch.Tensor:
        y = plain(x.clone())
        with torch.no_grad():
            x.mul_(0)
        return y

    given = {"n_samples": 3, "steps_per_batch": most}
    with mt.options(**PATHS[path]):
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


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("kind", "explainer", "method"),
    each_pair(TUNNELS, [Saliency, InputXGradient], ["smoothgrad", "vargrad"]),
    ids=name_of,
)
def test_memory_does_not_depend_on_the_number_of_samples(kind: type, explainer: type, method: str) -> None:
    shape = (8, 32, 32)
    hsi = HSI(image=values(0, torch.float32, shape), wavelengths=list(range(1, 9)))
    model = Elementwise(shape, torch.float32)
    few, many = (
        run(kind, explainer, model, hsi, n_samples=n, method=method, steps_per_batch=4).report for n in (10, 500)
    )
    assert (few.evaluations, many.evaluations) == (10, 500)
    assert many.peak_bytes <= 1.05 * few.peak_bytes


@pytest.mark.parametrize(("kind", "explainer"), each_value(TUNNELS, [IntegratedGradients, Occlusion]), ids=name_of)
def test_memory_of_nested_runs_does_not_depend_on_the_number_of_samples(kind: type, explainer: type) -> None:
    hsi = HSI(image=torch.ones(4, 4, 4), wavelengths=list(range(1, 5)))
    few, many = (
        run(kind, explainer, Elementwise((4, 4, 4), torch.float32), hsi, n_samples=n, steps_per_batch=8).report
        for n in (10, 500)
    )
    assert many.evaluations > 20 * few.evaluations
    assert many.peak_bytes <= 1.05 * few.peak_bytes


def test_memory_of_a_large_image_is_a_handful_of_images() -> None:
    """10 MB, three samples of 50 steps each."""
    hsi = HSI(image=torch.ones(10, 512, 512), wavelengths=list(range(1, 11)))
    net = nn.Sequential(nn.Conv2d(10, 1, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = run(HyperNoiseTunnel, IntegratedGradients, net, hsi, n_samples=3, steps_per_batch=1)
    assert found.report.peak_bytes < 13 * hsi.image.numel() * 4
