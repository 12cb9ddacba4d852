"""The figure of an image itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meteors_c.attr.attributes import HSIAttributes
from meteors_c.hsi import HSI
from meteors_c.visualize._axes import current_axes, draw_image, to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["visualize_hsi"]


def visualize_hsi(
    hsi_or_attributes: HSI | HSIAttributes, ax: Axes | None = None, use_mask: bool = True, title: str | None = None
) -> Axes:
    """Draw an image in natural colours, from its red, green and blue bands.

    An image without red, green or blue is drawn from three other bands, spread over its range, the one of the longest
    wavelength as red. The title then names them, also where none was given, as in
    ``"Original image (bands at 1000, 1300, 1600 nm)"``.

    Parameters
    ----------
    hsi_or_attributes : HSI or HSIAttributes
        The image, or a result that holds it; any orientation.
    ax : Axes, optional
        Where to draw; the current axes by default.
    use_mask : bool, default True
        Whether to black out the pixels that the image's mask excludes.
    title : str, optional
        Title of the axes.

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    TypeError
        ``hsi_or_attributes`` is neither.

    See Also
    --------
    HSI.get_picture : The picture and the names of its bands.

    Examples
    --------
    >>> import torch
    >>> from meteors_c import HSI, visualize
    >>> hsi = HSI(image=torch.rand(3, 20, 20), wavelengths=[1000.0, 1300.0, 1600.0])
    >>> ax = visualize.visualize_hsi(hsi, title="A field")
    """
    if isinstance(hsi_or_attributes, HSIAttributes):
        hsi = hsi_or_attributes.hsi
    elif isinstance(hsi_or_attributes, HSI):
        hsi = hsi_or_attributes
    else:
        raise TypeError(
            f"hsi_or_attributes must be an instance of HSI or HSIAttributes, not {type(hsi_or_attributes).__name__}"
        )
    picture, substitute = hsi.change_orientation(("H", "W", "C")).get_picture(
        apply_mask=use_mask, output_channel_axis=2
    )
    if substitute is not None:
        title = f"{title} ({substitute})" if title else substitute
    ax = current_axes(ax)
    draw_image(ax, to_numpy(picture).clip(0.0, 1.0), title)
    return ax
