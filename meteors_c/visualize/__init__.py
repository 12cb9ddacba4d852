"""Figures of images and attributions. Matplotlib is imported when the first figure is drawn."""

from __future__ import annotations

from meteors_c.visualize.attr_visualize import (
    visualize_aggregated_attributes,
    visualize_attributes,
    visualize_bands_spatial_attributes,
    visualize_spatial_aggregated_attributes,
    visualize_spatial_attributes,
    visualize_spectral_aggregated_attributes,
    visualize_spectral_attributes,
    visualize_spectral_attributes_by_magnitude,
    visualize_spectral_attributes_by_waveband,
)
from meteors_c.visualize.hsi_visualize import visualize_hsi
from meteors_c.visualize.interaction_visualize import visualize_interactions
from meteors_c.visualize.shap_visualize import (
    bar,
    beeswarm,
    dependence_plot,
    force,
    heatmap,
    waterfall,
    wavelengths_bar,
)

__all__ = [
    "bar",
    "beeswarm",
    "dependence_plot",
    "force",
    "heatmap",
    "visualize_aggregated_attributes",
    "visualize_attributes",
    "visualize_bands_spatial_attributes",
    "visualize_hsi",
    "visualize_interactions",
    "visualize_spatial_aggregated_attributes",
    "visualize_spatial_attributes",
    "visualize_spectral_aggregated_attributes",
    "visualize_spectral_attributes",
    "visualize_spectral_attributes_by_magnitude",
    "visualize_spectral_attributes_by_waveband",
    "waterfall",
    "wavelengths_bar",
]
