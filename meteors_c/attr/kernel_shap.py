"""Shapley values of superpixels and superbands, from all coalitions or by regression on sampled ones."""

from __future__ import annotations

from typing import Any, ClassVar

from meteors_c.attr._arguments import flag, positive
from meteors_c.attr._shapley import ShapleyExplainer
from meteors_c.attr.explainer import Computed
from meteors_c.models import ExplainableModel
from meteors_c.utils import warn_caller

__all__ = ["KernelShap"]


class KernelShap(ShapleyExplainer, native="kernel_shap"):
    """Shapley values of superpixels, superbands, or superpixels in superbands [1]_.

    They share the output for the image less that for the baseline among the features: the only shares that sum to it,
    treat equal features alike, give features without effect 0 and add up over games.

    Features that hold the baseline's values anyhow have the value 0 and are left out. Of M others, each of the 2^M
    coalitions is evaluated once and the values are exact, where M is at most 12 and `n_samples` is None, or where
    `n_samples` allows that many (M at most 24). Elsewhere coalitions are sampled by the kernel's weights, in pairs with
    their complements and whole sizes first [2]_, and the values come from a regression that has their sum built in.

    Parameters
    ----------
    explainable_model : ExplainableModel
        The model. It needs no gradients.

    Notes
    -----
    Beside the arguments that the calls name, each takes

    n_samples : int, optional
        The most coalitions that are evaluated of an image (for each spectrum of a `Background`), at least 4. None: all
        of up to 12 features, else 2 M + 2048.
    interactions : bool, default False
        Whether ``effects.interactions`` holds the pairwise Shapley interaction index [3]_, halved beside the diagonal
        so that rows sum to the values [4]_; needs all coalitions. `visualize.visualize_interactions` draws it.
    standard_errors : bool, default False
        Whether ``effects.standard_errors`` holds those of sampled values; exact ones have 0.

    References
    ----------
    .. [1] S. Lundberg and S.-I. Lee, "A unified approach to interpreting model predictions", NeurIPS 2017,
       arXiv:1705.07874.
    .. [2] I. Covert and S.-I. Lee, "Improving KernelSHAP", AISTATS 2021, arXiv:2012.01536.
    .. [3] M. Grabisch and M. Roubens, "An axiomatic approach to the concept of interaction among players in cooperative
       games", International Journal of Game Theory 28, 1999.
    .. [4] S. Lundberg, G. Erion and S.-I. Lee, "Consistent individualized feature attribution for tree ensembles",
       2018, arXiv:1802.03888.

    Examples
    --------
    >>> explainer = KernelShap(model)
    >>> result = explainer.get_spectral_attributes(hsi, band_names=["B", "G", "R", "N"], target=0, interactions=True)
    >>> result.effects.values.shape, result.effects.interactions.shape  # the bands of no group are a fifth feature
    (torch.Size([5]), torch.Size([5, 5]))
    """

    _own: ClassVar[dict[str, Any]] = {"interactions": False, "standard_errors": False}

    def __init__(self, explainable_model: ExplainableModel) -> None:
        super().__init__(explainable_model)

    def _read(self, n_samples: Any, **own: Any) -> dict[str, Any]:
        most = None if n_samples is None else positive(n_samples, "n_samples")
        return {"n_samples": most, **{name: flag(value, name) for name, value in own.items()}}

    def _look_at(self, computed: Computed) -> Computed:
        for rank, players in zip(computed.further["rank"], computed.further["players"], strict=True):
            if rank[0] < players[0] - 1:
                warn_caller(
                    f"the coalitions tell {int(rank[0])} of {int(players[0]) - 1} differences between features: of all "
                    "values that fit them, those nearest to equal shares are given; raise n_samples"
                )
                break
        return computed
