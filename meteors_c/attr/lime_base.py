"""LIME on tensors: surrogates of any function of tensors, over groups of their values or over features of your own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from meteors_c import _core
from meteors_c.attr._arguments import ShowProgress, Target, integer, positive, run_settings, targets_of
from meteors_c.attr._interpretable import (
    construct_feature_mask,
    default_from_interp_rep_transform,
    default_perturb_func,
    get_mask_from_interp_rep_transform,
)
from meteors_c.attr._kernels import ExpKernelSimilarity, get_exp_kernel_similarity_function
from meteors_c.attr._progress import progress
from meteors_c.attr._registry import name_in_words
from meteors_c.attr._surrogates import checked_weights, drawn, fit_batch, r2
from meteors_c.attr._tensor_lime import (
    Examples,
    TensorLime,
    call_forward,
    extra_arguments,
    read_baselines,
    read_tensors,
)
from meteors_c.models._extra_arguments import AsIs, PerImage
from meteors_c.models.abstract import InterpretableModel
from meteors_c.models.linear import SkLearnLasso

__all__ = [
    "ExpKernelSimilarity",
    "Lime",
    "LimeBase",
    "construct_feature_mask",
    "default_from_interp_rep_transform",
    "default_perturb_func",
    "get_exp_kernel_similarity_function",
    "get_mask_from_interp_rep_transform",
]


class LimeBase:
    """A surrogate of a function of tensors, over samples and features of your own [1]_.

    Your functions draw samples around the inputs, translate between samples and features, and say how much a sample
    counts; an interpretable model is fitted to the features of the samples and what the function says of them. `Lime`
    has all of that for groups of values that are kept or dropped.

    Parameters
    ----------
    forward_func : callable
        A network or other function of tensors. Where there are several examples, it gives one number for all of them.
    interpretable_model : InterpretableModel
        The surrogate. It gets a loader with one batch ``(x (n, features), y (n,), weight (n,))`` of float32; Lasso,
        Ridge and LinearRegression are fitted by the native core, in double.
    similarity_func : callable
        ``similarity_func(original, perturbed, interpretable_sample, **kwargs) -> float``: the weight of a sample.
    perturb_func : callable
        ``perturb_func(original, **kwargs)`` gives a sample, or is a generator of samples: features ``(1, features)``,
        or inputs.
    perturb_interpretable_space : bool
        True if samples are features, False if they are inputs.
    from_interp_rep_transform : callable or None
        ``from_interp_rep_transform(sample, original, **kwargs)``: the inputs that belong to features. Needed where
        samples are features.
    to_interp_rep_transform : callable or None
        ``to_interp_rep_transform(sample, original, **kwargs)``: the features ``(1, features)`` that belong to inputs.
        Needed where samples are inputs.

    Raises
    ------
    AssertionError
        If the transform that is needed is None.
    TypeError
        If a function is not callable, or the model no `InterpretableModel`.

    References
    ----------
    .. [1] M. T. Ribeiro, S. Singh and C. Guestrin, "Why should I trust you?", KDD 2016, arXiv:1602.04938.

    Examples
    --------
    Normal noise around an input ``(1, features)``, whose own values are the features:

    >>> def kernel(original, perturbed, sample, width, **kwargs):
    ...     return float(torch.exp(-torch.norm(original - perturbed) ** 2 / width**2))
    >>> def noise(original, **kwargs):
    ...     return original + torch.randn_like(original)
    >>> def itself(sample, original, **kwargs):
    ...     return sample
    >>> def function(x):  # (n, 3) to (n, 2)
    ...     return torch.stack([x.sum(1), 3 * x[:, 0]], dim=1)
    >>> lime = LimeBase(function, models.SkLearnRidge(alpha=0.1), kernel, noise, False, None, itself)
    >>> coefficients, score = lime.attribute(torch.zeros(1, 3), target=1, n_samples=200, width=2.0)
    >>> coefficients.shape
    torch.Size([1, 3])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        interpretable_model: InterpretableModel,
        similarity_func: Callable[..., Any],
        perturb_func: Callable[..., Any],
        perturb_interpretable_space: bool,
        from_interp_rep_transform: Callable[..., Any] | None,
        to_interp_rep_transform: Callable[..., Any] | None,
    ) -> None:
        if not isinstance(interpretable_model, InterpretableModel):
            raise TypeError(
                f"interpretable_model must be an InterpretableModel, not {type(interpretable_model).__name__}"
            )
        needed = {"forward_func": forward_func, "similarity_func": similarity_func, "perturb_func": perturb_func}
        transforms = {
            "from_interp_rep_transform": from_interp_rep_transform,
            "to_interp_rep_transform": to_interp_rep_transform,
        }
        name = "from_interp_rep_transform" if perturb_interpretable_space else "to_interp_rep_transform"
        if transforms[name] is None:
            samples = "features" if perturb_interpretable_space else "inputs"
            raise AssertionError(
                f"{name} must be given where perturb_func draws {samples}"
            )  # as users of meteors expect
        for name, function in (needed | transforms).items():
            if not (callable(function) or (function is None and name in transforms)):
                raise TypeError(f"{name} must be callable, not {type(function).__name__}")
        self.forward_func = forward_func
        self.interpretable_model = interpretable_model
        self.similarity_func = similarity_func
        self.perturb_func = perturb_func
        self.perturb_interpretable_space = perturb_interpretable_space
        self.from_interp_rep_transform = from_interp_rep_transform
        self.to_interp_rep_transform = to_interp_rep_transform

    @classmethod
    def get_name(cls) -> str:
        """Return the method's name in words, such as ``Lime Base``.

        Examples
        --------
        >>> LimeBase.get_name()
        'Lime Base'
        """
        return name_in_words(cls.__name__)

    def has_convergence_delta(self) -> bool:
        """Return False: the method can't tell an error of completeness.

        Examples
        --------
        >>> Lime(lambda x: x.sum(1)).has_convergence_delta()
        False
        """
        return False

    @property
    def multiplies_by_inputs(self) -> bool:
        """False: attributions are coefficients, not products with the inputs."""
        return False

    def attribute(
        self,
        inputs: Any,
        target: Target = None,
        additional_forward_args: Any = None,
        n_samples: int = 50,
        perturbations_per_eval: int = 1,
        show_progress: ShowProgress = False,
        **kwargs: Any,
    ) -> tuple[Any, torch.Tensor]:
        """Fit the interpretable model to samples around the inputs.

        Parameters
        ----------
        inputs : torch.Tensor or tuple of torch.Tensor
            What is explained, as `forward_func` takes it, with the examples along the first axis.
        target : int, tuple of int, tensor or list, optional
            Which output to explain; an index into the axes behind the first.
        additional_forward_args : Any, optional
            An argument after the inputs, or a tuple of them. A tensor with one entry for one example is repeated with
            the samples; all else goes as it is. See also `attr.AsIs` and `attr.PerImage`.
        n_samples : int, default 50
            How many samples are drawn.
        perturbations_per_eval : int, default 1
            The largest number of samples that the model sees at once.
        show_progress : bool or callable, default False
            True shows a progress bar; a callable is called with the samples done and to do.
        **kwargs
            Handed to all functions of yours.

        Returns
        -------
        representation : Any
            What ``interpretable_model.get_representation()`` returns: coefficients ``(1, features)`` of linear models.
        score : torch.Tensor
            The R2 of the surrogate on its samples, each counted alike: 1 or 0 for constant outputs that are predicted
            exactly or not, NaN for one sample.

        Raises
        ------
        TypeError, ValueError, IndexError
            For arguments of another type or value; if samples differ in their features; if weights are negative, not
            finite or all 0; if the model does not give one finite number for each sample.

        Warns
        -----
        UserWarning
            If a generator ends before `n_samples`: the fit uses what came.

        Examples
        --------
        >>> lime = lime_base.Lime(lambda x: x.cumsum(1))
        >>> coefficients, score = lime.attribute(x[:1], target=1, n_samples=200, perturbations_per_eval=50)
        """
        tensors = read_tensors(inputs)
        given: Any = tensors if isinstance(inputs, tuple) else tensors[0]
        wanted, limit = positive(n_samples, "n_samples"), _per_eval(perturbations_per_eval)
        examples = len(tensors[0])
        extras = extra_arguments(additional_forward_args, examples, one_by_one=examples == 1)
        rows: list[np.ndarray] = []
        outputs: list[np.ndarray] = []
        weights: list[Any] = []
        waiting: list[tuple[torch.Tensor, ...]] = []
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            progress(show_progress, self.get_name()) as bar,
        ):
            for sample in drawn(self.perturb_func, given, kwargs, wanted):
                features, perturbed = self._both(sample, given, kwargs)
                rows.append(_row_of(features, rows))
                weights.append(self.similarity_func(given, perturbed, features, **kwargs))
                waiting.append(perturbed if isinstance(perturbed, tuple) else (perturbed,))
                if len(waiting) == limit:
                    outputs.append(self._evaluate(waiting, target, extras))
                    waiting = []
                    if bar is not None:
                        bar(len(rows), wanted)
            if waiting:
                outputs.append(self._evaluate(waiting, target, extras))
            if bar is not None:
                bar(len(rows), len(rows))
        model = self.interpretable_model
        y, predicted = fit_batch(model, np.stack(rows), np.concatenate(outputs), checked_weights(weights))
        score = torch.tensor(r2(y, predicted, np.ones(len(y))), dtype=torch.float32)
        return model.get_representation(), score

    def _both(self, sample: Any, original: Any, kwargs: dict[str, Any]) -> tuple[torch.Tensor, Any]:
        """Return a sample as features and as inputs."""
        if self.perturb_interpretable_space:
            return sample, self.from_interp_rep_transform(sample, original, **kwargs)  # type: ignore[misc]
        return self.to_interp_rep_transform(sample, original, **kwargs), sample  # type: ignore[misc]

    def _evaluate(self, samples: list[Any], target: Target, extras: tuple[AsIs | PerImage, ...]) -> np.ndarray:
        """Return the target output of each sample, (samples,) in double."""
        n = len(samples)
        inputs = [torch.cat(parts) for parts in zip(*samples, strict=True)]
        arguments = [
            one.values.repeat(n, *(1,) * (one.values.ndim - 1)) if isinstance(one, PerImage) else one.value
            for one in extras
        ]
        outputs = call_forward(self.forward_func, inputs, arguments)
        if n == 1 and outputs.numel() == 1:
            outputs = outputs.reshape(1)
        if outputs.ndim == 0 or len(outputs) != n:
            raise ValueError(
                f"forward_func must give outputs for each of {n} samples, not of shape {tuple(outputs.shape)}: where "
                "it gives one number for a whole batch, perturbations_per_eval must be 1"
            )
        (index,) = _core.resolve_targets(targets_of(target, 1), tuple(outputs.shape[1:]))
        found: np.ndarray = outputs.detach().reshape(n, -1)[:, index].double().cpu().numpy()
        if not np.isfinite(found).all():
            raise ValueError("forward_func must give finite outputs: a sample has NaN or infinity")
        return found


def _per_eval(value: Any) -> int:
    return integer(value, "perturbations_per_eval", "a positive int", 1)


def _row_of(features: Any, before: Sequence[np.ndarray]) -> np.ndarray:
    """Return the features of a sample as a row, which is as long as those before."""
    row: np.ndarray = torch.as_tensor(features).detach().cpu().double().reshape(-1).numpy()
    if before and len(row) != len(before[0]):
        raise ValueError(f"all samples must have as many features as the first, {len(before[0])}, not {len(row)}")
    if not np.isfinite(row).all():
        raise ValueError("the features of samples must be finite")
    return row


class Lime(LimeBase):
    """Coefficients of a linear surrogate of a function of tensors, over groups of their values [1]_.

    Groups are dropped at random, each with probability 1/2, and take the baselines; a linear model of which were kept
    is fitted to what the function says, with weights by the samples' distance from the inputs. For hyperspectral
    images, `attr.Lime` does the same over superpixels and superbands, and more.

    Parameters
    ----------
    forward_func : callable
        A network or other function of tensors.
    interpretable_model : InterpretableModel, optional
        The surrogate; ``SkLearnLasso(alpha=0.01)``, a new one for each `Lime`, where it is left out. See `attr.Lime`.
    similarity_func : callable, optional
        ``similarity_func(original, perturbed, interpretable_sample, **kwargs) -> float``: the weight of a sample, where
        ``kwargs`` hold ``feature_mask``, ``baselines`` and ``num_interp_features``. None: an exponential kernel over
        cosine distances; the core computes it and others of `get_exp_kernel_similarity_function` itself.
    perturb_func : callable, optional
        ``perturb_func(original, **kwargs)`` gives a sample ``(1, num_interp_features)`` of 0 and 1, or is a generator
        of samples. None: the core draws them.

    Notes
    -----
    Functions of yours see each example by itself, ``(1, ...)``. Where `forward_func` gives one number for a batch of
    several examples, such as a loss, they see all examples, and there is one fit for all; several examples are given to
    it once, all together, to tell.

    Otherwise than in meteors 0.2: several examples have a score each, instead of one mean; ids without a place have
    coefficients of exactly 0 and no part in the fit; equal samples are evaluated once; values that are NaN or infinite
    are refused; results of float64 inputs are float64.

    References
    ----------
    .. [1] M. T. Ribeiro, S. Singh and C. Guestrin, "Why should I trust you?", KDD 2016, arXiv:1602.04938.

    Examples
    --------
    >>> lime = lime_base.Lime(lambda x: x.cumsum(1), models.SkLearnLinearRegression())
    >>> pairs = torch.tensor([[0, 0, 1, 1, 2]])
    >>> attributions, score = lime.attribute(torch.ones(1, 5), target=3, feature_mask=pairs, n_samples=200)
    >>> attributions.round().abs()  # of the sum of the first four
    tensor([[2., 2., 2., 2., 0.]])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        interpretable_model: InterpretableModel | None = None,
        similarity_func: Callable[..., Any] | None = None,
        perturb_func: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(
            forward_func,
            SkLearnLasso(alpha=0.01) if interpretable_model is None else interpretable_model,
            get_exp_kernel_similarity_function() if similarity_func is None else similarity_func,
            default_perturb_func if perturb_func is None else perturb_func,
            True,
            default_from_interp_rep_transform,
            None,
        )

    def attribute(  # type: ignore[override]
        self,
        inputs: Any,
        baselines: Any = None,
        target: Target = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        n_samples: int = 25,
        perturbations_per_eval: int = 1,
        return_input_shape: bool = True,
        show_progress: ShowProgress = False,
    ) -> tuple[Any, torch.Tensor]:
        """Attribute an output to groups of values.

        Parameters
        ----------
        inputs : torch.Tensor or tuple of torch.Tensor
            What is explained, as `forward_func` takes it, with the examples along the first axis.
        baselines : number, torch.Tensor or tuple of them, optional
            What dropped values take: for each input a number, or a tensor of its shape or with one example. None: 0.
        target : int, tuple of int, tensor or list, optional
            Which output to explain, an index into the axes behind the first; a list or a tensor with one axis has one
            for each example.
        additional_forward_args : Any, optional
            An argument after the inputs, or a tuple of them. A tensor with as many entries as there are examples has
            one for each; all else goes as it is. See also `attr.AsIs` and `attr.PerImage`.
        feature_mask : torch.Tensor or tuple of torch.Tensor, optional
            For each input the ids of its features, which broadcast to it; see `construct_feature_mask`. None: every
            value is a feature.
        n_samples : int, default 25
            Samples of each example.
        perturbations_per_eval : int, default 1
            The largest number of samples that the model may see at once.
        return_input_shape : bool, default True
            Spread coefficients over the inputs, instead of returning them by feature.
        show_progress : bool or callable, default False
            True shows a progress bar; a callable is called with the evaluations done and to do.

        Returns
        -------
        attributions : torch.Tensor or tuple of torch.Tensor
            Of the shape of the inputs, each value with the coefficient of its feature, in output units; or ``(fits,
            features)`` where `return_input_shape` is False. float64 if an input is, else float32.
        score : torch.Tensor
            The R2 of the surrogate on its samples, each counted alike: without axes for one fit, ``(fits,)`` for
            several; see `attr.Lime.get_spatial_attributes`.

        Raises
        ------
        TypeError, ValueError, IndexError
            For arguments of another type or value.

        Warns
        -----
        UserWarning
            If there are fewer distinct samples, by their weights, than coefficients, or if a Lasso has only
            coefficients of 0 although the outputs vary.

        Examples
        --------
        >>> lime = lime_base.Lime(lambda image, weather: image.sum((1, 2, 3)) * weather[:, 0])
        >>> image, weather = torch.ones(1, 3, 2, 2), torch.tensor([[2.0, 7.0]])
        >>> (of_image, of_weather), score = lime.attribute((image, weather), n_samples=500)
        >>> of_image.shape, of_weather.shape
        (torch.Size([1, 3, 2, 2]), torch.Size([1, 2]))
        """
        if isinstance(target, str):
            raise TypeError(f"target must be None or an index, or one for each example, not {target!r}")
        wanted = positive(n_samples, "n_samples")
        tensors = read_tensors(inputs)
        read = read_baselines(baselines, tensors)
        masks, features = construct_feature_mask(feature_mask, tensors)
        limit = _per_eval(perturbations_per_eval)
        one_by_one = len(tensors[0]) == 1 or not self._gives_one_number(tensors, additional_forward_args)
        if not one_by_one and limit > 1:
            raise ValueError("perturbations_per_eval must be 1 where forward_func gives one number for a whole batch")
        examples = Examples(tensors, read, masks, features, isinstance(inputs, tuple), one_by_one)
        extras = extra_arguments(additional_forward_args, len(tensors[0]), one_by_one)
        perturb_func = None if self.perturb_func is default_perturb_func else self.perturb_func
        core = TensorLime(self.forward_func, examples, self.interpretable_model, self.similarity_func, perturb_func)
        coefficients, scores = core.fit(target, wanted, run_settings(extras, limit, show_progress))
        dtype = torch.float64 if any(one.dtype is torch.float64 for one in tensors) else torch.float32
        coefficients = coefficients.to(tensors[0].device, dtype)
        score = torch.tensor(scores[0] if len(scores) == 1 else scores, dtype=dtype, device=coefficients.device)
        if not return_input_shape:
            return coefficients, score
        spread = examples.spread(coefficients)
        return spread if isinstance(inputs, tuple) else spread[0], score

    def _gives_one_number(self, tensors: tuple[torch.Tensor, ...], additional_forward_args: Any) -> bool:
        """Tell whether the model gives one number for several examples, by what it says of them."""
        extras = extra_arguments(additional_forward_args, len(tensors[0]), one_by_one=False)
        with torch.inference_mode(False), torch.no_grad():
            copies = [one.clone() for one in tensors]  # a model may write into its input
            outputs = call_forward(self.forward_func, copies, [one.value for one in extras])  # type: ignore[union-attr]
        return outputs.numel() == 1
