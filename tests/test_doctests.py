"""Every public function, class and method has an example, and all of them run and give what they say.

Examples may use the names of their own module and those of ``docs/example_setup.py``, which the reference shows.
"""

from __future__ import annotations

import doctest
import functools
import hashlib
import http.server
import importlib
import inspect
import pkgutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import meteors_c

ROOT = Path(__file__).parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PARSER = doctest.DocTestParser()


def modules() -> list[ModuleType]:
    """Return the package and all of its modules but extensions and entry points."""
    found = [
        one for one in pkgutil.walk_packages(meteors_c.__path__, "meteors_c.") if not one.name.endswith("__main__")
    ]
    imported = [meteors_c, *(importlib.import_module(one.name) for one in found)]
    return [module for module in imported if (module.__file__ or "").endswith(".py")]


def is_public(module: ModuleType) -> bool:
    return not any(part.startswith("_") for part in module.__name__.split("."))


def methods_of(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods of a class that are defined in this package, in Python or in C."""
    own: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("meteors_c"):
            own |= vars(base)
    for name, raw in own.items():
        value = raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw
        if not name.startswith("_") and (inspect.isroutine(value) or inspect.ismethoddescriptor(value)):
            yield name, value


def public_callables() -> dict[str, tuple[ModuleType, Any]]:
    """Return public functions, classes and their methods by path, each with the module that offers it."""
    found: dict[str, tuple[ModuleType, Any]] = {}
    seen: set[int] = set()
    for module in filter(is_public, MODULES):
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if id(value) in seen or not callable(value) or not str(value.__module__).startswith("meteors_c"):
                continue
            seen.add(id(value))
            found[f"{module.__name__}.{name}"] = module, value
            for own, method in methods_of(value) if inspect.isclass(value) else ():
                if id(method) not in seen:
                    seen.add(id(method))
                    found[f"{module.__name__}.{name}.{own}"] = module, method
    return found


MODULES = modules()
CALLABLES = public_callables()


def all_examples() -> dict[str, doctest.DocTest]:
    """Return what there is to run, by name: of every module, private functions and the types in C included."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = {test.name: test for module in MODULES for test in finder.find(module) if test.examples}
    documents = {test.docstring for test in tests.values()}
    for path, (module, value) in CALLABLES.items():
        text = inspect.getdoc(value) or ""
        if getattr(value, "__doc__", None) not in documents and PARSER.get_examples(text):
            tests[path] = PARSER.get_doctest(text, dict(vars(module)), path, None, 0)
    return tests


EXAMPLES = all_examples()


def test_every_public_name_has_an_example() -> None:
    lacking = [path for path, (_, value) in CALLABLES.items() if not PARSER.get_examples(inspect.getdoc(value) or "")]
    assert not lacking, f"{len(lacking)} public names without an example: {', '.join(lacking)}"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *ignored: Any) -> None:
        pass


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Give what ``docs/example_setup.py`` makes; `url` and `sha256` are published weights, on this machine."""
    matplotlib.use("Agg")
    made: dict[str, Any] = {}
    exec(compile((ROOT / "docs" / "example_setup.py").read_text(), "example_setup.py", "exec"), made)
    folder = tmp_path_factory.mktemp("weights")
    np.savez(folder / "weights.npz", **{name: value.numpy() for name, value in made["network"].state_dict().items()})
    made["sha256"] = hashlib.sha256((folder / "weights.npz").read_bytes()).hexdigest()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        made["url"] = f"http://127.0.0.1:{server.server_port}/weights.npz"
        yield made
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METEORS_C_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    test = EXAMPLES[name]
    test.globs = {**test.globs, **{key: value for key, value in names.items() if key not in test.globs}}
    said: list[str] = []
    try:
        doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=said.append)
    finally:
        plt.close("all")
    assert not said, "".join(said)
