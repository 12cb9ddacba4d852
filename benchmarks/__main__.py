"""``python -m benchmarks``: every workload in both libraries, in one run, and benchmarks/RESULTS.md from it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from . import busy
from .driver import PEER_PYTHON, compare, import_seconds, masked_part, part_outside, peaks_over
from .table import write_results
from .workloads import LARGE, SPATIAL, SUPERBANDS, SUPERPIXELS, TUNNEL, WORKLOADS

# Arguments between whose values the peak memory must stay the same.
FLAT: tuple[tuple[str, str, bool, str, tuple[Any, Any]], ...] = (
    ("IntegratedGradients, 50 steps", "CNN 224", False, "n_steps", (10, 1000)),
    ("IntegratedGradients, 50 steps", "pixelwise 224", True, "n_steps", (10, 500)),
    (TUNNEL, "pixelwise 224", False, "n_samples", (10, 200)),
    (SPATIAL, "pixelwise 224", False, "strides", ((50, 50), (20, 20))),
)


def memory_checks() -> list[tuple[str, str, str, bool]]:
    found = []
    for workload, scene, plain, argument, values in FLAT:
        few, many = peaks_over(workload, scene, argument, values, plain)
        path = "plain" if plain else "shortcut"
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help="workloads and scenes whose name contains this; nothing is written")
    parser.add_argument("--rounds", type=int, default=3, help="calls that count, for each library (default 3)")
    parser.add_argument("--tiny", action="store_true", help="only see that they run, on few pixels; nothing is written")
    options = parser.parse_args()
    rounds = 1 if options.tiny else options.rounds
    if not Path(PEER_PYTHON).exists():
        sys.exit(f"The peer's interpreter {PEER_PYTHON} is missing: run `make bench`, or set METEORS_PEER_PYTHON.")

    rows: list[dict[str, Any]] = []
    for name, workload in WORKLOADS.items():
        for scene in workload.scenes:
            if options.only in f"{name}, {scene}":
                print(f"{name}, {scene} ...", flush=True)
                rows += compare(name, scene, rounds, options.tiny)
                for row in rows[-len(workload.paths) :]:
                    figures = {key: value for key, value in row.items() if isinstance(value, (int, float))}
                    print(f"    {row['path']}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    if options.only or options.tiny:
        return
    checks = [overhead_check(row) for row in rows if row["scene"] == "CNN 224"]
    print("memory and import ...", flush=True)
    added = import_seconds()
    checks += memory_checks() + outside_checks()
    for path in ("shortcut", "plain"):
        part = masked_part(SPATIAL, "CNN 224", options.rounds + 2, path == "plain")
        what = f"{SPATIAL}, CNN 224, {path}, half of the pixels masked"
        checks.append((what, f"{part:.2f} of the time", "at most 0.65", part <= 0.65))
    checks.append(("`import meteors_c` after `import torch`", f"{added:.3f} s", "at most 0.2 s", added <= 0.2))
    print("beside a busy process ...", flush=True)
    beside = busy.section(busy.measure(options.rounds))
    results = Path(__file__).with_name("RESULTS.md")
    write_results(results, rows, checks, options.rounds, [beside])
    print(f"wrote {results}")


if __name__ == "__main__":
    main()
