"""Results that are kept take their own bytes: what a run made on the way is returned to the system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import meteors_c as mt
from meteors_c.attr import HyperNoiseTunnel, IntegratedGradients, Occlusion, Saliency
from tests.toys import PATHS, convolutional, cube, each_value, explainable

ROOT = Path(__file__).parents[2]
STATM = Path("/proc/self/statm")

# Explains images one by one and keeps what comes, as a loop over the patches of a scene does.
KEEP = """
import json, os, sys
import torch
from torch import nn
import meteors_c as mt
from meteors_c import attr

kind, given, options, kept_calls = sys.argv[1], *map(json.loads, sys.argv[2:5])
torch.set_num_threads(1)
shape = 200, 11, 11
first, second = nn.Conv3d(1, 4, (7, 3, 3), stride=(4, 1, 1)), nn.Conv3d(4, 8, (5, 3, 3), stride=(4, 2, 2))
layers = nn.Unflatten(1, (1, 200)), first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.LazyLinear(9)
network = nn.Sequential(*layers).eval()
network(torch.zeros(1, *shape))
explainer = getattr(attr, kind)(mt.models.ExplainableModel(network, "classification"))
wavelengths = torch.linspace(400, 2400, shape[0])


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def explain():
    hsi = mt.HSI(image=torch.rand(shape), wavelengths=wavelengths)
    return explainer.attribute(hsi, target=0, **given)


with mt.options(**options):
    for _ in range(20):
        explain()
    before, kept = resident(), []
    for _ in range(kept_calls):
        kept.append(explain())
    grown = resident() - before
own = sum(one.attributes.nbytes + one.hsi.image.nbytes for one in kept)
print(json.dumps({"own": own, "grown": grown}))
"""


def keep(kind: str, given: dict[str, Any], calls: int, **options: Any) -> dict[str, int]:
    command = [sys.executable, "-c", KEEP, kind, *map(json.dumps, (given, options, calls))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told: dict[str, int] = json.loads(done.stdout)
    return told


@pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc")
@pytest.mark.parametrize(
    ("kind", "given", "calls"), [("Saliency", {}, 1000), ("IntegratedGradients", {"n_steps": 4}, 500)]
)
def test_kept_results_take_no_more_than_twice_their_bytes(kind: str, given: dict[str, Any], calls: int) -> None:
    told = keep(kind, given, calls)
    assert told["own"] == calls * 2 * 4 * 200 * 11 * 11
    assert told["grown"] < 2 * told["own"]


@pytest.mark.parametrize(("explainer", "path"), each_value([Saliency, IntegratedGradients, Occlusion], PATHS))
def test_the_allocator_may_be_left_alone(explainer: Any, path: str) -> None:
    """The numbers are the same, by themselves and inside a tunnel."""
    used = explainer(explainable(convolutional()))
    found = []
    for tune in (True, False):
        with mt.options(tune_allocator=tune, **PATHS[path]):
            torch.manual_seed(2)
            tunnel = HyperNoiseTunnel(used).attribute([cube(0), cube(1)], target=1, n_samples=4)
            alone = used.attribute([cube(0), cube(1)], target=1)
        found.append([one.attributes for one in (*tunnel, *alone)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
