"""Figures of Shapley values: those of the ``shap`` package, and one over wavelengths."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from meteors_c.shap._tables import require_shap
from meteors_c.visualize._shap_axes import (
    draw,
    index_or_none,
    refuse_local,
    to_draw,
    validate_explanations_and_explainer_type,
    validate_observation_index,
    validate_target,
)
from meteors_c.visualize._wavelengths_bar import validate_mapping_dict, wavelengths_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from meteors_c.shap import HyperSHAP, SHAPExplanation

__all__ = [
    "bar",
    "beeswarm",
    "dependence_plot",
    "force",
    "heatmap",
    "validate_explanations_and_explainer_type",
    "validate_mapping_dict",
    "validate_observation_index",
    "validate_target",
    "waterfall",
    "wavelengths_bar",
]


def force(
    explainer: HyperSHAP,
    explanation: SHAPExplanation,
    target: int | None = None,
    observation_index: int | None = None,
    use_pyplot: bool = False,
    **kwargs: Any,
) -> Figure | None:
    """Draw how the features push one output away from its base value.

    Parameters
    ----------
    explainer : HyperSHAP
        What made the explanation.
    explanation : SHAPExplanation
        Of data ``(observations, features)``.
    target : int, optional
        The output; required where there are several.
    observation_index : int, optional
        The observation; required where there are several.
    use_pyplot : bool, default False
        Whether to show the figure.
    **kwargs
        Further arguments of ``shap.plots.force``, such as ``figsize`` or ``text_rotation``.

    Returns
    -------
    Figure or None
        A new figure; None if shown.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        ``target`` or ``observation_index`` is missing or out of range, or there are no base values.
    ImportError
        The shap package is missing.

    Notes
    -----
    The first value drawn is the base value that belongs to this observation and output.

    Examples
    --------
    >>> figure = visualize.force(explainer, explanation, observation_index=0)
    """
    drawn = _one_observation("force plot", explainer, explanation, target, observation_index)
    features = drawn.data if drawn.display_data is None else drawn.display_data
    given = {"features": _readable(features), "feature_names": drawn.feature_names, **kwargs}

    def plot(ax: Axes | None) -> None:
        require_shap().plots.force(float(drawn.base_values), drawn.values, matplotlib=True, show=False, **given)

    ax = draw(plot, None, use_pyplot, opens_figure=True)
    return None if ax is None else ax.figure  # type: ignore[return-value]  # a figure of pyplot, never a part of one


def beeswarm(
    explainer: HyperSHAP,
    explanation: SHAPExplanation,
    target: int | None = None,
    observation_index: int | None = None,
    use_pyplot: bool = False,
    ax: Axes | None = None,
) -> Axes | None:
    """Draw the values of each feature in all observations, coloured by the feature.

    Parameters
    ----------
    observation_index : None
        Refused: the figure is about all observations.
    ax : Axes, optional
        Where to draw; a new figure by default.
    explainer, explanation, target, use_pyplot
        As in `force`.

    Returns
    -------
    Axes or None
        The axes drawn on; None if shown.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        There is one observation only, or an ``observation_index``; ``target`` is missing or out of range.
    ImportError
        The shap package is missing.

    Examples
    --------
    >>> ax = visualize.beeswarm(explainer, explanation)
    """
    validate_explanations_and_explainer_type(explainer, explanation)
    refuse_local(explanation, "The beeswarm plot does not support local explanations")
    if index_or_none(observation_index, "observation_index") is not None:
        raise ValueError(
            "The beeswarm plot does not support local explanations: observation_index must be None, not "
            f"{observation_index}"
        )
    drawn = to_draw(explanation, validate_target(target, explanation, True, "beeswarm plot"))

    def plot(ax: Axes | None) -> None:
        # On axes that are given, shap refuses to choose a size.
        size = {} if ax is None else {"plot_size": None}
        require_shap().plots.beeswarm(drawn, ax=ax, show=False, **size)

    return draw(plot, ax, use_pyplot)


def dependence_plot(
    feature: int | str,
    explainer: HyperSHAP,
    explanation: SHAPExplanation,
    target: int | None = None,
    interaction_index: int | str | None = "auto",
    display_features: Any = None,
    color: Any = "#1E88E5",
    axis_color: Any = "#333333",
    cmap: Any = None,
    dot_size: float = 16,
    x_jitter: float = 0,
    alpha: float = 1,
    title: str | None = None,
    xmin: float | str | None = None,
    xmax: float | str | None = None,
    ymin: float | str | None = None,
    ymax: float | str | None = None,
    ax: Axes | None = None,
    use_pyplot: bool = False,
) -> Axes | None:
    """Draw the values of one feature against the feature, coloured by another one.

    Parameters
    ----------
    feature : int or str
        Index or name of the feature, or ``"rank(0)"`` for the one of the largest mean absolute value, and so on.
    interaction_index : int, str or None, default "auto"
        Index or name of the feature that colours; ``"auto"`` for the one that seems to interact most, None for none.
    display_features : pandas.DataFrame or numpy.ndarray, optional
        What to write instead of the data, of its shape.
    color, axis_color : colour
        Of the points without an interaction, and of the axes.
    cmap : str or Colormap, optional
        For the feature that colours.
    dot_size, x_jitter, alpha : float
        Area of a point, its random shift (0 to 1), and its opacity.
    title : str, optional
        Title of the axes.
    xmin, xmax, ymin, ymax : float or str, optional
        Limits of the axes; ``"percentile(95)"`` is that percentile.
    explainer, explanation, target, ax, use_pyplot
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
        There is one observation only; a feature is unknown; ``display_features`` has another shape than the data;
        ``target`` is missing or out of range.
    ImportError
        The shap package is missing.

    Examples
    --------
    >>> ax = visualize.dependence_plot(1, explainer, explanation, interaction_index=2)
    """
    validate_explanations_and_explainer_type(explainer, explanation)
    refuse_local(explanation, "The dependence plot requires a global explanation")
    drawn = to_draw(explanation, validate_target(target, explanation, True, "dependence plot"))
    feature = _feature(feature, drawn, "feature", "Expected int or str as feature")
    if interaction_index is not None and interaction_index != "auto":
        wrong = "Expected str or int as interaction_index"
        interaction_index = _feature(interaction_index, drawn, "interaction_index", wrong)
    if display_features is not None:
        _check_display_features(display_features, drawn)
    options = {
        "feature_names": drawn.feature_names,
        "display_features": display_features,
        "interaction_index": interaction_index,
        "color": color,
        "axis_color": axis_color,
        "cmap": cmap,
        "dot_size": dot_size,
        "x_jitter": x_jitter,
        "alpha": alpha,
        "title": title,
        "xmin": xmin,
        "xmax": xmax,
        "ymin": ymin,
        "ymax": ymax,
    }

    def plot(ax: Axes | None) -> None:
        require_shap().dependence_plot(feature, drawn.values, drawn.data, ax=ax, show=False, **options)

    return draw(plot, ax, use_pyplot, opens_figure=True)


def waterfall(
    explainer: HyperSHAP,
    explanation: SHAPExplanation,
    target: int | None = None,
    observation_index: int | None = None,
    use_pyplot: bool = False,
) -> Axes | None:
    """Draw how the features lead from the base value to one output, one below the other.

    Parameters
    ----------
    explainer, explanation, target, observation_index, use_pyplot
        As in `force`.

    Returns
    -------
    Axes or None
        The axes of a new figure; None if shown.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        ``target`` or ``observation_index`` is missing or out of range, or there are no base values.
    ImportError
        The shap package is missing.

    Examples
    --------
    >>> ax = visualize.waterfall(explainer, explanation, observation_index=0)
    """
    drawn = _one_observation("waterfall plot", explainer, explanation, target, observation_index)
    return draw(lambda ax: require_shap().plots.waterfall(drawn, show=False), None, use_pyplot)


def heatmap(
    explainer: HyperSHAP,
    explanation: SHAPExplanation,
    target: int | None = None,
    use_pyplot: bool = False,
    ax: Axes | None = None,
    **kwargs: Any,
) -> Axes | None:
    """Draw the values as an image, observations against features, below the output of each observation.

    Parameters
    ----------
    explainer, explanation, target, use_pyplot, ax
        As in `beeswarm`.
    **kwargs
        Further arguments of ``shap.plots.heatmap``, such as ``max_display`` or ``instance_order``.

    Returns
    -------
    Axes or None
        The axes drawn on; None if shown.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        There is one observation only, or a value that is not finite; ``target`` is missing or out of range.
    ImportError
        The shap package is missing.

    Examples
    --------
    >>> ax = visualize.heatmap(explainer, explanation)
    """
    validate_explanations_and_explainer_type(explainer, explanation)
    refuse_local(explanation, "The heatmap does not support local explanations")
    drawn = to_draw(explanation, validate_target(target, explanation, True, "heatmap"))
    if not np.isfinite(drawn.values).all():
        raise ValueError("The heatmap sorts observations by their values, but some of these are NaN or infinite")
    return draw(lambda ax: require_shap().plots.heatmap(drawn, ax=ax, show=False, **kwargs), ax, use_pyplot)


def bar(
    explainer: HyperSHAP,
    explanation: SHAPExplanation,
    target: int | None = None,
    observation_index: int | None = None,
    use_pyplot: bool = False,
    ax: Axes | None = None,
    **kwargs: Any,
) -> Axes | None:
    """Draw the mean absolute value of each feature or, for one observation, its value.

    Parameters
    ----------
    observation_index : int, optional
        The observation; None for all of them, or for the only one.
    explainer, explanation, target, use_pyplot, ax
        As in `beeswarm`.
    **kwargs
        Further arguments of ``shap.plots.bar``, such as ``max_display``.

    Returns
    -------
    Axes or None
        The axes drawn on; None if shown.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        ``target`` is missing, or it or ``observation_index`` is out of range.
    ImportError
        The shap package is missing.

    Examples
    --------
    >>> ax = visualize.bar(explainer, explanation)
    """
    validate_explanations_and_explainer_type(explainer, explanation)
    target = validate_target(target, explanation, True, "bar plot")
    observation_index = validate_observation_index(observation_index, explanation, plot_type="bar plot")
    drawn = to_draw(explanation, target, 0 if explanation.is_local_explanation else observation_index)
    return draw(lambda ax: require_shap().plots.bar(drawn, ax=ax, show=False, **kwargs), ax, use_pyplot)


def _one_observation(
    plot_type: str,
    explainer: HyperSHAP,
    explanation: SHAPExplanation,
    target: int | None,
    observation_index: int | None,
) -> Any:
    """Check the arguments of a figure of one observation, and give what it shows."""
    validate_explanations_and_explainer_type(explainer, explanation)
    target = validate_target(target, explanation, True, plot_type)
    observation_index = validate_observation_index(observation_index, explanation, True, plot_type)
    drawn = to_draw(explanation, target, observation_index or 0)
    if drawn.base_values is None:
        raise ValueError(f"The {plot_type} starts from the base values, but the explanation has none")
    return drawn


def _readable(features: np.ndarray) -> np.ndarray:
    """Give the values of features as they are to be written: four significant digits, but no fewer than whole ones."""

    def rounded(value: Any) -> Any:
        if not isinstance(value, float):
            return value
        return float(f"{value:.4g}") if abs(value) < 1e4 else round(value, 0)

    return np.array([rounded(value) for value in features], dtype=object)


def _feature(value: Any, drawn: Any, name: str, wrong: str) -> int | str:
    """Give the index of a feature that is named by index, by name or by rank; ranks stay for shap to resolve."""
    names = list(drawn.feature_names)
    if isinstance(value, str):
        if value in names:
            return names.index(value)
        rank = re.fullmatch(r"rank\((\d+)\)", value)
        if rank is None or int(rank[1]) >= len(names):
            raise ValueError(f"{name} is {value!r}, but the features are {', '.join(names)}")
        return value
    try:
        index = index_or_none(value, name)
    except TypeError:
        index = None
    if index is None:
        raise TypeError(f"{wrong}, not {type(value).__name__}")
    if not 0 <= index < len(names):
        raise ValueError(f"{name} is {index}, but there are {len(names)} features: expected 0 to {len(names) - 1}")
    return index


def _check_display_features(display_features: Any, drawn: Any) -> None:
    is_frame = hasattr(display_features, "columns") and hasattr(display_features, "to_numpy")
    if not is_frame and not isinstance(display_features, np.ndarray):
        raise TypeError(
            f"Expected pd.DataFrame or np.ndarray as display_features, not {type(display_features).__name__}"
        )
    if display_features.shape != drawn.data.shape:
        raise ValueError(
            f"display_features have the shape {display_features.shape}, but the data has {drawn.data.shape}"
        )
