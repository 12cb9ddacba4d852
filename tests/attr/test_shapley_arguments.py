"""KernelShap and ShapleyValueSampling: targets, baselines, going on, and arguments that nobody knows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from meteors_c import HSI, attr, options
from meteors_c.attr import (
    Background,
    Blur,
    KernelShap,
    SegmentMean,
    ShapleyValueSampling,
)
from tests.attr.games import (
    SUPERBANDS,
    SUPERPIXELS,
    additive,
    assert_efficient,
    by_permutations,
    each_pixel,
    game_of,
    play,
    strip,
    value_on,
    wide,
)
from tests.toys import (
    BANDS,
    SHAPE,
    Grid,
    Segmenter,
    cube,
    explainable,
    smooth,
    values,
)

METHODS: list[Any] = [KernelShap, ShapleyValueSampling]

# ---------------------------------------------------------------- targets


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [1, np.int64(1), np.uint8(1), torch.tensor(1), (1,), [1], -2])
def test_forms_of_one_target(target: Any, method: Any) -> None:
    torch.manual_seed(0)
    got = method(explainable(smooth())).get_spatial_attributes(cube(), SUPERPIXELS, target=target)
    torch.manual_seed(0)
    want = method(explainable(smooth())).get_spatial_attributes(cube(), SUPERPIXELS, target=1)
    assert torch.equal(got.attributes, want.attributes)


@pytest.mark.parametrize("method", METHODS)
def test_every_output_from_one_set_of_evaluations(method: Any) -> None:
    model = explainable(Grid())
    torch.manual_seed(0)
    every = method(model).get_spatial_attributes(cube(), SUPERPIXELS, target="all", n_samples=8)
    assert [one.target for one in every] == [(i, j) for i in range(2) for j in range(3)]
    for one in every:
        torch.manual_seed(0)
        alone = method(model).get_spatial_attributes(cube(), SUPERPIXELS, target=one.target, n_samples=8)
        torch.testing.assert_close(one.effects.values, alone.effects.values, rtol=0, atol=1e-14)
        assert one.report.evaluations == alone.report.evaluations
    torch.manual_seed(0)
    some = method(model).get_spatial_attributes(
        [cube(), cube(seed=1)], SUPERPIXELS, target=[(1, 2), (0, 0)], per_target=True, n_samples=8
    )
    assert len(some) == len(some[0]) == 2
    torch.testing.assert_close(some[0][0].effects.values, every[5].effects.values, rtol=0, atol=1e-12)
    torch.testing.assert_close(some[0][1].effects.values, every[0].effects.values, rtol=0, atol=1e-12)


def test_classes_of_a_segmentation_map() -> None:
    result = KernelShap(explainable(Segmenter())).get_spatial_attributes(cube(), SUPERPIXELS, target=(1, 3, 0))
    # The scores of a pixel depend on it alone, so on its superpixel alone.
    assert result.effects.values[1] == result.effects.values[2] == 0
    assert abs(result.effects.values[0]) > 1e-3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [None, 0])
def test_outputs_without_an_axis(target: Any, method: Any) -> None:
    result = method(game_of(lambda z: z.sum(1))).get_spatial_attributes(strip(3), each_pixel(3), target=target)
    assert result.effects.values.tolist() == [1, 1, 1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("target", "error", "word"),
    [
        (None, (ValueError, IndexError), "3"),
        (3, (ValueError, IndexError), "3"),
        (-4, (ValueError, IndexError), "3"),
        ((0, 1), (ValueError, IndexError), "3"),
        ("every", ValueError, "all"),
        (1.5, TypeError, "target"),
        ([0, 1], ValueError, "target"),
    ],
)
def test_bad_targets(target: Any, error: Any, word: str, method: Any) -> None:
    with pytest.raises(error, match=word):
        method(explainable(smooth())).get_spatial_attributes(cube(), SUPERPIXELS, target=target)


# ---------------------------------------------------------------- what left out features take


def baseline_tensor(kind: str, hsi: HSI, ids: torch.Tensor) -> torch.Tensor:
    if kind == "segment mean":
        result = hsi.image.clone()
        for feature in ids.unique():
            inside = (ids == feature)[0]
            result[:, inside] = hsi.image[:, inside].mean(1, keepdim=True)
        return result
    mean = hsi.image.mean((1, 2), keepdim=True).expand(SHAPE)
    return {"None": torch.zeros(SHAPE), "number": torch.full(SHAPE, 0.25), "mean": mean, "image": values(7)}[
        kind
    ].double()


@pytest.mark.parametrize("kind", ["None", "number", "mean", "image", "segment mean"])
def test_baselines(kind: str) -> None:
    hsi, model, ids = cube(), smooth(), wide(SUPERPIXELS)
    given = {"None": None, "number": 0.25, "mean": "mean", "image": values(7), "segment mean": SegmentMean()}[kind]
    result = KernelShap(explainable(model)).get_spatial_attributes(hsi, SUPERPIXELS, target=0, baseline=given)
    want = by_permutations(value_on(model, hsi.image, ids, baseline_tensor(kind, hsi, ids)), 3)[:, 0]
    torch.testing.assert_close(result.effects.values, want, rtol=0, atol=1e-12)
    assert result.effects.missing


def test_a_background_is_the_mean_over_its_spectra() -> None:
    hsi, model, ids = cube(), smooth(), wide(SUPERPIXELS)
    spectra = values(9, shape=(4, BANDS))
    result = KernelShap(explainable(model)).get_spatial_attributes(
        hsi, SUPERPIXELS, target=1, baseline=Background(spectra), interactions=True
    )
    games = [value_on(model, hsi.image, ids, spectrum[:, None, None].expand(SHAPE)) for spectrum in spectra]
    want = by_permutations(lambda z: torch.stack([game(z) for game in games]).mean(0), 3)[:, 1]
    torch.testing.assert_close(result.effects.values, want, rtol=0, atol=1e-12)
    assert result.report.evaluations == 4 * 2**3
    assert "4" in result.effects.missing
    assert_efficient(result, 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_one_baseline_for_each_image(method: Any) -> None:
    images = [cube(), cube(seed=1), cube(seed=2)]
    baselines = [Background(values(9, shape=(3, BANDS))), Blur(1.5), 0.5]
    together = method(explainable(smooth())).get_spatial_attributes(
        images, SUPERPIXELS, target=0, baseline=baselines, n_samples=400
    )
    assert len({one.effects.missing for one in together}) == 3
    for one, image, baseline in zip(together, images, baselines, strict=True):
        assert_efficient(one, 1e-12)
        if method is KernelShap:
            alone = method(explainable(smooth())).get_spatial_attributes(
                image, SUPERPIXELS, target=0, baseline=baseline
            )
            torch.testing.assert_close(one.effects.values, alone.effects.values, rtol=0, atol=1e-13)


# ---------------------------------------------------------------- float32, dtypes, devices


@pytest.mark.parametrize("method", METHODS)
def test_float32_images_give_float32_attributions_with_float64_effects(method: Any) -> None:
    result = method(explainable(smooth(dtype=torch.float32))).get_spatial_attributes(
        cube(dtype=torch.float32), SUPERPIXELS, target=0
    )
    assert result.attributes.dtype == torch.float32
    assert result.effects.values.dtype == torch.float64
    assert_efficient(result, 1e-9)


# ---------------------------------------------------------------- going on with what does not belong together


@pytest.mark.parametrize("method", METHODS)
def test_only_the_same_question_goes_on(method: Any) -> None:
    explainer, hsi = method(explainable(smooth())), cube()
    first = explainer.get_spatial_attributes(hsi, SUPERPIXELS, target=0)

    def go_on(**changes: Any) -> Any:
        arguments = {"hsi": hsi, "segmentation_mask": SUPERPIXELS, "target": 0, "continue_from": first}
        return explainer.get_spatial_attributes(**{**arguments, **changes})

    torch.testing.assert_close(go_on().effects.values, first.effects.values, rtol=0, atol=1e-14)
    for changes in (
        {"hsi": cube(seed=1)},
        {"segmentation_mask": SUPERPIXELS.flip(1)},
        {"target": 1},
        {"target": "all"},
        {"baseline": 0.5},
        {"hsi": [hsi, cube(seed=1)]},
    ):
        with pytest.raises(ValueError, match="continue_from|known"):
            go_on(**changes)
    with pytest.raises(TypeError, match="continue_from"):
        go_on(continue_from="first")
    with pytest.raises(TypeError, match="continue_from"):
        go_on(continue_from=attr.Saliency(explainable(smooth())).attribute(hsi, target=0))


@pytest.mark.parametrize("method", METHODS)
def test_another_model_does_not_go_on_where_it_says_the_same_of_the_baseline(method: Any) -> None:
    one, other = additive(torch.arange(1.0, 5)), additive(torch.arange(2.0, 6))
    first = play(method, one, 4)
    assert other(torch.zeros(1, 4)) == one(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="model"):
        play(method, other, 4, continue_from=first)


@pytest.mark.parametrize("method", METHODS)
def test_several_images_and_outputs_go_on(method: Any) -> None:
    images = [cube(), cube(seed=1)]
    explainer = method(explainable(smooth()))
    first = explainer.get_spatial_attributes(images, SUPERPIXELS, target="all", n_samples=8)
    more = explainer.get_spatial_attributes(images, SUPERPIXELS, target="all", n_samples=40, continue_from=first)
    assert more[0][0].report.evaluations <= 4 + sum(
        len(after[0].effects.coalitions) - len(before[0].effects.coalitions)
        for before, after in zip(first, more, strict=True)
    )
    for of in more:
        for one in of:
            assert_efficient(one, 1e-12)
    single = explainer.get_spatial_attributes(images[0], SUPERPIXELS, target="all", continue_from=first[0])
    assert len(single) == 3


# ---------------------------------------------------------------- arguments that nobody knows


@pytest.mark.parametrize("method", METHODS)
def test_unknown_arguments(method: Any) -> None:
    explainer = method(explainable(smooth()))
    with pytest.raises(TypeError, match="samples"):
        explainer.get_spatial_attributes(cube(), SUPERPIXELS, target=0, samples=3)
    with pytest.raises(TypeError, match="samples"):
        explainer.get_spectral_attributes(cube(), SUPERBANDS, target=0, samples=3)
    with pytest.raises(TypeError, match="samples"):
        explainer.get_joint_attributes(cube(), SUPERPIXELS, SUPERBANDS, target=0, samples=3)
    for kind in (None, "all", 3):
        with pytest.raises(ValueError, match="attribution_type"):
            explainer.attribute(cube(), target=0, attribution_type=kind)


def test_arguments_of_the_other_method() -> None:
    with pytest.raises(TypeError, match="interactions"):
        ShapleyValueSampling(explainable(smooth())).get_spatial_attributes(
            cube(), SUPERPIXELS, target=0, interactions=True
        )
    with pytest.raises(TypeError, match="tolerance"):
        KernelShap(explainable(smooth())).get_spatial_attributes(cube(), SUPERPIXELS, target=0, tolerance=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_what_would_make_a_mask_is_refused_beside_one(method: Any) -> None:
    with pytest.raises(TypeError, match="num_interpret_features"):
        method(explainable(smooth())).get_spatial_attributes(cube(), SUPERPIXELS, target=0, num_interpret_features=3)


@pytest.mark.parametrize("method", METHODS)
def test_known_methods(method: Any) -> None:
    explainer = method(explainable(smooth()))
    assert method.get_name() in attr.attributes.AVAILABLE_ATTRIBUTION_METHODS
    result = explainer.get_spatial_attributes(cube(), SUPERPIXELS, target=0)
    assert result.attribution_method == method.get_name()
    explainer._attribution_method = None
    for call in (
        explainer.attribute,
        explainer.get_spatial_attributes,
        explainer.get_spectral_attributes,
        lambda hsi: explainer.get_joint_attributes(hsi, None, None),
    ):
        with pytest.raises(RuntimeError):
            call(np.zeros(3))


@pytest.mark.parametrize("method", METHODS)
def test_arguments_after_the_input(method: Any) -> None:
    def model(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x.sum((2, 3)) * scale

    doubled = method(explainable(model)).get_spatial_attributes(
        cube(), SUPERPIXELS, target=0, additional_forward_args=(attr.AsIs(2.0),)
    )
    plain = method(explainable(lambda x: x.sum((2, 3)))).get_spatial_attributes(cube(), SUPERPIXELS, target=0)
    torch.testing.assert_close(doubled.effects.values, 2 * plain.effects.values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_outputs_that_are_not_finite_are_said(method: Any) -> None:
    with pytest.warns(UserWarning, match="NaN"):
        result = play(method, lambda z: torch.where(z[:, :1] > 0, z[:, :1], float("nan")), 3)
    assert result.report.nonfinite_outputs > 0
    with options(finite="raise"), pytest.raises(Exception, match=r"(?i)nan|finite"):
        play(method, lambda z: torch.where(z[:, :1] > 0, z[:, :1], float("nan")), 3)


@pytest.mark.parametrize("method", METHODS)
def test_very_many_features_warn(method: Any) -> None:
    hsi = strip(10_001)
    hsi.image[0, 0, 3:] = 0
    with pytest.warns(UserWarning, match="10001"):
        result = method(game_of(lambda z: z[:, :3].sum(1, keepdim=True))).get_spatial_attributes(
            hsi, each_pixel(10_001), target=0
        )
    assert result.effects.values[:3].tolist() == [1, 1, 1]
    assert len(result.effects.coalitions) <= 8


@pytest.mark.parametrize("method", METHODS)
def test_ordinary_calls_are_silent(method: Any) -> None:
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # torch says some things once a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for baseline in (None, "mean", SegmentMean(), Blur(1.0), Background(values(9, shape=(2, BANDS)))):
                method(explainable(smooth())).get_joint_attributes(
                    cube(), SUPERPIXELS, SUPERBANDS, target=0, baseline=baseline, n_samples=512
                )
    finally:
        torch.set_warn_always(always)
