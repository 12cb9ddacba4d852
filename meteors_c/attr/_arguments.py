"""The arguments that attribution methods share: checked here once, and converted to what the core takes."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from meteors_c.exceptions import ShapeMismatchError
from meteors_c.hsi import HSI
from meteors_c.utils import expand_spectral_mask, floating_dtype, tensor_from_array

__all__ = [
    "NUMBER",
    "Baseline",
    "RunSettings",
    "ShowProgress",
    "Target",
    "baselines_of",
    "batch_size",
    "checked_baseline",
    "flag",
    "images_of",
    "integer",
    "one_for_each_image",
    "one_target",
    "outputs_of",
    "positive",
    "run_settings",
    "shape_mismatch",
    "sizes",
    "spectral_axis_of",
    "targets_of",
    "validate_and_transform_baseline",
]

Target = int | tuple[int, ...] | torch.Tensor | list[Any] | None
Baseline = int | float | str | np.ndarray | torch.Tensor | list[Any] | None
ShowProgress = bool | Callable[[int, int], Any]

NUMBER = (int, float, np.integer, np.floating, np.bool_)
_COUNTS = {1: "one", 2: "two", 3: "three"}
_AXES = {"C": "band", "H": "row", "W": "column"}


@dataclass(frozen=True)
class RunSettings:
    """How the model is called, whatever the method; as the user gave it, but for `max_batch_size`, which is checked.

    Attributes
    ----------
    additional_forward_args : Any
        What the model takes after the input.
    max_batch_size : int or None
        The largest number of samples that the model may see at once; the engine chooses where None.
    show_progress : bool or callable
        Whether to show a bar, or what is called with the evaluations done and to do.
    """

    additional_forward_args: Any = None
    max_batch_size: int | None = None
    show_progress: ShowProgress = False


def run_settings(
    additional_forward_args: Any, perturbations_per_eval: int | None, show_progress: ShowProgress
) -> RunSettings:
    """Return how the model is called, from the arguments that methods without gradients have for it."""
    limit = batch_size(perturbations_per_eval, "perturbations_per_eval")
    return RunSettings(additional_forward_args, limit, show_progress)


# ---------------------------------------------------------------- numbers


def integer(value: Any, name: str, wanted: str, least: int, largest: int | None = None) -> int:
    """Return an int within bounds; `wanted` says in the error what it must be."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {wanted}, not {value!r}") from None
    if number < least or (largest is not None and number > largest):
        raise ValueError(f"{name} must be {wanted}, not {number}")
    return number


def positive(value: Any, name: str) -> int:
    """Return a number of samples or steps."""
    number = integer(value, name, "a positive int", 1)
    if number > sys.maxsize:
        raise ValueError(f"{name} must be at most {sys.maxsize}, not {number}")
    return number


def batch_size(value: Any, name: str) -> int | None:
    """Return a limit on the samples that the model sees at once."""
    return None if value is None else min(integer(value, name, "a positive int or None", 1), sys.maxsize)


def flag(value: Any, name: str) -> bool:
    """Return what is either True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def sizes(value: Any, name: str, count: int) -> tuple[int, ...]:
    """Return sizes along `count` axes, from one int for all or one for each; a list only where there are several."""
    wanted = f"an int or {_COUNTS[count]} of them"
    many = isinstance(value, tuple) or (isinstance(value, list) and count > 1)
    given = tuple(value) if many else (value,) * count
    if len(given) != count:
        raise ValueError(f"{name} must be {wanted}, not {len(given)}: {value!r}")
    try:
        found = tuple(map(operator.index, given))
    except TypeError:
        raise TypeError(f"{name} must be {wanted}, not {value!r}") from None
    if min(found) < 0:
        raise ValueError(f"{name} must be positive, not {value!r}")
    return found


def one_for_each_image(given: list[Any], name: str, images: int) -> list[Any]:
    """Return a list that has one entry for each image."""
    if len(given) != images:
        raise ValueError(f"{name} has {len(given)} entries for {images} images; give one, or one for each image")
    return given


def shape_mismatch(name: str, of: str, wanted: Any, shape: Any) -> ShapeMismatchError:
    """Return the error for a value, called `name`, whose shape is not that of another, called `of`."""
    return ShapeMismatchError(f"{name} must have the shape of {of}, {tuple(wanted)}, not {tuple(shape)}")


# ---------------------------------------------------------------- images and targets


def images_of(hsi: Any) -> list[HSI]:
    """Return the images of a call, which share a shape."""
    images = list(hsi) if isinstance(hsi, list) else [hsi]
    if not images:
        raise ValueError("hsi must be an HSI or a list of HSI, not an empty list")
    wrong = [type(image).__name__ for image in images if not isinstance(image, HSI)]
    if wrong:
        array = isinstance(images[0], torch.Tensor | np.ndarray)
        hint = "; images of an array are HSI.stack(array, wavelengths=...)" if array else ""
        raise TypeError(f"hsi must be an HSI or a list of HSI, not {wrong[0]}{hint}")
    first = images[0].image.shape
    odd = next((image.image.shape for image in images if image.image.shape != first), None)
    if odd is not None:
        raise shape_mismatch("every image of one call", "the first", first, odd)
    return images


def spectral_axis_of(images: list[HSI]) -> int:
    """Return the axis of the bands, which the images of a call share."""
    axes = {image.spectral_axis for image in images}
    if len(axes) > 1:
        raise ValueError("the images of one call must have their bands on the same axis; change_orientation() helps")
    return axes.pop()


def one_target(target: Any) -> tuple[int, ...]:
    """Return the target of one image as a tuple of indices, () for None."""
    if target is None:
        return ()
    given = target if isinstance(target, tuple) else (target,)
    try:
        indices = tuple(map(operator.index, given))
    except TypeError:
        raise TypeError(
            f"target must be None, an int, a tuple of int, or one of these for each image, not {target!r}"
        ) from None
    if indices and max(map(abs, indices)) > sys.maxsize:
        raise IndexError(f"target {target!r} is out of range")
    return indices


def targets_of(target: Any, images: int) -> list[tuple[int, ...]]:
    """Return one target for each image."""
    if isinstance(target, torch.Tensor | np.ndarray) and target.ndim > 0:
        if target.ndim > 1:
            raise ValueError(f"a target tensor must have no or one axis, not shape {tuple(target.shape)}")
        target = list(target) if len(target) != 1 else target[0]
    if not isinstance(target, list):
        return [one_target(target)] * images
    return list(map(one_target, one_for_each_image(target, "target", images)))


def outputs_of(target: Any, per_target: bool, images: int) -> tuple[str | list[tuple[int, ...]] | None, Any]:
    """Return what is explained beside one output of each image, and the target of each image.

    The first is ``"all"``, a list of outputs (where `per_target` says that a list means that), or None for one output.
    """
    every = isinstance(target, str)
    if every and target != "all":
        raise ValueError(f"target must be an index, or 'all', not {target!r}")
    if per_target and not every and not (isinstance(target, list) and target):
        raise TypeError(f"with per_target, target must be 'all' or a list of indices, not {target!r}")
    if every or per_target:
        return "all" if every else list(map(one_target, target)), [()] * images
    return None, targets_of(target, images)


# ---------------------------------------------------------------- baselines


def validate_and_transform_baseline(baseline: Baseline, hsi: HSI) -> torch.Tensor:
    """Return a baseline as a tensor of the image's shape.

    Parameters
    ----------
    baseline : None, int, float, "mean", torch.Tensor or numpy.ndarray
        None is 0; a number (of Python or NumPy, or a tensor or array without axes) stands for an image full of it; a
        tensor or array with one axis has one value for each band; with three it is an image itself. ``"mean"`` is the
        mean spectrum of the image over the pixels where its mask is True and that are finite.
    hsi : HSI
        The image it belongs to.

    Returns
    -------
    torch.Tensor
        Of the image's shape, on its device. Numbers and spectra are expanded, not stored.

    Raises
    ------
    TypeError
        For a baseline of another type.
    ShapeMismatchError
        For a tensor of another shape.
    ValueError
        For values that are not finite, or too large for the dtype of the results.

    Examples
    --------
    >>> validate_and_transform_baseline("mean", hsi).shape == hsi.image.shape
    True
    """
    value = checked_baseline(baseline, hsi)
    if isinstance(value, torch.Tensor):
        return value.to(hsi.image.device)
    return torch.full((), value, dtype=floating_dtype(hsi.image), device=hsi.image.device).expand(hsi.image.shape)


def baselines_of(baseline: Any, images: list[HSI]) -> list[float | torch.Tensor]:
    """Return one baseline for each image, as the core takes them."""
    given = baseline if isinstance(baseline, list) else [baseline] * len(images)
    name = "baseline, a list (a spectrum is a tensor or array),"
    return list(map(checked_baseline, one_for_each_image(given, name, len(images)), images))


def checked_baseline(baseline: Any, hsi: HSI) -> float | torch.Tensor:
    """Return a baseline as the core takes it: a number, or a tensor of the image's shape."""
    if baseline is None:
        return 0.0
    if isinstance(baseline, str) and baseline == "mean":
        return expand_spectral_mask(hsi, _mean_spectrum(hsi), repeat_dimensions=True)
    values = _baseline_values(baseline)
    shape = hsi.image.shape
    bands = shape[hsi.spectral_axis]
    if values.shape not in ((), (bands,), shape):
        raise ShapeMismatchError(
            f"baseline must be one value, one for each of the {bands} bands, or have the shape of its image, "
            f"{tuple(shape)}, not {tuple(values.shape)}"
        )
    _check_finite(values, hsi)
    if values.ndim == 0:
        return float(values)
    return expand_spectral_mask(hsi, values, repeat_dimensions=True) if values.ndim == 1 else values


def _baseline_values(baseline: Any) -> torch.Tensor:
    """Return the values of a baseline, with the axes that it has."""
    if isinstance(baseline, NUMBER):
        try:
            return torch.tensor(float(baseline), dtype=torch.float64)
        except OverflowError:
            raise ValueError("baseline is an int too large for a float") from None
    if isinstance(baseline, np.ndarray) and not isinstance(baseline, np.ma.MaskedArray):
        try:
            baseline = tensor_from_array(baseline)
        except TypeError as error:
            raise TypeError(f"baseline must be made of real numbers, not {baseline.dtype}") from error
    if not isinstance(baseline, torch.Tensor):
        raise TypeError(
            "baseline must be None, a number, 'mean', or a tensor or array of one value for each band or of the "
            f"image's shape, not {f'the str {baseline!r}' if isinstance(baseline, str) else type(baseline).__name__}"
        )
    if baseline.is_complex():
        raise TypeError(f"baseline must be made of real numbers, not {baseline.dtype}")
    if baseline.layout is not torch.strided or baseline.is_meta:
        kind = "one without values (device meta)" if baseline.is_meta else f"a {baseline.layout} one"
        raise TypeError(f"baseline must be a dense tensor, not {kind}")
    return baseline.detach()


def _check_finite(values: torch.Tensor, hsi: HSI) -> None:
    """Raise an error that says where, if values of a baseline are not finite in the dtype of the image's results."""
    if not values.is_floating_point():
        return
    dtype = floating_dtype(hsi.image)
    limit = torch.finfo(dtype).max
    low, high = torch.aminmax(values)
    if -limit <= low and high <= limit:  # neither holds for NaN
        return
    wrong = ~(values.abs() <= limit)
    names = {0: [], 1: ["band"], 3: [_AXES[letter] for letter in hsi.orientation]}[values.ndim]
    first = tuple(wrong.nonzero()[0].tolist())
    where = ", ".join(f"{name} {index}" for name, index in zip(names, first, strict=True))
    more = int(wrong.sum()) - 1
    others = f" and {more} more" if more else ""
    raise ValueError(
        f"baseline must be finite in {str(dtype).removeprefix('torch.')}, not {float(values[first])}"
        f"{f' at {where}' if where else ''}{others}"
    )


def _mean_spectrum(hsi: HSI) -> torch.Tensor:
    """Return the mean of each band over its finite values where the mask is True; 0 for a band without any."""
    image = hsi.image.detach()
    image = image.to(floating_dtype(image))
    valid = hsi.binary_mask & image.isfinite()
    pixels = tuple({0, 1, 2} - {hsi.spectral_axis})
    count = valid.sum(pixels)
    if not count.any():
        raise ValueError("baseline is 'mean', but the image has no valid pixel: none is inside the mask and finite")
    return torch.where(valid, image, 0).sum(pixels, dtype=torch.float64) / count.clamp(min=1)
