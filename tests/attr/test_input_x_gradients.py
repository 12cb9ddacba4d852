"""Input x gradient as mathematics, and what keep_gradient keeps."""

from __future__ import annotations

import torch

from meteors_c.attr import InputXGradient, Saliency
from tests.toys import BANDS, COLUMNS, ROWS, SHAPE, Linear, Quadratic, cube, explainable, smooth, spatial_mask, values


def test_a_linear_model_gives_the_terms_of_its_sum() -> None:
    model, hsi = Linear(), cube(2)
    found = InputXGradient(explainable(model)).attribute(hsi, target=1).attributes
    torch.testing.assert_close(found, (model.weight[1] * hsi.image).detach(), rtol=1e-14, atol=0)
    torch.testing.assert_close(found.sum(), model(hsi.image[None])[0, 1].detach(), rtol=1e-12, atol=1e-14)


def test_a_quadratic_model() -> None:
    model, hsi = Quadratic(), cube(2)
    found = InputXGradient(explainable(model)).attribute(hsi, target=0).attributes
    torch.testing.assert_close(found, hsi.image * model.gradient(hsi.image, 0), rtol=1e-13, atol=1e-15)


def test_it_is_the_masked_image_times_the_gradient() -> None:
    hsi, model = cube(binary_mask=spatial_mask()), explainable(smooth())
    gradient = Saliency(model).attribute(hsi, target=0, abs=False).attributes
    found = InputXGradient(model).attribute(hsi, target=0).attributes
    torch.testing.assert_close(found, hsi.get_image() * gradient, rtol=1e-14, atol=0)
    assert (found[:, 0, 1] == 0).all()


def test_homogeneous_functions_are_complete() -> None:
    """Euler: x . f'(x) = k f(x) where f(c x) = c^k f(x)."""
    found = InputXGradient(explainable(lambda x: (x**3).sum((1, 2, 3)))).attribute(cube())
    torch.testing.assert_close(found.attributes.sum(), 3 * (values() ** 3).sum(), rtol=1e-12, atol=1e-14)


def test_symmetry() -> None:
    """Values that play the same part and are equal get the same."""
    image = values()
    image[3] = image[1]
    found = InputXGradient(explainable(lambda x: torch.tanh(x[:, 1] * x[:, 3] + x[:, 0]).sum((1, 2))))
    attributes = found.attribute(cube(image=image)).attributes
    torch.testing.assert_close(attributes[1], attributes[3], rtol=0, atol=0)
    assert (attributes[[2, 4]] == 0).all()


def test_result() -> None:
    hsi = cube(dtype=torch.float32)
    found = InputXGradient(explainable(smooth(dtype=torch.float32))).attribute(hsi, target=(1,))
    assert found.hsi is hsi
    assert found.attribution_method == "Input X Gradient"
    assert found.score is None
    assert found.target == 1
    assert found.attributes.shape == SHAPE
    assert found.attributes.dtype == torch.float32
    assert not found.attributes.requires_grad


def test_keep_gradient_runs_through_the_image_factor_alone() -> None:
    model, mask = Quadratic(), spatial_mask()
    hsi = cube(image=values().requires_grad_(), binary_mask=mask)
    found = InputXGradient(explainable(model)).attribute(hsi, target=0, keep_gradient=True).attributes
    plain = InputXGradient(explainable(model)).attribute(hsi, target=0).attributes
    assert found.requires_grad
    torch.testing.assert_close(found.detach(), plain)
    (through,) = torch.autograd.grad(found.sum(), hsi.image)
    torch.testing.assert_close(through, mask * model.gradient(hsi.get_image(), 0))


def test_keep_gradient_without_a_leaf_of_the_caller() -> None:
    hsi = cube()
    found = InputXGradient(explainable(smooth())).attribute(hsi, target=0, keep_gradient=True).attributes
    assert found.requires_grad
    assert not hsi.image.requires_grad


def test_keep_gradient_keeps_the_dtype_and_works_on_lists() -> None:
    whole = torch.arange(BANDS * ROWS * COLUMNS).reshape(SHAPE)
    images = [cube(dtype=torch.float32), cube(image=whole)]
    model = explainable(smooth(dtype=torch.float32))
    found = InputXGradient(model).attribute(images, target=0, keep_gradient=True)
    plain = InputXGradient(model).attribute(images, target=0)
    for kept, detached in zip(found, plain, strict=True):
        assert kept.attributes.dtype == torch.float32
        assert kept.attributes.requires_grad
        torch.testing.assert_close(kept.attributes.detach(), detached.attributes)
