"""The arithmetic of a model: what each of its products costs, and how much of it a change of the input reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

HALF = 0.5  # over this part of a layer, following a change costs more than it saves


@dataclass
class Product:
    """A convolution or matrix product: its operations, what it read and what it gave."""

    operations: float
    read: torch.Tensor
    given: torch.Tensor
    channels: int  # the axis that a change spreads over at once


class _Products(TorchDispatchMode):
    """Writes down the products of all that runs inside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Product] = []
        self.moved = 0  # bytes that operators read and write, each by itself

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [value for value in (*args, result) if isinstance(value, torch.Tensor)]
            self.moved += sum(value.numel() * value.element_size() for value in tensors)
        count = flop_registry.get(function.overloadpacket)
        if count is not None:
            operations = float(count(*args, **(kwargs or {}), out_val=result))
            axis = 1 if "conv" in str(function) else -1
            read = args[1] if "addmm" in str(function) else args[0]
            self.found.append(Product(operations, read, result, axis))
        return result


def moved_bytes(model: nn.Module, images: torch.Tensor) -> int:
    """What all operators of a forward run read and write, if none finds in the caches what another one left there."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _Products() as recorder:
        model(images)
    return recorder.moved


def products(model: nn.Module, images: torch.Tensor) -> list[Product]:
    """The products of one forward run, in their order."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _Products() as recorder:
        model(images)
    return recorder.found


def changed_places(product: Product, other: Product) -> float:
    """The part of the output's places that differ between two runs: the smallest box of them for a convolution."""
    differs = (product.given != other.given).any(dim=product.channels)
    if not differs.any():
        return 0.0
    if product.channels != 1:
        return float(differs.double().mean())
    part = 1.0
    for axis in range(1, differs.ndim):
        along = differs.transpose(axis, -1).flatten(0, -2).any(dim=0).nonzero()
        part *= float(along.max() - along.min() + 1) / differs.shape[axis]
    return part


def changed_channels(product: Product, other: Product) -> float:
    differs = (product.read != other.read).transpose(product.channels, -1).flatten(0, -2).any(dim=0)
    return float(differs.double().mean())


@dataclass(frozen=True)
class Reach:
    """What one changed sample costs: operations of the first product, of the others, and places of the first's output.

    Each product counts in the places that the change reaches, and the first for the channels that it changes, since its
    output is known for the others; from where over half of a layer is reached, whole layers count.
    """

    first: float
    rest: float
    places: float


def reach(base: list[Product], other: list[Product]) -> Reach:
    """What of a run is new in another run of the same model."""
    parts, whole = [], False
    for one, two in zip(base, other, strict=True):
        part = changed_places(one, two)
        whole = whole or part > HALF
        parts.append(1.0 if whole else part)
    channels = changed_channels(base[0], other[0])
    rest = sum(part * product.operations for part, product in zip(parts[1:], base[1:], strict=True))
    return Reach(parts[0] * channels * base[0].operations, rest, parts[0])


def mean_reach(model: nn.Module, image: torch.Tensor, changes: list[Callable[[torch.Tensor], None]]) -> Reach:
    """The mean over samples, each of which is the image after a change in place."""
    base = products(model, image[None])
    found = []
    for change in changes:
        sample = image.clone()
        change(sample)
        found.append(reach(base, products(model, sample[None])))
    return Reach(*(sum(getattr(one, name) for one in found) / len(found) for name in ("first", "rest", "places")))


def box_change(box: tuple[slice, ...]) -> Callable[[torch.Tensor], None]:
    """Set a box of the image to 0."""

    def change(image: torch.Tensor) -> None:
        image[box] = 0

    return change
