"""The figure of interactions between pairs of features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from meteors_c.visualize._axes import Canvas, blank_non_finite, check_type, outline_colour, points_per_pixel, to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = ["visualize_interactions"]

_MOST_ANNOTATED = 12  # features: the values of more don't fit into their cells
_ROUNDING = 1e-6  # interactions that are this small beside the largest value are taken for rounding


def visualize_interactions(
    matrix: Any,
    names: Iterable[Any] | Mapping[Any, int] | None = None,
    ax: Axes | None = None,
    use_pyplot: bool = False,
    title: str | None = None,
) -> tuple[Figure, Axes] | Axes | None:
    """Draw the interactions between pairs of features, such as superpixels or superbands, as a heat map.

    Parameters
    ----------
    matrix : torch.Tensor, numpy.ndarray or result
        The interactions in output units, symmetric, ``(features, features)``; or a result that holds them in its
        ``interactions``.
    names : iterable or dict, optional
        The names of the features in the order of the rows, or a dict from names to ids, in the order of which they name
        the rows; a tuple is written with commas. By default the ``band_names`` of the result or, where it has none, its
        ``ids`` or those in its ``mask``; 0, 1, ... for a bare matrix.
    ax : Axes, optional
        Where to draw; a new figure by default.
    use_pyplot : bool, default False
        Whether to show the figure; not used with ``ax``.
    title : str, optional
        Title of the figure, ``"Shapley Interactions"`` by default.

    Returns
    -------
    tuple of Figure and Axes, Axes or None
        The figure and its axes; ``ax`` if it was given; None if shown.

    Warns
    -----
    UserWarning
        Some values are NaN or infinite: they are left blank.

    Raises
    ------
    TypeError
        ``matrix`` is neither numbers nor a result with interactions, or ``ax`` no Axes.
    ValueError
        The matrix is not square and symmetric, or there are more or fewer names than features.

    Notes
    -----
    Blue pairs have more effect together than apart, red ones less; white is no interaction. The colours reach as far as
    the strongest interaction of two features, whatever stands on the diagonal. The values are written in the cells of
    up to 12 features. Of more names than fit, every n-th is written.

    Examples
    --------
    >>> import torch
    >>> from meteors_c import visualize
    >>> matrix = torch.tensor([[0.0, 1.5, -0.5], [1.5, 0.0, 0.0], [-0.5, 0.0, 0.0]])
    >>> figure, ax = visualize.visualize_interactions(matrix, ["blue", "green", "red"])
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['blue', 'green', 'red']
    """
    values, found_names = _interactions(matrix), _names_of(matrix) if names is None else _listed(names)
    features = len(values)
    labels = list(map(str, range(features))) if found_names is None else found_names
    if len(labels) != features:
        raise ValueError(f"names must be {features}, one for each feature, but there are {len(labels)}: {labels}")
    if ax is not None:
        from matplotlib.axes import Axes

        check_type(ax, Axes, "ax")
    side = float(np.clip(2.5 + 0.5 * features, 4.5, 12.0))
    given = None if ax is None else np.array([ax], dtype=object)
    canvas = Canvas(given, (1,), (side + 1, side), title or "Shapley Interactions")
    (where,) = canvas.axes

    finite = blank_non_finite(values, "the interactions")
    image = _draw_matrix(where, finite)
    _draw_names(where, labels)
    if features <= _MOST_ANNOTATED:
        _write_values(image, finite)
    drawn = canvas.finish(use_pyplot)
    if drawn is None:
        return None
    return where if ax is not None else (canvas.figure, where)


def _interactions(matrix: Any) -> np.ndarray:
    """Return the interactions, given by themselves or in a result, as a symmetric float64 array."""
    found = getattr(matrix, "interactions", matrix)
    if isinstance(found, torch.Tensor) and not found.is_complex():
        values = to_numpy(found)
    else:
        array = np.asarray(found.detach().cpu() if isinstance(found, torch.Tensor) else found)
        if array.dtype.kind not in "biuf":
            raise TypeError(
                "matrix must be a tensor or array of numbers, or a result that has interactions, "
                f"not {type(matrix).__name__}"
            )
        values = array.astype(np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not values.size:
        raise ValueError(f"matrix must have the shape (features, features), not {values.shape}")
    largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    if not np.allclose(values, values.T, rtol=0, atol=1e-5 * largest, equal_nan=True):
        raise ValueError("matrix must be symmetric: the interaction of two features has no order")
    return values


def _names_of(result: Any) -> list[str] | None:
    """Return the names of a result's features in the order of their ids, or None for a bare matrix."""
    if not hasattr(result, "interactions"):
        return None
    band_names, ids = getattr(result, "band_names", None), getattr(result, "ids", None)
    if band_names is not None:
        return _listed(band_names)
    if ids is not None:
        return _listed(ids.tolist() if isinstance(ids, torch.Tensor | np.ndarray) else ids)
    mask = getattr(result, "mask", None)
    return None if mask is None else [f"{value:g}" for value in torch.unique(torch.as_tensor(mask)).tolist()]


def _listed(names: Any) -> list[str]:
    """Return names as text, those of a dict in the order of their ids."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"names must be a list, or a dict from names to ids, not {names!r}")
    ordered = sorted(names, key=names.__getitem__) if isinstance(names, Mapping) else names
    return [",".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in ordered]


def _draw_matrix(ax: Axes, values: np.ndarray) -> AxesImage:
    """Draw values as colours around white for 0, NaN in grey, with a colour bar."""
    import matplotlib

    magnitude = np.where(np.isfinite(values), np.abs(values), 0.0)
    largest = magnitude.max()
    limit = (magnitude * ~np.eye(len(values), dtype=bool)).max()
    if limit <= _ROUNDING * largest:  # no interaction: the diagonal is all there is to see
        limit = largest
    cmap = matplotlib.colormaps["RdBu"].with_extremes(bad="lightgrey")
    image = ax.imshow(values, cmap=cmap, vmin=-(limit or 1.0), vmax=limit or 1.0)
    beyond = "both" if limit < largest else "neither"
    figure = ax.get_figure()
    assert figure is not None  # axes that can draw are on a figure
    figure.colorbar(image, ax=ax, label="Interaction", extend=beyond)
    return image


def _draw_names(ax: Axes, labels: list[str]) -> None:
    """Name rows and columns, every n-th where there is no room for all, columns turned so that none meets another."""
    cell = points_per_pixel(ax, (len(labels), len(labels)))
    smallest, largest, line = 6.0, 10.0, 1.2
    step = max(1, int(np.ceil(smallest * line / max(cell, 1e-9))))
    size = float(np.clip(step * cell / line, smallest, largest))
    places = list(range(0, len(labels), step))
    shown = [labels[i] for i in places]
    turned = 45 if step * cell * 0.7 >= size * line else 90
    ax.set_xticks(places, shown, rotation=turned, fontsize=size, ha="right", rotation_mode="anchor")
    for name in ax.get_xticklabels():
        name.set_verticalalignment("center" if turned == 90 else "top")
    ax.set_yticks(places, shown, fontsize=size)


def _write_values(image: AxesImage, values: np.ndarray) -> None:
    """Write each value into its cell, in black or white, whichever is read on the cell's colour."""
    ax = image.axes
    cell = points_per_pixel(ax, values.shape)
    rounding = _ROUNDING * np.nanmax(np.abs(values), initial=0.0)
    texts = {
        (row, column): "0" if abs(value) <= rounding else f"{value:.3g}"
        for (row, column), value in np.ndenumerate(values)
        if not np.isnan(value)
    }
    longest = max(map(len, texts.values()), default=1)
    size = float(np.clip(0.85 * cell / (0.6 * longest), 4.0, 10.0))
    colours = image.to_rgba(values)
    for (row, column), text in texts.items():
        colour = outline_colour(colours[row, column][:3])
        ax.text(column, row, text, color=colour, fontsize=size, ha="center", va="center")
