"""Rules of a model that read its input are calls like others; what is decided in Python is declined and named."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import HyperNoiseTunnel, IntegratedGradients, Occlusion, Saliency
from tests.toys import assert_declined, assert_shortcut

BANDS, ROWS, COLUMNS = 4, 6, 5

Rule = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Beside(nn.Module):
    """A convolution, then a rule that looks at its output and at the input."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(BANDS, 3, 1).double()
        self.head = nn.Linear(3, 2).double()
        self.rule = rule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.rule(self.first(x), x)).mean((2, 3)))


def scene(seed: int = 3) -> mt.HSI:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(BANDS, ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    image[1, :2] = 0  # no data by a rule of the model, and only there
    return mt.HSI(image=image, wavelengths=torch.linspace(400, 900, BANDS))


def buffer(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Made of constants, then written in place, through a view."""
    kept = torch.ones_like(y)
    kept[:, 0].copy_((x[:, 1] != 0).double())
    return y * kept


def by_numpy(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return y * torch.from_numpy(x.detach().numpy().mean((1, 2, 3)))[:, None, None, None]


def by_list(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return y * torch.tensor(x.detach().mean((1, 2, 3)).tolist(), dtype=y.dtype)[:, None, None, None]


BESIDE: dict[str, Rule] = {
    "masked_fill": lambda y, x: y.masked_fill(x[:, 1:2] == 0, 0),
    "where": lambda y, x: torch.where(x[:, 1:2] > 0.4, y, -y),
    "a comparison": lambda y, x: y * (x.mean((1, 2, 3), keepdim=True) > 0.3),
    "rounding": lambda y, x: y + x.mean((1, 2, 3), keepdim=True).round(decimals=1).detach(),
    "sign": lambda y, x: y * torch.sign(x[:, :1] - 0.5),
    "argmax": lambda y, x: y + x.argmax(1, keepdim=True),
    "an index": lambda y, x: y.gather(1, x[:, :3].argsort(1)),
    "a buffer": buffer,
    "a residual": lambda y, x: y + x[:, :3],
}
IN_PYTHON: dict[str, Rule] = {
    "if": lambda y, x: y if x.mean() > 0.45 else 3 * y,
    "item": lambda y, x: y * x.mean().item(),
    "float": lambda y, x: y * float(x.amax()),
    "equal": lambda y, x: y if torch.equal(x, x.clamp(-9, 9)) else 2 * y,
    "numpy": by_numpy,
    "tolist": by_list,
    "the same data": lambda y, x: y * x.data[:, :1],  # no call of an operator gives that
}
METHODS: dict[str, Callable[[Any], Any]] = {
    "IntegratedGradients": lambda model: IntegratedGradients(model).attribute(
        scene(), target=0, n_steps=40, internal_batch_size=1
    ),
    "HyperNoiseTunnel": lambda model: HyperNoiseTunnel(Saliency(model)).attribute(
        scene(), target=0, n_samples=40, steps_per_batch=1
    ),
    "boxes": lambda model: Occlusion(model).attribute(
        scene(), target=0, sliding_window_shapes=(BANDS, 2, 2), strides=(BANDS, 1, 1), perturbations_per_eval=1
    ),
    "bands": lambda model: Occlusion(model).get_spectral_attributes(
        scene(), target=0, sliding_window_shapes=1, perturbations_per_eval=1
    ),
}


def both(method: str, network: nn.Module) -> tuple[Any, Any]:
    """Results with shortcuts wherever they are offered, and without any."""
    model = mt.models.ExplainableModel(network.eval(), "regression")
    results = []
    for shortcuts in ("always", False):
        torch.manual_seed(1)
        with mt.options(shortcuts=shortcuts):
            results.append(METHODS[method](model))
    return results[0], results[1]


def assert_same(fast: Any, plain: Any) -> None:
    scale = float(plain.attributes.abs().max())
    assert scale > 0
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BESIDE)
def test_rules_that_read_the_input_give_the_plain_numbers(name: str, method: str) -> None:
    fast, plain = both(method, Beside(BESIDE[name]))
    assert_same(fast, plain)
    if method in ("IntegratedGradients", "HyperNoiseTunnel"):
        assert_shortcut(fast.report)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", IN_PYTHON)
def test_rules_in_python_are_declined(name: str, method: str) -> None:
    fast, plain = both(method, Beside(IN_PYTHON[name]))
    assert_declined(fast.report, "structure")
    assert torch.equal(fast.attributes, plain.attributes)


def unread(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Make a feature map that nobody asks for, as backbones do."""
    y.permute(0, 2, 3, 1).contiguous()
    return y


READS: dict[str, Callable[[torch.Tensor], Any]] = {
    "numpy": lambda y: y.numpy(),
    "asarray": np.asarray,
    "tolist": lambda y: y.tolist(),
    "dlpack": lambda y: np.from_dlpack(y),
    "pointer": lambda y: ctypes.c_double.from_address(y.data_ptr()).value,
}


@pytest.mark.parametrize("method", ["boxes", "bands"])
@pytest.mark.parametrize("name", READS)
def test_values_that_python_reads_without_an_operator_are_seen(name: str, method: str) -> None:
    """Outside autograd an array is had without any operator, and operators may read the same values."""
    read = READS[name]
    fast, plain = both(method, Beside(lambda y, x: y * (1.5 if np.mean(read(y)) > 0 else 0.5)))
    assert_declined(fast.report, "structure")
    assert torch.equal(fast.attributes, plain.attributes)


@pytest.mark.parametrize("method", METHODS)
def test_values_that_nothing_reads_do_no_harm(method: str) -> None:
    fast, plain = both(method, Beside(unread))
    assert_shortcut(fast.report)
    assert_same(fast, plain)


def test_beside_a_profiler_values_that_nothing_reads_are_declined() -> None:
    def profiler(*_: Any) -> None:
        return None

    sys.setprofile(profiler)
    try:
        fast, plain = both("boxes", Beside(unread))
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)
    assert_declined(fast.report, "structure")
    assert torch.equal(fast.attributes, plain.attributes)


@pytest.mark.parametrize(
    ("name", "operator"), [("if", "is_nonzero"), ("item", "item"), ("float", "item"), ("equal", "equal")]
)
def test_the_reason_names_the_operator(name: str, operator: str) -> None:
    fast, _ = both("IntegratedGradients", Beside(IN_PYTHON[name]))
    assert_declined(fast.report, "structure")
    assert operator in fast.report.shortcut_declined


FEATURES: dict[str, Rule] = {
    "nothing": lambda y, x: y,
    "a comparison of features": lambda y, x: y * (y > -0.05),
    "in place": lambda y, x: torch.relu_(y.mul_(2)),
    "a branch": lambda y, x: y + y.mean((2, 3), keepdim=True).sigmoid() * y.flip(1),
    "the input's shape": lambda y, x: y * x.shape[1] + torch.zeros(len(x), 1, 1, 1),
    "a buffer": lambda y, x: torch.zeros_like(y).copy_(y),
    "numbers for each sample": lambda y, x: (
        y * torch.full((len(x), 1, *x.shape[2:]), 0.5) + torch.ones(len(x), 1, 1, 1)
    ),
    "zeros that are written": lambda y, x: torch.zeros(y.shape, dtype=y.dtype).copy_(y),
    "no gradients for a part": lambda y, x: y + y.detach().round(),
}


@pytest.mark.parametrize("name", FEATURES)
def test_rules_that_read_features_are_taken(name: str) -> None:
    fast, plain = both("IntegratedGradients", Beside(FEATURES[name]))
    assert_shortcut(fast.report)
    assert_same(fast, plain)


class Viewed(nn.Module):
    """Takes features in one layout only, where many come at once."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 8 * 5 * 5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(torch.relu(self.first(x.unsqueeze(1))))
        return self.head(y.view(len(y), -1))


def test_a_failure_behind_the_cut_leads_back_to_the_plain_path() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        image = torch.rand(8, 5, 5, generator=torch.Generator().manual_seed(2))
        hsi = mt.HSI(image=image, wavelengths=torch.linspace(400, 900, 8))
        model = mt.models.ExplainableModel(Viewed().eval(), "regression")
        with mt.options(shortcuts="always"):
            fast = IntegratedGradients(model).attribute(hsi, target=0, n_steps=64)
        with mt.options(shortcuts=False):
            plain = IntegratedGradients(model).attribute(hsi, target=0, n_steps=64)
        torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-5)
    finally:
        torch.set_num_threads(threads)


class OtherwiseForMany(nn.Module):
    """A rule in Python that reads how many samples there are: another one for more than it was recorded with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(BANDS, 3, 1).double()
        self.head = nn.Linear(3, 2).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return self.head(torch.tanh(y if len(x) < 4 else 2 * y).mean((2, 3)))


def test_a_rule_for_many_samples_gives_the_numbers_of_each_alone() -> None:
    network = OtherwiseForMany().eval()
    model = mt.models.ExplainableModel(network, "regression")
    found = []
    for shortcuts, most in (("always", 8), (False, 1)):
        with mt.options(shortcuts=shortcuts):
            found.append(IntegratedGradients(model).attribute(scene(), target=0, n_steps=40, internal_batch_size=most))
    assert_same(found[0], found[1])
