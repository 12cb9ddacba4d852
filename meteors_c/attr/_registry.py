"""The attribution methods there are: whatever needs a list of them finds it here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meteors_c.attr.explainer import Explainer

__all__ = ["AVAILABLE_ATTRIBUTION_METHODS", "METHODS", "name_in_words", "register"]

METHODS: dict[str, type[Explainer]] = {}
"""Classes of the package by name, as they are defined."""

# Results of these methods are known, whether or not the package computes them; the order is that of meteors 0.2.
AVAILABLE_ATTRIBUTION_METHODS = [
    "Lime",
    "Integrated Gradients",
    "Saliency",
    "Input X Gradient",
    "Occlusion",
    "Hyper Noise Tunnel",
    "Noise Tunnel",
]


def name_in_words(class_name: str) -> str:
    """Return the name of a class split at its capitals, such as ``Input X Gradient``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", class_name)


def register(explainer: type[Explainer]) -> None:
    """Add a class that computes a method of the core."""
    METHODS[explainer.__name__] = explainer
    name = name_in_words(explainer.__name__)
    if name not in AVAILABLE_ATTRIBUTION_METHODS:
        AVAILABLE_ATTRIBUTION_METHODS.append(name)
