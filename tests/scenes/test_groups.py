"""Maps of methods that find numbers of groups: each group counts once, as in the map of a single result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from meteors_c import attr
from meteors_c.pages._contents import attribution_map
from tests.scenes.models import field, patch_model, scene, windows_of

ROWS, COLUMNS, WINDOW = 9, 7, 5
MODEL = patch_model()


@pytest.fixture
def values() -> np.ndarray:
    return field(ROWS, COLUMNS)


def groups() -> tuple[torch.Tensor, dict[str, int]]:
    return torch.tensor([4, 9, 9, 4]), {"outer": 4, "inner": 9}


@pytest.mark.parametrize("method", [attr.KernelShap, attr.ShapleyValueSampling, attr.FeatureAblation, attr.Lime])
def test_groups_of_bands_count_once_in_maps(method: Any, values: np.ndarray) -> None:
    """The number of each group, as a call with the window of one pixel has it; of Shapley values, the sum is known."""
    mask, names = groups()
    arguments: dict[str, Any] = {"feature_mask": mask}
    if method is not attr.FeatureAblation:
        arguments = {"band_mask": mask, "band_names": names, "n_samples": 16, "attribution_type": "spectral"}
    explainer = method(MODEL)
    found = attr.explain_scene(explainer, scene(values), window=WINDOW, target=1, values=True, seed=2, **arguments)
    numbers = found["values"][0].transpose("y", "x", "wavelength").values
    np.testing.assert_array_equal(numbers[..., [0, 1]], numbers[..., [3, 2]])
    np.testing.assert_allclose(found["map"][0], numbers[..., 0] + numbers[..., 1], rtol=1e-12)
    if method is attr.Lime:  # draws of its own
        return
    alone = explainer.attribute(windows_of(values, WINDOW), target=1, **arguments)
    each = [
        sum(dict(zip(one.band_mask.tolist(), one.flattened_attributes.tolist(), strict=True)).values()) for one in alone
    ]
    np.testing.assert_allclose(found["map"][0].values.ravel(), each, atol=1e-9)
    if method is not attr.FeatureAblation:
        batch = torch.stack([window.image for window in windows_of(values, WINDOW)])
        with torch.no_grad():
            difference = MODEL.forward_func(batch)[:, 1] - MODEL.forward_func(torch.zeros_like(batch))[:, 1]
        np.testing.assert_allclose(found["map"][0].values.ravel(), difference.numpy(), atol=1e-9)


def test_occluded_groups_count_once_in_maps(values: np.ndarray) -> None:
    arguments: dict[str, Any] = {"call": "get_spectral_attributes", "window": WINDOW, "target": 1}
    by_name, by_mask = (
        attr.explain_scene(attr.Occlusion(MODEL), scene(values), band_names=["blue", "red"], **arguments),
        attr.explain_scene(
            attr.FeatureAblation(MODEL),
            scene(values),
            feature_mask=["blue", "red"],
            **arguments | {"call": "attribute"},
        ),
    )
    np.testing.assert_allclose(by_name["map"], by_mask["map"], atol=1e-12)


@pytest.mark.parametrize("explainer", [attr.FeatureAblation(MODEL), attr.Occlusion(MODEL), attr.KernelShap(MODEL)])
def test_superpixels_count_once_in_maps(explainer: Any, values: np.ndarray) -> None:
    """A map of superpixels is the one that a call with a single window gives at its centre."""
    mask = torch.arange(WINDOW * WINDOW).reshape(1, WINDOW, WINDOW) // 7
    call, arguments = "attribute", dict[str, Any](feature_mask=mask[0])
    if isinstance(explainer, attr.Occlusion):
        call, arguments = "get_spatial_attributes", {"sliding_window_shapes": 2, "strides": 2}
    elif isinstance(explainer, attr.KernelShap):
        arguments = {"segmentation_mask": mask, "attribution_type": "spatial"}
    found = attr.explain_scene(explainer, scene(values), window=WINDOW, target=1, call=call, **arguments)
    alone = [getattr(explainer, call)(window, target=1, **arguments) for window in windows_of(values, WINDOW)]
    want = [attribution_map(one)[WINDOW // 2, WINDOW // 2] for one in alone]
    np.testing.assert_allclose(found["map"][0].values.ravel(), want, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2])
def test_windows_of_bands_overlap_and_all_bands_are_summed(size: int, values: np.ndarray) -> None:
    explainer, call = attr.Occlusion(MODEL), "get_spectral_attributes"
    arguments: dict[str, Any] = {"sliding_window_shapes": size, "strides": 1}
    found = attr.explain_scene(explainer, scene(values), window=WINDOW, target=1, call=call, **arguments)
    alone = explainer.get_spectral_attributes(windows_of(values, WINDOW), target=1, **arguments)
    want = [one.flattened_attributes.sum() for one in alone]
    np.testing.assert_allclose(found["map"][0].values.ravel(), want, atol=1e-12)
