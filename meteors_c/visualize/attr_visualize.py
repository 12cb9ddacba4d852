"""Figures of attributions: here the overview of one result; the spatial, spectral and aggregated ones by import."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from meteors_c.attr.attributes import HSIAttributes
from meteors_c.visualize._axes import Canvas, as_height_width, check_axes, check_type, setup_visualization, to_numpy
from meteors_c.visualize._heat_map import draw_heat_map, scale_heat_map
from meteors_c.visualize.aggregated_visualize import (
    visualize_aggregated_attributes,
    visualize_spatial_aggregated_attributes,
    visualize_spectral_aggregated_attributes,
)
from meteors_c.visualize.spatial_visualize import visualize_bands_spatial_attributes, visualize_spatial_attributes
from meteors_c.visualize.spectral_visualize import (
    _merge_band_names_segments,
    calculate_average_magnitudes,
    validate_consistent_band_and_wavelengths,
    visualize_spectral_attributes,
    visualize_spectral_attributes_by_magnitude,
    visualize_spectral_attributes_by_waveband,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
) -> tuple[Figure, np.ndarray] | np.ndarray | None:
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
        The figure and its axes; ``ax`` if it was given; None if shown, or if all attributions are zero (warns).

    Raises
    ------
    TypeError
        ``image_attributes`` is no HSIAttributes.
    ValueError
        ``ax`` is not a 2-D array of at least 2 x 2 axes.
    """
    check_type(image_attributes, HSIAttributes, "image_attributes")
    check_axes(ax, (2, 2))
    if not image_attributes.attributes.any():
        warnings.warn("All attributions are zero: there is nothing to draw", UserWarning, stacklevel=2)
        return None

    values = to_numpy(as_height_width(image_attributes).attributes)
    wavelengths = to_numpy(image_attributes.hsi.wavelengths)
    canvas = Canvas(ax, (2, 2), (9, 7), title or f"HSI Attributes of: {image_attributes.attribution_method}")
    axes = canvas.axes

    scaled = scale_heat_map(values.sum(axis=2))
    draw_heat_map(axes[0, 0], scaled, "Attribution Heatmap")
    draw_heat_map(axes[0, 1], scaled, "Attribution Module Values", signed=False)

    setup_visualization(axes[1, 0], "Spectral Attribution", "Wavelength", "Attribution")
    axes[1, 0].scatter(wavelengths, values.sum(axis=(0, 1)), color="red")
    axes[1, 0].grid(True)
    setup_visualization(axes[1, 1], "Spectral Attribution Absolute Values", "Wavelength", "Attribution Absolute Value")
    axes[1, 1].scatter(wavelengths, np.abs(values).sum(axis=(0, 1)), color="blue")
    axes[1, 1].grid(True)

    return canvas.finish(use_pyplot)
