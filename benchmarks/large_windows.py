"""Small windows on full-size images and models that others wrote: how near shortcuts come to what is saved at best.

A model has a process of its own: ``python -m benchmarks.large_windows MODEL``. All 729 windows would take a minute for
each turn, so two coarser grids of windows are timed, both spread over the whole image: what one window costs follows
from their difference, and what is done once from the rest.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import meteors_c

from .architectures import BANDS, LARGE
from .operations import box_change, mean_reach, products
from .process import ask_once, serve
from .table import grid, named_section
from .third_party import TARGET, explainer

SIDE, WINDOW, STRIDE = 224, 16, 8
COARSE, FINE = 52, 26  # strides whose windows end where the image does
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


def whole_grid(coarse: float, fine: float) -> float:
    """Seconds for all windows, from those for the windows of the two grids."""
    each = (fine - coarse) / (windows(FINE) - windows(COARSE))
    return fine + (windows(STRIDE) - windows(FINE)) * each


def measure_model(name: str, rounds: int) -> dict[str, Any]:
    """Times of both paths on both grids, in turns."""
    scene = LARGE[name]
    model, (image,) = scene.model(), scene.images()
    hsi = meteors_c.HSI(image=image, wavelengths=scene.wavelengths())
    found: dict[tuple[bool, int], list[float]] = {}
    reports: dict[bool, Any] = {}

    def run(shortcuts: bool, stride: int) -> float:
        with meteors_c.options(shortcuts=shortcuts):
            start = time.perf_counter()
            result = explainer(model, "Occlusion").get_spatial_attributes(
                hsi, target=TARGET, sliding_window_shapes=WINDOW, strides=stride, baseline=0
            )
        reports[shortcuts] = result.report
        return time.perf_counter() - start

    cases = list(itertools.product((True, False), (COARSE, FINE)))
    start = time.perf_counter()
    for shortcuts in (True, False):
        run(shortcuts, 104)
    for turn in range(rounds):
        for case in cases if turn % 2 == 0 else reversed(cases):
            found.setdefault(case, []).append(run(*case))
        if (time.perf_counter() - start) * (turn + 2) / (turn + 1) > BUDGET:
            break
    median = {case: statistics.median(seconds) for case, seconds in found.items()}
    ours, plain = (whole_grid(median[path, COARSE], median[path, FINE]) for path in (True, False))
    return {
        "turns": len(found[cases[0]]),
        "part": median[False, FINE] / median[True, FINE],
        "ours": ours,
        "plain": plain,
        "ratio": plain / ours,
        "counted": counted_bound(model, image),
        "shortcut": reports[True].shortcut,
        "declined": reports[True].shortcut_declined,
    }


def counted_bound(model: torch.nn.Module, image: torch.Tensor, stride: int = COARSE) -> float:
    """Operations of the whole model over those inside of the changed regions, for this configuration."""
    starts = range(0, image.shape[1] - WINDOW + 1, stride)
    boxes = [(slice(None), slice(a, a + WINDOW), slice(b, b + WINDOW)) for a in starts for b in starts]
    found = mean_reach(model, image, [box_change(box) for box in boxes])
    return sum(product.operations for product in products(model, image[None])) / (found.first + found.rest)


def measure(rounds: int, tiny: bool, chosen: Callable[[str], bool]) -> list[dict[str, Any]]:
    rows = []
    for name in [name for name in LARGE if chosen(name)][: 1 if tiny else None]:
        found = ask_once("benchmarks.large_windows", name, rounds=rounds)
        rows.append({"model": name, **found})
        print(f"    {name}: " + ", ".join(f"{key} {value}" for key, value in found.items()), flush=True)
    return rows


CAPTION = """\
Occlusion, windows of {window} every {stride} pixels ({all} windows), on {side} x {side} pixels with {bands} bands,
baseline 0, default path against plain path in one process. To stay under a minute a row, {coarse} and {fine} windows
over the whole image are timed (strides {coarse_stride} and {fine_stride}), in turns, medians of up to {rounds}; the
seconds for all {all} follow from what a window costs more and what is done once. The bound is what operations inside of
the changed regions allow, counted in advance, whole layers from where over half of a layer changes; beside it the same
counted for this very configuration (products only: no norms, no functions of each value).
"""


def line(row: dict[str, Any]) -> list[str]:
    bound = BOUNDS[row["model"]]
    if "failed" in row:
        return [row["model"], row["failed"], "", "", "", f"{bound:g}", "", "**missed**", ""]
    part = row["ratio"] / bound
    return [
        row["model"],
        f"{row['plain']:.1f}",
        f"{row['ours']:.1f}",
        f"{row['part']:.2f}",
        f"{row['ratio']:.2f}",
        f"{bound:g}",
        f"{row['counted']:.2f}",
        f"{part:.2f}" if part >= WANTED else f"**missed**: {part:.2f}",
        row["shortcut"] or f"*{row['declined']}*",
    ]


def section(rows: list[dict[str, Any]], rounds: int) -> str:
    caption = CAPTION.format(
        window=WINDOW, stride=STRIDE, all=windows(STRIDE), side=SIDE, bands=BANDS, coarse=windows(COARSE),
        fine=windows(FINE), coarse_stride=COARSE, fine_stride=FINE, rounds=rounds,
    )  # fmt: skip
    head = [
        "", "plain s", "ours s", f"ratio, {windows(FINE)} windows", f"ratio, {windows(STRIDE)} windows",
        "bound", "counted here", f"part of the bound (wanted: {WANTED})", "shortcut",
    ]  # fmt: skip
    table = grid(head, [line(row) for row in rows])
    return named_section("Small windows at full size", caption, table, packages=("transformers", "monai"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer lines of JSON: how many turns count.")
    parser.add_argument("model", choices=list(LARGE))
    name = parser.parse_args().model
    serve(lambda asked: measure_model(name, asked["rounds"]))


if __name__ == "__main__":
    main()
