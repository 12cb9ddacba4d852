"""Laws that hold for every HSI: drawn orientations, strides, dtypes, masks and wavelengths against plain torch."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from meteors_c.exceptions import BandSelectionError, ShapeMismatchError
from meteors_c.hsi import HSI

ORIENTATIONS = ["".join(letters) for letters in itertools.permutations("CHW")]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64, *FLOATS]
RANGES = {"A": (400, 455), "B": (450, 530), "G": (510, 600), "R": (620, 690), "N": (760, 900), "Y": (585, 625)}

runs = settings(max_examples=150, deadline=None)


@st.composite
def tensors(draw: st.DrawFn, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Values of a shape in memory of any order of axes, with gaps or repeats; floats have NaN and infinity in them."""
    axes = len(shape)
    order = draw(st.permutations(range(axes)))
    gaps = draw(st.lists(st.integers(1, 3), min_size=axes, max_size=axes))
    repeat = draw(st.lists(st.booleans(), min_size=axes, max_size=axes)) if draw(st.booleans()) else [False] * axes
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    laid = [1 if repeat[a] else shape[a] * gaps[a] for a in range(axes)]
    memory = torch.randint(-100, 100, [laid[a] for a in order], generator=generator)
    if dtype in FLOATS:
        values = memory.double() / 7
        specials = torch.tensor([0.0, 0.0, float("nan"), float("inf"), -float("inf")]).double()
        chosen = torch.randint(0, 20, memory.shape, generator=generator)
        memory = torch.where(chosen < 5, specials[chosen.clamp(max=4)], values)
    tensor = memory.to(dtype).permute([order.index(a) for a in range(axes)])
    return tensor[tuple(slice(None, None, 1 if repeat[a] else gaps[a]) for a in range(axes))].expand(shape)


@st.composite
def images(draw: st.DrawFn, dtypes: list[torch.dtype] = DTYPES) -> tuple[torch.Tensor, str]:
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    return draw(tensors(shape, draw(st.sampled_from(dtypes)))), draw(st.sampled_from(ORIENTATIONS))


@st.composite
def masks(draw: st.DrawFn, shape: torch.Size, orientation: str) -> tuple[Any, torch.Tensor]:
    """A mask as a user may give it, and what it means: bool, of three axes that broadcast to the shape."""
    axes = draw(st.integers(0, 3))
    if axes == 2 and draw(st.booleans()):
        places = [a for a in range(3) if orientation[a] != "C"]
    else:
        places = list(range(3 - axes, 3))
    sizes = [1 if draw(st.integers(0, 4)) == 0 else shape[a] for a in places]
    mask = draw(tensors(tuple(sizes), torch.bool))
    whole = [1, 1, 1]
    for place, size in zip(places, sizes, strict=True):
        whole[place] = size
    kinds = [lambda m: m, lambda m: m.numpy(), lambda m: m.float() * -0.5, lambda m: m.to(torch.uint16)]
    if axes > 0:
        kinds.append(lambda m: m.tolist())
    return draw(st.sampled_from(kinds))(mask), mask.reshape(whole)


def make(image: Any, orientation: str, **arguments: Any) -> HSI:
    bands = image.shape[orientation.index("C")]
    return HSI(image=image, wavelengths=range(500, 500 + bands), orientation=orientation, **arguments)


def masked(image: torch.Tensor, orientation: str, mask: Any) -> HSI:
    """Make an HSI, or draw anew where the mask could mean two things: nothing else may refuse a mask that fits."""
    try:
        return make(image, orientation, binary_mask=mask)
    except ShapeMismatchError as error:
        if "two things" not in str(error):
            raise
        reject()


def same(got: torch.Tensor, expected: torch.Tensor) -> bool:
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    return torch.equal(got, expected) or torch.allclose(got, expected, rtol=0, atol=0, equal_nan=True)


def used(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, image, torch.zeros((), dtype=image.dtype))


@runs
@given(st.data())
def test_get_image_selects(data: st.DataObject) -> None:
    image, orientation = data.draw(images())
    given_mask, mask = data.draw(masks(image.shape, orientation))
    hsi = masked(image, orientation, given_mask)
    assert torch.equal(hsi.binary_mask, mask.expand(image.shape))
    assert same(hsi.get_image(), used(image, mask))
    assert hsi.get_image(apply_mask=False) is image
    if image.dtype in FLOATS:
        graph = make(image.clone().requires_grad_(), orientation, binary_mask=hsi.binary_mask)
        assert same(graph.get_image().detach(), used(image, mask))


@runs
@given(st.data())
def test_orientations_there_and_back(data: st.DataObject) -> None:
    image, orientation = data.draw(images())
    given_mask, _ = data.draw(masks(image.shape, orientation))
    hsi = masked(image, orientation, given_mask)
    mask = hsi.binary_mask
    target = data.draw(st.sampled_from(ORIENTATIONS))
    order = [orientation.index(letter) for letter in target]
    turned = hsi.change_orientation(target)
    assert turned.image.data_ptr() == image.data_ptr()
    assert same(turned.image, image.permute(order))
    assert torch.equal(turned.binary_mask, mask.permute(order))
    assert same(turned.get_image(), used(image, mask).permute(order))
    back = turned.change_orientation(orientation)
    assert back.image.stride() == image.stride()
    assert torch.equal(back.binary_mask, mask)
    assert same(back.get_image(), hsi.get_image())


@runs
@given(st.data())
def test_arrays_of_any_strides(data: st.DataObject) -> None:
    image, orientation = data.draw(images([dtype for dtype in DTYPES if dtype != torch.bfloat16]))
    array = image.numpy()
    for axis in range(3):
        if data.draw(st.booleans()):
            array = np.flip(array, axis)
    if data.draw(st.booleans()):
        array = array.astype(array.dtype.newbyteorder())
    if data.draw(st.booleans()):
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hsi = make(array, orientation)
    np.testing.assert_array_equal(hsi.image.numpy(), array)
    np.testing.assert_array_equal(hsi.get_image().numpy(), array)
    if array.dtype.isnative and min(array.strides) >= 0:
        assert hsi.image.data_ptr() == array.ctypes.data


@runs
@given(st.data())
def test_the_central_band_against_a_sorted_list(data: st.DataObject) -> None:
    wavelengths = data.draw(st.lists(st.integers(380, 950).map(lambda w: w - w % 10), min_size=1, max_size=40))
    low, high = RANGES[name := data.draw(st.sampled_from(sorted(RANGES)))]
    hsi = HSI(
        image=torch.arange(len(wavelengths))[:, None, None],
        wavelengths=data.draw(st.sampled_from([list, np.array, torch.tensor, lambda w: np.array(w, float)]))(
            wavelengths
        ),
    )
    ascending = sorted(range(len(wavelengths)), key=wavelengths.__getitem__)  # stable
    inside = [i for i in ascending if low <= wavelengths[i] <= high]
    if not inside:
        try:
            hsi.extract_band_by_name(name)
        except BandSelectionError:
            return
        raise AssertionError("a band of no wavelength")
    assert hsi.extract_band_by_name(name, normalize=False) == inside[len(inside) // 2]
    listed = data.draw(st.permutations([wavelengths[i] for i in inside]))
    assert hsi._extract_central_slice_from_band(listed, normalize=False) == inside[len(inside) // 2]
    n = len(wavelengths)
    assert hsi._substitute_bands() == (ascending[n * 5 // 6], ascending[n // 2], ascending[n // 6])


@runs
@given(st.data())
def test_pictures_depend_on_used_finite_values_alone(data: st.DataObject) -> None:
    image, orientation = data.draw(images(FLOATS))
    given_mask, mask = data.draw(masks(image.shape, orientation))
    cutoff = data.draw(st.booleans())
    hsi = masked(image, orientation, given_mask)
    picture, _ = hsi.get_picture(apply_min_cutoff=cutoff)
    valid = mask & image.isfinite()
    axis = orientation.index("C")
    shown = [valid.select(axis, band) for band in hsi._substitute_bands()]
    assert picture.isfinite().all()
    assert not picture[~torch.stack(shown, axis)].any()
    anything = torch.tensor([-9999.0, 5e4, 0.0, 1.0], dtype=image.dtype)[torch.randint(0, 4, image.shape)]
    other = make(torch.where(mask, image, anything), orientation, binary_mask=mask)
    assert torch.equal(other.get_picture(apply_min_cutoff=cutoff)[0], picture)
    for plane, use, band in zip(picture.unbind(axis), shown, hsi._substitute_bands(), strict=True):
        values = image.select(axis, band)[use]
        if not cutoff and len(values) and values.max() > values.min():
            assert plane[use].aminmax() == (0, 1)
