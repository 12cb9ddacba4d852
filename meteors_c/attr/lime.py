"""LIME: a linear surrogate of the model around an image, over superpixels or superbands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np

from meteors_c import _core
from meteors_c._memory import available_memory
from meteors_c.attr._arguments import Baseline, Target, images_of, integer, positive, run_settings
from meteors_c.attr._band_formats import (
    adjust_and_validate_segment_ranges,
    validate_band_format,
    validate_band_names,
    validate_segment_format,
)
from meteors_c.attr._band_masks import BandMasks
from meteors_c.attr._games import (
    Features,
    Game,
    GameExplainer,
    band_features,
    seed_of,
    segment_features,
)
from meteors_c.attr._kernels import ExpKernelSimilarity
from meteors_c.attr._noise import new_seed
from meteors_c.attr._segmentation_masks import SegmentationMasks, validate_mask_shape
from meteors_c.attr._streams import numbers_of
from meteors_c.attr._surrogates import Question, fit_custom, perturbations_of, question_of, similarities_of
from meteors_c.attr.explainer import Computed
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel
from meteors_c.models.abstract import InterpretableModel
from meteors_c.models.linear import SkLearnLasso, SkLearnLinearModel
from meteors_c.utils import warn_caller

__all__ = [
    "Lime",
    "adjust_and_validate_segment_ranges",
    "validate_band_format",
    "validate_band_names",
    "validate_mask_shape",
    "validate_segment_format",
]

_MOST_SAMPLES = 10_000
_TOLERANCE = 0.05
_RESAMPLES = 200
_BYTES_OF_A_FLAG, _BYTES_OF_A_SAMPLE = 9, 64  # in the core: a double of the fit and a flag; numbers beside them


class Lime(BandMasks, SegmentationMasks, GameExplainer, native="lime"):
    """Coefficients of a linear surrogate of the model around an image [1]_.

    Superpixels or superbands are dropped at random, each with probability 1/2, and take the baseline; a linear model of
    which were kept, fitted to what the model says of these samples with weights by their distance from the image, tells
    how much each contributes.

    Parameters
    ----------
    explainable_model : ExplainableModel
        The model. It needs no gradients.
    interpretable_model : InterpretableModel, optional
        The surrogate; ``SkLearnLasso(alpha=0.08)``, a new one for each `Lime`, where it is left out. Lasso, Ridge and
        LinearRegression are fitted by the native core; another `InterpretableModel` gets a loader with one batch
        ``(x (n, features), y (n,), weight (n,))`` of float32. After a call it holds the fit of the last image.
    similarity_func : callable, optional
        ``similarity_func(original, perturbed, interpretable_sample, **kwargs) -> float``: the weight of a sample. The
        images are ``(1, *image)`` tensors, the sample is ``(1, features)``, and ``kwargs`` hold ``feature_mask`` (the
        number of the feature of each value), ``baselines`` and ``num_interp_features``. None: an exponential kernel
        over cosine distances, see `lime_base.get_exp_kernel_similarity_function`, whose kernels the core computes.
    perturb_func : callable, optional
        ``perturb_func(original, **kwargs)`` gives a sample ``(1, features)`` of 0 and 1, or is a generator of samples.

    References
    ----------
    .. [1] M. T. Ribeiro, S. Singh and C. Guestrin, "Why should I trust you?", KDD 2016, arXiv:1602.04938.

    Examples
    --------
    >>> mask = Lime.get_segmentation_mask(hsi, "slic", num_interpret_features=20)
    >>> result = Lime(model).get_spatial_attributes(hsi, mask, target=0, n_samples=200, standard_errors=True)
    >>> result.effects.standard_errors.shape == result.effects.values.shape
    True
    """

    def __init__(
        self,
        explainable_model: ExplainableModel,
        interpretable_model: InterpretableModel | None = None,
        similarity_func: Callable[..., Any] | None = None,
        perturb_func: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(explainable_model)
        if interpretable_model is None:
            interpretable_model = SkLearnLasso(alpha=0.08)
        if not isinstance(interpretable_model, InterpretableModel):
            raise TypeError(
                f"interpretable_model must be an InterpretableModel, not {type(interpretable_model).__name__}"
            )
        for name, function in (("similarity_func", similarity_func), ("perturb_func", perturb_func)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be callable or None, not {type(function).__name__}")
        self.interpretable_model = interpretable_model
        self.similarity_func = similarity_func
        self.perturb_func = perturb_func

    def attribute(
        self,
        hsi: HSI | list[HSI],
        target: Target | str = None,
        attribution_type: str | None = None,
        additional_forward_args: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Attribute to superpixels or superbands.

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape.
        target : int, tuple of int, tensor, list or "all", optional
            Which output to explain.
        attribution_type : {"spatial", "spectral"}
            Which features.
        additional_forward_args : Any, optional
            What the model takes after the input.
        **kwargs
            Arguments of `get_spatial_attributes` or `get_spectral_attributes`.

        Returns
        -------
        HSIAttributesSpatial or HSIAttributesSpectral, or a list of them
            See there.

        Raises
        ------
        ValueError
            For another type, beside what the two methods raise.

        Examples
        --------
        >>> lime = Lime(model)
        >>> result = lime.attribute(hsi, target=0, attribution_type="spectral", band_names=["R", "G", "B"])
        """
        self._native()
        if attribution_type not in ("spatial", "spectral"):
            raise ValueError(f"attribution_type must be 'spatial' or 'spectral', not {attribution_type!r}")
        call = self.get_spatial_attributes if attribution_type == "spatial" else self.get_spectral_attributes
        return call(hsi, target=target, additional_forward_args=additional_forward_args, **kwargs)

    def get_spatial_attributes(
        self,
        hsi: HSI | list[HSI],
        segmentation_mask: Any = None,
        target: Target | str = None,
        n_samples: int | str = 10,
        perturbations_per_eval: int | None = None,
        verbose: bool = False,
        segmentation_method: str = "slic",
        additional_forward_args: Any = None,
        *,
        baseline: Baseline | Any = None,
        tolerance: float | None = None,
        standard_errors: bool | int = False,
        per_target: bool = False,
        continue_from: Any = None,
        **segmentation_method_params: Any,
    ) -> Any:
        """Attribute the target output to superpixels.

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape. The model gets each with its mask applied, in its own orientation.
        segmentation_mask : tensor, array, or list or tuple of one for each image, optional
            The superpixel of each pixel, as whole numbers; negative: in none. One that differs from band to band is
            taken as it is, though ``segmentation_mask`` of the result shows its first band. None: made from the first
            image by `get_segmentation_mask`, with a warning.
        target : int, tuple of int, tensor, list or "all", optional
            Which output to explain; a list has one for each image. ``"all"`` fits every output of the model to one set
            of evaluations.
        n_samples : int or "auto", default 10
            Samples of each image. Equal ones are evaluated once. ``"auto"`` samples until `tolerance` is reached.
        perturbations_per_eval : int, optional
            The largest number of samples that the model may see at once. The engine chooses where None.
        verbose : bool or callable, default False
            True shows a progress bar; a callable is called with the evaluations done and to do.
        segmentation_method : {"slic", "patch"}, default "slic"
            How a mask is made where none is given.
        additional_forward_args : Any, optional
            What the model takes after the input; see `Saliency.attribute`.
        baseline : number, tensor, array, "mean", `SegmentMean`, `Blur`, `Background` or list, optional
            What a dropped superpixel takes; 0 where None. Values under the image's mask stay 0.
        tolerance : float, optional
            With ``n_samples="auto"`` (0.05 where None): sample until the largest standard error of a coefficient is
            below this part of the largest coefficient, at most 10,000 samples. Two coefficients that are further apart
            than three times that then stand in their order with 97 % certainty.
        standard_errors : bool or int, default False
            Whether to compute standard errors of the coefficients and a 95 % interval of the score, by 200 bootstrap
            resamples or as many as given.
        per_target : bool, default False
            Take a list given as `target` as several outputs of each image, with one result for each.
        continue_from : result or list, optional
            What an earlier call returned for the same images, masks, baseline, target and model, here or from a file:
            samples are added to it, up to `n_samples` in all, and the numbers are those of one long run. One sample is
            evaluated again, to verify that the model is the same.
        **segmentation_method_params
            For `get_segmentation_mask`.

        Returns
        -------
        HSIAttributesSpatial or list of HSIAttributesSpatial
            Each value has the coefficient of its superpixel, in output units; 0 where the superpixel holds the baseline
            anyhow. ``score`` is the R2 of the surrogate on its samples, each counted alike: 1 or 0 for constant outputs
            that are predicted exactly or not, NaN for one sample. ``effects`` holds coefficients, intercept, weighted
            R2, standard errors and samples.

        Raises
        ------
        TypeError, ValueError, IndexError
            For arguments of another type or value.
        ShapeMismatchError
            If a mask does not fit its image.
        MaskCreationError
            If a mask can't be made.
        MemoryError
            If the samples do not fit into memory.

        Warns
        -----
        UserWarning
            If there is no mask, or more than 10,000 superpixels; if there are fewer distinct samples, by their
            weights, than coefficients; or if a Lasso has only coefficients of 0 although the outputs vary.

        Examples
        --------
        >>> squares = {"segmentation_method": "patch", "patch_size": 24}
        >>> result = Lime(model).get_spatial_attributes(hsi, target=0, n_samples=100, **squares)
        >>> result.flattened_attributes.shape
        torch.Size([48, 48])
        """
        self._native()
        images = images_of(hsi)
        features = segment_features(segmentation_mask, images, segmentation_method, segmentation_method_params)
        settings = run_settings(additional_forward_args, perturbations_per_eval, verbose)
        game = Game(images, features, target, per_target, baseline, settings, continue_from)
        return self._explain(game, n_samples, tolerance, standard_errors)

    def get_spectral_attributes(
        self,
        hsi: HSI | list[HSI],
        band_mask: Any = None,
        target: Target | str = None,
        n_samples: int | str = 10,
        perturbations_per_eval: int | None = None,
        verbose: bool = False,
        additional_forward_args: Any = None,
        band_names: Any = None,
        *,
        baseline: Baseline | Any = None,
        tolerance: float | None = None,
        standard_errors: bool | int = False,
        per_target: bool = False,
        continue_from: Any = None,
    ) -> Any:
        """Attribute the target output to superbands.

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape.
        band_mask : tensor, array, or list or tuple of one for each image, optional
            The superband of each band, as whole numbers; negative: in none. None: made for each image from
            `band_names`.
        target, n_samples, perturbations_per_eval, verbose, additional_forward_args
            See `get_spatial_attributes`.
        band_names : dict, list or str, optional
            The id of each superband's name, which is not negative; without a mask what `get_band_mask` takes. Ids are
            their own names where it is None.
        baseline, tolerance, standard_errors, per_target, continue_from
            See `get_spatial_attributes`.

        Returns
        -------
        HSIAttributesSpectral or list of HSIAttributesSpectral
            Each value has the coefficient of its superband; see `get_spatial_attributes`.

        Raises
        ------
        TypeError, ValueError, IndexError, ShapeMismatchError
            See `get_spatial_attributes`.
        MaskCreationError
            If there is neither a mask nor names, or a mask can't be made of the names.
        HSIAttributesError
            If `band_names` leaves more than one id of the mask without a name.

        Examples
        --------
        >>> result = Lime(model).get_spectral_attributes(hsi, band_names=["R", ["G", "N"]], target=0, n_samples=100)
        >>> result.band_names
        {'R': 1, ('G', 'N'): 2, 'not_included': 0}
        """
        self._native()
        images = images_of(hsi)
        features = band_features(band_mask, band_names, images)
        settings = run_settings(additional_forward_args, perturbations_per_eval, verbose)
        game = Game(images, features, target, per_target, baseline, settings, continue_from)
        return self._explain(game, n_samples, tolerance, standard_errors)

    # ---- one call of the core

    def _explain(self, game: Game, n_samples: int | str, tolerance: float | None, standard_errors: bool | int) -> Any:
        seed = seed_of(game.continue_from, len(game.images), new_seed)
        arguments = _sampling(n_samples, tolerance, standard_errors) | {"seed": seed}
        _check_memory(arguments, game.features)
        model = self.interpretable_model
        core = model.core_fit() if isinstance(model, SkLearnLinearModel) else None
        rows, row_weights = self._user_rows(game, arguments)
        if core is None and (arguments["tolerance"] > 0 or arguments["resamples"] > 0):
            raise ValueError(
                "n_samples='auto' and standard_errors need an interpretable model that the core fits: Lasso, Ridge or "
                "LinearRegression"
            )
        kernel = self.similarity_func
        own = kernel if _is_own(kernel) else ExpKernelSimilarity()
        arguments |= {
            "rows": rows,
            "row_weights": row_weights,
            "distance": own.distance_mode if row_weights is None else "given",
            "kernel_width": float(own.kernel_width),
            "surrogate": "none" if core is None else core["kind"],
            "alpha": 0.0 if core is None else core["alpha"],
            "intercept": core is None or core["intercept"],
            "positive": core is not None and core["positive"],
            "max_iterations": 0 if core is None else core["max_iterations"],
            "fit_tolerance": 0.0 if core is None else core["tolerance"],
        }

        def solve(computed: Computed) -> Computed:
            if core is None:
                self._fit_custom(game.features, computed)
            else:
                self.interpretable_model.set_fitted(  # type: ignore[attr-defined]
                    computed.further["coefficients"][-1], computed.further["intercepts"][-1]
                )
            _warn_of_fits(computed, core)
            return computed

        return self._play(game, arguments, solve)

    def _user_rows(
        self, game: Game, arguments: dict[str, Any]
    ) -> tuple[list[np.ndarray] | None, list[np.ndarray] | None]:
        """Return the samples and weights of each image where functions of the user's make them."""
        user_weights = self.similarity_func is not None and not _is_own(self.similarity_func)
        if self.perturb_func is None and not user_weights:
            return None, None
        if arguments["tolerance"] > 0:
            raise ValueError("n_samples='auto' needs samples and weights that the core makes, not functions of yours")
        if self.perturb_func is not None and game.continue_from is not None:
            raise ValueError("continue_from needs samples that the core draws, not a perturb_func")
        rows, weights = [], []
        numbers = numbers_of(len(game.images))
        for i in range(len(game.images)):
            question = self._question(game, i, game.missing.baselines[i])
            if self.perturb_func is None:
                count = len(game.features.ids[i])
                rows.append(_core.draw_coalitions(arguments["seed"], numbers[i], arguments["n_samples"], count))
            else:
                rows.append(perturbations_of(self.perturb_func, question, arguments["n_samples"]))
            if user_weights:
                weights.append(similarities_of(self.similarity_func, question, rows[i]))  # type: ignore[arg-type]
        return rows, weights if user_weights else None

    def _question(self, game: Game, i: int, baseline: Any) -> Question:
        """Return what functions of the user's are told of image i."""
        return question_of(game.images[i], game.features.numbered[i], len(game.features.ids[i]), baseline)

    def _fit_custom(self, features: Features, computed: Computed) -> None:
        """Fit the user's interpretable model for each image and output, and write what the core would have written."""
        further = computed.further
        for name in ("coefficients", "intercepts", "scores"):
            further[name] = []
        for i, numbered in enumerate(features.numbered):
            samples, weights = further["samples"][i], further["weights"][i]
            outputs = further["sample_values"][i]
            fits = [
                fit_custom(self.interpretable_model, samples, outputs[:, t], weights) for t in range(outputs.shape[1])
            ]
            further["coefficients"].append(np.stack([fit.coefficients for fit in fits]))
            further["intercepts"].append(np.array([fit.intercept for fit in fits]))
            further["scores"].append(np.array([[fit.score, fit.weighted_score] for fit in fits]))
            shape, dtype = computed.arrays[i][0].shape, computed.arrays[i][0].dtype
            computed.arrays[i][:] = [
                np.append(fit.coefficients, 0.0).astype(dtype)[numbered].reshape(shape) for fit in fits
            ]


def _is_own(kernel: Any) -> TypeGuard[ExpKernelSimilarity]:
    """Return whether the core computes a kernel: one of a derived class may be another."""
    return type(kernel) is ExpKernelSimilarity


def _sampling(n_samples: int | str, tolerance: float | None, standard_errors: bool | int) -> dict[str, Any]:
    """Return how many samples are drawn, and resampled."""
    if isinstance(n_samples, str) and n_samples != "auto":
        raise ValueError(f"n_samples must be a positive int or 'auto', not {n_samples!r}")
    if tolerance is not None:
        if n_samples != "auto":
            raise ValueError('tolerance is for n_samples="auto"')
        if not (isinstance(tolerance, int | float) and 0 < tolerance < 1):
            raise ValueError(f"tolerance must be a number between 0 and 1, not {tolerance!r}")
    resamples = _RESAMPLES if standard_errors is True else 0 if standard_errors is False else standard_errors
    return {
        "n_samples": _MOST_SAMPLES if n_samples == "auto" else positive(n_samples, "n_samples"),
        "tolerance": 0.0 if n_samples != "auto" else _TOLERANCE if tolerance is None else float(tolerance),
        "resamples": integer(resamples, "standard_errors", "a bool or an int of at least 2", 2) if resamples else 0,
    }


def _check_memory(arguments: dict[str, Any], features: Features) -> None:
    """Raise an error for samples that do not fit into memory, before anything is drawn."""
    most = max(map(len, features.ids))
    needed = arguments["n_samples"] * (_BYTES_OF_A_FLAG * most + _BYTES_OF_A_SAMPLE)
    if arguments["tolerance"] == 0 and needed > available_memory():
        raise MemoryError(
            f"n_samples: {arguments['n_samples']} samples of {most} features do not fit into memory: they take about "
            f"{needed / 2**30:.3g} GiB"
        )


def _warn_of_fits(computed: Computed, core: dict[str, Any] | None) -> None:
    """Warn of fits that say little: too few samples, or nothing but zeros."""
    for i, coefficients in enumerate(computed.further["coefficients"]):
        effective, wanted = float(computed.further["effective_samples"][i][0]), coefficients.shape[1] + 1
        if effective < wanted:
            warn_caller(
                f"{coefficients.shape[1]} coefficients and an intercept are fitted to {effective:.1f} samples, counted "
                "by their weights: take more samples, a wider kernel, or fewer features"
            )
            break
    lasso = core is not None and core["kind"] == "lasso"
    for outputs, coefficients in zip(computed.further["sample_values"], computed.further["coefficients"], strict=True):
        zero = ~coefficients.any(axis=1) & (np.ptp(outputs, axis=0) > 0)
        if lasso and zero.any():
            warn_caller(
                f"all coefficients are 0 although the outputs vary by {np.ptp(outputs, axis=0)[zero].max():.3g}: alpha "
                f"{core['alpha']:g} is too large for them; give Lime an interpretable_model with a smaller one"  # type: ignore[index]
            )
            break
