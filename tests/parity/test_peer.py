"""The peer's own numbers, stored by make_peer_numbers.py, come out here too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import meteors_c as mt
from tests.parity.make_peer_numbers import CALLS, NUMBERS, answer, names
from tests.toys import PATHS, each_value

# Every call in float64 on the smooth network; on the one with kinks in the other ways, in turn.
OTHERS = [f"{path}, {dtype}" for path in PATHS for dtype in ("float32", "float64")]
CASES = [(name, "shortcut, float64") for name in CALLS] + each_value([f"relu {name}" for name in CALLS], OTHERS)


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(NUMBERS) as file:
        return dict(file)


@pytest.mark.parametrize(("name", "way"), CASES)
def test_numbers(stored: dict[str, np.ndarray], name: str, way: str) -> None:
    path, number = way.split(", ")
    dtype = getattr(torch, number)
    with mt.options(**PATHS[path]):
        found = answer(mt, stored, name, dtype)
    wanted = stored[f"{name}: attributes"]
    # The peer rounds the steps and weights of integrated gradients, and all scores, to float32.
    tolerance = 1e-5 if dtype == torch.float32 else 1e-7 if "integrated" in name else 1e-12
    assert found["attributes"].dtype == torch.empty(0, dtype=dtype).numpy().dtype
    assert found["attributes"].shape == wanted.shape
    assert np.abs(found["attributes"] - wanted).max() <= tolerance * np.abs(wanted).max()
    assert ("score" in found) == (f"{name}: score" in stored)
    if "score" in found:
        atol = tolerance * np.abs(wanted).sum()
        np.testing.assert_allclose(found["score"], stored[f"{name}: score"], rtol=0, atol=atol)


def test_the_store_is_small_and_complete(stored: dict[str, np.ndarray]) -> None:
    assert NUMBERS.stat().st_size < 100_000
    assert {key.removesuffix(": attributes") for key in stored if key.endswith(": attributes")} == set(names())
