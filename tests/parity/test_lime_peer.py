"""LIME is distributed as the peer's: means and spreads over seeds agree within their standard errors."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import meteors_c as mt
from tests.parity.make_peer_numbers_lime import CALLS, NUMBERS, results


@pytest.mark.parametrize("name", CALLS)
def test_distribution(name: str) -> None:
    """Each coefficient and the score; what has no spread is the same."""
    stored = json.loads(NUMBERS.read_text())[name]
    mean, deviation, seeds = np.array(stored["mean"]), np.array(stored["deviation"]), stored["seeds"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = results(mt, name, seeds)
    ours = found.std(0, ddof=1)
    error = np.sqrt((deviation**2 + ours**2) / seeds)
    assert (np.abs(found.mean(0) - mean) <= 4 * error + 1e-5).all(), (found.mean(0) - mean) / error
    # The deviation of a deviation is a part of about 1 / sqrt(2 n) of it for normal numbers, and more for coefficients
    # that a Lasso seldom keeps: those are among the small ones.
    varies = deviation > 0.03
    assert (np.abs(np.log(ours[varies] / deviation[varies])) < 0.35).all(), (ours, deviation)
    assert (ours[~varies] <= 0.05).all()
    assert (ours[deviation < 1e-5] < 1e-4).all()


def test_the_store_is_small_and_complete() -> None:
    assert set(json.loads(NUMBERS.read_text())) == set(CALLS)
    assert NUMBERS.stat().st_size < 20_000
