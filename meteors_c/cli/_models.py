"""Models of the command line: exported programs, TorchScript, ONNX, and factories in Python modules."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from meteors_c._optional import import_optional
from meteors_c.cli._errors import UsageError
from meteors_c.models import ExplainableModel
from meteors_c.utils import agg_segmentation_postprocessing

__all__ = ["Loaded", "format_of", "in_words", "load"]

_NO_PICKLE = (
    "is a pickle (torch.save, joblib, pickle), and reading one runs whatever code it holds. Write the model where it "
    "was made by torch.export.save(torch.export.export(model.eval(), (batch,)), 'model.pt2') or by "
    "torch.onnx.export, or name a function that makes it: package.module:factory"
)
_Read = tuple[Any, tuple[int | None, ...] | None]  # a function of batches, and the shape of these where it is said
_KNOWN = "a program of torch.export (.pt2), TorchScript, ONNX, or package.module:factory"
_ONNX_VERSIONS = range(1, 64)  # of the format, which a file begins with


@dataclass(frozen=True)
class Loaded:
    """A model and what must be known to run it.

    Attributes
    ----------
    model : ExplainableModel
    kind : str
        What it is, in words.
    gradients : bool
        Whether it can be differentiated.
    most : int or None
        The most samples that it takes at once.
    shape : tuple, or None
        Of the images that it takes; None for sizes that may be any.
    """

    model: ExplainableModel
    kind: str
    gradients: bool = True
    most: int | None = None
    shape: tuple[int | None, ...] | None = None

    def check(self, shape: tuple[int | None, ...]) -> None:
        """Raise an error for images of a shape that the model says not to take; None for a size that is not known."""
        wanted = self.shape
        if wanted is None:
            return
        pairs = zip(wanted, shape, strict=False)
        if len(wanted) != len(shape) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
            raise ValueError(
                f"the model takes images of {in_words(wanted)} (bands, rows, columns), but is given "
                f"{in_words(shape)}: --bands chooses bands, --window explains a model of patches"
            )


def in_words(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)


def load(spec: str, problem: str | None = None, classes: int | None = None, device: str | None = None) -> Loaded:
    """Load a model from a file, whose format its contents tell, or from ``package.module:factory``.

    Parameters
    ----------
    spec : str
        The file or the factory. A file goes first where there is one of that name.
    problem : {"classification", "regression", "segmentation"}, optional
        What it solves; classification where None.
    classes : int, optional
        Number of classes of a segmentation model.
    device : str, optional
        Where it shall run.

    Returns
    -------
    Loaded

    Raises
    ------
    UsageError
        The file is a pickle or of an unknown format, or there is neither a file nor a module of that name.
    """
    _check_device(device)
    if os.path.exists(spec):
        kind = format_of(spec)
        function, shape = {"torch.export": _exported, "TorchScript": _scripted, "ONNX": _onnx}[kind](spec, device)
    elif ":" in spec and not os.path.dirname(spec.partition(":")[0]):
        kind, (function, shape) = spec, _made(spec, device)
    else:
        raise UsageError(f"--model: there is no file {spec!r}, and it is not {_KNOWN}")
    if isinstance(function, ExplainableModel):
        if problem is not None or classes is not None:
            raise UsageError(f"--model: {spec} makes an ExplainableModel, which says itself what it solves")
        return Loaded(function, kind, not function.array_input)
    post = None
    if problem == "segmentation":
        if classes is None:
            raise UsageError("--problem segmentation needs --classes, their number")
        post = agg_segmentation_postprocessing(soft_labels=True, classes_numb=classes)
    elif classes is not None:
        raise UsageError("--classes are those of a segmentation model, with --problem segmentation")
    model = ExplainableModel(function, problem or "classification", post, array_input=kind == "ONNX")
    most = None if shape is None else _most(shape[0], spec)
    return Loaded(model, kind, kind != "ONNX", most, None if shape is None else shape[1:])


def _check_device(device: str | None) -> None:
    """Raise UsageError for a device that torch does not know, RuntimeError for one that is not there."""
    if device is None:
        return
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise UsageError(
            f"--device must be one that torch knows, such as cpu, cuda or cuda:1, not {device!r}"
        ) from None
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RuntimeError(f"--device {device}: this torch has no such device here ({reason})") from error


def format_of(path: str) -> str:
    """Tell by its contents what a model's file is: ``"torch.export"``, ``"TorchScript"`` or ``"ONNX"``."""
    if os.path.isdir(path):
        raise UsageError(f"--model: {path!r} is a folder, not {_KNOWN}")
    with open(path, "rb") as file:
        head = file.read(4)
    if not head:
        raise UsageError(f"--model: {path!r} is empty, not {_KNOWN}")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        inside = {name.partition("/")[2] for name in names}
        if "archive_format" in inside or "serialized_exported_program.json" in names:
            return "torch.export"
        if "constants.pkl" in inside and any(name.startswith("code/") for name in inside):
            return "TorchScript"
        if any(name.endswith("data.pkl") for name in names):
            raise UsageError(f"--model: {path!r} {_NO_PICKLE}")
    elif head[:1] == b"\x80" or (head[:1] in b"(c}]" and _ends_as_pickle(path)):
        raise UsageError(f"--model: {path!r} {_NO_PICKLE}")
    elif head[:1] == b"\x08" and len(head) > 1 and head[1] in _ONNX_VERSIONS:
        return "ONNX"
    raise UsageError(f"--model: {path!r} is not {_KNOWN}")


def _ends_as_pickle(path: str) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"."


# ---------------------------------------------------------------- torch


@contextmanager
def _without_pickles() -> Iterator[None]:
    """Have torch read tensors alone inside, whatever its own functions ask for."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _exported(path: str, device: str | None) -> _Read:
    with zipfile.ZipFile(path) as archive:
        if any("/constants/opaque_obj" in name for name in archive.namelist()):
            raise UsageError(f"--model: {path!r} holds Python objects, and {_NO_PICKLE.partition(', and ')[2]}")
    with _without_pickles(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(path)
        if device is not None:
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, torch.device(device))
    names = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
    if len(names) != 1:
        raise UsageError(f"--model: {path!r} takes {len(names)} inputs, but one is wanted, the batch of images")
    value = next(node.meta["val"] for node in program.graph.nodes if node.name == names[0])
    return program.module(), _sizes(value.shape, path)


def _sizes(shape: Any, path: str) -> tuple[int | None, ...]:
    """Return the shape of a model's input, None for sizes that may be any."""
    found = tuple(size if isinstance(size, int) else None for size in shape)
    if not found:
        raise UsageError(f"--model: {path!r} takes a single number, but a batch of images is wanted")
    return found


def _most(size: int | None, path: str) -> int | None:
    """Return the most samples of a batch: any number, or one where the size is fixed."""
    if size is None or size == 1:
        return size
    raise UsageError(
        f"--model: {path!r} takes batches of exactly {size}; export it with a first axis of any size (dynamic_shapes, "
        "dynamic_axes) or of 1"
    )


def _scripted(path: str, device: str | None) -> _Read:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises torch.export
        module: Any = torch.jit.load(path, map_location=device or "cpu")  # type: ignore[no-untyped-call]
    return (module.eval() if hasattr(module, "training") else module), None


# ---------------------------------------------------------------- ONNX

_ONNX_TYPES: dict[str, Any] = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


class _Session:
    """An ONNX file as a function of arrays."""

    def __init__(self, path: str, kind: str) -> None:
        runtime = import_optional("onnxruntime", "onnxruntime", "onnx", "ONNX models")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.path, self.kind = os.path.abspath(path), kind
        self.session = runtime.InferenceSession(path, options, providers=[kind])
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _ONNX_TYPES:
            what = ", ".join(f"{one.name} {one.type}" for one in inputs)
            raise UsageError(f"--model: {path!r} must take one batch of floats, not {what}")
        self.dtype = _ONNX_TYPES[inputs[0].type]
        self.input, self.shape = inputs[0].name, inputs[0].shape
        self.output = self.session.get_outputs()[0].name

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name of the file; a hash of its contents tells runs of other models apart."""
        with open(self.path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        return _Session, (self.path, self.kind), {"digest": digest}

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        values: np.ndarray = self.session.run([self.output], {self.input: batch.astype(self.dtype, copy=False)})[0]
        return values


def _onnx(path: str, device: str | None) -> _Read:
    runtime = import_optional("onnxruntime", "onnxruntime", "onnx", "ONNX models")
    kind = "CUDAExecutionProvider" if device is not None and device.startswith("cuda") else "CPUExecutionProvider"
    if kind not in runtime.get_available_providers():
        raise UsageError(f"--device {device}: this onnxruntime has no {kind}")
    session = _Session(path, kind)
    return session, _sizes(session.shape, path)


# ---------------------------------------------------------------- Python


def _made(spec: str, device: str | None) -> _Read:
    """Import ``package.module:factory``, also from the current folder, and call it."""
    module_name, _, name = spec.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), *name.split(".")]):
        raise UsageError(f"--model: {spec!r} is neither a file nor package.module:factory")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            raise UsageError(f"--model: there is no module {error.name!r}") from error
        raise
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(f"--model: {module_name} has no {name}")
        found = getattr(found, part)
    model = found if isinstance(found, nn.Module | ExplainableModel) else _called(found, spec)
    if not callable(model) and not isinstance(model, ExplainableModel):
        raise UsageError(
            f"--model: {spec} returned {type(model).__name__}, not a network, function or ExplainableModel"
        )
    if isinstance(model, nn.Module):
        model.eval()
    if device is not None and isinstance(model, nn.Module | ExplainableModel):
        model.to(device)
    return model, None


def _called(factory: Any, spec: str) -> Any:
    if not callable(factory):
        raise UsageError(f"--model: {spec} is {type(factory).__name__}, not a function that makes the model")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise UsageError(f"--model: {spec} is called without arguments, but: {error}") from None
    except ValueError:  # a callable that does not say what it takes
        pass
    return factory()
