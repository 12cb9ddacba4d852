"""Shapley values of observations, together with the observations."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from meteors_c.exceptions import ShapeMismatchError
from meteors_c.shap._tables import (
    base_values_table,
    ensure_data_type_and_reshape,
    feature_names_of,
    require_shap,
)
from meteors_c.utils import warn_caller

__all__ = ["SHAPExplanation"]


class SHAPExplanation:
    """Shapley values of the features of observations.

    Parameters
    ----------
    data : numpy.ndarray, torch.Tensor, pandas.DataFrame, pandas.Series or sequence
        The observations, ``(observations, features)``, or a single one, ``(features,)``.
    explanations : shap.Explanation
        Their Shapley values: the shape of the data, with one more axis at the end where the model has several outputs.
        For one observation the first axis may be missing; the object kept here has it then, the one given stays as it
        is. Base values and data may be missing.
    explanation_method : str, optional
        What computed them.

    Attributes
    ----------
    data : numpy.ndarray
        At least 2-D.
    explanations : shap.Explanation
        The very object given, unless it lacks its first axis.
    explanation_method : str or None

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ShapeMismatchError
        The shapes of the data, the values and the base values don't agree.
    ImportError
        The shap package is missing.

    Notes
    -----
    All fields may be assigned to afterwards; what is assigned is not checked.

    Examples
    --------
    >>> import numpy as np, shap
    >>> values = shap.Explanation(values=np.array([[0.5, -1.0]]), base_values=np.array([3.0]))
    >>> explanation = SHAPExplanation(data=np.array([[1.0, 2.0]]), explanations=values)
    >>> explanation.num_target_outputs, explanation.is_local_explanation
    (1, True)
    """

    data: np.ndarray
    explanations: Any
    explanation_method: str | None

    def __init__(
        self, *, data: Any = None, explanations: Any = None, explanation_method: str | None = None, **unknown: Any
    ) -> None:
        if unknown:
            warn_caller(f"SHAPExplanation ignores unknown keyword arguments: {', '.join(unknown)}")
        if explanation_method is not None and not isinstance(explanation_method, str):
            raise TypeError(f"explanation_method must be a string or None, not {type(explanation_method).__name__}")
        if not isinstance(explanations, require_shap().Explanation):
            raise TypeError(f"Expected shap.Explanation as explanations, not {type(explanations).__name__}")
        self.data = ensure_data_type_and_reshape(data)
        self.explanations = _with_observations(explanations, self.data.shape)
        self.explanation_method = explanation_method
        self._data_names = feature_names_of(data)
        self.base_values_table()

    @property
    def num_target_outputs(self) -> int:
        """How many outputs of the model are explained; 1 for an output that is a single number."""
        shape = np.shape(self.explanations.values)
        return shape[-1] if len(shape) > self.data.ndim else 1

    @property
    def is_local_explanation(self) -> bool:
        """Whether a single observation is explained."""
        return self.data.ndim == 2 and len(self.data) == 1

    @property
    def feature_names(self) -> list[str] | None:
        """The names of the features: those of the explanation, or of the data's columns; None where there are none."""
        names = self.explanations.feature_names
        return self._data_names if names is None else list(names)

    def base_values_table(self) -> np.ndarray | None:
        """Return the expected outputs of the model, that the values are differences from.

        Returns
        -------
        numpy.ndarray or None
            ``(observations, outputs)``; None where the explanation has none.

        Raises
        ------
        ShapeMismatchError
            The base values belong to other observations or outputs.

        Examples
        --------
        >>> explanation.base_values_table().shape
        (10, 1)
        """
        return base_values_table(self.explanations.base_values, len(self.data), self.num_target_outputs)

    def model_copy(self) -> SHAPExplanation:
        """Return a shallow copy.

        Examples
        --------
        >>> explanation.model_copy() == explanation
        True
        """
        return copy.copy(self)

    def __eq__(self, other: object) -> bool:
        """Compare the fields; NaN is the same as NaN."""
        if self is other:
            return True
        if not isinstance(other, SHAPExplanation):
            return NotImplemented
        one, two = self.explanations, other.explanations
        return (
            self.explanation_method == other.explanation_method
            and self.feature_names == other.feature_names
            and _same(self.data, other.data)
            and _same(one.values, two.values)
            and _same(one.base_values, two.base_values)
            and _same(one.data, two.data)
        )

    __hash__ = None  # type: ignore[assignment]  # fields may change

    def __repr__(self) -> str:
        return (
            f"SHAPExplanation(shape={self.data.shape}, outputs={self.num_target_outputs}, "
            f"explanation_method={self.explanation_method!r})"
        )


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64), equal_nan=True)


def _with_observations(explanations: Any, shape: tuple[int, ...]) -> Any:
    """Give an explanation whose values begin with the shape of the data: the one given, or a copy with a first axis."""
    values = np.shape(explanations.values)
    if shape in (values, values[:-1]):
        return explanations
    if shape[0] != 1 or shape[1:] not in (values, values[:-1]):
        raise ShapeMismatchError(
            f"explanations have values of the shape {values}, but the data has the shape {shape}: expected {shape}, "
            "with one more axis at the end for several outputs"
        )
    whole = copy.copy(explanations)
    axes = {"values": len(values) + 1, "base_values": len(values) + 2 - len(shape), "data": len(shape)}
    for field, wanted in axes.items():
        value = getattr(explanations, field)
        # Of an explanation that was sliced, some fields may be whole.
        if value is not None and np.ndim(value) == wanted - 1:
            setattr(whole, field, np.asarray(value)[None])
    return whole
