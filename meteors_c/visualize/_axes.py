"""What all figures share: making or checking their axes, their colours, and numbers for matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch

from meteors_c.attr.attributes import HSIAttributes
from meteors_c.utils import warn_caller

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    # What a figure function gives: a new figure with its axes, the axes that were given, or None if it was shown.
    Drawn: TypeAlias = tuple[Figure, np.ndarray] | np.ndarray | None

Result = TypeVar("Result", bound=HSIAttributes)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Give a tensor of any dtype, device and autograd state as a float64 array."""
    return tensor.detach().cpu().to(torch.float64).numpy()


def blank_non_finite(values: np.ndarray, name: str, valid: np.ndarray | bool = True) -> np.ndarray:
    """Replace infinity by NaN, which figures leave blank, and warn of both at once with their number.

    Parameters
    ----------
    values : numpy.ndarray
        Any shape.
    name : str
        What the values are, for the warning.
    valid : numpy.ndarray of bool or bool, default True
        Which of them the image's mask includes, broadcast to ``values``: the warning is about these only.

    Returns
    -------
    numpy.ndarray
        ``values`` or, if not all of them are finite, a copy.
    """
    finite = np.isfinite(values)
    if finite.all():
        return values
    wrong = np.count_nonzero(~finite & valid)
    if wrong:
        warn_caller(f"{wrong} of {values.size} values of {name} are NaN or infinite: they are left blank")
    return np.where(finite, values, np.nan)


def check_type(value: Any, wanted: type, name: str) -> None:
    """Raise ``TypeError`` unless ``value`` is an instance of ``wanted``."""
    if not isinstance(value, wanted):
        raise TypeError(f"{name} must be an instance of {wanted.__name__}, not {type(value).__name__}")


def as_height_width(attributes: Result) -> tuple[Result, np.ndarray]:
    """Turn a result so that its axes are height, width, bands; the result itself stays as it is.

    Parameters
    ----------
    attributes : HSIAttributes
        Any orientation.

    Returns
    -------
    tuple of HSIAttributes and numpy.ndarray
        The turned result, and which pixels the mask of its image includes in any band, ``(height, width)``.
    """
    turned = attributes.change_orientation(("H", "W", "C"))
    return turned, turned.hsi.binary_mask.any(dim=2).cpu().numpy()


def hsv_palette(count: int) -> list[tuple[float, float, float]]:
    """Give ``count`` colours evenly spread over the hues."""
    import matplotlib

    rgba = matplotlib.colormaps["hsv"](np.linspace(0, 1, count + 2)[1:-1])
    return [(red, green, blue) for red, green, blue, _ in rgba.tolist()]


def outline_colour(colour: Sequence[float]) -> str:
    """Give the colour that is read beside one of red, green and blue: white for dark and middle ones, else black."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))  # as WCAG 2 defines it; the contrast is at least 3 : 1
    return "black" if luminance > 0.3 else "white"


def points_per_pixel(ax: Axes, shape: tuple[int, ...]) -> float:
    """Give how large a pixel of an image of this shape is drawn on ``ax``, in points."""
    box = ax.get_window_extent()
    figure = ax.get_figure()
    assert figure is not None  # axes that can draw are on a figure
    return float(min(box.height / shape[0], box.width / shape[1]) * 72 / figure.dpi)


def check_axes(ax: Any, shape: tuple[int, ...]) -> None:
    """Check that there are enough axes to draw on.

    Parameters
    ----------
    ax : numpy.ndarray of Axes or None
        What the caller gave; None is fine.
    shape : tuple of int
        The least number of axes: ``(count,)`` in a row or column, or ``(rows, columns)``.

    Raises
    ------
    ValueError
        ``ax`` is not an array, has the wrong number of dimensions or too few axes.
    """
    if ax is None:
        return
    wanted = f"an array of at least {' x '.join(map(str, shape))} axes"
    if not isinstance(ax, np.ndarray):
        raise ValueError(f"ax is only one axes object ({type(ax).__name__}), but it should be {wanted}")
    if ax.ndim != len(shape) or any(have < want for have, want in zip(ax.shape, shape, strict=True)):
        raise ValueError(f"ax has the shape {ax.shape}, but it should be {wanted}")


class Canvas:
    """The axes of one figure: new ones, or those that the caller gave.

    Parameters
    ----------
    ax : numpy.ndarray of Axes or None
        Axes to draw on.
    shape : tuple of int
        ``(count,)`` or ``(rows, columns)``, as in `check_axes`.
    size : tuple of float
        Size of a new figure, in inches.
    title : str
        Title over the whole figure.

    Raises
    ------
    ValueError
        See `check_axes`.
    """

    def __init__(self, ax: np.ndarray | None, shape: tuple[int, ...], size: tuple[float, float], title: str) -> None:
        check_axes(ax, shape)
        self.is_given = ax is not None
        if ax is None:
            import matplotlib.pyplot as plt

            rows, columns = shape if len(shape) == 2 else (1, *shape)
            self.figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False)
            self.axes: np.ndarray = grid.reshape(shape)
        else:
            self.figure, self.axes = ax.flat[0].get_figure(), ax
        self.figure.suptitle(title)

    def finish(self, use_pyplot: bool) -> Drawn:
        """Show the figure, or give back what the caller is to have."""
        if self.is_given:
            return self.axes
        self.figure.tight_layout()
        # tight_layout does not see the colour bars below the maps.
        overhang = -self.figure.get_tightbbox().y0 / self.figure.get_figheight()
        if overhang > 0:
            self.figure.subplots_adjust(bottom=self.figure.subplotpars.bottom + 1.5 * overhang)
        if use_pyplot:
            import matplotlib.pyplot as plt

            plt.show()
            return None
        return self.figure, self.axes


def current_axes(ax: Axes | None) -> Axes:
    """Give ``ax``, or pyplot's current axes for None."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.gca()


def draw_image(ax: Axes, pixels: np.ndarray, title: str | None, **options: Any) -> AxesImage:
    """Draw ``pixels`` with ``imshow`` and its options, without ticks and under a title if there is one."""
    image = ax.imshow(pixels, **options)
    ax.set_axis_off()
    if title is not None:
        ax.set_title(title)
    return image


def setup_visualization(ax: Axes | None, title: str, xlabel: str, ylabel: str) -> Axes:
    """Title and label an axes.

    Parameters
    ----------
    ax : Axes or None
        The axes, or None for the current one.
    title, xlabel, ylabel : str
        The texts.

    Returns
    -------
    Axes
        ``ax`` or the current axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> ax = setup_visualization(plt.figure().gca(), "Spectrum", "Wavelength (nm)", "Reflectance")
    >>> ax.get_title()
    'Spectrum'
    """
    ax = current_axes(ax)
    ax.set_title(title)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return ax
