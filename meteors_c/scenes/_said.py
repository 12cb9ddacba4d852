"""Values in words that differ where the values do, and are the same in every process."""

from __future__ import annotations

import copyreg
import functools
import hashlib
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from types import BuiltinFunctionType, CodeType, EllipsisType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from meteors_c.models._inspection import content_of, global_names
from meteors_c.models.explainable import _Postprocessed
from meteors_c.models.linear import LinearModel

__all__ = ["said"]

LONGEST = 160  # characters of a text; of longer ones the beginning and a hash
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OWN = ("training", "_parameters", "_buffers", "_modules")
_OF_TORCH = frozenset(vars(nn.Module())) - {*_HOOKS, *_OWN}
_FITTED = ("norm", "linear")  # in a linear model
_MANGLED = re.compile(r"___torch_mangle_\d+\.")  # in names of TorchScript: what the process had loaded before
# Of these only the presence matters: nothing that a model computes is in them.
_EMPTY = (weakref.ReferenceType, type(threading.Lock()), type(threading.RLock()))
_Cached: Any = type(functools.lru_cache(lambda: None))


def said(value: Any, opaque: list[str] | None = None) -> str:
    """Return a value in words that differ where it does.

    Arrays, networks and long texts are said by a hash. A function is its code and all that it reads from outside: what
    its closure holds, defaults, and the globals that it names. An object is its class and what pickle would keep of it.
    Of installed packages, and of this one, functions and classes are told by their names alone.

    Parameters
    ----------
    value : Any
        What to say.
    opaque : list of str, optional
        Types of objects whose contents nothing tells are appended; the text has no more of them than that.

    Returns
    -------
    str
        The same for equal values in other processes.
    """
    return _Speaker([] if opaque is None else opaque).said(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256(values.data).hexdigest()[:16]


def _name(value: Any) -> str:
    value = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(value, '__module__', None) or ''}.{value.__qualname__}"


@functools.cache
def _installed(module: str | None) -> bool:
    """Tell whether a module is Python's, this package's or an installed one, whose code a run takes for granted."""
    top = (module or "builtins").partition(".")[0]
    if top == "__main__":
        return False
    if top in sys.stdlib_module_names or top in ("meteors_c", "numpy", "torch"):
        return True
    file = getattr(sys.modules.get(module or top), "__file__", None)
    return file is not None and any(part in ("site-packages", "dist-packages") for part in Path(file).parts)


class _Speaker:
    """Says values, each once; what holds itself is said by how far out it is."""

    def __init__(self, opaque: list[str]) -> None:
        self.opaque = opaque
        self._known: dict[int, tuple[Any, str]] = {}  # with the value, so that no other one gets its id
        self._open: dict[int, int] = {}

    def said(self, value: Any) -> str:
        if id(value) in self._open:
            return f"^{len(self._open) - self._open[id(value)]}"
        if id(value) in self._known:
            return self._known[id(value)][1]
        self._open[id(value)] = len(self._open)
        try:
            text = self._told(value)
        finally:
            del self._open[id(value)]
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 4]}...:{_digest(text)}"
        self._known[id(value)] = (value, text)
        return text

    def _told(self, value: Any) -> str:
        for kinds, tell in _TOLD:
            if isinstance(value, kinds):
                return tell(self, value)
        return self._object(value)

    # ------------------------------------------------------------ containers

    def _mapping(self, value: Mapping[Any, Any]) -> str:
        entries = ", ".join(f"{self.said(key)}: {self.said(entry)}" for key, entry in value.items())
        return f"{'' if type(value) is dict else _name(type(value))}{{{entries}}}"

    def _sequence(self, value: list[Any] | tuple[Any, ...]) -> str:
        plain = type(value) in (list, tuple)
        return f"{'' if plain else _name(type(value))}[{', '.join(map(self.said, value))}]"

    def _set(self, value: Set[Any]) -> str:
        return f"set[{', '.join(sorted(map(self.said, value)))}]"

    # ------------------------------------------------------------ numbers

    def _tensor(self, value: torch.Tensor) -> str:
        try:
            plain = value.detach().cpu()
            plain = plain.to_dense() if plain.layout != torch.strided else plain
            flat = plain.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy()
        except (NotImplementedError, RuntimeError):  # a layout that has no such bytes
            return self._unknown(value)
        return f"{value.dtype}{tuple(value.shape)}:{_hash(flat)}"

    def _array(self, value: np.ndarray | np.generic) -> str:
        if value.dtype.hasobject:
            return f"{value.shape}{self.said(value.tolist())}"
        if not value.ndim:
            return repr(value.item())
        masked = self.said(np.ma.getmaskarray(value)) if isinstance(value, np.ma.MaskedArray) else ""
        flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        return f"{value.dtype}{value.shape}:{_hash(flat)}{masked}"

    # ------------------------------------------------------------ networks

    def _network(self, module: nn.Module) -> str:
        """Say the class of a network, its parameters and buffers, its parts, its other attributes and its hooks."""
        if "_orig_mod" in module._modules:  # compiled
            return self.said(module._modules["_orig_mod"])
        held = {name: value for name, value in vars(module).items() if name not in _OF_TORCH}
        held |= {name: list(held[name].values()) for name in _HOOKS if name in held}
        held |= {"_modules": list(module._modules.items())}
        return f"{self.said(type(module))}({self.said(held)})"

    def _surrogate(self, model: LinearModel) -> str:
        """Say a linear model without what the last fit left in it: each window is fitted anew."""
        held = {name: value for name, value in vars(model).items() if name not in {*_OF_TORCH, *_FITTED}}
        held |= {"_buffers": None, "_modules": [one for one in model._modules.items() if one[0] not in _FITTED]}
        return f"{self.said(type(model))}({self.said(held)})"

    def _graph(self, module: fx.GraphModule) -> str:
        plain = (torch.Tensor, int, float, str)
        held = {name: value for name, value in vars(module).items() if name in _OWN or isinstance(value, plain)}
        parts = {name: part for name, part in module._modules.items() if not _guards(part)}
        return f"graph({self.said(module.code)}, {self.said(held | {'_code': None, '_modules': parts})})"

    def _script(self, module: torch.jit.ScriptModule) -> str:
        """Say the methods of TorchScript, the tensors in them, and the attributes that they read."""
        told: list[Any] = [dict(module.state_dict())]
        parts: list[Any] = [part._c for part in module.modules()]
        names: set[str] = set()
        for part in parts:
            for name in sorted(part._method_names()):
                method = part._get_method(name)
                code, constants = method.code_with_constants
                told.append([_MANGLED.sub("", code), dict(constants)])
                names |= {node.s("name") for node in method.graph.findAllNodes("prim::GetAttr")}
        for part in parts:
            read = {name: part.getattr(name) for name in sorted(names) if part.hasattr(name)}
            told.append({name: value for name, value in read.items() if not isinstance(value, torch._C.ScriptModule)})
        return f"script({self.said(told)})"

    def _postprocessed(self, value: _Postprocessed) -> str:
        return f"postprocessed({self.said(value.model)}, {self.said(value.postprocessing)})"

    # ------------------------------------------------------------ functions, classes, modules

    def _function(self, function: FunctionType) -> str:
        compiled = getattr(function, "_torchdynamo_orig_callable", None)
        if compiled is not None:
            return self.said(compiled)
        outside = [content_of(cell) for cell in function.__closure__ or ()]
        parts: list[Any] = [outside, function.__defaults__, function.__kwdefaults__, vars(function)]
        if not _installed(function.__module__):
            names = dict.fromkeys(global_names(function.__code__))
            read = {name: function.__globals__[name] for name in names if name in function.__globals__}
            modules = {name: of for name, of in read.items() if isinstance(of, ModuleType)}
            parts += [_Code(function.__code__), {name: of for name, of in read.items() if name not in modules}]
            parts += [self._module(of, function.__code__) for of in modules.values()]
        return f"{_name(function)}({', '.join(map(self.said, parts))})"

    def _code(self, value: _Code) -> str:
        code = value.code
        names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
        constants = [_Code(one) if isinstance(one, CodeType) else one for one in code.co_consts]
        return f"{code.co_code.hex()}, {names}, {self.said(constants)}"

    def _module(self, module: ModuleType, code: CodeType) -> str:
        """Say what code may read of a module."""
        if _installed(module.__name__):
            return module.__name__
        read = {name: vars(module)[name] for name in _attributes(code) if name in vars(module)}
        inner = {name: of for name, of in read.items() if isinstance(of, ModuleType) and of is not module}
        rest = {name: of for name, of in read.items() if not isinstance(of, ModuleType)}
        return f"{module.__name__}({self.said(rest)}, {[self._module(of, code) for of in inner.values()]})"

    def _method(self, method: MethodType) -> str:
        return f"method({self.said(method.__func__)}, {self.said(method.__self__)})"

    def _builtin(self, function: BuiltinFunctionType) -> str:
        owner = function.__self__
        bound = owner is not None and not isinstance(owner, ModuleType | type)
        return f"{_name(function)}({self.said(owner)})" if bound else _name(function)

    def _class(self, kind: type) -> str:
        if _installed(kind.__module__):
            return _name(kind)
        own = {name: _plain(value) for name, value in vars(kind).items() if not _of_every_class(name)}
        told = {name: value for name, value in own.items() if isinstance(value, _IN_CLASSES)}
        return f"{_name(kind)}({self.said(list(kind.__bases__))}, {self.said(told)})"

    # ------------------------------------------------------------ objects

    def _object(self, value: Any) -> str:
        """Say an object by what pickle keeps of it."""
        try:
            known = copyreg.dispatch_table.get(type(value))
            reduced = value.__reduce_ex__(4) if known is None else known(value)
        except Exception:  # whatever it is, the contents are not to be had
            return self._unknown(value)
        if isinstance(reduced, str):
            return f"{getattr(value, '__module__', None) or type(value).__module__}.{reduced}"
        maker, arguments, *rest = reduced
        state, items, pairs, *setter = [*rest, None, None, None][:4]
        further = [list(entries) if isinstance(entries, Iterator) else entries for entries in (items, pairs)]
        return f"{self.said(type(value))}({self.said([maker, arguments, state, further, setter])})"

    def _unknown(self, value: Any) -> str:
        self.opaque.append(_name(type(value)).removeprefix("builtins."))
        return f"opaque {_name(type(value))}"


class _Code:
    """Code, apart from the function that it is of."""

    def __init__(self, code: CodeType) -> None:
        self.code = code


def _attributes(code: CodeType) -> list[str]:
    """Return the names that code, and the functions defined in it, look up."""
    inner = [name for one in code.co_consts if isinstance(one, CodeType) for name in _attributes(one)]
    return sorted({*code.co_names, *inner})


def _guards(part: Any) -> bool:
    """Tell whether a part of an exported program only checks its inputs."""
    return type(part).__module__.startswith("torch.export") and not isinstance(part, fx.GraphModule)


def _of_every_class(name: str) -> bool:
    return name in ("__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__firstlineno__", "_abc_impl")


def _plain(value: Any) -> Any:
    """Return the functions of what a class holds."""
    if isinstance(value, staticmethod | classmethod):
        return value.__func__
    return [value.fget, value.fset] if isinstance(value, property) else value


_IN_CLASSES = (FunctionType, str, bytes, int, float, complex, list, tuple, dict, Set, torch.Tensor, np.ndarray, type)

# In this order: a script is a network too.
_TOLD: list[tuple[Any, Callable[[_Speaker, Any], str]]] = [
    ((str, bytes, int, float, complex, slice, EllipsisType, type(None)), lambda _, value: repr(value)),
    (torch.Tensor, _Speaker._tensor),
    ((np.ndarray, np.generic), _Speaker._array),
    (torch.jit.ScriptModule, _Speaker._script),
    (torch.jit.ScriptFunction, lambda speaker, value: f"script({speaker.said(value.code)})"),
    (fx.GraphModule, _Speaker._graph),
    (LinearModel, _Speaker._surrogate),
    (nn.Module, _Speaker._network),
    (_Postprocessed, _Speaker._postprocessed),
    (Mapping, _Speaker._mapping),
    ((list, tuple), _Speaker._sequence),
    (Set, _Speaker._set),
    (type, _Speaker._class),
    (_Cached, lambda speaker, value: speaker.said(value.__wrapped__)),
    (FunctionType, _Speaker._function),
    (_Code, _Speaker._code),
    (MethodType, _Speaker._method),
    (BuiltinFunctionType, _Speaker._builtin),
    (ModuleType, lambda _, value: value.__name__),
    ((np.ufunc, torch._ops.OpOverload, torch._ops.OpOverloadPacket), lambda _, value: str(value)),
    (_EMPTY, lambda _, value: _name(type(value))),
]
