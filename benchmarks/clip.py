"""A model of CLIP ViT-L/14's size: what each method takes beside the model's own passes, and in how much memory.

A method has a process of its own (``python -m benchmarks.clip``), which makes the model, times passes of it by plain
torch, and the method in turns with them.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

import meteors_c
from meteors_c import attr, datasets
from meteors_c.datasets.clip import make_clip_model
from meteors_c.models import ExplainableModel, SkLearnLinearRegression

from .features import squares
from .memory import peak_bytes
from .process import ask_once, serve
from .table import grid, named_section, within
from .turns import seconds_of

LAYERS, TINY_LAYERS = 24, 1
BESIDE, PEAK = 1.03, 6e9  # parts of the model's own passes; bytes


# Each with whether its evaluations are gradients.
METHODS: dict[str, tuple[bool, Callable[[ExplainableModel, meteors_c.HSI], Any]]] = {
    "Saliency": (True, lambda model, hsi: attr.Saliency(model).attribute(hsi, target=0)),
    "IntegratedGradients, 5 steps": (
        True,
        lambda model, hsi: attr.IntegratedGradients(model).attribute(hsi, target=0, n_steps=5),
    ),
    "HyperNoiseTunnel(Saliency), 5 samples": (
        True,
        lambda model, hsi: attr.HyperNoiseTunnel(attr.Saliency(model)).attribute(hsi, target=0, n_samples=5),
    ),
    "Occlusion, quarters": (
        False,
        lambda model, hsi: attr.Occlusion(model).get_spatial_attributes(
            hsi, target=0, sliding_window_shapes=hsi.image.shape[1] // 2, strides=hsi.image.shape[1] // 2
        ),
    ),
    "Occlusion, thirds of the bands": (
        False,
        lambda model, hsi: attr.Occlusion(model).get_spectral_attributes(
            hsi, target=0, sliding_window_shapes=len(hsi.wavelengths) // 3, strides=len(hsi.wavelengths) // 3
        ),
    ),
    "Lime, 10 samples, quarters": (
        False,
        lambda model, hsi: attr.Lime(model, SkLearnLinearRegression()).get_spatial_attributes(
            hsi, squares(hsi.image.shape[1], 2), target=0, n_samples=10
        ),
    ),
    "KernelShap, quarters": (
        False,
        lambda model, hsi: attr.KernelShap(model).get_spatial_attributes(
            hsi, squares(hsi.image.shape[1], 2), target=0, n_samples=16
        ),
    ),
}

TEXT = """\
A vision transformer of CLIP ViT-L/14's size with seeded weights ({weights:.0f} million), one image of the demo field,
{size} x {size} pixels with {bands} bands. A method's seconds, those of as many passes of the model by plain torch
(forward, and backward to the input where the method needs gradients), in turns with it, and the peak of a process that
holds model and method. Wanted: at most {most:g} of the model's own passes. Medians of {rounds} turns.
"""


def field(size: int) -> meteors_c.HSI:
    """The embedded field as reflectance, resized to `size` x `size` pixels."""
    hsi = datasets.load_demo_field()
    image = functional.interpolate(hsi.get_image()[None] / 10000.0, size=(size, size), mode="bilinear")[0]
    inside = functional.interpolate(hsi.spatial_binary_mask[None, None].float(), size=(size, size))[0, 0] > 0
    return meteors_c.HSI(image=image, wavelengths=hsi.wavelengths, binary_mask=inside.expand(image.shape))


def one_method(question: dict[str, Any]) -> dict[str, Any]:
    """Measure a method and the model's own passes in this process."""
    network = make_clip_model(layers=question["layers"])
    for weight in network.parameters():
        weight.requires_grad_(False)
    hsi = field(network.size)
    gradient, method = METHODS[question["method"]]
    model = ExplainableModel(network, "regression")

    def own_pass() -> None:
        image = hsi.get_image()[None].clone()
        if gradient:
            torch.autograd.grad(network(image.requires_grad_())[0, 0], image)
        else:
            with torch.no_grad():
                network(image)

    found = []

    def explain() -> None:
        torch.manual_seed(0)
        found.append(method(model, hsi).report)

    own_pass()
    turns = []
    for _ in range(question["rounds"]):
        before, seconds, after = seconds_of(own_pass), seconds_of(explain), seconds_of(own_pass)
        turns.append((seconds, found[-1].evaluations * (before + after) / 2))
    return {
        "seconds": statistics.median(turn[0] for turn in turns),
        "passes": statistics.median(turn[1] for turn in turns),
        "of_passes": statistics.median(seconds / passes for seconds, passes in turns),
        "evaluations": found[-1].evaluations,
        "verifying": found[-1].evaluations_verifying,
        "shortcut": found[-1].shortcut,
        "peak": peak_bytes(),
        "weights": sum(weight.numel() for weight in network.parameters()),
        "size": network.size,
        "bands": hsi.image.shape[0],
    }


def measure(rounds: int, tiny: bool, chosen: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Every method whose name is chosen."""
    rows = []
    for name in METHODS:
        if chosen(name):
            layers = TINY_LAYERS if tiny else LAYERS
            found = ask_once("benchmarks.clip", method=name, rounds=rounds, layers=layers)
            rows.append({"method": name, **found})
            print(f"    {name}: {found.get('failed') or ' '.join(cells(found))}", flush=True)
    return rows


def cells(row: dict[str, Any]) -> list[str]:
    part, peak = row["of_passes"], row["peak"]
    return [
        f"{row['evaluations']}",
        f"{row['verifying']}",
        f"{row['seconds']:.2f}",
        f"{row['passes']:.2f}",
        within(part, BESIDE),
        within(peak / 1e9, PEAK / 1e9),
        row["shortcut"] or "",
    ]


def section(rows: list[dict[str, Any]], rounds: int) -> str:
    """The part of the results page."""
    head = ["", "evaluations", "to verify", "s", "own passes s", "part", "peak GB", "shortcut"]
    done = next(row for row in rows if "failed" not in row)
    text = TEXT.format(
        weights=done["weights"] / 1e6, size=done["size"], bands=done["bands"], most=BESIDE, rounds=rounds
    )
    lines = [[row["method"], *([row["failed"]] if "failed" in row else cells(row))] for row in rows]
    return named_section("A model of CLIP's size", text, grid(head, lines))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    serve(one_method)
