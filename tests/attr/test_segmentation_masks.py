"""Masks of superpixels: patches by hand, SLIC by what it must hold, and how masks line up with images."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meteors_c import HSI
from meteors_c.attr import Lime
from meteors_c.attr._segmentation_masks import (
    read_band_masks,
    read_segmentation_masks,
    validate_mask_shape,
)
from meteors_c.datasets import load_demo_field
from meteors_c.exceptions import MaskCreationError, ShapeMismatchError
from tests.toys import ORIENTATIONS

get_segmentation_mask = Lime.get_segmentation_mask
BANDS = 4


def order(orientation: str) -> list[int]:
    return ["CHW".index(letter) for letter in orientation]


def scene(
    rows: int, columns: int, orientation: str = "CHW", mask: Any = None, seed: int = 0, bands: int = BANDS
) -> HSI:
    """An image of smooth fields with noise; `mask` is (rows, columns)."""
    shift = torch.arange(columns) / (2 + torch.arange(bands)[:, None, None])
    noise = torch.rand(bands, rows, columns, generator=torch.Generator().manual_seed(seed))
    image = torch.sin(torch.arange(rows)[:, None] / 4 + shift) + 0.2 * noise
    if mask is not None:
        mask = torch.as_tensor(mask).expand(bands, rows, columns).permute(order(orientation))
    return HSI(
        image=image.permute(order(orientation)),
        wavelengths=torch.arange(bands) * 50.0 + 400,
        orientation=orientation,
        binary_mask=mask,
    )


def plane(mask: torch.Tensor, hsi: HSI) -> np.ndarray:
    """The mask as (rows, columns)."""
    axes = hsi.orientation
    assert mask.dtype == torch.int64
    assert mask.shape == tuple(1 if axis == "C" else n for axis, n in zip(axes, hsi.image.shape, strict=True))
    return mask.permute([axes.index(letter) for letter in "CHW"])[0].numpy()


def regions(ids: np.ndarray) -> dict[int, int]:
    """How many 4-connected regions each id has, by flood fill."""
    seen = np.zeros(ids.shape, dtype=bool)
    count: dict[int, int] = {}
    for start in np.ndindex(ids.shape):
        if seen[start]:
            continue
        value = int(ids[start])
        count[value] = count.get(value, 0) + 1
        seen[start] = True
        to_do = [start]
        while to_do:
            row, column = to_do.pop()
            for place in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                inside = 0 <= place[0] < ids.shape[0] and 0 <= place[1] < ids.shape[1]
                if inside and not seen[place] and ids[place] == value:
                    seen[place] = True
                    to_do.append(place)
    return count


def assert_segments(ids: np.ndarray, inside: np.ndarray | None = None) -> None:
    """Ids 0, 1, ... without gaps, each one region; 0 is what the mask hides, if it hides something."""
    count = regions(ids)
    assert sorted(count) == list(range(len(count)))
    if inside is not None and not inside.all():
        assert np.array_equal(ids == 0, ~inside)
        count.pop(0)
    assert set(count.values()) == {1}


# ---------------------------------------------------------------- SLIC


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("mask", [None, np.arange(320).reshape(16, 20) % 20 > 3], ids=["whole", "masked"])
def test_slic_is_that_of_scikit_image_on_the_masked_image(orientation: str, mask: Any) -> None:
    slic = pytest.importorskip("skimage.segmentation").slic
    hsi = scene(16, 20, orientation, mask)
    inside = hsi.spatial_binary_mask.numpy()
    expected = slic(hsi.get_image().numpy(), n_segments=8, mask=inside, channel_axis=hsi.spectral_axis, compactness=0.5)
    found = get_segmentation_mask(hsi, num_interpret_features=8, compactness=0.5)
    assert np.array_equal(found.squeeze(hsi.spectral_axis).numpy(), expected - expected.min())
    assert_segments(plane(found, hsi), None if mask is None else mask)


@pytest.mark.parametrize("masked", [True, False])
def test_slic_of_the_embedded_scene_is_that_of_scikit_image(masked: bool) -> None:
    slic = pytest.importorskip("skimage.segmentation").slic
    field = load_demo_field()
    hsi = HSI(image=field.image, wavelengths=field.wavelengths, binary_mask=field.binary_mask if masked else None)
    expected = slic(hsi.get_image().numpy(), n_segments=10, mask=hsi.spatial_binary_mask.numpy(), channel_axis=0)
    assert np.array_equal(get_segmentation_mask(hsi)[0].numpy(), expected - expected.min())


@settings(max_examples=40)
@given(
    st.integers(1, 14),
    st.integers(1, 14),
    st.integers(1, 40),
    st.floats(0.2, 1),
    st.integers(0, 99),
    st.sampled_from([0.01, 0.5, 10]),
)
def test_each_label_is_one_region_and_ids_have_no_gaps(
    rows: int, columns: int, segments: int, share: float, seed: int, compactness: float
) -> None:
    pytest.importorskip("skimage")
    inside = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < share
    inside[rows // 2, columns // 2] = True
    hsi = scene(rows, columns, mask=inside, seed=seed)
    ids = plane(get_segmentation_mask(hsi, num_interpret_features=segments, compactness=compactness), hsi)
    assert_segments(ids, inside.numpy())


def test_two_islands_never_share_a_label() -> None:
    pytest.importorskip("skimage")
    inside = torch.rand(12, 11, generator=torch.Generator().manual_seed(3)) < 0.6
    hsi = scene(12, 11, mask=inside)
    slic = sys.modules["skimage.segmentation"].slic
    raw = slic(hsi.get_image().numpy(), n_segments=4, mask=inside.numpy(), channel_axis=0)
    assert any(n > 1 for label, n in regions(raw).items() if label), "scikit-image splits none here: nothing is tested"
    ids = plane(get_segmentation_mask(hsi, num_interpret_features=4), hsi)
    assert_segments(ids, inside.numpy())
    for label in range(1, ids.max() + 1):
        assert len(np.unique(raw[ids == label])) == 1, "a segment lies inside one of scikit-image's"


def test_connectivity_is_left_to_who_switches_it_off() -> None:
    pytest.importorskip("skimage")
    hsi = scene(20, 20)
    ids = plane(get_segmentation_mask(hsi, compactness=1e-3, enforce_connectivity=False), hsi)
    count = regions(ids)
    assert sorted(count) == list(range(len(count)))
    assert max(count.values()) > 1
    assert len(count) <= 10


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("scale", "shift"), [(1000.0, 5.0), (1e-3, -7.0), (1.0, 1e4)])
def test_units_of_the_image_do_not_matter(scale: float, shift: float, masked: bool) -> None:
    pytest.importorskip("skimage")
    inside = torch.arange(400).reshape(20, 20) % 20 > 4 if masked else torch.ones(20, 20, dtype=torch.bool)
    hsi = scene(20, 20, mask=inside)
    hsi.image = hsi.image.double()
    other = HSI(image=hsi.image * scale + shift, wavelengths=hsi.wavelengths, binary_mask=hsi.binary_mask)
    arguments = {"compactness": 0.3, "sigma": 0.5}
    ids = get_segmentation_mask(hsi, **arguments)
    assert torch.equal(get_segmentation_mask(other, **arguments), ids)
    assert len(ids.unique()) > 5


@pytest.mark.parametrize("filler", [float("nan"), float("inf"), -9999.0, 1e30])
def test_what_lies_under_the_mask_does_not_matter(filler: float) -> None:
    pytest.importorskip("skimage")
    inside = torch.arange(400).reshape(20, 20) % 20 > 4
    hsi = scene(20, 20, mask=inside)
    other = HSI(image=hsi.image.where(inside, filler), wavelengths=hsi.wavelengths, binary_mask=hsi.binary_mask)
    ids = get_segmentation_mask(hsi, compactness=0.3)
    assert torch.equal(get_segmentation_mask(other, compactness=0.3), ids)


def test_values_of_other_bands_under_the_mask_do_not_matter() -> None:
    pytest.importorskip("skimage")
    mask = torch.ones(BANDS, 20, 20, dtype=torch.bool)
    mask[2, 5:9, 3:17] = False
    whole = scene(20, 20)
    ids = []
    for scale, shift, filler in [(1, 0, 0), (1, 0, float("nan")), (1000, 5, 7)]:
        image = (whole.image.double() * scale + shift).where(mask, filler)
        hsi = HSI(image=image, wavelengths=whole.wavelengths, binary_mask=mask)
        ids.append(get_segmentation_mask(hsi, compactness=0.3))
    assert torch.equal(ids[0], ids[1])
    assert torch.equal(ids[0], ids[2])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_inside_the_mask_must_be_finite(value: float) -> None:
    pytest.importorskip("skimage")
    hsi = scene(20, 20)
    hsi.image[1, 2, 3] = value
    with pytest.raises(MaskCreationError, match="finite"):
        get_segmentation_mask(hsi)


@pytest.mark.parametrize("method", ["slic", "patch"])
def test_empty_mask(method: str) -> None:
    pytest.importorskip("skimage")
    with pytest.raises(MaskCreationError, match="empty"):
        get_segmentation_mask(scene(20, 20, mask=torch.zeros(20, 20, dtype=torch.bool)), method)


@pytest.mark.parametrize("inside", [None, [[True, False, True], [True, True, False]]])
def test_more_segments_than_pixels(inside: Any) -> None:
    pytest.importorskip("skimage")
    hsi = scene(2, 3, mask=inside)
    ids = plane(get_segmentation_mask(hsi, num_interpret_features=1000), hsi)
    pixels = 6 if inside is None else 4
    assert len(np.unique(ids[hsi.spatial_binary_mask.numpy()])) == pixels


@pytest.mark.parametrize(("rows", "columns", "segments"), [(1, 1, 10), (1, 9, 3), (9, 1, 1), (5, 5, 1)])
def test_thin_images(rows: int, columns: int, segments: int) -> None:
    pytest.importorskip("skimage")
    hsi = scene(rows, columns)
    assert_segments(plane(get_segmentation_mask(hsi, num_interpret_features=segments), hsi))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int16, torch.int64])
def test_dtypes_of_images(dtype: torch.dtype) -> None:
    pytest.importorskip("skimage")
    steps = (torch.arange(20) // 5 * 20).expand(BANDS, 20, 20)
    ids = [
        get_segmentation_mask(HSI(image=steps.to(kind), wavelengths=[400.0, 450.0, 500.0, 550.0]), compactness=0.1)
        for kind in (torch.float32, dtype)
    ]
    assert torch.equal(*ids)


def test_constant_image_and_image_with_gradients() -> None:
    pytest.importorskip("skimage")
    hsi = scene(10, 10)
    hsi.image = torch.full_like(hsi.image, 3.0)
    assert_segments(plane(get_segmentation_mask(hsi), hsi))
    hsi.image = hsi.image.clone().requires_grad_()
    assert not get_segmentation_mask(hsi).requires_grad


def test_range_that_its_dtype_can_not_hold() -> None:
    pytest.importorskip("skimage")
    hsi = scene(20, 20)
    hsi.image = hsi.image / hsi.image.abs().max()
    wide = HSI(image=hsi.image * 3.4e38, wavelengths=hsi.wavelengths)
    assert torch.equal(get_segmentation_mask(wide, compactness=0.3), get_segmentation_mask(hsi, compactness=0.3))


def test_image_stays_as_it_was() -> None:
    pytest.importorskip("skimage")
    hsi = scene(20, 20, mask=torch.arange(400).reshape(20, 20) > 99)
    before = hsi.image.clone()
    get_segmentation_mask(hsi)
    assert torch.equal(hsi.image, before)


@pytest.mark.parametrize("start_label", [0, 1])
def test_ids_start_at_0_whatever_scikit_image_is_told(start_label: int) -> None:
    pytest.importorskip("skimage")
    inside = torch.arange(400).reshape(20, 20) % 20 > 4
    hsi = scene(20, 20, mask=inside)
    assert_segments(plane(get_segmentation_mask(hsi, start_label=start_label), hsi), inside.numpy())


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("felzenszwalb", {}),
        (None, {}),
        (["slic"], {}),
        ("slic", {"num_interpret_features": 0}),
        ("slic", {"num_interpret_features": -3}),
        ("slic", {"num_interpret_features": 2.5}),
        ("slic", {"colour": 1}),
        ("slic", {"n_segments": 4}),
        ("slic", {"mask": None}),
        ("patch", {"patch_size": 3}),
        ("patch", {"patch_size": 0}),
        ("patch", {"patch_size": -5}),
        ("patch", {"patch_size": 5.0}),
        ("patch", {"patch_size": "5"}),
        ("patch", {"patch_size": 40}),
    ],
    ids=str,
)
def test_bad_arguments(method: Any, params: dict[str, Any]) -> None:
    pytest.importorskip("skimage")
    with pytest.raises(MaskCreationError) as caught:
        get_segmentation_mask(scene(20, 20), method, **params)
    assert isinstance(caught.value.__cause__, ValueError | TypeError)


@pytest.mark.parametrize("hsi", [None, "image", torch.zeros(4, 5, 6)], ids=str)
def test_only_an_hsi_has_superpixels(hsi: Any) -> None:
    with pytest.raises(TypeError):
        get_segmentation_mask(hsi)


def test_without_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    hsi = scene(20, 20)
    with pytest.raises(MaskCreationError, match=r"scikit-image.*meteors_c\[masks\]") as caught:
        get_segmentation_mask(hsi)
    assert isinstance(caught.value.__cause__, ImportError)
    with pytest.raises(ImportError, match="scikit-image"):
        Lime._get_slic_segmentation_mask(hsi)
    assert get_segmentation_mask(hsi, "patch").max() == 3


# ---------------------------------------------------------------- patches


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_patches_are_numbered_row_by_row(orientation: str) -> None:
    hsi = scene(4, 6, orientation)
    expected = [[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], [3, 3, 4, 4, 5, 5], [3, 3, 4, 4, 5, 5]]
    assert plane(get_segmentation_mask(hsi, "patch", patch_size=2), hsi).tolist() == expected


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_patches_of_a_masked_image(orientation: str) -> None:
    mask = [[0, 0, 1, 1, 0, 1], [0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0]]
    hsi = scene(4, 6, orientation, torch.tensor(mask).bool())
    expected = [[0, 0, 1, 1, 0, 2], [0, 0, 1, 1, 2, 2], [3, 3, 4, 0, 0, 0], [3, 3, 4, 4, 0, 0]]
    assert plane(get_segmentation_mask(hsi, "patch", patch_size=2), hsi).tolist() == expected


def test_patch_sizes() -> None:
    hsi = scene(20, 40)
    assert len(Lime._get_patch_segmentation_mask(hsi).unique()) == 8
    assert len(Lime._get_patch_segmentation_mask(hsi, np.int64(20)).unique()) == 2
    assert plane(get_segmentation_mask(hsi, "patch", patch_size=1), hsi).flatten().tolist() == list(range(800))
    with pytest.raises(ValueError, match="patch_size"):
        Lime._get_patch_segmentation_mask(hsi, 3)


def test_patches_warn_of_parameters_that_they_do_not_have() -> None:
    with pytest.warns(UserWarning, match="num_interpret_features"):
        get_segmentation_mask(scene(20, 20), "patch", num_interpret_features=4)


# ---------------------------------------------------------------- masks and their images


def in_axes(values: torch.Tensor, orientation: str) -> torch.Tensor:
    """A (bands, rows, columns) tensor in the axes of an orientation."""
    return values.permute(order(orientation))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_masks_get_the_axes_that_they_lack(orientation: str) -> None:
    hsi = scene(5, 6, orientation)
    pixels = in_axes(torch.arange(30, dtype=torch.int16).reshape(1, 5, 6), orientation)
    bands = in_axes(torch.arange(BANDS, dtype=torch.uint8).reshape(BANDS, 1, 1), orientation)
    for given_mask in (pixels, pixels.squeeze(hsi.spectral_axis), pixels.squeeze(hsi.spectral_axis).numpy()):
        (mask,) = read_segmentation_masks(given_mask, [hsi])
        assert torch.equal(mask, pixels)
        assert mask.dtype == torch.int16
        assert torch.equal(validate_mask_shape("segmentation", hsi, given_mask), pixels.expand(hsi.image.shape))
    for given_mask in (bands, bands.flatten(), bands.flatten().numpy()):
        (mask,) = read_band_masks(given_mask, [hsi])
        assert torch.equal(mask, bands)
        assert mask.dtype == torch.uint8
    assert torch.equal(validate_mask_shape("band", hsi, bands), bands.expand(hsi.image.shape))
    for read, mask in ((read_segmentation_masks, pixels), (read_band_masks, bands)):
        whole = mask.expand(hsi.image.shape).clone()
        assert torch.equal(read(whole, [hsi])[0], whole)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize(("kind", "wrong"), [("segmentation", "band"), ("band", "segmentation")])
def test_masks_vary_along_their_own_axes(orientation: str, kind: Any, wrong: str) -> None:
    hsi = scene(5, 6, orientation)
    read = {"segmentation": read_segmentation_masks, "band": read_band_masks}[kind]
    other = torch.zeros(1, 5, 6) if wrong == "segmentation" else torch.zeros(BANDS, 1, 1)
    for mask in (in_axes(other, orientation), torch.zeros(1, 1, 1)):
        with pytest.raises(ValueError, match="orientation mismatch"):
            read(mask, [hsi])
        with pytest.raises(ValueError, match="orientation mismatch"):
            validate_mask_shape(kind, hsi, mask)


@pytest.mark.parametrize("kind", ["segmentation", "band"])
@pytest.mark.parametrize("shape", [(3, 5, 6), (BANDS, 2, 1), (6, 5, BANDS), (1, 6, 5)])
def test_masks_broadcast_to_their_image(kind: Any, shape: tuple[int, ...]) -> None:
    read = {"segmentation": read_segmentation_masks, "band": read_band_masks}[kind]
    for check in (lambda mask: read(mask, [scene(5, 6)]), lambda mask: validate_mask_shape(kind, scene(5, 6), mask)):
        with pytest.raises(ValueError, match="broadcast") as caught:
            check(torch.zeros(shape))
        assert not isinstance(caught.value, ShapeMismatchError)


@pytest.mark.parametrize("kind", ["segmentation", "band"])
def test_masks_do_not_grow_their_image(kind: Any) -> None:
    hsi = scene(7, 7, bands=1)
    read = {"segmentation": read_segmentation_masks, "band": read_band_masks}[kind]
    with pytest.raises(ShapeMismatchError):
        read(torch.zeros(3, 7, 1), [hsi])
    with pytest.raises(ShapeMismatchError):
        validate_mask_shape(kind, hsi, torch.zeros(3, 7, 1))


@pytest.mark.parametrize(("kind", "axes"), [("segmentation", [0, 1, 4]), ("band", [0, 2, 4])])
def test_numbers_of_axes(kind: Any, axes: list[int]) -> None:
    read = {"segmentation": read_segmentation_masks, "band": read_band_masks}[kind]
    for n in axes:
        with pytest.raises(ValueError, match="3D"):
            read(torch.zeros([5] * n), [scene(5, 5, bands=5)])
    with pytest.raises(ValueError, match="3D"):
        validate_mask_shape(kind, scene(5, 5, bands=5), torch.zeros(5))
    with pytest.raises(ValueError, match="mask type"):
        validate_mask_shape("spatial", scene(5, 5), torch.zeros(1, 5, 5))  # type: ignore[arg-type]


def test_one_mask_or_one_for_each_image() -> None:
    images = [scene(5, 6), scene(5, 6, seed=1)]
    pixels = [torch.arange(30).reshape(5, 6), torch.zeros(1, 5, 6)]
    bands = [torch.arange(BANDS), torch.zeros(BANDS, 1, 1)]
    for read, masks in ((read_segmentation_masks, pixels), (read_band_masks, bands)):
        assert torch.equal(*read(masks[0], images))
        for several in (masks, tuple(masks), [masks[0].numpy(), masks[1]]):
            first, second = read(several, images)
            assert torch.equal(first.squeeze(), masks[0])
            assert torch.equal(second, masks[1])
        for wrong in ([], masks * 2, [masks[0]] * 3):
            with pytest.raises(ValueError, match="2 images"):
                read(wrong, images)
        with pytest.raises(ValueError, match="1 images"):
            read(masks, images[:1])
    assert torch.equal(*read_band_masks([bands[0]], images))
    assert torch.equal(*read_band_masks((bands[0],), images))
    with pytest.raises(ValueError, match="2 images"):
        read_segmentation_masks([pixels[0]], images)


@pytest.mark.parametrize("read", [read_segmentation_masks, read_band_masks])
@pytest.mark.parametrize("mask", ["slic", 3, {"a": 1}, ["slic"], [None], [[1, 2]], np.array(["a"])], ids=str)
def test_masks_are_arrays_or_tensors(read: Any, mask: Any) -> None:
    with pytest.raises(TypeError):
        read(mask, [scene(5, 6)])
