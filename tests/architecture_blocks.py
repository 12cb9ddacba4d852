"""Blocks of random architectures: several operators together, on values (n, channels, rows, columns)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from tests.architecture_layers import Draw, Function, Layer, Shape


def act(draw: Draw) -> nn.Module:
    return draw.choice([nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Hardswish])()


def normed(draw: Draw, inputs: int, outputs: int, kernel: int = 3, **settings: int) -> nn.Sequential:
    """Convolution, batch norm, a function of each value."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=draw.flag(), **settings)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), act(draw))


# ---------------------------------------------------------------- skips and branches


def residual(draw: Draw, shape: Shape) -> nn.Module | None:
    channels, outputs, stride = shape[0], draw.randint(2, 10), draw.randint(1, 2)
    body = nn.Sequential(normed(draw, channels, outputs, stride=stride), nn.Conv2d(outputs, outputs, 3, padding=1))
    skip = nn.Conv2d(channels, outputs, 1, stride=stride)
    if draw.flag():
        return Function("residual", lambda x, body, skip: torch.relu(skip(x) + body(x)), body, skip)
    return Function("residual in place", lambda x, body, skip: body(x).add_(skip(x)).relu_(), body, skip)


def same_residual(draw: Draw, shape: Shape) -> nn.Module | None:
    body = nn.Sequential(normed(draw, shape[0], shape[0]), nn.BatchNorm2d(shape[0]))
    scale = nn.Parameter(torch.empty(shape[0], 1, 1))
    return Function("scaled residual", lambda x, body, scale: x + scale * body(x), body, scale)


def dense(draw: Draw, shape: Shape) -> nn.Module | None:
    first, second = normed(draw, shape[0], 3), normed(draw, shape[0] + 3, 2)

    def forward(x: torch.Tensor, first: nn.Module, second: nn.Module) -> torch.Tensor:
        y = torch.cat([x, first(x)], 1)
        return torch.cat([y, second(y)], 1)

    return Function("dense", forward, first, second)


def inverted_residual(draw: Draw, shape: Shape) -> nn.Module | None:
    channels, wide = shape[0], 2 * shape[0]
    body = nn.Sequential(
        normed(draw, channels, wide, 1), normed(draw, wide, wide, 3, groups=wide), nn.Conv2d(wide, channels, 1)
    )
    return Function("inverted residual", lambda x, body: x + body(x), body)


def convnext(draw: Draw, shape: Shape) -> nn.Module | None:
    channels = shape[0]
    if channels < 3:
        return None
    depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
    pixels = nn.Sequential(
        nn.LayerNorm(channels), nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
    )

    def forward(x: torch.Tensor, depthwise: nn.Module, pixels: nn.Module) -> torch.Tensor:
        return x + pixels(depthwise(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    return Function("ConvNeXt", forward, depthwise, pixels)


def inception(draw: Draw, shape: Shape) -> nn.Module | None:
    branches = nn.ModuleList([normed(draw, shape[0], 2, 1), normed(draw, shape[0], 3, 3), normed(draw, shape[0], 2, 5)])

    def forward(x: torch.Tensor, branches: nn.ModuleList) -> torch.Tensor:
        pooled = F.avg_pool2d(x, 3, stride=1, padding=1)
        return torch.cat([branch(x) for branch in branches] + [pooled[:, :2]], 1)

    return Function("inception", forward, branches)


def gated(draw: Draw, shape: Shape) -> nn.Module | None:
    layer = nn.Conv2d(shape[0], 2 * draw.randint(2, 5), 3, padding=1)

    def forward(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        value, gate = layer(x).chunk(2, 1)
        return value * torch.sigmoid(gate)

    return Function("chunk, x1 * sigmoid(x2)", forward, layer)


def unet(draw: Draw, shape: Shape) -> nn.Module | None:
    """Down, up by a transposed convolution or by interpolation, and the skip beside it."""
    if min(shape[1:]) < 4:
        return None
    down, deep = normed(draw, shape[0], 4), normed(draw, 4, 6)
    up = nn.ConvTranspose2d(6, 4, 2, stride=2) if draw.flag() else nn.Conv2d(6, 4, 1)
    out = normed(draw, 8, draw.randint(3, 8))
    mode = draw.choice(["nearest", "bilinear"])

    def forward(x: torch.Tensor, down: nn.Module, deep: nn.Module, up: nn.Module, out: nn.Module) -> torch.Tensor:
        skip = down(x)
        y = up(deep(F.max_pool2d(skip, 2)))
        if y.shape[2:] != skip.shape[2:]:
            y = F.interpolate(y, size=skip.shape[2:], mode=mode)
        return out(torch.cat([skip, y], 1))

    return Function("U-Net", forward, down, deep, up, out)


# ---------------------------------------------------------------- attention


def squeeze_excitation(draw: Draw, shape: Shape) -> nn.Module | None:
    gate = nn.Sequential(nn.Linear(shape[0], 3), nn.ReLU(), nn.Linear(3, shape[0]), nn.Sigmoid())

    def forward(x: torch.Tensor, gate: nn.Module) -> torch.Tensor:
        return x * gate(x.mean((2, 3))).view(len(x), -1, 1, 1)

    def pooled(x: torch.Tensor, gate: nn.Module) -> torch.Tensor:
        return x * gate(F.adaptive_avg_pool2d(x, 1).flatten(1))[:, :, None, None].expand_as(x)

    return Function("squeeze-excitation", draw.choice([forward, pooled]), gate)


def few_tokens(x: torch.Tensor) -> torch.Tensor:
    """At most 36 tokens (n, tokens, channels)."""
    return F.adaptive_avg_pool2d(x, (min(6, x.shape[2]), min(6, x.shape[3]))).flatten(2).transpose(1, 2)


def untoken(tokens: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Tokens as a value as large as `few_tokens` made it."""
    return tokens.transpose(1, 2).reshape(len(x), -1, min(6, x.shape[2]), min(6, x.shape[3]))


def attention(draw: Draw, shape: Shape) -> nn.Module | None:
    """Queries, keys and values of tokens, by torch's fused function or written out; a position embedding."""
    channels, heads = shape[0], 2
    if channels % heads or channels < 4:
        return None
    positions = nn.Parameter(torch.empty(1, min(6, shape[1]) * min(6, shape[2]), channels))
    norm, project, fused = nn.LayerNorm(channels), nn.Linear(channels, 3 * channels), draw.flag()

    def forward(x: torch.Tensor, positions: torch.Tensor, norm: nn.Module, project: nn.Module) -> torch.Tensor:
        tokens = few_tokens(x) + positions
        n, count, _ = tokens.shape
        q, k, v = project(norm(tokens)).view(n, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
        if fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q @ k.transpose(-2, -1)) / (channels / heads) ** 0.5).softmax(-1) @ v
        return untoken(tokens + mixed.transpose(1, 2).reshape(n, count, channels), x)

    return Function("attention", forward, positions, norm, project)


def torch_attention(draw: Draw, shape: Shape) -> nn.Module | None:
    if shape[0] % 2:
        return None
    layer = nn.MultiheadAttention(shape[0], 2, batch_first=True)

    def forward(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        tokens = few_tokens(x)
        return untoken(layer(tokens, tokens, tokens, need_weights=False)[0] + tokens, x)

    return Function("MultiheadAttention", forward, layer)


def class_token(draw: Draw, shape: Shape) -> nn.Module | None:
    """A token of the model's own, expanded to the batch, that mixes with all others."""
    token, mix = nn.Parameter(torch.empty(1, 1, shape[0])), nn.Linear(shape[0], shape[0])

    def forward(x: torch.Tensor, token: torch.Tensor, mix: nn.Module) -> torch.Tensor:
        tokens = torch.cat([token.expand(len(x), -1, -1), few_tokens(x)], 1)
        weights = (mix(tokens) @ tokens[:, :1].transpose(1, 2)).softmax(1)
        return untoken((tokens + (weights * tokens).sum(1, keepdim=True))[:, 1:], x)

    return Function("class token", forward, token, mix)


# ---------------------------------------------------------------- constants, writes in place, shared weights


def positions(draw: Draw, shape: Shape) -> nn.Module | None:
    embedding = nn.Parameter(torch.empty(shape))
    return Function("position embedding", lambda x, embedding: x + embedding.expand(len(x), -1, -1, -1), embedding)


def coordinates(draw: Draw, shape: Shape) -> nn.Module | None:
    """Rows and columns as further channels, made in each run."""

    def forward(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        n, _, rows, columns = x.shape
        row = torch.linspace(-1, 1, rows, dtype=x.dtype, device=x.device).view(1, 1, -1, 1).expand(n, 1, rows, columns)
        column = torch.arange(columns, dtype=x.dtype, device=x.device).div(columns).expand(n, 1, rows, columns)
        return layer(torch.cat([x, row, column], 1))

    return Function("coordinates", forward, nn.Conv2d(shape[0] + 2, draw.randint(2, 8), 3, padding=1))


def written_buffer(draw: Draw, shape: Shape) -> nn.Module | None:
    """Zeros that are written in place through views."""

    def forward(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        kept = x.new_zeros(len(x), x.shape[1] + 1, x.shape[2] + 1, x.shape[3])
        kept[:, :-1, 1:].copy_(x)
        kept[:, -1] += 0.5
        kept.narrow(1, 0, 1).mul_(2)
        return layer(kept)

    return Function("zeros written in place", forward, nn.Conv2d(shape[0] + 1, draw.randint(2, 8), 2))


def written_views(draw: Draw, shape: Shape) -> nn.Module | None:
    def forward(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        y = layer(x)
        y[:, 0].mul_(1.5)
        y[:, 1:, ::2] += y[:, :1, ::2].tanh()
        y.view(len(y), -1)[:, :3] = 0.25
        return y

    return Function("views written in place", forward, nn.Conv2d(shape[0], draw.randint(2, 8), 3, padding=1))


def called_twice(draw: Draw, shape: Shape) -> nn.Module | None:
    layer = nn.Conv2d(shape[0], shape[0], 3, padding=1)
    return Function("called twice", lambda x, layer: layer(torch.tanh(layer(x))) + x, layer)


def siamese(draw: Draw, shape: Shape) -> nn.Module | None:
    """One module on two parts of the channels."""
    half = shape[0] // 2
    if half < 1:
        return None
    layer = normed(draw, half, 3)
    return Function(
        "siamese",
        lambda x, layer: torch.cat([layer(x[:, :half]), layer(x[:, half : 2 * half]) * 0.7], 1),
        layer,
    )


def tied(draw: Draw, shape: Shape) -> nn.Module | None:
    """A weight that is used forth and, transposed, back."""
    weight = nn.Parameter(torch.empty(draw.randint(2, 6), shape[0], 1, 1))

    def forward(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.conv2d(torch.tanh(F.conv2d(x, weight)), weight.transpose(0, 1)) + 0.5 * x

    return Function("tied weights", forward, weight)


def without_gradients(draw: Draw, shape: Shape) -> nn.Module | None:
    gate = nn.Conv2d(shape[0], shape[0], 1)

    def under_no_grad(x: torch.Tensor, gate: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            weights = torch.sigmoid(gate(x))
        return x * weights

    def detached(x: torch.Tensor, gate: nn.Module) -> torch.Tensor:
        return x * torch.sigmoid(gate(x.detach())) + 0.3 * x.mean(1, keepdim=True).detach()

    forward = draw.choice([under_no_grad, detached])
    return Function(forward.__name__, forward, gate)


# ---------------------------------------------------------------- other dimensions


def in_three_dimensions(draw: Draw, shape: Shape) -> nn.Module | None:
    """Channels as depth of a volume, as HybridSN begins; folded back after one to three layers."""
    depth, rows, columns = shape
    if depth < 4 or min(rows, columns) < 4:
        return None
    first = nn.Conv3d(
        1, 2, (3, draw.choice([1, 3]), 3), padding=(draw.randint(0, 1), 1, 1), stride=(draw.randint(1, 2), 1, 1)
    )
    layers: list[nn.Module] = [first, act(draw)]
    if draw.flag():
        layers.append(draw.choice([nn.BatchNorm3d(2), nn.InstanceNorm3d(2), nn.GroupNorm(2, 2)]))
    if draw.flag():
        pool = draw.choice([nn.MaxPool3d, nn.AvgPool3d])
        layers.append(pool((1, 2, 2), ceil_mode=draw.flag()))
    if draw.flag():
        layers.append(nn.Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1), bias=draw.flag()))
    return Function("3-D", lambda x, body: body(x.unsqueeze(1)).flatten(1, 2), nn.Sequential(*layers))


def along_the_spectrum(draw: Draw, shape: Shape) -> nn.Module | None:
    """Each pixel's channels as a sequence, as networks on spectra have it."""
    if shape[0] < 4:
        return None
    layers: list[nn.Module] = [nn.Conv1d(1, 3, 3, padding=draw.randint(0, 1)), act(draw)]
    if draw.flag():
        layers.append(draw.choice([nn.BatchNorm1d(3), nn.GroupNorm(1, 3)]))
    if draw.flag():
        layers.append(draw.choice([nn.MaxPool1d(2, ceil_mode=True), nn.AvgPool1d(2)]))
    layers.append(draw.choice([nn.AdaptiveAvgPool1d(2), nn.AdaptiveMaxPool1d(1), nn.Conv1d(3, 2, 1, stride=2)]))

    def forward(x: torch.Tensor, body: nn.Module) -> torch.Tensor:
        n, channels, rows, columns = x.shape
        spectra = x.permute(0, 2, 3, 1).reshape(n * rows * columns, 1, channels)
        return body(spectra).reshape(n, rows, columns, -1).permute(0, 3, 1, 2).contiguous()

    return Function("1-D", forward, nn.Sequential(*layers))


def recurrent(draw: Draw, shape: Shape) -> nn.Module | None:
    """A GRU over the channels' means over rows."""
    if shape[0] > 12:
        return None
    layer = nn.GRU(shape[2], 4, batch_first=True)

    def forward(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        return x[:, :, :, :4] * layer(x.mean(2))[0].unsqueeze(2)

    return Function("GRU", forward, layer) if shape[2] >= 4 else None


BLOCKS: Sequence[tuple[Layer, int]] = tuple(
    (block, 1)
    for block in (
        residual,
        residual,
        same_residual,
        dense,
        inverted_residual,
        convnext,
        inception,
        gated,
        unet,
        squeeze_excitation,
        attention,
        torch_attention,
        class_token,
        positions,
        coordinates,
        written_buffer,
        written_views,
        called_twice,
        siamese,
        tied,
        without_gradients,
        in_three_dimensions,
        along_the_spectrum,
        recurrent,
    )
)


# ---------------------------------------------------------------- the input, two values, the end


def entrances(draw: Draw, shape: Shape) -> nn.Module:
    """What a model does to its input first; affine."""
    bands = shape[0]
    mean, std = torch.rand(bands, 1, 1, dtype=torch.float64), torch.rand(bands, 1, 1, dtype=torch.float64) + 0.5
    chosen = draw.some(draw.randint(3, bands), bands)
    forms: dict[str, Function] = {
        "(x - mean) / std": Function("(x - mean) / std", lambda x, mean, std: (x - mean) / std, mean, std),
        "bands": Function(f"x[:, {chosen}]", lambda x: x[:, chosen]),
        "index_select": Function("index_select", lambda x, at: x.index_select(1, at), torch.tensor(chosen)),
        "slice": Function("x[:, 1:]", lambda x: x[:, 1:]),
        "as it is": Function("x * 1.5 - 0.2", lambda x: x * 1.5 - 0.2),
        "linear": Function(
            "Linear on bands last",
            lambda x, layer: layer(x.permute(0, 2, 3, 1)).movedim(-1, 1),
            nn.Linear(bands, draw.randint(4, 10)),
        ),
        "convolution": Function(
            "Conv2d", lambda x, layer: layer(x), nn.Conv2d(bands, draw.randint(4, 10), 3, padding=1)
        ),
        "first differences": Function("first differences", lambda x: 3 * (x[:, 1:] - x[:, :-1])),
        "centred": Function("centred spectra", lambda x: 2 * (x - x.mean(1, keepdim=True))),
    }
    return forms[draw.choice(list(forms))]


PAIRS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "sum": lambda x, y: x + y,
    "product": lambda x, y: x * y,
    "difference": lambda x, y: x - 0.6 * y,
    "concatenation": lambda x, y: torch.cat([x, y], 1),
    "x * sigmoid(y)": lambda x, y: x * torch.sigmoid(y),
    "maximum": lambda x, y: torch.maximum(x, y + 0.05),
    "addcmul": lambda x, y: torch.addcmul(x, x, y, value=0.5),
    "lerp": lambda x, y: torch.lerp(x, y, 0.3),
    "quotient": lambda x, y: x / (1 + y.abs()),
    "hypotenuse": lambda x, y: (x.square() + y.square() + 0.1).sqrt(),
    "bilinear": lambda x, y: torch.einsum("nchw,nchw->nhw", x, y).unsqueeze(1) + x,
    "stack": lambda x, y: torch.stack([x, y], 2).flatten(1, 2),
}


def merge(draw: Draw, first: Shape, second: Shape) -> nn.Module:
    """Two values brought to one shape, and a function of both."""
    channels, size = draw.randint(2, 8), [min(sides) for sides in zip(first[1:], second[1:], strict=True)]
    name = draw.choice(list(PAIRS))
    join = PAIRS[name]
    resize: Callable[[torch.Tensor], torch.Tensor] = draw.choice(
        [
            lambda x: F.adaptive_avg_pool2d(x, size),
            lambda x: F.interpolate(x, size=size, mode="nearest"),
            lambda x: x[:, :, : size[0], : size[1]],
        ]
    )

    def forward(x: torch.Tensor, y: torch.Tensor, *projections: nn.Module) -> torch.Tensor:
        values = [value if list(value.shape[2:]) == size else resize(value) for value in (x, y)]
        if projections:
            values = [project(value) for project, value in zip(projections, values, strict=True)]
        return join(*values)

    concatenates, fits = name == "concatenation", first[0] == second[0]
    projections = [] if concatenates or fits else [nn.Conv2d(shape[0], channels, 1) for shape in (first, second)]
    return Function(name, forward, *projections)


def head(draw: Draw, shape: Shape, outputs: int) -> nn.Module:
    """(n, outputs) of a value."""
    channels, rows, columns = shape
    reductions: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], int]] = {
        "mean": (lambda x: x.mean((2, 3)), channels),
        "sum": (lambda x: x.sum((2, 3)), channels),
        "sum of sums": (lambda x: x.sum(3).sum(2), channels),
        "amax": (lambda x: x.amax((2, 3)), channels),
        "logsumexp": (lambda x: x.flatten(2).logsumexp(2), channels),
        "flatten": (lambda x: x.flatten(1), channels * rows * columns),
        "view": (lambda x: x.reshape(len(x), -1), channels * rows * columns),
        "pool": (lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1), channels),
        "centre": (lambda x: x[:, :, rows // 2, columns // 2], channels),
        "weighted": (lambda x: (x * x.flatten(2).softmax(2).view_as(x)).sum((2, 3)), channels),
    }
    name = draw.choice(list(reductions))
    reduce, features = reductions[name]
    end: nn.Module = nn.Linear(features, outputs)
    if draw.flag(0.3):
        end = nn.Sequential(end, nn.Tanh(), nn.Linear(outputs, outputs))
    elif draw.flag(0.2) and features == channels:
        return Function(f"map, {name}", lambda x, end: reduce(end(x)), nn.Conv2d(channels, outputs, 1))
    return Function(name, lambda x, end: end(reduce(x)), end)
