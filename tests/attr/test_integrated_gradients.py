"""Integrated gradients: its axioms, its quadrature, its arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import IntegratedGradients, Saliency
from meteors_c.models import ExplainableModel
from tests.toys import (
    METHODS,
    PATHS,
    ROWS,
    SHAPE,
    Linear,
    Quadratic,
    assert_declined,
    assert_shortcut,
    convolutional,
    cube,
    each_value,
    explainable,
    smooth,
    spatial_mask,
    traced,
)
from tests.toys import values as numbers

SUM_OF_WEIGHTS = {"riemann_trapezoid": lambda n: 1 - 1 / n}
MEAN_NODE = {"riemann_left": lambda n: (1 - 1 / n) / 2, "riemann_right": lambda n: (1 + 1 / n) / 2}


def attribute(model: Any, hsi: Any, *args: Any, multiply_by_inputs: bool = True, **kwargs: Any) -> Any:
    return IntegratedGradients(explainable(model), multiply_by_inputs).attribute(hsi, *args, **kwargs)


def output(model: Any, x: torch.Tensor, target: int = 0) -> float:
    return model(x[None])[0, target].item()


# ---------------------------------------------------------------- axioms


@pytest.mark.parametrize(
    ("baseline", "target"), [(0.0, 0), (0.7, 2), (numbers(3), 2)], ids=["zero", "number", "tensor"]
)
def test_completeness(baseline: Any, target: int) -> None:
    model, hsi = convolutional(), cube()
    found = attribute(model, hsi, baseline, target, return_convergence_delta=True)
    start = torch.zeros_like(hsi.image) + baseline
    difference = output(model, hsi.image, target) - output(model, start, target)
    assert abs(difference) > 1e-4
    assert float(found.attributes.sum()) == pytest.approx(difference, abs=1e-12)
    assert found.score == pytest.approx(0, abs=1e-12)


def test_the_delta_is_the_error_of_completeness() -> None:
    model, hsi, baseline = convolutional(), cube(), numbers(3)
    found = attribute(model, hsi, baseline, 0, n_steps=3, method="riemann_left", return_convergence_delta=True)
    error = float(found.attributes.sum()) - (output(model, hsi.image) - output(model, baseline))
    assert abs(error) > 1e-4
    assert isinstance(found.score, float)
    assert found.score == pytest.approx(error, rel=1e-10)


def test_the_delta_belongs_to_its_image() -> None:
    model, images = convolutional(), [cube(i) for i in range(3)]
    together = attribute(model, images, 0.2, [0, 1, 2], n_steps=2, return_convergence_delta=True)
    for i, hsi in enumerate(images):
        alone = attribute(model, hsi, 0.2, i, n_steps=2, return_convergence_delta=True)
        assert together[i].score == pytest.approx(alone.score, rel=1e-9)
        assert abs(alone.score) > 1e-8


def test_linearity() -> None:
    f, g, hsi, baseline = smooth(), Quadratic(), cube(), numbers(1)
    mixed = attribute(lambda x: 2 * f(x) - 3 * g(x), hsi, baseline, 0).attributes
    wanted = 2 * attribute(f, hsi, baseline, 0).attributes - 3 * attribute(g, hsi, baseline, 0).attributes
    torch.testing.assert_close(mixed, wanted, rtol=1e-12, atol=1e-14)


def test_sensitivity() -> None:
    """What does not differ from the baseline, or is not read, gets nothing; what changes the output gets something."""
    net = smooth(1, 4 * ROWS * 3)
    baseline = numbers(1)
    image = numbers()
    image[2] = baseline[2]
    found = attribute(lambda x: net(x[:, 1:]), cube(image=image), baseline).attributes
    assert (found[[0, 2]] == 0).all()
    assert (found[[1, 3, 4]] != 0).all()


def test_one_changed_value_gets_all_the_difference() -> None:
    """Saliency misses it: the ReLU is flat at the image."""

    def model(x: torch.Tensor) -> torch.Tensor:
        return 1 - torch.relu(1 - x[:, 0, 0, 0])

    image = torch.zeros(SHAPE, dtype=torch.float64)
    image[0, 0, 0] = 2
    hsi = cube(image=image)
    assert float(Saliency(explainable(model)).attribute(hsi).attributes[0, 0, 0]) == 0
    found = attribute(model, hsi, n_steps=10, method="riemann_left").attributes
    assert float(found[0, 0, 0]) == pytest.approx(1)
    assert float(found.abs().sum()) == pytest.approx(1)


def test_the_way_a_function_is_written_does_not_matter() -> None:
    net, hsi, baseline = smooth(1), cube(), numbers(1)
    other = attribute(lambda x: net(torch.relu(x) - torch.relu(-x)), hsi, baseline).attributes
    torch.testing.assert_close(attribute(net, hsi, baseline).attributes, other, rtol=1e-12, atol=1e-14)


def test_symmetry() -> None:
    image = numbers()
    image[3] = image[1]
    found = attribute(lambda x: torch.tanh(x[:, 1] * x[:, 3] + x[:, 0]).sum((1, 2)), cube(image=image)).attributes
    torch.testing.assert_close(found[1], found[3], rtol=0, atol=0)
    assert (found[1] != 0).all()


def test_from_the_image_to_itself_nothing_is_attributed() -> None:
    hsi = cube()
    found = attribute(smooth(), hsi, hsi.image, 0, return_convergence_delta=True)
    assert (found.attributes == 0).all()
    assert found.score == 0


# ---------------------------------------------------------------- quadrature


@pytest.mark.parametrize(("method", "n"), each_value(METHODS, [2, 3, 10]))
def test_every_rule_in_closed_form_on_a_quadratic_model(method: str, n: int) -> None:
    """The gradient is linear on the way, so a rule is known by its sum of weights and its mean node."""
    model, hsi, baseline = Quadratic(), cube(), numbers(1)
    found = attribute(model, hsi, baseline, 1, n_steps=n, method=method).attributes
    weight = SUM_OF_WEIGHTS.get(method, lambda n: 1.0)(n)
    node = MEAN_NODE.get(method, lambda n: 0.5)(n)
    difference = hsi.image - baseline
    wanted = weight * difference * model.gradient(baseline + node * difference, 1)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("method", "n"), each_value(METHODS, [5, 2]))
def test_weights_sum_to_one_but_for_the_trapezoid(method: str, n: int) -> None:
    model, hsi = Linear(), cube()
    found = attribute(model, hsi, target=0, n_steps=n, method=method, return_convergence_delta=True)
    weight = SUM_OF_WEIGHTS.get(method, lambda n: 1.0)(n)
    value = output(model, hsi.image)
    assert float(found.attributes.sum()) == pytest.approx(weight * value, rel=1e-12)
    assert found.score == pytest.approx((weight - 1) * value, abs=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_gauss_legendre_is_exact_up_to_degree_2n_minus_1(n: int) -> None:
    def power(degree: int) -> float:
        found = attribute(lambda x: (x**degree).sum((1, 2, 3)), cube(image=numbers() + 1), n_steps=n).attributes
        exact = (numbers() + 1) ** degree
        return float((found - exact).abs().max() / exact.abs().max())

    assert power(2 * n) < 1e-13  # the gradient has one degree less
    assert power(2 * n + 1) > 1e-5


def test_many_gauss_nodes() -> None:
    found = attribute(smooth(), cube(), target=0, n_steps=2000, return_convergence_delta=True)
    assert found.score == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize(("method", "order"), [("riemann_left", 1), ("riemann_right", 1), ("riemann_middle", 2)])
def test_errors_shrink_at_the_rate_of_the_rule(method: str, order: int) -> None:
    def error(n: int) -> float:
        return abs(attribute(smooth(), cube(), 0.4, 0, n_steps=n, method=method, return_convergence_delta=True).score)

    assert error(40) / error(80) == pytest.approx(2**order, rel=0.05)


def test_a_rule_may_see_its_end_points_alone() -> None:
    """Two trapezoid steps are the baseline and the image."""
    model, hsi, baseline = smooth(), cube(), numbers(1)
    found = attribute(model, hsi, baseline, 0, n_steps=2, method="riemann_trapezoid").attributes
    ends = [
        Saliency(explainable(model)).attribute(cube(image=x), target=0, abs=False).attributes
        for x in (baseline, hsi.image)
    ]
    torch.testing.assert_close(found, (hsi.image - baseline) * (ends[0] + ends[1]) / 4, rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------- arguments


def test_without_the_product_it_is_the_mean_gradient() -> None:
    model, hsi, baseline = smooth(), cube(), numbers(1)
    mean = attribute(model, hsi, baseline, 0, multiply_by_inputs=False).attributes
    product = attribute(model, hsi, baseline, 0).attributes
    torch.testing.assert_close(product, (hsi.image - baseline) * mean, rtol=1e-13, atol=1e-15)
    linear = attribute(Linear(), hsi, baseline, 0, multiply_by_inputs=False).attributes
    torch.testing.assert_close(linear, Linear().weight[0].detach(), rtol=1e-13, atol=0)


def test_the_delta_without_the_product_is_still_about_the_attributions() -> None:
    model, hsi = smooth(), cube()
    found = attribute(model, hsi, 0.5, 0, multiply_by_inputs=False, return_convergence_delta=True)
    start = torch.full_like(hsi.image, 0.5)
    error = float(found.attributes.sum()) - (output(model, hsi.image) - output(model, start))
    assert found.score == pytest.approx(error, rel=1e-10)


def test_the_baseline_is_not_masked() -> None:
    """Behind the mask the image is 0, and the way from the baseline to 0 counts."""
    model, hsi = Linear(), cube(binary_mask=spatial_mask())
    found = attribute(model, hsi, 0.5, 0).attributes
    torch.testing.assert_close(found[:, 0, 1], (-0.5 * model.weight[0, :, 0, 1]).detach(), rtol=1e-13, atol=0)


def test_result() -> None:
    hsi = cube(dtype=torch.float32)
    found = attribute(smooth(dtype=torch.float32), hsi, target=1)
    assert found.hsi is hsi
    assert found.attribution_method == "Integrated Gradients"
    assert found.score is None
    assert found.attributes.shape == SHAPE
    assert found.attributes.dtype == torch.float32
    assert not found.attributes.requires_grad
    assert found.target == 1


def test_what_the_caller_gave_is_unchanged() -> None:
    images, baselines, targets = [cube(0), cube(1)], [numbers(4), 0.5], [0, 1]
    kept = [hsi.image.clone() for hsi in images], numbers(4)
    attribute(convolutional(), images, baselines, targets, return_convergence_delta=True)
    assert all(torch.equal(hsi.image, before) for hsi, before in zip(images, kept[0], strict=True))
    assert torch.equal(baselines[0], kept[1])
    assert baselines[1:] == [0.5]
    assert targets == [0, 1]
    assert len(images) == 2
    assert [hsi.image._version for hsi in images] == [0, 0]


@pytest.mark.parametrize(("dtype", "path"), [(torch.float32, "shortcut"), (torch.float64, "python calls")], ids=str)
def test_a_field_of_some_size_on_several_threads(dtype: torch.dtype, path: str) -> None:
    """The image is large enough to be shared among threads, turned, and masked."""
    image = numbers(2, dtype, (60, 50, 40)).permute(1, 2, 0)
    mask = numbers(3, shape=(60, 50, 1)).permute(1, 2, 0) > 0
    hsi = mt.HSI(image=image, wavelengths=list(range(1, 61)), orientation="HWC", binary_mask=mask)
    baseline = numbers(4, dtype, (40, 60, 50)).permute(2, 0, 1)
    x = torch.where(mask, image, 0.0)
    wanted = (x - baseline) * (x + baseline)
    found = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            with mt.options(**PATHS[path]):
                result = attribute(lambda x: (x * x).sum((1, 2, 3)), hsi, baseline, n_steps=3, internal_batch_size=2)
        finally:
            torch.set_num_threads(1)
        found[threads] = result.attributes
        torch.testing.assert_close(result.attributes, wanted, rtol=0, atol=2e-6 if dtype == torch.float32 else 1e-14)
    assert torch.equal(found[1], found[2])


# ---------------------------------------------------------------- keep_gradient


@pytest.mark.parametrize("shortcuts", ["always", False])
def test_keep_gradient_runs_through_the_image_factor_alone(shortcuts: bool | str) -> None:
    model, mask, baseline = convolutional(), spatial_mask(), numbers(1)
    hsi = cube(image=numbers().requires_grad_(), binary_mask=mask)
    with mt.options(shortcuts=shortcuts):
        kept = attribute(model, hsi, baseline, 0, keep_gradient=True, return_convergence_delta=True)
        plain = attribute(model, hsi, baseline, 0, return_convergence_delta=True)
        mean = attribute(model, hsi, baseline, 0, multiply_by_inputs=False).attributes
    assert kept.attributes.requires_grad
    torch.testing.assert_close(kept.attributes.detach(), plain.attributes, rtol=1e-12, atol=1e-14)
    assert kept.score == pytest.approx(plain.score, abs=1e-12)
    (through,) = torch.autograd.grad(kept.attributes.sum(), hsi.image)
    torch.testing.assert_close(through, mask * mean, rtol=1e-12, atol=1e-14)


def test_keep_gradient_without_the_product_keeps_nothing() -> None:
    hsi = cube(image=numbers().requires_grad_())
    found = attribute(smooth(), hsi, target=0, multiply_by_inputs=False, keep_gradient=True)
    assert not found.attributes.requires_grad


@pytest.mark.parametrize("baseline", [0.5, numbers(1), (5 * numbers(1)).int()], ids=["number", "float64", "int"])
def test_keep_gradient_keeps_the_dtype(baseline: Any) -> None:
    model = smooth(dtype=torch.float32)
    for hsi in (cube(dtype=torch.float32), cube(image=(9 * numbers()).to(torch.int16))):
        kept = attribute(model, hsi, baseline, 0, keep_gradient=True).attributes
        plain = attribute(model, hsi, baseline, 0).attributes
        assert kept.dtype == plain.dtype == torch.float32
        torch.testing.assert_close(kept.detach(), plain)


# ---------------------------------------------------------------- shortcuts are verified, or declined with a reason


class TwoReaders(nn.Module):
    """The input is read again behind the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(5, 4, 1).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.first(x)).sum((1, 2, 3)) + (x**2).sum((1, 2, 3))


class Twice(nn.Module):
    """One layer, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(5, 5, 1).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.first(torch.tanh(self.first(x)))).sum((1, 2, 3))


def hooked() -> nn.Module:
    model = convolutional()
    model[0].register_forward_hook(lambda module, args, output: output * 2)
    return model


def check_both_paths(model: nn.Module, *, taken: bool) -> None:
    targets = None if isinstance(model, TwoReaders | Twice) else 0
    with mt.options(shortcuts="always"):
        found = attribute(model, cube(), 0.3, targets, return_convergence_delta=True)
    if taken:
        assert_shortcut(found.report, "affine prefix")
    else:
        assert_declined(found.report, "structure")
    assert found.score == pytest.approx(0, abs=1e-10)
    with mt.options(shortcuts=False):
        plain = attribute(model, cube(), 0.3, targets)
    torch.testing.assert_close(found.attributes, plain.attributes, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "model",
    [TwoReaders(), Twice(), hooked(), traced(convolutional())],
    ids=["two readers", "layer twice", "hooks", "TorchScript"],
)
def test_shortcuts_are_taken_however_the_model_is_written(model: nn.Module) -> None:
    check_both_paths(model, taken=True)


def test_shortcuts_are_declined_and_the_numbers_are_right() -> None:
    check_both_paths(nn.Sequential(nn.Tanh(), convolutional()), taken=False)


def test_train_mode_declines_the_shortcut() -> None:
    model = nn.Sequential(convolutional(), nn.Dropout(0.0))
    with mt.options(shortcuts="always"):
        found = IntegratedGradients(ExplainableModel(model, "regression")).attribute(cube(), target=0)
    assert_declined(found.report, "model_state")


def test_the_model_is_unchanged_by_a_shortcut() -> None:
    model = convolutional()
    before = [sorted(vars(module)) for module in model.modules()]
    with mt.options(shortcuts="always"):
        assert_shortcut(attribute(model, cube(), target=0).report, "affine prefix")
    assert [sorted(vars(module)) for module in model.modules()] == before
    assert not torch.nn.modules.module._global_forward_hooks


class ValidPixels(nn.Module):
    """The mean spectrum of bright pixels; a constant where there are none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(SHAPE[0], 2).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectra = []
        for one in x:
            bright = one.flatten(1)[:, (one[0] > 0.3).flatten()]
            spectra.append(bright.square().mean(1) if bright.numel() else one.new_zeros(len(one)))
        return self.layer(torch.stack(spectra))


@pytest.mark.parametrize("options", [{}, {"batch": 1}, {"shortcuts": "always"}, {"shortcuts": False}], ids=str)
def test_points_whose_output_is_a_constant_have_gradients_of_0(options: dict[str, Any]) -> None:
    """Near the baseline no pixel is bright: alone, such a point has no gradient at all."""
    model, hsi = ValidPixels().eval(), cube()
    image = torch.as_tensor(hsi.image)
    nodes, sums = (torch.arange(30, dtype=torch.float64) + 0.5) / 30, torch.zeros_like(image)
    for node in nodes:
        point = (node * image).requires_grad_()
        (found,) = torch.autograd.grad(model(point[None])[0, 0], point, allow_unused=True)
        sums += torch.zeros_like(image) if found is None else found
    with mt.options(**options):
        result = attribute(model, hsi, target=0, n_steps=30, method="riemann_middle")
    torch.testing.assert_close(result.attributes, image * sums / 30, rtol=1e-10, atol=1e-12)


def test_a_model_that_ignores_its_input_has_no_gradient() -> None:
    bias = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="does not depend on its input"):
        attribute(lambda x: bias.expand(len(x), 1) * 2, cube(), target=0)
    with pytest.raises(RuntimeError, match="cut off from its input"):
        attribute(lambda x: x.detach().mean((1, 2, 3))[:, None], cube(), target=0)
