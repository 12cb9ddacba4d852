"""What the figures of Shapley values share: checks of their arguments, the part to draw, and where it is drawn."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from meteors_c.shap import HyperSHAP, SHAPExplanation
from meteors_c.shap._tables import require_shap
from meteors_c.visualize._axes import blank_non_finite, check_type

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["validate_explanations_and_explainer_type", "validate_observation_index", "validate_target"]


def validate_explanations_and_explainer_type(explainer: HyperSHAP, explanation: SHAPExplanation) -> None:
    """Check the first two arguments of a figure.

    Parameters
    ----------
    explainer : HyperSHAP
        The explainer.
    explanation : SHAPExplanation
        What it gave.

    Raises
    ------
    TypeError
        One of them is something else.

    Examples
    --------
    >>> validate_explanations_and_explainer_type("explainer", "explanation")
    Traceback (most recent call last):
        ...
    TypeError: explainer must be an instance of HyperSHAP, not str
    """
    check_type(explainer, HyperSHAP, "explainer")
    check_type(explanation, SHAPExplanation, "explanation")


def index_or_none(value: Any, name: str) -> int | None:
    """Give an index as an int, or None; anything else, bools too, is a ``TypeError``."""
    if value is None:
        return None
    try:
        if not isinstance(value, (bool, np.bool_)):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"Expected int or None as {name}, not {value!r}")


def validate_observation_index(
    observation_index: int | None,
    explanation: SHAPExplanation,
    require_local_explanation: bool = False,
    plot_type: str | None = None,
) -> int | None:
    """Check which observation is to be drawn.

    Parameters
    ----------
    observation_index : int or None
        The observation; None for all of them, or for the only one.
    explanation : SHAPExplanation
        The explanation that it is one of.
    require_local_explanation : bool, default False
        Whether one of several observations has to be chosen.
    plot_type : str, optional
        Name of the figure, for the messages.

    Returns
    -------
    int or None
        ``observation_index``.

    Raises
    ------
    TypeError
        It is neither int nor None.
    ValueError
        It is out of range, or None where one has to be chosen.

    Examples
    --------
    >>> validate_observation_index(9, explanation)  # of ten
    9
    """
    index = index_or_none(observation_index, "observation_index")
    count = len(explanation.data)
    if index is None:
        if require_local_explanation and not explanation.is_local_explanation:
            raise ValueError(
                f"The {plot_type or 'figure'} requires a single observation: observation_index must be one of 0 to "
                f"{count - 1}, not None"
            )
    elif not 0 <= index < count:
        raise ValueError(
            f"observation_index is {index}, but the explanation has {count} observations: expected 0 to {count - 1}"
        )
    return index


def validate_target(
    target: int | None,
    explanation: SHAPExplanation,
    require_single_target: bool = False,
    plot_type: str | None = None,
) -> int | None:
    """Check which output of the model is to be drawn.

    Parameters
    ----------
    target : int or None
        The output.
    explanation : SHAPExplanation
        The explanation.
    require_single_target : bool, default False
        Whether one of several outputs has to be chosen.
    plot_type : str, optional
        Name of the figure, for the messages.

    Returns
    -------
    int or None
        ``target``; None where there is only one output.

    Raises
    ------
    TypeError
        ``target`` is neither int nor None.
    ValueError
        It is out of range, or None where one has to be chosen.

    Examples
    --------
    >>> validate_target(None, explanation)  # there is one output only
    """
    index = index_or_none(target, "target")
    count = explanation.num_target_outputs
    if index is None:
        if require_single_target and count > 1:
            raise ValueError(
                f"The {plot_type or 'figure'} requires a single target: the explanation has {count} outputs, so target "
                f"must be one of 0 to {count - 1}, not None"
            )
        return None
    if not 0 <= index < count:
        raise ValueError(f"target is {index}, but the explanation has {count} outputs: expected 0 to {count - 1}")
    return None if count == 1 else index


def refuse_local(explanation: SHAPExplanation, message: str) -> None:
    """Raise ``ValueError`` with a message if a single observation is explained."""
    if explanation.is_local_explanation:
        raise ValueError(f"{message}, but the explanation has one observation only")


def to_draw(explanation: SHAPExplanation, target: int | None, observation_index: int | None = None) -> Any:
    """Take the part of an explanation that a figure shows.

    Parameters
    ----------
    explanation : SHAPExplanation
        Of data ``(observations, features)``.
    target, observation_index : int or None
        Checked. None for the only target, and for all observations.

    Returns
    -------
    shap.Explanation
        A new one of all observations, or of one, with names for all features.

    Raises
    ------
    ValueError
        The data has other axes.
    """
    if explanation.data.ndim != 2:
        raise ValueError(
            f"Figures need data of the shape (observations, features), but the explanation has {explanation.data.shape}"
        )
    whole = explanation.explanations
    values = blank_non_finite(np.asarray(whole.values, dtype=np.float64), "the explanation")
    base_values = explanation.base_values_table()
    names = explanation.feature_names or [f"Feature {index}" for index in range(explanation.data.shape[1])]
    drawn = require_shap().Explanation(
        values=values[..., target or 0] if values.ndim == 3 else values,
        base_values=None if base_values is None else base_values[:, target or 0],
        data=explanation.data if whole.data is None else np.asarray(whole.data),
        display_data=None if whole.display_data is None else np.asarray(whole.display_data),
        feature_names=[str(name) for name in names],
    )
    return drawn if observation_index is None else drawn[observation_index]


@contextmanager
def _as_it_was(keeps_figures: bool) -> Iterator[None]:
    """Keep NumPy's global generator, which some figures of shap draw from, and pyplot's figures.

    Parameters
    ----------
    keeps_figures : bool
        Whether the figures that are opened inside stay open and current. They are closed if an error is raised, and
        the figure and axes that were current before are so again.
    """
    import matplotlib.pyplot as plt

    state = np.random.get_state()  # noqa: NPY002
    before = plt.get_fignums()
    figure = plt.gcf() if before else None
    axes = figure.gca() if figure is not None and figure.axes else None
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        np.random.set_state(state)  # noqa: NPY002
        if not (succeeded and keeps_figures):
            for number in set(plt.get_fignums()) - set(before):
                plt.close(number)
            if figure is not None:
                plt.figure(figure.number)
            if axes is not None:
                plt.sca(axes)


def draw(
    plot: Callable[[Axes | None], object], ax: Axes | None, use_pyplot: bool, opens_figure: bool = False
) -> Axes | None:
    """Draw on the axes given, or in a new figure.

    Parameters
    ----------
    plot : callable
        Called with the axes to draw on; with None where it is to draw on pyplot's current figure, which is new then,
        and choose its size.
    ax : Axes or None
        The axes given.
    use_pyplot : bool
        Whether to show all figures.
    opens_figure : bool, default False
        Whether ``plot`` opens a figure of its own when it is called with None.

    Returns
    -------
    Axes or None
        ``ax``, or the first axes of the new figure; None if shown.
    """
    import matplotlib.pyplot as plt

    with _as_it_was(keeps_figures=ax is None):
        if ax is not None and ax.figure.canvas.manager is not None:
            plt.sca(ax)
        elif ax is None and not opens_figure:
            plt.figure()
        with warnings.catch_warnings():
            # shap adds colour bars through pyplot, to axes of figures that pyplot does not know too.
            warnings.filterwarnings("ignore", "Adding colorbar to a different Figure")
            plot(ax)
        if ax is None:
            figure = plt.gcf()
            fit_into_figure(figure)
            ax = figure.axes[0]
    if use_pyplot:
        plt.show()
        return None
    return ax


def fit_into_figure(figure: Figure) -> None:
    """Grow a figure until its labels lie inside; the axes keep their sizes."""
    pad = 0.05  # inches, as all lengths here
    box, pars = figure.get_tightbbox(), figure.subplotpars
    width, height = figure.get_size_inches()
    left, bottom = max(0.0, pad - box.x0), max(0.0, pad - box.y0)
    grown_width = left + max(width, box.x1 + pad)
    grown_height = bottom + max(height, box.y1 + pad)
    figure.set_size_inches(grown_width, grown_height)
    figure.subplots_adjust(
        left=(left + pars.left * width) / grown_width,
        right=(left + pars.right * width) / grown_width,
        bottom=(bottom + pars.bottom * height) / grown_height,
        top=(bottom + pars.top * height) / grown_height,
    )
