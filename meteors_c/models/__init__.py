"""Models to be explained, and interpretable models that explain them."""

from meteors_c.models.abstract import ExplainableModel, InterpretableModel
from meteors_c.models.linear import (
    LinearModel,
    SkLearnLasso,
    SkLearnLinearModel,
    SkLearnLinearRegression,
    SkLearnLogisticRegression,
    SkLearnRidge,
    SkLearnSGDClassifier,
)

__all__ = [
    "ExplainableModel",
    "InterpretableModel",
    "LinearModel",
    "SkLearnLasso",
    "SkLearnLinearModel",
    "SkLearnLinearRegression",
    "SkLearnLogisticRegression",
    "SkLearnRidge",
    "SkLearnSGDClassifier",
]
