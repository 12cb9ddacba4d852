"""Time and memory as one thing grows: steps, windows, the side of the image, bands, images, threads; and a large scene.

Each point is measured in a process of its own: ``python -m benchmarks.scaling CASE VALUE --threads N [--plain]``.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import meteors_c

from .memory import peak_bytes
from .models import Scene, convolutional_net
from .process import ask_once, serve
from .table import MISSED, grid, judged, named_section
from .third_party import TARGET, explainer
from .turns import seconds_of

LONG_SECONDS = 5.0  # a call that takes longer is made once
FLAT_WITHIN, TIMES_THE_SCENE = 1.1, 3.0


@dataclass(frozen=True)
class Case:
    """A quantity that grows, and the call in which it does.

    Attributes
    ----------
    values : tuple of int
        What it takes.
    unit : str
        One of it, for the seconds of each.
    shape : callable
        The shape of the image for a value.
    method : str
        The explainer.
    arguments : callable
        The arguments of `attribute` for a value.
    units : callable
        How many units a value is.
    images : callable
        How many images a value is.
    flat : bool
        Whether memory must not grow with it.
    """

    values: tuple[int, ...]
    unit: str
    shape: Callable[[int], tuple[int, int, int]]
    method: str
    arguments: Callable[[int], dict[str, Any]]
    units: Callable[[int], int] = lambda value: value
    images: Callable[[int], int] = lambda value: 1
    flat: bool = False


def steps(count: int) -> dict[str, Any]:
    return {"baseline": 0, "n_steps": count}


WINDOW_SIDE, WINDOW = 116, 17
STRIDES = {49: 17, 196: 8, 676: 4, 2601: 2, 10000: 1}  # by the number of windows


def window(count: int) -> dict[str, Any]:
    stride = STRIDES[count]
    return {"baseline": 0, "sliding_window_shapes": (64, WINDOW, WINDOW), "strides": (64, stride, stride)}


CASES = {
    "steps": Case(
        (10, 30, 100, 300, 1000), "step", lambda value: (64, 128, 128), "IntegratedGradients", steps, flat=True
    ),
    "windows": Case(
        tuple(STRIDES), "window", lambda value: (64, WINDOW_SIDE, WINDOW_SIDE), "Occlusion", window, flat=True
    ),
    "side": Case(
        (64, 128, 256, 512, 1024), "1,000 pixels", lambda value: (64, value, value), "IntegratedGradients",
        lambda value: steps(10), units=lambda value: value * value // 1000,
    ),
    "bands": Case(
        (30, 50, 100, 200, 400), "band", lambda value: (value, 128, 128), "IntegratedGradients", lambda value: steps(50)
    ),
    "images": Case(
        (1, 4, 16, 64), "image", lambda value: (64, 64, 64), "IntegratedGradients", lambda value: steps(50),
        images=lambda value: value,
    ),
}  # fmt: skip

SCENE = (400, 1024, 1024)
SCENE_CALLS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "Saliency": ("Saliency", {}),
    "Occlusion, 4 windows of 512 x 512": (
        "Occlusion",
        {"baseline": 0, "sliding_window_shapes": (400, 512, 512), "strides": (400, 512, 512)},
    ),
    "one gradient at the image itself": (None, {}),  # by torch, to compare with
}


def light_net(bands: int) -> nn.Module:
    """A pixelwise network whose activations are small beside the image."""
    return nn.Sequential(
        nn.Conv2d(bands, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )  # fmt: skip


def image_of(shape: tuple[int, int, int], seed: int) -> Any:
    """An image that is made in the memory that it keeps, so that the peak is that of the call."""
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return meteors_c.HSI(image=values, wavelengths=[400.0 + band for band in range(shape[0])])


def point(case: str, value: int, plain: bool, rounds: int) -> dict[str, Any]:
    """Seconds and peak of one call, in this process."""
    if case == "scene":
        method, arguments = list(SCENE_CALLS.values())[value]
        shape, count, build = SCENE, 1, light_net
    else:
        what = CASES[case]
        shape, method, count, build = what.shape(value), what.method, what.images(value), convolutional_net
        arguments = what.arguments(value)
    model = Scene(shape, count, lambda: build(shape[0])).model()
    images = [image_of(shape, seed) for seed in range(count)]
    before = peak_bytes()

    def call() -> None:
        if method is None:
            leaf = images[0].image[None].requires_grad_()
            torch.autograd.grad(model.requires_grad_(False)(leaf)[0, TARGET], leaf)
            return
        with meteors_c.options(shortcuts=False) if plain else contextlib.nullcontext():
            explainer(model, method).attribute(images if count > 1 else images[0], target=TARGET, **arguments)

    seconds = [seconds_of(call)]
    if seconds[0] < LONG_SECONDS and case != "scene":
        seconds = [seconds_of(call) for _ in range(rounds)]
    return {"seconds": statistics.median(seconds), "peak": peak_bytes(), "before": before}


def measure(rounds: int, tiny: bool, chosen: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Every point whose name is chosen; if tiny, the first one of each case, and no large scene."""
    points = [(name, value, 0) for name, case in CASES.items() for value in case.values[: 1 if tiny else None]]
    points += [("threads", count, count) for count in (() if tiny else (1, 2))]
    points += [("scene", number, 0) for number in range(0 if tiny else len(SCENE_CALLS))]
    rows = []
    for name, value, threads in points:
        by_torch = name == "scene" and list(SCENE_CALLS.values())[value][0] is None
        for path in ("torch",) if by_torch else ("shortcut", "plain"):
            if chosen(f"{name} {value}, {path}"):
                case, at = ("steps", 100) if name == "threads" else (name, value)
                arguments = [case, str(at), "--threads", str(threads), *["--plain"] * (path == "plain")]
                found = ask_once("benchmarks.scaling", *arguments, rounds=rounds)
                rows.append({"case": name, "value": value, "path": path, **found})
                print(f"    {name} {value}, {path}: {found}", flush=True)
    return rows


def points_table(name: str, rows: list[dict[str, Any]]) -> str:
    """One line for each value, both paths beside each other."""
    case = CASES.get(name)
    paths = [path for path in ("shortcut", "plain") if any(row["path"] == path for row in rows)]
    unit = [f"ms a {case.unit}"] if case else []
    head = [name, *(f"{path}: {what}" for path in paths for what in ("s", *unit, "GB"))]
    lines = []
    for value in dict.fromkeys(row["value"] for row in rows):
        line = [f"{value:,}"]
        for path in paths:
            row = next(row for row in rows if (row["value"], row["path"]) == (value, path))
            if "failed" in row:
                line += [row["failed"], *[""] * (1 + len(unit))]
                continue
            each = [f"{1e3 * row['seconds'] / case.units(value):.3g}"] if case else []
            line += [f"{row['seconds']:.3f}", *each, f"{row['peak'] / 1e9:.2f}"]
        lines.append(line)
    return grid(head, lines)


def scene_table(rows: list[dict[str, Any]]) -> str:
    size = 4 * SCENE[0] * SCENE[1] * SCENE[2]
    lines = []
    for row in rows:
        name = f"{list(SCENE_CALLS)[row['value']]}, {row['path']}"
        if "failed" in row:
            lines.append([name, row["failed"], "", "", MISSED])
            continue
        times = row["peak"] / size
        wanted = "" if row["path"] == "torch" else judged(f"<= {TIMES_THE_SCENE:g}", times <= TIMES_THE_SCENE)
        lines.append([name, f"{row['seconds']:.2f}", f"{row['peak'] / 1e9:.2f}", f"{times:.2f}", wanted])
    return grid(["", "s", "GB", "times the scene", "wanted"], lines)


def flat_table(rows: list[dict[str, Any]]) -> str:
    """How much memory grows where it must not."""
    lines = []
    for name, case in CASES.items():
        for path in ("shortcut", "plain"):
            peaks = [row["peak"] for row in rows if (row["case"], row["path"]) == (name, path) and "peak" in row]
            if case.flat and len(peaks) > 1:
                times = max(peaks) / min(peaks)
                wanted = judged(f"<= {FLAT_WITHIN:g}", times <= FLAT_WITHIN)
                what = f"{name} {case.values[0]:,} to {case.values[-1]:,}, {path}"
                lines.append([what, f"{times:.2f}", wanted])
    return grid(["Peak memory", "largest over smallest", "wanted"], lines)


CAPTION = """\
Each point in a process of its own: the median of {rounds} calls after one that does not count, or one call where it
takes over {long:g} s. The peak is what was resident in the whole process. The 2-D CNN of the workloads on 64 bands:
IntegratedGradients on 128 x 128 pixels (10 steps for the sides, 50 for bands and for images, which are 64 x 64, 100 for
threads), Occlusion on {side} x {side} pixels with windows of {window} x {window}. All threads but where said.
"""


def section(rows: list[dict[str, Any]], rounds: int) -> str:
    caption = CAPTION.format(rounds=rounds, long=LONG_SECONDS, side=WINDOW_SIDE, window=WINDOW)
    tables = [
        points_table(name, [row for row in rows if row["case"] == name])
        for name in dict.fromkeys(row["case"] for row in rows)
        if name != "scene"
    ]
    scene = scene_table([row for row in rows if row["case"] == "scene"])
    title = "A scene of 400 x 1024 x 1024 in float32 (1.68 GB), a light pixelwise network"
    return named_section("Scaling", caption, *tables, flat_table(rows), f"## {title}\n", scene)


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer lines of JSON: how many calls count.")
    parser.add_argument("case", choices=[*CASES, "scene"])
    parser.add_argument("value", type=int)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves them as they are")
    parser.add_argument("--plain", action="store_true", help="without shortcuts")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    serve(lambda asked: point(options.case, options.value, options.plain, asked["rounds"]))


if __name__ == "__main__":
    main()
