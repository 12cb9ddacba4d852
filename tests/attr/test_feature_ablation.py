"""FeatureAblation: f(x) - f(x with a feature replaced), at each value of the feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from meteors_c import HSI, attr, options
from meteors_c.attr import FeatureAblation, HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.exceptions import MaskCreationError, ShapeMismatchError
from tests.toys import BANDS, COLUMNS, ROWS, explainable, name_of, smooth

SHAPE = (BANDS, ROWS, COLUMNS)
PATHS = [{}, {"shortcuts": "always"}, {"shortcuts": False}, {"native": False}]


def cube(orientation: str = "CHW", seed: int = 0) -> HSI:
    values = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    order = tuple("CHW".index(letter) for letter in orientation)
    return HSI(
        image=values.permute(order),
        wavelengths=torch.arange(1.0, BANDS + 1) * 100 + 400,
        orientation=tuple(orientation),
    )


def expected(model: Any, image: torch.Tensor, ids: torch.Tensor, baseline: torch.Tensor, target: int) -> torch.Tensor:
    """The definition, in plain torch; ids and baseline have the image's shape."""
    result = torch.zeros_like(image)
    with torch.no_grad():
        whole = model(image[None])[0, target]
        for feature in ids.unique():
            if feature >= 0:
                covered = torch.where(ids == feature, baseline, image)
                result[ids == feature] = whole - model(covered[None])[0, target]
    return result


def features(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    sizes = {"bands": (BANDS,), "pixels": (ROWS, COLUMNS), "values": SHAPE}[kind]
    return torch.randint(-1, 4, sizes, generator=generator) * 5  # ids with gaps; -5: in no feature


def whole(ids: torch.Tensor) -> torch.Tensor:
    return (ids[:, None, None] if ids.ndim == 1 else ids).expand(SHAPE)


@pytest.mark.parametrize("settings", PATHS, ids=name_of)
@pytest.mark.parametrize(
    ("kind", "result_type"),
    [("bands", HSIAttributesSpectral), ("pixels", HSIAttributesSpatial), ("values", HSIAttributes)],
)
def test_by_definition(kind: str, result_type: type, settings: dict[str, Any]) -> None:
    model, hsi, ids = smooth(), cube(), features(kind)
    baseline = torch.rand(SHAPE, dtype=torch.float64)
    with options(**settings):
        result = FeatureAblation(explainable(model)).attribute(hsi, target=1, feature_mask=ids, baseline=baseline)
    assert type(result) is result_type
    want = expected(model, hsi.image, whole(ids), baseline, 1)
    torch.testing.assert_close(result.attributes, want, rtol=0, atol=1e-12)
    assert torch.equal(result.mask, whole(ids))
    assert result.attribution_method == "Feature Ablation"
    assert (result.attributes[whole(ids) < 0] == 0).all()


def test_each_band_is_a_feature_by_default() -> None:
    model, hsi = explainable(smooth()), cube()
    by_band = FeatureAblation(model).attribute(hsi, target=0)
    windows = attr.Occlusion(model).get_spectral_attributes(hsi, target=0)
    torch.testing.assert_close(by_band.attributes, windows.attributes, rtol=0, atol=1e-13)
    assert by_band.band_names == {str(band): band for band in range(BANDS)}


def test_orientation_makes_no_difference() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:  # blind to the order of the axes
        return x.square().sum((1, 2, 3))[:, None].sin()

    ids = features("pixels")
    straight = FeatureAblation(explainable(model)).attribute(cube(), target=0, feature_mask=ids)
    turned = FeatureAblation(explainable(model)).attribute(cube("HWC"), target=0, feature_mask=ids)
    torch.testing.assert_close(turned.attributes, straight.attributes.permute(1, 2, 0), rtol=0, atol=1e-12)


def test_features_of_a_linear_model_sum_to_the_difference_of_outputs() -> None:
    weight = torch.rand(SHAPE, dtype=torch.float64)
    hsi, ids = cube(), features("pixels").abs()
    result = FeatureAblation(explainable(lambda x: (x * weight).sum((1, 2, 3))[:, None])).attribute(
        hsi, target=0, feature_mask=ids
    )
    once = [result.attributes[0][ids == feature][0] for feature in ids.unique()]
    torch.testing.assert_close(torch.stack(once).sum(), (hsi.image * weight).sum())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int32, torch.float64])
def test_whole_numbers_of_any_dtype_are_ids(dtype: torch.dtype) -> None:
    model, hsi = explainable(smooth()), cube()
    ids = torch.arange(BANDS) % 2
    want = FeatureAblation(model).attribute(hsi, target=0, feature_mask=ids)
    got = FeatureAblation(model).attribute(hsi, target=0, feature_mask=ids.to(dtype).numpy())
    assert torch.equal(got.attributes, want.attributes)


def test_several_images_and_outputs() -> None:
    model, images, ids = smooth(), [cube(), cube(seed=1)], features("pixels")
    every = FeatureAblation(explainable(model)).attribute(images, target="all", feature_mask=ids)
    one = FeatureAblation(explainable(model)).attribute(images, target=[1, 0], feature_mask=ids)
    torch.testing.assert_close(every[0][1].attributes, one[0].attributes)
    torch.testing.assert_close(every[1][0].attributes, one[1].attributes)


def test_features_that_hold_the_baseline_are_not_evaluated() -> None:
    hsi = cube()
    hsi.image[:, 0] = 0
    ids = torch.arange(ROWS)[:, None].expand(ROWS, COLUMNS)
    result = FeatureAblation(explainable(smooth())).attribute(hsi, target=0, feature_mask=ids)
    assert result.report.evaluations_saved == 1
    assert result.report.evaluations == ROWS
    assert (result.attributes[:, 0] == 0).all()


@pytest.mark.parametrize("tunnel", [attr.NoiseTunnel, attr.HyperNoiseTunnel])
def test_in_a_tunnel(tunnel: Any) -> None:
    model, hsi = explainable(smooth()), cube()
    torch.manual_seed(2)
    ablated = tunnel(FeatureAblation(model)).attribute(hsi, target=0, n_samples=3)
    torch.manual_seed(2)
    arguments = {"n_samples": 3, "stdevs": 1} if tunnel is attr.NoiseTunnel else {
        "n_samples": 3, "baseline": torch.zeros(SHAPE, dtype=torch.float64)
    }  # fmt: skip
    samples = tunnel.perturb_input(hsi.image, **arguments)
    by_hand = [
        FeatureAblation(model).attribute(HSI(image=sample, wavelengths=hsi.wavelengths), target=0).attributes
        for sample in samples
    ]
    torch.testing.assert_close(ablated.attributes, torch.stack(by_hand).mean(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("mask", "error", "word"),
    [
        (torch.zeros(BANDS + 1), ShapeMismatchError, "feature_mask"),
        (torch.full((BANDS,), 0.5), ValueError, "whole"),
        (torch.full((BANDS,), float("nan")), ValueError, "whole"),
        (torch.full((BANDS,), -1), ValueError, "negative"),
        ("slic", MaskCreationError, "feature_mask"),
    ],
)
def test_bad_masks(mask: Any, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        FeatureAblation(explainable(smooth())).attribute(cube(), target=0, feature_mask=mask)


def test_it_is_a_known_method_everywhere() -> None:
    assert "Feature Ablation" in attr.attributes.AVAILABLE_ATTRIBUTION_METHODS
    ablation = FeatureAblation(explainable(smooth()))
    assert FeatureAblation.get_name() == "Feature Ablation"
    ablation._attribution_method = None
    with pytest.raises(RuntimeError):
        ablation.attribute(np.zeros(3))  # type: ignore[arg-type]


@pytest.mark.parametrize("orientation", ["CHW", "HWC"])
def test_masks_of_bands_as_get_band_mask_gives_them(orientation: str) -> None:
    image = cube().change_orientation(orientation)
    ids = torch.arange(BANDS) // 2
    shape = [BANDS if letter == "C" else 1 for letter in orientation]
    network = smooth()
    order = [0, *(1 + orientation.index(letter) for letter in "CHW")]
    model = explainable(lambda x: network(x.permute(order)))
    wanted = FeatureAblation(model).attribute(image, target=0, feature_mask=ids)
    found = FeatureAblation(model).attribute(image, target=0, feature_mask=ids.reshape(shape))
    assert type(found) is type(wanted)
    assert torch.equal(found.attributes, wanted.attributes)
