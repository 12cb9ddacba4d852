"""How far a pixel of a network's input reaches in its maps, and in which steps tiles may begin: measured.

A pixel of NaN makes NaN of whatever it reaches, whatever the weights are. Where the input is moved by as many pixels as
the network's strides multiply to, its maps move with it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from meteors_c.models import ExplainableModel
from meteors_c.models._extra_arguments import AsIs
from meteors_c.models._outputs import array_of, tensor_of
from meteors_c.models.explainable import _Postprocessed
from meteors_c.scenes._job import Tiling

__all__ = ["Network", "measured_tiling", "summed_model"]

LARGEST = 512  # rows and columns of an input that is probed
STEPS = 32  # the largest alignment that is looked for
ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-9}
MIDDLE = 8  # rows and columns that are compared on each side of the middle


class Network:
    """A model as maps: ``(bands, rows, columns)`` to ``(classes, rows, columns)``.

    Parameters
    ----------
    model : ExplainableModel
        What is explained; a function that sums its maps up is left out.
    orientation : tuple of str
        The order of axes that it gets.
    extras : Any
        What it takes after the input.
    """

    def __init__(self, model: ExplainableModel, orientation: tuple[str, str, str], extras: Any) -> None:
        self.model, self.orientation = model, orientation
        function: Any = model.forward_func
        self.maps_of = function.model if isinstance(function, _Postprocessed) else function
        given = () if extras is None else extras if isinstance(extras, tuple) else (extras,)
        self.extras = [extra.value if isinstance(extra, AsIs) else extra for extra in given]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the maps of an image ``(bands, rows, columns)``, in its shape behind the classes."""
        return self._run(self.maps_of, image)

    def scores(self, image: torch.Tensor) -> torch.Tensor:
        """Return the outputs that are explained, in double."""
        return self._run(self.model.forward_func, image).double()

    def _run(self, function: Callable[..., Any], image: torch.Tensor) -> torch.Tensor:
        turned = image.permute(["CHW".index(letter) for letter in self.orientation])[None]
        dtype = next(iter(self.model.dtypes), image.dtype)
        turned = turned.to(dtype=dtype, device=self.model.device or "cpu")
        with torch.no_grad():
            if self.model.array_input:
                return torch.as_tensor(np.asarray(array_of(function(turned.numpy(), *self.extras), 1)))[0].cpu()
            return tensor_of(function(turned, *self.extras))[0].cpu()


def summed_model(model: ExplainableModel, network: Network, image: torch.Tensor) -> ExplainableModel:
    """Return a model whose outputs are sums over pixels, where the given one has maps; else the given one.

    Raises
    ------
    ValueError
        If the model gives neither numbers nor maps of the size of its input.
    """
    try:
        output = network._run(model.forward_func, image)
    except Exception as error:
        raise ValueError(
            f"the model does not take an image of {tuple(image.shape[-2:])} pixels ({error}); a classifier of patches "
            "needs window="
        ) from error
    if output.ndim <= 1:
        return model
    if output.shape[-2:] != image.shape[-2:]:
        raise ValueError(
            f"the model's outputs have the shape {tuple(output.shape)} for an input of {tuple(image.shape[-2:])} "
            "pixels; without a window, it must give maps of the size of its input, (classes, rows, columns), or sums "
            "over their pixels. A classifier of patches needs window="
        )
    return ExplainableModel(model.forward_func, "segmentation", sum_over_pixels, array_input=model.array_input)


def sum_over_pixels(maps: Any) -> Any:
    """Sum the last two axes of maps up."""
    if isinstance(maps, np.ndarray):
        return maps.sum(axis=(-2, -1))
    return tensor_of(maps).sum(dim=(-2, -1))


# ---------------------------------------------------------------- measured


def measured_tiling(network: Network, texture: Callable[[int, int], torch.Tensor]) -> Tiling:
    """Return the overlap and alignment with which tiles of a network give what the whole scene gives.

    Parameters
    ----------
    network : Network
        The network.
    texture : callable
        Gives an image of so many rows and columns, whose values vary as those of the scene do.

    Raises
    ------
    ValueError
        If the maps depend on more than 512 x 512 pixels, or can't be moved: no tiles are the same then.
    """
    size = 128
    while True:
        reach = _reach(network, texture(size, size), size // 2, size // 2)
        if reach is not None and size // 2 > max(reach) + STEPS + MIDDLE:
            break
        size *= 2
        if size > LARGEST:
            raise ValueError(
                "no tiles of the scene give what the whole gives: each pixel of the model's maps depends on more than "
                f"an input of {LARGEST} x {LARGEST} pixels shows, as behind global pooling, attention or a "
                "normalisation over the image. Explain the whole (chunk= as large as the scene), or say with overlap= "
                "how many pixels about each tile are enough"
            )
    steps = tuple(_alignment(network, texture, size, axis) for axis in (0, 1))
    up = down = left = right = 0
    for phase in range(math.lcm(*steps)):
        found = _reach(network, texture(size, size), size // 2 + phase, size // 2 + phase)
        if found is None:  # it reaches further than where it was looked at first
            raise ValueError("the model's receptive field could not be measured: give overlap= and alignment=")
        up, down, left, right = map(max, (up, down, left, right), found)
    return Tiling((up + down, left + right), (steps[0], steps[1]))


def _reach(network: Network, image: torch.Tensor, row: int, column: int) -> tuple[int, int, int, int] | None:
    """Return how far a pixel reaches up, down, left and right in the maps; None where it is as far as they go."""
    poisoned = image.clone()
    poisoned[:, row, column] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the flag of other hardware that it puts back
        with torch.backends.mkldnn.flags(enabled=False):  # none of the algorithms that spread NaN further
            maps = network(poisoned)
    _check_maps(maps, image)
    reached = maps.isnan().flatten(0, -3).any(0) if maps.ndim > 2 else maps.isnan()
    if not reached.any():
        raise ValueError(
            "the model's receptive field can't be measured: a NaN in its input reaches none of its outputs (are they "
            "labels, or is NaN replaced?). Give overlap= and alignment="
        )
    rows, columns = (reached.any(axis).nonzero().flatten() for axis in (1, 0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    height, width = reached.shape
    if top == 0 or left == 0 or bottom == height - 1 or right == width - 1:
        return None
    return row - top, bottom - row, column - left, right - column


def _check_maps(maps: torch.Tensor, image: torch.Tensor) -> None:
    if maps.ndim < 2 or maps.shape[-2:] != image.shape[-2:]:
        raise ValueError(
            f"the model gives {tuple(maps.shape)} for {tuple(image.shape[-2:])} pixels, and no maps from which its "
            "receptive field could be measured: give ExplainableModel the network, and the function that sums its maps "
            "up as postprocessing_output; or give overlap= and alignment="
        )


def _alignment(network: Network, texture: Callable[[int, int], torch.Tensor], size: int, axis: int) -> int:
    """Return the smallest step by which an input can be moved so that the maps move with it."""
    shape = [size, size]
    shape[axis] += STEPS
    image = texture(*shape)
    maps = network(image.narrow(1 + axis, 0, size))
    rounding = ROUNDING.get(maps.dtype, 1e-2) * float(maps.abs().max())
    for step in range(1, STEPS + 1):
        moved = network(image.narrow(1 + axis, step, size))
        at = size // 2 - MIDDLE
        there = _middle(maps, axis, at, size)
        here = _middle(moved, axis, at - step, size)
        if float((there - here).abs().max()) <= rounding:
            return step
    raise ValueError(
        "no tiles of the scene give what the whole gives: the model's maps do not move with its input, by up to "
        f"{STEPS} pixels (coordinates among its features, or strides of more?). Explain the whole (chunk= as large as "
        "the scene), or give overlap= and alignment="
    )


def _middle(maps: torch.Tensor, axis: int, at: int, size: int) -> torch.Tensor:
    """Return the middle of maps, along one axis from `at` on."""
    other = maps.narrow(maps.ndim - 1 - axis, size // 2 - MIDDLE, 2 * MIDDLE)
    return other.narrow(maps.ndim - 2 + axis, at, 2 * MIDDLE)


def disagreement(
    network: Network, tiling: Tiling, texture: Callable[[int, int], torch.Tensor], core: int = 16
) -> tuple[float, float]:
    """Return by how much a change in the middle of a tile changes the outputs otherwise than in a larger tile.

    Returns
    -------
    difference, rounding : float
        Relative to the change; what rounding explains.
    """
    step, beyond = tiling.alignment, tiling.overlap
    inner = [-(-of // by) * by for of, by in zip(beyond, step, strict=True)]
    margin = [-(-max(8, of) // by) * by for of, by in zip(inner, step, strict=True)]
    cores = [-(-core // by) * by for by in step]
    sizes = [of + 2 * (tile + more) for of, tile, more in zip(cores, inner, margin, strict=True)]
    image = texture(*sizes)
    changed = image.clone()
    rows, columns = (slice(tile + more, tile + more + of) for of, tile, more in zip(cores, inner, margin, strict=True))
    changed[:, rows, columns] = image[:, rows, columns].flip(1, 2)
    tile = tuple(slice(more, size - more) for more, size in zip(margin, sizes, strict=True))
    large = [network.scores(of) for of in (image, changed)]
    small = [network.scores(of[:, tile[0], tile[1]]) for of in (image, changed)]
    change = large[1] - large[0]
    scale = float(change.abs().max())
    if scale == 0.0:
        return 0.0, 1.0
    precision = ROUNDING.get(next(iter(network.model.dtypes), torch.float32), 1e-2)
    rounding = precision * float(torch.stack([*large, *small]).abs().max()) if large[0].shape == small[0].shape else 0.0
    return float((small[1] - small[0] - change).abs().max()) / scale, max(10 * precision, rounding / scale)
