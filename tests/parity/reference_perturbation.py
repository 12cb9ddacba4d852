"""Occlusion and noise tunnels in plain torch, one sample at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from tests.parity.reference import Model, gradient, input_x_gradient, integrated_gradients, output

Attribution = Callable[[torch.Tensor], torch.Tensor]


def occlusion(
    model: Model,
    x: torch.Tensor,
    window: int | Sequence[int] = 1,
    stride: int | Sequence[int] = 1,
    baseline: torch.Tensor | float = 0.0,
    target: Any = None,
    extras: tuple = (),
) -> torch.Tensor:
    """The mean over the windows that cover a value of f(x) - f(x with the window at the baseline)."""
    window = [window] * 3 if isinstance(window, int) else list(window)
    stride = [stride] * 3 if isinstance(stride, int) else list(stride)
    counts = [math.ceil((n - w) / s) + 1 for n, w, s in zip(x.shape, window, stride, strict=True)]
    there = output(model, x, target, extras)
    covered = torch.zeros_like(x)
    summed, times = torch.zeros_like(x, dtype=torch.float64), torch.zeros_like(x, dtype=torch.float64)
    for position in itertools.product(*map(range, counts)):
        box = tuple(slice(i * s, i * s + w) for i, s, w in zip(position, stride, window, strict=True))
        covered.copy_(x)
        covered[box] = torch.as_tensor(baseline, dtype=x.dtype).expand(x.shape)[box]
        summed[box] += there - output(model, covered, target, extras)
        times[box] += 1
    return (summed / times).to(x.dtype)


def inner(name: str, model: Model, target: Any = None, extras: tuple = ()) -> Attribution:
    """What a tunnel runs around: the explainer with its default arguments, signed."""
    methods: dict[str, Any] = {
        "Saliency": gradient,
        "InputXGradient": input_x_gradient,
        "IntegratedGradients": integrated_gradients,
        "Occlusion": occlusion,
    }
    return lambda x: methods[name](model, x, target=target, extras=extras)


def moment(method: str, attributions: torch.Tensor) -> torch.Tensor:
    """A moment over the first axis."""
    if method == "smoothgrad":
        return attributions.mean(0)
    squares = (attributions**2).mean(0)
    return squares if method == "smoothgrad_sq" else squares - attributions.mean(0) ** 2


def tunnel(method: str, attribution: Attribution, samples: torch.Tensor) -> torch.Tensor:
    """A moment of the attributions of disturbed images (samples, ...)."""
    return moment(method, torch.stack([attribution(sample) for sample in samples]))
