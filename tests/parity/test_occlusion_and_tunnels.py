"""Occlusion and the noise tunnels give the peer's numbers, and those of plain torch on models of several kinds."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import HyperNoiseTunnel, NoiseTunnel, Occlusion
from tests.parity.make_peer_numbers_occlusion import CALLS, INNERS, NUMBERS, answer
from tests.parity.reference import assert_close
from tests.parity.reference_perturbation import inner, occlusion, tunnel
from tests.toys import (
    PATHS,
    Grid,
    Segmenter,
    convolutional,
    cube,
    each_pair,
    each_value,
    explainable,
    smooth,
    spatial_mask,
    values,
)

DTYPES = [torch.float64, torch.float32]


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(NUMBERS) as file:
        return dict(file)


# ---------------------------------------------------------------- the peer


WAYS = ["shortcut, float64", "shortcut, float32", "python calls, float64", "plain, float32"]


@pytest.mark.parametrize(
    ("name", "way"), [(name, WAYS[(i + i // len(WAYS)) % len(WAYS)]) for i, name in enumerate(CALLS)]
)
def test_numbers(stored: dict[str, np.ndarray], name: str, way: str) -> None:
    """Neighbours in the table go in different ways."""
    path, number = way.split(", ")
    dtype = getattr(torch, number)
    with mt.options(**PATHS[path]):
        found = answer(mt, stored, name, dtype)
    wanted = stored[f"{name}: attributes"]
    # The peer takes Occlusion's differences, and the steps of integrated gradients, in float32.
    scale = max(np.abs(wanted).max(), 1e-3)
    assert found["attributes"].dtype == torch.empty(0, dtype=dtype).numpy().dtype
    assert found["attributes"].shape == wanted.shape
    assert np.abs(found["attributes"] - wanted).max() <= 1e-5 * scale
    assert set(found) == {key.removeprefix(f"{name}: ") for key in stored if key.startswith(f"{name}: ")}
    if "mask" in found:
        assert found["mask"].dtype == stored[f"{name}: mask"].dtype == np.int32
        assert np.array_equal(found["mask"], stored[f"{name}: mask"])
        assert str(found["names"]) == str(stored[f"{name}: names"])


def test_the_store_is_small_and_complete(stored: dict[str, np.ndarray]) -> None:
    assert NUMBERS.stat().st_size < 100_000
    assert {key.removesuffix(": attributes") for key in stored if key.endswith(": attributes")} == set(CALLS)


# ---------------------------------------------------------------- plain torch

MODELS: dict[str, Any] = {
    "tanh": (smooth, 1),
    "convolutions": (convolutional, 2),
    "relu": (lambda dtype: convolutional(nn.ReLU, dtype=dtype), 0),
    "grid": (Grid, (1, 2)),
    "map": (Segmenter, (1, 3, 0)),
}


@pytest.mark.parametrize(("name", "dtype", "path"), each_pair(MODELS, DTYPES, PATHS), ids=str)
def test_occlusion_in_plain_torch(name: str, dtype: torch.dtype, path: str) -> None:
    make, target = MODELS[name]
    model, hsi, baseline = make(dtype=dtype), cube(dtype=dtype, binary_mask=spatial_mask()), values(3, dtype)
    for window, stride in [(2, 1), ((5, 2, 2), (5, 2, 1)), ((2, 4, 3), (2, 4, 3))]:
        with mt.options(**PATHS[path]):
            found = Occlusion(explainable(model)).attribute(hsi, target, window, stride, baseline).attributes
        wanted = occlusion(model, hsi.get_image(), window, stride, baseline, target)
        # One window moves the output by a part of it, which float32 rounds.
        assert_close(found, wanted, 1e-10 if dtype == torch.float64 else 2e-5)


@pytest.mark.parametrize(
    ("explainer", "dtype", "name"),
    [(*pair, name) for pair, name in each_value(itertools.product(INNERS, DTYPES), MODELS)],
    ids=str,
)
def test_tunnels_in_plain_torch(explainer: str, dtype: torch.dtype, name: str) -> None:
    """The samples come from perturb_input under the same seed."""
    make, target = MODELS[name]
    model, hsi, baseline = make(dtype=dtype), cube(dtype=dtype, binary_mask=spatial_mask()), values(3, dtype)
    mask = hsi.binary_mask
    for kind, given in [(NoiseTunnel, {"stdevs": 0.2}), (HyperNoiseTunnel, {"baseline": baseline})]:
        torch.manual_seed(5)
        drawn = kind.perturb_input(hsi.image, n_samples=3, **given) * mask
        torch.manual_seed(5)
        inside = getattr(mt.attr, explainer)(explainable(model))
        found = kind(inside).attribute(hsi, target=target, n_samples=3, **given).attributes
        wanted = tunnel("smoothgrad", inner(explainer, model, target), drawn)
        assert_close(found, wanted, 1e-9 if dtype == torch.float64 else 1e-4)
