"""Shapley values of many features, by random orders."""

from __future__ import annotations

from typing import Any, ClassVar

from meteors_c.attr._arguments import flag, positive
from meteors_c.attr._shapley import ShapleyExplainer
from meteors_c.models import ExplainableModel

__all__ = ["ShapleyValueSampling"]


class ShapleyValueSampling(ShapleyExplainer, native="shapley_sampling"):
    """Estimates of the Shapley values of many features by random orders [1]_.

    In each order features join the baseline one after the other until the image is there; a feature's value is the mean
    of what the output gains when it joins. One order costs one evaluation a feature, and its gains already sum to the
    output for the image less that for the baseline. Features that hold the baseline's values anyhow have the value 0
    and are left out.

    Parameters
    ----------
    explainable_model : ExplainableModel
        The model. It needs no gradients.

    Notes
    -----
    Beside the arguments that the calls name, each takes

    n_samples : int, optional
        Orders of each image; 26 where None, and with a tolerance at most 1,000.
    antithetic : bool, default True
        Whether each order is followed by its reverse [2]_ (`n_samples` is rounded up to an even number then): exact
        where no more than two features interact, and seldom worse elsewhere.
    tolerance : float, optional
        Sample until the largest standard error is below this part of the largest value.

    ``effects.standard_errors`` holds standard errors of the values, NaN where there is one order or pair alone.

    References
    ----------
    .. [1] J. Castro, D. Gomez and J. Tejada, "Polynomial calculation of the Shapley value based on sampling",
       Computers & Operations Research 36(5), 2009.
    .. [2] R. Mitchell, J. Cooper, E. Frank and G. Holmes, "Sampling permutations for Shapley value estimation", JMLR
       23, 2022, arXiv:2104.12199.

    Examples
    --------
    >>> tens = torch.arange(hsi.image.shape[0]) // 10  # 15 superbands of 10 bands
    >>> result = ShapleyValueSampling(model).get_spectral_attributes(hsi, tens, target=0, n_samples=8)
    >>> result.effects.standard_errors.shape
    torch.Size([15])
    """

    _own: ClassVar[dict[str, Any]] = {"antithetic": True, "tolerance": None}

    def __init__(self, explainable_model: ExplainableModel) -> None:
        super().__init__(explainable_model)

    def _read(self, n_samples: Any, **own: Any) -> dict[str, Any]:
        tolerance = own["tolerance"]
        if tolerance is not None and not (isinstance(tolerance, int | float) and 0 < tolerance < 1):
            raise ValueError(f"tolerance must be a number between 0 and 1, not {tolerance!r}")
        orders = (26 if tolerance is None else 1000) if n_samples is None else positive(n_samples, "n_samples")
        return {
            "n_permutations": orders,
            "tolerance": 0.0 if tolerance is None else float(tolerance),
            "antithetic": flag(own["antithetic"], "antithetic"),
        }
