"""Bands and RGB pictures of an HSI, against their definition computed in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from meteors_c.exceptions import BandSelectionError
from meteors_c.hsi import HSI

WAVELENGTHS = [462.0, 500.0, 530.0, 550.0, 580.0, 600.0, 640.0, 660.0, 700.0, 850.0]
CENTRE = {"R": 7, "G": 4, "B": 1}  # R: 640, 660; G: 530, 550, 580, 600 -> 580; B: 462, 500, 530
ORIENTATIONS = ["".join(letters) for letters in itertools.permutations("CHW")]
CHOICES = [
    {"apply_mask": mask, "apply_min_cutoff": cutoff, "normalize": normalize}
    for mask, cutoff, normalize in itertools.product((True, False), repeat=3)
]


def image() -> torch.Tensor:
    """Values in 1..100 with a corner of zeros, (10, 4, 5)."""
    values = torch.randint(1, 100, (10, 4, 5))
    values[:, :2, :2] = 0
    return values


def definition(
    band: torch.Tensor, mask: torch.Tensor, apply_mask: bool, apply_min_cutoff: bool, normalize: bool
) -> torch.Tensor:
    x = band.double()
    if not normalize:
        return torch.where(mask, x, 0.0) if apply_mask else x
    valid = x.isfinite() & mask if apply_mask else x.isfinite()
    counted = x[valid & (x != 0)] if apply_min_cutoff else x[valid]
    if len(counted) and x[valid].max() > counted.min():
        x = (x - counted.min()) / (x[valid].max() - counted.min())
    if len(counted) and apply_min_cutoff:
        x = torch.where(x == x[valid].min(), 0.0, x)
    return torch.where(valid, x, 0.0)


def permuted(tensor: torch.Tensor, orientation: str) -> torch.Tensor:
    return tensor.permute(["CHW".index(letter) for letter in orientation])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("choice", CHOICES)
def test_bands_and_rgb_by_their_definition(orientation: str, choice: dict[str, bool]) -> None:
    values, mask = image(), torch.rand(10, 4, 5) > 0.3
    hsi = HSI(
        image=permuted(values.float(), orientation),
        wavelengths=WAVELENGTHS,
        orientation=orientation,
        binary_mask=permuted(mask, orientation),
    )
    before = hsi.image.clone()
    planes = {}
    for name, index in CENTRE.items():
        plane = definition(values[index], mask[index], **choice)
        planes[name] = plane if orientation.index("H") < orientation.index("W") else plane.T
        got = hsi.extract_band_by_name(name, **choice)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), planes[name], rtol=1e-6, atol=1e-7)
    axis = orientation.index("C")
    for where in (None, 0, 1, 2, -1):
        rgb = hsi.get_rgb_image(output_channel_axis=where, **choice)
        expected = torch.stack([planes[name] for name in "RGB"], dim=axis if where is None else where)
        torch.testing.assert_close(rgb.double(), expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(hsi.image, before)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"],
)
@pytest.mark.parametrize("choice", CHOICES)
def test_bands_of_every_dtype(dtype: str, choice: dict[str, bool]) -> None:
    values = image().numpy().astype(dtype)
    got = HSI(image=values, wavelengths=WAVELENGTHS, binary_mask="artificial").extract_band_by_name("R", **choice)
    floating = dtype.startswith("float")
    wanted = dtype if floating or not choice["normalize"] else "float32"
    assert got.dtype == getattr(torch, wanted)
    band = torch.from_numpy(values.astype(np.float64))
    expected = definition(band[7], band[0] != 0, **choice)
    tolerance = 1e-3 if dtype == "float16" else 1e-6
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)


def test_unsigned_bands_do_not_wrap_around() -> None:
    values = torch.tensor([0, 10, 250], dtype=torch.uint8).reshape(1, 1, 3)
    got = HSI(image=values, wavelengths=[650.0]).extract_band_by_name("R", apply_min_cutoff=True)
    assert torch.equal(got, torch.tensor([[0.0, 0.0, 1.0]]))


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_constant_bands_leave_the_image_alone(level: float) -> None:
    values = torch.full((1, 3, 4), level)
    hsi = HSI(image=values, wavelengths=[650.0])
    assert torch.equal(hsi.extract_band_by_name("R"), values[0])
    assert torch.equal(hsi.extract_band_by_name("R", apply_min_cutoff=True), torch.zeros(3, 4))
    for keywords in ({}, {"normalize": False, "apply_mask": False}):
        hsi.extract_band_by_name("R", **keywords).fill_(9)
    assert torch.equal(values, torch.full((1, 3, 4), level))


@pytest.mark.parametrize("choice", CHOICES)
def test_bands_are_differentiable(choice: dict[str, bool]) -> None:
    values = image().double().requires_grad_()
    mask = torch.rand(10, 4, 5) > 0.3
    hsi = HSI(image=values, wavelengths=WAVELENGTHS, binary_mask=mask)
    got = hsi.extract_band_by_name("R", **choice)
    torch.testing.assert_close(got.detach(), definition(values.detach()[7], mask[7], **choice))
    got.sum().backward()
    assert values.grad is not None
    assert values.grad[7].abs().sum() > 0
    assert values.grad.abs().sum() == values.grad[7].abs().sum()
    assert hsi.get_rgb_image(**choice).requires_grad


@pytest.mark.parametrize(
    ("name", "index"),
    [("Y", 5), ("G1", 3), ("R", 7), ("N", 9), ("N2", 9), ("RE1", 8)],
)
def test_the_central_band(name: str, index: int) -> None:
    values = torch.arange(10.0).reshape(10, 1, 1).expand(10, 2, 3)
    hsi = HSI(image=values, wavelengths=WAVELENGTHS)
    assert (hsi.extract_band_by_name(name, normalize=False) == index).all()


def test_the_band_table() -> None:
    table = (
        "A 400-455, B 450-530, G 510-600, G1 510-550, N 760-900, N2 850-880, R 620-690, RE1 695-715, RE2 730-750, "
        "RE3 765-795, S1 1550-1750, S2 2080-2350, T 10400-12500, T1 10600-11190, T2 11500-12510, WV 930-960, Y 585-625"
    )
    for entry in table.split(", "):
        name, limits = entry.split()
        low, high = map(float, limits.split("-"))
        for inside, wavelength in ((True, low), (True, high), (False, low - 0.01), (False, high + 0.01)):
            hsi = HSI(image=torch.ones(1, 2, 2), wavelengths=torch.tensor([wavelength], dtype=torch.float64))
            if inside:
                assert hsi.extract_band_by_name(name).shape == (2, 2)
            else:
                with pytest.raises(BandSelectionError, match=limits):
                    hsi.extract_band_by_name(name)


ORDERS = {
    "ascending": list(range(400, 1001, 20)),
    "descending": list(range(1000, 399, -20)),
    "two detectors": [*range(400, 801, 20), *range(610, 1001, 20)],
    "interleaved": [w + 10 * (i % 2) * (-1) ** (i // 2) for i, w in enumerate(range(420, 981, 20))],
    "repeated": [w for w in range(400, 1001, 40) for _ in range(3)],
    "repeated, descending": [w for w in range(1000, 399, -40) for _ in range(2)],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["R", "G", "B", "N"])
def test_the_central_band_for_any_order_of_wavelengths(order: str, name: str) -> None:
    wavelengths = np.array(ORDERS[order], dtype=float)
    low, high = {"R": (620, 690), "G": (510, 600), "B": (450, 530), "N": (760, 900)}[name]
    inside = [i for i in np.argsort(wavelengths, kind="stable") if low <= wavelengths[i] <= high]
    wanted = inside[len(inside) // 2]
    values = torch.arange(float(len(wavelengths)))[:, None, None].expand(-1, 2, 3)
    hsi = HSI(image=values, wavelengths=wavelengths)
    assert hsi.extract_band_by_name(name, normalize=False).unique().tolist() == [wanted]
    listed = wavelengths[np.random.default_rng(0).permutation(inside)]  # in any order too
    assert hsi._extract_central_slice_from_band(listed, normalize=False).unique().tolist() == [wanted]


# ---------------------------------------------------------------- what is not valid


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("nothing", [-9999.0, 65000.0, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_masked_values_do_not_change_a_picture(dtype: torch.dtype, nothing: float, graph: bool) -> None:
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[0] = False
    values = torch.rand(20, 4, 4).to(dtype)
    arguments: dict[str, Any] = {"wavelengths": torch.linspace(420, 900, 20), "binary_mask": mask}
    for cutoff in (False, True):
        dirty = torch.where(mask, values, torch.tensor(nothing, dtype=dtype)).requires_grad_(graph)
        clean = torch.where(mask, values, values[:, 1:2])  # values that do not widen the range
        picture = HSI(image=dirty, **arguments).get_rgb_image(apply_min_cutoff=cutoff)
        assert picture.dtype == dtype
        assert torch.equal(picture, HSI(image=clean, **arguments).get_rgb_image(apply_min_cutoff=cutoff))
        for colour in picture:
            assert colour[mask].aminmax() == (0, 1)
            assert not colour[~mask].any()


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("apply_mask", [False, True])
def test_the_stretch_ignores_values_that_are_not_finite(apply_mask: bool, graph: bool) -> None:
    nan, inf = float("nan"), float("inf")
    values = torch.tensor([2.0, nan, 4.0, inf, 6.0, -inf]).reshape(1, 2, 3).requires_grad_(graph)
    hsi = HSI(image=values, wavelengths=[650])
    expected = torch.tensor([[0.0, 0.0, 0.5], [0.0, 1.0, 0.0]])
    assert torch.equal(hsi.extract_band_by_name("R", apply_mask=apply_mask), expected)
    raw = hsi.extract_band_by_name("R", apply_mask=apply_mask, normalize=False)
    assert torch.equal(raw.isfinite(), expected.new_tensor([[1, 0, 1], [0, 1, 0]]).bool())


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("cutoff", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_bands_without_a_valid_value_are_zero(dtype: torch.dtype, cutoff: bool, graph: bool) -> None:
    for values, mask in ((7.0, False), (float("nan"), True), (float("inf"), False), (0.0, True)):
        image = torch.full((1, 3, 4), values, dtype=dtype).requires_grad_(graph)
        hsi = HSI(image=image, wavelengths=[650], binary_mask=torch.full((3, 4), mask))
        assert torch.equal(hsi.extract_band_by_name("R", apply_min_cutoff=cutoff), torch.zeros(3, 4, dtype=dtype))


def test_one_valid_level_beside_masked_values() -> None:
    values = torch.tensor([[[5.0, -9999.0, 5.0]]])
    hsi = HSI(image=values, wavelengths=[650], binary_mask=[[1, 0, 1]])
    assert hsi.extract_band_by_name("R").tolist() == [[5, 0, 5]]  # one level stays, as without a mask
    assert hsi.extract_band_by_name("R", apply_min_cutoff=True).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_range_that_is_too_large_for_the_dtype(dtype: torch.dtype, graph: bool) -> None:
    most = torch.finfo(dtype).max
    values = torch.tensor([-most, 0.0, most], dtype=dtype).reshape(1, 1, 3).requires_grad_(graph)
    got = HSI(image=values, wavelengths=[650]).extract_band_by_name("R")
    torch.testing.assert_close(got.detach(), torch.tensor([[0.0, 0.5, 1.0]], dtype=dtype))


def test_half_precision_is_read_exactly() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        most = torch.finfo(dtype).max
        values = torch.tensor([most, -most, torch.finfo(dtype).tiny, 2.0**-24, 1.0, 0.0], dtype=dtype).reshape(1, 2, 3)
        for orientation in ("CHW", "HCW", "WHC"):
            hsi = HSI(image=values, wavelengths=[650]).change_orientation(orientation)
            band = hsi.change_orientation("CHW").extract_band_by_name("R", normalize=False)
            assert torch.equal(band, values[0])
            assert torch.equal(hsi.get_image(), hsi.image)


# ---------------------------------------------------------------- pictures of any image


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("graph", [False, True])
def test_a_picture_is_red_green_and_blue_where_they_are(orientation: str, graph: bool) -> None:
    values = permuted(image().float(), orientation).requires_grad_(graph)
    hsi = HSI(image=values, wavelengths=WAVELENGTHS, orientation=orientation, binary_mask="artificial")
    for keywords in ({}, {"apply_mask": False, "apply_min_cutoff": True, "output_channel_axis": -1}):
        picture, note = hsi.get_picture(**keywords)
        assert note is None
        assert torch.equal(picture, hsi.get_rgb_image(**keywords))


@pytest.mark.parametrize(
    ("wavelengths", "rgb", "note"),
    [
        ([1000, 1300, 1600], (2, 1, 0), "bands at 1000, 1300, 1600 nm"),
        ([1600, 1000, 1300], (0, 2, 1), "bands at 1000, 1300, 1600 nm"),
        ([1500.5], (0, 0, 0), "band at 1500.5 nm"),
        ([900, 800], (0, 0, 1), "bands at 800, 900 nm"),
        ([460, 550], (1, 1, 0), "bands at 460, 550 nm"),  # red alone is missing
        ([700, 700, 700], (2, 1, 0), "bands at 700, 700, 700 nm"),
        (list(range(1000, 1600, 100)), (5, 3, 1), "bands at 1100, 1300, 1500 nm"),
        (list(range(2400, 1200, -100)), (1, 5, 9), "bands at 1500, 1900, 2300 nm"),
    ],
)
def test_a_picture_of_bands_outside_the_visible(wavelengths: list[float], rgb: tuple[int, ...], note: str) -> None:
    values = torch.rand(len(wavelengths), 4, 5)
    mask = torch.rand(4, 5) > 0.3
    hsi = HSI(image=torch.where(mask, values, float("nan")), wavelengths=wavelengths, binary_mask=mask)
    assert hsi._substitute_bands() == rgb
    picture, words = hsi.get_picture()
    assert words == note
    expected = torch.stack([definition(values[i], mask, True, False, True) for i in rgb])
    torch.testing.assert_close(picture.double(), expected, rtol=1e-6, atol=1e-7)
    turned, words = hsi.change_orientation("HWC").get_picture(output_channel_axis=0)
    assert torch.equal(turned, picture)
    with pytest.raises(BandSelectionError):
        hsi.get_rgb_image()


def test_a_picture_refuses() -> None:
    hsi = HSI(image=image(), wavelengths=range_from(1000))
    with pytest.raises(TypeError, match="output_channel_axis"):
        hsi.get_picture(output_channel_axis="C")  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        hsi.get_picture(output_channel_axis=3)
    hsi.wavelengths = [1000.0]
    with pytest.raises(ValueError, match="1 wavelengths and 10 bands"):
        hsi.get_picture()


def test_bands_that_are_not_there() -> None:
    hsi = HSI(image=image(), wavelengths=WAVELENGTHS)
    for name in ("ZZ", "r", "", None, 3, ["R"]):
        with pytest.raises(BandSelectionError, match="not found"):
            hsi.extract_band_by_name(name)  # type: ignore[arg-type]
    with pytest.raises(BandSelectionError, match=r"WV.*930-960 nm.*462-850 nm"):
        hsi.extract_band_by_name("WV")
    with pytest.raises(NotImplementedError, match="'mean'"):
        hsi.extract_band_by_name("R", selection_method="mean")
    with pytest.raises(BandSelectionError, match=r"band R "):
        HSI(image=image(), wavelengths=range_from(1000)).get_rgb_image()


def range_from(start: int) -> list[int]:
    return list(range(start, start + 10))


def test_the_output_channel_axis_is_an_axis() -> None:
    hsi = HSI(image=image(), wavelengths=WAVELENGTHS)
    for axis in (3, -4):
        with pytest.raises(IndexError):
            hsi.get_rgb_image(output_channel_axis=axis)
    with pytest.raises(TypeError, match="output_channel_axis"):
        hsi.get_rgb_image(output_channel_axis="C")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wavelengths", "index"),
    [([580.0, 530.0, 550.0], 3), ([660.0], 7), ([640.0, 660.0], 7), ([500.0, 700.0, 850.0], 8)],
)
@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_a_slice_by_wavelengths(wavelengths: list[float], index: int, kind: Any) -> None:
    values = torch.arange(10.0).reshape(10, 1, 1).expand(10, 2, 3)
    hsi = HSI(image=values, wavelengths=WAVELENGTHS)
    assert (hsi._extract_central_slice_from_band(kind(wavelengths), normalize=False) == index).all()


def test_a_slice_compares_wavelengths_at_the_images_precision() -> None:
    values = torch.arange(2.0).reshape(2, 1, 1)
    hsi = HSI(image=values, wavelengths=[462.08, 938.37])  # float32
    assert hsi._extract_central_slice_from_band([938.37], normalize=False) == 1
    whole = HSI(image=values, wavelengths=[500, 600])
    with pytest.raises(ValueError, match=r"500\.5"):
        whole._extract_central_slice_from_band([500.5])


def test_a_slice_by_wavelengths_refuses() -> None:
    hsi = HSI(image=image(), wavelengths=WAVELENGTHS)
    with pytest.raises(ValueError, match="551"):
        hsi._extract_central_slice_from_band([530.0, 551.0])
    with pytest.raises(ValueError, match="at least one"):
        hsi._extract_central_slice_from_band([])
    with pytest.raises(TypeError, match="wavelengths"):
        hsi._extract_central_slice_from_band(530.0)
