"""Which methods can be computed of tiles, and how these must be cut."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from meteors_c.attr.explainer import Explainer
from meteors_c.attr.input_x_gradients import InputXGradient
from meteors_c.attr.integrated_gradients import IntegratedGradients
from meteors_c.attr.noise_tunnel import HyperNoiseTunnel, NoiseTunnel
from meteors_c.attr.occlusion import Occlusion
from meteors_c.attr.saliency import Saliency
from meteors_c.scenes._explaining import with_model
from meteors_c.scenes._job import Tiling
from meteors_c.scenes._receptive_field import Network, disagreement, measured_tiling, summed_model
from meteors_c.scenes._source import Scene

__all__ = ["check_method", "mean_spectrum", "tiled"]

_LOCAL = (Saliency, InputXGradient, IntegratedGradients, Occlusion)
_TUNNELS = (NoiseTunnel, HyperNoiseTunnel)
STRIP_BYTES = 64 << 20
PROBE = 128  # rows and columns of an image by which the outputs of a model are looked at


def check_method(explainer: Explainer, name: str, arguments: dict[str, Any]) -> None:
    """Raise where a method says something of the image as a whole, which no tile can tell.

    Raises
    ------
    ValueError
        For such a method or argument.
    """
    inner = explainer.chained_explainer if isinstance(explainer, _TUNNELS) else explainer
    spectral = name == "get_spectral_attributes"
    if not isinstance(inner, _LOCAL) or spectral:
        raise ValueError(
            f"{explainer.get_name()}{' over bands' if spectral else ''} leaves out features of the whole scene (bands, "
            "superpixels), and gives one number for each, of the sum over all its pixels: no pixel has a value of its "
            "own that the tile around it could tell. Give window= for numbers of each pixel's window, chunk= as large "
            "as the scene, or take a method that attributes to pixels, whose mean_spectrum times pixels is the whole "
            "scene's by band: IntegratedGradients, InputXGradient, Saliency with abs=False"
        )
    if arguments.get("tolerance") is not None:
        raise ValueError("tolerance would stop each tile of the scene after other samples: leave it out")
    baseline: Any = arguments.get("baseline")
    if getattr(baseline, "ndim", 0) > 1:
        raise ValueError(
            f"baseline has the shape {tuple(baseline.shape)}, but tiles of the scene differ in theirs: give a number, "
            "a spectrum or 'mean'"
        )
    if isinstance(explainer, NoiseTunnel):
        warnings.warn(
            "the noise of a pixel depends on its place in its tile: the map has the expectation of the whole scene's, "
            "not its very numbers",
            UserWarning,
            stacklevel=4,
        )


def tiled(
    explainer: Explainer,
    name: str,
    arguments: dict[str, Any],
    scene: Scene,
    overlap: Any,
    alignment: Any,
    one_block: bool,
) -> tuple[Explainer, Tiling]:
    """Return the explainer of a model that sums up, and how the scene is cut.

    Raises
    ------
    ValueError
        If no tiles give what the whole scene gives.

    Warns
    -----
    UserWarning
        If tiles with the overlap that was given don't.
    """
    network = Network(explainer.explainable_model, scene.orientation, arguments.get("additional_forward_args"))
    texture = _texture(scene)
    model = summed_model(
        explainer.explainable_model, network, texture(*(scene.shape[1:] if one_block else (PROBE, PROBE)))
    )
    if model is not explainer.explainable_model:
        explainer = with_model(explainer, model)
        network = Network(model, scene.orientation, arguments.get("additional_forward_args"))
    if one_block:
        return explainer, Tiling()
    check_method(explainer, name, arguments)
    tiling = measured_tiling(network, texture) if overlap is None else Tiling(overlap)
    if alignment is not None:
        tiling = Tiling(tiling.overlap, alignment)
    difference, rounding = disagreement(network, tiling, texture)
    if difference > rounding:
        found = (
            f"a change inside a tile with an overlap of {tiling.overlap[0]} x {tiling.overlap[1]} pixels, in steps of "
            f"{tiling.alignment[0]} x {tiling.alignment[1]}, changes the model's outputs otherwise than in a larger "
            f"tile, by {difference:.1e} of the change"
        )
        if overlap is None:
            raise ValueError(
                f"no tiles of the scene give what the whole gives: {found}. Are the outputs sums over pixels (a mean "
                "depends on the size of the tile)?"
            )
        warnings.warn(f"{found}: the seams of the map may show", UserWarning, stacklevel=3)
    return explainer, _with_windows(tiling, explainer, name, arguments, scene)


def _with_windows(tiling: Tiling, explainer: Explainer, name: str, arguments: dict[str, Any], scene: Scene) -> Tiling:
    """Return a tiling in which the windows of Occlusion stand where they do in the scene."""
    if not isinstance(explainer, Occlusion):
        return tiling
    window, stride = (arguments.get(argument, 1) for argument in ("sliding_window_shapes", "strides"))
    spatial = [axis for axis, letter in enumerate(scene.orientation) if letter != "C"]
    of = []
    for given in (window, stride):
        sizes = given if isinstance(given, tuple | list) else (given,) * 3
        sizes = [sizes[axis] for axis in spatial] if len(sizes) == 3 else list(sizes)
        of.append(sizes if scene.orientation.index("H") < scene.orientation.index("W") else sizes[::-1])
    windows, strides = of
    overlap = tuple(beyond + size - 1 for beyond, size in zip(tiling.overlap, windows, strict=True))
    alignment = tuple(math.lcm(step, size) for step, size in zip(tiling.alignment, strides, strict=True))
    return Tiling((overlap[0], overlap[1]), (alignment[0], alignment[1]))


def _texture(scene: Scene) -> Callable[[int, int], torch.Tensor]:
    """Return what gives images of any size with the mean and spread that the bands have in the middle of a scene."""
    side = 32
    middle = [slice(max(0, size // 2 - side // 2), size // 2 + side // 2 + 1) for size in scene.shape[1:]]
    values, used = scene.read(middle[0], middle[1])
    known = np.where(used, values, np.nan) if used is not None else values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # bands without any value
        mean = np.nan_to_num(np.nanmean(known, axis=(1, 2), dtype=np.float64))
        spread = np.nan_to_num(np.nanstd(known, axis=(1, 2), dtype=np.float64))
    spread[spread == 0] = 1.0

    def texture(rows: int, columns: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(rows * 65536 + columns)
        noise = torch.randn((len(mean), rows, columns), generator=generator, dtype=torch.float64)
        image = noise * torch.from_numpy(spread)[:, None, None] + torch.from_numpy(mean)[:, None, None]
        return image.to(torch.float64 if scene.dtype == np.float64 else torch.float32)

    return texture


def mean_spectrum(scene: Scene) -> np.ndarray:
    """Return the mean of each band over the values that are used, read in strips; 0 for a band without any."""
    bands, rows, columns = scene.shape
    height = max(1, STRIP_BYTES // (bands * columns * 8))
    sums, count = np.zeros(bands), np.zeros(bands)
    for top in range(0, rows, height):
        values, used = scene.read(slice(top, min(top + height, rows)), slice(0, columns))
        sums += values.sum(axis=(1, 2), dtype=np.float64, where=True if used is None else used)
        count += values[0].size if used is None else used.sum(axis=(1, 2))
    if not count.any():
        raise ValueError("baseline is 'mean', but the scene has no valid pixel")
    return sums / np.maximum(count, 1)
