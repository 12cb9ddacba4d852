"""Feature ablation: how much the output drops when a superpixel or superband is replaced by the baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from meteors_c.attr._arguments import (
    Baseline,
    ShowProgress,
    Target,
    images_of,
    spectral_axis_of,
)
from meteors_c.attr._differences import DifferenceExplainer, run_settings
from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.exceptions import ShapeMismatchError
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel
from meteors_c.utils import tensor_from_array

__all__ = ["FeatureAblation"]


def _whole_numbers(mask: Any) -> torch.Tensor:
    """Return the ids of a mask as int64."""
    if isinstance(mask, np.ndarray | list | tuple):
        mask = tensor_from_array(np.asarray(mask))
    if not isinstance(mask, torch.Tensor):
        raise TypeError(f"feature_mask must be a tensor, an array or None, not {type(mask).__name__}")
    ids = mask.detach().cpu()
    if ids.is_complex() or (ids.is_floating_point() and not torch.equal(ids, ids.round())):
        raise ValueError(f"feature_mask must hold whole numbers, the ids of the features, not fractions ({mask.dtype})")
    return ids.to(torch.int64)


def _feature_mask(mask: Any, images: list[HSI]) -> tuple[torch.Tensor, type[HSIAttributes]]:
    """Return ids that broadcast to the images' shape, and the class of the results."""
    spectral = spectral_axis_of(images)
    shape = tuple(images[0].image.shape)
    spatial_shape = shape[:spectral] + shape[spectral + 1 :]
    ids = torch.arange(shape[spectral]) if mask is None else _whole_numbers(mask)
    if ids.shape == (shape[spectral],):
        return ids.reshape([-1 if axis == spectral else 1 for axis in range(3)]), HSIAttributesSpectral
    if ids.shape == spatial_shape:
        return ids.unsqueeze(spectral), HSIAttributesSpatial
    if ids.shape == shape:
        return ids, HSIAttributes
    raise ShapeMismatchError(
        f"feature_mask must have one id for each band ({shape[spectral]},), each pixel {spatial_shape} or each value "
        f"{shape}, not shape {tuple(ids.shape)}"
    )


def _numbered(ids: torch.Tensor, shape: torch.Size) -> np.ndarray:
    """Return ids of the images' shape, numbered from 0 on as the core takes them; -1 where they are negative."""
    found, numbers = np.unique(ids.numpy(), return_inverse=True)
    negative = int((found < 0).sum())
    if negative == len(found):
        raise ValueError("feature_mask must name at least one feature: all its ids are negative")
    numbered = np.maximum(numbers.reshape(tuple(ids.shape)) - negative, -1).astype(np.int32)
    return np.ascontiguousarray(np.broadcast_to(numbered, tuple(shape)))


class FeatureAblation(DifferenceExplainer, native="feature_ablation"):
    """What the output loses when a feature, a superpixel or a superband, is replaced by the baseline [1]_.

    Parameters
    ----------
    explainable_model : ExplainableModel
        The model. It needs no gradients.

    References
    ----------
    .. [1] L. Merrick, "Randomized ablation feature importance", 2019, arXiv:1910.00174; here with a fixed replacement.
    """

    def __init__(self, explainable_model: ExplainableModel) -> None:
        super().__init__(explainable_model)

    def nested_arguments(self, images: list[HSI]) -> dict[str, Any]:
        """Return the arguments inside a noise tunnel: each band is a feature."""
        ids, _ = _feature_mask(None, images)
        return {"features": _numbered(ids, images[0].image.shape), "outputs": None}

    def attribute(
        self,
        hsi: HSI | list[HSI],
        target: Target | str = None,
        feature_mask: Any = None,
        baseline: Baseline = None,
        additional_forward_args: Any = None,
        perturbations_per_eval: int | None = None,
        show_progress: ShowProgress = False,
        per_target: bool = False,
    ) -> Any:
        """Attribute the target output to features, each replaced by the baseline in turn.

        The model is evaluated once for the image and once for each feature that would change it.

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape. The model gets each with its mask applied, in its own orientation.
        target : int, tuple of int, tensor, list or "all", optional
            Which output to explain; see `Occlusion.attribute`.
        feature_mask : tensor, array or None, optional
            The feature that each value belongs to, as whole numbers: ``(bands,)`` for superbands, the two spatial
            axes in the image's order for superpixels, or the image's shape. Values with a negative id are left as
            they are. None: each band is a feature.
        baseline : int, float, tensor, array, "mean" or list, optional
            What a replaced value becomes; see `Occlusion.attribute`.
        additional_forward_args : Any, optional
            What the model takes after the input; see `Saliency.attribute`.
        perturbations_per_eval : int, optional
            The largest number of samples that the model may see at once. The engine chooses where None.
        show_progress : bool or callable, default False
            True shows a bar; a callable is called with the evaluations done and to do.
        per_target : bool, default False
            Take a list given as `target` as several outputs of each image, with one result for each.

        Returns
        -------
        HSIAttributesSpectral, HSIAttributesSpatial or HSIAttributes, or a list of them
            For masks over bands, pixels and values. Each value has the difference of its feature, in output units; 0
            outside of features. ``mask`` holds the ids.

        Raises
        ------
        TypeError, ValueError, IndexError
            For arguments of another type or value: fractions among the ids, no id that is not negative, an index that
            the model's outputs don't have.
        ShapeMismatchError
            If the mask fits neither the bands nor the pixels nor the values of the image, or a baseline not its image.

        Examples
        --------
        >>> pairs_of_bands = torch.arange(hsi.image.shape[0]) // 2
        >>> result = FeatureAblation(model).attribute(hsi, target=0, feature_mask=pairs_of_bands, baseline="mean")
        """
        self._native()
        images = images_of(hsi)
        ids, result_type = _feature_mask(feature_mask, images)
        shape = images[0].image.shape
        settings = run_settings(additional_forward_args, perturbations_per_eval, show_progress)
        return self._explain(
            images,
            target,
            baseline,
            per_target,
            settings,
            result_type,
            lambda: ids.expand(shape).to(images[0].image.device),
            features=_numbered(ids, shape),
        )
