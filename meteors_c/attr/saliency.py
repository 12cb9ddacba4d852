"""Saliency: the gradient of the output with respect to the image."""

from __future__ import annotations

from typing import Any

from meteors_c.attr._arguments import RunSettings, ShowProgress, Target, images_of, targets_of
from meteors_c.attr.attributes import HSIAttributes
from meteors_c.attr.explainer import Explainer
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel

__all__ = ["Saliency"]


class Saliency(Explainer, native="saliency"):
    """The gradient of the target output with respect to the image [1]_.

    Parameters
    ----------
    explainable_model : ExplainableModel
        The model.

    References
    ----------
    .. [1] K. Simonyan, A. Vedaldi and A. Zisserman, "Deep Inside Convolutional Networks: Visualising Image
       Classification Models and Saliency Maps", 2013, arXiv:1312.6034.

    Examples
    --------
    >>> attributes = Saliency(model).attribute(hsi, target=2)
    >>> bool((attributes.attributes >= 0).all())  # absolute values, unless abs=False
    True
    """

    def __init__(self, explainable_model: ExplainableModel) -> None:
        super().__init__(explainable_model)

    def nested_arguments(self, images: list[HSI]) -> dict[str, Any]:
        """Return the arguments inside a noise tunnel: signed gradients.

        Examples
        --------
        >>> Saliency(model).nested_arguments([hsi])
        {'absolute': False}
        """
        return {"absolute": False}

    def attribute(
        self,
        hsi: HSI | list[HSI],
        target: Target = None,
        abs: bool = True,
        additional_forward_args: Any = None,
        show_progress: ShowProgress = False,
    ) -> HSIAttributes | list[HSIAttributes]:
        """Attribute the target output to the values of the image.

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape. The model gets each with its mask applied, in its own orientation.
        target : int, tuple of int, tensor or list, optional
            Which output to explain: an index into the axes behind the batch; a list or 1-D tensor has one for each
            image. None where the model has one output.
        abs : bool, default True
            Take the absolute value.
        additional_forward_args : Any, optional
            An argument, or a tuple of them, that the model takes after the input. `AsIs` passes one as it is,
            `PerImage` has one value for each image. Of several images, a tensor whose first size is their number is
            taken for the latter, unless the model, tried on single images, shows that it reads all of it at once;
            everything else is passed as it is.
        show_progress : bool or callable, default False
            True shows a bar; a callable is called with the evaluations done and to do.

        Returns
        -------
        HSIAttributes or list of HSIAttributes
            For each image, gradients of its shape and floating dtype, in output units per image unit. Not multiplied
            by the mask.

        Raises
        ------
        TypeError, ValueError, IndexError
            For arguments of another type or value; an index that the model's outputs don't have.
        RuntimeError
            If the model can't be differentiated.

        Examples
        --------
        >>> attributes = Saliency(model).attribute(hsi, target=2)
        >>> scaled = models.ExplainableModel(lambda x, gain: network(x * gain[:, None, None, None]), "regression")
        >>> gains = PerImage(torch.tensor([1.0, 0.9]))
        >>> two = Saliency(scaled).attribute([hsi, other], target=2, additional_forward_args=gains)
        """
        native, images = self._native(), images_of(hsi)
        targets = targets_of(target, len(images))
        settings = RunSettings(additional_forward_args, show_progress=show_progress)
        computed = self._compute(native, images, targets, settings, absolute=abs)
        return self._results(images, computed.tensors(images), targets, computed.report)
