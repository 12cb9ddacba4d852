"""What left out features take: segment means, blurs, background spectra, and that results say which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from meteors_c import HSI
from meteors_c.attr import Background, Blur, FeatureAblation, KernelShap, Lime, SegmentMean, ShapleyValueSampling
from meteors_c.exceptions import ShapeMismatchError
from meteors_c.models.linear import SkLearnLinearRegression
from tests.toys import (
    BANDS,
    COLUMNS,
    ORIENTATIONS,
    ROWS,
    SHAPE,
    WAVELENGTHS,
    cube,
    explainable,
    name_of,
    smooth,
    spatial_mask,
    values,
)

SEGMENTS = torch.tensor([[0, 0, 5], [0, 5, 5], [-1, 5, 7], [7, 7, 7]])
GROUPS = torch.tensor([1, 1, 3, -1, 3])


def turned(hsi: HSI, orientation: str) -> HSI:
    return hsi.change_orientation(orientation)


def in_place(tensor: torch.Tensor, orientation: str) -> torch.Tensor:
    return tensor.permute(["CHW".index(letter) for letter in orientation])


def segment_means(image: torch.Tensor, used: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """By hand; all (BANDS, rows, columns). Values in no feature count as a feature of their own; hidden ones stay 0."""
    result = torch.zeros_like(image)
    for band in range(len(image)):
        for feature in ids.clamp(min=-1).unique():
            there = ids[band].clamp(min=-1) == feature
            inside = there & used[band]
            if inside.any():
                result[band][inside] = image[band][inside].mean()
    return result


# ---------------------------------------------------------------- the values

KINDS = {"superpixels": SEGMENTS.expand(SHAPE), "superbands": GROUPS[:, None, None].expand(SHAPE)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask", [None, spatial_mask(), values(4) > -0.4], ids=["all", "spatial", "scattered"])
def test_segment_means_by_hand(kind: str, mask: torch.Tensor | None) -> None:
    hsi, ids = cube(binary_mask=mask), KINDS[kind]
    found = SegmentMean().values(hsi, ids.numpy())
    wanted = segment_means(hsi.image, hsi.binary_mask.expand(SHAPE), ids)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("missing", [SegmentMean(), Blur(1.3)], ids=name_of)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_values_turn_with_the_image(missing: Any, orientation: str) -> None:
    hsi, ids = cube(binary_mask=spatial_mask()), KINDS["superpixels"]
    straight = missing.values(hsi, ids.numpy())
    found = missing.values(turned(hsi, orientation), in_place(ids, orientation).numpy())
    torch.testing.assert_close(found, in_place(straight, orientation), rtol=0, atol=1e-14)


@pytest.mark.parametrize("missing", [SegmentMean(), Blur(1.3)], ids=name_of)
def test_what_the_mask_hides_has_no_part_in_it(missing: Any) -> None:
    ids, hidden = KINDS["superpixels"].numpy(), ~spatial_mask().expand(SHAPE)
    images = []
    for filling in (0.0, 1e9, float("nan")):
        image = values().masked_fill(hidden, filling)
        images.append(missing.values(HSI(image=image, wavelengths=WAVELENGTHS, binary_mask=spatial_mask()), ids))
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


@pytest.mark.parametrize("missing", [SegmentMean(), Blur(0.7)], ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int16, torch.uint8])
def test_values_have_the_dtype_of_results(missing: Any, dtype: torch.dtype) -> None:
    image = (values() * 50 + 60).to(dtype)
    found = missing.values(HSI(image=image, wavelengths=WAVELENGTHS), KINDS["superpixels"].numpy())
    exact = missing.values(HSI(image=image.double(), wavelengths=WAVELENGTHS), KINDS["superpixels"].numpy())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_blur_is_scipys_where_the_border_is_far(sigma: float) -> None:
    image = values(shape=(2, 40, 31))
    found = Blur(sigma).values(HSI(image=image, wavelengths=[500.0, 600.0]), np.zeros(image.shape, dtype=np.int32))
    wanted = np.stack([gaussian_filter(band, sigma) for band in image.numpy()])
    border = int(4 * sigma + 0.5)
    inside = (slice(None), slice(border, 40 - border), slice(border, 31 - border))
    np.testing.assert_allclose(found.numpy()[inside], wanted[inside], rtol=0, atol=1e-13)


@pytest.mark.parametrize("sigma", [0.5, 3.0, 50.0])
def test_blur_weighs_the_pixels_that_are_there(sigma: float) -> None:
    """By hand: each pixel is the mean of those inside the mask, weighted by a Gaussian of their distance."""
    hsi = cube(binary_mask=spatial_mask())
    places = torch.stack(torch.meshgrid(torch.arange(ROWS), torch.arange(COLUMNS), indexing="ij"), dim=-1).double()
    used = spatial_mask()[0]
    wanted = torch.empty(SHAPE, dtype=torch.float64)
    for row in range(ROWS):
        for column in range(COLUMNS):
            offsets = (places - places[row, column]).abs()
            weight = torch.exp(-0.5 * (offsets / sigma).square().sum(-1))
            weight = weight * used * (offsets <= int(4 * sigma + 0.5)).all(-1)
            wanted[:, row, column] = (hsi.image * weight).sum((1, 2)) / weight.sum()
    wanted *= used
    torch.testing.assert_close(Blur(sigma).values(hsi, np.zeros(SHAPE)), wanted, rtol=0, atol=1e-13)


def test_a_constant_image_stays_as_it_is() -> None:
    hsi = cube(image=torch.full(SHAPE, 0.3, dtype=torch.float64), binary_mask=spatial_mask())
    for missing in (SegmentMean(), Blur(2.0)):
        found = missing.values(hsi, KINDS["superpixels"].numpy())
        torch.testing.assert_close(found, 0.3 * spatial_mask().expand(SHAPE).double())


# ---------------------------------------------------------------- the methods


@pytest.mark.parametrize("missing", [SegmentMean(), Blur(1.3)], ids=name_of)
def test_what_the_mask_hides_contributes_nothing(missing: Any) -> None:
    """Superpixel 9 is all that the mask hides."""
    masks = torch.where(spatial_mask()[0], SEGMENTS, 9)
    for method, found in calls(missing, cube(binary_mask=spatial_mask()), masks).items():
        assert not found.attributes[:, masks == 9].any(), method
        assert found.attributes.any(), method


def calls(baseline: Any, hsi: Any = None, masks: Any = SEGMENTS) -> dict[str, Any]:
    """What each method finds with a baseline, exactly."""
    hsi = cube() if hsi is None else hsi
    model = explainable(smooth())
    torch.manual_seed(1)
    return {
        "Lime": Lime(model, SkLearnLinearRegression()).get_spatial_attributes(
            hsi, masks, target=0, n_samples=60, baseline=baseline
        ),
        "KernelShap": KernelShap(model).get_spatial_attributes(hsi, masks, target=0, baseline=baseline),
        "ShapleyValueSampling": ShapleyValueSampling(model).get_spatial_attributes(
            hsi, masks, target=0, baseline=baseline
        ),
        "FeatureAblation": FeatureAblation(model).attribute(hsi, target=0, feature_mask=masks, baseline=baseline),
    }


@pytest.mark.parametrize("missing", [SegmentMean(), Blur(1.1)], ids=name_of)
def test_every_method_takes_the_image_that_it_stands_for(missing: Any) -> None:
    ids = torch.where(SEGMENTS < 0, -1, SEGMENTS).expand(SHAPE).numpy()
    by_name, by_image = calls(missing), calls(missing.values(cube(), ids))
    for method, found in by_name.items():
        torch.testing.assert_close(found.attributes, by_image[method].attributes, rtol=0, atol=1e-12)
        assert found.attributes.any(), method


def test_every_image_has_its_own() -> None:
    images, masks = [cube(), cube(1)], [SEGMENTS, SEGMENTS.flip(0)]
    lists = calls([SegmentMean(), Blur(1.1)], images, masks)
    first, second = calls(SegmentMean(), images[0], masks[0]), calls(Blur(1.1), images[1], masks[1])
    for method in ("KernelShap", "FeatureAblation"):
        torch.testing.assert_close(lists[method][0].attributes, first[method].attributes, rtol=0, atol=1e-14)
        torch.testing.assert_close(lists[method][1].attributes, second[method].attributes, rtol=0, atol=1e-14)


SPECTRA = values(9, shape=(4, BANDS))


@pytest.mark.parametrize("method", [KernelShap, FeatureAblation])
def test_backgrounds_average_the_outputs(method: Any) -> None:
    """Both methods are linear in the outputs, so the mean over backgrounds is that of runs with one each."""
    name = method.__name__
    found = calls(Background(SPECTRA))[name]
    alone = torch.stack([calls(spectrum)[name].attributes for spectrum in SPECTRA])
    torch.testing.assert_close(found.attributes, alone.mean(0), rtol=0, atol=1e-13)
    mean = calls(SPECTRA.mean(0))[name].attributes
    assert (mean - found.attributes).abs().max() > 1e-4, "it is not the output for the mean spectrum"


def test_backgrounds_of_superbands_and_several_images() -> None:
    images, model = [cube(), cube(1)], explainable(smooth())
    found = KernelShap(model).get_spectral_attributes(
        images, GROUPS, target=[0, 2], baseline=[Background(SPECTRA[:3].float().numpy()), 0.5]
    )
    spectra = SPECTRA[:3].float().double()
    alone = [KernelShap(model).get_spectral_attributes(images[0], GROUPS, target=0, baseline=one) for one in spectra]
    torch.testing.assert_close(
        found[0].attributes, torch.stack([one.attributes for one in alone]).mean(0), rtol=0, atol=1e-13
    )
    other = KernelShap(model).get_spectral_attributes(images[1], GROUPS, target=2, baseline=0.5)
    torch.testing.assert_close(found[1].attributes, other.attributes, rtol=0, atol=1e-14)
    assert found[0].effects.baseline_output == pytest.approx(np.mean([one.effects.baseline_output for one in alone]))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_backgrounds_in_every_orientation(orientation: str) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:  # knows the bands whatever their axis is
        bands = x.movedim(1 + orientation.index("C"), 1)
        return (bands.sum((2, 3)) * torch.arange(1.0, BANDS + 1)).sin()

    hsi = turned(cube(binary_mask=spatial_mask()), orientation)
    mask = in_place(SEGMENTS.expand(SHAPE), orientation).narrow(orientation.index("C"), 0, 1)
    found = KernelShap(explainable(model)).get_spatial_attributes(hsi, mask, target=1, baseline=Background(SPECTRA))

    def straight(x: torch.Tensor) -> torch.Tensor:
        return (x.sum((2, 3)) * torch.arange(1.0, BANDS + 1)).sin()

    wanted = KernelShap(explainable(straight)).get_spatial_attributes(
        cube(binary_mask=spatial_mask()), SEGMENTS, target=1, baseline=Background(SPECTRA)
    )
    torch.testing.assert_close(found.attributes, in_place(wanted.attributes, orientation), rtol=0, atol=1e-12)


def test_a_feature_counts_where_any_background_differs() -> None:
    """Left out only where it holds every background anyhow."""
    hsi = cube()
    hsi.image[:] = SPECTRA[0][:, None, None]
    same = calls(Background(SPECTRA[:1]), hsi)["KernelShap"]
    assert not same.attributes.any()
    assert calls(Background(SPECTRA[:2]), hsi)["KernelShap"].attributes.any()


def test_evaluations_are_counted_for_each_background() -> None:
    found = calls(Background(SPECTRA))["KernelShap"]
    assert found.report.evaluations == len(SPECTRA) * 2**3


# ---------------------------------------------------------------- results say what was taken


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (None, "0"),
        (0.25, "0.25"),
        (torch.tensor(2.0), "2"),
        ("mean", "mean spectrum"),
        (SPECTRA[0], "spectrum"),
        (values(3).numpy(), "image"),
        (SegmentMean(), "mean"),
        (Blur(2.5), "2.5"),
        (Background(SPECTRA), "4 background"),
    ],
    ids=str,
)
def test_results_state_the_choice(baseline: Any, words: str) -> None:
    for method, result in calls(baseline).items():
        if method != "FeatureAblation":
            assert words in result.effects.missing, method
            assert words in repr(result.effects), method


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Blur(0.0), ValueError, "sigma"),
        (lambda: Blur(-1), ValueError, "sigma"),
        (lambda: Blur(float("nan")), ValueError, "sigma"),
        (lambda: Blur(float("inf")), ValueError, "sigma"),
        (lambda: Blur("wide"), ValueError, "sigma"),  # type: ignore[arg-type]
        (lambda: Background(SPECTRA[0]), ValueError, "spectra"),
        (lambda: Background(SPECTRA[:0]), ValueError, "spectra"),
        (lambda: Background(SPECTRA.to(torch.complex64)), ValueError, "spectra"),
        (lambda: Background([[1.0]]), ValueError, "spectra"),  # type: ignore[arg-type]
        (lambda: Background(SPECTRA * float("nan")), ValueError, "finite"),
        (lambda: calls(Background(SPECTRA[:, 1:])), ValueError, "bands"),
        (lambda: calls([SegmentMean()] * 2), ValueError, "baseline"),
        (lambda: calls(SegmentMean), TypeError, "baseline"),
        (lambda: calls("median"), TypeError, "baseline"),
        (lambda: calls(torch.zeros(2)), ShapeMismatchError, "baseline"),
        (lambda: calls(float("nan")), ValueError, "finite"),
    ],
)
def test_errors(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("number", [np.float32(1.5), np.int64(2), 2])
def test_numbers_of_numpy_are_widths(number: Any) -> None:
    ids = np.zeros(SHAPE)
    assert torch.equal(Blur(number).values(cube(), ids), Blur(float(number)).values(cube(), ids))


def test_backgrounds_keep_their_own_copy() -> None:
    spectra = SPECTRA.clone().numpy()
    background = Background(spectra)
    spectra[:] = float("nan")
    assert calls(background)["KernelShap"].attributes.isfinite().all()
