"""What is common to the methods that estimate Shapley values: one call for each kind of features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from meteors_c.attr._arguments import Baseline, Target, images_of, run_settings
from meteors_c.attr._games import (
    Game,
    GameExplainer,
    band_features,
    joint_features,
    seed_of,
    segment_features,
)
from meteors_c.attr._noise import new_seed
from meteors_c.attr.explainer import Computed
from meteors_c.hsi import HSI

__all__ = ["ShapleyExplainer"]


class ShapleyExplainer(GameExplainer):
    """Base of explainers that share what the output gains from the baseline to the image fairly among features."""

    multiplies_by_inputs = True
    _own: ClassVar[dict[str, Any]] = {}  # arguments of this method alone, with their defaults

    def attribute(
        self,
        hsi: HSI | list[HSI],
        target: Target | str = None,
        attribution_type: str | None = None,
        additional_forward_args: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Attribute to superpixels, superbands, or superpixels in superbands.

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape.
        target : int, tuple of int, tensor, list or "all", optional
            Which output to explain.
        attribution_type : {"spatial", "spectral", "joint"}
            Which features.
        additional_forward_args : Any, optional
            What the model takes after the input.
        **kwargs
            Arguments of `get_spatial_attributes`, `get_spectral_attributes` or `get_joint_attributes`.

        Returns
        -------
        HSIAttributesSpatial, HSIAttributesSpectral or HSIAttributes, or a list of them
            See there.

        Raises
        ------
        ValueError
            For another type, beside what the three methods raise.

        Examples
        --------
        >>> explainer = KernelShap(model)
        >>> result = explainer.attribute(hsi, target=0, attribution_type="spectral", band_names=["R", "G", "B"])
        """
        self._native()
        calls: dict[Any, Callable[..., Any]] = {
            "spatial": self.get_spatial_attributes,
            "spectral": self.get_spectral_attributes,
            "joint": self.get_joint_attributes,
        }
        if attribution_type not in calls:
            raise ValueError(f"attribution_type must be one of {', '.join(calls)}, not {attribution_type!r}")
        return calls[attribution_type](hsi, target=target, additional_forward_args=additional_forward_args, **kwargs)

    def get_spatial_attributes(
        self,
        hsi: HSI | list[HSI],
        segmentation_mask: Any = None,
        target: Target | str = None,
        n_samples: int | None = None,
        perturbations_per_eval: int | None = None,
        verbose: bool = False,
        segmentation_method: str = "slic",
        additional_forward_args: Any = None,
        *,
        baseline: Baseline | Any = None,
        per_target: bool = False,
        continue_from: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Attribute the target output to superpixels.

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape. The model gets each with its mask applied, in its own orientation.
        segmentation_mask : tensor, array, or list or tuple of one for each image, optional
            The superpixel of each pixel, as whole numbers; negative: in none, and always as in the image. None: made
            from the first image by `Lime.get_segmentation_mask`.
        target : int, tuple of int, tensor, list or "all", optional
            Which output to explain; a list has one for each image. ``"all"`` explains every output of the model from
            one set of evaluations.
        n_samples : int, optional
            How much is sampled of each image; see the class.
        perturbations_per_eval : int, optional
            The largest number of samples that the model may see at once. The engine chooses where None.
        verbose : bool or callable, default False
            True shows a progress bar; a callable is called with the evaluations done and to do.
        segmentation_method : {"slic", "patch"}, default "slic"
            How a mask is made where none is given.
        additional_forward_args : Any, optional
            What the model takes after the input; see `Saliency.attribute`.
        baseline : number, tensor, array, "mean", `SegmentMean`, `Blur`, `Background` or list, optional
            What a left out superpixel takes; 0 where None. Values under the image's mask stay 0.
            ``effects.missing`` states it.
        per_target : bool, default False
            Take a list given as `target` as several outputs of each image, with one result for each.
        continue_from : result or list, optional
            What an earlier call returned for the same images, masks and model: no coalition that ``effects`` holds is
            evaluated again, but for one that verifies the model.
        **kwargs
            The method's own arguments, described in its class, and where no mask is given, parameters for
            `Lime.get_segmentation_mask`.

        Returns
        -------
        HSIAttributesSpatial or list of HSIAttributesSpatial
            Each value has the Shapley value of its superpixel, in output units: they sum to the output for the image
            less that for the baseline. ``effects`` holds values, standard errors and coalitions.

        Raises
        ------
        TypeError, ValueError, IndexError
            For arguments of another type or value.
        ShapeMismatchError
            If a mask or a baseline does not fit its image.
        MaskCreationError
            If a mask can't be made.

        Examples
        --------
        >>> result = KernelShap(model).get_spatial_attributes(hsi, mask, target=0, baseline=SegmentMean())
        """
        self._native()
        images = images_of(hsi)
        given = segmentation_mask is not None  # then nothing makes one, and every name has to be the method's own
        own = {name: value for name, value in kwargs.items() if given or name in self._own}
        making = {name: value for name, value in kwargs.items() if name not in own}
        self._check_names(own)
        features = segment_features(segmentation_mask, images, segmentation_method, making)
        settings = run_settings(additional_forward_args, perturbations_per_eval, verbose)
        game = Game(images, features, target, per_target, baseline, settings, continue_from)
        return self._share(game, n_samples, own)

    def get_spectral_attributes(
        self,
        hsi: HSI | list[HSI],
        band_mask: Any = None,
        target: Target | str = None,
        n_samples: int | None = None,
        perturbations_per_eval: int | None = None,
        verbose: bool = False,
        additional_forward_args: Any = None,
        band_names: Any = None,
        *,
        baseline: Baseline | Any = None,
        per_target: bool = False,
        continue_from: Any = None,
        **own: Any,
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
            The id of each superband's name; without a mask what `Lime.get_band_mask` takes.
        baseline, per_target, continue_from
            See `get_spatial_attributes`.
        **own
            The method's own arguments, described in its class.

        Returns
        -------
        HSIAttributesSpectral or list of HSIAttributesSpectral
            Each value has the Shapley value of its superband; see `get_spatial_attributes`.

        Raises
        ------
        TypeError, ValueError, IndexError, ShapeMismatchError, MaskCreationError
            See `get_spatial_attributes`.

        Examples
        --------
        >>> result = KernelShap(model).get_spectral_attributes(hsi, band_names=groups, target=0)
        >>> result.effects.exact, result.band_names
        (True, {'B': 1, 'G': 2, 'R': 3, 'N': 4, 'not_included': 0})
        """
        self._native()
        images = images_of(hsi)
        self._check_names(own)
        features = band_features(band_mask, band_names, images)
        settings = run_settings(additional_forward_args, perturbations_per_eval, verbose)
        game = Game(images, features, target, per_target, baseline, settings, continue_from)
        return self._share(game, n_samples, own)

    def get_joint_attributes(
        self,
        hsi: HSI | list[HSI],
        segmentation_mask: Any,
        band_mask: Any,
        target: Target | str = None,
        n_samples: int | None = None,
        perturbations_per_eval: int | None = None,
        verbose: bool = False,
        additional_forward_args: Any = None,
        *,
        baseline: Baseline | Any = None,
        per_target: bool = False,
        continue_from: Any = None,
        **own: Any,
    ) -> Any:
        """Attribute the target output to superpixels in superbands: where and at which wavelengths at once.

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape.
        segmentation_mask, band_mask : tensor, array, or list or tuple of one for each image
            Superpixels, and superbands. A feature is one of each; what is in none of either is always as in the image.
        target, n_samples, perturbations_per_eval, verbose, additional_forward_args, baseline, per_target, continue_from
            See `get_spatial_attributes`.
        **own
            The method's own arguments, described in its class.

        Returns
        -------
        HSIAttributes or list of HSIAttributes
            Each value has the Shapley value of its feature. The feature of superpixel number s and superband number b,
            both counted from 0 by ascending ids, has the id ``s * superbands + b`` in ``mask``.

        Raises
        ------
        TypeError, ValueError, IndexError, ShapeMismatchError
            See `get_spatial_attributes`.

        Examples
        --------
        >>> halves = torch.arange(2).repeat_interleave(24).expand(48, 48)
        >>> visible = (hsi.wavelengths > 700).long()  # superband 0 to 700 nm, superband 1 beyond
        >>> result = ShapleyValueSampling(model).get_joint_attributes(hsi, halves, visible, target=0)
        >>> result.effects.values.shape
        torch.Size([4])
        """
        self._native()
        images = images_of(hsi)
        self._check_names(own)
        features = joint_features(segmentation_mask, band_mask, images)
        settings = run_settings(additional_forward_args, perturbations_per_eval, verbose)
        game = Game(images, features, target, per_target, baseline, settings, continue_from)
        return self._share(game, n_samples, own)

    # ---- one call of the core

    def _check_names(self, own: dict[str, Any]) -> None:
        unknown = [name for name in own if name not in self._own]
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no argument {', '.join(unknown)}; beside the common ones it takes "
                f"{', '.join(self._own)}, and for superpixels without a mask what makes one"
            )

    def _share(self, game: Game, n_samples: Any, own: dict[str, Any]) -> Any:
        seed = seed_of(game.continue_from, len(game.images), new_seed)
        arguments = self._read(n_samples, **{**self._own, **own}) | {"seed": seed}
        return self._play(game, arguments, self._look_at)

    def _read(self, n_samples: Any, **own: Any) -> dict[str, Any]:
        """Return the method's own arguments as the core takes them."""
        raise NotImplementedError

    def _look_at(self, computed: Computed) -> Computed:
        """Warn of what the core found."""
        return computed
