"""Scenes on clusters: workers and clients that die in the middle leave nothing wrong and little to do again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import torch
import xarray
import zarr
from distributed import Client, LocalCluster

from meteors_c import attr
from meteors_c.models import ExplainableModel
from tests.scenes.models import BANDS, Counting, convolutions, field, mapper, patch_model, samples_in, scene, whole

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS: dict[str, Any] = {"window": 3, "target": [0, 2], "chunk": (2, 5), "values": True}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        dask.config.set({"distributed.worker.daemon": True}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as made,
    ):
        yield made


def explain(model: torch.nn.Module, **arguments: Any) -> xarray.Dataset:
    explainer = attr.Saliency(ExplainableModel(model.eval(), "classification"))
    return attr.explain_scene(explainer, whole(), **{**ARGUMENTS, **arguments})


def same(found: xarray.Dataset, want: xarray.Dataset) -> None:
    for name in ("map", "values", "mean_spectrum", "pixels"):
        np.testing.assert_array_equal(found[name].values, want[name].values)


def test_workers_give_what_one_process_does(client: Client, tmp_path: Path) -> None:
    array = scene(field(20, 17))
    explainer = attr.IntegratedGradients(patch_model(3))
    arguments: dict[str, Any] = {"window": 3, "target": [0, 1], "chunk": 6, "n_steps": 4}
    want = attr.explain_scene(explainer, array, **arguments)
    for given in (array, array.chunk({"y": 7, "x": 7})):  # sent with each block, or read by the workers
        for out in (None, tmp_path / f"{given.chunks is None}.zarr"):
            found = attr.explain_scene(explainer, given, client=client, out=out, **arguments)
            np.testing.assert_allclose(found["map"], want["map"], atol=1e-12)
            np.testing.assert_allclose(found["mean_spectrum"], want["mean_spectrum"], atol=1e-12)


def test_tiles_and_scripted_networks(client: Client) -> None:
    model = mapper(convolutions())
    scripted = torch.jit.script(model.forward_func.model)  # type: ignore[attr-defined]
    array = scene(field(40, 40))
    want = attr.explain_scene(attr.Saliency(model), array, target=0, chunk=20)
    bare = ExplainableModel(scripted, "classification")
    found = attr.explain_scene(attr.Saliency(bare), array, target=0, chunk=20, client=client)
    np.testing.assert_allclose(found["map"], want["map"], atol=1e-12)


def test_draws_do_not_depend_on_workers(client: Client) -> None:
    arguments: dict[str, Any] = {
        "window": 3, "target": 0, "n_samples": 6, "attribution_type": "spectral", "band_mask": torch.arange(BANDS),
        "band_names": {str(band): band for band in range(BANDS)}, "seed": 9,
    }  # fmt: skip
    explainer, array = attr.KernelShap(patch_model(3)), scene(field(6, 7))
    one, many = (
        attr.explain_scene(explainer, array, chunk=chunk, client=on, **arguments)
        for chunk, on in ((9, None), (2, client))
    )
    np.testing.assert_allclose(one["map"], many["map"], atol=1e-10)


def test_errors_of_the_model_come_back(client: Client, tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        explain(Counting(tmp_path / "log"), target=7, client=client)
    same(explain(Counting(tmp_path / "log"), client=client), explain(Counting(tmp_path / "log")))


def test_blocks_of_a_killed_worker_are_done_again(client: Client, tmp_path: Path) -> None:
    want = explain(Counting(tmp_path / "alone"))
    for out in (None, tmp_path / "scene.zarr"):
        log = tmp_path / f"log {out is None}"
        found = explain(Counting(log, die_at=30, nap=0.01), client=client, out=out)
        assert log.with_name(log.name + ".dead").exists()
        same(found, want)


CLIENT = """
import sys
from pathlib import Path
from distributed import Client, LocalCluster
from tests.scenes.models import Counting
from tests.scenes.test_cluster import explain

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            explain(Counting(Path(sys.argv[1])), client=client, out=sys.argv[2])
"""


def test_second_start_after_a_killed_client(tmp_path: Path) -> None:
    log, out, script = tmp_path / "log", tmp_path / "scene.zarr", tmp_path / "client.py"
    script.write_text(CLIENT)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COUNTING_NAP": "0.3"}
    process = subprocess.Popen(
        [sys.executable, str(script), str(log), str(out)], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not out.exists() or marks(out).sum() < 3:
            assert process.poll() is None, "the client ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    time.sleep(0.2)
    done = marks(out)
    assert 3 <= done.sum() < len(done)
    want = explain(Counting(tmp_path / "alone"))
    before = samples_in(log)
    same(explain(Counting(log), out=out), want)
    assert marks(out).all()
    # of a run from the start: the samples of each block, and those by which a call looks at its model
    whole_run, missing = samples_in(tmp_path / "alone"), int((done == 0).sum())
    assert samples_in(log) - before == whole_run * missing // len(done)


def marks(out: Path) -> np.ndarray:
    return np.asarray(zarr.open_group(out, mode="r")["blocks/done"][:])
