"""Figures of attributions: here the overview of one result; the spatial, spectral and aggregated ones by import."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from meteors_c.attr.attributes import HSIAttributes
from meteors_c.utils import warn_caller
from meteors_c.visualize._axes import (
    Canvas,
    as_height_width,
    blank_non_finite,
    check_axes,
    check_type,
    setup_visualization,
    to_numpy,
)
from meteors_c.visualize._heat_map import draw_heat_map, scale_heat_map
from meteors_c.visualize.aggregated_visualize import (
    visualize_aggregated_attributes,
    visualize_spatial_aggregated_attributes,
    visualize_spectral_aggregated_attributes,
)
from meteors_c.visualize.spatial_visualize import visualize_bands_spatial_attributes, visualize_spatial_attributes
from meteors_c.visualize.spectral_visualize import (
    calculate_average_magnitudes,
    validate_consistent_band_and_wavelengths,
    visualize_spectral_attributes,
    visualize_spectral_attributes_by_magnitude,
    visualize_spectral_attributes_by_waveband,
)
from meteors_c.visualize.spectral_visualize import merge_band_names_segments as _merge_band_names_segments

if TYPE_CHECKING:
    from meteors_c.visualize._axes import Drawn

__all__ = [
    "_merge_band_names_segments",
    "calculate_average_magnitudes",
    "setup_visualization",
    "validate_consistent_band_and_wavelengths",
    "visualize_aggregated_attributes",
    "visualize_attributes",
    "visualize_bands_spatial_attributes",
    "visualize_spatial_aggregated_attributes",
    "visualize_spatial_attributes",
    "visualize_spectral_aggregated_attributes",
    "visualize_spectral_attributes",
    "visualize_spectral_attributes_by_magnitude",
    "visualize_spectral_attributes_by_waveband",
]


def visualize_attributes(
    image_attributes: HSIAttributes,
    ax: np.ndarray | None = None,
    use_pyplot: bool = False,
    title: str | None = None,
) -> Drawn:
    """Draw where and at which wavelengths the attributions lie.

    Four axes: the heat map of the attributions summed over the bands, the heat map of its magnitude, and against the
    wavelength the sums over the pixels of the attributions and of their magnitudes.

    Parameters
    ----------
    image_attributes : HSIAttributes
        The result; any orientation.
    ax : numpy.ndarray of Axes, optional
        At least 2 x 2 axes to draw on.
    use_pyplot : bool, default False
        Whether to show the figure; not used with ``ax``.
    title : str, optional
        Title of the figure, ``"HSI Attributes of: {method}"`` by default.

    Returns
    -------
    tuple of Figure and numpy.ndarray, numpy.ndarray or None
        The figure and its axes; ``ax`` if it was given; None if shown, **and None if all attributions are zero**.

    Warns
    -----
    UserWarning
        All attributions are zero: nothing is drawn. Or some are NaN or infinite: the warning says how many.

    Raises
    ------
    TypeError
        ``image_attributes`` is no HSIAttributes.
    ValueError
        ``ax`` is not a 2-D array of at least 2 x 2 axes.

    Notes
    -----
    As in ``meteors``, attributions that are all zero give None, so that ``figure, axes = ...`` fails on them; code that
    must not stop there looks at the result first, as in the example.

    NaN and infinity are left out: the heat map is grey at their pixels and the sums over the pixels are those of the
    finite values. Pixels that the image's mask excludes are drawn, but do not count for the scale of the heat map.

    Examples
    --------
    >>> import torch
    >>> from meteors_c import HSI, attr, visualize
    >>> hsi = HSI(image=torch.rand(3, 20, 20), wavelengths=[450.0, 550.0, 650.0])
    >>> result = attr.HSIAttributes(hsi=hsi, attributes=torch.rand(3, 20, 20))
    >>> if result.attributes.any():
    ...     figure, axes = visualize.visualize_attributes(result)
    """
    check_type(image_attributes, HSIAttributes, "image_attributes")
    check_axes(ax, (2, 2))
    if not image_attributes.attributes.any():
        warn_caller("All attributions are zero: there is nothing to draw")
        return None

    turned, valid = as_height_width(image_attributes)
    values = blank_non_finite(to_numpy(turned.attributes), "the attributions", valid[..., None])
    wavelengths = to_numpy(turned.hsi.wavelengths)
    canvas = Canvas(ax, (2, 2), (9, 7), title or f"HSI Attributes of: {image_attributes.attribution_method}")
    axes = canvas.axes

    scaled = scale_heat_map(values.sum(axis=2), valid)
    draw_heat_map(axes[0, 0], scaled, "Attribution Heatmap")
    draw_heat_map(axes[0, 1], scaled, "Attribution Module Values", signed=False)

    # A band without a finite value has no sum, rather than one of 0.
    measured = np.isfinite(values).any(axis=(0, 1))
    for each, name, label, colour, summed in (
        (axes[1, 0], "Spectral Attribution", "Attribution", "red", values),
        (axes[1, 1], "Spectral Attribution Absolute Values", "Attribution Absolute Value", "blue", np.abs(values)),
    ):
        setup_visualization(each, name, "Wavelength", label)
        each.scatter(wavelengths[measured], np.nansum(summed, axis=(0, 1))[measured], color=colour)
        each.grid(True)
    return canvas.finish(use_pyplot)
