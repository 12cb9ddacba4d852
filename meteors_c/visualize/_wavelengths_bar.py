"""Shapley values of transformed wavelengths as bars over the wavelengths."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from meteors_c.visualize._axes import setup_visualization
from meteors_c.visualize._shap_axes import draw, to_draw, validate_explanations_and_explainer_type, validate_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from meteors_c.shap import HyperSHAP, SHAPExplanation

__all__ = ["validate_mapping_dict", "wavelengths_bar"]

_QUALITATIVE = 64  # maps of fewer colours hold distinct ones, longer ones are gradients


def validate_mapping_dict(
    mapping: dict[Any, Any], explanation_values: np.ndarray, wavelengths: bool = True
) -> dict[Any, list[int]]:
    """Check that a mapping gives each feature one wavelength, or one transformation.

    Parameters
    ----------
    mapping : dict
        The features, as a list of indices or a single index, of each wavelength (a number, or a string that is one) or
        each transformation (a string). Not changed.
    explanation_values : numpy.ndarray
        The Shapley values, ``(observations, features)``.
    wavelengths : bool, default True
        Whether the keys are wavelengths.

    Returns
    -------
    dict
        A list of indices for each wavelength or transformation; strings that are numbers have become floats.

    Raises
    ------
    TypeError
        ``mapping``, a key, a value, an index or ``explanation_values`` has the wrong type.
    ValueError
        A string is no number, an index is out of range or there twice, or a feature is missing.

    Examples
    --------
    >>> validate_mapping_dict({"550": [0, 2], 680.5: 1}, np.zeros((10, 3)))
    {550.0: [0, 2], 680.5: [1]}
    """
    if not isinstance(mapping, dict):
        raise TypeError(f"Expected dict as mapping, not {type(mapping).__name__}")
    if not isinstance(explanation_values, np.ndarray):
        # The spelling is what code written for meteors matches.
        raise TypeError(f"Expected np.ndarray as explantion_values, not {type(explanation_values).__name__}")
    count = explanation_values.shape[1]
    checked: dict[Any, list[int]] = {}
    used: set[int] = set()
    for key, value in mapping.items():
        name = _wavelength(key) if wavelengths else _transformation(key)
        if name in checked:
            raise ValueError(f"The wavelength {name} is in the mapping twice, as a number and as a string")
        checked[name] = _indices(value, key, count)
        for index in checked[name]:
            if index in used:
                raise ValueError(f"Feature index {index} already used in another entry of the mapping (see {key!r})")
            used.add(index)
    if len(used) < count:
        missing = sorted(set(range(count)) - used)
        raise ValueError(f"Not all features are used in the mapping: {missing} of {count} features are missing")
    return checked


def _wavelength(key: Any) -> Any:
    if isinstance(key, str):
        try:
            key = float(key)
        except ValueError:
            raise ValueError(f"Expected numeric as key in wavelengths mapping, not {key!r}") from None
    elif not isinstance(key, numbers.Real) or isinstance(key, bool):
        raise TypeError(f"Expected numeric as key in wavelengths mapping, not {key!r}")
    if not math.isfinite(key):
        raise ValueError(f"Expected numeric as key in wavelengths mapping, a finite one, not {key!r}")
    return key


def _transformation(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"Expected str as key in mapping of transformations, not {key!r}")
    return key


def _is_index(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _indices(value: Any, key: Any, count: int) -> list[int]:
    indices = [value] if _is_index(value) else value
    if not isinstance(indices, list):
        raise TypeError(f"Expected list or a single integer as value in mapping, but {key!r} has {value!r}")
    for index in indices:
        if not _is_index(index):
            raise TypeError(f"Expected int as feature index in mapping, but {key!r} has {index!r}")
        if not 0 <= index < count:
            raise ValueError(f"Feature index out of bounds: {key!r} has {index}, but there are {count} features")
    return [int(index) for index in indices]


def wavelengths_bar(
    explainer: HyperSHAP,
    explanation: SHAPExplanation,
    target: int | None = None,
    wavelengths_mapping: dict[Any, Any] | None = None,
    transformations_mapping: dict[str, Any] | None = None,
    separate_features: bool = True,
    average_the_same_bands: bool = False,
    cmap: Any = "tab20",
    use_pyplot: bool = False,
    ax: Axes | None = None,
) -> Axes | None:
    """Draw the mean absolute value of the features of each wavelength as stacked bars, one colour per transformation.

    Parameters
    ----------
    wavelengths_mapping : dict
        The features (a list of indices, or one index) of each wavelength in nanometres. Each feature belongs to one.
    transformations_mapping : dict, optional
        The features of each transformation; its name stands in the legend.
    separate_features : bool, default True
        Whether thin lines separate the features inside a bar. Otherwise those of one transformation are one piece.
    average_the_same_bands : bool, default False
        Whether a bar is as high as the mean over the features of its wavelength, instead of their sum.
    cmap : str or Colormap, default "tab20"
        Colours of the transformations. From a gradient, such as ``"viridis"``, they are taken at equal distances.
    explainer, explanation, target, use_pyplot, ax
        As in `beeswarm`.

    Returns
    -------
    Axes or None
        The axes drawn on; None if shown.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        ``wavelengths_mapping`` is missing; a mapping doesn't hold each feature once; there are more transformations
        than colours; ``target`` is missing or out of range.
    ImportError
        The shap package is missing.

    Examples
    --------
    >>> ax = wavelengths_bar(explainer, explanation, wavelengths_mapping={550.0: [0, 1], 680.0: [2]})
    >>> ax.get_xlabel()
    'Wavelengths (nm)'
    """
    validate_explanations_and_explainer_type(explainer, explanation)
    target = validate_target(target, explanation, True, "wavelengths bar plot")
    if wavelengths_mapping is None:
        raise ValueError("Wavelengths mapping must be provided: wavelengths_mapping is None")
    values = np.asarray(to_draw(explanation, target).values)
    wavelengths = validate_mapping_dict(wavelengths_mapping, values)
    transformations = {"": list(range(values.shape[1]))}
    if transformations_mapping is not None:
        transformations = validate_mapping_dict(transformations_mapping, values, wavelengths=False)
    colours = _colours(cmap, len(transformations))
    heights = np.abs(values).mean(axis=0)
    if average_the_same_bands:
        for features in wavelengths.values():
            heights[features] /= len(features)

    title = "SHAP explanations" if target is None else f"SHAP explanations for target {target}"
    if average_the_same_bands:
        title += " (averaged across the same bands)"

    def plot(ax: Axes | None) -> None:
        ax = setup_visualization(ax, title, "Wavelengths (nm)", "mean(|SHAP value|)")
        _draw_bars(ax, heights, wavelengths, transformations, colours, separate_features)
        if transformations_mapping is not None:
            ax.legend(title="Transformations")

    return draw(plot, ax, use_pyplot)


def _colours(cmap: Any, count: int) -> list[Any]:
    """Give distinct colours of a map."""
    import matplotlib

    colours = matplotlib.colormaps[cmap] if isinstance(cmap, str) else cmap
    if count > colours.N:
        raise ValueError(f"cmap has {colours.N} colours, but there are {count} transformations")
    if colours.N < _QUALITATIVE:
        return [colours(index) for index in range(count)]
    return [colours(position) for position in np.linspace(0, 1, count)]


def _draw_bars(
    ax: Axes,
    heights: np.ndarray,
    wavelengths: dict[Any, list[int]],
    transformations: dict[str, list[int]],
    colours: list[Any],
    separate_features: bool,
) -> None:
    """Stack the heights of features at their wavelengths, the transformations in their order from below.

    Parameters
    ----------
    heights : numpy.ndarray
        Of each feature, ``(features,)``.
    wavelengths, transformations : dict
        The features of each; a feature is in one of each.
    colours : list
        One per transformation.
    separate_features : bool
        Whether each feature is a piece, with a line to the one below, or all of a transformation are one.
    """
    at = {feature: wavelength for wavelength, features in wavelengths.items() for feature in features}
    positions = sorted({float(wavelength) for wavelength in at.values()})
    span = positions[-1] - positions[0]
    # Bars of neighbours that are closer than a 200th of the range overlap; thinner ones could not be seen.
    width = max(0.8 * min(np.diff(positions)), span / 200) if span > 0 else 1.0
    tops = dict.fromkeys(at.values(), 0.0)
    for (name, features), colour in zip(transformations.items(), colours, strict=True):
        pieces: list[tuple[Any, float]] = [(at[feature], float(heights[feature])) for feature in features]
        if not separate_features:
            merged = dict.fromkeys((wavelength for wavelength, _ in pieces), 0.0)
            for wavelength, height in pieces:
                merged[wavelength] += height
            pieces = list(merged.items())
        bottoms = []
        for wavelength, height in pieces:
            bottoms.append(tops[wavelength])
            tops[wavelength] += height
        x, y = np.array([float(wavelength) for wavelength, _ in pieces]), np.array([height for _, height in pieces])
        for piece in ax.bar(x, y, width=width, bottom=bottoms, color=[colour], label=name):
            piece.sticky_edges.y[:] = [0]  # a flat piece on top of a bar would take away the margin above it
        if separate_features:
            inside = (y > 0) & (np.array(bottoms) > 0)
            lines = np.array(bottoms)[inside]
            ax.hlines(lines, x[inside] - width / 2, x[inside] + width / 2, colors="white", linewidth=0.6)
    ax.autoscale_view()
