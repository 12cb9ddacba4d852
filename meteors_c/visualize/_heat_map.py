"""Heat maps of attributions: how they are scaled and drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from meteors_c.utils import warn_caller
from meteors_c.visualize._axes import draw_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Share of the total attribution that the colour range must cover: single outliers don't fade the rest.
_COVERED = 0.98
_NEARLY_ZERO = 1e-5


def scale_heat_map(values: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Scale attributions to [-1, 1].

    The divisor is the smallest ``|value|`` at which the cumulative sum of the sorted ``|values|`` reaches 98 % of their
    total; what lies beyond it is clipped. A divisor below 1e-5 warns.

    Parameters
    ----------
    values : numpy.ndarray
        The attributions, summed over the bands; ``(height, width)``. NaN and infinity do not count for the scale.
    valid : numpy.ndarray, optional
        Which values count for the scale; bool, ``(height, width)``. All by default, and if none of these is finite.

    Returns
    -------
    numpy.ndarray
        The scaled values, all zero if the divisor is; NaN for NaN and infinity.
    """
    finite = np.isfinite(values)
    counted = finite if valid is None else finite & valid
    ordered = np.sort(np.abs(values[counted if counted.any() else finite]))
    total = np.cumsum(ordered)
    divisor = ordered[np.searchsorted(total, _COVERED * total[-1])] if total.size else 0.0
    if divisor < _NEARLY_ZERO and total.size:
        nature = (
            "zero everywhere" if divisor == 0 else f"scaled by {divisor:.2g}, nearly zero: it may show rounding only"
        )
        warn_caller(f"The attribution map is {nature}")
    with np.errstate(over="ignore"):
        scaled = values / divisor if divisor > 0 else np.zeros_like(values)
    return np.where(finite, np.clip(scaled, -1.0, 1.0), np.nan)


def draw_heat_map(ax: Axes, scaled: np.ndarray, title: str, signed: bool = True) -> None:
    """Draw scaled attributions as an image with a colour bar below it.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    scaled : numpy.ndarray
        From `scale_heat_map`, ``(height, width)``; NaN is drawn in grey.
    title : str
        Title of the axes.
    signed : bool, default True
        Whether to draw the values (red, white, green from -1 to 1) or their magnitude (blue from 0 to 1).
    """
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    signed_colours = LinearSegmentedColormap.from_list("RdWhGn", ["red", "white", "green"])
    cmap = (signed_colours if signed else matplotlib.colormaps["Blues"]).with_extremes(bad="lightgrey")  # white is 0
    low = -1.0 if signed else 0.0
    image = draw_image(ax, scaled if signed else np.abs(scaled), title, cmap=cmap, vmin=low, vmax=1.0)

    divider = make_axes_locatable(ax)
    divider.set_anchor(ax.get_anchor())
    figure = ax.get_figure()
    assert figure is not None  # axes that can draw are on a figure
    below = divider.append_axes("bottom", size="5%", pad=0.1)
    figure.colorbar(image, cax=below, orientation="horizontal", ticks=np.linspace(low, 1.0, 5).tolist())
