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
    if normalize:
        low = x[x != 0].min() if apply_min_cutoff else x.min()
        if x.max() > low:
            x = (x - low) / (x.max() - low)
        if apply_min_cutoff:
            x = torch.where(x == x.min(), 0.0, x)
    return x * mask if apply_mask else x


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
    descending = HSI(image=image()[:3], wavelengths=[690.0, 650.0, 620.0])
    with pytest.raises(BandSelectionError, match="ascending"):
        descending.extract_band_by_name("R")


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
    [([580.0, 530.0, 550.0], 3), ([660.0], 7), ([640.0, 660.0], 7), ([500.0, 700.0, 850.0], 2)],
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
    with pytest.raises(BandSelectionError, match="ascending"):
        hsi._extract_central_slice_from_band([850.0, 850.0])
