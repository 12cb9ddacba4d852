"""Baselines of every kind, for every method that has one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import meteors_c as mt
from meteors_c.attr import HyperNoiseTunnel, InputXGradient, IntegratedGradients, Occlusion
from meteors_c.attr.explainer import validate_and_transform_baseline
from meteors_c.exceptions import ShapeMismatchError
from tests.parity.reference import assert_close
from tests.toys import BANDS, ORIENTATIONS, PATHS, SHAPE, convolutional, cube, explainable, smooth, spatial_mask, values

SPECTRUM = [0.5, -1.0, 0.25, 2.0, 0.0]


def image_of(spectrum: Any, orientation: str = "CHW") -> torch.Tensor:
    """A spectrum as an image of the usual shape."""
    whole = torch.as_tensor(spectrum, dtype=torch.float64)[:, None, None].expand(SHAPE)
    return whole.permute(["CHW".index(letter) for letter in orientation])


def integrated(hsi: Any, baseline: Any) -> Any:
    return IntegratedGradients(explainable(smooth())).attribute(hsi, baseline, 1, n_steps=5)


def kept(hsi: Any, baseline: Any) -> Any:
    return IntegratedGradients(explainable(smooth())).attribute(
        hsi, baseline, 1, n_steps=5, keep_gradient=True, return_convergence_delta=True
    )


def boxes(hsi: Any, baseline: Any) -> Any:
    return Occlusion(explainable(smooth())).attribute(hsi, 1, 2, 2, baseline)


def pixels(hsi: Any, baseline: Any) -> Any:
    return Occlusion(explainable(smooth())).get_spatial_attributes(hsi, 1, 2, 2, baseline)


def bands(hsi: Any, baseline: Any) -> Any:
    return Occlusion(explainable(smooth())).get_spectral_attributes(hsi, 1, 2, 2, baseline)


def tunnel(hsi: Any, baseline: Any) -> Any:
    torch.manual_seed(1)
    return HyperNoiseTunnel(InputXGradient(explainable(smooth()))).attribute(hsi, baseline, 1, n_samples=4)


each_method = pytest.mark.parametrize("method", [integrated, kept, boxes, pixels, bands, tunnel])

NUMBERS = {
    "float32": np.float32(0.5),
    "float64": np.float64(0.5),
    "0-d array": np.array(0.5),
    "0-d tensor": torch.tensor(0.5),
    "0-d tensor with gradient": torch.tensor(0.5, requires_grad=True),
}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_numbers_of_numpy_and_torch(number: Any) -> None:
    assert torch.equal(integrated(cube(), number).attributes, integrated(cube(), 0.5).attributes)


@pytest.mark.parametrize("number", [np.int64(2), np.uint8(2), torch.tensor(2), np.array(2, dtype=np.int16)], ids=repr)
def test_integers_of_numpy_and_torch(number: Any) -> None:
    assert torch.equal(pixels(cube(), number).attributes, pixels(cube(), 2).attributes)


@each_method
@pytest.mark.parametrize("kind", [np.array, torch.tensor, lambda v: np.array(v, dtype=np.float32)[::1]])
def test_a_spectrum_has_one_value_for_each_band(method: Any, kind: Any) -> None:
    found, wanted = method(cube(), kind(SPECTRUM)), method(cube(), image_of(SPECTRUM).clone())
    assert_close(found.attributes.detach(), wanted.attributes.detach(), 1e-12)


@pytest.mark.parametrize(
    ("method", "orientation"), [*zip([integrated, kept, boxes, pixels, bands, tunnel], ORIENTATIONS, strict=True)]
)
def test_a_spectrum_runs_along_the_bands_of_any_orientation(method: Any, orientation: str) -> None:
    turned = cube().change_orientation(orientation)
    wanted = method(turned, image_of(SPECTRUM, orientation).clone()).attributes
    assert_close(method(turned, np.array(SPECTRUM)).attributes.detach(), wanted.detach(), 1e-12)


def test_a_spectrum_is_a_view() -> None:
    for orientation in ORIENTATIONS:
        turned = cube().change_orientation(orientation)
        spectrum = torch.tensor(SPECTRUM, dtype=torch.float64)
        whole = validate_and_transform_baseline(spectrum, turned)
        assert torch.equal(whole, image_of(SPECTRUM, orientation))
        assert whole.data_ptr() == spectrum.data_ptr()
        assert [s == 0 for s in whole.stride()] == [letter != "C" for letter in orientation]


LAYOUTS = ["plain", "read-only", "turned", "backwards", "byte-swapped"]


@pytest.mark.parametrize(("method", "layout"), [*zip([integrated, boxes, pixels, bands, tunnel], LAYOUTS, strict=True)])
def test_arrays_of_the_image_s_shape(method: Any, layout: str) -> None:
    array = values(5).numpy().copy()
    wanted = method(cube(), values(5)).attributes
    given = {
        "plain": array,
        "read-only": array.copy(),
        "turned": np.asfortranarray(array),
        "backwards": array[::-1].copy()[::-1],
        "byte-swapped": array.astype(">f8"),
    }[layout]
    given.flags.writeable = layout != "read-only"
    assert_close(method(cube(), given).attributes.detach(), wanted.detach(), 1e-12)
    assert np.array_equal(given, array)


@each_method
def test_the_mean_spectrum(method: Any) -> None:
    mean = values().mean((1, 2))
    assert_close(method(cube(), "mean").attributes.detach(), method(cube(), mean).attributes.detach(), 1e-12)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_mean_is_that_of_valid_pixels(orientation: str) -> None:
    """Values under the mask, and values that are not finite, do not count; nor does a band without valid pixels."""
    image, mask = values().clone(), spatial_mask().expand(SHAPE).clone()
    mask[4] = False
    wanted = torch.where(mask, image, 0).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
    image[~mask] = -9999.0
    image[0, 0, 1] = float("nan")  # under the mask
    turned = cube(image=image, binary_mask=mask).change_orientation(orientation)
    assert_close(validate_and_transform_baseline("mean", turned), image_of(wanted, orientation), 1e-12)
    image[2, 1, 1] = float("inf")  # not under it
    wanted[2] = image[2][mask[2] & image[2].isfinite()].mean()
    turned = cube(image=image, binary_mask=mask).change_orientation(orientation)
    assert_close(validate_and_transform_baseline("mean", turned), image_of(wanted, orientation), 1e-12)


def test_the_mean_of_integers_and_halves() -> None:
    for dtype in (torch.uint8, torch.int32, torch.float16):
        image = (values().abs() * 200).to(dtype)
        found = validate_and_transform_baseline("mean", cube(image=image))
        torch.testing.assert_close(found[:, 0, 0].double(), image.double().mean((1, 2)))


@each_method
def test_every_image_of_a_list_has_its_own(method: Any) -> None:
    images = [cube(0), cube(1), cube(2), cube(3)]
    given = [np.array(SPECTRUM), "mean", values(7).numpy(), np.float32(0.25)]
    means = method(images, "mean")
    for i, (one, mean) in enumerate(zip(method(images, given), means, strict=True)):
        # Images of one call share the draws of a tunnel.
        assert_close(one.attributes.detach(), method(images[i], given[i]).attributes.detach(), 1e-12)
        assert_close(mean.attributes.detach(), method(images[i], values(i).mean((1, 2))).attributes.detach(), 1e-12)


@pytest.mark.parametrize("options", PATHS.values(), ids=PATHS)
def test_shortcuts_take_spectra(options: dict[str, Any]) -> None:
    explainer = IntegratedGradients(explainable(convolutional()))
    with mt.options(**options):
        found = explainer.attribute(cube(), np.array(SPECTRUM), 1, n_steps=20, return_convergence_delta=True)
    wanted = explainer.attribute(cube(), image_of(SPECTRUM).clone(), 1, n_steps=20, return_convergence_delta=True)
    assert_close(found.attributes, wanted.attributes, 1e-11)
    assert found.score == pytest.approx(wanted.score, abs=1e-12)


def test_completeness_holds_from_the_mean() -> None:
    found = IntegratedGradients(explainable(smooth())).attribute(
        cube(binary_mask=spatial_mask()), "mean", 1, n_steps=64, return_convergence_delta=True
    )
    assert abs(found.score) < 1e-6


def test_the_transformed_baseline() -> None:
    hsi = cube(dtype=torch.float32)
    for given in (np.float64(0.5), np.array(0.5), torch.tensor(0.5)):
        found = validate_and_transform_baseline(given, hsi)
        assert found.dtype is torch.float32
        assert torch.equal(found, torch.full(SHAPE, 0.5))
    array = values(3).numpy()
    assert torch.equal(validate_and_transform_baseline(array, hsi), values(3))
    for wrong in (np.zeros(BANDS + 1), np.zeros((BANDS, 1)), torch.zeros(1, *SHAPE)):
        with pytest.raises(ShapeMismatchError, match=r"baseline.*5 bands.*\(5, 4, 3\)"):
            validate_and_transform_baseline(wrong, hsi)


@pytest.mark.parametrize("orientation", ["CHW", "HWC"])
def test_values_that_are_not_finite_are_found(orientation: str) -> None:
    whole = values(4).clone()
    whole[3, 1, 2] = float("nan")
    whole[3, 2, 0] = float("inf")
    turned = whole.permute(["CHW".index(letter) for letter in orientation])
    words = {"band": 3, "row": 1, "column": 2}
    with pytest.raises(ValueError, match="baseline.*nan") as caught:
        pixels(cube().change_orientation(orientation), turned)
    assert all(f"{word} {index}" in str(caught.value) for word, index in words.items())
    assert "1 more" in str(caught.value)
