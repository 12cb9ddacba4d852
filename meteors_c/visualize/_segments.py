"""Segments in figures: which ids are written, where and how large, and the borders between segments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from meteors_c.visualize._axes import hsv_palette, outline_colour, points_per_pixel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST, _LARGEST = 7.0, 11.0  # font sizes, in points
_DIGIT = 0.65  # width of a digit, as a part of the font size
_BORDERED = 8.0  # side of a segment, in points: borders would hide the colours of smaller ones
_MOST_BORDERS = 50_000  # edges of pixels; more take long to draw


def draw_segments(axes: Iterable[Axes], mask: np.ndarray) -> None:
    """Write the ids of segments at their centres, and draw thin borders between them.

    An id has a hue of its own, and an outline that contrasts with it, so that it is read on any background. Its size
    follows the room that segments have on the paper. Where that is less than an id needs, every n-th id is written, and
    none over another.

    Parameters
    ----------
    axes : iterable of Axes
        Those that show the segments, each as an image ``(height, width)``; all get the same ids.
    mask : numpy.ndarray
        The id of each pixel, float64, ``(height, width)``.
    """
    from matplotlib.patheffects import withStroke

    axes = list(axes)
    ids, segment, counts = np.unique(mask, return_inverse=True, return_counts=True)
    segment = segment.reshape(mask.shape)
    x, y = _centres(segment, counts)
    scale = min(points_per_pixel(ax, mask.shape) for ax in axes)
    labels = [f"{value:.0f}" if value.is_integer() else f"{value:g}" for value in ids.tolist()]
    digits = max(map(len, labels))
    step, size = _step_and_size(mask.size * scale**2 / len(ids), digits)
    chosen = np.arange(0, len(ids), step)
    chosen = chosen[_apart(x[chosen] * scale, y[chosen] * scale, counts[chosen], size, digits)]

    colours = hsv_palette(len(ids))
    style: dict[str, Any] = {"fontsize": size, "fontweight": "bold", "ha": "center", "va": "center"}
    borders = _borders(segment)
    for ax in axes:
        _draw_borders(ax, borders, len(ids), scale * mask.size**0.5)
        for i in chosen:
            outline = withStroke(linewidth=size / 4, foreground=outline_colour(colours[i]))
            ax.text(x[i], y[i], labels[i], color=colours[i], path_effects=[outline], **style)


def _centres(segment: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the column and row of each segment's centre: the mean of its pixels, or its pixel nearest to that.

    Parameters
    ----------
    segment : numpy.ndarray
        The number of each pixel's segment, from 0 on, ``(height, width)``.
    counts : numpy.ndarray
        The pixels of each segment.
    """
    flat = segment.ravel()
    rows, columns = np.indices(segment.shape).reshape(2, -1)
    x, y = np.bincount(flat, columns) / counts, np.bincount(flat, rows) / counts
    outside = segment[np.rint(y).astype(int), np.rint(x).astype(int)] != np.arange(len(counts))
    if outside.any():
        distance = (columns - x[flat]) ** 2 + (rows - y[flat]) ** 2
        first = np.cumsum(counts) - counts  # where each segment begins among pixels ordered by segment
        nearest = np.lexsort((distance, flat))[first]
        x, y = np.where(outside, columns[nearest], x), np.where(outside, rows[nearest], y)
    return x, y


def _step_and_size(area: float, digits: int) -> tuple[int, float]:
    """Return n, where every n-th id is written, and the font size, for segments of this mean area in square points."""
    needed = (_SMALLEST * _DIGIT * digits / 0.8) ** 2
    step = max(1, int(np.ceil(needed / max(area, 1e-9))))
    fitting = 0.8 * (step * area) ** 0.5 / (_DIGIT * digits)
    return step, float(np.clip(fitting, _SMALLEST, _LARGEST))


def _apart(x: np.ndarray, y: np.ndarray, counts: np.ndarray, size: float, digits: int) -> np.ndarray:
    """Return which labels at these points (in points, as the font size) to write so that none lies over another.

    Those of large segments go first.
    """
    kept = np.zeros(len(x), dtype=bool)
    width, height = size * _DIGIT * digits, 1.2 * size
    for i in np.argsort(-counts, kind="stable"):
        over = kept & (np.abs(x - x[i]) < width) & (np.abs(y - y[i]) < height)
        kept[i] = not over.any()
    return kept


def _borders(segment: np.ndarray) -> np.ndarray:
    """Return the edges between pixels of different segments, ``(edges, 2 ends, x and y)``."""
    row, column = np.nonzero(segment[:, 1:] != segment[:, :-1])
    upright = np.stack([np.stack([column + 0.5, row - 0.5], 1), np.stack([column + 0.5, row + 0.5], 1)], 1)
    row, column = np.nonzero(segment[1:] != segment[:-1])
    level = np.stack([np.stack([column - 0.5, row + 0.5], 1), np.stack([column + 0.5, row + 0.5], 1)], 1)
    return np.concatenate([upright, level])


def _draw_borders(ax: Axes, borders: np.ndarray, segments: int, side: float) -> None:
    """Draw the borders of this many segments on a square of this side, in points, unless they would hide the map."""
    from matplotlib.collections import LineCollection

    if 0 < len(borders) <= _MOST_BORDERS and side / segments**0.5 >= _BORDERED:
        ax.add_collection(LineCollection(list(borders), colors="0.25", linewidths=0.4, capstyle="round"), autolim=False)
