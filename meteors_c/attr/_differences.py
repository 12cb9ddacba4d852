"""What is common to explainers that measure how the output changes when a part of the image is replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from meteors_c.attr._arguments import (
    Baseline,
    RunSettings,
    ShowProgress,
    baselines_of,
    batch_size,
    one_target,
    targets_of,
)
from meteors_c.attr.attributes import HSIAttributes
from meteors_c.attr.explainer import Explainer, bare, result_tensor
from meteors_c.hsi import HSI

__all__ = ["DifferenceExplainer", "run_settings"]


def run_settings(
    additional_forward_args: Any, perturbations_per_eval: int | None, show_progress: ShowProgress
) -> RunSettings:
    """Return how the model is called, from the arguments that these explainers have for it."""
    limit = batch_size(perturbations_per_eval, "perturbations_per_eval")
    return RunSettings(additional_forward_args, limit, show_progress)


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
        fields: Callable[[], dict[str, Any]],
        **arguments: Any,
    ) -> Any:
        """Call the core and return one result for each image, or with several targets a list of them.

        Parameters
        ----------
        target : int, tuple, tensor, list, "all" or None
            Which output; with `per_target` a list names several outputs of each image.
        result_type, fields
            The class of the results, and what makes that which they have besides values, once there are some.
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

        made = fields()

        def result(image: HSI, array: np.ndarray, one: tuple[int, ...]) -> HSIAttributes:
            return self._result(image, result_tensor(array, image), one, report, result_type, **made)

        if wanted is None:
            return bare([result(image, of[0], one) for image, of, one in zip(images, arrays, targets, strict=True)])
        names: list[tuple[int, ...]] = [*np.ndindex(shape)] if isinstance(wanted, str) else wanted
        return bare(
            [
                [result(image, array, one) for array, one in zip(of, names, strict=True)]
                for image, of in zip(images, arrays, strict=True)
            ]
        )
