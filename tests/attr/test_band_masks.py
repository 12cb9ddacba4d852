"""Masks of superbands: by names, wavelengths and indices, by hand; and their steps one by one."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from meteors_c import HSI, _core
from meteors_c.attr import Lime
from meteors_c.exceptions import BandSelectionError, MaskCreationError
from tests.toys import ORIENTATIONS

get_band_mask = Lime.get_band_mask
WAVELENGTHS = torch.arange(400.0, 801.0, 50.0)  # nine bands; B: 450, 500; G: 550, 600; R: 650; N: 800
WHOLE = torch.arange(400, 801, 50)


def scene(wavelengths: Any = WAVELENGTHS, orientation: str = "CHW") -> HSI:
    sizes = {"C": len(wavelengths), "H": 2, "W": 3}
    image = torch.zeros([sizes[letter] for letter in orientation])
    return HSI(image=image, wavelengths=wavelengths, orientation=orientation)


def ids_of(mask: torch.Tensor) -> list[int]:
    assert mask.dtype == torch.int64
    return mask.flatten().tolist()


@pytest.fixture
def _no_warning() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.usefixtures("_no_warning")
def test_bands_by_name(orientation: str) -> None:
    hsi = scene(orientation=orientation)
    mask, ids = get_band_mask(hsi, ["R", "G"])
    assert mask.shape == tuple(9 if letter == "C" else 1 for letter in orientation)
    assert ids_of(mask) == [0, 0, 0, 2, 2, 1, 0, 0, 0]
    assert ids == {"R": 1, "G": 2}
    repeated, _ = get_band_mask(hsi, ["R", "G"], repeat_dimensions=True)
    assert repeated.shape == hsi.image.shape
    assert torch.equal(repeated, mask.expand(hsi.image.shape))


@pytest.mark.parametrize(
    ("names", "expected", "ids"),
    [
        (["A"], [1, 1, 0, 0, 0, 0, 0, 0, 0], {"A": 1}),
        ([["R", "G"], "B"], [0, 2, 2, 1, 1, 1, 0, 0, 0], {("R", "G"): 1, "B": 2}),
        ({"R": 5, ("G", "B"): 2}, [0, 2, 2, 2, 2, 5, 0, 0, 0], {"R": 5, ("G", "B"): 2}),
        ({"R": np.int64(5)}, [0, 0, 0, 0, 0, 5, 0, 0, 0], {"R": 5}),
        ([["R"], "N"], [0, 0, 0, 0, 0, 1, 0, 0, 2], {("R",): 1, "N": 2}),
        (["R", "N", "R"], [0, 0, 0, 0, 0, 1, 0, 0, 2], {"R": 1, "N": 2}),
    ],
    ids=str,
)
@pytest.mark.usefixtures("_no_warning")
def test_forms_of_names(names: Any, expected: list[int], ids: dict[Any, int]) -> None:
    before = str(names)
    mask, found = get_band_mask(scene(), names)
    assert ids_of(mask) == expected
    assert found == ids
    assert all(type(number) is int for number in found.values())
    assert str(names) == before


def test_a_bare_string_is_one_name() -> None:
    mask, ids = get_band_mask(scene(torch.arange(2000.0, 2401.0, 50.0)), "S2")
    assert ids_of(mask) == [0, 0, 1, 1, 1, 1, 1, 1, 0]
    assert ids == {"S2": 1}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("NDVI", [0, 0, 0, 0, 0, 1, 0, 0, 1]), ("EVI", [0, 1, 1, 0, 0, 1, 0, 0, 1]), ("AVI", [0, 0, 0, 0, 0, 1, 0, 0, 1])],
)
@pytest.mark.usefixtures("_no_warning")
def test_spectral_indices_stand_for_their_bands(name: str, expected: list[int]) -> None:
    pytest.importorskip("spyndex")
    mask, ids = get_band_mask(scene(), [name])
    assert ids_of(mask) == expected
    assert ids == {name: 1}


def test_ranges_are_those_of_spyndex() -> None:
    bands = pytest.importorskip("spyndex").bands
    ranges = {name: (bands[name].min_wavelength, bands[name].max_wavelength) for name in bands}
    assert _core.band_ranges == ranges


def test_every_index_of_spyndex_is_a_set_of_bands_or_refused() -> None:
    indices = pytest.importorskip("spyndex").indices
    for name in indices:
        bands = set(indices[name].bands) & set(_core.band_ranges)
        if bands:
            found = Lime._extract_bands_from_spyndex(name)
            assert {found} == bands if isinstance(found, str) else set(found) == bands
        else:
            with pytest.raises(BandSelectionError, match=name):
                Lime._extract_bands_from_spyndex(name)


def test_plain_bands_need_no_spyndex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spyndex", None)
    mask, _ = get_band_mask(scene(), [["R", "G"], "B"])
    assert ids_of(mask) == [0, 2, 2, 1, 1, 1, 0, 0, 0]
    with pytest.raises(MaskCreationError, match=r"spyndex.*meteors_c\[masks\]") as caught:
        get_band_mask(scene(), ["R", "NDVI"])
    assert isinstance(caught.value.__cause__, ImportError)
    with pytest.raises(ImportError, match="NDVI"):
        Lime._extract_bands_from_spyndex("NDVI")


@pytest.mark.parametrize("name", ["foo", "", "r", "g", "C1"])
def test_unknown_names(name: str) -> None:
    pytest.importorskip("spyndex")
    with pytest.raises(MaskCreationError, match="Invalid band name") as caught:
        get_band_mask(scene(), ["R", name])
    assert isinstance(caught.value.__cause__, BandSelectionError)


def test_bands_that_the_image_does_not_have_are_named_once_and_dropped() -> None:
    with pytest.warns(UserWarning, match="S1.*WV.*S2") as told:
        mask, ids = get_band_mask(scene(), ["S1", "R", ["WV", "B"], ["S2", "WV"]])
    assert len(told) == 1
    assert told[0].filename == __file__
    assert ids_of(mask) == [0, 3, 3, 0, 0, 2, 0, 0, 0]
    assert ids == {"R": 2, ("WV", "B"): 3}


def test_bands_between_two_wavelengths_are_dropped() -> None:
    with pytest.warns(UserWarning, match="RE3"):  # 765-795 nm
        mask, ids = get_band_mask(scene(), {"RE3": 4, "R": 9})
    assert ids_of(mask) == [0, 0, 0, 0, 0, 9, 0, 0, 0]
    assert ids == {"R": 9}


@pytest.mark.parametrize("names", ["S2", ["S2"], [["S1", "S2"], "WV"], {"S2": 3}, [], {}], ids=str)
def test_no_label_left(names: Any) -> None:
    with pytest.raises(MaskCreationError, match="label") as caught:
        get_band_mask(scene(), names)
    assert isinstance(caught.value.__cause__, BandSelectionError)


@pytest.mark.parametrize(
    "names",
    [("R", "G"), [("R", "G")], [1], [["R", 1]], [[]], {"R": "1"}, {"R": 1.0}, {1: 1}, {("R", 1): 1}, 5],
    ids=str,
)
def test_other_forms_of_names_are_refused(names: Any) -> None:
    with pytest.raises(MaskCreationError):
        get_band_mask(scene(), names)


# ---------------------------------------------------------------- overlaps and ids


def test_of_labels_that_overlap_the_first_keeps_its_bands() -> None:
    with pytest.warns(UserWarning, match="overlap.*A and B") as told:
        mask, ids = get_band_mask(scene(), ["A", "B"])
    assert len(told) == 1
    assert ids_of(mask) == [1, 1, 2, 0, 0, 0, 0, 0, 0]
    assert ids == {"A": 1, "B": 2}
    with pytest.warns(UserWarning, match="overlap"):
        mask, _ = get_band_mask(scene(), {"B": 1, "A": 2})
    assert ids_of(mask) == [2, 1, 1, 0, 0, 0, 0, 0, 0]


def test_a_label_that_others_cover_is_dropped() -> None:
    with pytest.warns(UserWarning, match="overlap|dropped") as told:
        mask, ids = get_band_mask(scene(), band_indices={"a": (0, 3), "c": [5], "b": [1, 2], "d": [2, 3]})
    assert len(told) == 2
    assert "dropped: b" in str(told[1].message)
    assert ids_of(mask) == [1, 1, 1, 4, 0, 2, 0, 0, 0]
    assert ids == {"a": 1, "c": 2, "d": 4}


def test_ids_are_unique() -> None:
    with pytest.raises(MaskCreationError, match="unique"):
        get_band_mask(scene(), {"R": 3, "G": 3})


def test_an_id_that_bands_without_a_label_have_too_is_told() -> None:
    with pytest.warns(UserWarning, match="id of R"):
        get_band_mask(scene(), {"R": 0, "G": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask, ids = get_band_mask(scene(torch.tensor([650.0, 550.0])), {"R": 0, "G": 1})
    assert ids_of(mask) == [0, 1]
    assert ids == {"R": 0, "G": 1}


# ---------------------------------------------------------------- wavelengths


@pytest.mark.parametrize("wavelengths", [WAVELENGTHS, WAVELENGTHS.double(), WHOLE, WHOLE.to(torch.int16)], ids=str)
@pytest.mark.usefixtures("_no_warning")
def test_bands_by_wavelength(wavelengths: torch.Tensor) -> None:
    given_bands = {
        "one": 450,
        ("several", "of them"): [800.0, 400],
        "range": (500, 550.0),
        "ranges": [(690, 760), (600, 640)],
    }
    mask, ids = get_band_mask(scene(wavelengths), band_wavelengths=given_bands)
    assert ids_of(mask) == [2, 1, 3, 3, 4, 0, 4, 4, 2]
    assert ids == {"one": 1, ("several", "of them"): 2, "range": 3, "ranges": 4}


@pytest.mark.usefixtures("_no_warning")
def test_ranges_include_both_ends_and_are_cut_to_the_image() -> None:
    mask, _ = get_band_mask(scene(), band_wavelengths={"a": (-50, 400), "b": (450, 550), "c": (750, 1e9)})
    assert ids_of(mask) == [1, 2, 2, 2, 0, 0, 0, 3, 3]


@pytest.mark.parametrize(
    "value",
    [
        *(451, 900, -450, [450, 451], [], float("nan"), True, "450", None, {450}, torch.tensor([450.0])),
        *((), (450,), (450, 500, 550), [450, (500, 600)], (float("nan"), 500), (400, float("nan"))),
        *((500, 500), (600, 500), (451, 499), (100, 399), (801, 900)),
        *([(400, 500), (801, 900)], [(400, 500), (451, 499)]),
    ],
    ids=str,
)
def test_wavelengths_that_the_image_does_not_have(value: Any) -> None:
    with pytest.raises(MaskCreationError):
        get_band_mask(scene(), band_wavelengths={"a": value})


@pytest.mark.parametrize("value", [(451, 499), (801, 900), (100, 399), [(400, 500), (801, 900)]], ids=str)
def test_a_range_without_a_band_says_what_the_image_covers(value: Any) -> None:
    with pytest.raises(MaskCreationError, match="400-800 nm"):
        get_band_mask(scene(), band_wavelengths={"a": value})


def test_a_wavelength_of_several_bands_is_ambiguous() -> None:
    hsi = scene(torch.tensor([400.0, 500.0, 500.0]))
    with pytest.raises(MaskCreationError, match="2 bands"):
        get_band_mask(hsi, band_wavelengths={"a": 500})
    mask, _ = get_band_mask(hsi, band_wavelengths={"a": (450, 500)})
    assert ids_of(mask) == [0, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_decimals_are_compared_in_the_dtype_of_the_image(dtype: torch.dtype) -> None:
    hsi = scene(torch.tensor([450.43, 500.43, 550.43], dtype=dtype))
    mask, _ = get_band_mask(hsi, band_wavelengths={"one": 500.43})
    assert ids_of(mask) == [0, 1, 0]
    mask, _ = get_band_mask(hsi, band_wavelengths={"range": (450.43, 500.43)})
    assert ids_of(mask) == [1, 1, 0]


@pytest.mark.parametrize(
    "value", [450.9, [450, 500.5], (450.9, 560), (450, 560.5), [(450, 560.5)], (450, float("inf"))]
)
def test_fractions_are_refused_where_wavelengths_are_whole_numbers(value: Any) -> None:
    with pytest.raises(MaskCreationError, match="whole"):
        get_band_mask(scene(WHOLE), band_wavelengths={"a": value})


@given(
    st.permutations(list(range(9))),
    st.lists(st.tuples(st.integers(350, 820), st.integers(50, 300)), min_size=1, max_size=4),
)
def test_bands_are_found_by_wavelength_in_any_order(at: list[int], ranges: list[tuple[int, int]]) -> None:
    """Each band has the id of the first range that holds its wavelength, wherever it stands."""
    wavelengths = WAVELENGTHS[at]
    given_bands = {str(i): (low, low + width) for i, (low, width) in enumerate(ranges)}
    inside = [[low <= w <= low + width for w in wavelengths.tolist()] for low, width in ranges]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not all(map(any, inside)):
            with pytest.raises(MaskCreationError):
                get_band_mask(scene(wavelengths), band_wavelengths=given_bands)
            return
        mask, ids = get_band_mask(scene(wavelengths), band_wavelengths=given_bands)
    expected = [next((i for i, row in enumerate(inside, 1) if row[band]), 0) for band in range(9)]
    assert ids_of(mask) == expected
    assert set(ids.values()) == set(expected) - {0}


@given(st.permutations(list(range(9))), st.lists(st.sampled_from(["A", "B", "G", "R", "RE1", "RE2", "N"]), min_size=1))
def test_bands_of_a_name_are_those_in_its_range(at: list[int], names: list[str]) -> None:
    wavelengths = WAVELENGTHS[at]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask, ids = get_band_mask(scene(wavelengths), names)
    labels = {number: name for name, number in ids.items()}
    for wavelength, number in zip(wavelengths.tolist(), ids_of(mask), strict=True):
        holding = [name for name in names if _core.band_ranges[name][0] <= wavelength <= _core.band_ranges[name][1]]
        assert labels.get(number) == (holding[0] if holding else None)


# ---------------------------------------------------------------- indices


@pytest.mark.usefixtures("_no_warning")
def test_bands_by_index() -> None:
    given_bands = {"one": 1, "several": [8, np.int64(0)], "range": (2, 4), "ranges": [(6, 8), (4, 5)]}
    mask, ids = get_band_mask(scene(), band_indices=given_bands)
    assert ids_of(mask) == [2, 1, 3, 3, 4, 0, 4, 4, 2]
    assert ids == {"one": 1, "several": 2, "range": 3, "ranges": 4}


@pytest.mark.usefixtures("_no_warning")
def test_ranges_of_indices_are_half_open_and_cut_to_the_image() -> None:
    mask, _ = get_band_mask(scene(), band_indices={"a": (-3, 2), "b": (7, 30)})
    assert ids_of(mask) == [1, 1, 0, 0, 0, 0, 0, 2, 2]


@pytest.mark.parametrize(
    "value",
    [
        *(9, -1, [0, -1], [0, 9], [], 1.0, [1.5], True, "1", None, (), (1,), (1, 2, 3), [1, (2, 4)], (1.0, 3.0)),
        *((3, 3), (5, 3), (9, 12), (-5, 0), [(0, 2), (9, 12)], range(3), np.array([1])),
    ],
    ids=str,
)
def test_indices_that_the_image_does_not_have(value: Any) -> None:
    with pytest.raises(MaskCreationError):
        get_band_mask(scene(), band_indices={"a": value})


# ---------------------------------------------------------------- the call


def test_the_first_that_is_given_is_used(caplog: pytest.LogCaptureFixture) -> None:
    several = {"band_indices": {"i": 0}, "band_wavelengths": {"w": 450}}
    with caplog.at_level(logging.INFO, logger="meteors_c"):
        assert get_band_mask(scene(), ["R"], **several)[1] == {"R": 1}
        assert get_band_mask(scene(), **several)[1] == {"w": 1}
    assert len(caplog.records) == 2
    caplog.clear()
    get_band_mask(scene(), ["R"])
    assert not caplog.records


def test_nothing_given() -> None:
    with pytest.raises(MaskCreationError, match="band_names"):
        get_band_mask(scene())


@pytest.mark.parametrize("argument", ["band_indices", "band_wavelengths"])
@pytest.mark.parametrize("value", [[450], 450, {1: 450}, {("R", 1): 450}, {}], ids=str)
def test_bands_are_a_dict_by_label(argument: str, value: Any) -> None:
    with pytest.raises(MaskCreationError):
        get_band_mask(scene(), **{argument: value})


@pytest.mark.parametrize("hsi", [None, "image", torch.zeros(9, 2, 3)], ids=str)
def test_only_an_hsi_has_superbands(hsi: Any) -> None:
    with pytest.raises(TypeError):
        get_band_mask(hsi, ["R"])


def test_device() -> None:
    assert get_band_mask(scene(), ["R"])[0].device.type == "cpu"
    assert get_band_mask(scene(), ["R"], device="meta")[0].device.type == "meta"
    with pytest.raises(MaskCreationError, match="device"):
        get_band_mask(scene(), ["R"], device="abacus")


# ---------------------------------------------------------------- steps


def test_names_as_keys() -> None:
    indexable = Lime._make_band_names_indexable
    assert indexable(["R", "G"]) == ("R", "G")
    assert indexable(("R",)) == ("R",)
    assert indexable("R") == "R"
    for wrong in (["R", 1], 3, None):
        with pytest.raises(TypeError):
            indexable(wrong)


def test_bands_that_names_stand_for() -> None:
    pytest.importorskip("spyndex")
    extract = Lime._extract_bands_from_spyndex
    assert extract("R") == extract(["R"]) == extract(("R", "R")) == "R"
    assert extract(("R", "G")) == ("R", "G")
    assert extract("NDVI") == extract(["NDVI"]) == ("N", "R")
    assert extract(["R", "NDVI"]) == ("R", "N")
    with pytest.raises(BandSelectionError):
        extract([])
    with pytest.raises(TypeError):
        extract(3)


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ((450, 600), [(1, 5)]),
        ([(450, 600), (700, 710)], [(1, 5), (6, 7)]),
        ((451, 499), [(2, 2)]),
        ((900, 1000), [(9, 9)]),
        ((100, 200), [(0, 0)]),
        ([], []),
    ],
    ids=str,
)
def test_wavelengths_to_indices(ranges: Any, expected: list[tuple[int, int]]) -> None:
    assert Lime._convert_wavelengths_to_indices(WAVELENGTHS, ranges) == expected
    assert Lime._convert_wavelengths_to_indices(WHOLE, ranges) == expected


def test_wavelengths_to_indices_where_they_do_not_ascend() -> None:
    convert = Lime._convert_wavelengths_to_indices
    assert convert(torch.arange(7.0), (10, 11)) == [(7, 7)]
    assert convert(WAVELENGTHS.flip(0), (450, 600)) == [(4, 8)]
    assert convert(torch.tensor([400.0, 500.0, 450.0, 550.0]), (400, 460)) == [(0, 1), (2, 3)]
    assert convert(WHOLE, (449.9, 600.1)) == [(1, 5)]
    assert convert(WHOLE, (450.5, 599.9)) == [(2, 4)]


def test_ranges_to_indices() -> None:
    union = Lime._get_indices_from_wavelength_indices_range
    assert sorted(union(WAVELENGTHS, [(1, 3), (2, 5)])) == [1, 2, 3, 4]
    assert sorted(union(WAVELENGTHS, [(-3, 2), (7, 20)])) == [0, 1, 7, 8]
    assert union(WAVELENGTHS, []) == []
    for wrong in ([(3, 3)], [(3, 2)], [(10, 20)], [(1.0, 3.0)]):
        with pytest.raises(ValueError, match="range"):
            union(WAVELENGTHS, wrong)


def test_single_wavelengths_to_indices() -> None:
    convert = Lime._convert_wavelengths_list_to_indices
    assert convert(WAVELENGTHS, [500, 450.0]) == [2, 1]
    assert convert(WAVELENGTHS, []) == []
    assert convert(torch.tensor([450.43, 500.43]), [500.43]) == [1]
    for wavelengths, wrong in ((WAVELENGTHS, [450.5]), (WHOLE, [450.9]), (torch.tensor([4.0, 4.0]), [4])):
        with pytest.raises(ValueError, match="nm"):
            convert(wavelengths, wrong)


def test_names_to_indices() -> None:
    pytest.importorskip("spyndex")
    convert = Lime._get_band_wavelengths_indices_from_band_names
    assert convert(WAVELENGTHS, ["AVI"]) == ({"AVI": [8, 5]}, {"AVI": 1})
    assert convert(WAVELENGTHS, "R") == ({"R": [5]}, {"R": 1})
    assert convert(WAVELENGTHS, ["R", "S2"]) == ({"R": [5], "S2": []}, {"R": 1, "S2": 2})
    assert convert(WAVELENGTHS, {"R": 3, ("S2", "R"): 7}) == ({"R": [5], ("S2", "R"): [5]}, {"R": 3, ("S2", "R"): 7})
    assert convert(WAVELENGTHS, []) == ({}, {})
    with pytest.raises(BandSelectionError):
        convert(WAVELENGTHS, ["foo"])
    for wrong in (5, ("R", "G"), None):
        with pytest.raises(TypeError):
            convert(WAVELENGTHS, wrong)


def test_bands_to_indices() -> None:
    by_wavelength = Lime._get_band_indices_from_band_wavelengths
    by_index = Lime._get_band_indices_from_input_band_indices
    assert by_wavelength(WAVELENGTHS, {"a": 450.0, "b": [550, 500], "c": []}) == {"a": [1], "b": [3, 2], "c": []}
    assert by_index(WAVELENGTHS, {"a": 1, "b": [2, 1], "c": (3, 5)}) == {"a": [1], "b": [2, 1], "c": [3, 4]}
    for convert in (by_wavelength, by_index):
        with pytest.raises(TypeError, match="dictionary"):
            convert(WAVELENGTHS, [450])
        with pytest.raises(ValueError, match="segment a/b"):
            convert(WAVELENGTHS, {("a", "b"): (5, 3)})


def test_overlapping_segments() -> None:
    check = Lime._check_overlapping_segments
    with pytest.warns(UserWarning, match="a/c and b") as told:
        assert check({("a", "c"): [1, 2], "b": [2, 3], "d": [2]}) is None
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check({"a": [1, 2], "b": [3], "c": []})


def test_ids_of_labels() -> None:
    validate = Lime._validate_and_create_dict_labels_to_segment_ids
    assert validate(None, ["a", ("b", "c")]) == {"a": 1, ("b", "c"): 2}
    assert validate({"a": 4, "b": 2}, ["a", "b"]) == {"a": 4, "b": 2}
    for wrong in ({"a": 1}, {"a": 1, "b": 1}, {"a": 1, "c": 2}, {"a": 1, "b": 2, "c": 3}):
        with pytest.raises(ValueError, match="dict_labels_to_segment_ids"):
            validate(wrong, ["a", "b"])
    for wrong_type in ({"a": "1", "b": 2}, ["a", "b"]):
        with pytest.raises(TypeError):
            validate(wrong_type, ["a", "b"])


def test_mask_of_one_axis() -> None:
    create = Lime._create_single_dim_band_mask
    mask = create(scene(), {"a": [0, 1], "b": [1, 3], "c": []}, {"a": 5, "b": 2, "c": 3}, torch.device("cpu"))
    assert mask.shape == (9,)
    assert ids_of(mask) == [5, 5, 0, 2, 0, 0, 0, 0, 0]
    for wrong in (9, -1, -10):
        with pytest.raises(ValueError, match="segment a"):
            create(scene(), {"a": [0, wrong]}, {"a": 1}, "cpu")
    with pytest.raises(TypeError):
        create(scene(), {"a": [0.5]}, {"a": 1}, "cpu")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_mask_in_the_axes_of_the_image(orientation: str) -> None:
    create = Lime._create_tensor_band_mask
    hsi = scene(orientation=orientation)
    mask, ids = create(hsi, {"a": [0, 1], "b": [3]}, {"a": 7, "b": 9})
    assert mask.shape == tuple(9 if letter == "C" else 1 for letter in orientation)
    assert ids_of(mask) == [7, 7, 0, 9, 0, 0, 0, 0, 0]
    assert ids == {"a": 7, "b": 9}
    alone = create(hsi, {"a": [0]}, repeat_dimensions=True, return_dict_labels_to_segment_ids=False)
    assert alone.shape == hsi.image.shape
    with pytest.warns(UserWarning, match="overlap"):
        assert create(hsi, {"a": [0, 1], "b": [1]})[1] == {"a": 1, "b": 2}
    with pytest.raises(TypeError):
        create("image", {"a": [0]})
