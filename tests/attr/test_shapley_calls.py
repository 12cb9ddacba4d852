"""KernelShap and ShapleyValueSampling on every way through the engine: features, batches, images and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from meteors_c import options
from meteors_c.attr import (
    Background,
    Blur,
    HSIAttributes,
    HSIAttributesSpatial,
    HSIAttributesSpectral,
    KernelShap,
    SegmentMean,
    ShapleyValueSampling,
)
from meteors_c.exceptions import MaskCreationError, ShapeMismatchError
from tests.attr.games import (
    SUPERBANDS,
    SUPERPIXELS,
    assert_efficient,
    by_permutations,
    play,
    random_game,
    spread,
    value_on,
    wide,
)
from tests.toys import (
    BANDS,
    COLUMNS,
    ORIENTATIONS,
    PATHS,
    ROWS,
    SHAPE,
    Linear,
    Watched,
    assert_shortcut,
    convolutional,
    cube,
    evaluated,
    explainable,
    smooth,
    spatial_mask,
    traced,
    values,
)

METHODS: list[Any] = [KernelShap, ShapleyValueSampling]


def enough(method: Any) -> dict[str, Any]:
    """So many samples that the values of a few features are those of the definition, or near."""
    return {} if method is KernelShap else {"n_samples": 4}


# ---------------------------------------------------------------- by definition, on every way through the engine


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["spatial", "spectral", "joint"])
@pytest.mark.parametrize("network", [smooth, convolutional], ids=["smooth", "convolutional"])
def test_by_definition(network: Any, kind: str, path: str) -> None:
    model, hsi, baseline = network(), cube(), values(5)
    explainer = KernelShap(explainable(model))
    if kind == "joint":
        masks, result_type = {"segmentation_mask": SUPERPIXELS % 2, "band_mask": SUPERBANDS % 3}, HSIAttributes
        ids = wide((SUPERPIXELS % 2) * 3 + SUPERBANDS % 3)  # no negative remainders here
        assert ids.unique().tolist() == [0, 2, 3, 5]  # of superbands 0 and 2 the second is number 1
        ids = wide((SUPERPIXELS % 2) * 2 + (SUPERBANDS % 3) // 2)
    elif kind == "spatial":
        masks, result_type, ids = {"segmentation_mask": SUPERPIXELS}, HSIAttributesSpatial, wide(SUPERPIXELS)
    else:
        masks, result_type, ids = {"band_mask": SUPERBANDS}, HSIAttributesSpectral, wide(SUPERBANDS)
    with options(**PATHS[path]):
        result = explainer.attribute(hsi, target=1, attribution_type=kind, baseline=baseline, **masks)
    assert type(result) is result_type
    found = [one for one in ids.unique().tolist() if one >= 0]
    want = by_permutations(value_on(model, hsi.image, ids, baseline), len(found))[:, 1]
    torch.testing.assert_close(result.effects.values, want, rtol=0, atol=1e-12)
    torch.testing.assert_close(result.attributes, spread(want, ids), rtol=0, atol=1e-12)
    assert result.effects.ids.tolist() == found
    assert torch.equal(result.mask, ids)
    assert_efficient(result, 1e-12)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["spatial", "spectral"])
def test_orders_on_every_path(kind: str, path: str) -> None:
    """Sums and single orders; the average over orders is tested with games."""
    masks = {"segmentation_mask": SUPERPIXELS} if kind == "spatial" else {"band_mask": SUPERBANDS}
    model, results = explainable(convolutional()), []
    for settings in (PATHS[path], PATHS["plain"]):
        torch.manual_seed(3)
        with options(**settings):
            results.append(
                ShapleyValueSampling(model).attribute(cube(), target=2, attribution_type=kind, n_samples=4, **masks)
            )
    torch.testing.assert_close(results[0].effects.values, results[1].effects.values, rtol=0, atol=1e-12)
    torch.testing.assert_close(results[0].attributes, results[1].attributes, rtol=0, atol=1e-12)
    assert_efficient(results[0], 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_superbands_take_the_band_shortcut_with_the_same_numbers(method: Any) -> None:
    model, found = explainable(convolutional()), []
    for settings in PATHS.values():
        torch.manual_seed(1)
        with options(**settings):
            found.append(method(model).get_spectral_attributes(cube(), torch.arange(BANDS), target=0, **enough(method)))
    assert_shortcut(found[0].report)
    for other in found[1:]:
        assert other.report.shortcut is None
        torch.testing.assert_close(found[0].effects.values, other.effects.values, rtol=0, atol=1e-12)
        assert torch.equal(found[0].effects.coalitions, other.effects.coalitions)


@pytest.mark.parametrize("method", METHODS)
def test_torchscript(method: Any) -> None:
    model, found = convolutional(), []
    for network in (model, traced(model)):
        torch.manual_seed(1)
        found.append(method(explainable(network)).get_spatial_attributes(cube(), SUPERPIXELS, target=0))
    assert found[1].report.model == "TorchScript"
    torch.testing.assert_close(found[0].attributes, found[1].attributes, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_forest(method: Any) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(0)
    spectra = rng.random((200, BANDS))
    forest = ensemble.RandomForestRegressor(n_estimators=5, random_state=0).fit(spectra, spectra @ np.arange(BANDS))

    def predict(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(forest.predict(images.mean((2, 3)).numpy()))

    hsi = cube()
    result = method(explainable(predict)).get_spectral_attributes(hsi, torch.arange(BANDS), target=0, n_samples=400)
    assert_efficient(result, 1e-9)
    ids = wide(torch.arange(BANDS)[:, None, None])
    want = by_permutations(value_on(lambda x: predict(x)[:, None], hsi.image, ids, 0), BANDS)[:, 0]
    if method is KernelShap:
        torch.testing.assert_close(result.effects.values, want, rtol=0, atol=1e-9)
    else:
        assert ((result.effects.values - want).abs() < 4.5 * result.effects.standard_errors + 1e-9).all()


# ---------------------------------------------------------------- evaluations and batches


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", [1, 3, 64, 10_000])
def test_no_batch_is_larger_than_asked(method: Any, limit: int) -> None:
    watched = Watched(Linear())  # each output of a sample is summed by itself
    hsi, found = cube(), []
    for n in (None, limit):
        torch.manual_seed(2)
        watched.sizes.clear()
        found.append(
            method(explainable(watched)).get_spatial_attributes(
                hsi, SUPERPIXELS, target=0, perturbations_per_eval=n, **enough(method)
            )
        )
    assert max(watched.sizes) <= limit
    assert sum(watched.sizes) == evaluated(found[1].report)
    torch.testing.assert_close(found[0].effects.values, found[1].effects.values, rtol=0, atol=1e-13)
    assert torch.equal(found[0].effects.coalitions, found[1].effects.coalitions)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_bits_whatever_batches_and_threads(method: Any) -> None:
    game, found = random_game(14), []
    threads = torch.get_num_threads()
    try:
        for limit, number in ((None, 1), (1, 1), (7, 2), (500, 2)):
            torch.set_num_threads(number)
            torch.manual_seed(4)
            found.append(play(method, game, 14, n_samples=60, perturbations_per_eval=limit))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert torch.equal(found[0].effects.values, other.effects.values)
        assert torch.equal(found[0].attributes, other.attributes)
        assert torch.equal(found[0].effects.coalitions, other.effects.coalitions)


@pytest.mark.parametrize("method", METHODS)
def test_manual_seed_repeats_and_no_generator_is_seeded(method: Any) -> None:
    game = random_game(14)
    torch.manual_seed(5)
    first, second = play(method, game, 14, n_samples=40), play(method, game, 14, n_samples=40)
    torch.manual_seed(5)
    again = play(method, game, 14, n_samples=40)
    assert torch.equal(first.effects.values, again.effects.values)
    assert first.effects.seed == again.effects.seed != second.effects.seed
    assert not torch.equal(first.effects.values, second.effects.values)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    play(method, game, 14, n_samples=40)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("method", METHODS)
def test_each_coalition_is_one_evaluation(method: Any) -> None:
    asked: list[tuple[float, ...]] = []

    def value(z: torch.Tensor) -> torch.Tensor:
        asked.extend(map(tuple, z.tolist()))
        return z.sum(1, keepdim=True)

    with options(shortcuts=False):  # trying one asks a sample again, and whether one is tried is a matter of time
        result = play(method, value, 6, n_samples=64, perturbations_per_eval=1)
    assert len(asked) == len(set(asked)) == result.report.evaluations == len(result.effects.coalitions)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_off_and_the_image_stays_as_it_is(method: Any) -> None:
    hsi, modes = cube(), []
    before = hsi.image.clone()
    network = smooth()

    def model(x: torch.Tensor) -> torch.Tensor:
        modes.append(torch.is_grad_enabled())
        return network(x)

    result = method(explainable(model)).get_spatial_attributes(hsi, SUPERPIXELS, target=0)
    assert not any(modes)
    assert not result.attributes.requires_grad
    assert torch.equal(hsi.image, before)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", [0, -1, 2.5, "many"])
def test_limits_on_batches_are_positive(method: Any, limit: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="perturbations_per_eval"):
        play(method, random_game(3), 3, perturbations_per_eval=limit)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "image",
    [
        values(dtype=torch.float16),
        values(dtype=torch.bfloat16),
        (100 * values()).to(torch.int16),
        values(dtype=torch.float32).requires_grad_(),
    ],
    ids=["float16", "bfloat16", "int16", "requires grad"],
)
@pytest.mark.parametrize("kind", ["spatial", "spectral", "joint"])
def test_images_of_any_dtype(kind: str, image: torch.Tensor, method: Any) -> None:
    spatial, spectral = {"segmentation_mask": SUPERPIXELS}, {"band_mask": SUPERBANDS}
    masks = {"spatial": spatial, "spectral": spectral, "joint": spatial | spectral}[kind]
    model = explainable(smooth(dtype=torch.float32))
    for baseline in (None, "mean", SegmentMean(), Blur(1.0), Background(values(9, shape=(2, BANDS)))):
        result = method(model).attribute(
            cube(image=image), target=0, attribution_type=kind, baseline=baseline, n_samples=512, **masks
        )
        assert_efficient(result, 1e-9)
        assert not result.attributes.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_bad_progress(method: Any) -> None:
    with pytest.raises(TypeError, match="verbose"):
        play(method, random_game(3), 3, verbose="yes")


@pytest.mark.parametrize("method", METHODS)
def test_progress(method: Any) -> None:
    seen: list[tuple[int, int]] = []
    result = play(method, random_game(5), 5, n_samples=40, verbose=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == result.report.evaluations
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# ---------------------------------------------------------------- images, masks, orientations


@pytest.mark.parametrize("method", METHODS)
def test_a_list_of_images_with_masks_of_different_features(method: Any) -> None:
    model, images = explainable(smooth()), [cube(), cube(seed=1), cube(seed=2)]
    masks = [SUPERPIXELS, torch.arange(2 * ROWS * COLUMNS)[: ROWS * COLUMNS].reshape(1, ROWS, COLUMNS) % 5, SUPERPIXELS]
    targets = [0, 2, 1]
    together = method(model).get_spatial_attributes(images, masks, target=targets, n_samples=64)
    for one, image, mask, target in zip(together, images, masks, targets, strict=True):
        assert one.hsi is image
        assert len(one.effects.ids) == len([i for i in mask.unique() if i >= 0])
        assert_efficient(one, 1e-12)
        if method is KernelShap:
            alone = method(model).get_spatial_attributes(image, mask, target=target)
            torch.testing.assert_close(one.attributes, alone.attributes, rtol=0, atol=1e-13)
            assert one.effects.output == pytest.approx(alone.effects.output, abs=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_one_mask_serves_all_images(method: Any) -> None:
    images = [cube(), cube(seed=1)]
    one = method(explainable(smooth())).get_spectral_attributes(images, SUPERBANDS, target=0, n_samples=8)
    assert [len(result.effects.ids) for result in one] == [3, 3]
    assert len(method(explainable(smooth())).get_spectral_attributes(images[:1], SUPERBANDS, target=0).effects.ids) == 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["spatial", "spectral", "joint"])
def test_orientations(kind: str, orientation: str, method: Any) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:  # blind to the order of the axes
        return (x.square().sum((1, 2, 3))[:, None] + x.sum((1, 2, 3))[:, None]).sin()

    order = ["CHW".index(letter) for letter in orientation]
    turned = cube(image=values().permute(order), orientation=tuple(orientation))
    spatial, spectral = {"segmentation_mask": SUPERPIXELS}, {"band_mask": SUPERBANDS}
    arguments = {"spatial": spatial, "spectral": spectral, "joint": spatial | spectral}[kind]
    found = []
    for hsi, axes in ((cube(), [0, 1, 2]), (turned, order)):
        torch.manual_seed(0)
        masks = {name: mask.permute(axes) for name, mask in arguments.items()}
        found.append(method(explainable(model)).attribute(hsi, target=0, attribution_type=kind, n_samples=600, **masks))
    torch.testing.assert_close(found[1].effects.values, found[0].effects.values, rtol=0, atol=1e-11)
    torch.testing.assert_close(found[1].attributes, found[0].attributes.permute(order), rtol=0, atol=1e-11)
    assert torch.equal(found[1].mask, found[0].mask.permute(order))


@pytest.mark.parametrize("method", METHODS)
def test_masked_pixels_have_no_part(method: Any) -> None:
    model = smooth()
    mask = spatial_mask()
    ids = torch.where(mask, SUPERPIXELS.clamp(min=0), 99)
    hsi = cube(binary_mask=mask.expand(SHAPE).clone())
    hidden = cube(binary_mask=mask.expand(SHAPE).clone())
    hidden.image[:, ~mask[0]] = float("nan")  # whatever stands there
    for image in (hsi, hidden):
        torch.manual_seed(0)
        result = method(explainable(model)).get_spatial_attributes(image, ids, target=0, n_samples=400)
        assert result.effects.ids.tolist() == [0, 4, 7, 99]
        assert result.effects.values[3] == 0
        assert (result.attributes[:, ~mask[0]] == 0).all()
        assert result.effects.output == pytest.approx(model(hsi.get_image()[None])[0, 0].item(), abs=1e-12)
        assert_efficient(result, 1e-12)


@pytest.mark.parametrize("baseline", [values(8), 0.7, "spectra"])
def test_masked_pixels_stay_as_they_are_whatever_the_baseline(baseline: Any) -> None:
    mask = spatial_mask()
    hsi = cube(binary_mask=mask.expand(SHAPE).clone())
    model, ids = smooth(), torch.where(mask[0], SUPERPIXELS, 99)
    given = Background(torch.full((2, BANDS), 0.3, dtype=torch.float64)) if isinstance(baseline, str) else baseline
    result = KernelShap(explainable(model)).get_spatial_attributes(hsi, ids, target=0, baseline=given)
    assert (result.attributes[:, ~mask[0]] == 0).all()
    assert result.effects.values[-1] == 0
    left_out = torch.where(
        mask, torch.as_tensor(0.3 if isinstance(baseline, str) else baseline, dtype=torch.float64), 0
    )
    want = by_permutations(value_on(model, hsi.get_image(), wide(ids), left_out.expand(SHAPE)), 4)[:, 0]
    torch.testing.assert_close(result.effects.values, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int16, torch.float32, torch.float64])
def test_whole_numbers_of_any_dtype_are_ids(dtype: torch.dtype) -> None:
    ids = torch.arange(ROWS * COLUMNS).reshape(1, ROWS, COLUMNS) % 2
    explainer = KernelShap(explainable(smooth()))
    want = explainer.get_spatial_attributes(cube(), ids, target=0)
    for mask in (ids.to(dtype), ids.to(dtype).numpy()):
        assert torch.equal(explainer.get_spatial_attributes(cube(), mask, target=0).attributes, want.attributes)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("mask", "error", "word"),
    [
        (torch.full((1, ROWS, COLUMNS), 0.5), ValueError, "whole"),
        (torch.full((1, ROWS, COLUMNS), float("nan")), ValueError, "whole"),
        (torch.full((1, ROWS, COLUMNS), -1), ValueError, "negative"),
        (torch.zeros(1, ROWS + 1, COLUMNS), (ShapeMismatchError, ValueError), "segmentation"),
        ([SUPERPIXELS, SUPERPIXELS], ValueError, "segmentation_mask"),
        ("slic", TypeError, "segmentation_mask"),
    ],
)
def test_bad_masks(mask: Any, error: Any, word: str, method: Any) -> None:
    with pytest.raises(error, match=word):
        method(explainable(smooth())).get_spatial_attributes(cube(), mask, target=0)


@pytest.mark.parametrize("method", METHODS)
def test_masks_are_made_where_none_is_given(method: Any) -> None:
    pytest.importorskip("skimage")
    hsi = cube(image=values(shape=(BANDS, 12, 12)))
    model = explainable(lambda x: x.square().mean((2, 3)))
    slic = method(model).get_spatial_attributes(hsi, target=0, num_interpret_features=4)
    assert 1 < len(slic.effects.ids) <= 6
    patches = method(model).get_spatial_attributes(hsi, target=0, segmentation_method="patch", patch_size=6)
    assert len(patches.effects.ids) == 4
    named = method(model).get_spectral_attributes(hsi, band_names=["G", "R"], target=0)
    assert set(named.band_names) >= {"G", "R"}
    given = method(model).get_spectral_attributes(
        hsi, torch.tensor([1, 1, 2, 2, -1]), target=0, band_names={"blue": 1, "red": 2}
    )
    assert given.band_names["red"] == 2
    with pytest.raises(MaskCreationError):
        method(model).get_spectral_attributes(hsi, target=0)


@pytest.mark.parametrize("method", METHODS)
def test_joint_features_leave_out_what_is_in_none_of_either(method: Any) -> None:
    result = method(explainable(smooth())).get_joint_attributes(
        cube(), SUPERPIXELS, SUPERBANDS, target=0, n_samples=512
    )
    # Superpixels 0, 4, 7 and superbands 2, 5, 9 are numbers 0, 1, 2 each.
    assert result.effects.ids.tolist() == list(range(9))
    for row, column, superpixel in ((0, 0, 1), (0, 2, 2), (3, 0, 0)):
        assert result.mask[:, row, column].tolist() == [3 * superpixel + b if b >= 0 else -1 for b in (0, 0, 2, -1, 1)]
    assert (result.mask[:, 1, 1] == -1).all()
    assert (result.attributes[:, 1, 1] == 0).all()
    assert (result.attributes[3] == 0).all()
    assert_efficient(result, 1e-9)


def test_joint_features_need_superpixels_and_superbands() -> None:
    explainer = KernelShap(explainable(smooth()))
    with pytest.raises(ValueError, match="joint"):
        explainer.get_joint_attributes(cube(), torch.zeros(SHAPE).long(), SUPERBANDS, target=0)
