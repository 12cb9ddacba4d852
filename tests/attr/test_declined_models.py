"""What no recording of a model may hold is declined, with the reason; what is only unusual is taken."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import meteors_c as mt
from meteors_c.attr import HyperNoiseTunnel, IntegratedGradients, KernelShap, Occlusion, Saliency
from meteors_c.models import ExplainableModel
from tests.architecture_rules import GATES, INFLUENCE, PYTHON, RANDOM, RULES, SHAPES, STATE, Rule, Ruled

BANDS, ROWS, COLUMNS, OUTPUTS = 24, 12, 11, 2


def scene(dtype: torch.dtype = torch.float64) -> mt.HSI:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(BANDS, ROWS, COLUMNS, generator=generator, dtype=torch.float64).to(dtype)
    return mt.HSI(image=image, wavelengths=torch.linspace(400, 900, BANDS))


def baseline(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 0.2 * torch.rand(BANDS, ROWS, COLUMNS, generator=torch.Generator().manual_seed(4), dtype=torch.float64).to(
        dtype
    )


def integrated_gradients(model: Any, hsi: mt.HSI, base: torch.Tensor) -> Any:
    return IntegratedGradients(model).attribute(hsi, base, target=0, n_steps=20)


def noise_tunnel(model: Any, hsi: mt.HSI, base: torch.Tensor) -> Any:
    return HyperNoiseTunnel(Saliency(model)).attribute(hsi, base, target=0, n_samples=20)


def windows(model: Any, hsi: mt.HSI, base: torch.Tensor) -> Any:
    return Occlusion(model).attribute(hsi, 0, (BANDS, 2, 3), (BANDS, 2, 2), base)


def bands(model: Any, hsi: mt.HSI, base: torch.Tensor) -> Any:
    return Occlusion(model).get_spectral_attributes(hsi, 0, sliding_window_shapes=1, baseline=base)


def superpixels(model: Any, hsi: mt.HSI, base: torch.Tensor) -> Any:
    ids = (2 * torch.arange(ROWS)[:, None] // ROWS + 2 * (3 * torch.arange(COLUMNS) // COLUMNS))[None]
    return KernelShap(model).get_spatial_attributes(hsi, ids, 0, n_samples=20, baseline=base)


GRADIENTS: list[Callable[..., Any]] = [integrated_gradients, noise_tunnel]
FORWARD: list[Callable[..., Any]] = [windows, bands, superpixels]
METHODS = GRADIENTS + FORWARD


def result(
    method: Callable[..., Any], model: Any, shortcuts: bool | str = "always", dtype: torch.dtype = torch.float64
) -> Any:
    """What a method gives for an `ExplainableModel`, a module or a function."""
    torch.manual_seed(1)
    if not isinstance(model, ExplainableModel):
        model = ExplainableModel(model, "regression")
    with mt.options(shortcuts=shortcuts), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # samples that influence each other; train mode
        return method(model, scene(dtype), baseline(dtype))


def assert_same_numbers(method: Callable[..., Any], make: Callable[[], Any], tolerance: float = 1e-10) -> Any:
    """Results with and without shortcuts agree, each of a model of its own; gives the first."""
    fast, plain = result(method, make()), result(method, make(), False)
    largest = plain.attributes.abs().max().item()
    assert largest > 0
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=tolerance * largest)
    return fast


def assert_declined_for(report: Any, words: str) -> None:
    """No shortcut, and one of the words that may stand in the reason does."""
    assert report.shortcut is None, report
    assert re.search(words, report.shortcut_declined), report


def stem() -> nn.Module:
    return nn.Conv2d(BANDS, 5, 3, padding=1)


def network(seed: int = 0, *first: nn.Module) -> nn.Sequential:
    """Two convolutions with an activation between them, behind what is given first."""
    torch.manual_seed(seed)
    layers = stem(), nn.Tanh(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*first, *layers, nn.Linear(16, OUTPUTS)).double().eval()


class Inside(Ruled):
    """A rule between a convolution and the rest."""

    def __init__(self, rule: Rule) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(BANDS, 5, 3, padding=1).double(), rule)
        self.head = nn.Sequential(nn.Conv2d(5, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)).double()
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(super().forward(x)))


# ---------------------------------------------------------------- declined


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PYTHON | SHAPES | RANDOM | STATE)
def test_what_no_recording_may_hold_is_declined(name: str, method: Callable[..., Any]) -> None:
    rule = RULES[name]
    fast = result(method, Inside(rule))
    assert_declined_for(fast.report, rule.operator)
    if rule.repeats:
        plain = result(method, Inside(rule), False)
        torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", INFLUENCE)
def test_samples_that_influence_each_other_are_declined(name: str, method: Callable[..., Any]) -> None:
    fast = assert_same_numbers(method, lambda: Inside(RULES[name]))
    assert_declined_for(fast.report, RULES[name].operator)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", GATES)
def test_gates_give_the_numbers_of_the_plain_path(name: str, method: Callable[..., Any]) -> None:
    assert_same_numbers(method, lambda: Inside(RULES[name]))


@pytest.mark.parametrize("method", METHODS)
def test_dropout_in_train_mode_is_declined(method: Callable[..., Any]) -> None:
    model = network(0, nn.Dropout(0.2))
    model[0].train()
    assert_declined_for(result(method, model).report, "dropout|train|bernoulli")


@pytest.mark.parametrize("method", METHODS)
def test_batch_norm_in_train_mode_is_declined(method: Callable[..., Any]) -> None:
    def make() -> nn.Module:
        model = network(0, nn.BatchNorm2d(BANDS).double())
        model[0].train()
        return model

    fast = assert_same_numbers(method, make)
    assert_declined_for(fast.report, "batch_norm|train|add_")


class Quantised(torch.autograd.Function):
    """Rounds, and hands gradients through."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return (8 * x).round() / 8

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 1.5 * gradient


STRAIGHT_THROUGH = Rule(lambda m, y, x: Quantised.apply(y))


@pytest.mark.parametrize("method", GRADIENTS)
def test_python_autograd_functions_are_declined_for_gradients(method: Callable[..., Any]) -> None:
    fast = assert_same_numbers(method, lambda: Inside(STRAIGHT_THROUGH))
    assert_declined_for(fast.report, "by Python")


@pytest.mark.parametrize("method", FORWARD)
def test_python_autograd_functions_give_right_outputs(method: Callable[..., Any]) -> None:
    assert_same_numbers(method, lambda: Inside(Rule(lambda m, y, x: y + 1e-3 * Quantised.apply(x[:, :5].exp()))))


@pytest.mark.parametrize("method", FORWARD)
def test_outputs_off_the_trace_are_declined(method: Callable[..., Any]) -> None:
    def make() -> Callable[[torch.Tensor], torch.Tensor]:
        net = network()
        return lambda x: torch.from_numpy(net(x).detach().numpy() * 2)

    fast = assert_same_numbers(method, make)
    assert_declined_for(fast.report, "detach|output|operator")


@pytest.mark.parametrize("method", METHODS)
def test_constant_outputs_are_declined_or_right(method: Callable[..., Any]) -> None:
    """An output that nothing ties to the input, beside one that is."""
    torch.manual_seed(0)
    net = network()

    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.full((len(x),), 2.0, dtype=x.dtype) + 0 * net(x)[:, 0], net(x)[:, 1]], 1)

    assert (result(method, forward).attributes == 0).all()


class Alternating(nn.Module):
    """Another activation at every other call."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.calls = network(), 0
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.tanh(self.body(x)) if self.calls % 2 else torch.sin(self.body(x))


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_is_not_the_same_twice_is_declined(method: Callable[..., Any]) -> None:
    assert result(method, Alternating()).report.shortcut is None


class BySize(nn.Module):
    """Other operators for large batches, with the same numbers."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.body, self.least = network(), least
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body[:2](x)
        y = torch.cat([self.body[2](one) for one in y.split(3)]) if len(x) >= self.least else self.body[2](y)
        return self.body[3:](y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("least", [2, 3, 6, 18])
def test_a_model_whose_operators_depend_on_the_batch(least: int, method: Callable[..., Any]) -> None:
    assert_same_numbers(method, lambda: BySize(least))


class ByImage(nn.Module):
    """Other operators for images of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x if x.shape[3] == COLUMNS else x.flip(1).sigmoid())


@pytest.mark.parametrize("method", METHODS)
def test_images_with_programs_of_their_own(method: Callable[..., Any]) -> None:
    image = torch.rand(BANDS, ROWS, COLUMNS + 2, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    wide = mt.HSI(image=image, wavelengths=torch.linspace(400, 900, BANDS))
    for hsi, base in [(scene(), baseline()), (wide, 0.1)]:
        model, found = ExplainableModel(ByImage(), "regression"), []
        for shortcuts in ("always", False):
            torch.manual_seed(1)
            with mt.options(shortcuts=shortcuts):
                found.append(IntegratedGradients(model).attribute(hsi, base, target=0, n_steps=20).attributes)
        torch.testing.assert_close(*found, rtol=0, atol=1e-11)


def test_each_image_of_a_list_is_looked_at() -> None:
    """A rule that only the second image meets."""
    gate = Rule(lambda m, y, x: torch.where((x[:, :1] > 2).flatten(1).any(1)[:, None, None, None], y.square(), y))
    first, second = scene(), mt.HSI(image=scene().image.clone(), wavelengths=torch.linspace(400, 900, BANDS))
    second.image[0, 3, 3] = 5.0
    found = []
    for shortcuts in ("always", False):
        model = ExplainableModel(Inside(gate), "regression")
        with mt.options(shortcuts=shortcuts):
            found.append(IntegratedGradients(model).attribute([first, second], 0.1, target=0, n_steps=20))
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-11)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_models(backend: str, method: Callable[..., Any]) -> None:
    torch.compiler.reset()
    try:
        compiled = torch.compile(network(), backend=backend, dynamic=True)
        compiled(torch.rand(2, BANDS, ROWS, COLUMNS, dtype=torch.float64))
    except Exception as error:  # whatever this machine lacks
        pytest.skip(f"torch.compile does not work here: {error}")
    fast, plain = result(method, compiled), result(method, network(), False)
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-11)


# ---------------------------------------------------------------- taken: nothing but calls


def autograd_off(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        weights = y.mean(1, keepdim=True).sigmoid()
    return y * weights


def in_place(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    y = y * 2
    y[:, 1:].mul_(0.5).add_(0.1)
    y.view(len(y), -1)[:, 3] = 0
    return y.relu_()


CALLS: dict[str, Rule] = {
    "no_grad": Rule(autograd_off),
    "detach": Rule(lambda m, y, x: y * y.detach().sigmoid()),
    "the input, detached": Rule(lambda m, y, x: y * x.detach()[:, :1]),
    "in place": Rule(in_place),
    "views": Rule(
        lambda m, y, x: y.flatten(2).transpose(1, 2).unflatten(1, y.shape[2:]).permute(0, 3, 1, 2)[:, [1, 0, 2, 3, 4]]
    ),
    "zeros": Rule(lambda m, y, x: torch.zeros_like(y).copy_(y).add_(1)),
    "a residual": Rule(lambda m, y, x: y + x[:, :5]),
    "called twice": Rule(lambda m, y, x: y - 0.3 * m.body(x.flip(1))),
    "shared weights": Rule(lambda m, y, x: F.conv_transpose2d(y, m.body.weight, padding=1)[:, :5]),
    "functional": Rule(lambda m, y, x: F.gelu(F.conv2d(y, m.body.weight[:5, :5]))),
    "sizes of the batch": Rule(
        lambda m, y, x: y.view(len(x) * 5, 1, ROWS, COLUMNS).abs().reshape(len(x), 5, ROWS, COLUMNS)
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CALLS)
def test_whatever_is_only_calls_is_taken(name: str, method: Callable[..., Any]) -> None:
    fast = assert_same_numbers(method, lambda: Inside(CALLS[name]))
    assert fast.report.shortcut is not None, fast.report


class Symmetric(nn.Module):
    """A parametrisation: the same from left and right."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return (weight + weight.flip(3)) / 2


def parametrized() -> nn.Module:
    model = network()
    parametrize.register_parametrization(model[0], "weight", Symmetric())
    return model


def with_weight_norm() -> nn.Module:
    model = network()
    parametrizations.weight_norm(model[0])
    parametrizations.spectral_norm(model[2])
    return model.eval()


def with_hooks() -> nn.Module:
    model = network()
    model[0].register_forward_hook(lambda module, inputs, output: output * 1.5)
    model[2].register_forward_pre_hook(lambda module, inputs: (inputs[0].sin(),))
    model.register_forward_hook(lambda module, inputs, output: output + 1)
    return model


def called_by_function() -> Callable[[torch.Tensor], torch.Tensor]:
    model = network()
    weights = {name: 0.9 * weight.detach() for name, weight in model.named_parameters()}
    return lambda x: torch.func.functional_call(model, weights, (x,))


def in_a_lambda() -> Callable[[torch.Tensor], torch.Tensor]:
    model = network()
    return lambda x: model((x - 0.4) / 0.2).softmax(1)


def in_a_partial() -> Callable[[torch.Tensor], torch.Tensor]:
    model = network()
    return partial(lambda scale, x: model(scale * x), 0.7)


def segmenting() -> ExplainableModel:
    torch.manual_seed(0)
    net = nn.Sequential(stem(), nn.ReLU(), nn.Conv2d(5, 3, 1)).double().eval()
    return ExplainableModel(net, "segmentation", postprocessing_output=lambda scores: scores.softmax(1).mean((2, 3)))


def taking_logits() -> ExplainableModel:
    net = network()
    return ExplainableModel(lambda x: {"logits": net(x)}, "regression")


def traced() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(network(), torch.rand(2, BANDS, ROWS, COLUMNS, dtype=torch.float64))


def scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(network())


def scripted_region() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = torch.jit.script(network()[:2])
    model = network()
    return nn.Sequential(first, *model[2:]).eval()


WRAPPED: list[Callable[[], Any]] = [
    parametrized,
    with_weight_norm,
    with_hooks,
    called_by_function,
    in_a_lambda,
    in_a_partial,
    segmenting,
    taking_logits,
    traced,
    scripted,
    scripted_region,
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", WRAPPED)
def test_models_of_other_forms_are_taken(make: Callable[[], Any], method: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    fast = assert_same_numbers(method, make)
    if make is not scripted_region:  # which may hide its calls
        assert fast.report.shortcut is not None, fast.report


class Mixed(nn.Module):
    """A part in bfloat16."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.body, self.first = network().float(), first
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.first):
            y = self.body[:2](x)
        with torch.autocast("cpu", torch.bfloat16, enabled=not self.first):
            y = self.body[2:4](y if self.first is False else y.float())
        return self.body[4:](y.float())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("first", [True, False])
def test_autocast_inside(first: bool, method: Callable[..., Any]) -> None:
    """As close to float32 as the plain path is, and no farther from it than twice that."""
    fast = result(method, Mixed(first), dtype=torch.float32)
    plain = result(method, Mixed(first), False, dtype=torch.float32)
    exact = result(method, network(), False)
    own = (plain.attributes - exact.attributes).abs().max().item()
    assert (fast.attributes - exact.attributes).abs().max().item() <= 2 * own, fast.report
    assert (fast.report.shortcut is None) != (fast.report.shortcut_declined is None)
