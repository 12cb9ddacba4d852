"""LIME: coefficients of a surrogate of the model, spread over superpixels and superbands, and how well it fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor

from meteors_c import HSI, options
from meteors_c.attr import HSIAttributesSpatial, HSIAttributesSpectral, Lime
from meteors_c.models import ExplainableModel
from meteors_c.models.linear import (
    SkLearnLasso,
    SkLearnLinearRegression,
    SkLearnRidge,
)
from tests.attr.surrogates import (
    SEGMENTS,
    Exact,
    every_sample,
    features_of,
    masked_cube,
    whole_cube,
)
from tests.toys import (
    BANDS,
    COLUMNS,
    ORIENTATIONS,
    PATHS,
    ROWS,
    SHAPE,
    WAVELENGTHS,
    Grid,
    Linear,
    Segmenter,
    convolutional,
    cube,
    each_pair,
    explainable,
    smooth,
    spatial_mask,
    traced,
    values,
)

KINDS = ["spatial", "spectral"]
MODEL, EXACT = smooth(), Exact()
ROWS_OF_PIXELS = torch.arange(ROWS)[:, None].expand(ROWS, COLUMNS)


def call(explainer: Lime, kind: str, hsi: Any, orientation: str = "CHW", **arguments: Any) -> Any:
    name, of_mask, mask, _ = features_of(kind, orientation)
    return getattr(explainer, name)(hsi, **{of_mask: mask, "target": 0, "n_samples": 60, **arguments})


def sums_of_features(values: torch.Tensor, numbered: torch.Tensor) -> torch.Tensor:
    return torch.stack([values[numbered == n].sum() for n in range(int(numbered.max()) + 1)])


# ---------------------------------------------------------------- linear models


@pytest.mark.parametrize(
    ("kind", "orientation", "surrogate", "baseline"),
    each_pair(
        KINDS,
        ORIENTATIONS,
        [SkLearnLinearRegression, lambda: SkLearnRidge(alpha=0), lambda: SkLearnLasso(alpha=1e-9)],
        [0.0, 0.7],
    ),
)
def test_linear_models_are_recovered(kind: str, orientation: str, surrogate: Any, baseline: float) -> None:
    hsi = masked_cube(orientation)
    model = Linear(shape=tuple(hsi.image.shape))
    result = call(Lime(explainable(model), surrogate()), kind, hsi, orientation, target=2, baseline=baseline)
    _, _, mask, numbered = features_of(kind, orientation)
    left_out = torch.where(hsi.binary_mask, baseline, 0.0).to(hsi.image.dtype)  # what the mask hides stays 0
    wanted = sums_of_features(model.weight[2].detach() * (hsi.get_image() - left_out), numbered)
    torch.testing.assert_close(result.effects.values, wanted, rtol=0, atol=1e-7)
    spread = torch.cat([result.effects.values, torch.zeros(1)])[numbered]
    torch.testing.assert_close(result.attributes, spread, rtol=0, atol=0)
    assert result.score == pytest.approx(1)
    assert result.effects.weighted_score == pytest.approx(1)
    all_dropped = torch.where(numbered >= 0, left_out, hsi.get_image())
    assert result.effects.intercept == pytest.approx(float(model(all_dropped[None])[0, 2]), abs=1e-7)
    assert torch.equal(result.mask, mask.expand(hsi.image.shape))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_masks_keep_their_ids_and_dtype(kind: str, dtype: torch.dtype) -> None:
    ids = (ROWS_OF_PIXELS if kind == "spatial" else torch.arange(BANDS)) % 2 * 7
    mask = ids.to(dtype)
    name = "segmentation_mask" if kind == "spatial" else "band_mask"
    explainer = Lime(explainable(smooth()))
    for given in (mask, mask.numpy()):
        result = getattr(explainer, f"get_{kind}_attributes")(cube(), **{name: given, "target": 0})
        assert type(result) is {"spatial": HSIAttributesSpatial, "spectral": HSIAttributesSpectral}[kind]
        assert result.mask.dtype == dtype
        assert result.mask.shape == SHAPE
        part = result.segmentation_mask if kind == "spatial" else result.band_mask
        assert torch.equal(part, mask)
        last = 1 if dtype == torch.bool else 7
        assert result.effects.ids.tolist() == [0, last]
        if kind == "spectral":
            assert result.band_names == {"0": 0, str(last): last}
        assert result.attribution_method == "Lime"


def test_default_is_ten_samples() -> None:
    result = Lime(explainable(smooth())).get_spatial_attributes(cube(), ROWS_OF_PIXELS, target=0)
    assert result.effects.samples == 10
    assert result.report.evaluations == len(result.effects.coalitions.unique(dim=0)) <= 10
    assert (
        Lime(explainable(smooth())).get_spectral_attributes(cube(), torch.arange(BANDS), target=0).effects.samples == 10
    )


@pytest.mark.parametrize(
    "surrogate", [SkLearnLinearRegression, lambda: SkLearnLasso(alpha=0.08), lambda: SkLearnRidge(alpha=0.5)]
)
def test_large_offsets_cost_no_digits(surrogate: Any) -> None:
    """1e8 + a small linear model has the coefficients of the small one, up to what the sum itself rounds."""
    model = Linear()
    found = []
    for offset in (0.0, 1e8):
        torch.manual_seed(4)
        explainer = Lime(explainable(lambda x, offset=offset: model(x) + offset), surrogate())
        found.append(call(explainer, "spatial", cube()))
    torch.testing.assert_close(found[1].effects.values, found[0].effects.values, rtol=0, atol=3e-7)
    assert found[0].effects.values.any()
    assert found[1].score == pytest.approx(found[0].score, abs=1e-6)


# ---------------------------------------------------------------- each image has its own features, fit and score


def test_features_belong_to_their_image() -> None:
    """Gaps and the ids of other images dilute nothing: each result is that of a call with this image alone."""
    images = [cube(0), cube(1), cube(2)]
    masks = [ROWS_OF_PIXELS % 3, ROWS_OF_PIXELS % 3 + 1000, (ROWS_OF_PIXELS % 3) * 17 + 3]
    model = explainable(smooth())
    explainer = Lime(model, SkLearnRidge(alpha=0.3), perturb_func=every_sample(3))
    together = explainer.get_spatial_attributes(images, masks, target=[0, 1, 2], n_samples=8)
    for i, result in enumerate(together):
        alone = explainer.get_spatial_attributes(images[i], masks[i], target=i, n_samples=8)
        torch.testing.assert_close(result.attributes, alone.attributes, rtol=0, atol=1e-14)
        assert result.score == pytest.approx(alone.score, abs=1e-12)
        assert result.effects.ids.tolist() == masks[i].unique().tolist()
        assert (result.target, result.hsi) == (i, images[i])
    assert len({result.score for result in together}) == 3
    packed = explainer.get_spatial_attributes(images[1], masks[0], target=1, n_samples=8)
    torch.testing.assert_close(together[1].attributes, packed.attributes, rtol=0, atol=1e-14)


def test_images_may_have_features_in_other_numbers() -> None:
    images, masks = [cube(0), cube(1)], [torch.tensor([0, 0, 1, 1, 1]), torch.arange(BANDS)]
    model = Linear()
    explainer = Lime(explainable(model), SkLearnLinearRegression())
    for result, image, mask in zip(
        explainer.get_spectral_attributes(images, masks, target=1, n_samples=80), images, masks, strict=True
    ):
        wanted = sums_of_features(model.weight[1].detach() * image.image, mask[:, None, None].expand(SHAPE))
        torch.testing.assert_close(result.effects.values, wanted, rtol=0, atol=1e-9)
        assert result.band_names == {str(n): n for n in mask.unique().tolist()}


def test_masks_that_vary_along_the_bands() -> None:
    """Accepted as they are; the picture of the superpixels shows the first band."""
    model, mask = Linear(), torch.arange(60).reshape(SHAPE) % 7
    result = Lime(explainable(model), SkLearnLinearRegression()).get_spatial_attributes(cube(), mask, 0, n_samples=90)
    wanted = sums_of_features(model.weight[0].detach() * cube().image, mask)
    torch.testing.assert_close(result.effects.values, wanted, rtol=0, atol=1e-9)
    assert torch.equal(result.mask, mask)
    assert torch.equal(result.segmentation_mask, mask[0])


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize("kind", KINDS)
def test_all_outputs_come_from_one_set_of_evaluations(kind: str) -> None:
    torch.manual_seed(6)
    every = call(Lime(explainable(EXACT), SkLearnRidge(alpha=0.2)), kind, whole_cube(), target="all")
    torch.manual_seed(6)
    some = call(Lime(explainable(EXACT), SkLearnRidge(alpha=0.2)), kind, whole_cube(), target=[2, -3], per_target=True)
    for target, result in enumerate(every):
        torch.manual_seed(6)
        alone = call(Lime(explainable(EXACT), SkLearnRidge(alpha=0.2)), kind, whole_cube(), target=target)
        assert result == alone
        assert result.report.evaluations == alone.report.evaluations
    assert some[0] == every[2]
    assert torch.equal(some[1].attributes, every[0].attributes)
    assert [one.target for one in some] == [2, -3]


def test_outputs_with_several_axes() -> None:
    every = call(Lime(explainable(Grid())), "spatial", [cube(), cube(1)], target="all")
    assert [one.target for one in every[1]] == [(i, j) for i in range(2) for j in range(3)]
    pixel = call(Lime(explainable(Segmenter()), SkLearnLinearRegression()), "spectral", cube(), target=(1, 2, 0))
    assert pixel.target == (1, 2, 0)
    assert pixel.attributes.any()


@pytest.mark.parametrize(
    "target", [1, -2, np.int64(1), torch.tensor(1), (1,), torch.tensor([1]), [1], np.array([1])], ids=repr
)
def test_forms_of_targets(target: Any) -> None:
    torch.manual_seed(1)
    wanted = call(Lime(explainable(EXACT)), "spatial", whole_cube(), target=1)
    torch.manual_seed(1)
    assert torch.equal(
        call(Lime(explainable(EXACT)), "spatial", whole_cube(), target=target).attributes, wanted.attributes
    )


@pytest.mark.parametrize("target", [None, 0])
def test_outputs_without_axes_take_no_target_or_0(target: Any) -> None:
    model = explainable((lambda x: x.sum((1, 2, 3))) if target is None else (lambda x: x.sum((1, 2, 3))[:, None]))
    assert call(Lime(model, SkLearnLinearRegression()), "spatial", cube(), target=target).attributes.any()
    one = explainable(lambda x: x.sum((1, 2, 3))[:, None])
    assert call(Lime(one), "spatial", cube(), target=None).score == pytest.approx(1, abs=0.5)


# ---------------------------------------------------------------- models and images of all kinds


@pytest.mark.parametrize(("path", "kind", "make"), each_pair(PATHS, KINDS, [smooth, convolutional]))
def test_every_way_through_the_engine(path: str, kind: str, make: Any) -> None:
    model, found = make(), []
    for settings in ({"shortcuts": False}, PATHS[path]):
        torch.manual_seed(8)
        with options(**settings):
            found.append(call(Lime(explainable(model), SkLearnRidge(alpha=0.1)), kind, cube()))
    torch.testing.assert_close(found[1].attributes, found[0].attributes, rtol=0, atol=1e-12)
    assert found[0].attributes.any()


def test_torchscript_modules() -> None:
    torch.manual_seed(8)
    wanted = call(Lime(explainable(MODEL), SkLearnRidge(alpha=0.1)), "spatial", cube())
    torch.manual_seed(8)
    found = call(Lime(explainable(traced(MODEL)), SkLearnRidge(alpha=0.1)), "spatial", cube())
    torch.testing.assert_close(found.attributes, wanted.attributes, rtol=0, atol=1e-12)
    assert found.report.model == "TorchScript"


def test_models_on_arrays() -> None:
    """A random forest of scikit-learn, which knows nothing of tensors."""
    x = values(3, shape=(200, 60)).numpy()
    forest = RandomForestRegressor(5, random_state=0).fit(x, x[:, :12].sum(1))

    def on_arrays(images: np.ndarray) -> np.ndarray:
        assert isinstance(images, np.ndarray)
        return forest.predict(images.reshape(len(images), -1))

    found = []
    for model in (
        ExplainableModel(on_arrays, "regression", array_input=True),
        explainable(lambda images: torch.from_numpy(on_arrays(images.numpy()))),
    ):
        torch.manual_seed(2)
        found.append(Lime(model, SkLearnRidge(alpha=0.1)).get_spectral_attributes(cube(), torch.arange(BANDS)))
    torch.testing.assert_close(found[0].attributes, found[1].attributes, rtol=0, atol=1e-12)
    assert found[0].attributes.any()


def test_arguments_after_the_input() -> None:
    def model(x: torch.Tensor, factor: torch.Tensor, power: int) -> torch.Tensor:
        return (x.sum((1, 2, 3)) * factor) ** power

    explainer = Lime(explainable(model), SkLearnLinearRegression())
    hsi = [cube(), cube(1)]
    result = call(explainer, "spatial", hsi, target=None, additional_forward_args=(torch.tensor([2.0, -3.0]), 1))
    _, _, _, numbered = features_of("spatial")
    for one, image, factor in zip(result, hsi, (2.0, -3.0), strict=True):
        torch.testing.assert_close(one.effects.values, factor * sums_of_features(image.image, numbered))


@pytest.mark.parametrize(
    ("dtype", "result_dtype"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int16, torch.float32),
        (torch.uint8, torch.float32),
    ],
)
def test_images_of_every_dtype(dtype: torch.dtype, result_dtype: torch.dtype) -> None:
    image = (values() * 20 + 30).round().to(dtype)
    hsi = HSI(image=image, wavelengths=WAVELENGTHS)
    result = call(
        Lime(explainable(lambda x: x.double().sum((1, 2, 3))), SkLearnLinearRegression()),
        "spatial", hsi, target=None, standard_errors=5,
    )  # fmt: skip
    assert result.attributes.dtype == result.standard_error.dtype == result_dtype
    _, _, _, numbered = features_of("spatial")
    torch.testing.assert_close(result.effects.values, sums_of_features(image.double(), numbered), rtol=0, atol=1e-9)


def test_what_the_mask_hides_is_not_seen() -> None:
    found = []
    for hidden in (0.0, float("nan")):
        image = whole_cube().image.masked_fill(~spatial_mask(), hidden)
        hsi = HSI(image=image, wavelengths=WAVELENGTHS, binary_mask=spatial_mask())
        torch.manual_seed(4)
        found.append(call(Lime(explainable(EXACT), SkLearnRidge(alpha=0.1)), "spatial", hsi))
    assert torch.equal(found[0].attributes, found[1].attributes)
    assert found[0].score == found[1].score


def test_in_inference_mode() -> None:
    torch.manual_seed(4)
    wanted = call(Lime(explainable(EXACT), SkLearnRidge(alpha=0.1)), "spatial", whole_cube(), standard_errors=10)
    torch.manual_seed(4)
    with torch.inference_mode():
        found = call(Lime(explainable(EXACT), SkLearnRidge(alpha=0.1)), "spatial", whole_cube(), standard_errors=10)
    assert found == wanted
    for tensor in (found.attributes, found.mask, found.standard_error, found.effects.values, found.effects.outputs):
        assert not tensor.is_inference()


def test_more_than_ten_thousand_features_warn() -> None:
    hsi = HSI(image=torch.rand(1, 101, 100) + 1, wavelengths=[500.0])
    mask = torch.arange(10_100).reshape(101, 100)
    with pytest.warns(UserWarning, match="10100 features"):
        result = Lime(explainable(lambda x: x.sum((1, 2, 3)))).get_spatial_attributes(hsi, mask, n_samples=3)
    assert result.attributes.isfinite().all()


def test_the_image_is_left_as_it_was() -> None:
    hsi = masked_cube()
    before = hsi.image.clone()
    call(Lime(explainable(MODEL)), "spatial", hsi)
    assert torch.equal(hsi.image, before)
    assert SEGMENTS.tolist() == [[0, 0, 5], [0, 5, 5], [-1, 5, 7], [7, 7, 7]]
