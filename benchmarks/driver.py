"""Processes to measure in, and what is read from them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .features import superpixels_file
from .process import ROOT, Process
from .workloads import WORKLOADS

PEER_PYTHON = os.environ.get("METEORS_PEER_PYTHON", str(ROOT / ".venv-peer" / "bin" / "python"))
SHORT_SECONDS, MOST_ROUNDS = 4.0, 21  # short calls are repeated until they come to about so much


class Child(Process):
    """A process that holds one workload in one library: "meteors", "meteors_c", "reference" or "torch"."""

    def __init__(
        self,
        library: str,
        workload: str,
        scene: str,
        *,
        path: str = "shortcut",
        half: bool = False,
        tiny: bool = False,
        threads: str = "measured",
        **arguments: Any,
    ) -> None:
        command = [library, workload, scene, "--set", json.dumps(arguments), "--threads", threads]
        if WORKLOADS[workload].features == "superpixels":
            command += ["--superpixels", str(superpixels_file(scene, tiny))]
        command += ["--path", path, *["--half"] * half, *["--tiny"] * tiny]
        super().__init__("benchmarks.child", *command, python=PEER_PYTHON if library == "meteors" else sys.executable)
        self.seconds: list[float] = []
        self.peak = 0
        self.report: dict[str, Any] = {}

    def run(self, count: bool = True) -> float:
        """Make the call once and give its seconds; they enter the median if the call counts."""
        answer = self.ask("run")
        self.peak, self.report = answer["peak"], answer.get("report", {})
        seconds: float = answer["seconds"]
        if count:
            self.seconds.append(seconds)
        return seconds

    def outside(self) -> float:
        """What the last call took beside evaluations, as a part of its time in the model."""
        part: float = self.ask("again")["outside"]
        return part

    def attributions(self) -> np.ndarray:
        """What the last call gave, (images, bands, height, width)."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "attributions.npy")
            self.ask(f"save {path}")
            values: np.ndarray = np.load(path)
        return values

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference between two attributions, relative to the largest value."""
    return float(np.abs(one - other.astype(np.float64)).max() / np.abs(other).max())


def compare(workload: str, scene: str, rounds: int, tiny: bool = False) -> list[dict[str, Any]]:
    """Measure one workload on one scene: a row for each path that ours takes.

    After one call each that doesn't count, the processes take turns, in alternating order, so that a machine that
    changes its speed changes it for all of them. There are `rounds` turns, more where a call is short and not `tiny`.
    """
    paths, most = WORKLOADS[workload].paths, rounds if tiny else MOST_ROUNDS
    with Child(WORKLOADS[workload].peer, workload, scene, tiny=tiny) as peer:
        ours = {path: Child("meteors_c", workload, scene, path=path, tiny=tiny) for path in paths}
        children = [peer, *ours.values()]
        try:
            slowest = max([child.run(count=False) for child in children])
            for turn in range(max(rounds, min(most, round(SHORT_SECONDS / slowest)))):
                for child in children if turn % 2 == 0 else reversed(children):
                    child.run()
            truth = exact_attributions(workload, scene, tiny)
            same = WORKLOADS[workload].peer == "meteors" and not WORKLOADS[workload].random
            theirs = peer.attributions() if same else None
            ratios = {
                path: [p / o for p, o in zip(peer.seconds, child.seconds, strict=True)] for path, child in ours.items()
            }
            return [
                {
                    "workload": workload,
                    "scene": scene,
                    "path": path,
                    "ours": child.median,
                    "peer": peer.median,
                    "ratio": statistics.median(ratios[path]),
                    "least_ratio": min(ratios[path]),
                    "largest_ratio": max(ratios[path]),
                    "ours_peak": child.peak,
                    "peer_peak": peer.peak,
                    **({} if theirs is None else errors(child.attributions(), theirs, truth)),
                    **child.report,
                }
                for path, child in ours.items()
            ]
        finally:
            for child in ours.values():
                child.__exit__(None, None, None)


def exact_attributions(workload: str, scene: str, tiny: bool = False) -> np.ndarray | None:
    """The attributions in float64 by plain torch; None where there is no formula for it."""
    if WORKLOADS[workload].reference is None:
        return None
    with Child("reference", workload, scene, tiny=tiny) as exact:
        exact.run()
        return exact.attributions()


def errors(ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray | None) -> dict[str, float]:
    found = {"difference": relative_difference(ours, theirs)}
    if truth is not None:
        found |= {"ours_error": relative_difference(ours, truth), "peer_error": relative_difference(theirs, truth)}
    return found


def peaks_over(
    workload: str, scene: str, argument: str, values: tuple[Any, Any], path: str = "shortcut", repeats: int = 3
) -> list[float]:
    """Peak resident bytes of ours for each of two values of an argument: medians of fresh processes, turn by turn.

    One process differs from the next by a block or two of the size of an image, as its threads happen to free them.
    """
    peaks: list[list[float]] = [[], []]
    for _ in range(repeats):
        for value, found in zip(values, peaks, strict=True):
            with Child("meteors_c", workload, scene, path=path, **{argument: value}) as child:
                child.run()
                found.append(child.peak)
    return [statistics.median(found) for found in peaks]


def masked_part(workload: str, scene: str, rounds: int, path: str) -> float:
    """The time of ours on images with half of their pixels masked, as a part of that on whole images."""
    with (
        Child("meteors_c", workload, scene, path=path) as whole,
        Child("meteors_c", workload, scene, path=path, half=True) as half,
    ):
        for turn in range(rounds + 1):
            whole.run(count=turn > 0)
            half.run(count=turn > 0)
        return half.median / whole.median


def part_outside(workload: str, scene: str, repeats: int = 5) -> float:
    """What sampling, kernels, fit and results of ours take, as a part of the time in the model, by a call that goes on.

    It evaluates one sample, by which the model is verified.
    """
    with Child("meteors_c", workload, scene, path="plain") as child:
        child.run()
        child.run()
        return statistics.median(child.outside() for _ in range(repeats))


def import_seconds(repeats: int = 7) -> float:
    """Median seconds that `import meteors_c` adds to `import torch`."""
    code = "import time, torch; start = time.perf_counter(); import meteors_c; print(time.perf_counter() - start)"
    outputs = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(repeats)
    ]
    return statistics.median(float(output) for output in outputs)
