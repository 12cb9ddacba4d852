"""LIME on tensors gives the peer's numbers."""

from __future__ import annotations

import numpy as np
import pytest

import meteors_c as mt
from meteors_c.attr import lime_base
from tests.parity.make_peer_numbers_lime_base import CALLS, NUMBERS, RUNS, answer, runs


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(NUMBERS) as file:
        return dict(file)


@pytest.mark.parametrize("name", CALLS)
def test_numbers(stored: dict[str, np.ndarray], name: str) -> None:
    """The peer fits in float32."""
    found = answer(mt, lime_base, stored, name)
    wanted = {key.removeprefix(f"{name}: "): value for key, value in stored.items() if key.startswith(f"{name}: ")}
    assert found.keys() == wanted.keys()
    for what, values in found.items():
        assert values.shape == wanted[what].shape
        np.testing.assert_allclose(values, wanted[what], rtol=1e-4, atol=1e-5)


def test_numbers_of_drawn_samples(stored: dict[str, np.ndarray]) -> None:
    """Means of many runs lie within five standard errors of each other, and deviations agree."""
    found = runs(mt, lime_base, stored, RUNS)
    deviation = stored["runs: deviation"]
    error = np.sqrt((found.var(0, ddof=1) + deviation**2) / RUNS)
    assert (np.abs(found.mean(0) - stored["runs: mean"]) < 5 * error).all()
    np.testing.assert_allclose(found.std(0, ddof=1), deviation, rtol=0.3)
