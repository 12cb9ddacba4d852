"""The layers stay layers: see docs/architecture.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

C11_HEADERS = {
    f"{name}.h"
    for name in (
        "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg "
        "stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype"
    ).split()
}

# What a provider of models sees of the core: its contract, model.h, and what that stands on.
PROVIDER_HEADERS = {f"{name}.h" for name in "model buffer platform sample segments image rng status".split()}

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


def reached(header: str) -> set[str]:
    """The headers of the core that come with one of them, itself included."""
    found, to_do = set(), {header}
    while to_do:
        found |= to_do
        to_do = {name for path, kind, name in includes("src/core") if path.name in to_do and kind == '"'} - found
    return found


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


def test_bridge_sees_of_the_core_only_what_a_provider_needs() -> None:
    found = list(includes("src/torch_bridge"))
    assert found
    wrong = [
        f"{path.name}: {header}"
        for path, kind, header in found
        if kind == '"' and not (header in PROVIDER_HEADERS or layer(header) == "torch_bridge")
    ]
    assert not wrong, 'the bridge includes itself and model.h; other people\'s headers come in <>, not ""'


def test_contract_of_a_provider_stands_on_no_engine_or_method() -> None:
    assert (ROOT / "src" / "core" / "model.h").is_file()
    assert reached("model.h") <= PROVIDER_HEADERS, "a change of the engine would compile the bridge again"


def test_tests_of_the_core_include_the_core_alone() -> None:
    wrong = [
        f"{path.name}: {header}"
        for path, kind, header in includes("tests/core")
        if not (header in C11_HEADERS if kind == "<" else layer(header) == "core" or (path.parent / header).is_file())
    ]
    assert not wrong
