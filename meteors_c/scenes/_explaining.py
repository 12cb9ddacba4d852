"""One call of an explainer for many images of a scene, and sums of what such calls report."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from meteors_c.attr._streams import Streams, drawing
from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.attr.explainer import Explainer
from meteors_c.attr.occlusion import Occlusion
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel

__all__ = ["COUNTS", "Call", "with_model"]

COUNTS = ("evaluations", "evaluations_saved", "model_calls", "nonfinite_outputs", "nonfinite_results")


@dataclass
class Call:
    """A method of an explainer with its arguments, for any images.

    Attributes
    ----------
    explainer : Explainer
        The explainer.
    name : str
        Its method.
    targets : list
        The outputs that are explained.
    arguments : dict
        What else the method takes.
    seed : int
        Of random draws.
    summed : bool
        Whether the values of an image's pixels are summed up later.

    counted : numpy.ndarray of int or None
        The bands whose values the map adds up: one of each group of bands that have a number in common, so that none
        counts more than once; None for all. Known after a call.

    Raises
    ------
    ValueError
        When it is called: the sum would count a number that stands for a group of bands or pixels many times.
    """

    explainer: Explainer
    name: str
    targets: list[Any]
    arguments: dict[str, Any]
    seed: int
    summed: bool = False
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    shortcut: str | None = None
    counted: np.ndarray | None = None

    def __call__(self, images: list[HSI], numbers: list[int]) -> list[list[torch.Tensor]]:
        """Return, for each target, the attributions of each image; `numbers` tell their random draws apart."""
        function = getattr(self.explainer, self.name)
        if len(self.targets) > 1 and "per_target" in inspect.signature(function).parameters:
            with drawing(Streams(self.seed), numbers):
                results = function(images, target=list(self.targets), per_target=True, **self.arguments)
            results = results if len(images) > 1 else [results]
            self._look_at(results[0][0])
            return [[of[t].attributes for of in results] for t in range(len(self.targets))]
        attributions = []
        for target in self.targets:
            with drawing(Streams(self.seed), numbers):
                results = function(images, target=target, **self.arguments)
            results = results if len(images) > 1 else [results]
            self._look_at(results[0])
            attributions.append([result.attributes.detach() for result in results])
        return attributions

    def _look_at(self, result: HSIAttributes) -> None:
        """Refuse results that can't be summed up, and count what the report of all says."""
        if self.summed and isinstance(result, HSIAttributesSpatial | HSIAttributesSpectral):
            raise ValueError(
                "reduce='window' sums the values of a window's pixels up, but this call gives numbers of groups of "
                "bands or of pixels, which repeat in all of them: take reduce='centre'"
            )
        windows = isinstance(self.explainer, Occlusion) and self.arguments.get("band_names") is None
        self.counted = _one_of_each_group(result, windows)
        for name in COUNTS:
            self.counts[name] += getattr(result.report, name, 0)
        self.shortcut = self.shortcut or getattr(result.report, "shortcut", None)

    def take_counts(self) -> dict[str, int]:
        """Return what was counted since the last time."""
        counts, self.counts = self.counts, dict.fromkeys(COUNTS, 0)
        return counts


def _one_of_each_group(result: HSIAttributes, windows: bool) -> np.ndarray | None:
    """Return one band of each group of bands that have a number in common; None where each has its own.

    Sliding windows of bands are no such groups: they may overlap, and a band has the mean of all that cover it.
    """
    if isinstance(result, HSIAttributesSpatial):
        return np.zeros(1, dtype=np.int64)
    if windows or not isinstance(result, HSIAttributesSpectral):
        return None
    return np.unique(result.band_mask.cpu().numpy(), return_index=True)[1]


def with_model(explainer: Explainer, model: ExplainableModel) -> Explainer:
    """Return an explainer like another one, of another model."""
    changed = copy.copy(explainer)
    changed.explainable_model = model
    if changed.chained_explainer is not None:
        changed.chained_explainer = with_model(changed.chained_explainer, model)
    return changed
