"""Calls beside a process that keeps one core busy, and without it, by their threads."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .driver import Child
from .table import grid, named_section, within
from .workloads import SPATIAL, WORKLOADS

CALLS = ("Saliency", "IntegratedGradients, 50 steps", SPATIAL)
THREADS = ("all", "one", "measured")
SLOWER_BESIDE, SLOWER_QUIET = 1.15, 1.01  # than with one thread; than with all of them
AT_REST = 0.3  # seconds

TEXT = """\
Seconds of the plain path with all of torch's threads, with one, and with a number that is found while the call runs
(`options(threads="measured")`, the default), without other work and beside a process that keeps one core busy. Wanted:
at most 1.15 times one thread beside that process, at most 1.01 times all threads without it. Medians of {rounds} calls.
"""


@contextmanager
def competitor() -> Iterator[None]:
    """A process that computes without end."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def turns(children: dict[str, Child], rounds: int) -> dict[str, list[float]]:
    """Seconds of each child, after one call that does not count; they take turns, in alternating order.

    Torch's threads spin for a while after a call, as other work would: each waits for those of the one before.
    """
    found: dict[str, list[float]] = {name: [] for name in children}
    for turn in range(rounds + 1):
        for name in children if turn % 2 == 0 else reversed(children):
            time.sleep(AT_REST)
            seconds = children[name].run(count=False)
            if turn > 0:
                found[name].append(seconds)
    return found


def row(workload: str, scene: str, rounds: int, tiny: bool) -> dict[str, Any]:
    with ExitStack() as stack:
        children = {
            threads: stack.enter_context(Child("meteors_c", workload, scene, path="plain", tiny=tiny, threads=threads))
            for threads in THREADS
        }
        quiet = turns(children, rounds)
        with competitor():
            beside = turns(children, rounds)
    return {"workload": workload, "scene": scene, "quiet": quiet, "beside": beside}


def measure(rounds: int, tiny: bool, chosen: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Each call on each scene: seconds by threads, "quiet" and "beside" the competitor."""
    return [
        row(workload, scene, rounds, tiny)
        for workload in CALLS
        for scene in WORKLOADS[workload].scenes
        if chosen(f"{workload}, {scene}")
    ]


def against(seconds: dict[str, list[float]], other: str) -> float:
    """The time with measured threads as a part of that with others, the median of the turns."""
    return statistics.median(m / o for m, o in zip(seconds["measured"], seconds[other], strict=True))


def section(rows: list[dict[str, Any]], rounds: int) -> str:
    """The part of the results page."""
    head = ["", "", *(f"quiet: {name}" for name in THREADS), "measured / all"]
    head += [*(f"busy: {name}" for name in THREADS), "measured / one", "slowest / one"]
    lines = []
    for one in rows:
        quiet, beside = one["quiet"], one["beside"]
        lines.append(
            [
                one["workload"],
                one["scene"],
                *(f"{statistics.median(quiet[name]):.3f}" for name in THREADS),
                within(against(quiet, "all"), SLOWER_QUIET),
                *(f"{statistics.median(beside[name]):.3f}" for name in THREADS),
                within(against(beside, "one"), SLOWER_BESIDE),
                f"{max(beside['measured']) / statistics.median(beside['one']):.2f}",
            ]
        )
    return named_section("Beside a busy process", TEXT.format(rounds=rounds), grid(head, lines))
