"""The layers stay layers, and the Python face stays free of loops over data: see docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "meteors_c"

C11_HEADERS = {
    f"{name}.h"
    for name in (
        "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg "
        "stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype"
    ).split()
}

# Every loop in meteors_c/attr and, elsewhere, every loop over a range: what it runs over, and why that is no loop
# over pixels, bands, windows, steps or samples. One entry per (file, iterated expression, or the whole `map`, `while`).
REVIEWED = {
    ("attr/_fields.py", "value.items()"): "the named groups of bands a user gave",
    ("attr/_fields.py", "mask.stride()"): "the three axes",
    ("attr/_fields.py", "name"): "the parts of one group's name",
    ("attr/_fields.py", "band_names.items()"): "the named groups of bands a user gave",
    ("attr/_fields.py", "aligned.items()"): "the named groups of bands a user gave",
    ("attr/_fields.py", "map(same, a, b)"): "the parts of a field",
    ("attr/_noise.py", "given"): "the deviations, one for each image",
    ("attr/_noise.py", "map(flags, axes, shape)"): "the three axes",
    ("attr/_noise.py", "map(float, given)"): "the deviations, one for each image",
    ("attr/attributes.py", "vars(self).items()"): "the fields of a result",
    ("attr/attributes.py", "mine.items()"): "the fields of a result",
    ("attr/attributes.py", "hsi.orientation"): "the three axes",
    ("attr/explainer.py", "images"): "the images of one call",
    ("attr/explainer.py", "map(_checked_baseline, given, images)"): "the images of one call",
    ("attr/explainer.py", "map(_one_target, target)"): "the images of one call",
    ("attr/explainer.py", "map(operator.index, given)"): "the axes of the model's output",
    ("attr/explainer.py", "map(abs, indices)"): "the axes of the model's output",
    ("attr/explainer.py", "map(_result_tensor, arrays, images)"): "the images of one call",
    ("attr/explainer.py", "zip(images, attributes, targets, scores, strict=True)"): "the images of one call",
    ("attr/input_x_gradients.py", "zip(images, attributes, strict=True)"): "the images of one call",
    ("attr/integrated_gradients.py", "zip(images, baselines, gradients, strict=True)"): "the images of one call",
    ("attr/integrated_gradients.py", "zip(deltas, attributes, gradients, strict=True)"): "the images of one call",
    ("attr/noise_tunnel.py", "(n, k, n_samples)"): "three arguments",
    ("attr/noise_tunnel.py", "known"): "the inner explainers that there are",
    ("attr/noise_tunnel.py", "map(_result_tensor, slopes, images)"): "the images of one call",
    (
        "attr/noise_tunnel.py",
        "map(_with_slope, attributes, map(_result_tensor, slopes, images), images)",
    ): "the images of one call",
    ("attr/noise_tunnel.py", "zip(images, attributes, targets, used, strict=True)"): "the images of one call",
    ("attr/noise_tunnel.py", "zip(results, errors, strict=True)"): "the images of one call",
    ("attr/occlusion.py", "axes"): "the three axes",
    ("attr/occlusion.py", "images"): "the images of one call",
    ("attr/occlusion.py", "map(_one_target, target)"): "the outputs a user chose",
    ("attr/occlusion.py", "map(operator.index, value)"): "the three axes",
    ("attr/occlusion.py", "map(str, ids)"): "the names of band groups",
    ("attr/occlusion.py", "zip(images, arrays, strict=True)"): "the images of one call",
    ("attr/occlusion.py", "zip(images, arrays, targets, strict=True)"): "the images of one call",
    ("attr/occlusion.py", "zip(of, names, strict=True)"): "the outputs a user chose",
    (
        "_native.py",
        "while frame is not None and frame.f_globals.get('__name__', '').startswith('meteors_c.')",
    ): "the callers of a warning",
    ("datasets/clip.py", "range(layers)"): "the layers of a network that is built",
    ("hub.py", "while True"): "the attempts of a download",
    ("hub.py", "while (block := file.read(_BLOCK))"): "the blocks of a file",
    ("hub.py", "while (block := _read(response))"): "the blocks of a file",
    ("utils.py", "range(3)"): "the three axes",
    ("utils.py", "while source.ndim > target.ndim and source.shape[0] == 1"): "the axes of a tensor",
}


# Headers of the system that a file of the core may use, behind a check that they are there.
OF_THE_SYSTEM = {("heap.c", "malloc.h")}


def includes(folder: str) -> Iterator[tuple[Path, str, str]]:
    """Every include under a folder as (file, "<" or the quote, header)."""
    for path in sorted((ROOT / folder).glob("**/*")):
        if path.suffix in {".c", ".h", ".cpp", ".hpp"}:
            for kind, header in re.findall(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', path.read_text(), re.M):
                yield path, kind, header


def layer(header: str) -> str | None:
    """The source folder that a header of the project lives in."""
    found = [folder for folder in ("core", "python", "torch_bridge") if (ROOT / "src" / folder / header).is_file()]
    return found[0] if found else None


def loops(path: Path) -> Iterator[tuple[int, str]]:
    """Every loop and comprehension of a module as (line, iterated expression)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.For, ast.AsyncFor)):
            yield node.lineno, ast.unparse(node.iter)
        elif isinstance(node, ast.comprehension):
            yield node.iter.lineno, ast.unparse(node.iter)
        elif isinstance(node, ast.While):
            yield node.lineno, f"while {ast.unparse(node.test)}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"map", "filter"}:
            yield node.lineno, ast.unparse(node)


def needs_review(path: Path, iterated: str) -> bool:
    runs_over_numbers = re.search(r"\b(range|arange|ndindex|nditer|ndenumerate|while)\b", iterated) is not None
    return runs_over_numbers or (PACKAGE / "attr") in path.parents


def all_loops() -> list[tuple[str, int, str]]:
    return [
        (path.relative_to(PACKAGE).as_posix(), line, iterated)
        for path in sorted(PACKAGE.glob("**/*.py"))
        for line, iterated in loops(path)
        if needs_review(path, iterated)
    ]


def test_core_includes_only_c_and_itself() -> None:
    found = list(includes("src/core"))
    assert found, "no include was found under src/core: the rule would hold for nothing"
    wrong = [
        f"{path.name}: {header}"
        for path, kind, header in found
        if not (header in C11_HEADERS if kind == "<" else layer(header) == "core")
        and (path.name, header) not in OF_THE_SYSTEM
    ]
    assert not wrong, "src/core is C11 alone, without Python, NumPy or torch"


def test_python_layer_knows_no_torch() -> None:
    found = list(includes("src/python"))
    assert found
    wrong = [
        f"{path.name}: {header}"
        for path, kind, header in found
        if not (layer(header) in {"core", "python"} if kind == '"' else foreign_to_torch(header))
    ]
    assert not wrong, "src/python includes Python, NumPy, C11 and the layers below it"


def foreign_to_torch(header: str) -> bool:
    return header in C11_HEADERS or header in {"Python.h", "structmember.h"} or header.startswith("numpy/")


def test_bridge_includes_of_the_project_only_itself_and_met_h() -> None:
    found = list(includes("src/torch_bridge"))
    assert found
    wrong = [
        f"{path.name}: {header}"
        for path, kind, header in found
        if kind == '"' and not (header == "met.h" or layer(header) == "torch_bridge")
    ]
    assert not wrong, 'the bridge sees the core through met.h alone; other people\'s headers come in <>, not ""'


def test_tests_of_the_core_include_the_core_alone() -> None:
    wrong = [
        f"{path.name}: {header}"
        for path, kind, header in includes("tests/core")
        if not (header in C11_HEADERS if kind == "<" else layer(header) == "core" or (path.parent / header).is_file())
    ]
    assert not wrong


def test_every_loop_is_reviewed() -> None:
    unknown = [
        f"meteors_c/{file}:{line}: {iterated}"
        for file, line, iterated in all_loops()
        if (file, iterated) not in REVIEWED
    ]
    assert not unknown, "loops over pixels, bands, windows, steps or samples belong in src/core; others go on REVIEWED"


def test_the_review_list_is_true() -> None:
    found = {(file, iterated) for file, _, iterated in all_loops()}
    assert set(REVIEWED) <= found, "REVIEWED names loops that are gone"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("for k in range(n_steps): pass", ["range(n_steps)"]),
        ("[f(x) for x in samples]", ["samples"]),
        ("sum(f(x) for x in a for y in x)", ["a", "x"]),
        ("while k < n: k += 1", ["while k < n"]),
        ("list(map(f, samples))", ["map(f, samples)"]),
        ("x = a.sum()", []),
    ],
)
def test_loops_are_seen(tmp_path: Path, source: str, expected: list[str]) -> None:
    module = tmp_path / "module.py"
    module.write_text(source)
    assert [iterated for _, iterated in loops(module)] == expected
