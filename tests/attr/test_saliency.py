"""Saliency as mathematics: the gradient, on models whose gradient is known."""

from __future__ import annotations

import torch
from torch import nn

from meteors_c.attr import HSIAttributes, Saliency
from tests.toys import ROWS, SHAPE, Linear, Quadratic, cube, explainable, smooth, spatial_mask, values


def test_a_linear_model_shows_its_weights() -> None:
    model = Linear()
    found = Saliency(explainable(model)).attribute(cube(), target=1)
    assert isinstance(found, HSIAttributes)
    torch.testing.assert_close(found.attributes, model.weight[1].abs(), rtol=1e-14, atol=0)
    signed = Saliency(explainable(model)).attribute(cube(), target=1, abs=False)
    torch.testing.assert_close(signed.attributes, model.weight[1].detach(), rtol=1e-14, atol=0)
    assert (signed.attributes < 0).any()


def test_a_quadratic_model_shows_its_slope_at_the_image() -> None:
    model, hsi = Quadratic(), cube(3)
    found = Saliency(explainable(model)).attribute(hsi, target=2, abs=False).attributes
    torch.testing.assert_close(found, model.gradient(hsi.image, 2), rtol=1e-13, atol=1e-15)


def test_the_mask_changes_where_the_gradient_is_taken_but_not_the_gradient_itself() -> None:
    model, hsi = Quadratic(), cube(binary_mask=spatial_mask())
    found = Saliency(explainable(model)).attribute(hsi, target=0, abs=False).attributes
    torch.testing.assert_close(found, model.gradient(hsi.get_image(), 0), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(found[:, 0, 1], model.weight[0, :, 0, 1].detach())


def test_linearity() -> None:
    f, g, hsi = smooth(), Quadratic(), cube()
    mixed = Saliency(explainable(lambda x: 2 * f(x) - 3 * g(x))).attribute(hsi, target=0, abs=False).attributes
    of_f = Saliency(explainable(f)).attribute(hsi, target=0, abs=False).attributes
    of_g = Saliency(explainable(g)).attribute(hsi, target=0, abs=False).attributes
    torch.testing.assert_close(mixed, 2 * of_f - 3 * of_g, rtol=1e-12, atol=1e-14)


def test_values_that_the_model_ignores_get_zero() -> None:
    net = smooth(1, 4 * ROWS * 3)
    found = Saliency(explainable(lambda x: net(x[:, 1:]))).attribute(cube()).attributes
    assert (found[0] == 0).all()
    assert (found[1:] != 0).all()


def test_the_way_a_function_is_written_does_not_matter() -> None:
    net, hsi = smooth(1), cube()
    found = Saliency(explainable(net)).attribute(hsi).attributes
    other = Saliency(explainable(lambda x: net(torch.relu(x) - torch.relu(-x)).expand(-1, 2)[:, 1])).attribute(hsi)
    torch.testing.assert_close(found, other.attributes, rtol=1e-13, atol=1e-15)


def test_saturated_outputs_have_no_slope() -> None:
    found = Saliency(explainable(lambda x: torch.relu(x - 10).sum((1, 2, 3)))).attribute(cube())
    assert (found.attributes == 0).all()


def test_result() -> None:
    hsi = cube(dtype=torch.float32)
    found = Saliency(explainable(smooth(dtype=torch.float32))).attribute(hsi, target=-1)
    assert found.hsi is hsi
    assert found.attribution_method == "Saliency"
    assert found.score is None
    assert found.target == -1
    assert found.attributes.shape == SHAPE
    assert found.attributes.dtype == torch.float32
    assert not found.attributes.requires_grad
    assert found.orientation == ("C", "H", "W")


def test_an_image_that_requires_grad_gives_detached_attributes() -> None:
    hsi = cube(image=values().requires_grad_())
    assert not Saliency(explainable(smooth())).attribute(hsi, target=0).attributes.requires_grad
    assert hsi.image.requires_grad
    assert hsi.image.grad is None


def test_gradients_are_found_where_the_caller_switched_them_off() -> None:
    model = explainable(nn.Sequential(smooth(1)))
    wanted = Saliency(model).attribute(cube()).attributes
    with torch.no_grad():
        torch.testing.assert_close(Saliency(model).attribute(cube()).attributes, wanted)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        torch.testing.assert_close(Saliency(model).attribute(cube()).attributes.clone(), wanted)
        assert torch.is_inference_mode_enabled()
