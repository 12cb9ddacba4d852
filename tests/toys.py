"""Small models with known gradients, and small images, that tests share."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

import meteors_c as mt
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel

BANDS, ROWS, COLUMNS = 5, 4, 3
SHAPE = (BANDS, ROWS, COLUMNS)
WAVELENGTHS = [450.0, 520.0, 600.0, 650.0, 800.0]
ORIENTATIONS = ["".join(letters) for letters in itertools.permutations("CHW")]
METHODS = ["gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"]
# The ways through the engine: a shortcut wherever one is offered (these images are too small for it to pay), the plain
# path, and without the native bridge.
PATHS: dict[str, dict[str, Any]] = {
    "shortcut": {"shortcuts": "always"},
    "plain": {"shortcuts": False},
    "python calls": {"native": False},
}
PLAIN, PYTHON = PATHS["plain"], PATHS["python calls"]


def values(seed: int = 0, dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """Numbers in [-1, 1), the same for the same seed."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1).to(dtype)


def spatial_mask() -> torch.Tensor:
    """A mask that hides two pixels in all bands, (1, ROWS, COLUMNS)."""
    mask = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    mask[0, 0, 1] = mask[0, 3, 2] = False
    return mask


def cube(seed: int = 0, dtype: torch.dtype = torch.float64, **fields: Any) -> HSI:
    """An image (BANDS, ROWS, COLUMNS)."""
    return HSI(**{"image": values(seed, dtype), "wavelengths": WAVELENGTHS, **fields})


class Linear(nn.Module):
    """f_k(x) = sum(weight_k * x); its gradient is weight_k."""

    def __init__(self, outputs: int = 3, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.weight = nn.Parameter(values(50, dtype, (outputs, *shape)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nabc,kabc->nk", x, self.weight)


class Quadratic(nn.Module):
    """f_k(x) = sum(square_k * x^2 / 2 + weight_k * x); its gradient is square_k * x + weight_k."""

    def __init__(self, outputs: int = 3, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.square = nn.Parameter(values(60, dtype, (outputs, *shape)))
        self.weight = nn.Parameter(values(61, dtype, (outputs, *shape)))

    def gradient(self, x: torch.Tensor, output: int) -> torch.Tensor:
        return (self.square[output] * x + self.weight[output]).detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nabc,kabc->nk", x * x / 2, self.square) + torch.einsum("nabc,kabc->nk", x, self.weight)


def smooth(outputs: int = 3, size: int = BANDS * ROWS * COLUMNS, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A tanh network over all values of an image of any orientation, (n, outputs)."""
    torch.manual_seed(7)
    net = nn.Sequential(nn.Flatten(), nn.Linear(size, 8), nn.Tanh(), nn.Linear(8, outputs), nn.Tanh())
    return net.to(dtype).eval()


def convolutional(activation: Callable[[], nn.Module] = nn.Tanh, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Three outputs from two convolutions over CHW images."""
    torch.manual_seed(11)
    net = nn.Sequential(
        nn.Conv2d(BANDS, 6, 3, padding=1),
        activation(),
        nn.Conv2d(6, 4, 1),
        activation(),
        nn.Flatten(),
        nn.Linear(4 * ROWS * COLUMNS, 3),
    )
    return net.to(dtype).eval()


def traced(model: nn.Module, shape: Sequence[int] = SHAPE) -> Any:
    """A TorchScript module for images of a shape, in the dtype of the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(model, torch.zeros(2, *shape).to(next(model.parameters())))


class Grid(nn.Module):
    """Outputs (n, 2, 3), for targets that are tuples."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.body = smooth(6, dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).reshape(-1, 2, 3)


class Segmenter(nn.Module):
    """A map of scores (n, 2, ROWS, COLUMNS)."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(13)
        self.body = nn.Sequential(nn.Conv2d(BANDS, 4, 1), nn.Tanh(), nn.Conv2d(4, 2, 1)).to(dtype).eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Watched(nn.Module):
    """A model that writes down how many samples it is given, those that only verify something among them."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.sizes: list[int] = []
        self.eval()

    def forward(self, x: torch.Tensor, *extras: Any) -> torch.Tensor:
        self.sizes.append(len(x))
        return self.body(x, *extras)


def explainable(function: Callable[..., Any], **arguments: Any) -> ExplainableModel:
    """A regression model, in eval mode where it has one."""
    if isinstance(function, nn.Module):
        function.eval()
    return ExplainableModel(function, "regression", **arguments)


# ---------------------------------------------------------------- cases


def each_value(*factors: Iterable[Any]) -> list[tuple[Any, ...]]:
    """As few combinations as hold every value of every factor: the longest factor once, the others in turn.

    For factors that have nothing to do with each other.
    """
    values = [list(factor) for factor in factors]
    return [tuple(of[i % len(of)] for of in values) for i in range(max(map(len, values)))]


def each_pair(*factors: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Few combinations in which any two values of two factors meet, chosen greedily, the same ones every time."""
    values = [list(factor) for factor in factors]
    candidates = list(itertools.product(*(range(len(of)) for of in values)))

    def pairs(candidate: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
        return set(itertools.combinations(enumerate(candidate), 2))

    missing, chosen = set().union(*map(pairs, candidates)), []
    while missing:
        best = max(candidates, key=lambda candidate: len(pairs(candidate) & missing))
        missing -= pairs(best)
        chosen.append(tuple(of[i] for of, i in zip(values, best, strict=True)))
    return chosen


def name_of(value: Any) -> str:
    """A case's name for one of its values."""
    return str(getattr(value, "__name__", value))


# ---------------------------------------------------------------- what a report says of shortcuts

REASONS = {
    "switched_off",  # by options(shortcuts=False)
    "not_offered",  # Python calls, half precision: the provider has no shortcut
    "nothing_shared",  # samples or moments that need every sample by itself
    "little_work",  # too few evaluations, or too fast ones
    "model_state",  # train mode, random numbers, a model that writes to its own tensors
    "structure",  # rules in Python, samples that influence each other; nothing that a shortcut knows at the input
    "values",  # the image's values would lose digits
    "verification",  # the model behind the shortcut gives other numbers
    "failure",  # the model failed while it was being verified
}


# Evaluations of an image beside the same with half its values, and of pairs of each: once for a model whose way of
# computing is not seen.
COMPANY = {"python calls": 8, "arrays": 8}


def evaluated(report: Any) -> int:
    """How many samples a model was given: those of the job that took no shortcut, and those that verified something."""
    return (
        report.evaluations - report.shortcut_evaluations + report.evaluations_verifying + report.evaluations_discarded
    )


def assert_declined(report: Any, reason: str) -> None:
    """No shortcut was taken, and the report says why; `reason` is one of `REASONS`."""
    assert reason in REASONS
    assert report.shortcut is None, report
    assert report.shortcut_evaluations == 0, report
    assert report.shortcut_declined, report
    assert report.decline_reason == reason, report


def assert_shortcut(report: Any, name: str | None = None, evaluations: int | None = None) -> None:
    """A shortcut was taken, the one called `name` if that is given, for so many evaluations."""
    assert report.shortcut is not None, report
    assert report.shortcut_declined is None, report
    assert report.decline_reason is None, report
    assert report.shortcut == (name or report.shortcut), report
    assert report.shortcut_evaluations > 0, report
    assert evaluations in (None, report.shortcut_evaluations), report


def occlude(model: nn.Module, hsi: Any, window: Any, stride: Any, shortcuts: bool | str = "always", **more: Any) -> Any:
    """Attributions of target 1 by occlusion, with the shortcut wherever there is one."""
    more = {"target": 1, "baseline": 0.4, **more}
    with mt.options(shortcuts=shortcuts):
        return mt.attr.Occlusion(explainable(model)).attribute(
            hsi, sliding_window_shapes=window, strides=stride, **more
        )
