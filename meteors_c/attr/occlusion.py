"""Occlusion: how much the output drops when a window of the image is covered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from meteors_c.attr._arguments import (
    Baseline,
    RunSettings,
    ShowProgress,
    Target,
    baselines_of,
    images_of,
    outputs_of,
    run_settings,
    sizes,
    spectral_axis_of,
)
from meteors_c.attr._fields import distinct_ids
from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.attr.explainer import Explainer, for_each_output, result_tensor
from meteors_c.attr.feature_ablation import FeatureAblation
from meteors_c.attr.report import Report
from meteors_c.hsi import HSI
from meteors_c.models import ExplainableModel

__all__ = ["Occlusion"]


def _window_ids(size: int, window: int, stride: int) -> tuple[np.ndarray, int]:
    """Return the last window that covers each position of an axis, -1 where none does, and how many there are."""
    count = size // stride + ((size - window) % stride != 0)
    position = np.arange(size)
    last = np.minimum(position // stride, count - 1)
    return np.where(position < last * stride + window, last, -1), count


def _mask(shape: Sequence[int], windows: Sequence[int], strides: Sequence[int], axes: Sequence[int]) -> torch.Tensor:
    """Return window ids from 1 on along one or two axes, later windows before earlier ones, in the image's shape."""
    total: np.ndarray = np.zeros((1, 1, 1), dtype=np.int32)
    covered = np.ones((1, 1, 1), dtype=bool)
    for axis in axes:
        last, count = _window_ids(shape[axis], windows[axis], strides[axis])
        along = np.expand_dims(last, tuple({0, 1, 2} - {axis}))
        total, covered = total * count + along, covered & (along >= 0)
    ids = np.where(covered, total + 1, 0).astype(np.int32)
    return torch.from_numpy(ids).expand(tuple(shape))


def _renamed(results: Any, reports: dict[int, Report] | None = None) -> Any:
    """Give results of feature ablation, which occludes groups of bands, the name of what was asked for."""
    reports = {} if reports is None else reports  # the new one of each, since results of a call share theirs
    for result in results if isinstance(results, list) else [results]:
        if isinstance(result, list):
            _renamed(result, reports)
        else:
            result.attribution_method = "Occlusion"
            report = result.report
            result.report = reports.setdefault(id(report), replace(report, method="Occlusion"))
    return results


@dataclass(frozen=True)
class _Windows:
    """Sizes and strides of the windows along the image's axes, and the class of the results."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    result_type: type[HSIAttributes] = HSIAttributes

    def fields(self, image: HSI) -> dict[str, Any]:
        """Return the window of each pixel or band as the mask of results; boxes have both, and no mask."""
        if self.result_type is HSIAttributes:
            return {}
        spectral = image.spectral_axis
        axes = [spectral] if self.result_type is HSIAttributesSpectral else sorted({0, 1, 2} - {spectral})
        mask = _mask(image.image.shape, self.sizes, self.strides, axes).to(image.image.device)
        if self.result_type is HSIAttributesSpatial:
            return {"mask": mask}
        return {"mask": mask, "band_names": {str(number): number for number in distinct_ids(mask)}}


class Occlusion(Explainer, native="occlusion"):
    """How much the output drops when a window is covered: for each value, the mean over its windows [1]_.

    Parameters
    ----------
    explainable_model : ExplainableModel
        The model. It needs no gradients.

    References
    ----------
    .. [1] M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
       arXiv:1311.2901.

    Examples
    --------
    Squares of 12 x 12 pixels, with what covers them changed from 0 to the mean spectrum:

    >>> occlusion = Occlusion(model)
    >>> squares = occlusion.get_spatial_attributes(hsi, target=0, sliding_window_shapes=12, strides=12, baseline="mean")
    >>> squares.flattened_attributes.unique().numel()
    16
    """

    multiplies_by_inputs = True

    def __init__(self, explainable_model: ExplainableModel) -> None:
        super().__init__(explainable_model)

    def nested_arguments(self, images: list[HSI]) -> dict[str, Any]:
        """Return the arguments inside a noise tunnel: the defaults of `attribute`.

        Examples
        --------
        >>> Occlusion(model).nested_arguments([hsi])
        {'window': (1, 1, 1), 'stride': (1, 1, 1), 'outputs': None}
        """
        defaults = self._defaults("sliding_window_shapes", "strides")
        return {"window": defaults["sliding_window_shapes"], "stride": defaults["strides"], "outputs": None}

    def attribute(
        self,
        hsi: HSI | list[HSI],
        target: Target | str = None,
        sliding_window_shapes: int | tuple[int, int, int] = (1, 1, 1),
        strides: int | tuple[int, int, int] = (1, 1, 1),
        baseline: Baseline = None,
        additional_forward_args: Any = None,
        perturbations_per_eval: int | None = None,
        show_progress: ShowProgress = False,
        per_target: bool = False,
    ) -> Any:
        """Attribute the target output to boxes of bands and pixels.

        Windows stand at 0, stride, 2 stride, ... along each axis, the last one cut off at the border. The model is
        evaluated once for the image and once for each window that would change it: windows that hold the baseline's
        values already (masked areas) are known to differ by 0 (``report.evaluations_saved``).

        Parameters
        ----------
        hsi : HSI or list of HSI
            The images, of one shape. The model gets each with its mask applied, in its own orientation.
        target : int, tuple of int, tensor, list or "all", optional
            Which output to explain; see `Saliency.attribute`. ``"all"`` explains every output with the evaluations
            that one takes.
        sliding_window_shapes : int or three int, default (1, 1, 1)
            Size of the window, in values along the image's axes.
        strides : int or three int, default (1, 1, 1)
            Distance between windows; no larger than the window, where that doesn't span the image.
        baseline : int, float, "mean", tensor, array or list, optional
            What covered values become, not masked; see `IntegratedGradients.attribute`.
        additional_forward_args : Any, optional
            What the model takes after the input; see `Saliency.attribute`.
        perturbations_per_eval : int, optional
            The largest number of samples that the model may see at once. The engine chooses where None.
        show_progress : bool or callable, default False
            True shows a bar; a callable is called with the evaluations done and to do.
        per_target : bool, default False
            Take a list given as `target` as several outputs of each image, with one result for each, from the
            evaluations that one takes.

        Returns
        -------
        HSIAttributes or list of HSIAttributes
            For each image, differences of its shape and floating dtype, in output units. With ``target="all"`` or
            `per_target`, for each image a list with one result for each output.

        Raises
        ------
        TypeError, ValueError, IndexError
            For arguments of another type or value: windows larger than the image, strides that leave gaps, an index
            that the model's outputs don't have.
        ShapeMismatchError
            If a baseline and its image differ in shape.

        Examples
        --------
        >>> result = Occlusion(model).attribute(hsi, 2, sliding_window_shapes=(50, 24, 24), strides=(50, 12, 12))
        """
        self._native()
        windows = _Windows(sizes(sliding_window_shapes, "sliding_window_shapes", 3), sizes(strides, "strides", 3))
        images = images_of(hsi)
        settings = run_settings(additional_forward_args, perturbations_per_eval, show_progress)
        return self._occlude(windows, images, target, baseline, per_target, settings)

    def get_spatial_attributes(
        self,
        hsi: HSI | list[HSI],
        target: Target | str = None,
        sliding_window_shapes: int | tuple[int, int] = (1, 1),
        strides: int | tuple[int, int] = 1,
        baseline: Baseline = None,
        additional_forward_args: Any = None,
        perturbations_per_eval: int | None = None,
        show_progress: ShowProgress = False,
        per_target: bool = False,
    ) -> Any:
        """Attribute the target output to windows of pixels, all bands at once.

        Parameters
        ----------
        sliding_window_shapes, strides : int or two int
            Along the two spatial axes, in the order in which they stand in the image.
        hsi, target, baseline, additional_forward_args, perturbations_per_eval, show_progress, per_target
            As in `attribute`.

        Returns
        -------
        HSIAttributesSpatial or list of HSIAttributesSpatial
            Their ``mask`` numbers windows from 1 on, row by row; where windows overlap, it has the later one.

        Examples
        --------
        >>> result = Occlusion(model).get_spatial_attributes(hsi, target=2, sliding_window_shapes=8, strides=8)
        >>> result.segmentation_mask.shape == result.flattened_attributes.shape
        True
        """
        self._native()
        extents, steps = sizes(sliding_window_shapes, "sliding_window_shapes", 2), sizes(strides, "strides", 2)
        images = images_of(hsi)
        spectral = spectral_axis_of(images)
        bands = images[0].image.shape[spectral]
        windows = _Windows(
            (*extents[:spectral], bands, *extents[spectral:]),
            (*steps[:spectral], bands, *steps[spectral:]),
            HSIAttributesSpatial,
        )
        settings = run_settings(additional_forward_args, perturbations_per_eval, show_progress)
        return self._occlude(windows, images, target, baseline, per_target, settings)

    def get_spectral_attributes(
        self,
        hsi: HSI | list[HSI],
        target: Target | str = None,
        sliding_window_shapes: int | tuple[int] = 1,
        strides: int | tuple[int] = 1,
        baseline: Baseline = None,
        additional_forward_args: Any = None,
        perturbations_per_eval: int | None = None,
        show_progress: ShowProgress = False,
        per_target: bool = False,
        band_names: Any = None,
    ) -> Any:
        """Attribute the target output to windows of bands, or to named groups of them, all pixels at once.

        Parameters
        ----------
        sliding_window_shapes, strides : int or a tuple of one int
            Along the bands.
        hsi, target, baseline, additional_forward_args, perturbations_per_eval, show_progress, per_target
            As in `attribute`.
        band_names : str, list or dict, optional
            Groups of bands that are occluded instead of windows, each in turn, as in `Lime.get_band_mask`:
            ``"regions"``, ``"sentinel2a"``, ``["red edge", "NIR"]``. The bands in no group are one more.

        Returns
        -------
        HSIAttributesSpectral or list of HSIAttributesSpectral
            Their ``mask`` numbers windows from 1 on; where windows overlap, it has the later one. For groups, it and
            ``band_names`` tell them apart.

        Raises
        ------
        ValueError
            Windows are given beside `band_names`.

        Examples
        --------
        >>> result = Occlusion(model).get_spectral_attributes(hsi, target=2, sliding_window_shapes=10, strides=5)
        >>> result.flattened_attributes.shape
        torch.Size([150])
        """
        self._native()
        if band_names is not None:
            if (sliding_window_shapes, strides) != (1, 1):
                raise ValueError("band_names stand instead of windows: leave out sliding_window_shapes and strides")
            ablation = FeatureAblation(self.explainable_model)
            shared = (additional_forward_args, perturbations_per_eval, show_progress, per_target)
            return _renamed(ablation.attribute(hsi, target, band_names, baseline, *shared))
        (window,), (step,) = sizes(sliding_window_shapes, "sliding_window_shapes", 1), sizes(strides, "strides", 1)
        images = images_of(hsi)
        spectral = spectral_axis_of(images)
        shape = images[0].image.shape
        windows = _Windows(
            (*shape[:spectral], window, *shape[spectral + 1 :]),
            (*shape[:spectral], step, *shape[spectral + 1 :]),
            HSIAttributesSpectral,
        )
        settings = run_settings(additional_forward_args, perturbations_per_eval, show_progress)
        return self._occlude(windows, images, target, baseline, per_target, settings)

    def _occlude(
        self,
        windows: _Windows,
        images: list[HSI],
        target: Any,
        baseline: Baseline,
        per_target: bool,
        settings: RunSettings,
    ) -> Any:
        """Call the core and return one result for each image, or with several outputs a list of them."""
        wanted, targets = outputs_of(target, per_target, len(images))
        computed = self._compute(
            self._native(),
            images,
            targets,
            settings,
            baselines_of(baseline, images),
            outputs=wanted,
            window=windows.sizes,
            stride=windows.strides,
        )
        fields = windows.fields(images[0])

        def build(i: int, t: int, one: tuple[int, ...]) -> HSIAttributes:
            attributes = result_tensor(computed.arrays[i][t], images[i])
            return self._result(images[i], attributes, one, computed.report, windows.result_type, **fields)

        return for_each_output(computed, targets, wanted, build)
