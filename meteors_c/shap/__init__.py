"""Shapley values of models that take tables, such as the spectra of pixels, through the ``shap`` package.

The package is imported when the first `HyperSHAP` is made; ``pip install "meteors_c[shap]"`` brings it.
"""

from __future__ import annotations

from meteors_c.shap.explainer import HyperSHAP
from meteors_c.shap.shap import SHAPExplanation

__all__ = ["HyperSHAP", "SHAPExplanation"]
