"""Small helpers on dtypes, masks and shapes that the rest of the package and its users share."""

from __future__ import annotations

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
    soft_labels: bool = False, classes_numb: int = 0, class_axis: int = 1
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make a function that sums a segmentation up as one number per class.

    Parameters
    ----------
    soft_labels : bool, default False
        Whether the model gives a score per class and pixel (True) or the label of each pixel (False).
    classes_numb : int, default 0
        Number of classes; needed for labels, not used for scores.
    class_axis : int, default 1
        The axis of the classes in the scores; not used for labels.

    Returns
    -------
    callable
        From model output to ``(batch, classes)``. For scores: per class, the sum of its score over the pixels where it
        is the largest. For labels, ``(batch, ...)``: per class, the number of pixels with that label, in the dtype of
        the labels (int64 where an integer dtype could not count all pixels of an image). Counts stay connected to
        labels that require grad, with gradients of zero: no useful ones exist.

    Raises
    ------
    ValueError
        By the returned function: labels that are not whole numbers from 0 to ``classes_numb - 1``, or an output with
        too few axes.

    Examples
    --------
    >>> count = agg_segmentation_postprocessing(classes_numb=3)
    >>> count(torch.tensor([[[0, 1], [1, 1]]]))
    tensor([[1, 3, 0]])
    """

    def sum_scores(output: torch.Tensor) -> torch.Tensor:
        if output.ndim < 2:
            raise ValueError(
                "Soft labels must have an axis for the batch and one for the classes, "
                f"but the output has shape {tuple(output.shape)}"
            )
        scores = output.movedim(class_axis, 1)
        winner = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, scores.argmax(1, keepdim=True), True)
        return scores.where(winner, 0).flatten(2).sum(2) if scores.ndim > 2 else scores.where(winner, 0)

    def count_labels(output: torch.Tensor) -> torch.Tensor:
        if output.ndim < 2:
            raise ValueError(f"Hard labels must have shape (batch, ...), but the output has {tuple(output.shape)}")
        flat = output.detach().flatten(1)
        index = flat.to(torch.int64)
        wrong = (index != flat) | (index < 0) | (index >= classes_numb)
        if wrong.any():
            raise ValueError(
                f"Hard labels must be whole numbers, at least 0 and below classes_numb={classes_numb}, "
                f"but {flat[wrong][0].item()} came"
            )
        images, pixels = flat.shape
        offset = torch.arange(images, device=index.device)[:, None] * classes_numb
        counts = torch.bincount((index + offset).flatten(), minlength=images * classes_numb).view(images, classes_numb)
        if not output.is_floating_point():
            fits = output.dtype is not torch.bool and pixels <= torch.iinfo(output.dtype).max
            return counts.to(output.dtype) if fits else counts
        # The product with 0 comes before the sum, which could overflow.
        return counts.to(output.dtype) + (output * 0).flatten(1).sum(1, keepdim=True)

    return sum_scores if soft_labels else count_labels


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
