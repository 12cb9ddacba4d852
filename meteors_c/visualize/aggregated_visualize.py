"""Figures of attributions after aggregation over superpixels or superbands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from meteors_c.attr._band_masks import BandMasks
from meteors_c.attr._fields import ensure_torch_tensor
from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.utils import aggregate_by_mask, broadcast_to, expand_spectral_mask, floating_dtype
from meteors_c.visualize._axes import check_type
from meteors_c.visualize.spatial_visualize import visualize_spatial_attributes
from meteors_c.visualize.spectral_visualize import visualize_spectral_attributes

if TYPE_CHECKING:
    from meteors_c.attr._fields import BandNames
    from meteors_c.visualize._axes import Drawn

__all__ = [
    "visualize_aggregated_attributes",
    "visualize_spatial_aggregated_attributes",
    "visualize_spectral_aggregated_attributes",
]

Aggregation = Callable[[torch.Tensor], torch.Tensor]


def _aggregated_fields(result: HSIAttributes, mask: torch.Tensor, aggregate_func: Aggregation) -> dict[str, Any]:
    """Give the fields of ``result`` with its attributions aggregated over ``mask``, which has the image's shape."""
    values = result.attributes.detach()
    return {
        "hsi": result.hsi,
        "attributes": aggregate_by_mask(values.to(floating_dtype(values)), mask, aggregate_func),
        "mask": mask,
        "score": result.score,
    }


def visualize_spatial_aggregated_attributes(
    attributes: HSIAttributes,
    aggregated_mask: torch.Tensor | np.ndarray,
    ax: np.ndarray | None = None,
    use_pyplot: bool = False,
    aggregate_func: Aggregation = torch.mean,
    title: str | None = None,
) -> Drawn:
    """Draw the spatial figure of attributions aggregated over the segments of a mask.

    Parameters
    ----------
    attributes : HSIAttributes
        The result; any orientation.
    aggregated_mask : torch.Tensor or numpy.ndarray
        The segment of each pixel, 2-D in the image's order of the spatial axes, or of each value, 3-D and broadcast to
        the image.
    ax, use_pyplot
        As in `visualize_spatial_attributes`, with a mask.
    aggregate_func : callable, default torch.mean
        Takes the 1-D values of a segment and returns one; ``torch.nanmean`` leaves out NaN.
    title : str, optional
        Title of the figure, ``"Spatial Attributes Visualization Aggregated"`` by default.

    Returns
    -------
    tuple of Figure and numpy.ndarray, numpy.ndarray or None
        The figure and its axes; ``ax`` if it was given; None if shown.

    Raises
    ------
    TypeError
        ``attributes`` is no HSIAttributes, or the mask neither tensor nor array.
    ShapeMismatchError
        The mask can't be broadcast to the image.
    ValueError
        ``ax`` is not a 1-D array of enough axes.

    Examples
    --------
    >>> import torch
    >>> from meteors_c import HSI, attr, visualize
    >>> hsi = HSI(image=torch.rand(3, 20, 20), wavelengths=[450.0, 550.0, 650.0])
    >>> result = attr.HSIAttributes(hsi=hsi, attributes=torch.rand(3, 20, 20))
    >>> quarters = torch.tensor([[1, 2], [3, 4]]).repeat_interleave(10, 0).repeat_interleave(10, 1)
    >>> figure, axes = visualize.visualize_spatial_aggregated_attributes(result, quarters)
    """
    check_type(attributes, HSIAttributes, "attributes")
    hsi, mask = attributes.hsi, ensure_torch_tensor(aggregated_mask, "aggregated_mask")
    if mask.ndim == 2:
        mask = mask.unsqueeze(hsi.spectral_axis)
    mask = broadcast_to(mask, hsi.image.shape, "aggregated_mask", "image")
    aggregated = HSIAttributesSpatial(**_aggregated_fields(attributes, mask, aggregate_func))
    title = title or "Spatial Attributes Visualization Aggregated"
    return visualize_spatial_attributes(aggregated, ax, use_pyplot, title)


def visualize_spectral_aggregated_attributes(
    attributes: HSIAttributes | list[HSIAttributes],
    band_names: BandNames | str | list[str | list[str]],
    band_mask: torch.Tensor | np.ndarray | None = None,
    ax: np.ndarray | None = None,
    use_pyplot: bool = False,
    color_palette: Sequence[Any] | None = None,
    show_not_included: bool = True,
    aggregate_func: Aggregation = torch.mean,
    title: str | None = None,
) -> Drawn:
    """Draw the spectral figure of attributions aggregated over superbands.

    Parameters
    ----------
    attributes : HSIAttributes or list of HSIAttributes
        The results; any orientation.
    band_names : dict, str or list
        The id of each superband; without a mask what `attr.Lime.get_band_mask` takes, such as ``"regions"``.
    band_mask : torch.Tensor or numpy.ndarray, optional
        The id of each band, ``(bands,)``, or a mask that `expand_spectral_mask` takes.
    aggregate_func : callable, default torch.mean
        Takes the 1-D values of a superband and returns one; ``torch.nanmean`` leaves out NaN.
    ax, use_pyplot, color_palette, show_not_included, title
        As in `visualize_spectral_attributes`.

    Returns
    -------
    tuple of Figure and numpy.ndarray, numpy.ndarray or None
        The figure and its axes; ``ax`` if it was given; None if shown.

    Raises
    ------
    TypeError
        ``attributes`` holds anything but HSIAttributes, or the mask is neither tensor nor array.
    MaskCreationError
        The names do not cover the ids in the mask.
    ShapeMismatchError
        The mask can't be broadcast to the image.
    ValueError
        The results have different wavelengths, or ``ax`` is not a 1-D array of enough axes.
    IndexError
        The list is empty, or the palette too short.

    Examples
    --------
    >>> import torch
    >>> from meteors_c import HSI, attr, visualize
    >>> hsi = HSI(image=torch.rand(3, 20, 20), wavelengths=[450.0, 550.0, 650.0])
    >>> result = attr.HSIAttributes(hsi=hsi, attributes=torch.rand(3, 20, 20))
    >>> figure, axes = visualize.visualize_spectral_aggregated_attributes(
    ...     result, {"blue": 1, "green and red": 2}, torch.tensor([1, 2, 2])
    ... )
    """
    given = None if band_mask is None else ensure_torch_tensor(band_mask, "band_mask")

    def aggregated(result: HSIAttributes) -> HSIAttributesSpectral:
        check_type(result, HSIAttributes, "attributes")
        mask, names = (given, band_names) if given is not None else BandMasks.get_band_mask(result.hsi, band_names)
        expanded = expand_spectral_mask(result.hsi, mask, repeat_dimensions=True)
        fields = _aggregated_fields(result, expanded, aggregate_func)
        return HSIAttributesSpectral(**fields, band_names=names)  # type: ignore[arg-type]

    results = [aggregated(result) for result in attributes] if isinstance(attributes, list) else aggregated(attributes)
    return visualize_spectral_attributes(results, ax, use_pyplot, color_palette, show_not_included, title)


def visualize_aggregated_attributes(
    attributes: HSIAttributes | list[HSIAttributes],
    mask: torch.Tensor | np.ndarray,
    band_names: BandNames | None = None,
    ax: np.ndarray | None = None,
    use_pyplot: bool = False,
    color_palette: Sequence[Any] | None = None,
    show_not_included: bool = True,
    aggregate_func: Aggregation = torch.mean,
    title: str | None = None,
) -> Drawn:
    """Draw aggregated attributions: the spectral figure if band names are given, else the spatial one.

    Parameters
    ----------
    attributes : HSIAttributes or list of HSIAttributes
        The result; a list for the spectral figure only.
    mask : torch.Tensor or numpy.ndarray
        The superbands or segments.
    band_names : dict, optional
        The id of each superband.
    ax, use_pyplot, color_palette, show_not_included, aggregate_func, title
        As in `visualize_spectral_aggregated_attributes` and `visualize_spatial_aggregated_attributes`.

    Returns
    -------
    tuple of Figure and numpy.ndarray, numpy.ndarray or None
        The figure and its axes; ``ax`` if it was given; None if shown.

    Raises
    ------
    AssertionError
        A list comes without band names.

    Examples
    --------
    >>> import torch
    >>> from meteors_c import HSI, attr, visualize
    >>> hsi = HSI(image=torch.rand(3, 20, 20), wavelengths=[450.0, 550.0, 650.0])
    >>> result = attr.HSIAttributes(hsi=hsi, attributes=torch.rand(3, 20, 20))
    >>> left_and_right = torch.arange(20).div(10, rounding_mode="floor").expand(20, 20)
    >>> figure, axes = visualize.visualize_aggregated_attributes(result, left_and_right)
    """
    if band_names is not None:
        return visualize_spectral_aggregated_attributes(
            attributes, band_names, mask, ax, use_pyplot, color_palette, show_not_included, aggregate_func, title
        )
    if isinstance(attributes, list):
        raise AssertionError("In spatial analysis, attributes must be a single HSIAttributes object, not a list")
    return visualize_spatial_aggregated_attributes(attributes, mask, ax, use_pyplot, aggregate_func, title)
