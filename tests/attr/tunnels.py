"""What the tests of the noise tunnels share: models that tell what they saw, and runs under a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from meteors_c import HSI, options
from meteors_c.attr import (
    HSIAttributes,
    HyperNoiseTunnel,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from tests.toys import SHAPE, explainable, values

INNERS = [Saliency, InputXGradient, IntegratedGradients, Occlusion]
MOMENTS = ["smoothgrad", "smoothgrad_sq", "vargrad"]
TUNNELS = [NoiseTunnel, HyperNoiseTunnel]


class Elementwise(nn.Module):
    """f_k(x) = sum(weight_k * x^3): the gradient of a sample does not know the others of its batch."""

    def __init__(self, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.weight = nn.Parameter(values(70, dtype, (2, *shape)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cube = x * x * x
        return torch.stack([(cube * weight).sum((1, 2, 3)) for weight in self.weight], 1)


class Recorder(nn.Module):
    """A model that remembers what it saw."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach().clone())
        return self.body(x)


def run(
    kind: type, explainer: type, model: Any, hsi: Any, seed: int = 0, target: Any = 0, **arguments: Any
) -> HSIAttributes | Any:
    """What a tunnel around an explainer of the model gives under a seed."""
    torch.manual_seed(seed)
    return kind(explainer(explainable(model))).attribute(hsi, target=target, **arguments)


def samples(kind: type, hsi: HSI, seed: int = 0, **arguments: Any) -> torch.Tensor:
    """What the model is shown under a seed: a Saliency sees every sample once.

    One at a time: of the first batch of several, one sample would be asked a second time.
    """
    model = Recorder(Elementwise(tuple(hsi.image.shape), hsi.image.dtype))
    with options(shortcuts=False):
        run(kind, Saliency, model, hsi, seed, steps_per_batch=1, **arguments)
    return torch.cat(model.seen)


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
