"""Ids in the masks of superpixels and superbands: read as whole numbers, and numbered from 0 on for the core."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from meteors_c.utils import tensor_from_array

__all__ = ["number_ids", "whole_number_ids"]

_INT64 = 2**63


def whole_number_ids(mask: Any, name: str) -> torch.Tensor:
    """Read the ids of a mask, whatever dtype they came in.

    Parameters
    ----------
    mask : torch.Tensor or numpy.ndarray
        Whole numbers of any real dtype and shape, on any device.
    name : str
        What the mask is called, for the messages.

    Returns
    -------
    torch.Tensor
        The ids as int64, on the CPU, same shape; axes along which the mask is expanded stay so where its dtype is
        int64 already.

    Raises
    ------
    TypeError
        Neither a tensor nor an array, or an array without numbers.
    ValueError
        Fractions, NaN, infinity, complex numbers or numbers that int64 does not hold; no values at all.

    Examples
    --------
    >>> whole_number_ids(torch.tensor([1.0, 2.0]), "segmentation_mask")
    tensor([1, 2])
    """
    if isinstance(mask, np.ndarray):
        mask = tensor_from_array(mask)
    if not isinstance(mask, torch.Tensor):
        raise TypeError(f"{name} must be a tensor or an array, not {type(mask).__name__}")
    if mask.layout is not torch.strided or mask.is_meta:
        kind = "one without values (device meta)" if mask.is_meta else f"a {mask.layout} one"
        raise ValueError(f"{name} must be a dense tensor, not {kind}")
    if mask.numel() == 0:
        raise ValueError(f"{name} must hold the id of at least one segment, but its shape is {tuple(mask.shape)}")
    if mask.is_complex():
        raise ValueError(f"{name} must hold whole numbers, the ids of the segments, not {mask.dtype}")
    mask = mask.detach().cpu()
    if mask.is_floating_point():
        _check_whole(mask.double(), name)
    ids = mask.to(torch.int64)
    if mask.dtype is torch.uint64 and (ids < 0).any():
        raise ValueError(f"{name} must hold ids below 2**63, but has {int(ids[ids < 0][0]) + 2**64}")
    return ids


def _check_whole(values: torch.Tensor, name: str) -> None:
    """Raise an error for the first of these doubles that is no whole number of 64 bits."""
    wrong = ~((values == values.round()) & (values >= -_INT64) & (values < _INT64))  # NaN fails each of them
    if wrong.any():
        raise ValueError(
            f"{name} must hold whole numbers, the ids of the segments, but {int(wrong.sum())} of its {wrong.numel()} "
            f"values are not, the first of them {values[wrong][0].item()}"
        )


def number_ids(ids: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Number ids from 0 on in ascending order.

    Parameters
    ----------
    ids : torch.Tensor of int64
        On the CPU, of any shape. Values with a negative id belong to no segment.

    Returns
    -------
    numbered : numpy.ndarray of int32
        The number of the id at each place, -1 where it is negative; same shape. A read-only view that repeats itself
        along the axes along which `ids` is expanded.
    found : numpy.ndarray of int64
        The distinct ids that are not negative, in ascending order: ``found[n]`` is the id of number n. Empty where
        all are negative.

    Examples
    --------
    >>> numbered, found = number_ids(torch.tensor([7, -1, 3, 7]))
    >>> numbered.tolist(), found.tolist()
    ([1, -1, 0, 1], [3, 7])
    """
    once = ids[tuple(slice(0, 1) if step == 0 else slice(None) for step in ids.stride())].numpy()
    largest = int(once.max(initial=-1))
    if largest < 4 * once.size + 1024:  # the usual case: a table of ids is cheaper than sorting all values
        present = np.zeros(largest + 2, dtype=bool)  # its last place stands for negative ids
        present[np.maximum(once, -1)] = True
        found = np.flatnonzero(present[:-1])
        numbers = np.full(len(present), -1, dtype=np.int32)
        numbers[found] = np.arange(len(found), dtype=np.int32)
        numbered = numbers[np.maximum(once, -1)]
    else:
        every, inverse = np.unique(once, return_inverse=True)
        negative = int(np.count_nonzero(every < 0))
        found = every[negative:]
        numbered = np.maximum(inverse.reshape(once.shape) - negative, -1).astype(np.int32)
    return np.broadcast_to(numbered, tuple(ids.shape)), found.astype(np.int64)
