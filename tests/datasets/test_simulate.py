"""The simulated fields: their physics, their randomness, and the embedded one."""

from __future__ import annotations

import numpy as np
import pytest

from meteors_c import datasets
from meteors_c.datasets import _simulate as simulate


@pytest.fixture(scope="module")
def field() -> simulate.Field:
    return simulate.simulate_fields(seed=3, fields=6, size=40)


def test_embedded_field_is_remade_bit_for_bit() -> None:
    arrays = simulate.demo_field()
    with np.load(datasets._FIELD) as stored:
        assert set(stored) == set(arrays)
        for name, made in arrays.items():
            assert stored[name].dtype == made.dtype, name
            np.testing.assert_array_equal(stored[name], made, err_msg=name)


def test_files_are_small() -> None:
    assert datasets._FIELD.stat().st_size < 2_000_000
    assert datasets._WEIGHTS.stat().st_size < 1_000_000


def test_same_seed_same_fields_other_seed_other_fields(field: simulate.Field) -> None:
    again = simulate.simulate_fields(seed=3, fields=6, size=40)
    other = simulate.simulate_fields(seed=4, fields=6, size=40)
    np.testing.assert_array_equal(field.data, again.data)
    np.testing.assert_array_equal(field.targets, again.targets)
    assert not np.array_equal(field.targets, other.targets)
    assert not np.array_equal(field.data, other.data)


def test_data_are_plausible_counts_inside_and_zero_outside(field: simulate.Field) -> None:
    assert field.data.dtype == np.int16
    assert field.data.shape == (6, 150, 40, 40)
    inside = np.broadcast_to(field.inside[:, None], field.data.shape)
    assert (field.data[~inside] == 0).all()
    assert field.data[inside].min() > 0
    assert field.data[inside].max() < simulate.SCALE
    assert (np.abs(field.inside.mean(axis=(1, 2)) - 0.6) < 0.2).all()


def test_targets_lie_in_their_ranges_and_are_independent() -> None:
    targets = np.concatenate([simulate.simulate_fields(seed, 100, 8).targets for seed in range(4)])
    low, high = simulate.TARGET_RANGES.T
    assert ((targets >= low) & (targets <= high)).all()
    off_diagonal = np.corrcoef(targets.T)[~np.eye(4, dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.2  # 4 standard errors of 400 draws


def test_given_levels_set_the_targets() -> None:
    levels = np.array([[0.0, 1.0, 0.5, 0.25]])
    targets = simulate.simulate_fields(0, 1, 8, levels).targets
    np.testing.assert_allclose(targets, [[20.0, 400.0, 160.0, 6.15]])
    with pytest.raises(ValueError, match=r"levels .*\(2, 4\).*\(1, 4\)"):
        simulate.simulate_fields(0, 2, 8, levels)


def test_no_canopy_leaves_the_soil_and_a_deep_one_hides_it() -> None:
    average = simulate.average_scene(np.full(4, 0.5))
    bare = simulate.reflectance(average._replace(cover=np.array(0.0)))
    thin = simulate.reflectance(average._replace(cover=np.array(1.0), leaf_area=np.array(1e-9)))
    np.testing.assert_allclose(thin, bare, rtol=1e-6)

    def deep(brightness: float) -> np.ndarray:
        layer = average._replace(cover=np.array(1.0), leaf_area=np.array(200.0), brightness=np.array(brightness))
        return simulate.reflectance(layer)

    np.testing.assert_allclose(deep(0.8), deep(1.2), rtol=1e-12)
    # A layer without end reflects 1 + K/S - sqrt((K/S)^2 + 2 K/S), which the red edge makes low before and high after.
    assert deep(1.0)[simulate.WAVELENGTHS.searchsorted(677.0)] < 0.05
    assert deep(1.0)[simulate.WAVELENGTHS.searchsorted(800.0)] > 0.35


def test_water_darkens_the_soil() -> None:
    soil = simulate.average_scene(np.full(4, 0.5))._replace(cover=np.array(0.0))
    dry, wet = (simulate.reflectance(soil._replace(wetness=np.array(wetness))) for wetness in (0.0, 1.0))
    assert (wet < dry).all()


def test_each_target_acts_on_its_own_bands() -> None:
    known, response = simulate.known_bands(), np.abs(simulate.band_response())
    assert (known.sum(axis=0) <= 1).all()
    assert ((known.sum(axis=1) >= 5) & (known.sum(axis=1) <= 30)).all()
    peaks = simulate.WAVELENGTHS[response.argmax(axis=1)]
    np.testing.assert_allclose(peaks, [550.0, 938.37, 717.0, 480.0], atol=6.0)
    assert response[known].min() > 20.0
    assert (np.where(known, 0.0, response).sum(1) < 0.15 * response.sum(1)).all()


def test_response_is_what_fields_show() -> None:
    """Two noisy fields that differ in one target differ where, and as, the response says."""
    low, high = (simulate.simulate_fields(11, 1, 64, np.array([[0.5, level, 0.5, 0.5]])) for level in (0.0, 1.0))
    change = (high.data[0] - low.data[0].astype(float))[:, low.inside[0]].mean(axis=1)
    response = simulate.band_response()[1]
    known = simulate.known_bands()[1]
    np.testing.assert_allclose(change[known], response[known], rtol=0.4)
    assert np.abs(change[np.abs(response) < 0.1]).max() < 2.0  # counts: noise of the mean


def test_outlines_differ_and_are_not_round(field: simulate.Field) -> None:
    axis = np.arange(40) - 19.5
    distance = np.hypot(axis[:, None], axis)
    for inside in field.inside:
        assert distance[inside].max() > distance[~inside].min() + 2.0
    assert len(np.unique(field.inside.reshape(6, -1), axis=0)) == 6
