"""Models to be explained."""

from meteors_c.models.explainable import ExplainableModel

__all__ = ["ExplainableModel"]
