"""Attribution results: the attributions of one image, together with the image and what made them."""

from __future__ import annotations

import copy
import os
from typing import Any, TypeVar

import numpy as np
import torch

from meteors_c.attr._fields import (
    IMAGE_SHAPED,
    BandNames,
    align_band_names_with_mask,
    check_shape,
    ensure_torch_tensor,
    outside_inference_mode,
    resolve_inference_device_attributes,
    same,
    validate_and_convert_attributes,
    validate_and_convert_mask,
    validate_attribution_method,
    validate_band_names,
    validate_score,
    validate_shapes,
)
from meteors_c.attr._maps import Maps
from meteors_c.attr._registry import AVAILABLE_ATTRIBUTION_METHODS
from meteors_c.attr.effects import FeatureEffects
from meteors_c.exceptions import DeviceError, HSIAttributesError
from meteors_c.hsi import HSI
from meteors_c.utils import warn_caller

__all__ = [
    "AVAILABLE_ATTRIBUTION_METHODS",
    "BandNames",
    "HSIAttributes",
    "HSIAttributesSpatial",
    "HSIAttributesSpectral",
    "align_band_names_with_mask",
    "ensure_torch_tensor",
    "resolve_inference_device_attributes",
    "validate_and_convert_attributes",
    "validate_and_convert_mask",
    "validate_attribution_method",
    "validate_shapes",
]

# A required field that is left out is refused in the same words as a wrong one.
_REQUIRED: Any = None

Self = TypeVar("Self", bound="HSIAttributes")


class HSIAttributes(Maps):
    """The attributions of one image.

    Parameters
    ----------
    hsi : HSI
        The image. Kept, not copied; moved to ``device`` if it is elsewhere.
    attributes : torch.Tensor or numpy.ndarray
        One attribution per value of the image, in the orientation of the image.
    attribution_method : str, optional
        Name of the method, kept in title case; one outside ``AVAILABLE_ATTRIBUTION_METHODS`` warns.
    score : float, optional
        What the method says of its own result, such as the R2 of a surrogate or a convergence delta.
    mask : torch.Tensor or numpy.ndarray, optional
        The superpixel or superband of each value; shape of the image.
    device : str or torch.device, optional
        Where the result lives; the device of the image by default.
    report : object, optional
        What the run cost: evaluations, chunk size, seconds.
    target : int, tuple or tensor, optional
        The model output that is explained.
    standard_error : torch.Tensor or numpy.ndarray, optional
        Of each attribution, where the method is a Monte-Carlo estimate; shape of the image.
    effects : FeatureEffects, optional
        What was found of each superpixel or superband, by the methods that explain those.

    Raises
    ------
    HSIAttributesError
        ``hsi`` is not an HSI.
    TypeError
        ``attributes``, ``mask``, ``standard_error`` or ``device`` has the wrong type.
    ShapeMismatchError
        ``attributes``, ``mask`` or ``standard_error`` has another shape than the image.
    DeviceError
        ``device`` is unknown or not there.
    ValidationError
        ``score`` is not a number, or ``attribution_method`` not a string.

    Notes
    -----
    All fields may be assigned to afterwards; what is assigned is not checked.

    The tensors of a result can be used in autograd, whatever mode it was made in: one that was made in torch's
    inference mode is copied.

    Examples
    --------
    >>> hsi = HSI(image=torch.rand(3, 4, 5), wavelengths=[450.0, 550.0, 650.0])
    >>> result = HSIAttributes(hsi=hsi, attributes=torch.zeros(3, 4, 5), attribution_method="saliency")
    >>> result.attribution_method
    'Saliency'
    """

    def __init__(
        self,
        *,
        hsi: HSI = _REQUIRED,
        attributes: torch.Tensor | np.ndarray = _REQUIRED,
        attribution_method: str | None = None,
        score: float | None = None,
        mask: torch.Tensor | np.ndarray | None = None,
        device: str | torch.device | None = None,
        report: Any = None,
        target: Any = None,
        standard_error: torch.Tensor | np.ndarray | None = None,
        effects: FeatureEffects | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            warn_caller(f"{type(self).__name__} ignores unknown keyword arguments: {', '.join(unknown)}")
        if not isinstance(hsi, HSI):
            raise HSIAttributesError(f"hsi must be an HSI, not {type(hsi).__name__}")
        self.hsi = hsi
        self.attributes = validate_and_convert_attributes(attributes)
        self.attribution_method = validate_attribution_method(attribution_method)
        self.score = validate_score(score)
        self.mask = validate_and_convert_mask(mask)
        self.report = report
        self.target = target
        self.effects = effects
        self.standard_error = None if standard_error is None else ensure_torch_tensor(standard_error, "standard_error")
        for name, tensor in self._tensors().items():
            check_shape(name, tensor, hsi)
            setattr(self, name, outside_inference_mode(tensor))
        self.to(hsi.device if device is None else resolve_inference_device_attributes(device, None))

    @property
    def standard_errors(self) -> torch.Tensor | None:
        """The standard error of each feature, in the order of ``effects.ids``; None where there are none."""
        return None if self.effects is None else self.effects.standard_errors

    @property
    def interactions(self) -> torch.Tensor | None:
        """Pairwise interactions of the features, in the order of ``effects.ids``; None where there are none."""
        return None if self.effects is None else self.effects.interactions

    @property
    def orientation(self) -> tuple[str, str, str]:
        """The order of the axes, that of the image."""
        return self.hsi.orientation

    @property
    def flattened_attributes(self) -> torch.Tensor:
        """The attributions without the axes along which they are constant; for the spatial and spectral results."""
        raise NotImplementedError("`flattened_attributes` is defined for spatial and spectral attributes only")

    def to(self: Self, device: str | torch.device) -> Self:
        """Move the image and the tensors beside it to a device, in place.

        Parameters
        ----------
        device : str or torch.device
            Where to.

        Returns
        -------
        HSIAttributes
            This object.

        Raises
        ------
        DeviceError
            The device is unknown or not there. Nothing has moved then.

        Examples
        --------
        >>> result.to("cpu").device
        device(type='cpu')
        """
        device = resolve_inference_device_attributes(device, None)
        try:
            with torch.inference_mode(False):
                moved = {name: tensor.to(device) for name, tensor in self._tensors().items()}
                if self.hsi.device != device or self.hsi.image.device != moved["attributes"].device:
                    self.hsi.to(device)
        except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
            raise DeviceError(f"Can't move the attributes to device {device}: {error}") from error
        vars(self).update(moved)
        self.device = device
        return self

    def change_orientation(
        self: Self, target_orientation: tuple[str, str, str] | list[str] | str, inplace: bool = False
    ) -> Self:
        """Permute the axes of the image and of the tensors beside it together, as views.

        Parameters
        ----------
        target_orientation : tuple, list or str
            The letters C, H and W in the wanted order.
        inplace : bool, default False
            Whether to change this object and its image, instead of a new one.

        Returns
        -------
        HSIAttributes
            This object or the new one.

        Raises
        ------
        OrientationError
            The orientation is not a permutation of C, H and W. Nothing has changed then.

        Examples
        --------
        >>> result.change_orientation("HWC").attributes.shape
        torch.Size([48, 48, 150])
        """
        hsi = self.hsi.change_orientation(target_orientation)
        axes = [self.orientation.index(letter) for letter in hsi.orientation]
        turned = {name: tensor.permute(axes) for name, tensor in self._tensors().items()}
        result = self if inplace else self.model_copy()
        result.hsi = self.hsi.change_orientation(target_orientation, inplace=True) if inplace else hsi
        vars(result).update(turned)
        return result

    def model_copy(self: Self) -> Self:
        """Make a shallow copy: a new object with the same image and tensors.

        Examples
        --------
        >>> copy = result.model_copy()
        >>> copy == result, copy.attributes is result.attributes
        (True, True)
        """
        return copy.copy(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result and its image to one file, an npz without pickles, from which `load` restores it exactly.

        Parameters
        ----------
        path : str or path-like
            The file, written under exactly this name. One that is there is replaced in one step: after an error it is
            as it was.

        Raises
        ------
        TypeError
            ``target`` or ``report`` holds something else than numbers, strings, tensors of one axis, tuples, lists and
            dicts, or a field that should be a tensor is none.
        ValueError
            Fields were assigned that contradict each other.
        OSError
            The file can't be written.

        Notes
        -----
        Gradients are not saved, nor is the device. An object of a derived class is saved as the class of this module
        that it derives from.

        Examples
        --------
        >>> result.save("phosphorus.npz")
        >>> HSIAttributes.load("phosphorus.npz") == result
        True
        """
        from meteors_c import io

        io.save(self, path)

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Self:
        """Read a result that `save` has written.

        Parameters
        ----------
        path : str or path-like
            The file.
        device : str or torch.device, default "cpu"
            Where the result shall live.

        Returns
        -------
        HSIAttributes, HSIAttributesSpatial or HSIAttributesSpectral
            Of the class that was saved, with its image.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            The file is damaged, was written by something else or by a newer version, or holds a result that is not of
            this class.
        DeviceError
            ``device`` is unknown or not there.

        Examples
        --------
        >>> spatial.save("windows.npz")
        >>> type(HSIAttributes.load("windows.npz")).__name__
        'HSIAttributesSpatial'
        """
        from meteors_c import io

        return io.load(path, device, cls)

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        """Copy everything; tensors inside an autograd graph are copied without it, the image too.

        Such a copy holds the same numbers and requires no grad. Leaves that require grad still do.
        """
        result = type(self).__new__(type(self))
        memo[id(self)] = result
        with torch.inference_mode(False):
            for name, value in vars(self).items():
                if isinstance(value, torch.Tensor) and not value.is_leaf:
                    value = value.detach()
                setattr(result, name, copy.deepcopy(value, memo))
        return result

    def __eq__(self, other: object) -> bool:
        """Compare class and fields; the report, which holds timings, does not count."""
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        mine, theirs = vars(self), vars(other)
        return mine.keys() == theirs.keys() and all(
            same(value, theirs[name]) for name, value in mine.items() if name != "report"
        )

    def __repr__(self) -> str:
        fields = [
            f"shape={tuple(self.attributes.shape)}",
            f"dtype={self.attributes.dtype}",
            f"orientation={''.join(self.orientation)}",
            f"attribution_method={self.attribution_method!r}",
            f"score={self.score}",
            f"mask={'None' if self.mask is None else '...'}",
            f"device={self.device}",
        ]
        return f"{type(self).__name__}({', '.join(fields)})"

    def to_html(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write a report page: one HTML file with map, spectra and evidence that works without a network.

        Parameters
        ----------
        path : str or path-like
            The file. One that is there is replaced in one step.
        title : str, optional
            The heading; method and target where None.

        Raises
        ------
        ImportError
            The package plotly is missing.
        OSError
            The file can't be written.

        See Also
        --------
        meteors_c.pages.write : Several results side by side.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> hsi = HSI(image=torch.rand(3, 20, 20), wavelengths=[450.0, 550.0, 650.0])
        >>> result = HSIAttributes(hsi=hsi, attributes=torch.randn(3, 20, 20))
        >>> result.to_html(pathlib.Path(tempfile.mkdtemp()) / "a.html")
        """
        from meteors_c import pages

        pages.write(path, [self], None if title is None else [title])

    def _repr_html_(self) -> str:
        from meteors_c.pages._notebook import result_html

        return result_html(self)

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Give the tensors of the image's shape that are there, by name."""
        return {name: value for name in IMAGE_SHAPED if (value := getattr(self, name)) is not None}

    def _bands_first(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.movedim(self.hsi.spectral_axis, 0)


class HSIAttributesSpatial(HSIAttributes):
    """Attributions that are the same in all bands: one per superpixel or window.

    Takes the arguments of `HSIAttributes`; ``mask`` holds the id of the superpixel of each value.

    Examples
    --------
    >>> hsi = HSI(image=torch.rand(3, 4, 5), wavelengths=[450.0, 550.0, 650.0])
    >>> result = HSIAttributesSpatial(hsi=hsi, attributes=torch.rand(1, 4, 5).expand(3, 4, 5))
    >>> result.flattened_attributes.shape
    torch.Size([4, 5])
    """

    @property
    def segmentation_mask(self) -> torch.Tensor:
        """The ids of the superpixels, ``(height, width)`` in the image's order of these axes.

        Raises
        ------
        HSIAttributesError
            There is no mask.
        """
        if self.mask is None:
            raise HSIAttributesError("Segmentation mask is not provided in the attributes object")
        return self._bands_first(self.mask)[0]

    @property
    def flattened_attributes(self) -> torch.Tensor:
        """The attribution of each pixel, ``(height, width)`` in the image's order of these axes."""
        return self._bands_first(self.attributes)[0]


class HSIAttributesSpectral(HSIAttributes):
    """Attributions that are the same in all pixels: one per superband.

    Parameters
    ----------
    band_names : dict
        The id in the mask of each named superband; aligned with the mask by `align_band_names_with_mask`.
    **kwargs
        The arguments of `HSIAttributes`, where ``mask``, the id of the superband of each value, is required.

    Raises
    ------
    HSIAttributesError
        There is no mask.
    ValidationError
        ``band_names`` is not a dict of names to ids.
    MaskCreationError
        The names do not cover the ids in the mask.

    Examples
    --------
    >>> hsi = HSI(image=torch.rand(3, 4, 5), wavelengths=[450.0, 550.0, 650.0])
    >>> mask = torch.tensor([1, 2, 2]).reshape(3, 1, 1).expand(3, 4, 5)
    >>> result = HSIAttributesSpectral(hsi=hsi, attributes=2.0 * mask, mask=mask, band_names={"blue": 1, "other": 2})
    >>> result.flattened_attributes
    tensor([2., 4., 4.])
    """

    def __init__(self, *, band_names: BandNames = _REQUIRED, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        names = validate_band_names(band_names)
        if self.mask is None:
            raise HSIAttributesError("Band mask is not provided in the attributes object")
        self.band_names = align_band_names_with_mask(names, self.mask)

    @property
    def band_mask(self) -> torch.Tensor:
        """The id of the superband of each band, ``(bands,)``.

        Raises
        ------
        ValueError
            The mask has been set to None.
        """
        if self.mask is None:
            raise ValueError("Band mask is not provided")
        return self._bands_first(self.mask)[:, 0, 0]

    @property
    def flattened_attributes(self) -> torch.Tensor:
        """The attribution of each band, ``(bands,)``."""
        return self._bands_first(self.attributes)[:, 0, 0]
