"""Runs code written for ``meteors`` on meteors_c, unchanged.

There are four entry points:

- ``meteors_c.install()`` before the first ``import meteors``;
- ``%load_ext meteors_c`` in IPython and notebooks;
- ``python -m meteors_c script.py ...`` (or ``-m module ...``);
- the environment variable ``METEORS_C=1``, for any Python that has meteors_c installed.

Behind each of them ``meteors``, ``meteors.attr``, ``meteors.visualize``, ... are the very modules of meteors_c under a
second name: classes are the same, so that ``isinstance`` and pickles know no difference.

A name that meteors_c lacks is an error that says so. With ``fallback=True`` (``METEORS_C=fallback``,
``python -m meteors_c --fallback``) it is taken from an installed ``meteors``, and `report` lists it. That package stays
whole and apart: its modules are imported as ``_meteors_peer``, and what they import from each other are their own
classes, never those of meteors_c. Nothing is converted: an HSI or a model of meteors_c is no instance of the classes of
``meteors``, whose functions refuse it with their own message. Build what you hand to them from `peer`, as in
``peer().HSI(...)``.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import logging
import opcode
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import FrameType, ModuleType
from typing import Any

__all__ = ["install", "load_ipython_extension", "peer", "report", "uninstall", "unload_ipython_extension"]

_OURS = "meteors_c"
_ALIAS = "meteors"  # the name under which modules of meteors_c are known too
_METEORS = "_meteors_peer"  # the name under which an installed meteors is imported

_logger = logging.getLogger("meteors_c")
_lock = threading.RLock()
_fallback = False
_taken: dict[str, None] = {}  # names taken from the installed meteors, in order
_before: dict[str, Any] = {}  # what sys.modules held under the names of meteors before `install`
_attached: list[tuple[ModuleType, str]] = []  # packages of meteors_c with the name of a module of meteors in each


def install(*, fallback: bool = False) -> None:
    """Let ``import meteors`` give meteors_c, until `uninstall`.

    Parameters
    ----------
    fallback : bool, default False
        Whether names that meteors_c lacks are taken from an installed ``meteors``; see `report` and the notes of
        `meteors_c.dropin`. Where none is installed, using such a name is an error that says so. A second call may
        change this.

    Raises
    ------
    RuntimeError
        The real ``meteors`` is imported already: objects of both kinds would meet. Nothing has changed then.

    Examples
    --------
    >>> import meteors_c
    >>> meteors_c.install()
    >>> from meteors.attr import Saliency  # the class of meteors_c
    """
    global _fallback
    with _lock:
        if not _installed():
            names = {name: module for name, module in sys.modules.items() if _is_part(name, _ALIAS)}
            real = names.get(_ALIAS) or next((module for module in names.values() if module is not None), None)
            if real is not None:
                raise RuntimeError(
                    f"meteors is imported already ({getattr(real, '__file__', None) or real!r}), and its objects must "
                    "not mix with those of meteors_c: call meteors_c.install() before the first import of meteors, or "
                    "start Python as `python -m meteors_c script.py` or with METEORS_C=1"
                )
            _before.clear()
            _before.update(names)
            _taken.clear()
            _alias(_ALIAS, importlib.import_module(_OURS))
            for part in _module_names():
                if _exists(f"{_OURS}.{part}"):
                    _alias(f"{_ALIAS}.{part}", importlib.import_module(f"{_OURS}.{part}"))
            sys.meta_path.insert(0, _Finder())
        _fallback = bool(fallback)


def uninstall() -> None:
    """Undo `install`: ``meteors`` is again what is installed under that name, if anything is.

    Names that were imported before stay what they are. Without `install` before it, this does nothing.

    Examples
    --------
    >>> meteors_c.install()
    >>> meteors_c.uninstall()  # `import meteors` finds what is installed under that name again
    """
    global _fallback
    with _lock:
        sys.meta_path[:] = [finder for finder in sys.meta_path if not _is_ours(finder)]
        if not _installed():
            return
        for name in [name for name in sys.modules if _is_part(name, _ALIAS)]:
            module = sys.modules.pop(name)
            if isinstance(module, _AliasedModule):
                module.__class__ = ModuleType  # type: ignore[assignment]  # narrowed to _AliasedModule just above
        sys.modules.update(_before)
        for package, name in _attached:
            vars(package).pop(name, None)
        _attached.clear()
        _fallback = False


def report() -> list[str]:
    """Return the names that were taken from the installed ``meteors`` since `install`, in the order of first use.

    Examples
    --------
    >>> meteors_c.install(fallback=True)
    >>> from meteors.attr import Saliency
    >>> report()  # nothing was lacking
    []
    >>> meteors_c.uninstall()
    """
    return list(_taken)


def peer() -> ModuleType:
    """Return the installed ``meteors`` itself, imported under the name ``_meteors_peer``.

    Returns
    -------
    module
        The package, with its own submodules and classes. Objects of these classes pickle under the name
        ``_meteors_peer`` and load only in a process that has called this function.

    Raises
    ------
    ImportError
        There is no ``meteors``, or it can't be imported.

    Examples
    --------
    >>> try:
    ...     image_type = peer().HSI
    ... except ImportError as error:
    ...     print(error)  # doctest: +ELLIPSIS
    no meteors is installed...
    """
    with _lock:
        if not any(isinstance(finder, _MeteorsFinder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _MeteorsFinder())
    return importlib.import_module(_METEORS)


def load_ipython_extension(shell: Any) -> None:
    """Serve ``%load_ext meteors_c``: call `install`.

    Examples
    --------
    In a notebook ``%load_ext meteors_c``, which calls

    >>> load_ipython_extension(None)
    >>> from meteors import HSI  # that of meteors_c
    >>> unload_ipython_extension(None)
    """
    install()


def unload_ipython_extension(shell: Any) -> None:
    """Serve ``%unload_ext meteors_c``: call `uninstall`.

    Examples
    --------
    In a notebook ``%unload_ext meteors_c``, which calls

    >>> load_ipython_extension(None)
    >>> unload_ipython_extension(None)
    """
    uninstall()


def _module_names() -> list[str]:
    """Return the modules of meteors and those of the methods here, without the name of the package."""
    importlib.import_module(f"{_OURS}.attr")  # which registers its methods
    methods = importlib.import_module(f"{_OURS}.attr._registry").METHODS.values()
    others = (
        "hsi utils exceptions models models.abstract models.linear attr attr.attributes attr.explainer attr.lime "
        "attr.lime_base shap shap.shap shap.explainer visualize visualize.hsi_visualize visualize.attr_visualize "
        "visualize.shap_visualize"
    ).split()
    return [*others, *dict.fromkeys(method.__module__.removeprefix(f"{_OURS}.") for method in methods)]


def _installed() -> bool:
    return sys.modules.get(_ALIAS) is sys.modules[_OURS]


def _is_part(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _is_ours(finder: object) -> bool:
    startup = sys.modules.get("_meteors_c_startup")
    return isinstance(finder, _Finder) or (startup is not None and isinstance(finder, startup.StartupFinder))


def _exists(name: str) -> bool:
    """Whether there is a module of this name; imports its parents."""
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is None or not _is_part(name, error.name):
            raise
        return False


def _alias(name: str, module: ModuleType) -> None:
    # A class of its own is the one hook for missing names that outlives importlib.reload.
    if type(module) is ModuleType:
        module.__class__ = _AliasedModule
    sys.modules[name] = module


class _AliasedModule(ModuleType):
    """A module of meteors_c that is known as one of meteors too."""

    def __getattr__(self, name: str) -> Any:
        # Python and IPython look such names up by themselves, and the import system looks for a submodule before it
        # imports it: neither needs an explanation.
        module = self.__name__
        if name.startswith(("__", "_ipython_", "_repr_")) or _exists(f"{module}.{name}"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name, obj=self)
        try:
            return _from_meteors(_METEORS + module[len(_OURS) :], name)
        except _LackingError as error:
            lacking = f"meteors_c lacks {name!r} in module {module!r}{error}"
            if _is_from_import(sys._getframe(1)):
                # Python drops the text of an AttributeError here and raises an ImportError of its own, which does not
                # say why the name is missing.
                raise _import_error(lacking, self, name) from error.__cause__
            raise AttributeError(lacking, name=name, obj=self) from error.__cause__


def _is_from_import(frame: FrameType) -> bool:
    """Whether the instruction that a frame is at takes a name in ``from module import name``."""
    code, at = frame.f_code.co_code, frame.f_lasti
    while at >= 0 and code[at] == opcode.EXTENDED_ARG:  # precedes an instruction whose argument exceeds eight bits
        at += 2
    return at >= 0 and code[at] == opcode.opmap["IMPORT_FROM"]


def _import_error(message: str, module: ModuleType, name: str) -> ImportError:
    error = ImportError(message, name=module.__name__, path=getattr(module, "__file__", None))
    if hasattr(error, "name_from"):  # by which Python 3.12 suggests similar names
        error.name_from = name
    return error


class _LackingError(Exception):
    """Why a name is not taken from meteors: the end of a sentence that says what meteors_c lacks."""


def _from_meteors(module: str, name: str | None = None) -> Any:
    """Take a module of the installed meteors, or a name in it, and report that."""
    if not _fallback:
        raise _LackingError(
            "; with meteors_c.install(fallback=True), or METEORS_C=fallback, "
            "such names are taken from an installed meteors"
        )
    try:
        peer()
    except Exception as error:  # whatever meteors raises while it is imported
        raise _LackingError(f", and can't take it from meteors: {error}") from error
    try:
        found: Any = importlib.import_module(module)
        if name is not None:
            found = getattr(found, name) if hasattr(found, name) else importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or not _is_part(error.name, _METEORS):
            raise _LackingError(f", and can't take it from meteors: {error}") from error
        raise _LackingError(", and so does the installed meteors") from None
    label = _ALIAS + module[len(_METEORS) :] + ("" if name is None else f".{name}")
    if label not in _taken:
        _taken[label] = None
        _logger.info("%s is taken from the installed meteors: meteors_c lacks it", label)
    return found


class _Finder:
    """Finds the submodules of ``meteors`` that `install` has not imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(f"{_ALIAS}.") or not _installed():
            return None
        part = name[len(_ALIAS) :]
        if _exists(_OURS + part):
            return ModuleSpec(name, _Loader(_OURS + part))  # type: ignore[arg-type]
        try:
            module = _from_meteors(_METEORS + part)
        except _LackingError as error:
            raise ModuleNotFoundError(
                f"No module named {name!r}: meteors_c lacks it{error}", name=name
            ) from error.__cause__
        package, _, child = name.rpartition(".")
        if isinstance(sys.modules[package], _AliasedModule):
            _attached.append((sys.modules[package], child))
        return ModuleSpec(name, _Loader(module.__name__))  # type: ignore[arg-type]


class _Loader:
    """Gives a module that can be imported under another name than that of the spec."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.name)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # the import system has replaced it by that of the alias
        if _is_part(self.name, _OURS):
            _alias(_ALIAS + self.name[len(_OURS) :], module)


class _MeteorsFinder:
    """Finds the installed ``meteors`` for ``_meteors_peer``, and so for its submodules."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not _is_part(name, _METEORS):
            return None
        real = _ALIAS + name[len(_METEORS) :]
        others = (f for f in sys.meta_path if not (isinstance(f, _MeteorsFinder) or _is_ours(f)))
        specs = (finder.find_spec(real, path) for finder in others if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or spec.origin is None:
            lacking = "no meteors is installed" if name == _METEORS else f"the installed meteors has no module {real!r}"
            raise ModuleNotFoundError(lacking, name=name)
        return importlib.util.spec_from_file_location(
            name,
            spec.origin,
            loader=_MeteorsLoader(name, spec.origin),
            submodule_search_locations=spec.submodule_search_locations,
        )


class _MeteorsLoader(SourceFileLoader):
    """Runs a module of meteors whose imports of ``meteors``, inside its functions too, find that package itself."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import_for_meteors}
        super().exec_module(module)


def _import_for_meteors(
    name: str,
    globals: Mapping[str, object] | None = None,  # the names of builtins.__import__
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    if level == 0 and _is_part(name, _ALIAS):
        name = _METEORS + name[len(_ALIAS) :]
    return builtins.__import__(name, globals, locals, fromlist or (), level)
