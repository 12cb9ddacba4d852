"""Pages that are made rather than written: one for each public name, and the table of what methods cost."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any

import torch

import meteors_c
from meteors_c import HSI, models

RESULTS = Path(__file__).parents[1] / "benchmarks" / "RESULTS.md"
# Base classes whose members are shown with themselves alone, not with what derives from them.
BASE_SHOWN = "   :show-inheritance:\n"  # for classes whose bases all have a page
BASES = "Explainer, Module, ABC, Enum, str, Exception, object, Generic"

# ---------------------------------------------------------------- the reference


def public_modules() -> Iterator[ModuleType]:
    """Yield the package and its modules whose path has no part that begins with an underscore."""
    yield meteors_c
    for found in pkgutil.walk_packages(meteors_c.__path__, "meteors_c."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


def public_names() -> dict[ModuleType, list[str]]:
    """Return what each module has in ``__all__``, each object with the first module that offers it."""
    seen: set[int] = set()
    found: dict[ModuleType, list[str]] = {}
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if isinstance(value, ModuleType | GenericAlias) or name.startswith("_") or id(value) in seen:
                continue
            if callable(value):
                seen.add(id(value))
            found.setdefault(module, []).append(name)
    return found


def directive(value: Any) -> str:
    """Return the directive that documents a value, with its options."""
    if not inspect.isclass(value):
        return ".. autofunction:: {}\n" if callable(value) else ".. autodata:: {}\n"
    shown = (
        ""
        if any(base is object or "._" in f"{base.__module__}.{base.__name__}" for base in value.__bases__)
        else BASE_SHOWN
    )
    if issubclass(value, BaseException):
        return f".. autoexception:: {{}}\n{shown}"
    return f".. autoclass:: {{}}\n   :members:\n   :inherited-members: {BASES}\n{shown}"


def write_reference(folder: Path) -> None:
    """Write a page for each public module, with a table of its names, and a page for each name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = public_names()
    for module, listed in names.items():
        path = module.__name__
        for name in listed:
            body = directive(getattr(module, name)).format(name)
            write(folder / f"{path}.{name}.rst", name, f".. currentmodule:: {path}\n\n{body}")
        rows = "\n".join(f"   * - `~{path}.{name}`\n     - {summary(getattr(module, name))}" for name in listed)
        pages = "\n".join(f"   {path}.{name}" for name in listed)
        table = f".. list-table::\n   :widths: 30 70\n\n{rows}\n"
        tree = f".. toctree::\n   :hidden:\n\n{pages}\n"
        write(folder / f"{path}.rst", path, f".. automodule:: {path}\n\n{table}\n{tree}")
    main = [module.__name__ for module in names if module.__name__.count(".") <= 1]
    parts = [module.__name__ for module in names if module.__name__.count(".") > 1]
    trees = []
    for caption, paths in (("Modules", main), ("Parts of modules", parts)):
        listed = "\n".join(f"   reference/{path}" for path in paths)
        trees.append(f".. toctree::\n   :maxdepth: 1\n   :caption: {caption}\n\n{listed}\n")
    (folder / "modules.txt").write_text("\n".join(trees))


def summary(value: Any) -> str:
    """Return the first sentence of what a name says of itself, without its references."""
    if not callable(value):
        return ""
    first = (inspect.getdoc(value) or "").partition("\n\n")[0]
    sentence = re.split(r"(?<=[a-z)`\]_0-9])[.:] ", f"{' '.join(first.split())} ")[0]
    return re.sub(r" ?\[\d+\]_", "", sentence).strip()


def write(page: Path, title: str, body: str) -> None:
    """Write a page of reStructuredText."""
    page.write_text(f"{title}\n{'=' * len(title)}\n\n{body}")


# ---------------------------------------------------------------- what methods cost

GROWTH = {
    "Saliency": "1",
    "InputXGradient": "1",
    "IntegratedGradients": "`n_steps`",
    "Occlusion": "windows, for any number of outputs",
    "FeatureAblation": "features, for any number of outputs",
    "NoiseTunnel": "`n_samples` times those of the method inside",
    "HyperNoiseTunnel": "`n_samples` times those of the method inside",
    "Lime": "distinct ones of `n_samples`, for any number of outputs",
    "KernelShap": "2 to the power of features (up to 12), then `n_samples`, for any number of outputs",
    "ShapleyValueSampling": "orders times features, for any number of outputs",
}
NEEDS_GRADIENTS = {"Saliency", "InputXGradient", "IntegratedGradients", "NoiseTunnel", "HyperNoiseTunnel"}


def counted(workload: Any, scene: Any) -> int:
    """Count the samples that a workload evaluates: run it, with a network that does next to nothing."""
    image, shape = scene.images()[0], scene.shape
    stripes = (torch.arange(shape[2]) * 10 // shape[2]).expand(shape[1:])  # ten superpixels
    masks = workload.masks(scene, stripes.numpy())
    model = models.ExplainableModel(lambda x: x[:, :4, 0, 0] * 2, "regression")
    torch.manual_seed(0)
    with meteors_c.options(shortcuts=False):
        result = workload.run(meteors_c, model, [HSI(image=image, wavelengths=scene.wavelengths())], **masks)
    return int(result.report.evaluations)


def measured(page: str, workload: str) -> dict[str, dict[str, str]]:
    """Return the quickest row of each scene in a section of the table of measurements."""
    section = re.search(rf"^## {re.escape(workload)}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    if section is None:
        return {}
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    head, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    quickest: dict[str, dict[str, str]] = {}
    for cells in rows[1:]:
        row = dict(zip(["scene", *head[1:]], cells, strict=True))
        known = quickest.get(row["scene"])
        if known is None or float(row["ours s"]) < float(known["ours s"]):
            quickest[row["scene"]] = row
    return quickest


def write_costs(path: Path) -> None:
    """Write the table: evaluations as the engine counts them, seconds as ``make bench`` measured them."""
    from benchmarks.models import SCENES
    from benchmarks.workloads import WORKLOADS

    page = RESULTS.read_text()
    scenes = ("CNN 224", "pixelwise 224")
    lines = [
        "| method and settings | evaluations | grow as | gradients | CNN: seconds | ratio | pixels: seconds | ratio |",
        "|---|--:|---|---|--:|--:|--:|--:|",
    ]
    for name, workload in WORKLOADS.items():
        rows = measured(page, name)
        if not all(scene in rows for scene in scenes):
            continue
        needs = "yes" if {workload.method, workload.inner} & NEEDS_GRADIENTS else "no"
        cells = [f"{float(rows[scene]['ours s']):.2f} | {float(rows[scene]['ratio']):.1f}" for scene in scenes]
        mark = "" if workload.peer == "meteors" else " \\*"
        count = f"{counted(workload, SCENES[scenes[0]]):,}"
        lines.append(f"| {name}{mark} | {count} | {GROWTH[workload.method]} | {needs} | {' | '.join(cells)} |")
    machine = re.search(r"^\d{4}-\d\d-\d\d; .*$", page, re.MULTILINE)
    assert machine is not None, f"{RESULTS} does not say where it was measured"
    note = "\\* meteors has no such method: the ratio is to as many plain forwards of the model."
    path.write_text("\n".join(lines) + f"\n\n{note}\n\n*Measured: {machine[0]}*\n")


def reset_seeds(gallery: Any, script: str) -> None:
    """Give every recipe the same random numbers."""
    torch.manual_seed(0)
