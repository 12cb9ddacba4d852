"""Every workload in both libraries, and what is to be seen beside the times."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .driver import PEER_PYTHON, compare, import_seconds, masked_part, part_outside, peaks_over
from .table import against_peer
from .workloads import LARGE, SPATIAL, SUPERBANDS, SUPERPIXELS, TUNNEL, WORKLOADS

# Arguments between whose values the peak memory must stay the same.
FLAT: tuple[tuple[str, str, str, str, tuple[Any, Any]], ...] = (
    ("IntegratedGradients, 50 steps", "CNN 224", "shortcut", "n_steps", (10, 1000)),
    ("IntegratedGradients, 50 steps", "pixelwise 224", "plain", "n_steps", (10, 500)),
    (TUNNEL, "pixelwise 224", "shortcut", "n_samples", (10, 200)),
    (SPATIAL, "pixelwise 224", "shortcut", "strides", ((50, 50), (20, 20))),
)


def memory_checks() -> list[tuple[str, str, str, bool]]:
    found = []
    for workload, scene, path, argument, values in FLAT:
        few, many = peaks_over(workload, scene, argument, values, path)
        what = f"Peak memory of {workload}, {scene}, {path}: {argument} {values[0]} to {values[1]}"
        found.append((what, f"{few / 1e9:.3f} to {many / 1e9:.3f} GB", "within 5 %", many <= 1.05 * few))
    return found


def overhead_check(row: dict[str, Any]) -> tuple[str, str, str, bool]:
    what = f"Engine beyond model time, {row['workload']}, {row['scene']}, {row['path']}"
    return what, f"{100 * row['overhead']:.2f} %", "under 3 %", row["overhead"] < 0.03


def outside_checks() -> list[tuple[str, str, str, bool]]:
    found = []
    for workload in (SUPERPIXELS, SUPERBANDS):
        for scene in LARGE:
            part = part_outside(workload, scene)
            what = f"Sampling, kernels, fit and results beside model time, {workload}, {scene}, plain"
            found.append((what, f"{100 * part:.2f} %", "under 1 %", part < 0.01))
    return found


def measure(rounds: int, tiny: bool, chosen: Callable[[str], bool]) -> list[dict[str, Any]]:
    """The rows of all workloads whose name is chosen."""
    if not Path(PEER_PYTHON).exists():
        sys.exit(f"The peer's interpreter {PEER_PYTHON} is missing: run `make bench`, or set METEORS_PEER_PYTHON.")
    rows: list[dict[str, Any]] = []
    for name, workload in WORKLOADS.items():
        for scene in workload.scenes:
            if not chosen(f"{name}, {scene}"):
                continue
            print(f"    {name}, {scene}", flush=True)
            found = compare(name, scene, rounds, tiny)
            for row in found:
                figures = {key: value for key, value in row.items() if isinstance(value, (int, float))}
                print(f"        {row['path']}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
            rows += found
    return rows


def checks_of(rows: list[dict[str, Any]], rounds: int) -> list[tuple[str, str, str, bool]]:
    """What is measured beside the workloads: (what, measured, wanted, reached)."""
    print("    memory and import", flush=True)
    added = import_seconds()
    checks = [overhead_check(row) for row in rows if row["scene"] == "CNN 224"]
    checks += memory_checks() + outside_checks()
    for path in ("shortcut", "plain"):
        part = masked_part(SPATIAL, "CNN 224", rounds + 2, path)
        what = f"{SPATIAL}, CNN 224, {path}, half of the pixels masked"
        checks.append((what, f"{part:.2f} of the time", "at most 0.65", part <= 0.65))
    checks.append(("`import meteors_c` after `import torch`", f"{added:.3f} s", "at most 0.2 s", added <= 0.2))
    return checks


def section(rows: list[dict[str, Any]], rounds: int) -> str:
    return against_peer(rows, checks_of(rows, rounds), rounds)
