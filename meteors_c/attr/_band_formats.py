"""How superbands are written down: by names, wavelengths or indices, and the checks of each.

A *label* is the name of a superband, or a tuple of names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

__all__ = [
    "Label",
    "adjust_and_validate_segment_ranges",
    "validate_band_format",
    "validate_band_names",
    "validate_segment_format",
]

Label = str | tuple[str, ...]

_SHAPES = "a value, a list of values, a tuple (low, high) or a list of such tuples"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))


def _is_label(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, tuple) and all(isinstance(name, str) for name in value))


def validate_band_names(band_names: list[str | list[str]] | dict[Label, int]) -> None:
    """Check names of superbands.

    Parameters
    ----------
    band_names : list or dict
        Strings and lists of strings, or ids by string or tuple of strings.

    Raises
    ------
    TypeError
        Anything else.

    Examples
    --------
    >>> validate_band_names(["R", ["G", "B"]])
    """
    if isinstance(band_names, dict):
        if not all(map(_is_label, band_names)):
            raise TypeError("band_names must have strings or tuples of strings as keys where it is a dict")
        wrong = [value for value in band_names.values() if not isinstance(value, int | np.integer)]
        if wrong:
            raise TypeError(f"band_names must have ids, ints, as values where it is a dict, not {wrong[0]!r}")
    elif isinstance(band_names, list):
        for item in band_names:
            names = item if isinstance(item, list) else [item]
            if not all(isinstance(name, str) for name in names):
                raise TypeError(f"band_names must hold strings and lists of strings where it is a list, not {item!r}")
    else:
        raise TypeError(f"band_names must be a list or a dict, not {type(band_names).__name__}")


def validate_band_format(bands: dict[Label, Any], variable_name: str) -> None:
    """Check superbands given by wavelengths or indices.

    Parameters
    ----------
    bands : dict
        By label: a value, a list of values, a tuple ``(low, high)`` or a list of such tuples.
    variable_name : str
        What the dict is called, for the message.

    Raises
    ------
    TypeError
        Anything else.

    Examples
    --------
    >>> validate_band_format({"red": (620.0, 690.0), "edges": [705.0, 740.0]}, "band_wavelengths")
    """
    if not isinstance(bands, dict):
        raise TypeError(f"{variable_name} must be a dictionary of labels, not {type(bands).__name__}")
    for label, value in bands.items():
        if not _is_label(label):
            raise TypeError(f"{variable_name} keys should be string or tuple of strings, not {label!r}")
        is_list = isinstance(value, list) and (all(map(_is_number, value)) or all(map(_is_pair, value)))
        if not (_is_number(value) or _is_pair(value) or is_list):
            raise TypeError(f"{variable_name} must have {_SHAPES} for each label, not {value!r}")


def validate_segment_format(segment: Any, dtype: type[Any] = int) -> list[tuple[Any, Any]]:
    """Check ranges, and give them as a list.

    Parameters
    ----------
    segment : tuple or list of tuple
        One ``(start, end)`` or several.
    dtype : type, default int
        What start and end must be instances of.

    Returns
    -------
    list of tuple

    Raises
    ------
    ValueError
        Anything else, or a start that is not below its end.

    Examples
    --------
    >>> validate_segment_format((2, 5))
    [(2, 5)]
    """
    ranges = [segment] if isinstance(segment, tuple) else segment
    if not isinstance(ranges, list) or not all(
        isinstance(item, tuple)
        and len(item) == 2
        and isinstance(item[0], dtype)
        and isinstance(item[1], dtype)
        and item[0] < item[1]
        for item in ranges
    ):
        raise ValueError(
            f"a range must be a tuple (start, end) of {dtype.__name__} with start < end, or a list of such tuples, "
            f"not {segment!r}"
        )
    return ranges


def adjust_and_validate_segment_ranges(
    wavelengths: torch.Tensor, segment_ranges: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Cut ranges of indices to those of an image.

    Parameters
    ----------
    wavelengths : torch.Tensor
        Those of the image, ``(bands,)``.
    segment_ranges : list of tuple of int
        Half-open ranges of indices.

    Returns
    -------
    list of tuple of int
        The parts between 0 and the number of bands.

    Raises
    ------
    ValueError
        A range lies wholly outside.

    Examples
    --------
    >>> adjust_and_validate_segment_ranges(torch.tensor([450.0, 550.0, 650.0]), [(1, 7)])
    [(1, 3)]
    """
    bands = len(wavelengths)
    for start, end in segment_ranges:
        if start >= bands or end <= 0:
            raise ValueError(f"the range {(start, end)} is out of bounds: the image has the bands 0 to {bands - 1}")
    return [(max(start, 0), min(end, bands)) for start, end in segment_ranges]
