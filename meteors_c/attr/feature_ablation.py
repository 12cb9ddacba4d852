"""Feature ablation: how much the output drops when a superpixel or superband is replaced by the baseline."""

from __future__ import annotations

from typing import Any

import torch

from meteors_c.attr._arguments import (
    Baseline,
    ShowProgress,
    Target,
    images_of,
    one_for_each_image,
    run_settings,
    spectral_axis_of,
)
from meteors_c.attr._games import Features, Game, GameExplainer, band_features, read_features
from meteors_c.attr._segment_ids import whole_number_ids
from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.exceptions import MaskCreationError, ShapeMismatchError
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel

__all__ = ["FeatureAblation"]


def _features(feature_mask: Any, images: list[HSI]) -> Features:
    """Return the features: of one mask for all images, of a list with one for each, or of names of superbands."""
    axis = spectral_axis_of(images)
    listed = feature_mask if isinstance(feature_mask, list | dict) else []
    if isinstance(feature_mask, str) or (listed and any(isinstance(name, str) for name in listed)):
        try:
            return band_features(None, feature_mask, images)
        except MaskCreationError as error:
            raise MaskCreationError(f"feature_mask names superbands, but: {error}") from error
    if isinstance(feature_mask, list | tuple):
        feature_mask = [torch.as_tensor(mask) if isinstance(mask, list | tuple) else mask for mask in feature_mask]
        if all(isinstance(mask, int) for mask in feature_mask):
            feature_mask = torch.tensor(feature_mask)
    many = isinstance(feature_mask, list | tuple)
    given = (
        one_for_each_image(list(feature_mask), "feature_mask", len(images)) if many else [feature_mask] * len(images)
    )
    read = {id(mask): _feature_mask(mask, images[0], axis) for mask in given}
    types = {result_type for _, result_type in read.values()}
    if len(types) > 1:
        raise ValueError("feature_mask must hold masks of one kind: all over bands, over pixels or over values")
    return read_features([read[id(mask)][0] for mask in given], images, "feature_mask", types.pop())


def _feature_mask(mask: Any, image: HSI, axis: int) -> tuple[torch.Tensor, type[HSIAttributes]]:
    """Return ids that broadcast to the image's shape, and the class of the results."""
    shape = tuple(image.image.shape)
    spatial_shape = shape[:axis] + shape[axis + 1 :]
    ids = torch.arange(shape[axis]) if mask is None else whole_number_ids(mask, "feature_mask")
    along_bands = tuple(size if a == axis else 1 for a, size in enumerate(shape))
    if tuple(ids.shape) in ((shape[axis],), along_bands) and (ids.ndim == 1 or tuple(ids.shape) != shape):
        return ids.reshape(along_bands), HSIAttributesSpectral
    if ids.shape == spatial_shape:
        return ids.unsqueeze(axis), HSIAttributesSpatial
    if ids.shape == shape:
        return ids, HSIAttributes
    raise ShapeMismatchError(
        f"feature_mask must have one id for each band ({shape[axis]},), each pixel {spatial_shape} or each value "
        f"{shape}, not shape {tuple(ids.shape)}"
    )


class FeatureAblation(GameExplainer, native="feature_ablation"):
    """What the output loses when a feature, a superpixel or a superband, is replaced by the baseline [1]_.

    Parameters
    ----------
    explainable_model : ExplainableModel
        The model. It needs no gradients.

    References
    ----------
    .. [1] L. Merrick, "Randomized ablation feature importance", 2019, arXiv:1910.00174; here with a fixed replacement.

    Examples
    --------
    >>> result = FeatureAblation(model).attribute(hsi, target=0, feature_mask=mask)  # one evaluation a superpixel
    >>> result.attributes.shape == hsi.image.shape
    True
    """

    multiplies_by_inputs = True

    def __init__(self, explainable_model: ExplainableModel) -> None:
        super().__init__(explainable_model)

    def nested_arguments(self, images: list[HSI]) -> dict[str, Any]:
        """Return the arguments inside a noise tunnel: each band is a feature.

        Examples
        --------
        >>> FeatureAblation(model).nested_arguments([hsi])["outputs"]  # None: the target's alone
        """
        features = _features(None, images)
        none = dict.fromkeys(("outputs", "known_coalitions", "known_values", "backgrounds"))
        return {"features": features.numbered, **none}

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
        feature_mask : tensor, array, names or None, optional
            The feature that each value belongs to, as whole numbers: ``(bands,)`` for superbands, the two spatial
            axes in the image's order for superpixels, or the image's shape. Values with a negative id are left as
            they are. A list or tuple of such has one for each image. Names of superbands, as `band_names` of
            `Lime.get_band_mask`: ``"regions"``, ``"sentinel2a"`` or a list. None: each band is a feature.
        baseline : int, float, tensor, array, "mean", `SegmentMean`, `Blur`, `Background` or list, optional
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
        MaskCreationError
            If `feature_mask` has a name that is unknown, or none of which the image has a band.
        ShapeMismatchError
            If the mask fits neither the bands nor the pixels nor the values of the image, or a baseline not its image.

        Examples
        --------
        >>> pairs_of_bands = torch.arange(hsi.image.shape[0]) // 2
        >>> result = FeatureAblation(model).attribute(hsi, target=0, feature_mask=pairs_of_bands, baseline="mean")
        """
        self._native()
        images = images_of(hsi)
        settings = run_settings(additional_forward_args, perturbations_per_eval, show_progress)
        return self._play(Game(images, _features(feature_mask, images), target, per_target, baseline, settings))
