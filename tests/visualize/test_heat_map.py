from __future__ import annotations

import warnings

import numpy as np
import pytest

from meteors_c.visualize._heat_map import scale_heat_map


def test_the_divisor_covers_98_percent_of_the_total():
    values = np.concatenate([np.full(98, 1.0), [2.0]])  # sorted sums reach 98 of 100 at the last 1
    scaled = scale_heat_map(values)
    np.testing.assert_array_equal(scaled, np.ones(99))
    np.testing.assert_array_equal(scale_heat_map(np.concatenate([np.full(97, 1.0), [3.0]]))[:97], 1 / 3)


def test_scaling_is_odd_and_bounded():
    values = np.random.default_rng(0).normal(size=(20, 30))
    scaled = scale_heat_map(values)
    assert np.abs(scaled).max() == 1.0
    np.testing.assert_array_equal(scale_heat_map(-values), -scaled)
    np.testing.assert_allclose(scale_heat_map(1000 * values), scaled, rtol=1e-12)
    inside = np.abs(scaled) < 1
    ratios = scaled[inside] / values[inside]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-12)


def test_an_all_zero_map_is_flat_and_warns():
    with pytest.warns(UserWarning, match="zero"):
        assert not scale_heat_map(np.zeros((2, 3))).any()


def test_a_tiny_map_is_scaled_and_warns():
    with pytest.warns(UserWarning, match="nearly"):
        np.testing.assert_allclose(scale_heat_map(np.array([1e-9, -1e-9])), [1.0, -1.0])


def test_an_ordinary_map_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scale_heat_map(np.array([1.0, 2.0]))


def test_values_that_are_not_finite_are_blank_and_do_not_set_the_scale():
    scaled = scale_heat_map(np.array([1.0, -1.0, np.nan, np.inf, -np.inf]))
    np.testing.assert_array_equal(scaled, [1.0, -1.0, np.nan, np.nan, np.nan])
    assert np.isnan(scale_heat_map(np.full((2, 2), np.nan))).all()


def test_only_valid_values_set_the_scale():
    values, valid = np.array([1.0, -2.0, 100.0, np.inf]), np.array([True, True, False, False])
    np.testing.assert_array_equal(scale_heat_map(values, valid), [0.5, -1.0, 1.0, np.nan])


def test_where_no_value_is_valid_all_count():
    np.testing.assert_array_equal(scale_heat_map(np.array([1.0, -2.0]), np.zeros(2, dtype=bool)), [0.5, -1.0])
