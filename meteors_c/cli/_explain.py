"""``explain``: a scene and a model in, maps and a page out."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meteors_c._options import options
from meteors_c.attr.attributes import HSIAttributes
from meteors_c.cli import _values
from meteors_c.cli._errors import UsageError
from meteors_c.cli._methods import Plan, plan, resolve
from meteors_c.cli._models import Loaded, in_words, load
from meteors_c.cli._outputs import Outputs
from meteors_c.cli._scenes import open_from
from meteors_c.hsi import HSI

__all__ = ["explain"]


def explain(arguments: argparse.Namespace) -> None:
    """Run the command."""
    resolve(arguments.method)  # what is wrong is said before anything large is read
    targets = _values.targets(arguments.target)
    whole_scene = any(value is not None for value in (arguments.window, arguments.pixels, arguments.reduce)) or any(
        name.lower().endswith(".zarr") for name in arguments.out
    )
    if arguments.stride is not None and arguments.window is None:
        raise UsageError("--stride needs --window; windows of occlusion have --box-stride")
    window = _values.window(arguments.window)
    pixels = _values.pixels(arguments.pixels)
    several = targets == "all" or len(targets) > 1
    read = [arguments.scene, arguments.model]
    outputs = Outputs(arguments.out, arguments.report, whole_scene, several, read)
    _prepare(arguments)
    loaded = load(arguments.model, arguments.problem, arguments.classes, arguments.device)
    planned = plan(arguments, loaded)
    scene = open_from(arguments)
    with options(batch=planned.batch):
        if whole_scene:
            written = _whole_scene(arguments, loaded, planned, scene, targets, outputs, window, pixels)
        else:
            written = _one_image(arguments, loaded, planned, scene, targets, outputs)
    for path in written:
        print(path)


def _prepare(arguments: argparse.Namespace) -> None:
    """Set what concerns the whole process: random numbers, threads."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    np.random.seed(arguments.seed % 2**32)  # noqa: NPY002 - for models that draw from the global generator
    random.seed(arguments.seed)


@contextmanager
def _told_what_came(shape: tuple[int | None, ...]) -> Iterator[None]:
    """Add to the error of a model what it was given."""
    try:
        yield
    except RuntimeError as error:
        before, failed, after = str(error).partition("the model failed")
        if before or not failed:
            raise
        raise RuntimeError(f"{failed} with images of {in_words(shape)} (bands, rows, columns){after}") from error


def _shows(arguments: argparse.Namespace) -> bool:
    return not arguments.no_progress and sys.stderr.isatty()


def _made(arguments: argparse.Namespace, loaded: Loaded, planned: Plan) -> dict[str, Any]:
    """Return what a page says of how the results were made, beside what they say themselves."""
    said = ", ".join(f"{name}={_short(value)}" for name, value in planned.said.items())
    return {
        "scene": arguments.scene,
        "model": f"{arguments.model} ({loaded.kind})" if loaded.kind != arguments.model else arguments.model,
        "options": said,
        "random seed": arguments.seed,
    }


def _short(value: Any) -> str:
    return f"{value.size} numbers" if isinstance(value, np.ndarray) else str(value)


# ---------------------------------------------------------------- one image


def _one_image(
    arguments: argparse.Namespace, loaded: Loaded, planned: Plan, scene: Any, targets: Any, outputs: Outputs
) -> list[Path]:
    """Explain the scene as one image."""
    hsi = HSI.from_xarray(scene)
    loaded.check(tuple(hsi.image.shape))
    if arguments.device is not None and not loaded.model.array_input:
        hsi.to(arguments.device)
    with _told_what_came(tuple(hsi.image.shape)):
        results = _attribute(planned, hsi, targets, _shows(arguments))
    titles = _titles(arguments, results)
    _tell(results)

    def page(path: Path) -> None:
        from meteors_c import pages

        pages.write(path, results, titles, made=_made(arguments, loaded, planned))

    return outputs.write_results(results, page)


def _titles(arguments: argparse.Namespace, results: list[HSIAttributes]) -> list[str] | None:
    """Return the title of a page with one result, which names the scene; None where there are several."""
    from meteors_c.pages._tables import title_of

    return [f"{Path(arguments.scene).name}: {title_of(results[0])}"] if len(results) == 1 else None


def _attribute(planned: Plan, hsi: HSI, targets: Any, show: bool) -> list[HSIAttributes]:
    """Call the method: once for all targets where it can explain several at once, else once for each."""
    import inspect

    parameters = inspect.signature(planned.function).parameters
    arguments = planned.arguments | planned.masks(hsi)
    arguments |= {name: show for name in ("show_progress", "verbose") if name in parameters}
    if _wants_delta(planned, parameters):
        arguments["return_convergence_delta"] = True
    if "per_target" in parameters and (targets == "all" or len(targets) > 1):
        found = planned.function(hsi, target=targets, per_target=targets != "all", **arguments)
        return list(found) if isinstance(found, list) else [found]
    if targets == "all":
        raise UsageError(f"--target all: {planned.explainer.get_name()} explains outputs that are named")
    return [planned.function(hsi, target=target, **arguments) for target in targets]


def _wants_delta(planned: Plan, parameters: Any) -> bool:
    return "return_convergence_delta" in parameters and "return_convergence_delta" not in planned.arguments


def _tell(results: list[HSIAttributes]) -> None:
    """Say on the error stream what was done, so that the output has the files alone."""
    told: set[int] = set()
    for result in results:
        if result.report is not None and id(result.report) not in told:
            told.add(id(result.report))
            print(result.report, file=sys.stderr)


# ---------------------------------------------------------------- whole scenes


def _whole_scene(
    arguments: argparse.Namespace,
    loaded: Loaded,
    planned: Plan,
    scene: Any,
    targets: Any,
    outputs: Outputs,
    window: Any,
    pixels: Any,
) -> list[Path]:
    """Explain each pixel of the scene, in blocks."""
    from meteors_c import attr

    if targets == "all":
        raise UsageError("--target all is for one image; with --window, --pixels or .zarr name the targets")
    if planned.superpixels is not None:
        raise UsageError("--by superpixels is for one image; with --window, --pixels or .zarr go by bands")
    sides = window if isinstance(window, tuple) else (window, window)
    shape = (scene.sizes["wavelength"], *sides)
    loaded.check(shape)
    masks = planned.masks(_one_pixel(scene)) if planned.by == "bands" else {}
    further = {"reduce": arguments.reduce} if arguments.reduce is not None else {}
    with _told_what_came(shape):
        dataset = attr.explain_scene(
            planned.explainer,
            scene,
            window=window,
            stride=arguments.stride,
            pixels=pixels,
            target=targets if len(targets) > 1 else targets[0],
            values=_pixels_of_a_page(scene, targets) if arguments.report is not None else False,
            out=outputs.zarr,
            seed=arguments.seed,
            call=planned.call,
            progress=_shows(arguments),
            **further,
            **planned.arguments,
            **masks,
        )

    def page(path: Path) -> None:
        from meteors_c import pages

        made = _made(arguments, loaded, planned) | _window_said(arguments)
        titles = None
        if len(targets) == 1:
            titles = f"{Path(arguments.scene).name}: {_title(planned.explainer.get_name(), targets[0])}"
        pages.write_maps(path, scene, dataset, titles, share_scale=len(targets) > 1, made=made)

    return outputs.write_dataset(dataset, page)


def _window_said(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("window", "stride", "pixels", "reduce")
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _one_pixel(scene: Any) -> HSI:
    """Return an image with the wavelengths of a scene, of which masks over bands can be made."""
    wavelengths = np.array(scene["wavelength"].values, dtype=np.float64)  # a copy, since an index is read-only
    return HSI(image=torch.zeros(len(wavelengths), 1, 1), wavelengths=torch.from_numpy(wavelengths))


def _pixels_of_a_page(scene: Any, targets: list[Any]) -> int:
    """Return of how many pixels a page holds spectra and attributions."""
    from meteors_c.pages._write import MOST_BYTES

    return int(max(1, MOST_BYTES // (4 * scene.sizes["wavelength"] * (1 + len(targets)))))


def _title(method: str, target: Any) -> str:
    return method if target is None else f"{method}, target {target}"
