"""What properties are drawn from: images as they may lie in memory, models, targets, baselines, windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from meteors_c import HSI
from meteors_c.models import ExplainableModel
from tests.toys import ORIENTATIONS, PATHS, Linear, Quadratic, explainable, traced, values

paths = st.sampled_from(sorted(PATHS))
limits = st.one_of(st.none(), st.integers(1, 9))
orientations = st.sampled_from(ORIENTATIONS)
seeds = st.integers(0, 9)
floating = st.sampled_from([torch.float64, torch.float32])
dtypes = st.sampled_from([torch.float64, torch.float32, torch.int16, torch.uint8])


def shapes(largest: int = 7, smallest: int = 1) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(smallest, largest)] * 3)


def floats_of(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which images of `dtype` are explained."""
    return dtype if dtype.is_floating_point else torch.float32


# ---------------------------------------------------------------- tensors and their memory


def numbers(seed: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """In [-1, 1); whole numbers from 0 to 9 for integers."""
    found = values(seed, shape=tuple(shape))
    return found.to(dtype) if dtype.is_floating_point else (5 * (found + 1)).floor().to(dtype)


def _permuted(seed: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return numbers(seed, (shape[2], shape[0], shape[1]), dtype).permute(1, 2, 0)


def _sliced(seed: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return numbers(seed, (2 * shape[0] + 1, shape[1] + 2, 3 * shape[2]), dtype)[1::2, 1:-1, ::3]


def _expanded(axis: int) -> Callable[..., torch.Tensor]:
    def make(seed: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return numbers(seed, [1 if a == axis else n for a, n in enumerate(shape)], dtype).expand(*shape)

    return make


def _flipped(seed: int, shape: Sequence[int], dtype: torch.dtype) -> np.ndarray:
    return numbers(seed, shape, dtype).numpy()[::-1, :, ::-1]


def _big_endian(seed: int, shape: Sequence[int], dtype: torch.dtype) -> np.ndarray:
    array = numbers(seed, shape, dtype).numpy()
    return array.astype(array.dtype.newbyteorder(">"))


LAYOUTS: dict[str, Callable[..., Any]] = {
    "contiguous": numbers,
    "permuted": _permuted,
    "sliced": _sliced,
    "flipped": _flipped,
    "big-endian": _big_endian,
    **{f"expanded along {axis}": _expanded(axis) for axis in range(3)},
}
layouts = st.sampled_from(sorted(LAYOUTS))
tensor_layouts = st.sampled_from(sorted(set(LAYOUTS) - {"flipped", "big-endian"}))


def plain(image: Any) -> torch.Tensor:
    """The same numbers as a contiguous tensor of their own."""
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(image.astype(image.dtype.newbyteorder("="))))
    return image.detach().clone(memory_format=torch.contiguous_format)


# ---------------------------------------------------------------- images


@dataclass
class Image:
    """An HSI, and the numbers that a model must be given for it."""

    hsi: HSI
    masked: torch.Tensor
    mask: torch.Tensor
    told: str

    def __repr__(self) -> str:
        return self.told


@st.composite
def images(
    draw: st.DrawFn,
    shape: tuple[int, ...] | None = None,
    orientation: str | None = None,
    dtype: torch.dtype | None = None,
) -> Image:
    """An image; `shape` is along its own axes."""
    shape = draw(shapes()) if shape is None else shape
    orientation = draw(orientations) if orientation is None else orientation
    dtype = draw(dtypes) if dtype is None else dtype
    layout, seed = draw(layouts), draw(seeds)
    image = LAYOUTS[layout](seed, shape, dtype)
    masking = draw(st.sampled_from(["none", "along pixels", "along all axes", *["two axes"] * (orientation == "CHW")]))
    some = values(50 + draw(seeds), shape=shape) > draw(st.sampled_from([-2.0, -0.5, 0.5, 2.0]))
    spectral = orientation.index("C")
    mask: Any = None
    if masking == "along pixels":
        mask = some.narrow(spectral, 0, 1)
    elif masking == "two axes":
        mask = some[0]
    elif masking == "along all axes":
        mask = some.int().numpy() if draw(st.booleans()) else some
    whole = torch.ones(shape, dtype=torch.bool) if mask is None else torch.as_tensor(mask).bool().expand(shape)
    wavelengths = np.arange(shape[spectral]) * 10.0 + 400
    hsi = HSI(image=image, wavelengths=wavelengths, orientation=orientation, binary_mask=mask)
    masked = torch.where(whole, plain(image), torch.zeros((), dtype=dtype)).to(floats_of(dtype))
    return Image(hsi, masked, whole, f"<{shape} {orientation} {dtype} {layout}, seed {seed}, mask {masking}>")


@st.composite
def image_lists(
    draw: st.DrawFn, largest: int = 7, most: int = 3, smallest: st.SearchStrategy[int] | None = None
) -> list[Image]:
    """Images of one call: of one shape, orientation and, here, dtype."""
    shape = draw(shapes(largest, 1 if smallest is None else draw(smallest)))
    fields: dict[str, Any] = {"shape": shape, "orientation": draw(orientations), "dtype": draw(dtypes)}
    return draw(st.lists(images(**fields), min_size=1, max_size=most))


# ---------------------------------------------------------------- models


def _convolutional(activation: Callable[[], nn.Module], *more: nn.Module) -> Callable[[Sequence[int]], nn.Module]:
    def make(shape: Sequence[int]) -> nn.Module:
        body = nn.Sequential(
            nn.Conv2d(shape[0], 4, 3, padding=1), activation(), *more, nn.Conv2d(4, 3, 1), activation(), nn.Flatten()
        )
        with torch.no_grad():
            features = body.eval()(torch.zeros(1, *shape)).shape[1]
        return nn.Sequential(body, nn.Linear(features, 3))

    return make


def _normed(channels: int = 4) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.5, 2)
    return norm


class Residual(nn.Module):
    """A sum of two ways from the first layer on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.first(x))
        return (torch.tanh(self.second(y)) + y).mean((2, 3))


def _smooth(outputs: int) -> Callable[[Sequence[int]], nn.Module]:
    return lambda shape: nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 5), nn.Tanh(), nn.Linear(5, outputs))


# How to make a model for images of a shape, and the shape of its outputs for one sample.
NETS: dict[str, tuple[Callable[[Sequence[int]], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda shape: Linear(2, tuple(shape), torch.float32), (2,)),
    "quadratic": (lambda shape: Quadratic(2, tuple(shape), torch.float32), (2,)),
    "tanh": (_smooth(3), (3,)),
    "one output": (_smooth(1), (1,)),
    "no output axis": (lambda shape: nn.Sequential(_smooth(1)(shape), nn.Flatten(0)), ()),
    "two output axes": (lambda shape: nn.Sequential(_smooth(6)(shape), nn.Unflatten(1, (2, 3))), (2, 3)),
    "convolutions": (_convolutional(nn.Tanh), (3,)),
    "convolutions, batch norm": (lambda shape: _convolutional(nn.SiLU, _normed())(shape), (3,)),
    "all axes": (
        lambda shape: nn.Sequential(_lifted(nn.Conv3d(1, 2, 3, padding=1)), nn.Tanh(), _smooth(3)((2, *shape))),
        (3,),
    ),
    "residual": (lambda shape: Residual(shape[0]), (4,)),
    "pixelwise": (
        lambda shape: nn.Sequential(
            nn.Conv2d(shape[0], 4, 1), nn.Tanh(), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        (2,),
    ),
}
WRITTEN = ["module"] * 4 + ["function", "TorchScript"]
SMOOTH: list[Callable[[], nn.Module]] = [nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU, nn.Softplus]
# For methods that read outputs alone: where gradients are read, rounding decides on which side of a kink a sample is.
KINKED: list[Callable[[], nn.Module]] = [nn.ReLU, nn.Hardtanh, nn.ReLU6, nn.Hardswish, lambda: nn.LeakyReLU(0.3)]


def _lifted(layer: nn.Module) -> nn.Module:
    """A layer over all three axes of an image, whose outputs are planes again."""
    return nn.Sequential(nn.Unflatten(1, (1, -1)), layer, nn.Flatten(1, 2))


@st.composite
def stacks(draw: st.DrawFn, shape: Sequence[int], kinks: bool) -> Callable[[Sequence[int]], nn.Module]:
    """How to make a network of layers in any order: convolutions, functions of each value, norms and pools."""
    small, dims = st.integers(1, 3), [shape[1], shape[2]]
    activations = SMOOTH + KINKED * kinks
    plans: list[Callable[[int], nn.Module]] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["convolution", "convolution", "function", "norm", "pool"]))
        if kind == "function":
            function = draw(st.sampled_from(activations))
            plans.append(lambda channels, function=function: function())
        elif kind == "norm":
            plans.append(lambda channels: _normed(channels))
        else:
            kernel, stride, dilation = draw(st.tuples(small, small)), draw(st.tuples(small, small)), draw(small)
            padding = draw(st.integers(0, min(kernel) // 2 if kind == "pool" else 2))
            after = [
                (n + 2 * padding - dilation * (k - 1) - 1) // s + 1
                for n, k, s in zip(dims, kernel, stride, strict=True)
            ]
            if min(after) < 1:
                continue
            if kind == "pool" and kinks and draw(st.booleans()):
                plans.append(lambda channels, a=(kernel, stride, padding, dilation): nn.MaxPool2d(*a))
            elif kind == "pool":
                after = [(n + 2 * padding - k) // s + 1 for n, k, s in zip(dims, kernel, stride, strict=True)]
                plans.append(lambda channels, a=(kernel, stride, padding): nn.AvgPool2d(*a))
            else:
                groups = draw(st.sampled_from([1, 1, 1, 2]))
                plans.append(
                    lambda channels, a=(kernel, stride, padding, dilation), groups=groups: nn.Conv2d(
                        channels, 4, *a, groups=groups if channels % groups == 0 else 1, bias=bool(a[3] - 2)
                    )
                )
            dims = after
    mean = draw(st.booleans())

    def make(shape: Sequence[int]) -> nn.Module:
        layers: list[nn.Module] = []
        channels = shape[0]
        for plan in plans:
            layers.append(plan(channels))
            channels = 4 if isinstance(layers[-1], nn.Conv2d) else channels
        if mean:
            return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))
        return nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.Linear(channels * math.prod(dims), 3))

    make.told = f"{[str(layer) for layer in make(shape)]}"  # type: ignore[attr-defined]
    return make


@dataclass
class Model:
    """A network as it is explained, and as the reference calls it, in float64."""

    explained: ExplainableModel
    exact: nn.Module
    outputs: tuple[int, ...]
    told: str

    def __repr__(self) -> str:
        return self.told

    def plain(self, target: Any) -> Any:
        """A target in the words of the reference."""
        target = int(target) if isinstance(target, torch.Tensor) else target
        return 0 if target is None and self.outputs == (1,) else target

    def largest(self, *inputs: torch.Tensor | float) -> float:
        """The largest output for inputs (bands, rows, columns), which float32 rounds before it is subtracted."""
        shape = next(x.shape for x in inputs if isinstance(x, torch.Tensor))
        with torch.no_grad():
            return max(
                float(self.exact(torch.as_tensor(x, dtype=torch.float64).expand(1, *shape)).abs().max()) for x in inputs
            )


@st.composite
def networks(
    draw: st.DrawFn,
    shape: Sequence[int],
    dtype: torch.dtype,
    kinks: bool = False,
    name: str | None = None,
    written: str | None = None,
) -> Model:
    """A network for images of a shape, in one of the ways in which models are given."""
    name = draw(st.sampled_from([*sorted(NETS), *["layers"] * 6])) if name is None else name
    written = draw(st.sampled_from(WRITTEN)) if written is None else written
    make, outputs = (draw(stacks(shape, kinks)), (3,)) if name == "layers" else NETS[name]
    name = getattr(make, "told", name)
    torch.manual_seed(draw(seeds))
    exact = make(shape).double().eval().requires_grad_(False)
    used = make(shape).to(dtype).eval()
    used.load_state_dict(exact.state_dict())
    given: Any = used
    if written == "function":
        given = used.forward
    elif written == "TorchScript":
        given = traced(used, shape)
    return Model(explainable(given), exact, outputs, f"<{name} as {written} in {dtype}>")


def targets(outputs: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """What names one of the outputs of a sample."""
    if not outputs:
        return st.none()
    one = st.tuples(*(st.integers(-n, n - 1) for n in outputs))
    if len(outputs) > 1:
        return one
    spellings: list[Any] = [one, one.map(lambda index: index[0]), one.map(lambda index: torch.tensor(index[0]))]
    return st.one_of(*spellings, *[st.none()] * (outputs == (1,)))


# ---------------------------------------------------------------- baselines and windows


def baselines(shape: Sequence[int]) -> st.SearchStrategy[Any]:
    """Nothing, a number or a tensor, of a dtype and memory of its own."""
    tensors = st.builds(
        lambda layout, seed, dtype: LAYOUTS[layout](seed, shape, dtype),
        tensor_layouts,
        st.integers(20, 29),
        st.sampled_from([torch.float64, torch.float32, torch.int16]),
    )
    return st.one_of(st.none(), st.sampled_from([0, 1, -2, 0.25, -0.5]), tensors)


def plain_baseline(baseline: Any, dtype: torch.dtype) -> Any:
    """The baseline in the words of the reference, rounded to `dtype` as the image is."""
    if isinstance(baseline, torch.Tensor):
        return plain(baseline).to(dtype).double()
    return 0.0 if baseline is None else float(torch.tensor(float(baseline), dtype=dtype))


@st.composite
def windows(draw: st.DrawFn, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Windows that fit into so many values along each axis, and strides that leave no gaps."""
    shape = tuple(draw(st.integers(1, size)) for size in sizes)
    strides = tuple(
        draw(st.integers(1, 9 if window == size else window)) for window, size in zip(shape, sizes, strict=True)
    )
    return shape, strides


# ---------------------------------------------------------------- comparison


def assert_near(found: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype, size: float = 0.0) -> None:
    """Equal within 1e-10, for float32 1e-5, of the largest value or of `size`, what was subtracted on the way.

    Or of 0.05: the slope of a unit that is nearly saturated is a small difference too.
    """
    assert found.dtype == dtype
    assert found.shape == wanted.shape
    error = float((found.double() - wanted.double()).abs().max())
    scale = max(float(wanted.abs().max()), size, 0.05)
    assert error <= (1e-10 if dtype == torch.float64 else 1e-5) * scale, f"{error:.3g} of {scale:.3g}"
