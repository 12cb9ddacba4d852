"""The explainer of models that take tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch

from meteors_c.models import ExplainableModel
from meteors_c.models._outputs import tensor_of
from meteors_c.shap._tables import ensure_data_type_and_reshape, feature_names_of, require_shap
from meteors_c.shap.shap import SHAPExplanation
from meteors_c.utils import warn_caller

__all__ = ["HyperSHAP", "ensure_data_type_and_reshape"]

EXACT_FEATURES = 15  # 32,768 coalitions, each with every background row


class _ArrayNetwork:
    """A network that is called with arrays, in the dtype and on the device of its parameters."""

    def __init__(self, model: ExplainableModel) -> None:
        self.model = model

    def __call__(self, table: Any) -> np.ndarray:
        """(rows, features) to (rows,) or (rows, outputs)."""
        dtypes = self.model.dtypes
        dtype = next(iter(dtypes)) if len(dtypes) == 1 else torch.float32
        rows = torch.as_tensor(np.asarray(table)).to(self.model.device or "cpu", dtype)
        with torch.no_grad():
            outputs = tensor_of(self.model(rows))
        return outputs.detach().cpu().to(torch.float64).numpy()


class HyperSHAP:
    """Shapley values of a model that takes tables, by the ``shap`` package.

    Use it where an observation is a row of features: the spectrum of a pixel, its superbands (means of groups of
    bands), or several transformations of each wavelength. Features that are absent take their values from the rows of
    the masker. For images, `meteors_c.attr.KernelShap` is the method: its features are superpixels or superbands of an
    image, and absent ones take the values of a baseline.

    Parameters
    ----------
    callable : ExplainableModel
        The model. Its `forward_func` maps arrays ``(rows, features)`` to ``(rows,)`` or ``(rows, outputs)``. A
        `torch.nn.Module` is called with tensors of its own dtype and device, functions that run one with arrays. For
        ``"tree"`` and ``"linear"`` it is the estimator itself, such as one of scikit-learn.
    masker : numpy.ndarray, torch.Tensor, pandas.DataFrame, shap masker or None
        Background observations ``(rows, features)``, or what else the explainer of shap takes; passed on as it is
        (tensors as arrays). Columns of a DataFrame become the names of the features.
    explainer_type : {"exact", "kernel", "linear", "tree"}, default "exact"
        Case is ignored. ``"exact"`` evaluates all coalitions of up to 15 features; for more, or with a masker that
        doesn't tell how many there are, shap chooses the algorithm, usually sampled permutations, and a warning says
        so.
    **kwargs
        Further arguments of the explainer of shap.

    Attributes
    ----------
    explainable_model : ExplainableModel
    explainer_type : str
        In lower case.

    Raises
    ------
    TypeError
        ``callable`` is not an ExplainableModel.
    ValueError
        ``explainer_type`` is unknown, or shap refuses the model or the masker.
    ImportError
        The shap package is missing.

    Notes
    -----
    The value of feature ``i`` among ``M`` is the mean, over all orders of the features, of what it adds to the expected
    output when it joins those before it [1]_. The values of an observation sum to its output minus the mean output
    of the background rows. Of a longer table, shap keeps 100 random rows for most types of explainer, and a warning
    says so; to use all, give ``shap.maskers.Independent(table, max_samples=len(table))``.

    References
    ----------
    .. [1] S. Lundberg and S.-I. Lee, A unified approach to interpreting model predictions, NeurIPS (2017).

    Examples
    --------
    A model of soil moisture sees three superbands of pixel spectra, each as mean reflectance and as mean slope:

    >>> import numpy as np
    >>> from meteors_c import shap, visualize
    >>> from meteors_c.models import ExplainableModel
    >>> rng = np.random.default_rng(0)
    >>> superbands = rng.random((200, 6))  # (pixels, features)
    >>> moisture = lambda x: 2 * x[:, 0] - x[:, 1] * x[:, 4]
    >>> model = ExplainableModel(moisture, "regression")
    >>> explainer = shap.HyperSHAP(model, superbands[:50])
    >>> explanation = explainer.explain(superbands[:20])
    >>> explanation.explanations.values.shape
    (20, 6)
    >>> total = explanation.explanations.values.sum(axis=1) + explanation.explanations.base_values
    >>> bool(np.allclose(total, moisture(superbands[:20])))
    True
    >>> ax = visualize.wavelengths_bar(
    ...     explainer,
    ...     explanation,
    ...     wavelengths_mapping={550.0: [0, 3], 680.0: [1, 4], 1450.0: [2, 5]},
    ...     transformations_mapping={"reflectance": [0, 1, 2], "slope": [3, 4, 5]},
    ... )
    """

    VALID_EXPLAINER_TYPES: ClassVar[tuple[str, ...]] = ("exact", "tree", "kernel", "linear")

    def __init__(
        self,
        callable: ExplainableModel,
        masker: Any,
        explainer_type: str = "exact",
        **kwargs: Any,
    ) -> None:
        if not isinstance(callable, ExplainableModel):
            raise TypeError(f"Expected ExplainableModel as callable, not {type(callable).__name__}")
        if not isinstance(explainer_type, str) or explainer_type.lower() not in self.VALID_EXPLAINER_TYPES:
            known = ", ".join(self.VALID_EXPLAINER_TYPES)
            raise ValueError(f"Invalid explainer_type: expected one of {known}, not {explainer_type!r}")
        self.explainable_model = callable
        self.explainer_type = explainer_type.lower()
        # What shap names by itself, "Feature 0" and so on, are no names.
        given = kwargs.get("feature_names")
        self._feature_names = feature_names_of(masker) if given is None else [str(name) for name in given]
        if isinstance(masker, torch.Tensor):
            masker = ensure_data_type_and_reshape(masker)
        shape = getattr(masker, "shape", None)  # of some maskers, a function of the observation
        is_table = isinstance(shape, tuple) and len(shape) == 2 and isinstance(shape[1], int)
        self._features: int | None = shape[1] if is_table else None  # type: ignore[index]
        shap = require_shap()
        try:
            if self.explainer_type == "exact":
                self._explainer = self._make_exact(shap, masker, kwargs)
            elif self.explainer_type == "kernel":
                self._explainer = shap.KernelExplainer(self._function(), masker, **kwargs)
            elif self.explainer_type == "tree":
                self._explainer = shap.TreeExplainer(callable.forward_func, masker, **kwargs)
            else:
                self._explainer = shap.LinearExplainer(callable.forward_func, masker, **kwargs)
        except ValueError as error:
            raise ValueError(f"Could not initialize the {self.explainer_type} explainer: {error}") from error
        self._warn_of_sampled_background(masker)

    def _warn_of_sampled_background(self, masker: Any) -> None:
        """Warn if shap has kept only some rows of a table."""
        # The explainer of trees keeps the rows itself, others have a masker that does.
        kept = getattr(getattr(self._explainer, "masker", None), "data", getattr(self._explainer, "data", None))
        if self._features is None or kept is None or getattr(kept, "ndim", 0) != 2 or len(kept) >= masker.shape[0]:
            return
        warn_caller(
            f"shap has drawn {len(kept)} of the {masker.shape[0]} rows of the masker at random as the background; to "
            "use all of them, give shap.maskers.Independent(masker, max_samples=len(masker))"
        )

    def _function(self) -> Callable[..., Any]:
        """Give what shap is to call."""
        model = self.explainable_model
        function, network = model.forward_func, model.module
        # A network itself, or one with postprocessing; functions and methods that run one may well take arrays.
        takes_tensors = network is not None and (network is function or network is getattr(function, "model", None))
        return _ArrayNetwork(model) if takes_tensors and not model.array_input else function

    def _make_exact(self, shap: Any, masker: Any, kwargs: dict[str, Any]) -> Any:
        """Make an explainer that evaluates all coalitions where that is possible, else whatever shap chooses."""
        function = self._function()
        features = self._features
        if "algorithm" in kwargs or not callable(function):
            return shap.Explainer(function, masker, **kwargs)
        if features is not None and features <= EXACT_FEATURES:
            return shap.Explainer(function, masker, algorithm="exact", **kwargs)
        explainer = shap.Explainer(function, masker, **kwargs)
        if not isinstance(explainer, shap.explainers.Exact):
            count = "an unknown number of" if features is None else f"{features}"
            warn_caller(
                f"The values will be estimates of a {type(explainer).__name__}: all coalitions of {count} features "
                f"are too many, those of {EXACT_FEATURES} are the most that are evaluated"
            )
        return explainer

    def explain(self, data: Any) -> SHAPExplanation:
        """Compute the Shapley values of observations.

        Parameters
        ----------
        data : numpy.ndarray, torch.Tensor, pandas.DataFrame, pandas.Series or sequence
            The observations ``(observations, features)``, or a single one ``(features,)``, in the order of features of
            the masker.

        Returns
        -------
        SHAPExplanation
            Values ``(observations, features)``, with one more axis for several outputs, in the unit of the output.

        Raises
        ------
        TypeError
            ``data`` holds something else than numbers.
        ValueError
            The features are not those of the masker, or in another order, or shap can't explain the data.

        Examples
        --------
        >>> import numpy as np
        >>> model = ExplainableModel(lambda x: 3 * x[:, 0] - x[:, 1], "regression")
        >>> background = np.array([[0.0, 0.0], [2.0, 2.0]])
        >>> HyperSHAP(model, background).explain([4.0, 5.0]).explanations.values  # weight * (x - mean)
        array([[ 9., -4.]])
        """
        table = ensure_data_type_and_reshape(data)
        if self._features is not None and table.shape[1:] != (self._features,):
            raise ValueError(
                f"Could not generate the explanations: data has the shape {table.shape}, but the masker has "
                f"{self._features} features: expected (observations, {self._features})"
            )
        names = self._names_for(data)
        shap = require_shap()
        options: dict[str, Any] = {}
        if isinstance(self._explainer, shap.explainers.Permutation):
            options["max_evals"] = max(500, 2 * table.shape[1] + 1)  # there and back once is the least
        elif isinstance(self._explainer, shap.KernelExplainer):
            options["l1_reg"] = False  # by default shap gives all but ten features the value 0
        try:
            found = self._explainer(table, **options)
        except Exception as error:  # whatever the model and shap raise
            raise ValueError(
                f"Could not generate the explanations of data with the shape {table.shape}: {error}"
            ) from error
        if names is not None and len(names) == table.shape[1]:
            found.feature_names = names
        is_sampled = isinstance(self._explainer, shap.explainers.Permutation)
        method = "permutation" if is_sampled else self.explainer_type
        return SHAPExplanation(data=table, explanations=found, explanation_method=method)

    def _names_for(self, data: Any) -> list[str] | None:
        """Give the names of the features: those of the masker, else those of the data's columns."""
        own, given = self._feature_names, feature_names_of(data)
        if own is None or given is None:
            return given if own is None else own
        if own != given:
            if sorted(own) == sorted(given):
                raise ValueError(f"data has its columns in the order {given}, but the masker has them as {own}")
            warn_caller(f"data has the columns {given}, which are taken for those of the masker, {own}")
        return own

    def __repr__(self) -> str:
        return f"HyperSHAP({self.explainable_model!r}, explainer_type={self.explainer_type!r})"
