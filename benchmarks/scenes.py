"""What a scene costs in parts, and what a million of them come to on paper.

Measured: reading a block from Zarr, cutting its windows, attribution, reducing and writing it, and what a task of dask
adds. The rest is arithmetic.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray
from torch import nn

from meteors_c import _core, attr
from meteors_c.models import ExplainableModel
from meteors_c.scenes._grid import grid_of
from meteors_c.scenes._source import scene_of

from .models import PatchNet
from .table import grid, named_section
from .turns import seconds_of

BANDS, SCENE, WINDOW, CHUNK = 200, (1000, 1000), 11, 64
SCENES = 1_000_000
WORKERS = (1, 100, 1_000, 10_000)
NOTHING_TO_DO = 200  # tasks

TEXT = """\
A block of {chunk} x {chunk} pixels of {bands} bands in float32, median of {rounds}, one worker with all threads: a 3-D
CNN on windows of {window} x {window} pixels and a network of maps, IntegratedGradients with 10 steps. A scene of
{rows:,} x {columns:,} pixels has {blocks:,} such blocks. The table of many scenes is arithmetic from these: the parts
of a block, times blocks and scenes, over workers, of which each has such a machine and all can read and write at once;
the scheduler hands tasks out one after the other.
"""


def wavelengths(bands: int) -> np.ndarray:
    return np.linspace(400.0, 2500.0, bands)


def stored(folder: Path, bands: int, side: int, chunk: int) -> xarray.DataArray:
    """A scene in a Zarr folder, opened lazily."""
    values = np.random.default_rng(0).random((bands, side, side), dtype=np.float32)
    array = xarray.DataArray(
        values, dims=("wavelength", "y", "x"), coords={"wavelength": wavelengths(bands)}, name="scene"
    )
    array.to_dataset().to_zarr(folder, encoding={"scene": {"chunks": (bands, chunk, chunk)}}, consolidated=False)
    return xarray.open_zarr(folder, consolidated=False)["scene"]


def map_net(bands: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(bands, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 9, 1)
    )


def median(call: Callable[[], object], rounds: int) -> float:
    call()
    return statistics.median(seconds_of(call) for _ in range(rounds))


def task_seconds(tasks: int) -> float:
    """What a task costs that has nothing to do."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(abs, range(-2, 0), pure=False))
        return seconds_of(lambda: client.gather(client.map(abs, range(tasks), pure=False))) / tasks


def measure(rounds: int, tiny: bool, chosen: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Seconds of each part for a block."""
    bands, chunk, side = (30, 8, 24) if tiny else (BANDS, CHUNK, 4 * CHUNK)
    parts: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        array = stored(Path(folder, "scene.zarr"), bands, side, chunk)
        scene = scene_of(array)
        half = WINDOW // 2
        part = slice(chunk - half, 2 * chunk + half)
        block = scene.image(*scene.read(part, part))
        rows, columns = np.divmod(np.arange(chunk * chunk), chunk)
        windows = _core.windows(block, rows, columns, WINDOW, WINDOW)
        spectra = [window.image for window in windows]
        torch.manual_seed(0)
        patches = attr.IntegratedGradients(ExplainableModel(PatchNet(bands, WINDOW).eval(), "classification"))
        tiles = attr.IntegratedGradients(ExplainableModel(map_net(bands).eval(), "classification"))
        out = xarray.DataArray(np.zeros((1, chunk, chunk), np.float32), dims=("target", "y", "x"), name="map")
        places = [(chunk + row, chunk + column) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)]
        middle = array[:, chunk : 2 * chunk, chunk : 2 * chunk].compute()
        arguments = {"target": 0, "n_steps": 10}
        parts["read"] = lambda: scene.read(part, part)
        parts["cut windows"] = lambda: _core.windows(block, rows, columns, WINDOW, WINDOW)
        parts["reduce windows"] = lambda: _core.window_spectra(spectra, 0, False)
        parts["pick pixels"] = lambda: grid_of((side, side), (chunk, chunk), 1, places).block(0)
        parts["windows, whole block"] = lambda: attr.explain_scene(
            patches, middle, window=WINDOW, chunk=chunk, **arguments
        )
        parts["tile, whole block"] = lambda: attr.explain_scene(tiles, middle, chunk=chunk, **arguments)
        parts["write"] = lambda: out.to_dataset().to_zarr(Path(folder, "map.zarr"), mode="w", consolidated=False)
        found = [{"part": name, "seconds": median(call, rounds)} for name, call in parts.items() if chosen(name)]
    if chosen("task"):
        found.append({"part": "task", "seconds": task_seconds(10 if tiny else NOTHING_TO_DO)})
    for row in found:
        print(f"    {row['part']}: {1e3 * row['seconds']:.3f} ms", flush=True)
    if tiny and len(found) == len(parts) + 1:
        section(found, rounds)
    return found


def time_in_words(seconds: float) -> str:
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.2f} s"


def blocks_of_scene() -> int:
    return -(-SCENE[0] // CHUNK) * -(-SCENE[1] // CHUNK)


def on_paper(seconds: dict[str, float]) -> list[list[str]]:
    """One line for each number of workers: the time of all scenes, and the scheduler's alone."""
    blocks = blocks_of_scene()
    lines = []
    for workers in WORKERS:
        line = [f"{workers:,}"]
        for kind in ("windows, whole block", "tile, whole block"):
            block = seconds["read"] + seconds[kind] + seconds["write"]
            line.append(time_in_words(max(SCENES * blocks * block / workers, SCENES * blocks * seconds["task"])))
        lines.append([*line, time_in_words(SCENES * blocks * seconds["task"])])
    return lines


def section(rows: list[dict[str, Any]], rounds: int) -> str:
    seconds = {row["part"]: row["seconds"] for row in rows}
    text = TEXT.format(
        chunk=CHUNK, bands=BANDS, rounds=rounds, window=WINDOW, rows=SCENE[0], columns=SCENE[1],
        blocks=blocks_of_scene(),
    )  # fmt: skip
    parts = [[row["part"], f"{1e3 * row['seconds']:.3f}", f"{blocks_of_scene() * row['seconds']:.2f}"] for row in rows]
    head = ["workers", "windows", "tiles", "the scheduler alone"]
    return named_section(
        "Scenes",
        text,
        grid(["part", "ms a block", "s a scene"], parts),
        f"## {SCENES:,} scenes, on paper\n",
        grid(head, on_paper(seconds)),
        packages=("dask", "distributed", "zarr", "xarray"),
    )
