"""How superbands may be written down."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meteors_c.attr._band_masks import (
    adjust_and_validate_segment_ranges,
    validate_band_format,
    validate_band_names,
    validate_segment_format,
)

WAVELENGTHS = torch.arange(400.0, 801.0, 50.0)


def test_band_names_are_checked() -> None:
    for right in (["R", ["G", "B"]], {"R": 1, ("G", "B"): -2}, [], {}):
        validate_band_names(right)  # type: ignore[arg-type]
    for wrong in ("R", ("R",), [("R", "G")], [["R", ["G"]]], [1], {"R": 1.0}, {"R": "1"}, {1: 1}, {("R", 1): 1}, None):
        with pytest.raises(TypeError, match="band_names"):
            validate_band_names(wrong)  # type: ignore[arg-type]


def test_bands_are_checked() -> None:
    for right in (1, 1.5, np.float32(1), (1, 2), [1, 2.5], [(1, 2), (3, 4)], []):
        validate_band_format({"a": right, ("b", "c"): right}, "bands")
    for wrong in ("a", None, (), (1,), (1, 2, 3), [(1, 2), 3], [1, "a"], ("a", 2), [(1, 2, 3)], True, range(3)):
        with pytest.raises(TypeError, match="my_bands") as caught:
            validate_band_format({"the label": wrong}, "my_bands")
        assert "the label" not in str(caught.value)
    for wrong_key in (1, ("R", 1), None):
        with pytest.raises(TypeError, match="keys should be string or tuple of strings"):
            validate_band_format({wrong_key: 1}, "bands")  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="dictionary"):
        validate_band_format([1], "bands")  # type: ignore[arg-type]


def test_ranges_are_checked() -> None:
    assert validate_segment_format((1, 2)) == [(1, 2)]
    assert validate_segment_format([(1, 2), (3, 4)]) == [(1, 2), (3, 4)]
    assert validate_segment_format((1.0, 2.0), float) == [(1.0, 2.0)]
    assert validate_segment_format([]) == []
    for wrong in ([1, 2], [[1, 2]], (1.0, 2.0), (2, 1), (1, 1), (1, 2, 3), "ab", None, [(1, "a")]):
        with pytest.raises(ValueError, match="range"):
            validate_segment_format(wrong)
    with pytest.raises(ValueError, match="float"):
        validate_segment_format((1, 2), float)


def test_ranges_are_cut_to_the_bands() -> None:
    assert adjust_and_validate_segment_ranges(WAVELENGTHS, [(-2, 3), (5, 30), (0, 9)]) == [(0, 3), (5, 9), (0, 9)]
    assert adjust_and_validate_segment_ranges(WAVELENGTHS, []) == []
    for wrong in ((9, 30), (-5, 0), (-5, -1)):
        with pytest.raises(ValueError, match="out of bounds"):
            adjust_and_validate_segment_ranges(WAVELENGTHS, [(0, 2), wrong])
