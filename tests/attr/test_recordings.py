"""A recorded run serves later calls on a model as long as it does the same; where it does not, that is noticed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import AsIs, HyperNoiseTunnel, IntegratedGradients, Occlusion, Saliency
from tests.toys import assert_shortcut

BANDS = 5


class Net(nn.Module):
    """Convolutions with what models have that may change from one call to the next."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(BANDS, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
        self.head = nn.Linear(4, 3)
        self.activation: Callable[[torch.Tensor], torch.Tensor] = torch.tanh
        self.scale = 1.0
        self.flip = False
        self.seen: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}  # by place: what happens to a value there
        self.double().eval()

    def at(self, place: str, y: torch.Tensor) -> torch.Tensor:
        return self.seen[place](y) if place in self.seen else y

    def forward(self, x: torch.Tensor, shift: torch.Tensor | float = 0.0) -> torch.Tensor:
        y = self.activation(self.at("affine", self.norm(self.first(x))))
        y = self.at("inside", self.second(y) * self.scale + shift)
        y = y.flip(1) if self.flip else y
        return self.at("end", self.head(torch.tanh(y).mean((2, 3))))


def scene(seed: int = 0, side: int = 6) -> mt.HSI:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(BANDS, side, side, generator=generator, dtype=torch.float64)
    return mt.HSI(image=image, wavelengths=torch.linspace(400, 900, BANDS))


METHODS: dict[str, Callable[..., Any]] = {
    "integrated gradients": lambda model, hsi, **more: IntegratedGradients(model).attribute(
        hsi, target=0, baseline=0, n_steps=20, **more
    ),
    "occlusion": lambda model, hsi, **more: Occlusion(model).get_spatial_attributes(
        hsi, target=0, sliding_window_shapes=2, strides=1, **more
    ),
    "bands": lambda model, hsi, **more: Occlusion(model).get_spectral_attributes(
        hsi, target=0, sliding_window_shapes=1, strides=1, **more
    ),
    "tunnel": lambda model, hsi, **more: HyperNoiseTunnel(Saliency(model)).attribute(
        hsi, target=0, n_samples=20, **more
    ),
}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def pair(method: Callable[..., Any], model: Any, hsi: mt.HSI, **more: Any) -> tuple[Any, Any]:
    """What the shortcut gives, and the model's own calls."""
    found = []
    for shortcuts in ("always", False):
        torch.manual_seed(1)
        with mt.options(shortcuts=shortcuts):
            found.append(method(model, hsi, **more))
    return found[0], found[1]


def assert_same(ours: Any, plain: Any) -> None:
    a, b = (np.asarray(result.attributes) for result in (ours, plain))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * np.abs(b).max())


def explainable(net: nn.Module) -> mt.models.ExplainableModel:
    return mt.models.ExplainableModel(net, "regression")


@each_method
def test_a_later_call_evaluates_less(method: Callable[..., Any]) -> None:
    model = explainable(Net())
    first, second = (pair(method, model, scene(seed)) for seed in (0, 1))
    for ours, plain in (first, second):
        assert_shortcut(ours.report)
        assert_same(ours, plain)
    assert 0 < second[0].report.evaluations_verifying < first[0].report.evaluations_verifying


def bump(parameter: torch.Tensor) -> None:
    with torch.no_grad():
        parameter.mul_(1.5)


def in_data(parameter: torch.Tensor) -> None:
    parameter.data = parameter.data + 0.3


CHANGES: dict[str, Callable[[Net], Any]] = {
    "weights in place": lambda net: bump(net.first.weight),
    "weights in place, a little": lambda net: net.first.weight.data.mul_(1 + 1e-6),
    "weights behind autograd's back": lambda net: in_data(net.head.weight),
    "another parameter": lambda net: setattr(net.head, "weight", nn.Parameter(2 * net.head.weight.detach())),
    "a parametrized weight": lambda net: bump(net.second.parametrizations.weight.original0),
    "statistics of a norm": lambda net: net.norm.running_var.mul_(2.0),
    "epsilon of a norm": lambda net: setattr(net.norm, "eps", 0.1),
    "another layer": lambda net: setattr(net, "second", nn.Conv2d(4, 4, 1).double()),
    "another function": lambda net: setattr(net, "activation", torch.sin),
    "a number": lambda net: setattr(net, "scale", 1.0 + 1e-7),
    "a branch": lambda net: setattr(net, "flip", True),
    "a hook": lambda net: net.second.register_forward_hook(lambda module, given, y: y * 1.001),
    "a state dict": lambda net: net.load_state_dict({name: one * 1.25 for name, one in net.state_dict().items()}),
}


@each_method
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_model_that_changes_between_calls(method: Callable[..., Any], change: Callable[[Net], Any]) -> None:
    net = Net()
    model = explainable(net)
    before = pair(method, model, scene())
    change(net)
    for _ in range(2):
        ours, plain = pair(method, model, scene())
        assert_shortcut(ours.report)
        assert_same(ours, plain)
    assert not np.array_equal(np.asarray(ours.attributes), np.asarray(before[0].attributes))


class Tripled(torch.autograd.Function):
    """The value itself, and three times its gradient."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor) -> torch.Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return 3 * gradients[0]


def hooked(y: torch.Tensor) -> torch.Tensor:
    if y.requires_grad:
        y.register_hook(lambda gradient: 2 * gradient.clamp(min=0))
    return y


GRADIENTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a hook": hooked,
    "a function": Tripled.apply,
    "a part that is cut off": lambda y: y[:, :1].detach() + y - y[:, :1],
}


@pytest.mark.parametrize("place", ["affine", "inside", "end"])
@pytest.mark.parametrize("seen", GRADIENTS.values(), ids=GRADIENTS)
@pytest.mark.parametrize("method", [METHODS["integrated gradients"], METHODS["tunnel"]], ids=["steps", "tunnel"])
def test_gradients_that_change_between_calls(
    method: Callable[..., Any], seen: Callable[[torch.Tensor], torch.Tensor], place: str
) -> None:
    """Outputs stay as they are, and only the first call on a program compares a gradient at the image."""
    net = Net()
    model = explainable(net)
    before = [pair(method, model, scene())[0] for _ in range(2)][1]
    assert_shortcut(before.report)
    net.seen[place] = seen
    for _ in range(2):
        ours, plain = pair(method, model, scene())
        assert_same(ours, plain)
    assert not np.allclose(np.asarray(ours.attributes), np.asarray(before.attributes), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:the image is float64")
@each_method
def test_images_of_other_shapes_and_dtypes(method: Callable[..., Any]) -> None:
    """More forms than are kept, and again."""
    net = Net()
    model = explainable(net)
    for _ in range(2):
        for side in (4, 5, 6, 7, 8, 9):
            assert_same(*pair(method, model, scene(side, side)))
    net.float()
    ours, plain = pair(method, model, scene())
    np.testing.assert_allclose(
        ours.attributes, plain.attributes, rtol=0, atol=1e-5 * float(plain.attributes.abs().max())
    )


@each_method
def test_another_argument_behind_the_input(method: Callable[..., Any]) -> None:
    model = explainable(Net())
    results = []
    for shift in (0.0, 0.5, -0.5):
        constant = AsIs(torch.tensor(shift, dtype=torch.float64))
        ours, plain = pair(method, model, scene(), additional_forward_args=constant)
        assert_same(ours, plain)
        results.append(np.asarray(ours.attributes))
    assert not np.array_equal(results[0], results[1])


def test_a_switch_that_is_set_to_and_fro() -> None:
    net = Net()
    model = explainable(net)
    for flip in (False, True, False, True):
        net.flip = flip
        assert_same(*pair(METHODS["occlusion"], model, scene()))


def test_calls_from_several_threads() -> None:
    model = explainable(Net())
    wanted = [pair(METHODS["occlusion"], model, scene(seed))[1] for seed in range(4)]
    found: dict[int, Any] = {}

    def call(seed: int) -> None:
        with mt.options(shortcuts="always"):
            found[seed] = METHODS["occlusion"](model, scene(seed))

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, plain in enumerate(wanted):
        assert_same(found[seed], plain)
