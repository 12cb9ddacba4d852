"""Small helpers on dtypes, masks and shapes that the rest of the package and its users share."""

from __future__ import annotations

import operator
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from meteors_c.exceptions import BroadcastError, ShapeMismatchError

if TYPE_CHECKING:
    from meteors_c.hsi import HSI

__all__ = [
    "adjust_shape",
    "agg_segmentation_postprocessing",
    "aggregate_by_mask",
    "change_dtype_of_list",
    "expand_spectral_mask",
    "torch_dtype_to_python_dtype",
]

T = TypeVar("T")

_INTEGER_DTYPES = frozenset(
    (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)
)


def floating_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Give the dtype of results that belong to ``tensor``: float64 where that is its own, else float32.

    Attributions and their sums leave the range of half precision easily, and the core computes none.
    """
    return torch.float64 if tensor.dtype is torch.float64 else torch.float32


def warn_caller(message: str) -> None:
    """Issue a ``UserWarning`` that points at the line outside this package from which it was called."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


def torch_dtype_to_python_dtype(dtype: torch.dtype) -> type:
    """Give the Python type that holds one value of a torch dtype.

    Parameters
    ----------
    dtype : torch.dtype
        Any floating-point, integer or bool dtype, or ``torch.complex128``, which counts as floating point.

    Returns
    -------
    type
        ``float``, ``int`` or ``bool``.

    Raises
    ------
    TypeError
        ``dtype`` is no torch dtype, or one without a Python counterpart.

    Examples
    --------
    >>> torch_dtype_to_python_dtype(torch.int16)
    <class 'int'>
    """
    if isinstance(dtype, torch.dtype):
        if dtype is torch.bool:
            return bool
        if dtype.is_floating_point or dtype is torch.complex128:
            return float
        if dtype in _INTEGER_DTYPES:
            return int
    raise TypeError(f"Can't convert PyTorch dtype {dtype} to Python data type")


def change_dtype_of_list(original_list: Any, dtype: Callable[[Any], T]) -> list[T]:
    """Convert every element of a sequence.

    Parameters
    ----------
    original_list : sequence or scalar
        What to convert. A scalar or a string counts as a sequence of one.
    dtype : callable
        The conversion of one element, such as ``float``.

    Returns
    -------
    list
        The converted elements.

    Examples
    --------
    >>> change_dtype_of_list(["450", 500], float)
    [450.0, 500.0]
    """
    is_sequence = isinstance(original_list, Iterable) and not isinstance(original_list, (str, bytes))
    if is_sequence and getattr(original_list, "ndim", 1) > 0:
        return [dtype(value) for value in original_list]
    return [dtype(original_list)]


def expand_spectral_mask(hsi: HSI, spectral_mask_single_dim: torch.Tensor, repeat_dimensions: bool) -> torch.Tensor:
    """Add the axes that a mask over bands lacks to line up with an image.

    Parameters
    ----------
    hsi : HSI
        The image, in any orientation.
    spectral_mask_single_dim : torch.Tensor
        The mask: 1-D over bands; 2-D, where the missing axis is put last if the spectral axis of the image is 0 or 1
        and first if it is 2; or 3-D, which is left alone.
    repeat_dimensions : bool
        Whether to expand the mask to the shape of the image (a view, no copy).

    Returns
    -------
    torch.Tensor
        The mask with three axes, of size 1 where it does not vary unless ``repeat_dimensions``.

    Raises
    ------
    ShapeMismatchError
        The mask has no axis or more than three, or can't be expanded to the image.

    Examples
    --------
    >>> from meteors_c import HSI
    >>> hsi = HSI(image=torch.ones(4, 5, 3), wavelengths=[450.0, 550.0, 650.0], orientation="HWC")
    >>> expand_spectral_mask(hsi, torch.tensor([1, 1, 2]), repeat_dimensions=False).shape
    torch.Size([1, 1, 3])
    """
    mask, axis = spectral_mask_single_dim, hsi.spectral_axis
    if mask.ndim == 1:
        mask = mask.reshape([-1 if a == axis else 1 for a in range(3)])
    elif mask.ndim == 2:
        mask = mask.unsqueeze(0 if axis == 2 else -1)
    elif mask.ndim != 3:
        raise BroadcastError(f"The spectral mask must have 1, 2 or 3 axes, but its shape is {tuple(mask.shape)}")
    return broadcast_to(mask, hsi.image.shape, "spectral mask", "image") if repeat_dimensions else mask


def broadcast_to(tensor: torch.Tensor, shape: torch.Size, name: str, to: str) -> torch.Tensor:
    """Expand ``tensor`` (called ``name``) to the shape of ``to``, or raise a `BroadcastError` with both shapes."""
    try:
        return tensor.expand(shape)
    except RuntimeError as error:
        raise BroadcastError(
            f"The {name} of shape {tuple(tensor.shape)} can't be broadcast to the {to} of shape {tuple(shape)}"
        ) from error


def adjust_shape(target: torch.Tensor, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring two tensors to one shape, that of ``target`` where possible.

    ``source`` gets leading axes, or loses axes of size 1 (leading ones first), until it has as many axes as ``target``,
    and is then expanded to it. Where that fails, ``target`` is expanded to ``source`` with a warning.

    Parameters
    ----------
    target : torch.Tensor
        The tensor whose shape is wanted.
    source : torch.Tensor
        The tensor to adjust.

    Returns
    -------
    tuple of torch.Tensor
        ``target`` and ``source``, views of one common shape.

    Raises
    ------
    BroadcastError
        Neither can be expanded to the other.

    Examples
    --------
    >>> target, source = adjust_shape(torch.zeros(3, 4, 5), torch.ones(4, 5))
    >>> source.shape
    torch.Size([3, 4, 5])
    """
    while source.ndim > target.ndim and source.shape[0] == 1:
        source = source.squeeze(0)
    if source.ndim > target.ndim:
        source = source.squeeze()
    try:
        return target, source.expand(target.shape)
    except RuntimeError:
        warn_caller(
            f"The source of shape {tuple(source.shape)} can't be broadcast to the target of shape "
            f"{tuple(target.shape)}: broadcasting the target to the source instead"
        )
        return broadcast_to(target, source.shape, "target", "source"), source


def aggregate_by_mask(
    data: torch.Tensor, mask: torch.Tensor, agg_func: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Replace the values of every segment by one value computed from them.

    Parameters
    ----------
    data : torch.Tensor
        The values.
    mask : torch.Tensor
        The id of the segment of each value, of any dtype; same shape as ``data``.
    agg_func : callable
        Takes the 1-D values of a segment and returns one value (or as many as it was given).

    Returns
    -------
    torch.Tensor
        A new tensor with the shape and dtype of ``data``.

    Raises
    ------
    ShapeMismatchError
        The shapes differ.

    Examples
    --------
    >>> aggregate_by_mask(torch.tensor([1.0, 3.0, 8.0]), torch.tensor([0, 0, 1]), torch.mean)
    tensor([2., 2., 8.])
    """
    if data.shape != mask.shape:
        raise ShapeMismatchError(
            "Can't aggregate by mask: the shapes of data and mask must match, "
            f"but data has {tuple(data.shape)} and mask {tuple(mask.shape)}"
        )
    if data.numel() == 0:
        return data.clone()
    # Sorting by id puts each segment in one piece: the cost hardly grows with the number of segments.
    ids, order = torch.sort(mask.to(data.device).flatten(), stable=True)
    counts = torch.unique_consecutive(ids, return_counts=True)[1].tolist()
    aggregated = [
        torch.as_tensor(agg_func(segment), dtype=data.dtype, device=data.device).expand(segment.shape)
        for segment in torch.split(data.flatten()[order], counts)
    ]
    return data.new_zeros(data.numel()).scatter(0, order, torch.cat(aggregated)).reshape(data.shape)


def agg_segmentation_postprocessing(
    soft_labels: bool = False,
    classes_numb: int = 0,
    class_axis: int = 1,
    *,
    ignore_index: int | Iterable[int] | None = None,
    region: torch.Tensor | np.ndarray | None = None,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make a function that sums a segmentation up as one number per class.

    Parameters
    ----------
    soft_labels : bool, default False
        Whether the model gives a score per class and pixel (True) or the label of each pixel (False).
    classes_numb : int, default 0
        Number of classes, which is how many numbers come out whatever labels occur; needed for labels, not used for
        scores.
    class_axis : int, default 1
        The axis of the classes in the scores; not used for labels.
    ignore_index : int or iterable of int, optional
        Labels that count for no class, such as 255 for pixels without one; for labels only.
    region : torch.Tensor or numpy.ndarray, optional
        The region of interest, bool, with the shape of the last two axes of the output (those of the pixels, without
        the one of the classes). Only its pixels count, and nothing outside it is checked. It follows the output to
        its device.

    Returns
    -------
    callable
        From model output to ``(batch, classes)``. For scores: per class, the sum of its score over the pixels where it
        is the largest; its gradient is that of these scores. For labels, ``(batch, ...)``: per class, the number of
        pixels with that label, in the dtype of the labels (a wider one of its kind where it could not count all pixels
        of an image exactly). Counts stay connected to labels that require grad, with gradients of zero: no useful ones
        exist.

    Raises
    ------
    TypeError
        ``soft_labels`` is no bool, ``classes_numb`` or ``ignore_index`` no int, or ``region`` no bool tensor or array.
    ValueError
        ``classes_numb`` is negative, ``region`` has no pixel or not two axes, or ``ignore_index`` comes with scores.
        By the returned function: ``classes_numb`` is 0, labels that are neither whole numbers from 0 to
        ``classes_numb - 1`` nor ignored, or an output with too few axes.
    ShapeMismatchError
        By the returned function: ``region`` has another shape than the pixels of the output.

    Examples
    --------
    >>> count = agg_segmentation_postprocessing(classes_numb=3)
    >>> count(torch.tensor([[[0, 1], [1, 1]]]))
    tensor([[1, 3, 0]])

    Leave out pixels without a label, and all but the upper row:

    >>> upper = torch.tensor([[True, True], [False, False]])
    >>> count = agg_segmentation_postprocessing(classes_numb=3, ignore_index=255, region=upper)
    >>> count(torch.tensor([[[255, 1], [1, 1]]]))
    tensor([[0, 1, 0]])
    """
    if not isinstance(soft_labels, bool | np.bool_):
        raise TypeError(f"soft_labels must be a bool, not {soft_labels!r}")
    classes = _whole_number(classes_numb, "classes_numb")
    if classes < 0:
        raise ValueError(f"classes_numb must be the positive number of classes, not {classes}")
    ignored = _labels(ignore_index)
    if soft_labels and ignored:
        raise ValueError("ignore_index is for labels, but soft_labels is True: leave pixels out by region")
    inside = None if region is None else _region(region)

    def sum_scores(output: torch.Tensor) -> torch.Tensor:
        return _sum_scores(output, class_axis, inside)

    def count_labels(output: torch.Tensor) -> torch.Tensor:
        return _count_labels(output, classes, ignored, inside)

    return sum_scores if soft_labels else count_labels


def _whole_number(value: Any, name: str) -> int:
    """Return an int, of Python or NumPy, but no bool."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an int, not {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {value!r}") from None


def _labels(ignore_index: Any) -> list[int]:
    """Return the labels to ignore: none, one, or all of an iterable."""
    if ignore_index is None:
        return []
    several = isinstance(ignore_index, Iterable) and getattr(ignore_index, "ndim", 1) > 0
    return [_whole_number(label, "ignore_index") for label in (ignore_index if several else [ignore_index])]


def _region(region: Any) -> torch.Tensor:
    """Return a region of interest as a bool tensor of its own, ``(height, width)``."""
    tensor = torch.from_numpy(np.array(region)) if isinstance(region, np.ndarray) else region
    if not isinstance(tensor, torch.Tensor) or tensor.dtype is not torch.bool:
        kind = getattr(region, "dtype", type(region).__name__)
        raise TypeError(f"region must be a tensor or array of bool, not of {kind}")
    if tensor.ndim != 2:
        raise ValueError(f"region must have the two axes of the pixels, not shape {tuple(tensor.shape)}")
    if not tensor.any():
        raise ValueError("region must have at least one pixel, but it is False everywhere")
    return tensor.detach().clone()


def _inside(region: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Return ``region`` on the device of ``pixels``, ``(batch, ..., height, width)``, whose shape it must have."""
    if pixels.ndim < 3 or pixels.shape[-2:] != region.shape:
        raise ShapeMismatchError(
            f"region has shape {tuple(region.shape)}, but the pixels of the output {tuple(pixels.shape[1:])}"
        )
    return region.to(pixels.device)


def _sum_scores(output: torch.Tensor, class_axis: int, region: torch.Tensor | None) -> torch.Tensor:
    """Sum the scores of each class over the pixels of ``region`` where it is the largest, ``(batch, classes)``."""
    if output.ndim < 2:
        raise ValueError(
            "Soft labels must have an axis for the batch and one for the classes, "
            f"but the output has shape {tuple(output.shape)}"
        )
    scores = output.movedim(class_axis, 1)
    winner = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, scores.argmax(1, keepdim=True), True)
    if region is not None:
        winner &= _inside(region, scores[:, 0])
    won = scores.where(winner, 0)
    return won.flatten(2).sum(2) if won.ndim > 2 else won


def _count_labels(output: torch.Tensor, classes: int, ignored: list[int], region: torch.Tensor | None) -> torch.Tensor:
    """Count the pixels of ``region`` with each label that is not ignored, ``(batch, classes)``."""
    if classes == 0:
        raise ValueError("classes_numb is missing: to count labels, it must be the positive number of classes")
    if output.ndim < 2:
        raise ValueError(f"Hard labels must have shape (batch, ...), but the output has {tuple(output.shape)}")
    flat = output.detach().flatten(1)
    label = flat.to(torch.int64)
    counted = torch.ones_like(label, dtype=torch.bool)
    whole = label == flat if flat.is_floating_point() else counted
    if region is not None:
        counted = _inside(region, output).expand(output.shape).flatten(1)
    if ignored:
        counted = counted & ~(whole & torch.isin(label, torch.tensor(ignored, device=label.device)))
    wrong = counted & ~(whole & (label >= 0) & (label < classes))
    if wrong.any():
        raise ValueError(
            f"Hard labels must be whole numbers, at least 0 and below classes_numb={classes}, "
            f"but {flat[wrong][0].item()} came; scores of classes need soft_labels=True"
        )
    images, pixels = flat.shape
    # Pixels that do not count go to a bin of their own behind those of the classes.
    bins = classes + 1
    place = label.where(counted, classes) + torch.arange(images, device=label.device)[:, None] * bins
    counts = torch.bincount(place.flatten(), minlength=images * bins).view(images, bins)[:, :classes]
    counts = counts.to(_dtype_of_counts(output.dtype, pixels))
    return counts + _connected_zero(output) if output.is_floating_point() else counts


def _dtype_of_counts(dtype: torch.dtype, largest: int) -> torch.dtype:
    """Return the dtype of labels if it holds every count up to ``largest`` exactly, else a wider one of its kind."""
    if dtype.is_floating_point:
        exact = (one for one in (dtype, torch.float32) if largest <= 2 / torch.finfo(one).eps)
        return next(exact, torch.float64)
    fits = dtype is not torch.bool and largest <= torch.iinfo(dtype).max
    return dtype if fits else torch.int64


def _connected_zero(output: torch.Tensor) -> torch.Tensor:
    """Return a zero for each image that hangs on ``output`` in the graph, ``(batch, 1)``, whatever values it holds."""
    zeros = output.flatten(1) * 0
    return zeros.where(zeros == 0, 0).sum(1, keepdim=True)


def tensor_from_array(value: np.ndarray) -> torch.Tensor:
    """Wrap a NumPy array as a tensor, on the same memory where torch can address it.

    Parameters
    ----------
    value : numpy.ndarray
        Numbers of any layout. Read-only, byte-swapped and backward-running arrays are copied.

    Returns
    -------
    torch.Tensor
        The values, same shape.

    Raises
    ------
    TypeError
        The dtype is not numeric.
    """
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    if not value.flags.writeable or min((*value.strides, 0)) < 0:
        value = value.copy()
    with torch.inference_mode(False):  # a tensor made in inference mode could not be trained with
        return torch.from_numpy(value)
