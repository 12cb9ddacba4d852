"""Hyperspectral images: the type :class:`HSI`, and its checks one by one.

The checks are what ``HSI(...)`` does to each of its arguments. ``info`` is any object with a ``.data`` mapping of the
arguments that were checked before, such as ``types.SimpleNamespace(data={"image": image})``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from meteors_c import _core
from meteors_c._core import HSI

__all__ = [
    "HSI",
    "ensure_image_tensor",
    "ensure_wavelengths_tensor",
    "get_channel_axis",
    "process_and_validate_binary_mask",
    "resolve_inference_device_hsi",
    "validate_orientation",
    "validate_shapes",
]


class _Info(Protocol):
    @property
    def data(self) -> Mapping[str, Any]: ...


def get_channel_axis(orientation: tuple[str, str, str] | list[str] | str) -> int:
    """Return the axis of the bands.

    Parameters
    ----------
    orientation : tuple, list or str
        The letters C, H and W in the order of the image's axes.

    Returns
    -------
    int
        0, 1 or 2.

    Raises
    ------
    OrientationError
        The letters are others.

    Examples
    --------
    >>> get_channel_axis("HWC")
    2
    """
    return validate_orientation(orientation).index("C")


def validate_orientation(value: tuple[str, str, str] | list[str] | str) -> tuple[str, str, str]:
    """Return an orientation as a tuple.

    Parameters
    ----------
    value : tuple, list or str
        The letters C, H and W in any order.

    Returns
    -------
    tuple of str
        The letters, one by one.

    Raises
    ------
    OrientationError
        The letters are others.

    Examples
    --------
    >>> validate_orientation("HWC")
    ('H', 'W', 'C')
    """
    return _core._hsi_orientation(value)


def ensure_image_tensor(image: Any) -> torch.Tensor:
    """Return an array as a tensor, on the same memory where that is possible, read-only memory too.

    Parameters
    ----------
    image : torch.Tensor, numpy.ndarray, DLPack or buffer object
        Any number of axes.

    Returns
    -------
    torch.Tensor
        The values, in their dtype.

    Raises
    ------
    TypeError
        Something else, or values that are no real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> ensure_image_tensor(np.zeros((3, 4, 5), dtype=np.float32)).shape
    torch.Size([3, 4, 5])
    """
    return _core._hsi_image(image)


def ensure_wavelengths_tensor(wavelengths: Any) -> torch.Tensor:
    """Return wavelengths as a tensor.

    Parameters
    ----------
    wavelengths : torch.Tensor, numpy.ndarray, list, tuple or range
        Numbers, nm.

    Returns
    -------
    torch.Tensor
        A list of floats gives float32, one of ints int64; arrays keep their dtype.

    Raises
    ------
    TypeError
        Something else, or bools.

    Examples
    --------
    >>> ensure_wavelengths_tensor([450.0, 550.0])
    tensor([450., 550.])
    """
    return _core._hsi_wavelengths(wavelengths)


def validate_shapes(wavelengths: torch.Tensor, image: torch.Tensor, spectral_axis: int) -> None:
    """Check that there is one wavelength for each band.

    Parameters
    ----------
    wavelengths : torch.Tensor
        Shape ``(bands,)``.
    image : torch.Tensor
        Three axes.
    spectral_axis : int
        The axis of the bands.

    Raises
    ------
    ShapeMismatchError
        The numbers differ; both are named.

    Examples
    --------
    >>> validate_shapes(torch.tensor([450.0, 550.0, 650.0]), torch.zeros(3, 4, 5), spectral_axis=0)
    """
    _core._hsi_check_wavelengths(wavelengths, image, spectral_axis)


def resolve_inference_device_hsi(device: str | torch.device | None, info: _Info) -> torch.device:
    """Return a device, by default that of the image.

    Parameters
    ----------
    device : str, torch.device or None
        None: where ``info.data["image"]`` is.
    info : object with ``.data``
        Read only where `device` is None.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    DeviceError
        A string that torch does not know.
    TypeError
        Another type.
    RuntimeError
        No image in `info`.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> resolve_inference_device_hsi("cpu", SimpleNamespace(data={}))
    device(type='cpu')
    """
    if device is not None:
        return _core._hsi_device(device)
    if "image" not in info.data:
        raise RuntimeError("the device is that of the image, but info.data has no 'image'")
    image: torch.Tensor = info.data["image"]
    return image.device


def process_and_validate_binary_mask(mask: Any, info: _Info) -> torch.Tensor:
    """Return a mask as a bool tensor of the image's shape.

    Parameters
    ----------
    mask : torch.Tensor, numpy.ndarray, list, 'artificial' or None
        As for :class:`HSI`.
    info : object with ``.data``
        With the image, its orientation and the device of the mask.

    Returns
    -------
    torch.Tensor
        bool, of the image's shape; a view where the mask is the same along an axis.

    Raises
    ------
    TypeError
        Another type.
    ShapeMismatchError
        The mask can't be expanded to the image (both shapes are named), or can in two ways (both are).
    ValueError
        Another string, or a mask of floats with NaN or infinity.
    RuntimeError
        `info` lacks one of the three.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> info = SimpleNamespace(data={"image": torch.zeros(3, 4, 5), "orientation": "CHW", "device": "cpu"})
    >>> process_and_validate_binary_mask(torch.ones(4, 5), info).shape
    torch.Size([3, 4, 5])
    """
    if mask is not None and not isinstance(mask, str):
        mask = _core._hsi_mask_tensor(mask)
    missing = [name for name in ("image", "orientation", "device") if name not in info.data]
    if missing:
        raise RuntimeError(f"a mask needs the image, its orientation and a device, but info.data has no {missing}")
    return _core._hsi_mask(mask, info.data["image"], info.data["orientation"], info.data["device"])


def _stretched_band(
    band: torch.Tensor, mask: torch.Tensor | None, axis: int, apply_min_cutoff: bool, normalize: bool
) -> torch.Tensor:
    """Extract a band as the core does, for images whose gradients must flow through the result.

    Parameters
    ----------
    band : torch.Tensor
        One band of the image, its spectral `axis` kept with size 1.
    mask : torch.Tensor or None
        The same band of the mask.
    axis : int
    apply_min_cutoff, normalize : bool
        As in :meth:`HSI.extract_band_by_name`.

    Returns
    -------
    torch.Tensor
        The two spatial axes.
    """
    plane = band.select(axis, 0)
    if not normalize:
        return plane.clone() if mask is None else plane.where(mask.select(axis, 0), 0.0)
    wide = plane if plane.dtype == torch.float64 else plane.float()  # max - min may be too large for 16 bits
    valid = wide.isfinite() if mask is None else wide.isfinite() & mask.select(axis, 0)
    wide = wide.where(valid, 0.0)
    counted = wide[valid & (wide != 0)] if apply_min_cutoff else wide[valid]
    if counted.numel():
        low, high = counted.min(), wide[valid].max()
        if high > low:
            scale = 1.0 if (high - low).isfinite() else 0.5
            wide = (wide * scale - low * scale) / (high * scale - low * scale)
        if apply_min_cutoff:
            wide = wide.masked_fill(wide == wide[valid].min(), 0)
    return wide.where(valid, 0.0).to(plane.dtype)
