"""Linear models that explain other models, by the names of the estimators of scikit-learn.

`SkLearnLasso`, `SkLearnRidge` and `SkLearnLinearRegression` are fitted by the native core, to the solution that
scikit-learn would give. Scikit-learn itself is needed for the classifiers, and for arguments that the core does not
take.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.utils.data import DataLoader

from meteors_c.models._fitting import check_arguments, core_options, train
from meteors_c.models.abstract import InterpretableModel

__all__ = [
    "LinearModel",
    "SkLearnLasso",
    "SkLearnLinearModel",
    "SkLearnLinearRegression",
    "SkLearnLogisticRegression",
    "SkLearnRidge",
    "SkLearnSGDClassifier",
]

# The epsilon of the normalisations: small, since inputs are often 0 and 1 with little variance.
_EPSILON = 1e-8


class LinearModel(nn.Module, InterpretableModel):
    """A linear layer, behind a normalisation if asked for, that a function of yours fits.

    Parameters
    ----------
    train_fn : callable
        Called as ``train_fn(model, dataloader=..., construct_kwargs=..., **fit_kwargs)`` by `fit`, whose result it
        returns. It must call ``model._construct_model_params(...)``, which makes the layers, and may go on to train
        their parameters.
    **kwargs : Any
        Handed to `train_fn` as `construct_kwargs`.

    Attributes
    ----------
    linear : torch.nn.Linear or None
        ``outputs x features``; None before the model is fitted.
    norm : torch.nn.Module or None
        What is applied to the inputs before.

    Examples
    --------
    >>> def by_least_squares(model, dataloader, construct_kwargs):
    ...     x, y = (torch.cat(parts) for parts in zip(*dataloader))
    ...     solution = torch.linalg.lstsq(x, y[:, None]).solution
    ...     model._construct_model_params(weight_values=solution.T, bias=False)
    ...     return {}
    >>> model = LinearModel(by_least_squares)
    >>> model.fit(DataLoader(TensorDataset(x, y), batch_size=64))
    {}
    >>> model.get_representation().round().int()
    tensor([[ 2,  0, -1]], dtype=torch.int32)
    """

    def __init__(self, train_fn: Callable[..., Any], **kwargs: Any) -> None:
        super().__init__()
        self.norm: nn.Module | None = None
        self.linear: nn.Linear | None = None
        self.train_fn = train_fn
        self.construct_kwargs = kwargs
        self.register_buffer("_classes", None)

    def _construct_model_params(
        self,
        in_features: int | None = None,
        out_features: int | None = None,
        norm_type: str | None = None,
        affine_norm: bool = False,
        bias: bool = True,
        weight_values: torch.Tensor | None = None,
        bias_value: torch.Tensor | None = None,
        classes: torch.Tensor | None = None,
    ) -> None:
        """Make the layers.

        Parameters
        ----------
        in_features, out_features : int, optional
            Sizes of the linear layer, needed where there are no `weight_values`, which override them.
        norm_type : {None, "batch_norm", "layer_norm"}
            What normalises the inputs.
        affine_norm : bool, default False
            Let the normalisation learn a scale and a shift.
        bias : bool, default True
            Give the layer a bias.
        weight_values : torch.Tensor, optional
            ``(outputs, features)``, or ``(features,)`` for one output. By default, those that torch begins with.
        bias_value : torch.Tensor, optional
            The bias, in whatever shape broadcasts to ``(n, outputs)``.
        classes : torch.Tensor, optional
            The labels that outputs stand for.

        Raises
        ------
        ValueError
            If neither sizes nor weights are given, `norm_type` is unknown, or there is a `bias_value` without a bias.
        """
        if norm_type not in (None, "batch_norm", "layer_norm"):
            raise ValueError(f'norm_type must be None, "batch_norm" or "layer_norm", not {norm_type!r}')
        if bias_value is not None and not bias:
            raise ValueError("bias_value is given, but bias is False: leave one of them out")
        if weight_values is not None:
            weight_values = weight_values.reshape(1, -1) if weight_values.ndim == 1 else weight_values
            out_features, in_features = weight_values.shape
        if in_features is None or out_features is None:
            raise ValueError("in_features and out_features, or weight_values, must be given")
        # Where nothing is left to chance, torch's random numbers stay as they were.
        is_given = weight_values is not None and (bias_value is not None or not bias)
        with torch.random.fork_rng(devices=[], enabled=is_given):
            linear = nn.Linear(in_features, out_features, bias=bias)
        if weight_values is not None:
            linear.weight = nn.Parameter(weight_values.detach().clone())
        if bias_value is not None:
            linear.bias = nn.Parameter(bias_value.detach().clone())
        self.norm = None
        if norm_type == "batch_norm":
            self.norm = nn.BatchNorm1d(in_features, eps=_EPSILON, affine=affine_norm)
        elif norm_type == "layer_norm":
            self.norm = nn.LayerNorm(in_features, eps=_EPSILON, elementwise_affine=affine_norm)
        self.linear = linear
        self._classes = classes

    def fit(self, train_data: DataLoader[Any], **kwargs: Any) -> Any:
        """Fit the model; see `InterpretableModel.fit`.

        Parameters
        ----------
        train_data : torch.utils.data.DataLoader
            Handed to `train_fn` as `dataloader`.
        **kwargs : Any
            Handed to `train_fn`.

        Returns
        -------
        Any
            What `train_fn` returns.

        Examples
        --------
        >>> seconds = SkLearnRidge(alpha=0.1).fit(DataLoader(TensorDataset(x, y), batch_size=64))
        """
        return self.train_fn(self, dataloader=train_data, construct_kwargs=self.construct_kwargs, **kwargs)

    def _fitted(self) -> nn.Linear:
        if self.linear is None:
            raise RuntimeError(f"this {type(self).__name__} has no coefficients yet: call fit() first")
        return self.linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict ``(n, outputs)`` for inputs ``(n, features)``, in the dtype of the weights.

        Examples
        --------
        >>> model = SkLearnLinearRegression()
        >>> seconds = model.fit(DataLoader(TensorDataset(x, y), batch_size=64))
        >>> torch.allclose(model(x)[:, 0], y, atol=1e-5)
        True
        """
        linear = self._fitted()
        x = x.to(linear.weight.dtype)
        return linear(x if self.norm is None else self.norm(x))

    def get_representation(self) -> torch.Tensor:
        """Return the coefficients ``(outputs, features)``, detached.

        Raises
        ------
        RuntimeError
            If the model is not fitted.

        Examples
        --------
        >>> model = SkLearnLinearRegression()
        >>> seconds = model.fit(DataLoader(TensorDataset(x, y), batch_size=64))
        >>> model.get_representation().round().int()
        tensor([[ 2,  0, -1]], dtype=torch.int32)
        """
        return self._fitted().weight.detach()

    def bias(self) -> torch.Tensor | None:
        """Return the detached intercepts, ``(1,)`` or ``(1, outputs)``; None where there are none, or before `fit`.

        Examples
        --------
        >>> model = SkLearnLinearRegression()
        >>> model.bias()  # not fitted yet
        >>> seconds = model.fit(DataLoader(TensorDataset(x, y + 5), batch_size=64))
        >>> round(float(model.bias()), 3)
        5.0
        """
        bias = None if self.linear is None else self.linear.bias
        return None if bias is None else bias.detach()

    def classes(self) -> torch.Tensor | None:
        """Return the labels of a classifier's outputs; None for other models and before `fit`.

        Examples
        --------
        >>> model = SkLearnLogisticRegression()
        >>> seconds = model.fit(DataLoader(TensorDataset(x, (y > 0.5).long()), batch_size=64))
        >>> model.classes()
        tensor([0, 1], dtype=torch.int32)
        """
        return None if self._classes is None else self._classes.detach()


class SkLearnLinearModel(LinearModel):
    """A linear model of scikit-learn as an interpretable model.

    Parameters
    ----------
    sklearn_module : str
        The estimator's name below ``sklearn``, such as ``"linear_model.ElasticNet"``. It needs a ``coef_``.
    **kwargs : Any
        Arguments of the estimator.

    Raises
    ------
    TypeError
        If the estimator has no such argument.
    ValueError
        If `alpha` is negative or not finite.
    ImportError
        If scikit-learn is needed and missing.

    Notes
    -----
    ``linear_model.Lasso``, ``Ridge`` and ``LinearRegression`` are computed by the native core, in float64, to the
    solution of scikit-learn: `LinearRegression` by an orthogonal decomposition, which gives the shortest of several
    solutions, `Ridge` by the normal equations, and `Lasso` by coordinate descent until the duality gap is 1e-13 of the
    centred sum of squares of y, unless `tol` or `max_iter` say otherwise: the defaults of scikit-learn stop earlier.
    The core takes every argument but ``warm_start=True``, a `solver` by name, ``positive=True`` for other estimators
    than `Lasso`, and arrays as `alpha` or `precompute`; with those, scikit-learn is imported and used.

    Examples
    --------
    >>> model = SkLearnLinearModel("linear_model.ElasticNet", alpha=0.01)
    >>> seconds = model.fit(DataLoader(TensorDataset(x, y, weight), batch_size=64))
    >>> model.get_representation().shape
    torch.Size([1, 3])
    """

    def __init__(self, sklearn_module: str, **kwargs: Any) -> None:
        check_arguments(sklearn_module, kwargs)
        super().__init__(train, **kwargs)
        self.sklearn_module = sklearn_module

    def fit(self, train_data: DataLoader[Any], **kwargs: Any) -> dict[str, float]:
        """Fit the model.

        Parameters
        ----------
        train_data : torch.utils.data.DataLoader
            Batches ``(x, y)`` or ``(x, y, weight)``; see `InterpretableModel.fit`.
        **kwargs : Any
            ``norm_input=True`` standardises each feature to mean 0 and standard deviation 1 over the rows, of which
            the model then keeps account itself; ``sample_weight`` are the weights where the data has none; all else
            goes to the ``fit`` of scikit-learn.

        Returns
        -------
        dict
            ``{"train_time": seconds}``.

        Raises
        ------
        ValueError
            If the data are not finite, a weight is negative or all are 0, or shapes do not agree.

        Warns
        -----
        UserWarning
            If a `Lasso` has only coefficients of 0 although y varies, with the largest `alpha` that would do; if it
            did not converge; if the estimator takes no weights.

        Examples
        --------
        >>> SkLearnLasso(alpha=0.01).fit(DataLoader(TensorDataset(x, y), batch_size=64), norm_input=True)
        {'train_time': ...}
        """
        return super().fit(train_data, sklearn_trainer=self.sklearn_module, **kwargs)

    def core_fit(self) -> dict[str, Any] | None:
        """Return what the core has to compute for this model to be fitted; None where it can't.

        Returns
        -------
        dict or None
            ``kind`` ("lasso", "ridge" or "least_squares"), ``alpha``, ``intercept``, ``positive``, ``max_iterations``
            and ``tolerance``, where 0 stands for the core's own default. None for other estimators, for arguments
            that the core does not take, and where a subclass has a method of its own in place of one of these.

        Examples
        --------
        >>> SkLearnLasso(alpha=0.01).core_fit()["kind"]
        'lasso'
        """
        own = ("fit", "forward", "__call__", "set_fitted", "get_representation", "bias", "_construct_model_params")
        replaced = [name for name in own if inspect.getattr_static(self, name) is not _inherited(name)]
        if replaced or self.train_fn is not train:
            return None
        return core_options(self.sklearn_module, self.construct_kwargs)

    def set_fitted(self, coefficients: ArrayLike, intercepts: ArrayLike, classes: torch.Tensor | None = None) -> None:
        """Take the result of a fit, as `fit` does itself.

        Parameters
        ----------
        coefficients : array_like
            ``(outputs, features)``.
        intercepts : array_like
            ``(outputs,)``.
        classes : torch.Tensor, optional
            Labels of a classifier.

        Raises
        ------
        ValueError
            If a value does not fit float32, the dtype of the model.

        Examples
        --------
        >>> model = SkLearnRidge()
        >>> model.set_fitted([[2.0, 0.0, -1.0]], [0.5])
        >>> model.get_representation(), model.bias()
        (tensor([[ 2.,  0., -1.]]), tensor([0.5000]))
        """
        weight, bias = np.asarray(coefficients, np.float64), np.asarray(intercepts, np.float64)
        largest = max(np.abs(weight).max(initial=0), np.abs(bias).max(initial=0))
        if not largest <= np.finfo(np.float32).max:
            raise ValueError(f"the fit has values up to {largest:g}, which float32 can't hold: scale the data")
        bias = bias if bias.shape == (1,) else bias[None]
        self._construct_model_params(
            weight_values=torch.from_numpy(weight.astype(np.float32)),
            bias_value=torch.from_numpy(bias.astype(np.float32)),
            classes=classes,
        )


def _inherited(name: str) -> Any:
    return inspect.getattr_static(SkLearnLinearModel, name)


class SkLearnLasso(SkLearnLinearModel):
    """Linear regression that keeps few coefficients: the least squares plus alpha times the sum of their sizes.

    It minimises ``sum w (y - x c - b)^2 / (2 sum w) + alpha sum |c|`` [1]_.

    Parameters
    ----------
    **kwargs : Any
        Arguments of ``sklearn.linear_model.Lasso``: ``alpha`` (1.0), ``fit_intercept`` (True), ``positive`` (False),
        ``max_iter``, ``tol`` and so on; see `SkLearnLinearModel`. Mind that the default `alpha` selects nothing where y
        are probabilities: `fit` warns then.

    References
    ----------
    .. [1] R. Tibshirani, "Regression shrinkage and selection via the lasso", J. Royal Statistical Society B 58 (1996).

    Examples
    --------
    >>> model = SkLearnLasso(alpha=0.01)
    >>> seconds = model.fit(DataLoader(TensorDataset(x, y, weight), batch_size=64))
    >>> model.get_representation().shape, model.bias().shape
    (torch.Size([1, 3]), torch.Size([1]))
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("linear_model.Lasso", **kwargs)


class SkLearnRidge(SkLearnLinearModel):
    """Linear regression with small coefficients: ``sum w (y - x c - b)^2 + alpha sum c^2`` is least [1]_.

    Parameters
    ----------
    **kwargs : Any
        Arguments of ``sklearn.linear_model.Ridge``: ``alpha`` (1.0), ``fit_intercept`` (True) and so on; see
        `SkLearnLinearModel`.

    References
    ----------
    .. [1] A. Hoerl and R. Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 12
       (1970).

    Examples
    --------
    >>> SkLearnRidge(alpha=0.1).fit(DataLoader(TensorDataset(x, y), batch_size=64))
    {'train_time': ...}
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("linear_model.Ridge", **kwargs)


class SkLearnLinearRegression(SkLearnLinearModel):
    """Linear regression by least squares; the shortest solution where there are several.

    Parameters
    ----------
    **kwargs : Any
        Arguments of ``sklearn.linear_model.LinearRegression``: ``fit_intercept`` (True) and so on; see
        `SkLearnLinearModel`.

    Examples
    --------
    >>> SkLearnLinearRegression(fit_intercept=False).fit(DataLoader(TensorDataset(x, y), batch_size=64))
    {'train_time': ...}
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("linear_model.LinearRegression", **kwargs)


class SkLearnLogisticRegression(SkLearnLinearModel):
    """Logistic regression by scikit-learn; its outputs are the decision function.

    Parameters
    ----------
    **kwargs : Any
        Arguments of ``sklearn.linear_model.LogisticRegression``.

    Raises
    ------
    ImportError
        If scikit-learn is missing: ``pip install "meteors_c[sklearn]"``.

    Examples
    --------
    >>> model = SkLearnLogisticRegression(C=10.0)
    >>> labels = (y > 0.5).long()
    >>> seconds = model.fit(DataLoader(TensorDataset(x, labels), batch_size=64))
    >>> model.classes()
    tensor([0, 1], dtype=torch.int32)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("linear_model.LogisticRegression", **kwargs)


class SkLearnSGDClassifier(SkLearnLinearModel):
    """Stochastic gradient descent for linear classifiers, by scikit-learn; its outputs are the decision function.

    Parameters
    ----------
    **kwargs : Any
        Arguments of ``sklearn.linear_model.SGDClassifier``.

    Raises
    ------
    ImportError
        If scikit-learn is missing: ``pip install "meteors_c[sklearn]"``.

    Examples
    --------
    >>> model = SkLearnSGDClassifier(loss="log_loss", random_state=0)
    >>> seconds = model.fit(DataLoader(TensorDataset(x, (y > 0.5).long()), batch_size=64))
    >>> model.get_representation().shape
    torch.Size([1, 3])
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("linear_model.SGDClassifier", **kwargs)
