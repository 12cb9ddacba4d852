"""Arguments that a model takes after its input: passed as they are, or one for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from meteors_c.utils import tensor_from_array

__all__ = ["AsIs", "ExtraArgument", "PerImage", "resolve_extras", "rows_of"]

# attempt(image, n, values): the outputs for n copies of an image with these arguments, or None where the model fails
Attempt = Callable[[int, int, list[Any]], torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class AsIs:
    """An argument after the model's input that is passed as it is, whatever its size.

    Parameters
    ----------
    value : Any
        What the model gets, in every call.

    Examples
    --------
    Weights of three classes, for a call with three images:

    >>> weighted = ExplainableModel(lambda x, weights: network(x)[:, :3] * weights, "regression")
    >>> weights = attr.AsIs(torch.tensor([1.0, 10.0, 100.0]))
    >>> three = attr.Saliency(weighted).attribute([hsi, other, hsi], target=1, additional_forward_args=weights)
    """

    value: Any


@dataclass(frozen=True, eq=False)
class PerImage:
    """An argument after the model's input that has one value for each image of the call.

    Parameters
    ----------
    values : torch.Tensor, numpy.ndarray, list or tuple
        As many entries as there are images along the first axis. The model gets a tensor (an array, where it takes
        arrays) whose first axis is that of the batch: the entry of an image is repeated with its samples.

    Examples
    --------
    The angle of the sun for each of two images, beside a number that is the same for both:

    >>> lit = ExplainableModel(lambda x, sun, offset: network(x) * torch.cos(sun)[:, None] + offset, "regression")
    >>> sun = attr.PerImage(torch.tensor([0.5, 0.8]))
    >>> two = attr.Saliency(lit).attribute([hsi, other], target=0, additional_forward_args=(sun, 0.5))
    """

    values: Any


@dataclass(frozen=True)
class ExtraArgument:
    """An argument after the input as models are called with it: a value, and whether its rows belong to images."""

    value: Any
    per_image: bool = False


def rows_of(extras: Sequence[ExtraArgument], images: np.ndarray | torch.Tensor) -> list[Any]:
    """Return what a model gets after samples that belong to these images."""
    return [_rows(extra.value, images) if extra.per_image else extra.value for extra in extras]


def _rows(values: Any, images: np.ndarray | torch.Tensor) -> Any:
    if isinstance(values, torch.Tensor):
        return values[torch.as_tensor(images, device=values.device)]
    return values[np.asarray(images)]


def resolve_extras(
    given: Any, images: int, takes_arrays: bool, attempt: Attempt, max_batch_size: int | None
) -> list[ExtraArgument]:
    """Decide of each argument after the input whether it goes as it is or has one value for each image.

    Wrapped arguments say so. Of the others, only a tensor (for models on arrays, an array too) whose first size is
    the number of images leaves a doubt, and then the model is tried, without gradients:

    - *several images*: one value for each image is meant, unless the model takes the whole tensor next to a single
      sample, returns outputs for that sample alone, and these differ from its outputs with the image's own value;
    - *one image*: the tensor goes as it is, unless the model fails with it next to two samples and does not where it
      is repeated.

    Parameters
    ----------
    given : Any
        None, one argument, or a tuple of them.
    images : int
        Number of images.
    takes_arrays : bool
        Whether the model takes arrays.
    attempt : callable
        ``attempt(image, n, values)``: the model's outputs for n copies of an image with these arguments, as a tensor,
        or None where it fails. The same arguments give the same outputs.
    max_batch_size : int, optional
        The largest number of samples that the model may see at once.

    Returns
    -------
    list of ExtraArgument
        In the order of the arguments.

    Raises
    ------
    TypeError, ValueError
        If the values of a `PerImage` are no tensor, or are not as many as the images.
    ValueError
        If it can't be told which of the two is meant.
    """
    arguments = () if given is None else given if isinstance(given, tuple) else (given,)
    kinds = (torch.Tensor, np.ndarray) if takes_arrays else (torch.Tensor,)
    extras: list[ExtraArgument] = []
    doubtful: list[int] = []
    for position, argument in enumerate(arguments):
        if isinstance(argument, PerImage):
            extras.append(ExtraArgument(_entries(argument, position, images, takes_arrays), True))
            continue
        extras.append(ExtraArgument(argument.value if isinstance(argument, AsIs) else argument))
        if isinstance(argument, kinds) and argument.ndim > 0 and len(argument) == images:
            doubtful.append(position)
    if doubtful and images > 1:
        guess = _per_image_at(doubtful, extras)  # while one is tried, the others have one value for each image
        return _per_image_at([p for p in doubtful if _is_per_image(guess, p, images, attempt)], extras)
    if doubtful and (max_batch_size is None or max_batch_size > 1):
        return _of_one_image(extras, doubtful, attempt)
    return extras


def _per_image_at(positions: Sequence[int], extras: Sequence[ExtraArgument]) -> list[ExtraArgument]:
    """Return the arguments, those at these positions (and those that had it before) with one value for each image."""
    return [ExtraArgument(extra.value, extra.per_image or i in positions) for i, extra in enumerate(extras)]


def _entries(argument: PerImage, position: int, images: int, takes_arrays: bool) -> Any:
    """Return the values of a `PerImage` as a tensor, or array, with one row for each image."""
    name, values = f"additional_forward_args[{position}]", argument.values
    try:
        if isinstance(values, list | tuple) and values and isinstance(values[0], torch.Tensor):
            values = torch.stack(list(values))
        elif not isinstance(values, torch.Tensor | np.ndarray):
            values = np.asarray(values) if takes_arrays else torch.as_tensor(values)
        elif isinstance(values, np.ndarray) and not takes_arrays:
            values = tensor_from_array(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name}: the values of PerImage must be a tensor, an array, or a list of numbers or of tensors of one "
            f"shape ({error})"
        ) from error
    if values.ndim == 0 or len(values) != images:
        came = f"{len(values)} values" if values.ndim else "one value without an axis"
        raise ValueError(f"{name}: PerImage has {came}, but the call has {images} image{'s' * (images != 1)}")
    return values


# ---------------------------------------------------------------- doubtful arguments


def _is_per_image(extras: Sequence[ExtraArgument], position: int, images: int, attempt: Attempt) -> bool:
    """Tell whether a tensor with as many entries as there are images has one for each image."""
    whole = extras[position].value

    def outputs(image: int, value: Any) -> torch.Tensor | None:
        values = rows_of(extras, np.array([image]))
        values[position] = value
        return attempt(image, 1, values)

    # A model that takes one value for each sample usually broadcasts its sample to the entries. Two entries show that,
    # in less memory than all of them.
    with_two = outputs(0, whole[:2])
    if with_two is not None and not _is_for(with_two, 1):
        return True
    for image in range(images):
        # The image's own entry comes first: a model may read only as many entries as it is given samples.
        rolled = torch.roll(whole, -image, 0) if isinstance(whole, torch.Tensor) else np.roll(whole, -image, 0)
        with_all = outputs(image, rolled)
        if with_all is None or not _is_for(with_all, 1):
            return True
        with_own = outputs(image, whole[image : image + 1])
        if with_own is not None and _agree(with_all, with_own):
            continue
        if with_all.ndim == 0:
            raise ValueError(
                f"additional_forward_args[{position}] of shape {tuple(whole.shape)} could mean one value for each of "
                f"the {images} images, or one argument for all of them, and the model, which gives one number for a "
                "whole batch, does not tell: wrap it in attr.PerImage(...) or attr.AsIs(...)"
            )
        return False
    return True


def _of_one_image(extras: Sequence[ExtraArgument], doubtful: Sequence[int], attempt: Attempt) -> list[ExtraArgument]:
    """Return the arguments of one image as they are, or repeat those without which two samples fail."""
    for repeated in [[], doubtful, *([position] for position in doubtful if len(doubtful) > 1)]:
        tried = _per_image_at(repeated, extras)
        outputs = attempt(0, 2, rows_of(tried, np.zeros(2, dtype=np.int64)))
        if outputs is not None and _is_for(outputs, 2):
            return tried
    return list(extras)


def _is_for(outputs: torch.Tensor, samples: int) -> bool:
    """Tell whether outputs belong to so many samples."""
    return samples == 1 if outputs.ndim == 0 else len(outputs) == samples


def _agree(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether outputs are the same but for rounding."""
    if one.shape != other.shape:
        return False
    rounding = 64 * torch.finfo(one.dtype).eps if one.is_floating_point() else 0.0
    return torch.allclose(one, other.to(one.dtype), rtol=rounding, atol=0, equal_nan=True)
