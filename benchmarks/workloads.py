"""The table of workloads. A new one is one entry of `WORKLOADS`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .features import superbands
from .models import SCENES, Scene

TARGET = 0
STEPS = 50
LARGE = ("CNN 224", "pixelwise 224")
SPATIAL, TUNNEL = "Occlusion, pixels 50/30", "HyperNoiseTunnel(Saliency), 50 samples"
SUPERPIXELS, SUPERBANDS = "Lime, 100 samples, 10 superpixels", "Lime, 100 samples, 3 superbands"
SHAPLEY = "KernelShap, 10 superpixels"

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
        It runs in float64 and is what both libraries are judged by. None where there is none, as for random methods, or
        where it takes too long.
    scenes : tuple of str
        Keys of `SCENES`.
    goals : dict
        `Goal` by (path, scene).
    inner : str
        The explainer that a tunnel runs around.
    shortcut : bool
        Whether ours may take a shortcut here: then both paths are measured, "shortcut" and "plain"; else "default".
    replay : bool
        Whether the recorded program on whole samples is measured too, as the path "replay".
    call : str
        The method of the explainer that is called.
    features : str or None
        ``"superpixels"`` or ``"superbands"``: the call gets a mask of them.
    peer : str
        What ours is measured against: the library ``"meteors"``, or ``"torch"``, plain forwards of the model, as many
        as ours needs, where the library has no such method.
    random : bool
        Whether what the libraries give differs because each draws its own random numbers.
    """

    method: str
    reference: Callable[[Model, torch.Tensor], torch.Tensor] | None
    arguments: dict[str, Any] = field(default_factory=dict)
    scenes: tuple[str, ...] = tuple(SCENES)
    goals: dict[tuple[str, str], Goal] = field(default_factory=dict)
    inner: str | None = None
    shortcut: bool = False
    replay: bool = False
    call: str = "attribute"
    features: str | None = None
    peer: str = "meteors"
    random: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """The ways in which ours is measured."""
        return ("shortcut", *(("replay",) if self.replay else ()), "plain") if self.shortcut else ("default",)

    def masks(self, scene: Scene, superpixels: np.ndarray | None) -> dict[str, Any]:
        """The arguments that name the features."""
        if self.features == "superpixels":
            assert superpixels is not None
            return {"segmentation_mask": torch.from_numpy(superpixels)}
        return {"band_mask": superbands(scene.shape[0])} if self.features == "superbands" else {}

    def run(self, library: Any, model: Any, images: list[Any], **further: Any) -> Any:
        """Make the call with `library` (`meteors` or `meteors_c`) on its own HSI objects and ExplainableModel."""
        explainer = model
        for name in filter(None, (self.inner, self.method)):
            explainer = getattr(library.attr, name)(explainer)
        hsi = images[0] if len(images) == 1 else images
        return getattr(explainer, self.call)(hsi, target=TARGET, **self.arguments, **further)


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


def occlusion(window: tuple[int, ...], stride: tuple[int, ...]) -> Callable[[Model, torch.Tensor], torch.Tensor]:
    """Mean over the windows that cover a value of f(x) - f(x without the window); 0 stands for the whole axis."""

    def attribute(model: Model, image: torch.Tensor) -> torch.Tensor:
        sizes = [w or n for w, n in zip(window, image.shape, strict=True)]
        steps = [s or n for s, n in zip(stride, image.shape, strict=True)]
        total, count = torch.zeros_like(image), torch.zeros_like(image)
        starts = [range(0, -(-(n - w) // s) * s + 1, s) for n, w, s in zip(image.shape, sizes, steps, strict=True)]
        with torch.no_grad():
            whole = model(image[None])[0, TARGET]
            for corner in itertools.product(*starts):
                box = tuple(slice(a, a + w) for a, w in zip(corner, sizes, strict=True))
                covered = image.clone()
                covered[box] = 0
                total[box] += whole - model(covered[None])[0, TARGET]
                count[box] += 1
        return total / count

    return attribute


GRADIENTS = {
    ("default", "CNN 224"): Goal(1.15),
    ("default", "pixelwise 224"): Goal(1),
    ("default", "64 patches"): Goal(1.2),
}

WORKLOADS = {
    "IntegratedGradients, 50 steps": Workload(
        "IntegratedGradients",
        integrated_gradients,
        {"baseline": 0, "n_steps": STEPS},
        shortcut=True,
        replay=True,
        goals={
            ("shortcut", "CNN 224"): Goal(20, 0.9e9),
            ("shortcut", "pixelwise 224"): Goal(45, 0.9e9),
            ("shortcut", "64 patches"): Goal(5),
            ("replay", "CNN 224"): Goal(5, 1.2e9),
            ("replay", "pixelwise 224"): Goal(10, 1.2e9),
            ("replay", "64 patches"): Goal(2.5),
            ("plain", "CNN 224"): Goal(5, 1.2e9),
            ("plain", "pixelwise 224"): Goal(5, 1.2e9),
            ("plain", "64 patches"): Goal(2),
        },
    ),
    "Saliency": Workload("Saliency", lambda model, image: gradient(model, image).abs(), goals=GRADIENTS),
    "InputXGradient": Workload("InputXGradient", lambda model, image: image * gradient(model, image), goals=GRADIENTS),
    "Occlusion, boxes 50/30": Workload(
        "Occlusion",
        occlusion((50, 50, 50), (30, 30, 30)),
        {"sliding_window_shapes": (50, 50, 50), "strides": (30, 30, 30), "baseline": 0},
        scenes=LARGE,
        shortcut=True,
        goals={("shortcut", "CNN 224"): Goal(38), ("shortcut", "pixelwise 224"): Goal(60)},
    ),
    SPATIAL: Workload(
        "Occlusion",
        occlusion((0, 50, 50), (0, 30, 30)),
        {"sliding_window_shapes": (50, 50), "strides": (30, 30), "baseline": 0},
        scenes=LARGE,
        shortcut=True,
        goals={("shortcut", "CNN 224"): Goal(20), ("shortcut", "pixelwise 224"): Goal(20)},
        call="get_spatial_attributes",
    ),
    "Occlusion, pixels 16/8": Workload(
        "Occlusion",
        None,  # in float64 it takes a quarter of an hour
        {"sliding_window_shapes": (16, 16), "strides": (8, 8), "baseline": 0},
        scenes=LARGE,
        shortcut=True,
        goals={("shortcut", "CNN 224"): Goal(110), ("shortcut", "pixelwise 224"): Goal(160)},
        call="get_spatial_attributes",
    ),
    "Occlusion, bands 8/6": Workload(
        "Occlusion",
        occlusion((8, 0, 0), (6, 0, 0)),
        {"sliding_window_shapes": 8, "strides": 6, "baseline": 0},
        shortcut=True,
        goals={
            ("shortcut", "CNN 224"): Goal(7),
            ("shortcut", "pixelwise 224"): Goal(9),
            ("shortcut", "64 patches"): Goal(3),
        },
        call="get_spectral_attributes",
    ),
    TUNNEL: Workload(
        "HyperNoiseTunnel",
        None,
        {"n_samples": 50, "baseline": 0},
        inner="Saliency",
        scenes=LARGE,
        shortcut=True,
        goals={("shortcut", "CNN 224"): Goal(7, 1.2e9), ("shortcut", "pixelwise 224"): Goal(9)},
        random=True,
    ),
    "HyperNoiseTunnel(Saliency), 20 samples": Workload(
        "HyperNoiseTunnel",
        None,
        {"n_samples": 20, "baseline": 0},
        inner="Saliency",
        scenes=("64 patches",),
        shortcut=True,
        goals={("shortcut", "64 patches"): Goal(8)},
        random=True,
    ),
    "NoiseTunnel(InputXGradient), 3 samples": Workload(
        "NoiseTunnel",
        None,
        {"n_samples": 3, "stdevs": 0.1},
        inner="InputXGradient",
        scenes=LARGE,
        goals={("default", "CNN 224"): Goal(1.5), ("default", "pixelwise 224"): Goal(2)},
        random=True,
    ),
    SUPERPIXELS: Workload(
        "Lime",
        None,
        {"n_samples": 100},
        scenes=LARGE,
        shortcut=True,
        goals={
            ("shortcut", "CNN 224"): Goal(10, 1.2e9),
            ("shortcut", "pixelwise 224"): Goal(20),
            ("plain", "CNN 224"): Goal(3, 1.2e9),
            ("plain", "pixelwise 224"): Goal(8),
        },
        call="get_spatial_attributes",
        features="superpixels",
        random=True,
    ),
    SUPERBANDS: Workload(
        "Lime",
        None,
        {"n_samples": 100},
        scenes=LARGE,
        shortcut=True,
        goals={("plain", "CNN 224"): Goal(3), ("plain", "pixelwise 224"): Goal(5)},
        call="get_spectral_attributes",
        features="superbands",
        random=True,
    ),
    SHAPLEY: Workload(
        "KernelShap",
        None,
        scenes=LARGE,
        shortcut=True,
        goals={
            ("shortcut", "CNN 224"): Goal(10),
            ("shortcut", "pixelwise 224"): Goal(50),
            **{("plain", scene): Goal(0.91) for scene in LARGE},  # at most 1.1 times the forwards
        },
        call="get_spatial_attributes",
        features="superpixels",
        peer="torch",
    ),
}
