"""What is common to explainers that measure how the output changes when a part of the image is replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from meteors_c.attr._arguments import (
    Baseline,
    RunSettings,
    ShowProgress,
    baselines_of,
    batch_size,
    one_target,
    targets_of,
)
from meteors_c.attr._fields import distinct_ids
from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpectral
from meteors_c.attr.explainer import Explainer, bare, result_tensor
from meteors_c.hsi import HSI

__all__ = ["DifferenceExplainer", "run_settings"]


def run_settings(
    additional_forward_args: Any, perturbations_per_eval: int | None, show_progress: ShowProgress
) -> RunSettings:
    """Return how the model is called, from the arguments that these explainers have for it."""
    limit = batch_size(perturbations_per_eval, "perturbations_per_eval")
    return RunSettings(additional_forward_args, limit, show_progress)


def _fields(result_type: type[HSIAttributes], mask: torch.Tensor | None) -> dict[str, Any]:
    """Return what results have besides their values: the mask, and for superbands their ids as names."""
    if mask is None:
        return {}
    if result_type is not HSIAttributesSpectral:
        return {"mask": mask}
    return {"mask": mask, "band_names": {str(number): number for number in distinct_ids(mask)}}


class DifferenceExplainer(Explainer):
    """Base of explainers that need outputs and no gradients, so that all outputs cost no more than one."""

    multiplies_by_inputs = True

    def _explain(
        self,
        images: list[HSI],
        target: Any,
        baseline: Baseline,
        per_target: bool,
        settings: RunSettings,
        result_type: type[HSIAttributes],
        mask: Callable[[], torch.Tensor | None],
        **arguments: Any,
    ) -> Any:
        """Call the core and return one result for each image, or with several targets a list of them.

        Parameters
        ----------
        target : int, tuple, tensor, list, "all" or None
            Which output; with `per_target` a list names several outputs of each image.
        result_type, mask
            The class of the results, and what makes their mask once there are results; None for none.
        **arguments
            The method's own, as the core takes them.
        """
        every = isinstance(target, str)
        if every and target != "all":
            raise ValueError(f"target must be an index, or 'all', not {target!r}")
        if per_target and not every and not (isinstance(target, list) and target):
            raise TypeError(f"with per_target, target must be 'all' or a list of indices, not {target!r}")
        wanted = "all" if every else list(map(one_target, target)) if per_target else None
        targets: list[tuple[int, ...]] = [()] * len(images)
        if wanted is None:
            targets = targets_of(target, len(images))
        arrays, shape, _, report = self._compute(
            self._native(), images, targets, settings, baselines_of(baseline, images), outputs=wanted, **arguments
        )

        fields = _fields(result_type, mask())

        def result(image: HSI, array: np.ndarray, one: tuple[int, ...]) -> HSIAttributes:
            return self._result(image, result_tensor(array, image), one, report, result_type, **fields)

        if wanted is None:
            return bare([result(image, of[0], one) for image, of, one in zip(images, arrays, targets, strict=True)])
        names: list[tuple[int, ...]] = [*np.ndindex(shape)] if isinstance(wanted, str) else wanted
        return bare(
            [
                [result(image, array, one) for array, one in zip(of, names, strict=True)]
                for image, of in zip(images, arrays, strict=True)
            ]
        )
