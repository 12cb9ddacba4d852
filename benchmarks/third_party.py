"""Our shortcuts against our plain path, on architectures that others wrote: model x method.

A model has a process of its own (``python -m benchmarks.third_party MODEL``), in which the two paths take turns. The
exact attributions are those of the plain path with model and image in float64; random methods draw the same samples.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import meteors_c

from .architectures import BANDS, SMALL
from .features import squares
from .models import Scene
from .process import Process, serve
from .table import grid, judged, named_section
from .turns import in_turns, seconds_of

TARGET, SUPERPIXELS = 0, 4  # superpixels along each side
SLOWEST, WORST_ERROR, GEOMETRIC_MEAN = 0.97, 2.0, 1.4
DRAWS, MANY_DRAWS = 5, 20  # images, and seeds of what is random; so many where one of them lies at a kink
AT_A_KINK = 1e-5  # an error above this is none of rounding alone
SETTLING = 4  # calls after which it is known which way is the faster one

Attribution = Callable[[Any, Any, int], Any]


@functools.cache
def explainable(model: Any) -> Any:
    """One for each model, as a user keeps it: what a call finds out of a model serves the next one."""
    return meteors_c.models.ExplainableModel(model, "regression")


def explainer(model: Any, *names: str) -> Any:
    """An explainer of the library, one inside the other."""
    made = explainable(model)
    for name in names:
        made = getattr(meteors_c.attr, name)(made)
    return made


def integrated_gradients(model: Any, hsi: Any, size: int) -> Any:
    return explainer(model, "IntegratedGradients").attribute(hsi, target=TARGET, baseline=0, n_steps=50)


def saliency(model: Any, hsi: Any, size: int) -> Any:
    return explainer(model, "Saliency").attribute(hsi, target=TARGET)


def occlusion_of_pixels(model: Any, hsi: Any, size: int) -> Any:
    window = max(2, size // 6)
    return explainer(model, "Occlusion").get_spatial_attributes(
        hsi, target=TARGET, sliding_window_shapes=window, strides=window // 2, baseline=0
    )


def occlusion_of_bands(model: Any, hsi: Any, size: int) -> Any:
    return explainer(model, "Occlusion").get_spectral_attributes(
        hsi, target=TARGET, sliding_window_shapes=8, strides=6, baseline=0
    )


def tunnel(model: Any, hsi: Any, size: int) -> Any:
    return explainer(model, "Saliency", "HyperNoiseTunnel").attribute(hsi, target=TARGET, n_samples=20, baseline=0)


def lime(model: Any, hsi: Any, size: int) -> Any:
    found = meteors_c.attr.Lime(explainable(model), meteors_c.models.SkLearnLinearRegression())
    return found.get_spatial_attributes(hsi, squares(size, SUPERPIXELS), target=TARGET, n_samples=100)


METHODS: dict[str, Attribution] = {
    "IntegratedGradients, 50 steps": integrated_gradients,
    "Occlusion, pixels, 1/6 of the side": occlusion_of_pixels,
    "Occlusion, bands 8/6": occlusion_of_bands,
    "HyperNoiseTunnel(Saliency), 20 samples": tunnel,
    "Lime, 100 samples, 16 superpixels": lime,
    "Saliency": saliency,
}


def call_of(
    method: Attribution,
    scene: Scene,
    model: torch.nn.Module,
    shortcuts: bool,
    dtype: torch.dtype = torch.float32,
    draw: int = 0,
    device: str = "cpu",
) -> Callable[[], Any]:
    """The call as a user makes it, with the image and the samples of one draw."""
    (image,) = scene.images(draw)
    hsi = meteors_c.HSI(image=image.to(device, dtype), wavelengths=scene.wavelengths())

    def call() -> Any:
        torch.manual_seed(draw)
        with meteors_c.options(shortcuts=shortcuts):
            return method(model, hsi, scene.shape[1])

    return call


def first(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call, as the first one on its model."""

    def anew() -> Any:
        explainable.cache_clear()
        return call()

    return anew


def second(ours: Callable[[], Any], plain: Callable[[], Any], turns: int) -> float:
    """How many times faster the second call on a model is than the plain path: the median."""
    found = []
    for _ in range(turns):
        first(ours)()
        seconds = seconds_of(ours)
        found.append(seconds_of(plain) / seconds)
    return statistics.median(found)


def errors_of(
    method: Attribution, scene: Scene, model: torch.nn.Module, exact: torch.nn.Module, draw: int, device: str = "cpu"
) -> tuple[float, float]:
    """How far the default path and the plain path are from the plain path in float64, on the image of one draw."""

    def values(network: torch.nn.Module, shortcuts: bool, dtype: torch.dtype) -> Any:
        return call_of(method, scene, network, shortcuts, dtype, draw, device)().attributes.cpu().numpy()

    wanted = values(exact, False, torch.float64)
    ours, plain = (
        float(np.abs(values(model, shortcuts, torch.float32) - wanted).max() / np.abs(wanted).max())
        for shortcuts in (True, False)
    )
    return ours, plain


def cell(method: Attribution, scene: Scene, rounds: int, tiny: bool = False) -> dict[str, Any]:
    """Measure one method on one scene."""
    model, exact_model = scene.model(), scene.model().double()
    ours, plain = (call_of(method, scene, model, shortcuts) for shortcuts in (True, False))
    firsts = in_turns(first(ours), first(plain), rounds, most=1 if tiny else 21)
    explainable.cache_clear()
    for _ in range(0 if tiny else SETTLING):
        ours()
    turns = in_turns(ours, plain, rounds, most=1 if tiny else 21)
    result = ours()
    pairs: list[tuple[float, float]] = []
    for draw in range(MANY_DRAWS):
        if draw == DRAWS and max(map(max, pairs)) <= AT_A_KINK:
            break
        pairs.append(errors_of(method, scene, model, exact_model, draw))
    errors = list(zip(*pairs, strict=True))
    return {
        "first": firsts.ratio,
        "second": second(ours, plain, 1 if tiny else 3),
        "ratio": turns.ratio,
        "seconds": statistics.median(turns.ours),
        "error": statistics.median(errors[0]),
        "plain_error": statistics.median(errors[1]),
        "largest_error": max(errors[0]),
        "largest_plain_error": max(errors[1]),
        "draws": len(errors[0]),
        "kinks": sum(error > AT_A_KINK for error in errors[0]),
        "plain_kinks": sum(error > AT_A_KINK for error in errors[1]),
        "shortcut": result.report.shortcut,
        "declined": result.report.shortcut_declined,
    }


def measure(rounds: int, tiny: bool, chosen: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Every cell whose name is chosen; a cell that ends its process says so, and the next one gets another."""
    rows = []
    for model in SMALL:
        process = None
        for method in METHODS:
            if not chosen(f"{model}, {method}"):
                continue
            process = process or Process("benchmarks.third_party", model, *["--tiny"] * tiny)
            try:
                found = process.ask(json.dumps({"method": method, "rounds": rounds}))
            except RuntimeError as error:
                found, process = {"failed": str(error)}, None
            rows.append({"model": model, "method": method, **found})
            shown = found.get("failed") or "; ".join((speed(found), exactness(found), way(found)))
            print(f"    {model}, {method}: {shown}", flush=True)
        if process is not None:
            process.__exit__(None, None, None)
    return rows


def speed(row: dict[str, Any], which: str = "ratio") -> str:
    text = f"{row[which]:.2f}"
    return text if row[which] >= SLOWEST else f"**{text}**"


def exactness(row: dict[str, Any], which: str = "") -> str:
    """The median of the draws, or the "largest_" of them."""
    text = f"{row[which + 'error']:.0e} : {row[which + 'plain_error']:.0e}"
    return f"**{text}**" if inexact(row, which) else text


def kinks(row: dict[str, Any]) -> str:
    """In how many images an error is more than rounding."""
    return f"{row['kinks']} : {row['plain_kinks']}" if row["draws"] > DRAWS else ""


def way(row: dict[str, Any]) -> str:
    return row["shortcut"] or f"*{row['declined'] or 'none'}*"


def inexact(row: dict[str, Any], which: str = "") -> bool:
    """Whether the error is over twice the plain path's, and more than a rounding of the largest value."""
    allowed = max(WORST_ERROR * row[which + "plain_error"], float(np.finfo(np.float32).eps))
    return bool(row[which + "error"] > allowed)


CAPTION = """\
Small configurations of `transformers` and `monai` and networks of the literature, {bands} bands, 24 x 24 to 96 x 96
pixels, one image a call, seeded weights. Our default path against our plain path (`options(shortcuts=False)`), in
turns in one process; medians of {rounds} turns or more, after {settling} calls by which the faster way is found, and
beside them of first and second calls, each on an `ExplainableModel` of its own: the second may prepare what those
that follow use again. An error is the largest difference from the plain path with model and image in float64,
relative to the largest attribution, on {draws} images with {draws} seeds, {many} where one of them is over {kink:g}.
Where an input of a ReLU or of a pooling window lies so near its kink that rounding decides, a gradient is another
one, and the errors are those: it is chance which images that happens to on either path, and where it happens to
about half of them a median is chance, too. Bold: below {slowest} of the plain path's speed; an error over
{worst:g} times the plain path's and over the spacing of float32 (1.2e-07).
"""


def summary(rows: list[dict[str, Any]]) -> str:
    done = [row for row in rows if "failed" not in row]

    def slow(which: str, what: str) -> list[str]:
        count = sum(row[which] < SLOWEST for row in done)
        return [f"{what} below {SLOWEST} of the plain path's speed", str(count), judged("0", count == 0)]

    def slowest(which: str, what: str) -> list[str]:
        row = min(done, key=lambda row: row[which])
        return [f"the slowest{what} ({row['model']}, {row['method']})", f"{row[which]:.2f} x", ""]

    def mean(which: str) -> float:
        return statistics.geometric_mean(row[which] for row in done)

    wrong, chance = (sum(inexact(row, which) for row in done) for which in ("", "largest_"))
    crossed, plain_crossed = (sum(row[which] for row in done) for which in ("kinks", "plain_kinks"))
    lines = [
        ["cells", str(len(rows)), ""],
        ["cells in which a shortcut was taken", str(sum(row["shortcut"] is not None for row in done)), ""],
        slow("ratio", "cells"),
        slowest("ratio", ""),
        [
            "geometric mean of all cells",
            f"{mean('ratio'):.2f} x",
            judged(f">= {GEOMETRIC_MEAN} x", mean("ratio") >= GEOMETRIC_MEAN),
        ],
        slow("first", "first calls"),
        slowest("first", ""),
        ["geometric mean of all first calls", f"{mean('first'):.2f} x", ""],
        slowest("second", " second call"),
        ["geometric mean of all second calls", f"{mean('second'):.2f} x", ""],
        [f"cells with a median error over {WORST_ERROR:g} times the plain path's", str(wrong), judged("0", not wrong)],
        [f"cells whose largest error is over {WORST_ERROR:g} times the plain path's", str(chance), ""],
        [f"errors over {AT_A_KINK:g}, of the default : of the plain path", f"{crossed} : {plain_crossed}", ""],
        *([["cells that failed", str(len(rows) - len(done)), judged("0", False)]] if len(done) < len(rows) else []),
    ]  # fmt: skip
    return grid(["", "measured", "wanted"], lines)


def by_model(rows: list[dict[str, Any]], title: str, show: Callable[[dict[str, Any]], str]) -> str:
    """A table of what `show` says of each cell: models down, methods across."""
    methods = [name for name in METHODS if any(row["method"] == name for row in rows)]
    cells = {(row["model"], row["method"]): row.get("failed") or show(row) for row in rows}
    lines = [
        [model, *(cells.get((model, method), "") for method in methods)]
        for model in dict.fromkeys(row["model"] for row in rows)
    ]
    return f"## {title}\n\n" + grid(["", *methods], lines)


def section(rows: list[dict[str, Any]], rounds: int) -> str:
    table = functools.partial(by_model, rows)
    caption = CAPTION.format(
        bands=BANDS,
        rounds=rounds,
        settling=SETTLING,
        draws=DRAWS,
        many=MANY_DRAWS,
        kink=AT_A_KINK,
        slowest=SLOWEST,
        worst=WORST_ERROR,
    )
    return named_section(
        "Models that others wrote",
        caption,
        summary(rows),
        table("Times as fast as the plain path", speed),
        table("The same of a first call", functools.partial(speed, which="first")),
        table("The same of a second call", functools.partial(speed, which="second")),
        table("Errors, of the default path : of the plain path, medians of the images", exactness),
        table("The largest of the images' errors", functools.partial(exactness, which="largest_")),
        table(
            f"Images of {MANY_DRAWS} in which the error is over {AT_A_KINK:g}, of the default : of the plain path",
            kinks,
        ),
        table("The shortcut that was taken, or *why none was*", way),
        packages=("transformers", "monai"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer lines of JSON: a method, and how many turns count at least.")
    parser.add_argument("model", choices=list(SMALL))
    parser.add_argument("--tiny", action="store_true", help="one turn only")
    options = parser.parse_args()
    serve(lambda asked: cell(METHODS[asked["method"]], SMALL[options.model], asked["rounds"], options.tiny))


if __name__ == "__main__":
    main()
