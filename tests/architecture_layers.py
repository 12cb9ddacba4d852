"""Single operators of random architectures, each with random settings, on values (n, channels, rows, columns)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Shape = tuple[int, int, int]  # channels, rows and columns of a value
Layer = Callable[["Draw", Shape], "nn.Module | None"]  # None: not for values of this shape


class Draw(random.Random):
    """Random choices of an architecture's structure."""

    def flag(self, chance: float = 0.5) -> bool:
        return self.random() < chance

    def some(self, count: int, of: int) -> list[int]:
        """So many different indices below `of`, in random order."""
        return self.sample(range(of), count)

    def divisor(self, *numbers: int) -> int:
        """A common divisor of some numbers."""
        return self.choice([d for d in range(1, min(numbers) + 1) if all(number % d == 0 for number in numbers)])


class Function(nn.Module):
    """Functional code: `function(x, *parts)`, where parts are modules and tensors of its own."""

    def __init__(self, name: str, function: Callable[..., torch.Tensor], *parts: Any) -> None:
        super().__init__()
        self.name, self.function = name, function
        self.places: list[str] = []
        for i, part in enumerate(parts):
            self.places.append(f"part{i}")
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(f"part{i}", part)
            else:
                setattr(self, f"part{i}", part)

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        return self.function(*x, *(getattr(self, place) for place in self.places))

    def extra_repr(self) -> str:
        return self.name


def settle(module: nn.Module) -> nn.Module:
    """Random float64 weights and statistics that keep values of order one; eval mode."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.2 / (parameter.numel() / parameter.shape[0]) ** 0.5)
            elif name.endswith("bias"):
                parameter.uniform_(-0.4, 0.4)
            else:
                parameter.uniform_(0.4, 1.4)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.4, 0.4)
            elif name.endswith("running_var"):
                buffer.uniform_(0.4, 1.6)
    return module.double().eval()


def pair(draw: Draw, low: int, high: int) -> tuple[int, int]:
    """Two numbers, mostly the same."""
    first = draw.randint(low, high)
    return first, first if draw.flag(0.7) else draw.randint(low, high)


# ---------------------------------------------------------------- convolutions


def convolution(draw: Draw, shape: Shape) -> nn.Module | None:
    channels = shape[0]
    outputs = channels * draw.randint(1, 2) if draw.flag(0.3) else draw.randint(2, 12)
    groups = channels if outputs % channels == 0 and draw.flag() else draw.divisor(channels, outputs)
    settings: dict[str, Any] = {"bias": draw.flag(0.7), "groups": groups}
    kernel, settings["dilation"] = pair(draw, 1, 3), pair(draw, 1, 2)
    if draw.flag(0.3):
        settings["padding"] = "same"
    else:
        settings["padding"], settings["stride"] = pair(draw, 0, 2), pair(draw, 1, 2)
        if max(settings["padding"]) < min(shape[1:]):
            settings["padding_mode"] = draw.choice(["zeros"] * 4 + ["reflect", "replicate"])
    return nn.Conv2d(channels, outputs, kernel, **settings)


def padded_convolution(draw: Draw, shape: Shape) -> nn.Module | None:
    """Padding on one side only, as strided convolutions of other frameworks have it."""
    pad = [draw.randint(0, 2) for _ in range(4)]
    layer = nn.Conv2d(shape[0], draw.randint(2, 10), 3, stride=draw.randint(1, 2))
    return Function(f"pad {pad}, conv", lambda x, layer: layer(F.pad(x, pad)), layer)


def transposed_convolution(draw: Draw, shape: Shape) -> nn.Module | None:
    channels, outputs, stride = shape[0], draw.randint(2, 10), draw.randint(1, 2)
    return nn.ConvTranspose2d(
        channels,
        outputs,
        pair(draw, 1, 3),
        stride=stride,
        padding=draw.randint(0, 1),
        output_padding=draw.randint(0, stride - 1),
        groups=draw.divisor(channels, outputs),
        bias=draw.flag(),
        dilation=draw.randint(1, 2) if stride == 1 else 1,
    )


def functional_convolution(draw: Draw, shape: Shape) -> nn.Module | None:
    weight = nn.Parameter(torch.empty(draw.randint(2, 10), shape[0], *pair(draw, 1, 3)))
    return Function("F.conv2d", lambda x, weight: F.conv2d(x, weight, padding=1), weight)


def unfolded_convolution(draw: Draw, shape: Shape) -> nn.Module | None:
    weight = nn.Parameter(torch.empty(draw.randint(2, 6), shape[0] * 9))

    def forward(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return (weight @ F.unfold(x, 3, padding=1)).unflatten(2, x.shape[2:])

    return Function("unfold, matmul", forward, weight)


# ---------------------------------------------------------------- pools and sizes


def max_pool(draw: Draw, shape: Shape) -> nn.Module | None:
    kernel = pair(draw, 2, 3)
    return nn.MaxPool2d(kernel, pair(draw, 1, 2), draw.randint(0, 1), draw.choice([1, 1, 1, 2]), ceil_mode=draw.flag())


def average_pool(draw: Draw, shape: Shape) -> nn.Module | None:
    return nn.AvgPool2d(
        pair(draw, 2, 3),
        pair(draw, 1, 3),
        draw.randint(0, 1),
        ceil_mode=draw.flag(),
        count_include_pad=draw.flag(),
        divisor_override=draw.choice([None, None, None, 3]),
    )


def padded_pool(draw: Draw, shape: Shape) -> nn.Module | None:
    pad, value = [draw.randint(0, 1) for _ in range(4)], draw.choice([0.0, 0.0, -1.5, float("-inf")])
    return Function(f"pad {pad} {value}, max_pool2d", lambda x: F.max_pool2d(F.pad(x, pad, value=value), 2))


def adaptive_pool(draw: Draw, shape: Shape) -> nn.Module | None:
    size = draw.randint(1, shape[1]), draw.randint(1, shape[2])
    return draw.choice([nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])(size if draw.flag() else min(size))


def upsample(draw: Draw, shape: Shape) -> nn.Module | None:
    mode = draw.choice(["nearest", "nearest", "bilinear", "bilinear", "nearest-exact", "bicubic"])
    corners = {"align_corners": draw.flag()} if mode.startswith("bi") else {}
    if draw.flag(0.6):
        return nn.Upsample(scale_factor=2, mode=mode, **corners)
    size = [side + draw.randint(0, 4) for side in shape[1:]]
    return Function(f"interpolate {mode} {size}", lambda x: F.interpolate(x, size=size, mode=mode, **corners))


def pixel_shuffle(draw: Draw, shape: Shape) -> nn.Module | None:
    return nn.PixelShuffle(2) if shape[0] % 4 == 0 else None


def pixel_unshuffle(draw: Draw, shape: Shape) -> nn.Module | None:
    return nn.PixelUnshuffle(2) if shape[1] % 2 == shape[2] % 2 == 0 else None


def padding(draw: Draw, shape: Shape) -> nn.Module | None:
    mode = draw.choice(["constant", "reflect", "replicate", "circular"])
    pad = [draw.randint(0, 2) for _ in range(4)]
    value = draw.choice([0.0, 0.7]) if mode == "constant" else None
    return None if min(shape[1:]) < 3 else Function(f"pad {mode} {pad}", lambda x: F.pad(x, pad, mode, value))


SLICES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "x[:, 1:]": lambda x: x[:, 1:],
    "x[:, ::2]": lambda x: x[:, ::2],
    "x[:, :, 1:-1, 1:]": lambda x: x[:, :, 1:-1, 1:],
    "x[..., ::2, :]": lambda x: x[..., ::2, :],
    "narrow": lambda x: x.narrow(1, 0, 2),
    "flip": lambda x: x.flip(1),
    "flip rows": lambda x: x.flip(2),
    "roll": lambda x: x.roll((1, -1), (2, 3)),
    "transpose": lambda x: x.transpose(2, 3),
    "split": lambda x: torch.cat([*x.split(2, 1)][::-1], 1),
    "strided": lambda x: x.contiguous().as_strided((len(x), x.shape[1], 2, 2), x.contiguous().stride()),
    "index rows": lambda x: x[:, :, [2, 0, 1, 1]],
    "unbind": lambda x: torch.stack(x.unbind(3)[:3], 3),
}


def slicing(draw: Draw, shape: Shape) -> nn.Module | None:
    name = draw.choice(list(SLICES))
    return Function(name, SLICES[name]) if shape[0] > 3 and min(shape[1:]) > 3 else None


# ---------------------------------------------------------------- operators with several results


def unpooled(x: torch.Tensor) -> torch.Tensor:
    """As SegNet has it: maxima, something done to them, and back to their places."""
    pooled, places = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(pooled * 1.2 + 0.3, places, 2, output_size=x.shape[2:])


def taken_at_maxima(x: torch.Tensor) -> torch.Tensor:
    """A value's neighbours, at the places of another's maxima."""
    pooled, places = F.adaptive_max_pool2d(x, (2, 3), return_indices=True)
    return pooled + 0.5 * x.flip(1).flatten(2).gather(2, places.flatten(2)).view_as(pooled)


def by_order(x: torch.Tensor) -> torch.Tensor:
    """Channels by the order of their means."""
    order = x.mean((2, 3)).sort(1).indices
    return x.gather(1, order[:, :, None, None].expand_as(x))


def scaled_by(results: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    deviation, mean = results
    return (x - mean) / (deviation + 0.3)


SEVERAL: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "max_unpool2d": unpooled,
    "gathered at maxima": taken_at_maxima,
    "maxima alone": lambda x: F.max_pool2d(x, 3, 1, 1, return_indices=True)[0],
    "topk": lambda x: x.topk(2, 1).values,
    "topk and its places": lambda x: x.topk(3, 1).values * (1 + 0.1 * x.topk(3, 1).indices),
    "sorted channels": by_order,
    "max": lambda x: x - x.max(1, keepdim=True).values,
    "max and its place": lambda x: x * (1 + 0.2 * x.max(1, keepdim=True).indices),
    "min of a row": lambda x: x - 0.5 * x.min(3, keepdim=True)[0],
    "median": lambda x: x - x.median(1, keepdim=True).values,
    "kthvalue": lambda x: x + x.kthvalue(2, 1, keepdim=True).values,
    "cummax": lambda x: x.cummax(2).values + 0.1 * x,
    "aminmax": lambda x: (x - x.aminmax(dim=1, keepdim=True).min) / 2,
    "std_mean": lambda x: scaled_by(torch.std_mean(x, 1, keepdim=True), x),
    "var_mean": lambda x: scaled_by(torch.var_mean(x, (2, 3), keepdim=True), x),
    "one part of three": lambda x: x.tensor_split(3, 1)[1],
    "parts of two": lambda x: x.chunk(2, 1)[0] * 0.8 + x.chunk(2, 1)[1].mean(1, keepdim=True),
    "rows apart": lambda x: torch.stack([x.unbind(2)[1], x.unbind(2)[-1]], 2),
}


def several_results(draw: Draw, shape: Shape) -> nn.Module | None:
    """Operators of which some results are read and others are not."""
    name = draw.choice(list(SEVERAL))
    return Function(name, SEVERAL[name]) if shape[0] > 3 and min(shape[1:]) > 3 else None


def long_short_term_memory(draw: Draw, shape: Shape) -> nn.Module | None:
    """An LSTM over the means of rows: all states, and the last one."""
    layer = nn.LSTM(shape[2], 3, batch_first=True)

    def forward(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        states, (last, _) = layer(x.mean(2))
        return x[..., :3] * states.unsqueeze(2) + last[0][:, None, None]

    return Function("LSTM", forward, layer) if shape[2] > 3 else None


# ---------------------------------------------------------------- normalisation


def batch_norm(draw: Draw, shape: Shape) -> nn.Module | None:
    return nn.BatchNorm2d(shape[0], affine=draw.flag(0.8))


def instance_norm(draw: Draw, shape: Shape) -> nn.Module | None:
    running = draw.flag()
    if not running and shape[1] * shape[2] < 9:
        return None
    return nn.InstanceNorm2d(shape[0], affine=draw.flag(), track_running_stats=running)


def group_norm(draw: Draw, shape: Shape) -> nn.Module | None:
    return nn.GroupNorm(draw.divisor(shape[0]), shape[0]) if shape[1] * shape[2] > 8 else None


def layer_norm(draw: Draw, shape: Shape) -> nn.Module | None:
    return nn.LayerNorm(shape, elementwise_affine=draw.flag())


def channels_last(name: str, layer: nn.Module) -> nn.Module:
    """A layer that works on the last dimension, on channels."""
    return Function(name, lambda x, layer: layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), layer)


def channel_norm(draw: Draw, shape: Shape) -> nn.Module | None:
    kind = draw.choice([nn.LayerNorm, nn.RMSNorm])
    return channels_last(kind.__name__, kind(shape[0])) if shape[0] > 2 else None


def written_out_norm(draw: Draw, shape: Shape) -> nn.Module | None:
    """Layer norm over channels as ConvNeXt writes it; or root mean squares; or unit length."""

    def layer_norm(x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(1, keepdim=True)
        return (x - mean) / ((x - mean).pow(2).mean(1, keepdim=True) + 1e-3).sqrt()

    forms: dict[str, Any] = {
        "layer norm": layer_norm,
        "RMS norm": lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-3),
        "unit length": lambda x: F.normalize(x, dim=1, eps=1e-3),
        "local response": lambda x: F.local_response_norm(x, 3),
        "standard deviation": lambda x: x / (x.std(1, keepdim=True) + 0.1),
    }
    name = draw.choice(list(forms))
    return Function(name, forms[name]) if shape[0] > 2 else None


# ---------------------------------------------------------------- functions of each value

ACTIVATIONS: Sequence[Callable[[], nn.Module]] = (
    nn.ReLU,
    nn.GELU,
    lambda: nn.GELU("tanh"),
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    lambda: nn.LeakyReLU(0.1),
    nn.ELU,
    nn.SELU,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Softplus,
    nn.Mish,
    nn.ReLU6,
    lambda: nn.ReLU(inplace=True),
    lambda: nn.ELU(0.5, inplace=True),
)
FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "x * sigmoid": lambda x: x * torch.sigmoid(x),
    "relu_": lambda x: (x * 1.1).relu_(),
    "add_ mul_": lambda x: x.clone().add_(0.3).mul_(0.8).tanh_(),
    "clamp": lambda x: x.clamp(-1.0, 0.8),
    "abs": lambda x: (x + 0.1).abs(),
    "square": lambda x: 0.5 * x.square() - 0.2 * x**3,
    "log1p": lambda x: torch.log1p(x.exp()),
    "1 - x": lambda x: 1 - x / 2,
    "out=": lambda x: torch.sin(x) if x.requires_grad else torch.sin(x, out=torch.empty_like(x)),
    "softmax": lambda x: x.softmax(1) * x.shape[1],
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "channel mean": lambda x: x - x.mean(1, keepdim=True),
    "spatial mean": lambda x: x - 0.5 * x.mean((2, 3), keepdim=True),
    "spatial maximum": lambda x: x + 0.2 * x.amax((2, 3), keepdim=True),
    "cumsum": lambda x: x.cumsum(1) / 2,
    "sort": lambda x: x.sort(1).values,
    "minimum": lambda x: torch.minimum(x, x.flip(1) + 0.11),
}


def activation(draw: Draw, shape: Shape) -> nn.Module | None:
    if draw.flag(0.2):
        return nn.PReLU(draw.choice([1, shape[0]]))
    if draw.flag(0.2):
        return nn.GLU(1) if shape[0] % 2 == 0 and shape[0] > 2 else None
    if draw.flag(0.2):
        return Function("multiplied, in place", lambda x, layer: layer(x * 0.9), nn.ReLU(inplace=True))
    inplace = draw.choice(ACTIVATIONS)()
    if getattr(inplace, "inplace", False):  # others may read this value too
        return nn.Sequential(nn.BatchNorm2d(shape[0]), inplace)
    return inplace


def function(draw: Draw, shape: Shape) -> nn.Module | None:
    name = draw.choice(list(FUNCTIONS))
    return Function(name, FUNCTIONS[name]) if shape[0] > 2 else None


# ---------------------------------------------------------------- channels at each pixel


def channel_linear(draw: Draw, shape: Shape) -> nn.Module | None:
    return channels_last("Linear over channels", nn.Linear(shape[0], draw.randint(2, 10), bias=draw.flag()))


def token_linear(draw: Draw, shape: Shape) -> nn.Module | None:
    layer = nn.Linear(shape[0], draw.randint(2, 10))

    def forward(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        return layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])

    return Function("Linear on tokens", forward, layer)


def every_pixel(draw: Draw, shape: Shape) -> nn.Module | None:
    """Pixels in the batch's dimension."""
    layer = nn.Linear(shape[0], draw.randint(2, 10))

    def forward(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        return layer(pixels).view(len(x), x.shape[2], x.shape[3], -1).permute(0, 3, 1, 2)

    return Function("Linear on pixels", forward, layer)


def einsum(draw: Draw, shape: Shape) -> nn.Module | None:
    weight = nn.Parameter(torch.empty(draw.randint(2, 10), shape[0]))
    return Function("einsum", lambda x, weight: torch.einsum("nchw,kc->nkhw", x, weight), weight)


def band_matmul(draw: Draw, shape: Shape) -> nn.Module | None:
    weight = nn.Parameter(torch.empty(draw.randint(2, 10), shape[0]))
    return Function("matmul", lambda x, weight: (weight @ x.flatten(2)).view(len(x), -1, *x.shape[2:]), weight)


LAYERS: Sequence[tuple[Layer, int]] = (  # with weights: how often
    (convolution, 6),
    (padded_convolution, 2),
    (transposed_convolution, 2),
    (functional_convolution, 1),
    (unfolded_convolution, 1),
    (max_pool, 3),
    (average_pool, 3),
    (padded_pool, 1),
    (adaptive_pool, 1),
    (upsample, 4),
    (pixel_shuffle, 2),
    (pixel_unshuffle, 2),
    (padding, 3),
    (slicing, 5),
    (several_results, 5),
    (long_short_term_memory, 1),
    (batch_norm, 3),
    (instance_norm, 1),
    (group_norm, 1),
    (layer_norm, 1),
    (channel_norm, 2),
    (written_out_norm, 2),
    (activation, 12),
    (function, 6),
    (channel_linear, 2),
    (token_linear, 1),
    (every_pixel, 1),
    (einsum, 1),
    (band_matmul, 1),
)
