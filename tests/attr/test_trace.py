"""What a model reads beside its stem is seen, whether or not autograd sees it; failures behind the cut lead back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
        self.stem = nn.Conv2d(BANDS, 3, 1).double()
        self.head = nn.Linear(3, 2).double()
        self.rule = rule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.rule(self.stem(x), x)).mean((2, 3)))


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
    "a comparison": lambda y, x: y * (x.mean((1, 2, 3), keepdim=True) > 0.45),
    "rounding": lambda y, x: y + x.mean((1, 2, 3), keepdim=True).round(decimals=1).detach(),
    "sign": lambda y, x: y * torch.sign(x[:, :1] - 0.5),
    "argmax": lambda y, x: y + x.argmax(1, keepdim=True),
    "an index": lambda y, x: y.gather(1, x[:, :3].argsort(1)),
    "a buffer": buffer,
    "a residual": lambda y, x: y + x[:, :3],
    "the same data": lambda y, x: y * x.data[:, :1],
}
IN_PYTHON: dict[str, Rule] = {
    "if": lambda y, x: y if x.mean() > 0.45 else 3 * y,
    "item": lambda y, x: y * x.mean().item(),
    "float": lambda y, x: y * float(x.amax()),
    "equal": lambda y, x: y if torch.equal(x, x.clamp(-9, 9)) else 2 * y,
    "numpy": by_numpy,
    "tolist": by_list,
}
METHODS: dict[str, Callable[[Any], Any]] = {
    "IntegratedGradients": lambda model: IntegratedGradients(model).attribute(scene(), target=0, n_steps=40),
    "HyperNoiseTunnel": lambda model: HyperNoiseTunnel(Saliency(model)).attribute(scene(), target=0, n_samples=40),
    "boxes": lambda model: Occlusion(model).attribute(
        scene(), target=0, sliding_window_shapes=(BANDS, 2, 2), strides=(BANDS, 1, 1)
    ),
    "bands": lambda model: Occlusion(model).get_spectral_attributes(scene(), target=0, sliding_window_shapes=1),
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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [*BESIDE, *IN_PYTHON])
def test_a_model_that_reads_its_input_beside_the_stem_is_declined(name: str, method: str) -> None:
    fast, plain = both(method, Beside((BESIDE | IN_PYTHON)[name]))
    assert fast.report.shortcut is None, fast.report
    assert torch.equal(fast.attributes, plain.attributes)


@pytest.mark.parametrize("name", BESIDE)
def test_the_reason_is_that_it_is_read_again(name: str) -> None:
    fast, _ = both("IntegratedGradients", Beside(BESIDE[name]))
    assert_declined(fast.report, "structure")
    assert "read" in fast.report.shortcut_declined


@pytest.mark.parametrize(
    ("name", "operator"), [("if", "is_nonzero"), ("item", "item"), ("float", "item"), ("equal", "equal")]
)
def test_the_reason_names_the_operator(name: str, operator: str) -> None:
    fast, _ = both("IntegratedGradients", Beside(IN_PYTHON[name]))
    assert_declined(fast.report, "structure")
    assert operator in fast.report.shortcut_declined


BEHIND: dict[str, Rule] = {
    "nothing": lambda y, x: y,
    "a comparison of features": lambda y, x: y * (y > 0.1),
    "in place": lambda y, x: torch.relu_(y.mul_(2)),
    "a branch": lambda y, x: y + y.mean((2, 3), keepdim=True).sigmoid() * y.flip(1),
    "the input's shape": lambda y, x: y * x.shape[1] + torch.zeros(len(x), 1, 1, 1),
    "a buffer": lambda y, x: torch.zeros_like(y).copy_(y),
    "no gradients for a part": lambda y, x: y + y.detach().round(),
}


@pytest.mark.parametrize("name", BEHIND)
def test_what_is_made_of_the_cut_alone_is_taken(name: str) -> None:
    fast, plain = both("IntegratedGradients", Beside(BEHIND[name]))
    assert_shortcut(fast.report)
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-12)


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


class FailsForMany(nn.Module):
    """Fails for more samples than it was tried with, but only where its stem is not run."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.seen = nn.Conv2d(BANDS, 3, 1).double(), 0
        self.head = nn.Linear(3, 2).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        if len(x) > 5 and bool(x.isnan().any()):
            raise ValueError("no input")
        return self.head(torch.tanh(y).mean((2, 3)))


def test_an_exception_behind_the_cut_leads_back_to_the_plain_path() -> None:
    fast, plain = both("IntegratedGradients", FailsForMany())
    assert fast.report.shortcut is None, fast.report
    assert torch.equal(fast.attributes, plain.attributes)
