"""The fields of attribution results: how they are checked, converted and compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from meteors_c.attr._arguments import shape_mismatch
from meteors_c.attr._registry import AVAILABLE_ATTRIBUTION_METHODS
from meteors_c.exceptions import HSIAttributesError, MaskCreationError, ValidationError
from meteors_c.hsi import HSI, resolve_inference_device_hsi
from meteors_c.utils import tensor_from_array, warn_caller

# The tensors of a result that have the shape and orientation of its image; all but the first may be None.
IMAGE_SHAPED = ("attributes", "mask", "standard_error")

_NOT_INCLUDED = "not_included"
BandNames = dict[str | tuple[str, ...], int]


def ensure_torch_tensor(value: np.ndarray | torch.Tensor, context: str) -> torch.Tensor:
    """Give an array or tensor as a tensor, sharing memory where possible.

    Parameters
    ----------
    value : numpy.ndarray or torch.Tensor
        The values.
    context : str
        What the values are, for the message.

    Returns
    -------
    torch.Tensor
        The values with their dtype and shape.

    Raises
    ------
    TypeError
        ``value`` is neither, or an array that holds no numbers.

    Examples
    --------
    >>> ensure_torch_tensor(np.array([1, 2]), "Mask")
    tensor([1, 2])
    """
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        try:
            return tensor_from_array(value)
        except TypeError as error:
            raise TypeError(f"{context} must be made of numbers, not {value.dtype}") from error
    raise TypeError(f"{context} must be a NumPy array or PyTorch tensor, not {type(value).__name__}")


def validate_and_convert_attributes(value: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Give attributions as a tensor; see `ensure_torch_tensor`.

    Examples
    --------
    >>> validate_and_convert_attributes(np.zeros((3, 4, 5))).dtype
    torch.float64
    """
    return ensure_torch_tensor(value, "Attributes")


def validate_and_convert_mask(value: np.ndarray | torch.Tensor | None) -> torch.Tensor | None:
    """Give a mask of superpixels or superbands as a tensor, or None; see `ensure_torch_tensor`.

    Examples
    --------
    >>> validate_and_convert_mask(np.array([1, 2]))
    tensor([1, 2])
    """
    return None if value is None else ensure_torch_tensor(value, "`superpixel` or `superband` mask")


def validate_shapes(attributes: torch.Tensor, hsi: HSI) -> None:
    """Check that attributions (or a mask) have the shape of the image.

    Parameters
    ----------
    attributes : torch.Tensor
        What to check.
    hsi : HSI
        The image.

    Raises
    ------
    ShapeMismatchError
        The shapes differ.

    Examples
    --------
    >>> validate_shapes(torch.zeros(3, 4, 5), hsi)
    Traceback (most recent call last):
        ...
    meteors_c.exceptions.ShapeMismatchError: attributes must have the shape of the image, ...
    """
    check_shape("attributes", attributes, hsi)


def check_shape(name: str, tensor: torch.Tensor, hsi: HSI) -> None:
    """Raise `ShapeMismatchError` unless ``tensor``, called ``name``, has the shape of the image."""
    if tensor.shape != hsi.image.shape:
        raise shape_mismatch(name, "the image", hsi.image.shape, tensor.shape)


def outside_inference_mode(tensor: torch.Tensor) -> torch.Tensor:
    """Give a tensor that can be trained with: a copy of one made in torch's inference mode, any other as it is."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()


def distinct_ids(mask: torch.Tensor) -> list[int]:
    """Return the ids in a mask, sorted; an axis along which it only repeats itself is looked at once."""
    once = mask[tuple(slice(1) if step == 0 else slice(None) for step in mask.stride())]
    return torch.unique(once).tolist()


def align_band_names_with_mask(band_names: BandNames, band_mask: torch.Tensor) -> BandNames:
    """Match the names of superbands with the ids in a mask.

    Parameters
    ----------
    band_names : dict
        Id of each name. Not changed.
    band_mask : torch.Tensor
        Ids of the superbands, of any shape and dtype.

    Returns
    -------
    dict
        The names whose id is in the mask (the others are left out with a warning), and ``"not_included"`` for an id
        without a name.

    Raises
    ------
    MaskCreationError
        More than one id has no name, or ``"not_included"`` is taken.

    Examples
    --------
    >>> align_band_names_with_mask({"red": 1}, torch.tensor([0, 0, 1]))
    {'red': 1, 'not_included': 0}
    """
    mask_ids = set(distinct_ids(band_mask))
    named_ids = set(band_names.values())
    aligned = dict(band_names)

    unnamed = sorted(mask_ids - named_ids)
    if unnamed:
        if _NOT_INCLUDED in band_names:
            raise MaskCreationError(
                f"Band names should not contain '{_NOT_INCLUDED}' while ids in the mask have no name: {unnamed}"
            )
        if len(unnamed) > 1 or unnamed[0] != int(unnamed[0]):
            raise MaskCreationError(
                f"Band names should have all unique values in mask, but these ids have no name: {unnamed}"
            )
        aligned[_NOT_INCLUDED] = int(unnamed[0])

    absent = [name for name, label in band_names.items() if label not in mask_ids]
    if absent:
        warn_caller(f"Dropping the band names whose id is not in the mask: {absent}")
        aligned = {name: label for name, label in aligned.items() if label in mask_ids}
    return aligned


def validate_attribution_method(value: str | None) -> str | None:
    """Bring the name of an attribution method to title case.

    Parameters
    ----------
    value : str or None
        The name; one outside ``AVAILABLE_ATTRIBUTION_METHODS`` warns.

    Returns
    -------
    str or None
        The name in title case.

    Raises
    ------
    ValidationError
        ``value`` is neither a string nor None.

    Examples
    --------
    >>> validate_attribution_method("integrated gradients")
    'Integrated Gradients'
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValidationError(f"attribution_method must be a string or None, not {type(value).__name__}")
    value = value.title()
    if value not in AVAILABLE_ATTRIBUTION_METHODS:
        warn_caller(
            f"Unknown attribution method: {value!r}. The implemented methods are {AVAILABLE_ATTRIBUTION_METHODS}"
        )
    return value


def resolve_inference_device_attributes(device: str | torch.device | None, info: Any) -> torch.device:
    """Find the device of a result.

    Parameters
    ----------
    device : str, torch.device or None
        The device, or None for that of the image.
    info : object
        Has a mapping ``.data``, whose ``"hsi"`` is the image. Read only when ``device`` is None.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    HSIAttributesError
        ``device`` is None and ``info`` has no image.
    DeviceError
        Torch does not know the device.
    TypeError
        ``device`` has another type.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> resolve_inference_device_attributes(None, SimpleNamespace(data={"hsi": hsi}))
    device(type='cpu')
    """
    if device is None:
        if "hsi" not in info.data:
            raise HSIAttributesError("The HSI image is not present in the attributes data")
        return info.data["hsi"].device
    return resolve_inference_device_hsi(device, info)


def validate_score(value: Any) -> float | None:
    """Give a score as a float, or None."""
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValidationError(f"score must be a number or None, not {value!r}") from error


def validate_band_names(value: Any) -> BandNames:
    """Give the ids of superbands by name, with ids as int; a copy."""
    if not isinstance(value, dict):
        raise ValidationError(f"band_names must be a dict of names to ids, not {type(value).__name__}")
    for name, label in value.items():
        if not (isinstance(name, str) or (isinstance(name, tuple) and all(isinstance(part, str) for part in name))):
            raise ValidationError(f"band_names must have strings or tuples of strings as keys, not {name!r}")
        try:
            whole = int(label) == float(label)
        except (TypeError, ValueError, OverflowError):
            whole = False
        if not whole:
            raise ValidationError(f"band_names must have integers as values, but {name!r} has {label!r}")
    return {name: int(label) for name, label in value.items()}


def same(a: Any, b: Any) -> bool:
    """Tell whether two fields hold the same, NaN being the same as NaN."""
    if a is b:
        return True
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        if type(a) is not type(b) or (a.shape, a.dtype, a.device) != (b.shape, b.dtype, b.device):
            return False
        return bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (a != a and b != b)
    return bool(a == b)
