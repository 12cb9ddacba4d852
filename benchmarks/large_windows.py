"""Small windows on full-size images and models that others wrote: how near shortcuts come to what is saved at best.

A model has a process of its own: ``python -m benchmarks.large_windows MODEL``. Ours is timed with all 729 windows.
The plain path, whose every evaluation costs the same, is timed with the 196 windows of stride 16 and scaled to as many
evaluations: in full it would take a minute for each turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import meteors_c

from .architectures import BANDS, LARGE
from .operations import box_change, mean_reach, products
from .process import ask_once, serve
from .table import MISSED, grid, named_section, reaching
from .third_party import TARGET, explainer
from .turns import Turns

SIDE, WINDOW, STRIDE, PLAIN_STRIDE = 224, 16, 8, 16
SAMPLED = 52  # stride of the windows by which operations are counted
BUDGET, WANTED = 40.0, 0.7  # seconds for the turns of one model; part of the bound

# The operations of the whole model over those inside of the regions that windows of 16/8 change, counted in advance for
# 64 bands, whole layers from where over half of a layer changes.
BOUNDS = {
    "ResNet-18": 5.6,
    "MobileNetV2": 4.0,
    "DenseNet-121": 3.9,
    "U-Net, batch norm": 3.2,
    "SENet": 1.8,
    "SegFormer": 1.8,
    "Swin": 1.25,
    "ConvNeXt": 1.1,
}


def windows(stride: int) -> int:
    return ((SIDE - WINDOW) // stride + 1) ** 2


def whole_grid(seconds: float) -> float:
    """Seconds of the plain path for all windows and the image, from those for its coarser grid."""
    return seconds * (windows(STRIDE) + 1) / (windows(PLAIN_STRIDE) + 1)


def measure_model(name: str, rounds: int, tiny: bool) -> dict[str, Any]:
    """Times of both paths, in turns; if tiny, on a corner of the image."""
    scene = LARGE[name]
    model, (image,) = scene.model(), scene.images()
    image = image[:, :64, :64] if tiny else image
    corner = torch.zeros(image.shape)
    corner[:, :WINDOW, :WINDOW] = 1
    warming = meteors_c.HSI(image=image, wavelengths=scene.wavelengths(), binary_mask=corner)
    hsi = meteors_c.HSI(image=image, wavelengths=scene.wavelengths())

    def run(shortcuts: bool, image: Any = hsi) -> Any:
        with meteors_c.options(shortcuts=shortcuts):
            return explainer(model, "Occlusion").get_spatial_attributes(
                image,
                target=TARGET,
                sliding_window_shapes=WINDOW,
                strides=STRIDE if shortcuts else PLAIN_STRIDE,
                baseline=0,
            )

    reports = []
    for shortcuts in (True, False):
        run(shortcuts, warming)
    turns, start = Turns(), time.perf_counter()
    for turn in range(rounds):
        turns.add(lambda: reports.append(run(True).report), lambda: run(False), 1)
        if (time.perf_counter() - start) * (turn + 2) / (turn + 1) > BUDGET:
            break
    plain = [whole_grid(seconds) for seconds in turns.other]
    return {
        "turns": len(plain),
        "ours": statistics.median(turns.ours),
        "plain": statistics.median(plain),
        "ratio": statistics.median(b / a for a, b in zip(turns.ours, plain, strict=True)),
        "counted": counted_bound(model, image),
        "shortcut": reports[-1].shortcut,
        "declined": reports[-1].shortcut_declined,
    }


def counted_bound(model: torch.nn.Module, image: torch.Tensor, stride: int = SAMPLED) -> float:
    """Operations of the whole model over those inside of the changed regions, for this configuration."""
    starts = range(0, image.shape[1] - WINDOW + 1, stride)
    boxes = [(slice(None), slice(a, a + WINDOW), slice(b, b + WINDOW)) for a in starts for b in starts]
    found = mean_reach(model, image, [box_change(box) for box in boxes])
    return sum(product.operations for product in products(model, image[None])) / (found.first + found.rest)


def measure(rounds: int, tiny: bool, chosen: Callable[[str], bool]) -> list[dict[str, Any]]:
    rows = []
    for name in [name for name in LARGE if chosen(name)][: 1 if tiny else None]:
        found = ask_once("benchmarks.large_windows", name, rounds=rounds, tiny=tiny)
        rows.append({"model": name, **found})
        print(f"    {name}: " + ", ".join(f"{key} {value}" for key, value in found.items()), flush=True)
    return rows


CAPTION = """\
Occlusion, windows of {window} every {stride} pixels ({all} windows), on {side} x {side} pixels with {bands} bands,
baseline 0, default path against plain path, in turns in one process; medians of up to {rounds} turns, as many as fit
into {budget:g} s. Ours is timed with all windows, the plain path with {part} (stride {plain_stride}), in proportion:
each of its evaluations costs the same. The bound is what operations inside of the changed regions allow, counted in
advance, whole layers from where over half of a layer changes; beside it the same counted for this very configuration
(convolutions and matrix products only).
"""


def line(row: dict[str, Any]) -> list[str]:
    bound = BOUNDS[row["model"]]
    if "failed" in row:
        return [row["model"], row["failed"], "", "", f"{bound:g}", "", MISSED, ""]
    part = row["ratio"] / bound
    return [
        row["model"],
        f"{row['plain']:.1f}",
        f"{row['ours']:.1f}",
        f"{row['ratio']:.2f}",
        f"{bound:g}",
        f"{row['counted']:.2f}",
        reaching(part, WANTED),
        row["shortcut"] or f"*{row['declined']}*",
    ]


def section(rows: list[dict[str, Any]], rounds: int) -> str:
    caption = CAPTION.format(
        window=WINDOW, stride=STRIDE, all=windows(STRIDE), side=SIDE, bands=BANDS, part=windows(PLAIN_STRIDE),
        plain_stride=PLAIN_STRIDE, rounds=rounds, budget=BUDGET,
    )  # fmt: skip
    head = [
        "", "plain s", "ours s", "ratio", "bound", "counted here", f"part of the bound (wanted: {WANTED})", "shortcut"
    ]  # fmt: skip
    table = grid(head, [line(row) for row in rows])
    return named_section("Small windows at full size", caption, table, packages=("transformers", "monai"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer lines of JSON: how many turns count.")
    parser.add_argument("model", choices=list(LARGE))
    name = parser.parse_args().model
    serve(lambda asked: measure_model(name, asked["rounds"], asked["tiny"]))


if __name__ == "__main__":
    main()
