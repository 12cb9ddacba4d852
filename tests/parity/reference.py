"""The attribution methods in plain torch, one sample at a time, in Captum's conventions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Model = Callable[..., torch.Tensor]


def nodes_and_weights(method: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a quadrature rule on [0, 1]; the trapezoid's weights sum to 1 - 1/n."""
    even = np.full(n, 1 / n)
    if method == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(n)
        return (nodes + 1) / 2, weights / 2
    if method == "riemann_left":
        return np.linspace(0, 1 - 1 / n, n), even
    if method == "riemann_right":
        return np.linspace(1 / n, 1, n), even
    if method == "riemann_middle":
        return np.linspace(1 / (2 * n), 1 - 1 / (2 * n), n), even
    even[[0, -1]] /= 2
    return np.linspace(0, 1, n), even


def pick(outputs: torch.Tensor, target: Any) -> torch.Tensor:
    """The target output of the only sample in outputs (1,) or (1, outputs, ...)."""
    if target is None:
        return outputs.reshape(())
    return outputs[(0, *target)] if isinstance(target, tuple) else outputs[0, target]


def output(model: Model, x: torch.Tensor, target: Any = None, extras: tuple = ()) -> float:
    with torch.no_grad():
        return float(pick(model(x[None], *extras), target))


def gradient(model: Model, x: torch.Tensor, target: Any = None, extras: tuple = ()) -> torch.Tensor:
    leaf = x.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(pick(model(leaf[None], *extras), target), leaf)
    return found


def saliency(model: Model, x: torch.Tensor, target: Any = None, extras: tuple = ()) -> torch.Tensor:
    return gradient(model, x, target, extras).abs()


def input_x_gradient(model: Model, x: torch.Tensor, target: Any = None, extras: tuple = ()) -> torch.Tensor:
    return x * gradient(model, x, target, extras)


def mean_gradient(
    model: Model,
    x: torch.Tensor,
    baseline: torch.Tensor | float = 0.0,
    target: Any = None,
    extras: tuple = (),
    n_steps: int = 50,
    method: str = "gausslegendre",
) -> torch.Tensor:
    total = torch.zeros_like(x)
    for node, weight in zip(*nodes_and_weights(method, n_steps), strict=True):
        total += weight * gradient(model, baseline + node * (x - baseline), target, extras)
    return total


def integrated_gradients(
    model: Model, x: torch.Tensor, baseline: torch.Tensor | float = 0.0, *args: Any, **kwargs: Any
) -> torch.Tensor:
    return (x - baseline) * mean_gradient(model, x, baseline, *args, **kwargs)


def convergence_delta(
    model: Model,
    attributions: torch.Tensor,
    x: torch.Tensor,
    baseline: torch.Tensor | float = 0.0,
    target: Any = None,
    extras: tuple = (),
) -> float:
    start = torch.zeros_like(x) + baseline
    difference = output(model, x, target, extras) - output(model, start, target, extras)
    return float(attributions.double().sum()) - difference


def assert_close(found: torch.Tensor, wanted: torch.Tensor, tolerance: float | None = None) -> None:
    """Equal within `tolerance` of the largest value: 1e-10 for float64 and 1e-5 for float32."""
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    tolerance = (1e-10 if wanted.dtype == torch.float64 else 1e-5) if tolerance is None else tolerance
    error = float((found - wanted).abs().max())
    scale = float(wanted.abs().max())
    assert error <= tolerance * scale, f"{error:.3g} of {scale:.3g}"
