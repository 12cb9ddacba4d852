"""One workload in one library, in a process of its own, driven line by line by `benchmarks.__main__`.

It answers each line on stdin with a line of JSON: ``run`` makes the call once, ``again`` once more, going on from what
``run`` gave, which leaves what is no evaluation of the model, and ``save <path>`` writes the attributions of the last
call as (images, bands, height, width).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from .memory import peak_bytes
from .models import SCENES, Scene, scene_of
from .process import answers
from .workloads import WORKLOADS, Workload

SHORTCUTS: dict[str, Any] = {"plain": False, "replay": "replay"}  # by path; else the default
BATCHES, TRIAL = (1, 2, 4), 8  # sizes of the plain forwards, and samples by which the fastest is found


def library_call(
    name: str,
    workload: Workload,
    scene: Scene,
    path: str,
    half: bool,
    superpixels: np.ndarray | None,
    threads: str = "measured",
) -> Callable[..., list[Any]]:
    """The call to measure: everything that a user prepares once is prepared before."""
    library = importlib.import_module(name)
    model, wavelengths = scene.model(), scene.wavelengths()
    images = [library.HSI(image=image, wavelengths=wavelengths) for image in scene.images()]
    for image in images if half else []:
        image.binary_mask = torch.arange(image.image.shape[1])[:, None] < image.image.shape[1] // 2

    explainable = library.models.ExplainableModel(model, "regression")
    masks = workload.masks(scene, superpixels)

    def call(**further: Any) -> list[Any]:
        changes = {"shortcuts": SHORTCUTS[path]} if path in SHORTCUTS else {}
        if threads == "all":
            changes["threads"] = threads
        with library.options(**changes) if changes else contextlib.nullcontext():
            result = workload.run(library, explainable, images, **masks, **further)
        return result if isinstance(result, list) else [result]

    return call


def reference_call(workload: Workload, scene: Scene) -> Callable[[], list[Any]]:
    """The same attribution by plain torch in float64."""
    model, images = scene.model().double(), [image.double() for image in scene.images()]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    reference = workload.reference
    assert reference is not None
    return lambda: [reference(model, image) for image in images]


def forwards_call(scene: Scene, superpixels: np.ndarray) -> Callable[[], list[Any]]:
    """As many plain forwards as there are coalitions of the superpixels, in batches of the size that is fastest."""
    model, image = scene.model(), scene.images()[0]
    coalitions = 2 ** len(np.unique(superpixels))

    def forwards(size: int, samples: int) -> list[Any]:
        batch = image.expand(size, *image.shape).contiguous()
        with torch.no_grad():
            for _ in range(0, samples, size):
                output = model(batch)
        return [output]

    def seconds(size: int) -> float:
        forwards(size, size)
        start = time.perf_counter()
        forwards(size, TRIAL)
        return time.perf_counter() - start

    best = min(BATCHES, key=seconds)
    return lambda: forwards(best, coalitions)


def commands() -> Iterator[list[str]]:
    for line in sys.stdin:
        yield line.split(maxsplit=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("library", choices=["meteors", "meteors_c", "reference", "torch"])
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("scene", choices=list(SCENES))
    paths = ["shortcut", "default", "plain", "replay"]
    parser.add_argument("--path", choices=paths, default="shortcut", help="of ours")
    parser.add_argument("--half", action="store_true", help="with the lower half of the image masked")
    parser.add_argument("--threads", choices=["measured", "all", "one"], default="measured")
    parser.add_argument("--superpixels", type=Path, help="file of their ids, (1, height, width)")
    parser.add_argument("--tiny", action="store_true", help="with so few pixels that only errors can be seen")
    parser.add_argument("--set", default="{}", help="arguments to change, as JSON")
    options = parser.parse_args()
    stream = answers()

    if options.threads == "one":
        torch.set_num_threads(1)
    workload, scene = WORKLOADS[options.workload], scene_of(options.scene, options.tiny)
    superpixels = None if options.superpixels is None else np.load(options.superpixels)
    workload = replace(workload, arguments={**workload.arguments, **json.loads(options.set)})
    if options.library == "reference":
        call = reference_call(workload, scene)
    elif options.library == "torch":
        assert superpixels is not None
        call = forwards_call(scene, superpixels)
    else:
        call = library_call(options.library, workload, scene, options.path, options.half, superpixels, options.threads)

    serve(call, stream)


def serve(call: Callable[..., list[Any]], stream: TextIO) -> None:
    results: list[Any] = []
    for command in commands():
        answer: dict[str, Any] = {}
        if command[0].strip() == "run":
            results = []
            start = time.perf_counter()
            results = call()
            answer["seconds"] = time.perf_counter() - start
            answer["peak"] = peak_bytes()
            report = getattr(results[0], "report", None)
            if report is not None:
                answer["report"] = describe(report)
        elif command[0].strip() == "again":
            before = results[0].report.seconds_in_model
            start = time.perf_counter()
            again = call(continue_from=results)
            outside = time.perf_counter() - start - again[0].report.seconds_in_model
            answer["outside"] = outside / before
        elif command[0] == "save":
            tensors = [result if isinstance(result, torch.Tensor) else result.attributes for result in results]
            np.save(Path(command[1].strip()), torch.stack([tensor.detach() for tensor in tensors]).numpy())
        print(json.dumps(answer), file=stream, flush=True)


def describe(report: Any) -> dict[str, Any]:
    """The fields of an attribution report that the tables show."""
    return {
        "evaluations": report.evaluations,
        "overhead": (report.seconds - report.seconds_in_model) / report.seconds_in_model,
        "shortcut": report.shortcut,
        "declined": report.shortcut_declined,
    }


if __name__ == "__main__":
    main()
