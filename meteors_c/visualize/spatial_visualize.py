"""Figures of where attributions lie in the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial
from meteors_c.utils import floating_dtype
from meteors_c.visualize._axes import (
    Canvas,
    as_height_width,
    blank_non_finite,
    check_type,
    draw_image,
    to_numpy,
)
from meteors_c.visualize._heat_map import draw_heat_map, scale_heat_map
from meteors_c.visualize._segments import draw_segments
from meteors_c.visualize.hsi_visualize import visualize_hsi

if TYPE_CHECKING:
    from meteors_c.visualize._axes import Drawn

__all__ = ["visualize_bands_spatial_attributes", "visualize_spatial_attributes"]


def visualize_spatial_attributes(
    spatial_attributes: HSIAttributesSpatial,
    ax: np.ndarray | None = None,
    use_pyplot: bool = False,
    title: str | None = None,
) -> Drawn:
    """Draw the image, the heat map of the attributions and, if there is a mask, its segments with their ids.

    Parameters
    ----------
    spatial_attributes : HSIAttributesSpatial
        The result; any orientation.
    ax : numpy.ndarray of Axes, optional
        A row of at least three axes to draw on; two suffice without a mask.
    use_pyplot : bool, default False
        Whether to show the figure; not used with ``ax``.
    title : str, optional
        Title of the figure, ``"Spatial Attributes Visualization"`` by default.

    Returns
    -------
    tuple of Figure and numpy.ndarray, numpy.ndarray or None
        The figure and its axes; ``ax`` if it was given; None if shown.

    Raises
    ------
    TypeError
        ``spatial_attributes`` is no HSIAttributesSpatial.
    ValueError
        ``ax`` is not a 1-D array of enough axes.

    Notes
    -----
    An image without red, green or blue is drawn as in `visualize_hsi`: from three other bands, which the title over it
    names. NaN and infinity are grey in the heat map, with one warning that says how many they are. Pixels that the
    image's mask excludes are drawn, but do not count for the scale.

    The id of a segment stands at its centre, or at its pixel nearest to the centre. Where segments are too small on the
    figure for all ids to be read, every n-th is written; a larger figure has room for more.

    Examples
    --------
    >>> import torch
    >>> from meteors_c import HSI, attr, visualize
    >>> hsi = HSI(image=torch.rand(3, 20, 20), wavelengths=[1000.0, 1300.0, 1600.0])
    >>> result = attr.HSIAttributesSpatial(hsi=hsi, attributes=torch.rand(1, 20, 20).expand(3, 20, 20))
    >>> figure, axes = visualize.visualize_spatial_attributes(result)
    >>> axes[1].get_title()
    'Attribution Map'
    """
    check_type(spatial_attributes, HSIAttributesSpatial, "spatial_attributes")
    turned, valid = as_height_width(spatial_attributes)
    has_mask = turned.mask is not None
    canvas = Canvas(
        ax, (3 if has_mask else 2,), (15, 5) if has_mask else (10, 4), title or "Spatial Attributes Visualization"
    )
    axes = canvas.axes
    if not canvas.is_given:
        for each in axes:
            each.set_anchor("N")  # the colour bar below the map must not push the images apart

    visualize_hsi(turned.hsi, axes[0], title="Original image")
    values = blank_non_finite(to_numpy(turned.flattened_attributes), "the attribution map", valid)
    draw_heat_map(axes[1], scale_heat_map(values, valid), "Attribution Map")
    if has_mask:
        mask = to_numpy(turned.segmentation_mask)
        draw_image(axes[2], mask, "Mask", cmap="gray")
        draw_segments(axes[1:3], mask)
    return canvas.finish(use_pyplot)


def _band_indices(
    wavelengths: torch.Tensor,
    spectral_indexes: Sequence[int] | int | None,
    spectral_wavelengths: Sequence[float] | float | None,
) -> torch.Tensor:
    """Find the chosen bands, as indices into ``wavelengths``."""
    bands = len(wavelengths)
    if spectral_indexes is not None:
        indices = torch.as_tensor(spectral_indexes).reshape(-1)
        if indices.numel() == 0:
            raise ValueError("spectral_indexes must name at least one band")
        if indices.is_floating_point() or indices.dtype is torch.bool:
            raise TypeError(f"spectral_indexes must be integers, not {spectral_indexes}")
        wrong = indices[(indices < 0) | (indices >= bands)].tolist()
        if wrong:
            raise IndexError(f"spectral_indexes must be from 0 to {bands - 1}, but {wrong} came")
        return indices.long()
    if spectral_wavelengths is None:
        return torch.arange(bands)
    # In the precision of the image's wavelengths, in which 500.43 is found among float32 values.
    dtype = wavelengths.dtype if wavelengths.is_floating_point() else torch.float64
    wanted = torch.as_tensor(spectral_wavelengths, dtype=dtype, device="cpu").reshape(-1)
    if wanted.numel() == 0:
        raise ValueError("spectral_wavelengths must name at least one band")
    found = wanted[:, None] == wavelengths.detach().cpu().to(dtype)[None, :]
    missing = wanted[~found.any(dim=1)].tolist()
    if missing:
        raise ValueError(f"spectral_wavelengths must be wavelengths of the image, but {missing} are not")
    return found.to(torch.uint8).argmax(dim=1)


def visualize_bands_spatial_attributes(
    attributes: HSIAttributes,
    spectral_indexes: Sequence[int] | int | None = None,
    spectral_wavelengths: Sequence[float] | float | None = None,
    ax: np.ndarray | None = None,
    use_pyplot: bool = False,
) -> Drawn:
    """Draw the image and the heat map of the mean of the attributions over chosen bands.

    Parameters
    ----------
    attributes : HSIAttributes
        The result; any orientation.
    spectral_indexes : sequence of int, optional
        The bands by index. All bands if neither these nor wavelengths are given.
    spectral_wavelengths : sequence of float, optional
        The bands by wavelength, in the unit of the image; not used if indices are given.
    ax : numpy.ndarray of Axes, optional
        A row of at least two axes to draw on.
    use_pyplot : bool, default False
        Whether to show the figure; not used with ``ax``.

    Returns
    -------
    tuple of Figure and numpy.ndarray, numpy.ndarray or None
        The figure and its axes; ``ax`` if it was given; None if shown.

    Raises
    ------
    TypeError
        ``attributes`` is no HSIAttributes, or an index no integer.
    IndexError
        An index is negative or beyond the last band.
    ValueError
        A wavelength is not in the image, no band is chosen, or ``ax`` is not a 1-D array of enough axes.

    Examples
    --------
    >>> import torch
    >>> from meteors_c import HSI, attr, visualize
    >>> hsi = HSI(image=torch.rand(3, 20, 20), wavelengths=[450.0, 550.0, 650.0])
    >>> result = attr.HSIAttributes(hsi=hsi, attributes=torch.rand(3, 20, 20))
    >>> figure, axes = visualize.visualize_bands_spatial_attributes(result, spectral_wavelengths=[550.0, 650.0])
    """
    check_type(attributes, HSIAttributes, "attributes")
    hsi = attributes.hsi
    indices = _band_indices(hsi.wavelengths, spectral_indexes, spectral_wavelengths)
    values = attributes.attributes.detach()
    values = values.index_select(hsi.spectral_axis, indices.to(values.device))
    mean = values.to(floating_dtype(values)).mean(hsi.spectral_axis, keepdim=True)
    averaged = HSIAttributesSpatial(hsi=hsi, attributes=mean.expand(hsi.image.shape))
    return visualize_spatial_attributes(averaged, ax, use_pyplot)
