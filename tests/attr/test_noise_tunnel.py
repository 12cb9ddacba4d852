"""Noise tunnels: moments over the samples that the model saw, what they run around, and their graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import meteors_c as mt
from meteors_c.attr import HyperNoiseTunnel, InputXGradient, IntegratedGradients, NoiseTunnel, Saliency
from tests.attr.tunnels import INNERS, MOMENTS, TUNNELS, run, samples
from tests.parity.reference import assert_close, mean_gradient
from tests.parity.reference_perturbation import inner, moment, tunnel
from tests.toys import (
    PATHS,
    SHAPE,
    Linear,
    convolutional,
    cube,
    each_pair,
    each_value,
    explainable,
    name_of,
    smooth,
    spatial_mask,
    values,
)

# ---------------------------------------------------------------- moments of what the model saw


@pytest.mark.parametrize(
    ("kind", "explainer", "method", "path"), each_pair(TUNNELS, INNERS, MOMENTS, PATHS), ids=name_of
)
def test_moments(kind: type, explainer: type, method: str, path: str) -> None:
    """The samples of a seed are the same whatever explains them."""
    hsi, model = cube(binary_mask=spatial_mask()), convolutional()
    given = {"n_samples": 6, "stdevs": 0.3} if kind is NoiseTunnel else {"n_samples": 6, "baseline": values(2)}
    shown = samples(kind, hsi, 5, **given)
    assert shown.shape == (6, *SHAPE)
    with mt.options(**PATHS[path]):
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


@pytest.mark.parametrize(("explainer", "kind"), each_value([Saliency, *INNERS], TUNNELS), ids=name_of)
def test_saliency_is_signed_and_the_explainer_is_left_as_it_was(explainer: type, kind: type) -> None:
    used = explainer(explainable(Linear()))
    before, wanted = dict(vars(used)), used.attribute(cube(), target=0).attributes
    found = kind(used).attribute(cube(), target=0).attributes
    assert vars(used) == before
    assert used.attribute.__func__ is explainer.attribute
    # A model may round batches of another size differently, and sizes follow its speed.
    assert_close(used.attribute(cube(), target=0).attributes, wanted, 1e-13)
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


@pytest.mark.parametrize(("kind", "explainer", "method"), each_pair(TUNNELS, INNERS, MOMENTS), ids=name_of)
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
