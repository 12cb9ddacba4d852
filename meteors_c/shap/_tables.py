"""What the explainer and its results share: tables of observations, names of features, and the ``shap`` package."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch

from meteors_c._optional import import_optional
from meteors_c.exceptions import ShapeMismatchError

_WANTED = "Expected NumPy array | Torch Tensor | Pandas DataFrame as data, with numeric values"


def require_shap() -> ModuleType:
    """Import the ``shap`` package.

    Raises
    ------
    ImportError
        It, or something that it needs, is not installed.
    """
    return import_optional("shap", "shap", "shap", "HyperSHAP and its figures")


def _numbers(data: Any) -> np.ndarray:
    """Give data as an array of numbers; one that is such an array already comes back as it is."""
    if isinstance(data, torch.Tensor):
        data = data.detach().cpu()
        data = (data.float() if data.dtype is torch.bfloat16 else data).numpy()
    if isinstance(data, (str, bytes)) or data is None:
        raise TypeError(f"{_WANTED}, not {type(data).__name__}")
    try:
        array = data if isinstance(data, np.ndarray) else np.asarray(data)
        if array.dtype == object:  # columns of several types, or numbers of a library of their own
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{_WANTED}, not {type(data).__name__}: {error}") from error
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{_WANTED}, not {type(data).__name__} with values of type {array.dtype}")
    return array


def ensure_data_type_and_reshape(data: Any) -> np.ndarray:
    """Give a table of observations as an array.

    Parameters
    ----------
    data : numpy.ndarray, torch.Tensor, pandas.DataFrame, pandas.Series or sequence
        The observations, ``(observations, features)``; a single one may be ``(features,)``. Tensors may be on any
        device, and part of autograd.

    Returns
    -------
    numpy.ndarray
        At least 2-D. A 2-D array of numbers is given back as the same object, others share memory where possible.

    Raises
    ------
    TypeError
        ``data`` holds something else than numbers; bools are none.
    ValueError
        ``data`` is a single number.

    Examples
    --------
    >>> ensure_data_type_and_reshape([0.1, 0.5, 0.3]).shape
    (1, 3)
    """
    array = _numbers(data)
    if array.ndim == 0:
        raise ValueError("data must have the shape (observations, features) or (features,), but it is a single number")
    return array.reshape(1, -1) if array.ndim == 1 else array


def feature_names_of(data: Any) -> list[str] | None:
    """Give the names of features that a table brings: those of a DataFrame's columns, of a Series' index.

    Parameters
    ----------
    data : object
        A table, or a masker of shap. Columns that are only numbered are no names.

    Returns
    -------
    list of str or None
        The names, None where there are none.
    """
    if isinstance(data, (np.ndarray, torch.Tensor, list, tuple)):
        return None
    is_series = hasattr(data, "to_numpy") and getattr(data, "ndim", 0) == 1
    names = getattr(data, "index" if is_series else "columns", getattr(data, "feature_names", None))
    if names is None or not np.iterable(names) or list(names) == list(range(len(names))):  # type: ignore[arg-type]
        return None
    return [str(name) for name in names]


def base_values_table(base_values: Any, observations: int, outputs: int) -> np.ndarray | None:
    """Bring base values to one per observation and output.

    Parameters
    ----------
    base_values : array_like or None
        One number, one per output, one per observation, or ``(observations, outputs)``, where ``observations`` may be
        1 for all. Where there are as many observations as outputs, a 1-D array is one per output.
    observations, outputs : int
        How many there are.

    Returns
    -------
    numpy.ndarray or None
        ``(observations, outputs)``, read-only, or None.

    Raises
    ------
    ShapeMismatchError
        ``base_values`` has another shape.
    """
    if base_values is None:
        return None
    array = np.asarray(base_values, dtype=np.float64)
    shape = array.shape
    if array.ndim == 1:
        array = array if len(array) in (1, outputs) and outputs > 1 else array[:, None]
    try:
        return np.broadcast_to(array, (observations, outputs))
    except ValueError:
        raise ShapeMismatchError(
            f"base_values have the shape {shape}, but there are {observations} observations and {outputs} outputs: "
            f"expected ({observations},), ({outputs},) or ({observations}, {outputs})"
        ) from None
