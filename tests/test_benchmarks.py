"""The workloads of the benchmarks can be called; what they take is for `make bench` to say."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import meteors_c
from benchmarks.child import forwards_call, library_call
from benchmarks.features import superbands
from benchmarks.models import Scene, scene_of
from benchmarks.workloads import WORKLOADS
from tests.toys import Watched

CASES = [
    (name, scene) for name, workload in WORKLOADS.items() if workload.features is not None for scene in workload.scenes
]


def superpixels(scene: Scene) -> np.ndarray:
    _, rows, columns = scene.shape
    return np.broadcast_to(np.arange(rows)[None, :, None] * 3 // rows, (1, rows, columns)).copy()


@pytest.mark.filterwarnings("ignore:all coefficients are 0")
@pytest.mark.parametrize(("name", "scene"), CASES)
def test_workloads_over_features(name: str, scene: str) -> None:
    small = scene_of(scene, tiny=True)
    call = library_call("meteors_c", WORKLOADS[name], small, plain=True, half=False, superpixels=superpixels(small))
    (result,) = call()
    assert isinstance(result, meteors_c.attr.HSIAttributes)
    assert len(result.effects.ids) == 3
    assert result.report.evaluations == 2**3
    (again,) = call(continue_from=[result])
    torch.testing.assert_close(again.effects.values, result.effects.values, rtol=0, atol=1e-5)
    assert again.report.evaluations <= 2


def test_forwards_are_as_many_as_coalitions() -> None:
    small, networks = scene_of("pixelwise 224", tiny=True), []

    def build() -> Watched:
        networks.append(Watched(small.build()))
        return networks[0]

    call = forwards_call(replace(small, build=build), superpixels(small))
    networks[0].sizes.clear()
    call()
    assert sum(networks[0].sizes) == 2**3
    assert len(set(networks[0].sizes)) == 1


@pytest.mark.parametrize("bands", [3, 150, 200])
def test_superbands_are_neighbours_of_equal_number(bands: int) -> None:
    ids = superbands(bands).flatten().tolist()
    sizes = [len(list(group)) for _, group in itertools.groupby(ids)]
    assert len(sizes) == 3
    assert max(sizes) - min(sizes) <= 1
