"""Models as the core sees them: through torch's C++ interface where that works, through Python calls otherwise."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname
from weakref import WeakSet

import torch
from torch import nn

from meteors_c import _core
from meteors_c._options import current

if TYPE_CHECKING:
    import numpy as np

    from meteors_c.models import ExplainableModel

__all__ = ["bridge", "make_model"]

_BUILT_FOR = re.compile(rb"meteors_c was built for torch ([^\0]+)\0")
_train_mode_seen: WeakSet[nn.Module] = WeakSet()


def _level_of_caller() -> int:
    """Return the stack level, as the caller's warnings count it, of the first function outside the package."""
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith("meteors_c."):
        frame, level = frame.f_back, level + 1
    return level


def _reinstall() -> str:
    """Say how the bridge is built for this torch: a plain ``pip install`` finds all there, or in its cache."""
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


def _load_bridge() -> tuple[ModuleType | None, str]:
    """Return the torch bridge, or None and why it can't be used."""
    spec = importlib.util.find_spec("meteors_c._torch")
    if spec is None or spec.origin is None:
        return None, f"meteors_c was built without torch; for its native bridge, {_reinstall()}"
    # A bridge for another torch may load and then crash, so its version is read from the file before it is loaded.
    built = _BUILT_FOR.search(Path(spec.origin).read_bytes())
    version = built.group(1).decode() if built else "an unknown version"
    if version != torch.__version__:
        return (
            None,
            f"meteors_c was built for torch {version}, but torch {torch.__version__} is here; {_reinstall()}",
        )
    try:
        return importlib.import_module("meteors_c._torch"), ""
    except ImportError as error:
        return None, f"the torch bridge of meteors_c does not load ({error}); {_reinstall()}"


@cache
def bridge() -> ModuleType | None:
    """Return the extension module that drives torch models natively, or None with a warning, given once."""
    module, why = _load_bridge()
    if module is None:
        warnings.warn(
            f"{why}. Models run through Python calls meanwhile: same numbers, no shortcuts.",
            stacklevel=_level_of_caller(),
        )
    return module


def parallel() -> Any:
    """Return torch's thread pool for the core, or None."""
    module = bridge() if current().native else None
    return None if module is None else module.parallel


def _note_train_mode(module: nn.Module) -> None:
    if module not in _train_mode_seen and any(part.training for part in module.modules()):
        _train_mode_seen.add(module)
        warnings.warn(
            f"{type(module).__name__} is in train mode: dropout and batch statistics make attributions vary. "
            "Call model.eval() first; meteors_c leaves the mode as it is.",
            UserWarning,
            stacklevel=_level_of_caller(),
        )


def make_model(
    model: ExplainableModel, extras: tuple[Any, ...], images: int, device: torch.device, dtype: torch.dtype
) -> tuple[Any, str]:
    """Wrap a model for the core.

    Parameters
    ----------
    model : ExplainableModel
        Its `forward_func` is what is called.
    extras : tuple
        Arguments after the input. Tensors whose first size is `images` are repeated with the samples of an image.
    images : int
        Number of images of the call.
    device : torch.device
        Where the input goes.
    dtype : torch.dtype
        That of the images: models of half precision are given it, all others float32 or float64.

    Returns
    -------
    capsule, str
        The model, and how it is driven, for the report.
    """
    function, module = model.forward_func, model.module
    if not callable(function):
        raise TypeError(f"forward_func must be callable to be explained, not {type(function).__name__}")
    if module is not None:
        _note_train_mode(module)
    if model.array_input:
        return _core.callable_model(lambda x, _: function(x, *extras)), "callable on arrays"
    native = bridge() if current().native else None
    half = dtype if dtype in (torch.float16, torch.bfloat16) else None
    if native is None:
        return _python_model(function, extras, images, device, half), "torch through Python calls"
    name = "" if half is None else str(half).removeprefix("torch.")
    capsule = native.make_model(function, module, extras, images, str(device), name)
    return capsule, "TorchScript" if isinstance(function, torch.jit.ScriptModule) else "torch"


def _python_model(
    function: Callable[..., Any], extras: tuple[Any, ...], images: int, device: torch.device, half: torch.dtype | None
) -> Any:
    """Drive a torch callable without torch's C++ interface."""

    def call(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        behind = [
            extra[rows.to(extra.device)]
            if isinstance(extra, torch.Tensor) and extra.ndim and len(extra) == images
            else extra
            for extra in extras
        ]
        outputs = function(x, *behind)
        if not isinstance(outputs, torch.Tensor):
            raise TypeError(f"the model must return a torch.Tensor, not {type(outputs).__name__}")
        if outputs.is_complex():
            raise TypeError(f"the model must return real numbers, not {outputs.dtype}")
        if outputs.is_meta:
            raise RuntimeError("the model returned a tensor without values (device meta)")
        return outputs

    def forward(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            outputs = call(torch.from_numpy(x).to(device, half), torch.from_numpy(rows))
        return outputs.detach().double().cpu().numpy()

    def gradient(x: np.ndarray, rows: np.ndarray, targets: list[tuple[int, ...]]) -> Any:
        with torch.enable_grad():
            leaf = torch.from_numpy(x).to(device, half).requires_grad_()
            outputs = call(leaf, torch.from_numpy(rows))
            if outputs.numel() == 1 and len(x) > 1:
                return None
            selected = _select(outputs, targets)
            if not selected.requires_grad:
                raise RuntimeError("the model's output is cut off from its input, so it has no gradient")
            (found,) = torch.autograd.grad(selected.sum(), leaf, allow_unused=True)
        if found is None:
            raise RuntimeError("the model's output does not depend on its input, so it has no gradient")
        return (found if half is None else found.float()).cpu().numpy(), selected.detach().double().cpu().numpy()

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
