"""Models as the core sees them: through torch's C++ interface where that works, through Python calls otherwise."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from meteors_c import _core
from meteors_c._options import current
from meteors_c.models._extra_arguments import ExtraArgument, resolve_extras, rows_of
from meteors_c.models._inspection import train_mode
from meteors_c.models._outputs import array_of, tensor_of
from meteors_c.utils import warn_caller

if TYPE_CHECKING:
    from meteors_c.hsi import HSI
    from meteors_c.models import ExplainableModel

__all__ = ["CoreModel", "bridge", "make_model", "parallel"]

_BUILT_FOR = re.compile(rb"meteors_c was built for torch ([^\0]+)\0")
# Builds of one release have the same headers and objects of one layout, since all have the std::string of GCC 5.
_BUILD = re.compile(r"(?P<release>\d+\.\d+\.\d+)(\+(cpu|cu\d+|rocm[\d.]+|xpu))?")
_SAME_LAYOUT_SINCE = (2, 7)
_experience: WeakKeyDictionary[ExplainableModel, Any] = WeakKeyDictionary()
_recordings: WeakKeyDictionary[ExplainableModel, Any] = WeakKeyDictionary()
_warned: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()  # subjects of the warnings given so far


def _reinstall() -> str:
    """Return the command that builds the bridge for this torch; a plain ``pip install`` would take a cached wheel."""
    source = "<source of meteors_c>"
    try:
        origin = json.loads(metadata.distribution("meteors_c").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        origin = {}
    if "vcs_info" in origin:
        source = shlex.quote(f"{origin['vcs_info']['vcs']}+{origin['url']}@{origin['vcs_info']['commit_id']}")
    elif "dir_info" in origin:
        folder = shlex.quote(url2pathname(urlsplit(origin["url"]).path))
        source = f"-e {folder}" if origin["dir_info"].get("editable") else folder
    return f"reinstall it: pip install --no-cache-dir --force-reinstall --no-deps {source}"


def _fits(built: str, here: str) -> bool:
    """Whether a bridge for one torch runs beside another: the same, or another build of its release."""
    of, beside = _BUILD.fullmatch(built), _BUILD.fullmatch(here)
    if built == here or of is None or beside is None:
        return built == here
    major, minor, _ = of["release"].split(".")
    return of["release"] == beside["release"] and (int(major), int(minor)) >= _SAME_LAYOUT_SINCE


def _load_bridge() -> tuple[ModuleType | None, str]:
    """Return the torch bridge, or None and why it can't be used."""
    spec = importlib.util.find_spec("meteors_c._torch")
    if spec is None or spec.origin is None:
        why = "meteors_c was built without its bridge to torch: none was there, or it did not compile beside it"
        return None, f"{why}; {_reinstall()}"
    # A bridge for another torch may load and then crash, so its version is read from the file before it is loaded.
    built = _BUILT_FOR.search(Path(spec.origin).read_bytes())
    version = built.group(1).decode() if built else "an unknown version"
    if not _fits(version, torch.__version__):
        why = f"meteors_c was built for torch {version}, but torch {torch.__version__} is here"
        return None, f"{why}; {_reinstall()}"
    try:
        return importlib.import_module("meteors_c._torch"), ""
    except ImportError as error:
        return None, f"the torch bridge of meteors_c does not load ({error}); {_reinstall()}"


@cache
def bridge() -> ModuleType | None:
    """Return the extension module that drives torch models natively, or None with a warning, given once."""
    module, why = _load_bridge()
    if module is None:
        warn_caller(f"{why}. Models run through Python calls meanwhile: same numbers, no shortcuts.")
    return module


def parallel() -> Any:
    """Return torch's thread pool for the core, or None."""
    module = bridge() if current().native else None
    return None if module is None else module.parallel


def _warn_once(module: nn.Module, subject: str, message: str) -> None:
    """Warn the caller of the package, once for each network and subject."""
    subjects = _warned.setdefault(module, set())
    if subject not in subjects:
        subjects.add(subject)
        warn_caller(message)


def _name_of(module: nn.Module) -> str:
    """Return the name of a network's class; for TorchScript, of the class that it was made from."""
    return getattr(module, "original_name", None) or type(module).__name__


def _warn_of_train_mode(module: nn.Module) -> None:
    if "mode" in _warned.get(module, ()):  # the search for the mode is not free
        return
    mode = train_mode(module)
    if mode.on:
        statistics = (
            " The running statistics of its batch normalisation will be changed by every call of the model."
            if mode.changes_statistics
            else ""
        )
        _warn_once(
            module,
            "mode",
            f"{_name_of(module)} is in train mode: dropout and batch statistics make attributions vary."
            f"{statistics} Call model.eval() first; meteors_c leaves the mode as it is.",
        )


def _dtypes(model: ExplainableModel, images: list[torch.Tensor]) -> tuple[torch.dtype, torch.dtype]:
    """Return the dtype that the core computes in, and that of the batches that the model is given."""
    own = frozenset() if model.array_input else model.dtypes
    double = any(image.dtype is torch.float64 for image in images)
    given = torch.float64 if double else torch.float32
    if len(own) == 1:
        (given,) = own
        _warn_of_conversion(model, given, images)
    elif images[0].dtype in own:
        given = images[0].dtype
    return torch.float64 if given is torch.float64 else torch.float32, given


def _warn_of_conversion(model: ExplainableModel, dtype: torch.dtype, images: list[torch.Tensor]) -> None:
    # Integer and 16-bit images are computed in another dtype in any case, so they get no warning.
    other = next((image.dtype for image in images if image.dtype in (torch.float32, torch.float64)), dtype)
    if other is not dtype:
        module = model.modules[0]
        image_type, model_type = (str(one).removeprefix("torch.") for one in (other, dtype))
        _warn_once(
            module,
            f"{image_type} to {model_type}",
            f"the image is {image_type} and {_name_of(module)} {model_type}: the model is given {model_type}, "
            f"results come as {image_type}",
        )


@dataclass(frozen=True)
class CoreModel:
    """A model as the core calls it.

    Attributes
    ----------
    capsule : capsule
        The model.
    description : str
        How it is called, for the report.
    dtype : {"float32", "float64"}
        What the core computes in: that of the batches, so that none needs to be converted, float32 for half precision.
    """

    capsule: Any
    description: str
    dtype: str


def make_model(
    model: ExplainableModel,
    additional_forward_args: Any,
    images: list[HSI],
    device: torch.device,
    max_batch_size: int | None = None,
) -> CoreModel:
    """Wrap a model for the core.

    Parameters
    ----------
    model : ExplainableModel
        Its `forward_func` is what is called.
    additional_forward_args : Any
        An argument, or a tuple of them, after the input; see `attr.AsIs` and `attr.PerImage`.
    images : list of HSI
        The images of the call.
    device : torch.device
        Where the model gets its input.
    max_batch_size : int, optional
        The largest number of samples that the model may see at once.

    Returns
    -------
    CoreModel
        The model and what the core needs to know of it. Batches have the dtype that all its parameters share; where
        they share none, or there are none, that of the images, with float32 instead of half precision.
    """
    function = model.forward_func
    if not callable(function):
        raise TypeError(f"forward_func must be callable to be explained, not {type(function).__name__}")
    for module in model.modules:
        _warn_of_train_mode(module)
    computed, dtype = _dtypes(model, [hsi.image for hsi in images])

    def attempt(image: int, n: int, values: list[Any]) -> torch.Tensor | None:
        batch = images[image].get_image().detach().to(device, dtype).repeat(n, 1, 1, 1)
        return _attempt(model, batch, values)

    extras = resolve_extras(additional_forward_args, len(images), model.array_input, attempt, max_batch_size)
    name = str(computed).removeprefix("torch.")
    if model.array_input:
        return CoreModel(_array_model(function, extras), "callable on arrays", name)
    native = bridge() if current().native else None
    if native is None:
        return CoreModel(_python_model(function, extras, device, dtype), "torch through Python calls", name)
    values, per_image = tuple(extra.value for extra in extras), tuple(extra.per_image for extra in extras)
    given = str(dtype).removeprefix("torch.")
    capsule = native.make_model(
        function,
        model.module,
        values,
        per_image,
        str(device),
        given,
        tensor_of,
        current().shortcuts is not False,
        current().threads == "measured",
        _kept_with(model, _recordings, native.recordings),
    )
    return CoreModel(capsule, "TorchScript" if isinstance(function, torch.jit.ScriptModule) else "torch", name)


def experience_with(model: ExplainableModel) -> Any:
    """Return what the core has learned from earlier calls on a model: where shortcuts were in vain."""
    return _kept_with(model, _experience, _core.experience)


def _kept_with(model: ExplainableModel, kept: WeakKeyDictionary[ExplainableModel, Any], make: Callable[[], Any]) -> Any:
    """Return what is kept with a model as long as it lives, made where there is nothing yet."""
    known = kept.get(model)
    return kept.setdefault(model, make()) if known is None else known


def _attempt(model: ExplainableModel, batch: torch.Tensor, values: list[Any]) -> torch.Tensor | None:
    """Call a model, and leave torch's random numbers as they were; None where the model fails."""
    devices = [batch.device] if batch.device.type == "cuda" else []
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices):
        torch.manual_seed(0)
        try:
            if model.array_input:
                outputs = array_of(model.forward_func(batch.cpu().numpy(), *values), len(batch))
                return torch.as_tensor(np.asarray(outputs, dtype=np.float64))
            return tensor_of(model.forward_func(batch, *values))
        except Exception:
            return None


def _array_model(function: Callable[..., Any], extras: list[ExtraArgument]) -> Any:
    """Return a callable on arrays as a model of the core."""

    def forward(x: np.ndarray, images: np.ndarray) -> Any:
        return array_of(function(x, *rows_of(extras, images)), len(x))

    return _core.callable_model(forward)


def _python_model(
    function: Callable[..., Any], extras: list[ExtraArgument], device: torch.device, dtype: torch.dtype
) -> Any:
    """Return a torch callable as a model of the core, without torch's C++ interface."""

    def call(x: torch.Tensor, images: np.ndarray) -> torch.Tensor:
        outputs = tensor_of(function(x, *rows_of(extras, images)))
        if outputs.is_complex():
            raise TypeError(f"the model must return real numbers, not {outputs.dtype}")
        if outputs.is_meta:
            raise RuntimeError("the model returned a tensor without values (device meta)")
        return outputs

    def forward(x: np.ndarray, images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            outputs = call(torch.from_numpy(x).to(device, dtype), images)
        return outputs.detach().double().cpu().numpy()

    def gradient(x: np.ndarray, images: np.ndarray, targets: list[tuple[int, ...]]) -> Any:
        with torch.enable_grad():
            leaf = torch.from_numpy(x).to(device, dtype).requires_grad_()
            outputs = call(leaf, images)
            if outputs.numel() == 1 and len(x) > 1:  # one number for the whole batch: the core goes one by one
                return None
            selected = _select(outputs, targets)
            if not selected.requires_grad:
                raise RuntimeError("the model's output is cut off from its input, so it has no gradient")
            (found,) = torch.autograd.grad(selected.sum(), leaf, allow_unused=True)
        if found is None:
            raise RuntimeError("the model's output does not depend on its input, so it has no gradient")
        plain = found if found.dtype is torch.float64 else found.float()
        return plain.cpu().numpy(), selected.detach().double().cpu().numpy()

    return _core.callable_model(forward, gradient)


def _select(outputs: torch.Tensor, targets: list[tuple[int, ...]]) -> torch.Tensor:
    """Return the target output of each sample, (n,)."""
    if outputs.ndim == 0:
        outputs = outputs.reshape(1)
    if len(outputs) != len(targets):
        raise RuntimeError(
            f"the model must return (n,) or (n, outputs, ...) for n samples: it was given {len(targets)} and "
            f"returned shape {tuple(outputs.shape)}"
        )
    flat = torch.tensor(_core.resolve_targets(targets, tuple(outputs.shape[1:])), device=outputs.device)
    return outputs.reshape(len(targets), -1).gather(1, flat[:, None])[:, 0]
