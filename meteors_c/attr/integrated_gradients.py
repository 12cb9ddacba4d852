"""Integrated gradients: the gradient averaged along the straight line from a baseline to the image."""

from __future__ import annotations

from typing import Any

import torch

from meteors_c.attr._arguments import (
    Baseline,
    RunSettings,
    ShowProgress,
    Target,
    baselines_of,
    batch_size,
    images_of,
    positive,
    targets_of,
)
from meteors_c.attr.attributes import HSIAttributes
from meteors_c.attr.explainer import Explainer, differentiable_image
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel

__all__ = ["IntegratedGradients"]


class IntegratedGradients(Explainer, native="integrated_gradients"):
    """The gradient averaged along the straight line from a baseline to the image, times their difference [1]_.

    Parameters
    ----------
    explainable_model : ExplainableModel
        The model.
    multiply_by_inputs : bool, default True
        Whether the averaged gradient is multiplied by ``image - baseline``, which makes the attributions sum to the
        difference of the outputs.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly and Q. Yan, "Axiomatic Attribution for Deep Networks", ICML 2017,
       arXiv:1703.01365.

    Examples
    --------
    >>> attributes = IntegratedGradients(model).attribute(hsi, target=2, n_steps=50, return_convergence_delta=True)
    >>> drop = model(hsi.get_image()[None]) - model(torch.zeros_like(hsi.image)[None])
    >>> total = float(attributes.attributes.sum())  # the difference of the outputs, but for the error in `score`
    >>> abs(total - drop[0, 2].item() - attributes.score) < 0.01 * abs(total)
    True
    """

    def __init__(self, explainable_model: ExplainableModel, multiply_by_inputs: bool = True) -> None:
        super().__init__(explainable_model)
        self.multiplies_by_inputs = bool(multiply_by_inputs)

    @property
    def is_product_with_image(self) -> bool:
        """Whether the averaged gradient is multiplied, inside a tunnel by the image itself: its baseline is 0."""
        return self.multiplies_by_inputs

    def nested_arguments(self, images: list[HSI]) -> dict[str, Any]:
        """Return the arguments inside a noise tunnel: the defaults of `attribute`.

        Examples
        --------
        >>> IntegratedGradients(model).nested_arguments([hsi])
        {'n_steps': 50, 'method': 'gausslegendre', 'multiply_by_inputs': True}
        """
        return self._defaults("n_steps", "method") | {"multiply_by_inputs": self.multiplies_by_inputs}

    def has_convergence_delta(self) -> bool:
        """Return True: see ``return_convergence_delta`` of `attribute`.

        Examples
        --------
        >>> IntegratedGradients(model).has_convergence_delta()
        True
        """
        return True

    def attribute(
        self,
        hsi: HSI | list[HSI],
        baseline: Baseline = None,
        target: Target = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        internal_batch_size: int | None = None,
        method: str = "gausslegendre",
        return_convergence_delta: bool = False,
        keep_gradient: bool = False,
        show_progress: ShowProgress = False,
    ) -> HSIAttributes | list[HSIAttributes]:
        """Attribute the difference of the target output between image and baseline to the values of the image.

        Memory does not depend on `n_steps`. Where the model begins with affine layers, a shortcut may evaluate them
        twice instead of once a step (``attributes.report.shortcut`` says so, or ``.shortcut_declined`` why not).

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape. The model gets each with its mask applied, in its own orientation.
        baseline : int, float, "mean", tensor, array or list, optional
            Where the path begins, not masked: a number, a spectrum (a tensor or array with one value for each band), a
            tensor or array of the image's shape, ``"mean"`` for the mean spectrum of the image's valid pixels, or a
            list with one of these for each image. None is 0.
        target : int, tuple of int, tensor or list, optional
            Which output to explain; see `Saliency.attribute`.
        additional_forward_args : Any, optional
            What the model takes after the input; see `Saliency.attribute`.
        n_steps : int, default 50
            Evaluations for each image.
        internal_batch_size : int, optional
            The largest number of samples that the model may see at once. The engine chooses where None.
        method : str, default "gausslegendre"
            Quadrature rule: ``gausslegendre``, ``riemann_left``, ``riemann_right``, ``riemann_middle`` or
            ``riemann_trapezoid``.
        return_convergence_delta : bool, default False
            Put the error of completeness, the sum of attributions minus the difference of outputs, into ``score``.
        keep_gradient : bool, default False
            Leave the attributes connected to the image: the graph runs through ``image - baseline``, in which the
            averaged gradient is a constant. Without effect if not `multiplies_by_inputs`.
        show_progress : bool or callable, default False
            True shows a bar; a callable is called with the evaluations done and to do.

        Returns
        -------
        HSIAttributes or list of HSIAttributes
            For each image, attributions of its shape and floating dtype, in output units.

        Raises
        ------
        TypeError, ValueError, IndexError
            For arguments of another type or value; an index that the model's outputs don't have.
        ShapeMismatchError
            If a baseline and its image differ in shape.
        RuntimeError
            If the model can't be differentiated.

        Examples
        --------
        >>> attributes = IntegratedGradients(model).attribute(hsi, baseline="mean", target=2)
        """
        native, images = self._native(), images_of(hsi)
        targets, baselines = targets_of(target, len(images)), baselines_of(baseline, images)
        in_graph = keep_gradient and self.multiplies_by_inputs
        computed = self._compute(
            native,
            images,
            targets,
            RunSettings(additional_forward_args, batch_size(internal_batch_size, "internal_batch_size"), show_progress),
            baselines,
            n_steps=positive(n_steps, "n_steps"),
            method=method,
            multiply_by_inputs=self.multiplies_by_inputs and not in_graph,
            delta=return_convergence_delta,
        )
        attributes, deltas = computed.tensors(images), computed.further.get("delta")
        if in_graph:
            gradients = attributes
            with torch.inference_mode(False):
                attributes = [
                    (differentiable_image(image) - torch.as_tensor(start).to(values)) * values
                    for image, start, values in zip(images, baselines, gradients, strict=True)
                ]
            if deltas is not None:  # the core summed the gradients, not yet the products
                deltas = [
                    delta + float(product.detach().double().sum() - values.double().sum())
                    for delta, product, values in zip(deltas, attributes, gradients, strict=True)
                ]
        return self._results(images, attributes, targets, computed.report, deltas)
