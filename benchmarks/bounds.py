"""What arithmetic and memory allow for each row of the workloads, beside what ours takes.

``python -m benchmarks.bounds`` answers with the rates of this machine.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .driver import Child
from .models import Scene, scene_of
from .operations import Reach, box_change, mean_reach, moved_bytes, products
from .process import ask_once, serve
from .table import grid, named_section, reaching
from .workloads import WORKLOADS, Workload

REACHED, MOST_SAMPLES = 0.5, 24
GRADIENT_METHODS = ("IntegratedGradients", "Saliency", "InputXGradient", "HyperNoiseTunnel", "NoiseTunnel")
PIXELWISE = ("pixelwise 224",)


@dataclass(frozen=True)
class Needs:
    """What a call can't do without: operations, and bytes that pass between memory and the processor."""

    operations: float
    bytes: float

    def seconds(self, rates: dict[str, float]) -> tuple[float, str]:
        """The least that this takes, and which of the two decides."""
        times = {
            "arithmetic": self.operations / rates["operations"],
            "memory": self.bytes / rates["bytes"],
        }
        limit = max(times, key=lambda name: times[name])
        return times[limit], limit


def rates(seconds: float = 2.0) -> dict[str, float]:
    """Operations a second of a large float32 matrix product, and bytes a second of a large copy: the best of some."""
    one, other = torch.rand(2048, 2048), torch.rand(2048, 2048)
    product = torch.empty(2048, 2048)
    source, target = torch.rand(1 << 26), torch.rand(1 << 26)

    def best(call: Callable[[], object]) -> float:
        call()
        end, found = time.perf_counter() + seconds, []
        while time.perf_counter() < end:
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
        return min(found)

    return {
        "operations": 2 * 2048**3 / best(lambda: torch.mm(one, other, out=product)),
        "bytes": 2.0 * source.nbytes / best(lambda: target.copy_(source)),
    }


def boxes_of(workload: Workload, shape: tuple[int, int, int]) -> list[tuple[slice, ...]]:
    """The windows of an occlusion, or some of them, spread evenly."""
    windows, strides = workload.arguments["sliding_window_shapes"], workload.arguments["strides"]
    if workload.call == "get_spatial_attributes":
        windows, strides = (shape[0], *windows), (shape[0], *strides)
    elif workload.call == "get_spectral_attributes":
        windows, strides = (windows, *shape[1:]), (strides, *shape[1:])
    starts = [range(0, max(n - w, 0) + s, s) for n, w, s in zip(shape, windows, strides, strict=True)]
    inside = [[start for start in axis if start < n] for axis, n in zip(starts, shape, strict=True)]
    corners = list(itertools.product(*inside))
    chosen = corners[:: max(1, len(corners) // MOST_SAMPLES)]
    return [tuple(slice(a, a + w) for a, w in zip(corner, windows, strict=True)) for corner in chosen]


def sample_reach(workload: Workload, scene: Scene, model: torch.nn.Module, image: torch.Tensor, name: str) -> Reach:
    """What one sample of the workload must compute anew, the mean over samples."""
    first, *others = (product.operations for product in products(model, image[None]))
    if workload.method == "Occlusion":
        return mean_reach(model, image, [box_change(box) for box in boxes_of(workload, scene.shape)])
    if workload.method == "HyperNoiseTunnel":  # half of the bands, at random
        return Reach(0.5 * first, sum(others), 1.0)
    if workload.features == "superpixels" and name in PIXELWISE:  # every pixel is known from two runs
        return Reach(0.0, 0.0, 0.0)
    if workload.features or workload.method == "IntegratedGradients":  # the first product is a sum of what is known
        return Reach(0.0, sum(others), 1.0)
    return Reach(first, sum(others), 1.0)


def needs(workload: Workload, name: str, scene: Scene, path: str, evaluations: int) -> Needs:
    """The operations and bytes of one call with so many evaluations.

    Plain: the model in full for each, backward again where gradients are wanted (with respect to the input alone); the
    image is read, its gradient written and summed. Shortcut: the model in full for each image; for each sample what is
    new in it, and the output of the first product read where it changes. Sums of gradients go back through the first
    product once; their absolute values each time.
    """
    model, image = scene.model(), scene.images()[0]
    found = products(model, image[None])
    first, total = found[0].operations, sum(product.operations for product in found)
    image_bytes, features = 4 * image.numel(), 4 * found[0].given.numel()
    gradients = workload.method in GRADIENT_METHODS
    once = 2.0 * image_bytes * scene.count  # the image is read, its attributions are written
    if path == "plain":
        passes, traffic = (2, 3) if gradients else (1, 1)
        return Needs(evaluations * passes * total, once + evaluations * traffic * image_bytes)
    each = sample_reach(workload, scene, model, image, name)
    operations, traffic = each.first + each.rest, each.places * features
    if gradients:
        summed = workload.method == "IntegratedGradients"
        operations += each.rest + (0.0 if summed else first)
        traffic += features + (0 if summed else 2 * image_bytes)
    return Needs(
        scene.count * 2 * total + evaluations * operations,
        once + evaluations * traffic,
    )


def operators_move(workload: Workload, scene: Scene, evaluations: int) -> int:
    """Bytes that the operators of the plain path read and write, twice as many backward as forward."""
    passes = 3 if workload.method in GRADIENT_METHODS else 1
    return evaluations * passes * moved_bytes(scene.model(), scene.images()[0][None])


def counted_paths(workload: Workload) -> tuple[str, ...]:
    """The paths whose operations are known: those behind superpixels depend on which of them a place sees."""
    known = {"plain"} if workload.features == "superpixels" else {"default", "plain", "shortcut"}
    return tuple(path for path in workload.paths if path in known)


def measure_rates() -> dict[str, float]:
    found: dict[str, float] = ask_once("benchmarks.bounds")
    return found


def measure(rounds: int, tiny: bool, chosen: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Ours alone, every path, and the rates of the machine before and after: the better ones count."""
    rows: list[dict[str, Any]] = []
    before = measure_rates()
    for name, workload in WORKLOADS.items():
        for scene_name, path in itertools.product(workload.scenes, workload.paths):
            if path in counted_paths(workload) and chosen(f"{name}, {scene_name}, {path}"):
                with Child("meteors_c", name, scene_name, path=path, tiny=tiny) as child:
                    child.run(count=False)
                    for _ in range(rounds):
                        child.run()
                report, scene = child.report, scene_of(scene_name, tiny)
                taken = "plain" if report["shortcut"] is None else "shortcut"
                wanted = needs(workload, scene_name, scene, taken, report["evaluations"])
                moved = operators_move(workload, scene, report["evaluations"]) if taken == "plain" else None
                row = {"name": f"{name}, {scene_name}", "path": path, "needs": wanted, "moved": moved}
                seen = {"evaluations": report["evaluations"], "shortcut": report["shortcut"]}
                rows.append({**row, **seen, "seconds": child.median})
    after = measure_rates()
    best = {key: max(before[key], after[key]) for key in before}
    for row in rows:
        row["rates"] = best
        row["bound"], row["limit"] = row["needs"].seconds(best)
        print(f"    {row['name']}, {row['path']}: bound {row['bound']:.4f} of {row['seconds']:.4f} s", flush=True)
    return rows


CAPTION = """\
For each workload: the operations that can't be avoided over the rate of a large float32 matrix product ({gigaflops:.0f}
GFLOP/s here), or the bytes over the rate of a large copy ({gigabytes:.1f} GB/s), whichever is more, beside what ours
takes (median of {rounds} calls). Operations are those of convolutions and matrix products. Plain: the whole model for
every evaluation, once more backward where gradients are wanted; an image is read, its gradient written and added up.
Shortcut: the whole model twice for each image, then for each sample only what is new: places that the change reaches
(whole layers from where it reaches over half of one), the first product only for channels that change, and not at all
where it is a sum of what is known; its output is read where it changes. Where no shortcut was taken, the plain bound.
Norms, functions of each value and pools have no operations in this count; they are what the rest goes to first. What
all operators of the plain path read and write, one after the other, would take as long as is said beside it if it went
through memory; what caches keep is less.
"""


def section(rows: list[dict[str, Any]], rounds: int) -> str:
    speed = rows[0]["rates"]
    caption = CAPTION.format(gigaflops=speed["operations"] / 1e9, gigabytes=speed["bytes"] / 1e9, rounds=rounds)
    lines = []
    for row in rows:
        part = row["bound"] / row["seconds"]
        lines.append(
            [
                row["name"],
                row["path"] if row["path"] != "shortcut" or row["shortcut"] else "shortcut declined",
                f"{row['evaluations']:,}",
                f"{row['needs'].operations / 1e9:.3g}",
                f"{row['needs'].bytes / 1e9:.3g}",
                f"{row['bound']:.4f} ({row['limit']})",
                f"{row['seconds']:.4f}",
                "" if row["moved"] is None else f"{row['moved'] / speed['bytes']:.4f}",
                reaching(part, REACHED),
            ]
        )
    head = [
        "",
        "path",
        "evaluations",
        "GFLOP",
        "GB",
        "bound s",
        "ours s",
        "operators move s",
        f"part reached (wanted: {REACHED})",
    ]
    return named_section("Bounds", caption, grid(head, lines))


if __name__ == "__main__":
    serve(lambda asked: rates())
