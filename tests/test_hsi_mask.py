"""The mask of an HSI: what may be given for it, and which axes of the image it lies on."""

from __future__ import annotations

import ast
import math
from typing import Any

import pytest
import torch

from meteors_c.exceptions import ShapeMismatchError, ValidationError
from meteors_c.hsi import HSI
from tests.images import DTYPES, ORIENTATIONS, image, make, permuted


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_artificial_mask_follows_the_first_band(orientation: str) -> None:
    values = image()
    values[0, 3, 4] = 0
    values[1:, 0, 0] = 7  # only the first band counts
    hsi = make(image=permuted(values, orientation), orientation=orientation, binary_mask="artificial")
    expected = permuted((values[0] != 0).expand(10, 4, 5), orientation)
    assert hsi.binary_mask.dtype == torch.bool
    assert torch.equal(hsi.binary_mask, expected)
    spatial = hsi.spatial_binary_mask
    assert torch.equal(spatial, expected.select(orientation.index("C"), 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_artificial_mask_of_every_dtype(dtype: torch.dtype) -> None:
    values = image().gt(0).to(dtype)
    assert torch.equal(make(image=values, binary_mask="artificial").binary_mask, image().gt(0))


@pytest.mark.parametrize("shape", [(10, 4, 5), (4, 5), (10, 1, 1), (5,), (1, 4, 1), ()])
@pytest.mark.parametrize("kind", [torch.bool, torch.float32, torch.int64, torch.uint16])
def test_masks_broadcast(shape: tuple[int, ...], kind: torch.dtype) -> None:
    mask = (torch.rand(shape) > 0.4).to(kind)
    expected = mask.bool().expand(10, 4, 5)
    for given in (mask, mask.numpy()):
        hsi = make(binary_mask=given)
        assert torch.equal(hsi.binary_mask, expected)
        assert torch.equal(hsi.get_image(), hsi.image * expected)


def test_masks_that_do_not_fit_or_are_none() -> None:
    for shape in ((3, 5), (1, 10, 4, 5), (10,)):
        with pytest.raises(ShapeMismatchError) as caught:
            make(binary_mask=torch.ones(shape))
        assert str(shape) in str(caught.value)
        assert "(10, 4, 5)" in str(caught.value)
    with pytest.raises(ValueError, match="'clouds'"):
        make(binary_mask="clouds")
    for value in (3, True, {1}, [[1, 0], [1]], ["a"]):
        with pytest.raises(TypeError, match="Binary mask must be"):
            make(binary_mask=value)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", [lambda mask: mask, lambda mask: mask.numpy(), lambda mask: mask.float().tolist()])
def test_two_axes_are_rows_and_columns_in_any_orientation(orientation: str, kind: Any) -> None:
    values = permuted(image(), orientation)
    axis = orientation.index("C")
    mask = torch.rand([size for a, size in enumerate(values.shape) if a != axis]) > 0.5
    hsi = make(image=values, orientation=orientation, binary_mask=kind(mask))
    assert torch.equal(hsi.binary_mask, mask.unsqueeze(axis).expand(values.shape))
    assert torch.equal(hsi.spatial_binary_mask, mask)
    assert torch.equal(hsi.get_image(), torch.where(mask.unsqueeze(axis), values, 0.0))
    hsi.binary_mask = None
    hsi.binary_mask = kind(mask)
    assert torch.equal(
        hsi.change_orientation("CHW").binary_mask, hsi.binary_mask.permute(*map(orientation.index, "CHW"))
    )


@pytest.mark.parametrize(
    ("orientation", "shape", "mask", "readings"),
    [
        ("HWC", (8, 8, 8), (8, 8), ("HW", "(8, 8, 1)", "WC", "(1, 8, 8)")),
        ("HWC", (8, 8, 8), (1, 8), ("HW", "(1, 8, 1)", "WC", "(1, 1, 8)")),
        ("HWC", (6, 6, 4), (6, 1), ("HW", "(6, 1, 1)", "WC", "(1, 6, 1)")),
        ("HCW", (8, 8, 5), (8, 5), ("HW", "(8, 1, 5)", "CW", "(1, 8, 5)")),
        ("CHW", (8, 5, 8), (8,), ("C", "(8, 1, 1)", "W", "(1, 1, 8)")),
        ("HCW", (4, 8, 8), (8,), ("C", "(1, 8, 1)", "W", "(1, 1, 8)")),
    ],
)
def test_a_mask_that_could_mean_two_things_is_refused(
    orientation: str, shape: tuple[int, ...], mask: tuple[int, ...], readings: tuple[str, ...]
) -> None:
    arguments: dict[str, Any] = {
        "image": torch.rand(shape), "wavelengths": range(400, 400 + shape[orientation.index("C")]),
        "orientation": orientation,
    }  # fmt: skip
    with pytest.raises(ShapeMismatchError, match="two things") as caught:
        HSI(**arguments, binary_mask=torch.ones(mask))
    for words in (str(mask), str(shape), *readings):
        assert words in str(caught.value)
    for sizes in (readings[1], readings[3]):  # what the message proposes is taken
        HSI(**arguments, binary_mask=torch.ones(ast.literal_eval(sizes)))


@pytest.mark.parametrize(
    ("orientation", "shape", "mask", "axes"),
    [
        ("CHW", (8, 8, 8), (8, 8), (1, 2)),  # both readings are one
        ("HWC", (4, 5, 6), (5, 6), (1, 2)),  # as broadcasting has it
        ("HWC", (4, 5, 6), (6,), (2,)),
        ("HWC", (4, 5, 6), (1, 6), (0, 2)),
        ("HCW", (4, 5, 6), (1, 6), (0, 2)),
        ("HWC", (4, 5, 5), (4, 5), (0, 1)),
        ("HWC", (4, 5, 6), (4, 1), (0, 1)),
        ("CHW", (8, 8, 5), (8, 5), (1, 2)),
    ],
)
def test_masks_with_one_reading(
    orientation: str, shape: tuple[int, ...], mask: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    values = torch.rand(mask) > 0.5
    sizes = [1, 1, 1]
    for axis, size in zip(axes, mask, strict=True):
        sizes[axis] = size
    hsi = HSI(
        image=torch.rand(shape),
        wavelengths=range(400, 400 + shape[orientation.index("C")]),
        orientation=orientation,
        binary_mask=values,
    )
    assert torch.equal(hsi.binary_mask, values.reshape(sizes).expand(shape))


def test_one_value_per_band_needs_three_axes() -> None:
    with pytest.raises(ShapeMismatchError, match=r"\(10,\).*\(10, 1, 1\)"):
        make(binary_mask=torch.ones(10))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_mask_of_floats_is_finite(dtype: torch.dtype) -> None:
    mask = torch.ones(4, 5, dtype=dtype)
    mask[0, :2] = math.nan
    mask[1, 0] = math.inf
    hsi = make()
    for use in (lambda: make(binary_mask=mask), lambda: setattr(hsi, "binary_mask", mask)):
        with pytest.raises(ValidationError, match="3 of its 20"):
            use()
    assert hsi.binary_mask.all()
    mask[0, :2], mask[1, 0] = -0.5, 0
    assert torch.equal(make(binary_mask=mask).spatial_binary_mask, mask != 0)


def test_without_a_mask_everything_is_used() -> None:
    hsi = make()
    assert hsi.binary_mask.all()
    assert hsi.binary_mask.shape == (10, 4, 5)
    assert hsi.binary_mask is hsi.binary_mask
    hsi.binary_mask[0, 3, 3] = False  # a mask that was looked at can be written to
    assert hsi.get_image()[0, 3, 3] == 0
    assert hsi.get_image()[0, 3, 4] != 0
