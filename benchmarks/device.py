"""``python -m benchmarks.device cuda --rows FILE``: our shortcuts against our plain path on another device.

The models are those of ``third_party``. A device may be lent for minutes only, and be on a machine that holds nothing
else: all cells share one process, those that fit into ``--seconds`` are measured, and FILE is written after each, for
``python -m benchmarks.device --write FILE`` wherever the results page is kept.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from .architectures import BANDS, SMALL
from .models import Scene
from .process import failure
from .table import RESULTS, grid, judged, versions, write_section
from .third_party import (
    METHODS,
    SETTLING,
    SLOWEST,
    Attribution,
    by_model,
    call_of,
    errors_of,
    exactness,
    explainable,
    first,
    speed,
    way,
)
from .turns import in_turns

DRAWS = 3
TEXT = """\
The models, methods and images of "Models that others wrote" with model and image on {where}. Our default path against
our plain path in turns in one process, {rounds} turns or more after {settling} calls; a first call and the plain path
once each. Errors are those from float64 there, medians of {draws} images; convolutions as torch computes them
there by default ({tf32}). The peak is what torch's allocator held at most, weights and image included, of the default
path and of the plain one. {cells} cells of {all}: those that fit into the minutes that the device was lent for.
"""


def peak(call: Callable[[], Any], device: str) -> int | None:
    """Bytes that torch's allocator for the device held at most during a call."""
    if not device.startswith("cuda"):
        return None
    torch.cuda.reset_peak_memory_stats(device)
    call()
    return torch.cuda.max_memory_allocated(device)


def cell(method: Attribution, scene: Scene, rounds: int, device: str) -> dict[str, Any]:
    model, exact_model = scene.model().to(device), scene.model().double().to(device)
    ours, plain = (call_of(method, scene, model, shortcuts, device=device) for shortcuts in (True, False))
    plain()
    firsts = in_turns(first(ours), first(plain), 1, most=1)
    explainable.cache_clear()
    for _ in range(SETTLING):
        ours()
    turns = in_turns(ours, plain, rounds, budget=0.5)
    pairs = [errors_of(method, scene, model, exact_model, draw, device) for draw in range(DRAWS)]
    errors = list(zip(*pairs, strict=True))
    report = ours().report
    return {
        "first": firsts.ratio,
        "ratio": turns.ratio,
        "seconds": statistics.median(turns.ours),
        "error": statistics.median(errors[0]),
        "plain_error": statistics.median(errors[1]),
        "peak": peak(ours, device),
        "plain_peak": peak(plain, device),
        "shortcut": report.shortcut,
        "declined": report.shortcut_declined,
    }


def measure(device: str, rounds: int, end: float, file: Path, chosen: str) -> None:
    """Measure cell after cell until `end`, and write those that are done."""
    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    found: dict[str, Any] = {
        "where": where,
        "tf32": f"TF32 {'on' if torch.backends.cudnn.allow_tf32 else 'off'}",
        "packages": versions(sys.executable, filter(find_spec, ("torch", "numpy", "transformers", "monai"))),
        "rounds": rounds,
        "rows": [],
    }
    for method in METHODS:
        for model in SMALL:
            if time.monotonic() > end or chosen not in f"{model}, {method}":
                continue
            try:
                row = cell(METHODS[method], SMALL[model], rounds, device)
            except Exception as error:
                row = failure(error)
            shown = row.get("failed") or f"{speed(row, 'first')} {speed(row)} {row['seconds']:.4f} s"
            print(model, method, shown, "" if "failed" in row else f"{exactness(row)} {way(row)}", sep="; ", flush=True)
            found["rows"].append({"model": model, "method": method, **row})
            file.write_text(json.dumps(found, indent=1))


def section(found: dict[str, Any]) -> str:
    rows = found["rows"]
    done = [row for row in rows if "failed" not in row]
    table = functools.partial(by_model, rows)

    def line(which: str, what: str) -> list[list[str]]:
        slow = sum(row[which] < SLOWEST for row in done)
        return [
            [f"{what} below {SLOWEST} of the plain path's speed", str(slow), judged("0", slow == 0)],
            ["the slowest of them", f"{min(row[which] for row in done):.2f} x", ""],
            ["geometric mean of them", f"{statistics.geometric_mean(row[which] for row in done):.2f} x", ""],
        ]

    def memory(row: dict[str, Any]) -> str:
        return "" if row["peak"] is None else f"{row['peak'] / 1e6:.0f} : {row['plain_peak'] / 1e6:.0f}"

    text = TEXT.format(
        where=found["where"],
        tf32=found["tf32"],
        rounds=found["rounds"],
        settling=SETTLING,
        draws=DRAWS,
        cells=len(rows),
        all=len(METHODS) * len(SMALL),
    )
    summary = grid(["", "measured", "wanted"], [*line("ratio", "cells"), *line("first", "first calls")])
    return "\n".join(
        [
            "# Models that others wrote, on a GPU\n",
            text,
            f"{found['packages']}; {BANDS} bands.\n",
            summary,
            table("On the device: times as fast as the plain path", speed),
            table("On the device: seconds of the default path", lambda row: f"{row['seconds']:.4f}"),
            table("On the device: errors, of the default path : of the plain path", exactness),
            table("On the device: peaks in MB, of the default path : of the plain path", memory),
            table("On the device: the shortcut that was taken, or *why none was*", way),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device", nargs="?", default="cuda")
    parser.add_argument("--rows", type=Path, default=Path("rows.json"), help="where what is measured goes")
    parser.add_argument("--seconds", type=float, default=240, help="no cell begins later")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--filter", default="", help="cells whose name contains this")
    parser.add_argument("--write", type=Path, help="measure nothing: write the section of these rows")
    options = parser.parse_args()
    if options.write:
        write_section(RESULTS, section(json.loads(options.write.read_text())))
        return
    warnings.simplefilter("ignore")
    end = time.monotonic() + options.seconds
    measure(options.device, options.rounds, end, options.rows, options.filter)


if __name__ == "__main__":
    main()
