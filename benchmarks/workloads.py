"""The table of workloads. A new one is one entry of `WORKLOADS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .models import SCENES

TARGET = 0
STEPS = 50

Images = list[torch.Tensor]
Model = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Goal:
    """What ours is to reach: how many times faster than the peer, within how many bytes resident in all."""

    ratio: float
    peak: float | None = None


@dataclass(frozen=True)
class Workload:
    """One call of one method, as it is made with either library, and the same in plain torch.

    Attributes
    ----------
    method : str
        The name of the class in `attr`; the same in both libraries.
    arguments : dict
        What its `attribute` gets besides the images.
    reference : callable
        The attribution of one image by plain torch: (model, image (bands, height, width)) -> the image's shape.
        It runs in float64 and is what both libraries are judged by.
    scenes : tuple of str
        Keys of `SCENES`.
    goals : dict
        `Goal` by (path, scene).
    shortcut : bool
        Whether ours may take a shortcut here: then both paths are measured, "shortcut" and "plain".
    call : str
        The method of the explainer that is called.
    """

    method: str
    reference: Callable[[Model, torch.Tensor], torch.Tensor]
    arguments: dict[str, Any] = field(default_factory=dict)
    scenes: tuple[str, ...] = tuple(SCENES)
    goals: dict[tuple[str, str], Goal] = field(default_factory=dict)
    shortcut: bool = False
    call: str = "attribute"

    @property
    def paths(self) -> tuple[str, ...]:
        """The ways in which ours is measured."""
        return ("shortcut", "plain") if self.shortcut else ("plain",)

    def run(self, library: Any, model: Any, images: list[Any]) -> Any:
        """Make the call with `library` (`meteors` or `meteors_c`) on its own HSI objects."""
        explainer = getattr(library.attr, self.method)(library.models.ExplainableModel(model, "regression"))
        hsi = images[0] if len(images) == 1 else images
        return getattr(explainer, self.call)(hsi, target=TARGET, **self.arguments)


def gradient(model: Model, image: torch.Tensor) -> torch.Tensor:
    """The gradient of the target output with respect to the image."""
    leaf = image.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(model(leaf[None])[0, TARGET], leaf)
    return found


def integrated_gradients(model: Model, image: torch.Tensor) -> torch.Tensor:
    """Gauss-Legendre from a baseline of zeros: sum of w_k times the gradient at a_k x, times x."""
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    total = torch.zeros_like(image)
    for a, w in zip((nodes + 1) / 2, weights / 2, strict=True):
        total += w * gradient(model, a * image)
    return total * image


NO_SLOWER = {("plain", scene): Goal(1) for scene in SCENES}

WORKLOADS = {
    "IntegratedGradients, 50 steps": Workload(
        "IntegratedGradients",
        integrated_gradients,
        {"baseline": 0, "n_steps": STEPS},
        shortcut=True,
        goals={
            ("shortcut", "CNN 224"): Goal(16, 0.9e9),
            ("shortcut", "pixelwise 224"): Goal(35, 0.9e9),
            ("shortcut", "64 patches"): Goal(2),
            ("plain", "CNN 224"): Goal(5, 1.2e9),
            ("plain", "pixelwise 224"): Goal(5, 1.2e9),
            ("plain", "64 patches"): Goal(2),
        },
    ),
    "Saliency": Workload("Saliency", lambda model, image: gradient(model, image).abs(), goals=NO_SLOWER),
    "InputXGradient": Workload("InputXGradient", lambda model, image: image * gradient(model, image), goals=NO_SLOWER),
}
