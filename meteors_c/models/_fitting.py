"""How linear models are fitted: by the core where it takes the arguments, else by scikit-learn."""

from __future__ import annotations

import importlib
import inspect
import math
import time
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from meteors_c import _core
from meteors_c._optional import import_optional
from meteors_c.utils import warn_caller

__all__ = ["check_arguments", "core_options", "fit_in_core", "train"]

Values = NDArray[Any]


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_off(value: Any) -> bool:
    return _is_bool(value) and not value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not _is_bool(value)


def _is_count(value: Any) -> bool:
    return value is None or (isinstance(value, Integral) and not _is_bool(value) and int(value) > 0)


def _anything(value: Any) -> bool:
    return True


class _Estimator(NamedTuple):
    """An estimator of scikit-learn that the core computes: for each of its arguments, which values the core takes."""

    kind: str
    takes: dict[str, Callable[[Any], bool]]


_ALWAYS = {"fit_intercept": _is_bool, "copy_X": _anything, "tol": _is_number}
_CORE = {
    "linear_model.Lasso": _Estimator(
        "lasso",
        {
            **_ALWAYS,
            "alpha": _is_number,
            "positive": _is_bool,
            "max_iter": _is_count,
            "precompute": _is_bool,
            "warm_start": _is_off,
            "random_state": _anything,
            "selection": lambda value: isinstance(value, str) and value in ("cyclic", "random"),
        },
    ),
    "linear_model.Ridge": _Estimator(
        "ridge",
        {
            **_ALWAYS,
            "alpha": _is_number,
            "positive": _is_off,
            "max_iter": _is_count,
            "solver": lambda value: isinstance(value, str) and value == "auto",
            "random_state": _anything,
        },
    ),
    "linear_model.LinearRegression": _Estimator("least_squares", {**_ALWAYS, "positive": _is_off, "n_jobs": _anything}),
}


def core_options(sklearn_module: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the core has to compute for an estimator with these arguments; None where it can't."""
    estimator = _CORE.get(sklearn_module)
    if estimator is None or not all(
        name in estimator.takes and estimator.takes[name](value) for name, value in arguments.items()
    ):
        return None
    iterative = estimator.kind == "lasso"  # the others are solved directly
    return {
        "kind": estimator.kind,
        "alpha": float(arguments.get("alpha", 1.0)) if "alpha" in estimator.takes else 0.0,
        "intercept": bool(arguments.get("fit_intercept", True)),
        "positive": bool(arguments.get("positive", False)),
        "max_iterations": int(arguments.get("max_iter") or 0) if iterative else 0,
        "tolerance": float(arguments.get("tol", 0.0)) if iterative else 0.0,
    }


def check_arguments(sklearn_module: str, arguments: dict[str, Any]) -> None:
    """Raise for arguments that the estimator lacks, and for an alpha that can't be used.

    Scikit-learn is imported only where what is known here does not tell.
    """
    estimator = _CORE.get(sklearn_module)
    known: Iterable[str] = () if estimator is None else estimator.takes
    if estimator is None or not arguments.keys() <= estimator.takes.keys():
        try:
            known = inspect.signature(_sklearn_class(sklearn_module)).parameters
        except ImportError:
            if estimator is None:
                raise
    unknown = sorted(arguments.keys() - set(known))
    if unknown:
        raise TypeError(f"{sklearn_module} takes no argument {unknown[0]!r}; it takes {', '.join(sorted(known))}")
    alpha = arguments.get("alpha", 0.0)
    if estimator is not None and _is_number(alpha) and not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"alpha must be finite and not negative, got {alpha!r}")


def _sklearn_class(sklearn_module: str) -> type[Any]:
    import_optional("sklearn", "scikit-learn", "sklearn", f"estimators such as {sklearn_module} with these arguments")
    module, _, name = f"sklearn.{sklearn_module}".rpartition(".")
    return getattr(importlib.import_module(module), name)


class Standardise(nn.Module):
    """Subtract the mean of each feature and divide by its standard deviation."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Standardise inputs ``(n, features)``."""
        return (x - self.mean) / self.std


class _Data(NamedTuple):
    x: Values  # (rows, features) float64
    y: Values  # (rows,) or (rows, outputs); float64, or labels
    weight: Values | None  # (rows,) float64


def _to_numpy(parts: list[Any]) -> Values:
    """The parts of one tensor, behind each other; every real dtype of torch but integers becomes float64."""
    tensor = torch.cat([torch.as_tensor(part).detach().cpu() for part in parts])
    if tensor.is_complex():
        raise TypeError(f"train_data must be real numbers, not {tensor.dtype}")
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def _read(loader: Iterable[Any], sample_weight: Any) -> _Data:
    batches = [tuple(batch) if isinstance(batch, (tuple, list)) else (batch,) for batch in loader]
    sizes = {len(batch) for batch in batches}
    if len(sizes) != 1 or not sizes <= {2, 3}:
        came = ", ".join(map(str, sorted(sizes))) or "no batch at all"
        raise ValueError(f"train_data must give batches (x, y) or (x, y, weight), got {came} tensors in a batch")
    parts = [_to_numpy(list(column)) for column in zip(*batches, strict=True)]
    if len(parts) == 3 and sample_weight is not None:
        raise TypeError("sample_weight is given, but train_data has weights too")
    weight = parts[2] if len(parts) == 3 else sample_weight
    if weight is not None:
        weight = _to_numpy([weight]).astype(np.float64)
    x, y = parts[0].astype(np.float64), parts[1]
    rows = x.shape[0]
    if x.ndim != 2 or y.ndim not in (1, 2) or y.shape[0] != rows:
        raise ValueError(f"x must be (n, features) and y (n,) or (n, outputs), got {x.shape} and {y.shape}")
    if weight is not None and weight.shape not in ((rows,), (rows, 1)):
        raise ValueError(f"weight must be (n,), one for each of {rows} rows, got {weight.shape}")
    return _Data(x, y, None if weight is None else weight.reshape(rows))


def _standardise(x: Values) -> tuple[Values, Standardise]:
    """Standardise features over the rows; a constant one becomes 0."""
    away = x - x[:1]  # exactly 0 where a feature is constant
    std = away.std(axis=0)
    std[std == 0] = 1.0
    layer = Standardise(torch.from_numpy(x[0] + away.mean(axis=0)).float(), torch.from_numpy(std).float())
    return (away - away.mean(axis=0)) / std, layer


def train(
    model: Any,
    dataloader: Iterable[Any],
    construct_kwargs: dict[str, Any],
    sklearn_trainer: str,
    norm_input: bool = False,
    sample_weight: Any = None,
    **fit_kwargs: Any,
) -> dict[str, float]:
    """Fit a `SkLearnLinearModel`; see there."""
    data = _read(dataloader, sample_weight)
    start = time.perf_counter()
    norm = None
    if norm_input:
        x, norm = _standardise(data.x)
        data = data._replace(x=x)
    options = core_options(sklearn_trainer, construct_kwargs)
    if options is not None and not fit_kwargs:
        coefficients, intercepts = _fit_in_core(data, options)
        classes = None
    else:
        coefficients, intercepts, classes = _fit_by_sklearn(sklearn_trainer, construct_kwargs, data, fit_kwargs)
    model.set_fitted(coefficients, intercepts, classes)
    model.norm = norm
    seconds = time.perf_counter() - start
    if sklearn_trainer == "linear_model.Lasso":
        _warn_of_zeros(data, coefficients, construct_kwargs)
    return {"train_time": seconds}


def _fit_in_core(data: _Data, options: dict[str, Any]) -> tuple[Values, Values]:
    """Fit as `core_options` says: coefficients ``(outputs, features)`` and intercepts ``(outputs,)``."""
    y = np.ascontiguousarray(data.y.reshape(data.y.shape[0], -1), np.float64)
    coefficients, intercepts, _, converged = _core.fit_linear(np.ascontiguousarray(data.x), y, data.weight, **options)
    if not converged:
        warn_caller("the Lasso did not converge: raise max_iter, tol or alpha")
    return coefficients, intercepts


def fit_in_core(model: Any, x: Values, y: Values, weight: Values) -> tuple[Values, Values]:
    """Fit a `SkLearnLinearModel` that the core takes, in double throughout.

    x is ``(rows, features)``, y and weight are ``(rows,)``; the result is as of `_fit_in_core`, and in the model too,
    there in float32.
    """
    data = _Data(np.asarray(x, np.float64), np.asarray(y, np.float64), np.asarray(weight, np.float64))
    coefficients, intercepts = _fit_in_core(data, model.core_fit())
    model.set_fitted(coefficients, intercepts)
    if model.sklearn_module == "linear_model.Lasso":
        _warn_of_zeros(data, coefficients, model.construct_kwargs)
    return coefficients, intercepts


def _fit_by_sklearn(
    name: str, arguments: dict[str, Any], data: _Data, fit_kwargs: dict[str, Any]
) -> tuple[Values, Values, torch.Tensor | None]:
    estimator = _sklearn_class(name)(**arguments)
    if data.weight is not None:
        accepted = inspect.signature(estimator.fit).parameters.values()
        if any(taken.name == "sample_weight" or taken.kind is taken.VAR_KEYWORD for taken in accepted):
            fit_kwargs = {**fit_kwargs, "sample_weight": data.weight}
        else:
            warn_caller(f"{name} takes no weights: every row counts the same")
    estimator.fit(data.x, data.y, **fit_kwargs)
    if not hasattr(estimator, "coef_"):
        raise TypeError(f"{name} is no linear model: fitted, it has no coef_")
    coefficients = np.atleast_2d(estimator.coef_)
    intercepts = np.broadcast_to(np.ravel(estimator.intercept_), coefficients.shape[:1])
    labels = getattr(estimator, "classes_", None)
    return coefficients, intercepts, None if labels is None else torch.from_numpy(np.asarray(labels, np.int32))


def _warn_of_zeros(data: _Data, coefficients: Values, arguments: dict[str, Any]) -> None:
    """Warn where a Lasso has selected nothing for an output that varies, and say which alpha would."""
    weight = np.ones(len(data.x)) if data.weight is None else data.weight
    x, y = data.x[weight > 0], data.y.reshape(len(weight), -1)[weight > 0].astype(np.float64)
    lost = ~coefficients.any(axis=1) & (np.ptp(y, axis=0) > 0)
    if not lost.any():
        return
    weight = weight[weight > 0] / weight.sum()
    if arguments.get("fit_intercept", True):
        x, y = x - weight @ x, y - weight @ y
    along = (weight[:, None] * x).T @ y[:, lost]
    least = (along if arguments.get("positive", False) else np.abs(along)).max(axis=0).min()
    hint = f"an alpha below {least:.3g} gives some" if least > 0 else "no alpha gives any"
    alpha = arguments.get("alpha", 1.0)
    warn_caller(f"with alpha={alpha!r} every coefficient of the Lasso is 0, although y varies: {hint}")
