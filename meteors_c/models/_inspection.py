"""What can be told of a model without running it: its networks, their dtype, device and mode."""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import CellType, CodeType, FunctionType
from typing import Any, NamedTuple

import torch
from torch import fx, nn

__all__ = ["TrainMode", "content_of", "global_names", "modules_of", "takes_apart", "tensors_of", "train_mode"]

_MAX_DEPTH = 5  # of functions around functions around a network
_MAX_OBJECTS = 256  # looked at for one model
_MAX_ENTRIES = 64  # of a list or dict that are looked at


# ---------------------------------------------------------------- networks of a callable


def modules_of(function: Any) -> tuple[nn.Module, ...]:
    """Return the networks that a callable is made of, the outermost first.

    They are found in partials, bound methods, callable objects, decorated functions, and in the closures, defaults and
    globals that functions read. Nothing is called.

    Parameters
    ----------
    function : Any
        The callable.

    Returns
    -------
    tuple of torch.nn.Module
        Each network once; what lies inside a network is left out. Empty where none is known.
    """
    found: list[nn.Module] = []
    seen: set[int] = set()
    queue: deque[tuple[Any, int]] = deque([(function, 0)])
    while queue and len(seen) < _MAX_OBJECTS:
        value, depth = queue.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found.append(value)
        elif depth < _MAX_DEPTH:
            queue.extend((part, depth + 1) for part in _parts(value))
    if len(found) < 2:
        return tuple(found)
    inside = {id(part) for module in found for part in itertools.islice(module.modules(), 1, None)}
    return tuple(module for module in found if id(module) not in inside)


def _parts(value: Any) -> Iterable[Any]:
    """Return what a callable, or a container of them, is made of."""
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if inspect.ismethod(value):
        owner = value.__self__
        inside = [] if isinstance(owner, nn.Module | type) else list(getattr(owner, "__dict__", {}).values())
        return [owner, *inside, value.__func__]
    if isinstance(value, FunctionType):
        return _read_by(value)
    if isinstance(value, list | tuple | set | frozenset):
        return itertools.islice(value, _MAX_ENTRIES)
    if isinstance(value, dict):
        return itertools.islice(value.values(), _MAX_ENTRIES)
    if callable(value) and not isinstance(value, type):
        return [*getattr(value, "__dict__", {}).values(), vars(type(value)).get("__call__")]
    return []


def _read_by(function: FunctionType) -> list[Any]:
    """Return the values that a function reads from outside itself; none of those that torch and NumPy define."""
    if (function.__module__ or "").partition(".")[0] in ("torch", "numpy"):
        return []
    outside = [content_of(cell) for cell in function.__closure__ or ()]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    names = dict.fromkeys(global_names(function.__code__))
    globals_read = [function.__globals__[name] for name in names if name in function.__globals__]
    return [getattr(function, "__wrapped__", None), *outside, *defaults, *globals_read]


def content_of(cell: CellType) -> Any:
    """Return what a variable of a closure holds, None where it has no value yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def global_names(code: CodeType) -> Iterator[str]:
    """Yield the globals that a function and the functions defined in it read."""
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL":
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


def takes_apart(function: Callable[[Any], Any]) -> bool:
    """Tell whether a function of one argument visibly expects something else than a tensor.

    Parameters
    ----------
    function : callable
        It is not called. Its bytecode tells: an entry that it picks by one int or by a name, an attribute that no
        tensor has, or unpacking.

    Returns
    -------
    bool
        True for ``lambda y: y["out"]``, ``lambda y: y[0]``, ``lambda y: y.logits`` and `operator.itemgetter`; False
        also where nothing can be seen.
    """
    if isinstance(function, operator.itemgetter | operator.attrgetter):
        return True
    if not isinstance(function, FunctionType) or function.__code__.co_argcount == 0:
        return False
    argument = function.__code__.co_varnames[0]
    steps = [step for step in dis.get_instructions(function.__code__) if step.opname not in ("NOP", "RESUME", "CACHE")]
    for first, second, third in zip(steps, steps[1:], steps[2:], strict=False):
        if not (first.opname.startswith("LOAD_FAST") and first.argval == argument):
            continue
        if second.opname in ("LOAD_ATTR", "LOAD_METHOD") and not hasattr(torch.Tensor, second.argval):
            return True
        is_subscript = third.opname == "BINARY_SUBSCR" or (third.opname, third.argrepr) == ("BINARY_OP", "[]")
        if second.opname.startswith("LOAD_") and isinstance(second.argval, int | str) and is_subscript:
            return second.opname in ("LOAD_CONST", "LOAD_SMALL_INT")
        if second.opname == "UNPACK_SEQUENCE":
            return True
    return False


# ---------------------------------------------------------------- tensors of a network


def tensors_of(module: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the parameters of a network, then its buffers; the constants of a frozen one, which has neither."""
    held = itertools.chain(module.parameters(), module.buffers())
    first = next(held, None)
    if first is not None:
        yield first
        yield from held
    elif isinstance(module, torch.jit.ScriptModule):
        yield from _constants(module)


def _constants(script: torch.jit.ScriptModule) -> Iterator[torch.Tensor]:
    """Yield the tensors that are constants of a TorchScript module's code."""
    graph = getattr(script, "inlined_graph", None)
    for node in [] if graph is None else graph.findAllNodes("prim::Constant"):
        if "value" in node.attributeNames() and node.kindOf("value") == "t":
            yield node.t("value")


# ---------------------------------------------------------------- mode


class TrainMode(NamedTuple):
    """Whether a network runs as in training, and whether that overwrites statistics of its batch norms."""

    on: bool
    changes_statistics: bool


def train_mode(module: nn.Module) -> TrainMode:
    """Tell in which mode a network would run.

    A part that only calls others (a `DataParallel`, a wrapper made around a network that is in eval mode already) does
    not count, whatever its own mode. Exported programs are judged by the operators that they consist of, since their
    mode was fixed when they were exported. Parts of frozen TorchScript have no mode.

    Parameters
    ----------
    module : torch.nn.Module
        The network. It is not run.

    Returns
    -------
    TrainMode
        What was found.
    """
    on = statistics = False
    for part in _parts_that_run(module):
        if isinstance(part, fx.GraphModule):
            training = [node for node in part.graph.nodes if _trains(node)]
            on = on or bool(training)
            statistics = statistics or any(_has_statistics(node) for node in training)
        elif getattr(part, "training", False) and not _ignores_mode(part):
            on = True
            statistics = statistics or getattr(part, "running_mean", None) is not None
    return TrainMode(on, statistics)


def _parts_that_run(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and its parts; of a graph only those that the graph calls."""
    seen: set[int] = set()
    queue = [module]
    while queue:
        part = queue.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, fx.GraphModule):
            called = [node.target for node in part.graph.nodes if node.op == "call_module"]
            queue.extend(inner for name, inner in part.named_modules() if name in called)
        else:
            queue.extend(part.children())


def _ignores_mode(part: nn.Module) -> bool:
    """Tell whether the mode of a part makes no difference: it calls parts of its own, and does not read its mode."""
    is_script = isinstance(part, torch.jit.ScriptModule)
    if next(part.children(), None) is None:
        # torch.export puts a part without a mode before a program, to check its inputs.
        return not is_script and type(part).__module__.startswith("torch.export")
    if is_script:
        return "self.training" not in getattr(part, "code", "self.training")
    kind: Any = type(part)
    return not _reads_mode(kind)


@functools.cache
def _reads_mode(kind: type) -> bool:
    """Tell whether a method of a class, or of its bases below `torch.nn.Module`, reads ``training``."""
    methods = [value for base in kind.__mro__ if base not in nn.Module.__mro__ for value in vars(base).values()]
    return any(isinstance(method, FunctionType) and "training" in method.__code__.co_names for method in methods)


def _argument(node: fx.Node, name: str) -> Any:
    """Return an argument of an operator in a graph, or None."""
    if isinstance(node.target, torch._ops.OpOverload):
        known = [argument.name for argument in node.target._schema.arguments]
        if name in known[: len(node.args)]:
            return node.args[known.index(name)]
    return node.kwargs.get(name)


def _trains(node: fx.Node) -> bool:
    return node.op == "call_function" and any(_argument(node, name) is True for name in ("training", "train"))


def _has_statistics(node: fx.Node) -> bool:
    return _argument(node, "running_mean") is not None
