"""Noise tunnels: moments of the attributions of perturbed images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from meteors_c import _core
from meteors_c.attr._arguments import (
    Baseline,
    RunSettings,
    ShowProgress,
    Target,
    baselines_of,
    batch_size,
    images_of,
    positive,
    shape_mismatch,
    targets_of,
)
from meteors_c.attr._noise import (
    Moment,
    Noise,
    NoiseTunnelType,
    as_probability,
    detached_image,
    detached_tensor,
    deviations,
    new_seed,
    number_of_bands,
    perturbed,
    selected_positions,
)
from meteors_c.attr._registry import METHODS
from meteors_c.attr.attributes import HSIAttributes
from meteors_c.attr.explainer import Explainer, bare, differentiable_image, result_tensor
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel

__all__ = ["BaseNoiseTunnel", "HyperNoiseTunnel", "NoiseTunnel", "NoiseTunnelType", "torch_random_choice"]


def torch_random_choice(n: int, k: int, n_samples: int, device: str | torch.device | None = None) -> torch.Tensor:
    """Choose exactly `k` of `n` without replacement, `n_samples` times.

    Parameters
    ----------
    n, k, n_samples : int
        Numbers to choose from, chosen ones, rows.
    device : str or torch.device, optional
        Where the result lies.

    Returns
    -------
    torch.Tensor
        bool, ``(n_samples, n)``, `k` of each row True. Repeatable by `torch.manual_seed`.

    Raises
    ------
    TypeError
        If one of the numbers is not an int.
    ValueError
        If `k` is more than `n`, or a number is negative.

    Examples
    --------
    >>> torch_random_choice(5, 2, n_samples=3).sum(1)
    tensor([2, 2, 2])
    """
    if any(not isinstance(value, int) or isinstance(value, bool) for value in (n, k, n_samples)):
        raise TypeError(f"n, k and n_samples must be int, not {n!r}, {k!r} and {n_samples!r}")
    return torch.from_numpy(_core.choose(n, k, n_samples, new_seed())).to(device or "cpu")


class BaseNoiseTunnel(Explainer):
    """Base of the noise tunnels.

    Parameters
    ----------
    callable : Explainer
        Of any other method of the package, such as `Saliency`. It runs with its default arguments (Saliency without the
        absolute value) and is left as it is.

    Raises
    ------
    RuntimeError
        If `callable` is not an explainer.
    ValueError
        If it wraps an explainer itself.

    Examples
    --------
    >>> issubclass(NoiseTunnel, BaseNoiseTunnel) and issubclass(HyperNoiseTunnel, BaseNoiseTunnel)
    True
    >>> NoiseTunnel(Saliency(model)).chained_explainer
    Saliency(ExplainableModel(FieldRegressor, 'regression'))
    """

    def __init__(self, callable: ExplainableModel | Explainer) -> None:
        if not isinstance(callable, Explainer):
            raise RuntimeError(f"callable must be an Explainer, not {type(callable).__name__}")
        super().__init__(callable)
        self._attribution_method = None  # the inner explainer has one

    @staticmethod
    def perturb_input(input: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Return perturbed copies of an image; each tunnel has its own.

        Examples
        --------
        >>> NoiseTunnel.perturb_input(torch.zeros(3, 4, 5), n_samples=2).shape
        torch.Size([2, 3, 4, 5])
        """
        raise NotImplementedError("BaseNoiseTunnel has no perturbation: take NoiseTunnel or HyperNoiseTunnel")

    def _inner(self, images: list[HSI]) -> tuple[_core.Method, dict[str, Any]]:
        """Return the method of the inner explainer and its arguments, as the core takes them."""
        inner = self.chained_explainer
        assert inner is not None
        bases: tuple[type[Any], ...] = type(inner).__mro__
        registered = next((kind for kind in bases if kind in METHODS.values()), Explainer)
        method = registered.native_method
        # The core runs the method itself, so an `attribute` that a subclass or the object replaces would be ignored.
        function = getattr(getattr(inner, "attribute", None), "__func__", None)
        if method is None or not method.nests or function is not vars(registered)["attribute"]:
            names = ", ".join(name for name, kind in METHODS.items() if kind.native_method and kind.native_method.nests)
            raise TypeError(f"a {self.get_name()} runs around {names}, not around {type(inner).__name__}")
        inner._native()
        return method, inner.nested_arguments(images)

    def _tunnel(
        self,
        images: list[HSI],
        target: Target,
        noise: Noise,
        moment: Moment,
        keep_gradient: bool,
        settings: RunSettings,
    ) -> Any:
        """Call the core's tunnel and return one result for each image."""
        assert self.chained_explainer is not None
        assert self.native_method is not None
        targets = targets_of(target, len(images))
        computed = self._compute(
            self.native_method,
            images,
            targets,
            settings,
            noise.baselines,
            inner=self._inner(images),
            seed=new_seed(),
            input_derivative=keep_gradient and self.chained_explainer.is_product_with_image,
            samples_used=True,
            **noise.arguments(),
            **moment.arguments(),
        )
        attributes, further = computed.tensors(images), computed.further
        if "input_derivative" in further:
            derivatives = map(result_tensor, further["input_derivative"], images)
            attributes = list(map(_with_derivative, attributes, derivatives, images))
        results: list[HSIAttributes] = [
            self._result(image, values, one, replace(computed.report, samples_used=count))
            for image, values, one, count in zip(images, attributes, targets, further["samples_used"], strict=True)
        ]
        if "standard_error" in further:
            for result, error in zip(results, further["standard_error"], strict=True):
                result.standard_error = result_tensor(error, result.hsi)
        return bare(results)


def _with_derivative(values: torch.Tensor, derivative: torch.Tensor, hsi: HSI) -> torch.Tensor:
    """Return values that are connected to the image in torch's graph, with this derivative."""
    with torch.inference_mode(False):
        image = differentiable_image(hsi)
        return values + (image - image.detach()) * derivative


class NoiseTunnel(BaseNoiseTunnel, native="noise_tunnel"):
    """A moment of the attributions of the image with normal noise: SmoothGrad [1]_, its square [2]_, VarGrad [3]_.

    Parameters
    ----------
    callable : Explainer
        Of any other method of the package, such as `Saliency`. It runs with its default arguments (Saliency without the
        absolute value) and is left as it is.

    References
    ----------
    .. [1] D. Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017, arXiv:1706.03825.
    .. [2] S. Hooker et al., "A Benchmark for Interpretability Methods in Deep Neural Networks", NeurIPS 2019,
       arXiv:1806.10758.
    .. [3] J. Adebayo et al., "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter
       Values", 2018, arXiv:1810.03307.

    Examples
    --------
    >>> tunnel = NoiseTunnel(InputXGradient(model))
    >>> attributes = tunnel.attribute(hsi, target=2, n_samples=10, stdevs=50.0, standard_error=True)
    >>> attributes.standard_error.shape == hsi.image.shape
    True
    """

    def attribute(
        self,
        hsi: HSI | list[HSI],
        target: Target = None,
        additional_forward_args: Any = None,
        n_samples: int = 5,
        steps_per_batch: int | None = None,
        perturbation_axis: tuple[int | slice, ...] | None = None,
        stdevs: float | tuple[float, ...] | list[float] = 1.0,
        method: str = "smoothgrad",
        keep_gradient: bool = False,
        standard_error: bool = False,
        tolerance: float | None = None,
        show_progress: ShowProgress = False,
    ) -> Any:
        """Attribute the target output to the values of the image, averaged over noise.

        Memory does not depend on `n_samples`. Samples are drawn from torch's global generator by number, so
        `torch.manual_seed` repeats them whatever the batch size, the number of threads and the order of images;
        images of one call share their draws.

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape.
        target : int, tuple of int, tensor or list, optional
            Which output to explain; see `Saliency.attribute`.
        additional_forward_args : Any, optional
            What the model takes after the input; see `Saliency.attribute`.
        n_samples : int, default 5
            Perturbed copies of each image.
        steps_per_batch : int, optional
            The largest number of samples that the model may see at once. The engine chooses where None.
        perturbation_axis : tuple of int and slice, optional
            The part of the image, in its own axes, that is perturbed; all of it where None.
        stdevs : float, or list or tuple of float, default 1.0
            Standard deviation of the noise, in image units; one for each image or for all. The mask is applied to
            the perturbed image.
        method : {"smoothgrad", "smoothgrad_sq", "vargrad"}
            Mean, mean of squares, or variance of the attributions.
        keep_gradient : bool, default False
            Leave the attributes connected to the image where the inner explainer multiplies by it; the model's
            gradient is a constant in the graph.
        standard_error : bool, default False
            Put the standard error of each value into ``standard_error`` of the result (not for vargrad).
        tolerance : float, optional
            Stop after 8, 16, 32, ... samples once the largest standard error is at most this part of the largest
            value (not for vargrad); `n_samples` is the limit. ``report.samples_used`` says how many it took.
        show_progress : bool or callable, default False
            True shows a bar; a callable is called with the evaluations done and to do.

        Returns
        -------
        HSIAttributes or list of HSIAttributes
            For each image, values of its shape and floating dtype.

        Raises
        ------
        TypeError, ValueError, IndexError
            For arguments of another type or value.

        Examples
        --------
        >>> attributes = NoiseTunnel(Saliency(model)).attribute(hsi, target=2, n_samples=50, stdevs=0.1)
        """
        images = images_of(hsi)
        return self._tunnel(
            images,
            target,
            Noise(
                "noise",
                baselines=[0.0] * len(images),
                stdevs=deviations(stdevs, len(images)),
                selected=selected_positions(perturbation_axis, images[0].image.shape),
            ),
            Moment(method, n_samples, standard_error, tolerance),
            keep_gradient,
            RunSettings(additional_forward_args, batch_size(steps_per_batch, "steps_per_batch"), show_progress),
        )

    @staticmethod
    def perturb_input(
        input: torch.Tensor,
        n_samples: int = 1,
        perturbation_axis: tuple[int | slice, ...] | None = None,
        stdevs: float = 1,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Return copies of an image with normal noise.

        Parameters
        ----------
        input : torch.Tensor
            Of three axes.
        n_samples : int, default 1
            Copies.
        perturbation_axis : tuple of int and slice, optional
            The part that is perturbed; all of it where None.
        stdevs : float, default 1
            Standard deviation.
        **kwargs : Any
            Ignored.

        Returns
        -------
        torch.Tensor
            ``(n_samples, *input.shape)``.

        Raises
        ------
        ValueError
            If `n_samples` is less than 1, or `stdevs` negative.

        Examples
        --------
        >>> NoiseTunnel.perturb_input(torch.zeros(3, 4, 5), n_samples=2, stdevs=0.1).shape
        torch.Size([2, 3, 4, 5])
        """
        image, samples = detached_image(input, "input"), positive(n_samples, "n_samples")
        (stdev,) = deviations(stdevs, 1)
        return perturbed(image, samples, stdev=stdev, selected=selected_positions(perturbation_axis, image.shape))


class HyperNoiseTunnel(BaseNoiseTunnel, native="noise_tunnel"):
    """A moment of the attributions of the image with random bands replaced by a baseline.

    The moments are those of SmoothGrad and its relatives, see `NoiseTunnel`; the noise suits data of many bands, whose
    neighbours resemble each other.

    Parameters
    ----------
    callable : Explainer
        Of any other method of the package, such as `Saliency`. It runs with its default arguments (Saliency without the
        absolute value) and is left as it is.

    Examples
    --------
    >>> tunnel = HyperNoiseTunnel(Saliency(model))
    >>> attributes = tunnel.attribute(hsi, target=2, n_samples=10, perturbation_prob=0.2)
    """

    def attribute(
        self,
        hsi: HSI | list[HSI],
        baseline: Baseline = None,
        target: Target = None,
        additional_forward_args: Any = None,
        n_samples: int = 5,
        steps_per_batch: int | None = None,
        perturbation_prob: float = 0.5,
        num_perturbed_bands: int | None = None,
        method: str = "smoothgrad",
        keep_gradient: bool = False,
        standard_error: bool = False,
        tolerance: float | None = None,
        show_progress: ShowProgress = False,
    ) -> Any:
        """Attribute the target output to the values of the image, averaged over random sets of bands.

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape, in any orientation.
        baseline : int, float, "mean", tensor, array or list, optional
            What the values of a chosen band become; see `IntegratedGradients.attribute`. The mask is applied to the
            perturbed image.
        perturbation_prob : float, default 0.5
            Probability that a band is replaced, for each band on its own.
        num_perturbed_bands : int, optional
            Replace exactly this many bands, chosen without replacement, instead.
        target, additional_forward_args, n_samples, steps_per_batch, method, keep_gradient
            As in `NoiseTunnel.attribute`.
        standard_error, tolerance, show_progress
            As in `NoiseTunnel.attribute`.

        Returns
        -------
        HSIAttributes or list of HSIAttributes
            For each image, values of its shape and floating dtype.

        Raises
        ------
        TypeError, ValueError, IndexError
            For arguments of another type or value.
        ShapeMismatchError
            If a baseline and its image differ in shape.

        Examples
        --------
        >>> tunnel = HyperNoiseTunnel(Saliency(model))
        >>> attributes = tunnel.attribute(hsi, baseline="mean", target=2, n_samples=50, num_perturbed_bands=10)
        """
        images = images_of(hsi)
        first = images[0]
        bands = first.image.shape[first.spectral_axis]
        return self._tunnel(
            images,
            target,
            Noise(
                "bands",
                baselines=baselines_of(baseline, images),
                stdevs=[0.0] * len(images),
                probability=as_probability(perturbation_prob),
                exact=number_of_bands(num_perturbed_bands, bands),
            ),
            Moment(method, n_samples, standard_error, tolerance),
            keep_gradient,
            RunSettings(additional_forward_args, batch_size(steps_per_batch, "steps_per_batch"), show_progress),
        )

    @staticmethod
    def perturb_input(
        input: torch.Tensor,
        baseline: torch.Tensor | None = None,
        n_samples: int = 1,
        perturbation_prob: float = 0.5,
        num_perturbed_bands: int | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Return copies of an image with random bands replaced.

        Parameters
        ----------
        input : torch.Tensor
            Of three axes, the bands first.
        baseline : torch.Tensor
            Of the same shape: what the values of a chosen band become.
        n_samples : int, default 1
            Copies.
        perturbation_prob : float, default 0.5
            Probability that a band is replaced.
        num_perturbed_bands : int, optional
            Replace exactly this many bands instead.
        **kwargs : Any
            Ignored.

        Returns
        -------
        torch.Tensor
            ``(n_samples, *input.shape)``.

        Raises
        ------
        ValueError
            Without baseline, or for numbers out of range.
        ShapeMismatchError
            If `baseline` and `input` differ in shape.

        Examples
        --------
        >>> image, baseline = torch.ones(3, 4, 5), torch.zeros(3, 4, 5)
        >>> HyperNoiseTunnel.perturb_input(image, baseline, n_samples=2, num_perturbed_bands=1).sum((1, 2, 3))
        tensor([40., 40.])
        """
        if baseline is None:
            raise ValueError("baseline is None, but a tensor of the input's shape is needed")
        given, replacement = detached_tensor(input, "input"), detached_tensor(baseline, "baseline")
        if replacement.shape != given.shape:
            raise shape_mismatch("baseline", "input", given.shape, replacement.shape)
        image, samples = detached_image(given, "input"), positive(n_samples, "n_samples")
        probability = as_probability(perturbation_prob)
        exact = number_of_bands(num_perturbed_bands, image.shape[0])
        return perturbed(image, samples, replacement, probability=probability, exact=exact)
