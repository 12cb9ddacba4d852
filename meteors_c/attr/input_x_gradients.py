"""Input x gradient: the image times the gradient of the output."""

from __future__ import annotations

from typing import Any

import torch

from meteors_c import _core
from meteors_c.attr._arguments import RunSettings, ShowProgress, Target, images_of, targets_of
from meteors_c.attr.attributes import HSIAttributes
from meteors_c.attr.explainer import Explainer, differentiable_image
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel

__all__ = ["InputXGradient"]


class InputXGradient(Explainer, native="input_x_gradient"):
    """The image times the gradient of the target output with respect to it [1]_.

    Parameters
    ----------
    explainable_model : ExplainableModel
        The model.

    References
    ----------
    .. [1] A. Shrikumar, P. Greenside, A. Shcherbina and A. Kundaje, "Not Just a Black Box: Learning Important
       Features Through Propagating Activation Differences", 2016, arXiv:1605.01713.

    Examples
    --------
    >>> attributes = InputXGradient(model).attribute(hsi, target=2)
    >>> bool((attributes.attributes[:, ~hsi.spatial_binary_mask] == 0).all())  # masked values count as 0
    True
    """

    multiplies_by_inputs = True

    def __init__(self, explainable_model: ExplainableModel) -> None:
        super().__init__(explainable_model)

    @property
    def is_product_with_image(self) -> bool:
        """Return True."""
        return True

    def attribute(
        self,
        hsi: HSI | list[HSI],
        target: Target = None,
        additional_forward_args: Any = None,
        keep_gradient: bool = False,
        show_progress: ShowProgress = False,
    ) -> HSIAttributes | list[HSIAttributes]:
        """Attribute the target output to the values of the image.

        Parameters
        ----------
        hsi, target, additional_forward_args, show_progress
            As in `Saliency.attribute`.
        keep_gradient : bool, default False
            Leave the attributes connected to the image: the graph runs through the image factor, in which the
            model's gradient is a constant.

        Returns
        -------
        HSIAttributes or list of HSIAttributes
            For each image, products of its shape and floating dtype, in output units.

        Raises
        ------
        TypeError, ValueError, IndexError
            For arguments of another type or value; an index that the model's outputs don't have.
        RuntimeError
            If the model can't be differentiated.

        Examples
        --------
        >>> attributes = InputXGradient(model).attribute(hsi, target=2)
        """
        native, images = self._native(), images_of(hsi)
        targets = targets_of(target, len(images))
        settings = RunSettings(additional_forward_args, show_progress=show_progress)
        if not keep_gradient:
            computed = self._compute(native, images, targets, settings)
            return self._results(images, computed.tensors(images), targets, computed.report)
        computed = self._compute(_core.methods["saliency"], images, targets, settings, absolute=False)
        with torch.inference_mode(False):
            products = [
                differentiable_image(image) * gradient
                for image, gradient in zip(images, computed.tensors(images), strict=True)
            ]
        return self._results(images, products, targets, computed.report)
