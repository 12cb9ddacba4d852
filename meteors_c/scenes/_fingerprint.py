"""What a run computes, as text that is the same in every process: a second start must not mix two runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from meteors_c.attr.explainer import Explainer
from meteors_c.models import ExplainableModel
from meteors_c.models.explainable import _Postprocessed
from meteors_c.scenes._source import Scene

__all__ = ["fingerprint_of_scene", "said"]


def said(value: Any, depth: int = 0) -> str:
    """Return a value in words that differ where it does: arrays and networks by a hash of their contents."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float().numpy() if value.dtype in (torch.bfloat16, torch.float16) else value.numpy()
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        return f"{value.dtype}{value.shape}:{digest}" if value.ndim else repr(value.item())
    if isinstance(value, ExplainableModel):
        networks = [_network(module) for module in value.modules]
        function: Any = value.forward_func
        if isinstance(function, _Postprocessed):
            networks.append(said(function.postprocessing, depth + 1))
            function = function.model
        return f"{_name(function)}({', '.join(networks)})"
    if isinstance(value, torch.nn.Module):
        return _network(value)
    if isinstance(value, Explainer):
        return f"{_name(type(value))}({said(vars_of(value), depth + 1)})"
    if isinstance(value, Mapping):
        entries = sorted((str(key), said(entry, depth + 1)) for key, entry in value.items())
        return "{" + ", ".join(f"{key}: {entry}" for key, entry in entries) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(said(entry, depth + 1) for entry in value) + "]"
    if isinstance(value, str | bytes | int | float | complex | bool | None | slice):
        return repr(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return _name(value)
    return f"{_name(type(value))}({said(vars_of(value), depth + 1) if depth < 6 else ''})"


def _name(value: Any) -> str:
    value = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(value, '__module__', '')}.{value.__qualname__}"


def vars_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, none where it has no dict."""
    return dict(getattr(value, "__dict__", {}))


def _network(module: torch.nn.Module) -> str:
    """Return the class of a network and a hash of its parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items(), key=lambda item: item[0]):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name}{said(tensor)}".encode())
    return f"{_name(type(module))}:{digest.hexdigest()[:16]}"


def fingerprint_of_scene(scene: Scene) -> str:
    """Return what a scene is as the model gets it, its mask, and the values of three of its pixels."""
    _, rows, columns = scene.shape
    places = [(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)]
    spectra = [scene.read(slice(row, row + 1), slice(column, column + 1))[0] for row, column in places]
    described = [list(scene.shape), str(scene.dtype), scene.wavelengths, scene.nodata, scene.orientation]
    return said([*described, None if scene.mask is None else _once(scene.mask), *spectra])


def _once(mask: np.ndarray) -> np.ndarray:
    """Return a mask without its copies along axes on which it is the same."""
    return mask[tuple(slice(1) if step == 0 else slice(None) for step in mask.strides)]
