"""Images that come one after the other: explained in groups, so that few are in memory at a time."""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch

from meteors_c.attr._streams import Streams, drawing
from meteors_c.hsi import HSI
from meteors_c.models._extra_arguments import AsIs, PerImage

__all__ = ["for_every_image", "groups_of", "takes_iterators"]

GROUP_BYTES = 64 << 20
GROUP_IMAGES = 64
_ONE_PER_IMAGE = ("target", "baseline", "stdevs", "segmentation_mask", "band_mask", "continue_from")


def for_every_image(arguments: dict[str, Any], of: str) -> dict[str, Any]:
    """Return arguments of `attribute` that hold for every image, of which there are many.

    Parameters
    ----------
    arguments : dict
        As a user gave them.
    of : str
        What the images come from, for the error.

    Raises
    ------
    ValueError
        One has an entry for each image, or continues an earlier result.
    """
    for name in _ONE_PER_IMAGE:
        value = arguments.get(name)
        several = isinstance(value, list) or (name in ("segmentation_mask", "band_mask") and isinstance(value, tuple))
        several = several or (name == "target" and isinstance(value, torch.Tensor | np.ndarray) and value.ndim > 0)
        if name == "target" and arguments.get("per_target", False):
            continue
        if several or (name == "continue_from" and value is not None):
            raise ValueError(
                f"{name} has an entry for each image, but the images come from {of}: give one {name} for all"
            )
    extras = arguments.get("additional_forward_args")
    if extras is None:
        return arguments
    given = extras if isinstance(extras, tuple) else (extras,)
    if any(isinstance(extra, PerImage) for extra in given):
        raise ValueError(f"additional_forward_args holds PerImage, but the images come from {of}: give AsIs for all")
    fixed = tuple(extra if isinstance(extra, AsIs) else AsIs(extra) for extra in given)
    return arguments | {"additional_forward_args": fixed}


def groups_of(images: Iterable[HSI]) -> Iterator[list[HSI]]:
    """Yield images in groups of at most 64 MiB, or one image where that is larger."""
    group: list[HSI] = []
    size = 0
    for image in images:
        if not isinstance(image, HSI):
            raise TypeError(f"an iterator of images must give HSI, not {type(image).__name__}")
        group.append(image)
        size += image.image.nbytes
        if size >= GROUP_BYTES or len(group) >= GROUP_IMAGES:
            yield group
            group, size = [], 0
    if group:
        yield group


def takes_iterators(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method, whose first argument is an image or a list of them, take an iterator too.

    With an iterator or generator it returns an iterator: results come in the order of the images, one for each, and
    are computed in groups when they are asked for. Random draws are those of one call with a list.
    """

    @functools.wraps(function)
    def call(self: Any, hsi: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(hsi, Iterator):
            return function(self, hsi, *args, **kwargs)
        bound = inspect.signature(function).bind(self, hsi, *args, **kwargs)
        given = {name: value for name, value in bound.arguments.items() if name not in ("self", "hsi", "kwargs")}
        rest = for_every_image(given | bound.arguments.get("kwargs", {}), "an iterator")
        return _results(functools.partial(function, self, **rest), hsi)

    return call


def _results(function: Callable[..., Any], images: Iterator[HSI]) -> Iterator[Any]:
    """Return the results one by one, under the settings that hold now."""
    context, streams = contextvars.copy_context(), Streams(None)
    done = 0

    def explain(group: list[HSI]) -> list[Any]:
        nonlocal done
        with drawing(streams, range(done, done + len(group))):
            results = function(group)
        done += len(group)
        return results if len(group) > 1 else [results]

    return chain.from_iterable(context.run(explain, group) for group in groups_of(images))
