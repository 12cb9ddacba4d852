"""List every public name of ``meteors`` 0.2, and find the tests here that use each.

``python tools/public_names.py`` runs this file with the interpreter in ``METEORS_PEER_PYTHON`` (by default
``.venv-peer/bin/python``, which ``make bench`` installs) and writes ``tests/parity/public_names.json``: the modules,
their own functions and classes, what packages hand on, public methods and properties, and the parameters of each. Names
that code written for ``meteors`` uses though they are private, or that come with other releases, stand in
``public_names_beyond.txt`` beside this file.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NAMES = ROOT / "tests" / "parity" / "public_names.json"
BEYOND = Path(__file__).with_name("public_names_beyond.txt")
PEER_PYTHON = os.environ.get("METEORS_PEER_PYTHON", str(ROOT / ".venv-peer" / "bin" / "python"))

Entry = dict[str, Any]

# ---------------------------------------------------------------- what there is in a package


def parameters_of(function: Any) -> list[str]:
    """Return parameters as they would be written, without types: ``x``, ``n=5``, ``*``, ``**kwargs``."""
    written: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not any(one.startswith("*") for one in written):
            written.append("*")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={written_default(parameter.default)}"
        written.append(f"{stars}{parameter.name}{default}")
    return written


def written_default(value: Any) -> str:
    """Return a default as it would be written: numbers, text and tuples by value, objects by the name of their type."""
    if value is None or isinstance(value, bool | int | float | str | tuple):
        return repr(value)
    return str(getattr(value, "__name__", type(value).__name__))


def member_entry(raw: Any) -> Entry | None:
    """Return the entry of an attribute in the dict of a class, or None for what is neither method nor property."""
    if isinstance(raw, property) or inspect.isdatadescriptor(raw):
        return {"kind": "property"}
    function = raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw
    if not inspect.isfunction(function):
        return None
    own = parameters_of(function)
    return {"kind": "method", "parameters": own if isinstance(raw, staticmethod) else own[1:]}


def class_entries(path: str, kind: type) -> Iterator[tuple[str, Entry]]:
    """Yield a class, and the public fields, methods and properties that it defines itself."""
    yield path, {"kind": "class", "parameters": parameters_of(kind)}
    own = vars(kind)
    annotated = own.get("__annotations__", {})
    fields = [name for name in getattr(kind, "model_fields", {}) if name in annotated]  # those of pydantic
    for name in fields:
        yield f"{path}.{name}", {"kind": "field"}
    decorators = getattr(kind, "__pydantic_decorators__", None)  # what pydantic calls to check values, and nobody else
    checks = {*decorators.model_validators, *decorators.field_validators} if decorators else set()
    for name, raw in own.items():
        if not name.startswith(("_", "model_")) and name not in (*fields, *checks):
            entry = member_entry(raw)
            if entry is not None:
                yield f"{path}.{name}", entry


def package_entries(package: str) -> dict[str, Entry]:
    """Return the public names of an installed package by path."""
    root = importlib.import_module(package)
    names = [package, *(found.name for found in pkgutil.walk_packages(root.__path__, f"{package}."))]
    entries: dict[str, Entry] = {}
    for module_name in names:
        module = importlib.import_module(module_name)
        entries[module_name] = {"kind": "module"}
        handed_on = set(getattr(module, "__all__", ()))
        for name, value in sorted(vars(module).items()):
            own = getattr(value, "__module__", None) == module_name
            if name.startswith("_") or isinstance(value, types.ModuleType) or not (own or name in handed_on):
                continue
            path = f"{module_name}.{name}"
            if not own:
                entries[path] = {"kind": "name"}
            elif inspect.isclass(value):
                entries.update(class_entries(path, value))
            elif inspect.isfunction(value):
                entries[path] = {"kind": "function", "parameters": parameters_of(value)}
    return entries


def entries_beyond() -> dict[str, Entry]:
    """Return the names written down beside this file, one a line: a path, with parameters in parentheses if known."""
    entries: dict[str, Entry] = {}
    for line in BEYOND.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        path, called, parameters = line.removesuffix(")").partition("(")
        entries[path] = {"kind": "name"}
        if called:
            arguments = ast.parse(f"lambda {parameters}: 0", mode="eval").body.args  # type: ignore[attr-defined]
            entries[path] = {"kind": "function", "parameters": written_arguments(arguments)}
    return entries


def written_arguments(arguments: ast.arguments) -> list[str]:
    """Return parsed parameters as `parameters_of` does."""
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + list(arguments.defaults)
    written = [
        argument.arg + ("" if default is None else f"={ast.unparse(default)}")
        for argument, default in zip(arguments.args, defaults, strict=True)
    ]
    return written + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])


# ---------------------------------------------------------------- the tests that use a name


class Test(NamedTuple):
    """A test: its name, its own tokens and those of its whole file."""

    name: str
    own: set[str]
    whole: set[str]


def tokens_of(node: ast.AST) -> set[str]:
    """Return the names in a piece of code: variables, attributes, imports, and texts that name a function or module."""
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Attribute):
            found.add(part.attr)
        elif isinstance(part, ast.ImportFrom) and part.module:
            found |= {*part.module.split("."), *(alias.name for alias in part.names)}
        elif isinstance(part, ast.Import):
            found |= {piece for alias in part.names for piece in alias.name.split(".")}
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            # Not those of classes, which are the names of methods in results as well.
            found |= {piece for piece in part.value.split(".") if piece.isidentifier() and not piece[0].isupper()}
    return found


def all_tests() -> list[Test]:
    """Return every test but those of the names themselves."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path.name == "test_public_names.py":
            continue
        tree = ast.parse(path.read_text())
        whole = tokens_of(tree)
        file = str(path.relative_to(ROOT / "tests"))
        classes = [(f"{node.name}::", node.body) for node in tree.body if isinstance(node, ast.ClassDef)]
        for prefix, body in [("", tree.body), *classes]:
            found += [
                Test(f"{file}::{prefix}{node.name}", tokens_of(node), whole)
                for node in body
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            ]
    return found


def tests_of(path: str, entries: dict[str, Entry], tests: list[Test]) -> list[str]:
    """Return the tests that use a name, the surest first.

    A member of a class needs the class too, and a name that several modules define needs its module; they may stand
    elsewhere in the file, in a list of parameters or a helper. Tests with both in their own code come first, and of
    these the ones in a file that is called like the module.
    """
    *owners, name = path.split(".")
    if entries[path]["kind"] == "module":
        return [test.name for test in tests if path.rpartition(".")[2].replace("meteors", "meteors_c") in test.whole]
    module = next(one for one in reversed(owners) if one[0].islower())
    defined = [one for one, entry in entries.items() if one.rpartition(".")[2] == name and entry["kind"] != "name"]
    needed = {name, owners[-1]} if owners[-1][0].isupper() or len(defined) > 1 else {name}

    def doubt(test: Test) -> tuple[bool, bool]:
        return not needed <= test.own, f"test_{module}." not in test.name

    in_files = [test for test in sorted(tests, key=doubt) if needed <= test.whole]
    by_name = [test.name for test in in_files if name in test.own]
    return by_name or [test.name for test in in_files if needed & test.own]


# ---------------------------------------------------------------- the command line


def load() -> dict[str, Entry]:
    """Return the names that were listed, by path."""
    entries: dict[str, Entry] = json.loads(NAMES.read_text())
    return entries


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", metavar="FILE", help=argparse.SUPPRESS)  # what runs in the peer's interpreter
    arguments = parser.parse_args()
    if arguments.list:
        Path(arguments.list).write_text(json.dumps(package_entries("meteors")))
    else:
        if not Path(PEER_PYTHON).exists():
            sys.exit(f"The peer's interpreter {PEER_PYTHON} is missing: run `make bench`, or set METEORS_PEER_PYTHON.")
        subprocess.run([PEER_PYTHON, __file__, "--list", str(NAMES)], check=True)
        entries = load()
        entries |= {path: entry for path, entry in entries_beyond().items() if path not in entries}
        lines = (f"{json.dumps(path)}: {json.dumps(entries[path])}" for path in sorted(entries))
        NAMES.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{len(entries)} names in {NAMES.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
