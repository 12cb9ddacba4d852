"""Windows followed through a model: of each value only what the window reaches is computed again. The plain numbers."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import meteors_c as mt
from tests.toys import assert_declined, assert_shortcut, each_pair, occlude

BANDS, ROWS, COLUMNS, CHANNELS = 6, 19, 17, 8
Body = Callable[[torch.Tensor], torch.Tensor]


def image(seed: int = 0, dtype: torch.dtype = torch.float64) -> mt.HSI:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(BANDS, ROWS, COLUMNS, generator=generator, dtype=torch.float64) - 0.3
    return mt.HSI(image=values.to(dtype), wavelengths=torch.linspace(400, 900, BANDS))


def randomise(module: nn.Module) -> None:
    """Running statistics that differ from channel to channel."""
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)


class Between(nn.Module):
    """A convolution over the image, something, and a head that reads all that is left."""

    def __init__(self, body: Body, lift: bool = False) -> None:
        super().__init__()
        self.lift = lift
        self.first = nn.Conv3d(1, CHANNELS, 3, padding=1) if lift else nn.Conv2d(BANDS, CHANNELS, 3, padding=1)
        self.body, self.head = body, nn.LazyLinear(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.first(x.unsqueeze(1) if self.lift else x)).flatten(1))


def make(build: Callable[[], Body], lift: bool = False, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(4)
    model = Between(build(), lift).eval()
    with torch.no_grad():
        model(torch.rand(2, BANDS, ROWS, COLUMNS))  # gives the lazy head its size
        randomise(model)
    return model.to(torch.float64).to(dtype)


def assert_same(fast: Any, plain: Any) -> None:
    scale = float(plain.attributes.abs().max())
    assert scale > 0
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-11 * scale)


def followed(attributes: Any) -> tuple[int, int]:
    """Operators that are computed in part, and all."""
    assert_shortcut(attributes.report)
    local, operators = re.search(r"(\d+) of (\d+) operators", attributes.report.shortcut).groups()  # type: ignore[union-attr]
    return int(local), int(operators)


def seq(*layers: nn.Module) -> Callable[[], Body]:
    return lambda: copy.deepcopy(nn.Sequential(*layers))


def conv(*given: Any, **more: Any) -> nn.Module:
    return nn.Conv2d(CHANNELS, *given, **more)


def fixed(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(8)) - 0.5


class Constant(nn.Module):
    """A function of the features and of a constant tensor."""

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], *shape: int) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("constant", fixed(*shape))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.function(z, self.constant)


class Twice(nn.Module):
    """Two branches, and how they are joined."""

    def __init__(self, join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], *given: Any, **more: Any) -> None:
        super().__init__()
        self.join, self.branch = join, conv(CHANNELS, *given, **more)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.join(z, torch.tanh(self.branch(z)))


def of(function: Body) -> Callable[[], Body]:
    return lambda: function


def constant(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], *shape: int) -> Callable[[], Body]:
    return lambda: Constant(function, *shape)


def twice(join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], *given: Any, **more: Any) -> Callable[[], Body]:
    return lambda: Twice(join, *given, **more)


def pixels(z: torch.Tensor) -> torch.Tensor:
    return z.permute(0, 2, 3, 1)


# What stands between a convolution of 8 channels over (19, 17) pixels and the head.
FAMILIES: dict[str, Callable[[], Body]] = {
    "convolutions": seq(conv(4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 5, 2), nn.Conv2d(5, 2, 1)),
    "strides": seq(conv(4, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(4, 3, 3, stride=(1, 2), padding=2)),
    "stride beyond the kernel": seq(conv(4, 1, stride=3), nn.ReLU()),
    "dilation": seq(conv(4, 2, dilation=3), nn.GELU(), nn.Conv2d(4, 3, 2, dilation=(1, 2))),
    "groups": seq(conv(CHANNELS, 3, groups=4), nn.Tanh(), conv(16, 3, groups=CHANNELS, padding=2)),
    "same": seq(conv(4, (2, 4), padding="same", dilation=(1, 2)), nn.Tanh(), nn.Conv2d(4, 3, 3, padding="valid")),
    "transposed": seq(nn.ConvTranspose2d(CHANNELS, 4, 3, stride=2, padding=1, output_padding=1), nn.Tanh()),
    "transposed in groups": seq(nn.ConvTranspose2d(CHANNELS, 4, 2, stride=3, groups=2, dilation=2), nn.Tanh()),
    "padding modes": seq(
        conv(4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(4, 4, 3, padding=1, padding_mode="replicate"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    ),
    "max pools": seq(nn.MaxPool2d(2), conv(4, 3), nn.MaxPool2d(3, stride=2, padding=1), nn.Tanh()),
    "max pools with gaps": seq(nn.MaxPool2d(2, stride=3), nn.MaxPool2d(2, stride=1, dilation=2)),
    "max pools rounded up": seq(nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.MaxPool2d((2, 3), ceil_mode=True)),
    "average pools": seq(nn.AvgPool2d(2), nn.Tanh(), nn.AvgPool2d(3, stride=2, padding=1)),
    "average pools without padding": seq(nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), nn.Tanh()),
    "average pools rounded up": seq(nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), nn.Tanh()),
    "average pools with a divisor": seq(nn.AvgPool2d(3, stride=2, ceil_mode=True, divisor_override=5), nn.Tanh()),
    "adaptive pools": seq(nn.ZeroPad2d((0, 1, 0, 1)), nn.AdaptiveAvgPool2d((10, 6)), nn.AdaptiveMaxPool2d((5, 2))),
    "batch norm": seq(nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True), conv(4, 1), nn.BatchNorm2d(4, affine=False)),
    "instance norm of the training set": seq(
        nn.InstanceNorm2d(CHANNELS, track_running_stats=True, affine=True), nn.Tanh()
    ),
    "layer norm": of(lambda z: F.layer_norm(pixels(z), (CHANNELS,)).permute(0, 3, 1, 2)),
    "layer norm of all": of(lambda z: F.layer_norm(z, z.shape[1:])),
    "group norm": seq(nn.GroupNorm(2, CHANNELS), nn.Tanh()),
    "instance norm": seq(nn.InstanceNorm2d(CHANNELS), nn.Tanh()),
    "rms norm": of(lambda z: F.rms_norm(pixels(z), (CHANNELS,))),
    "functions": seq(
        nn.ELU(0.7), nn.LeakyReLU(0.2), nn.Hardswish(), nn.Softplus(), nn.Hardtanh(-2, 4), nn.Mish(), nn.Dropout(),
        nn.Identity(), nn.CELU(), nn.SELU(),
    ),
    "functions with bounds": seq(nn.ReLU6(), nn.Sigmoid(), nn.LogSigmoid(), nn.Hardsigmoid(), nn.GELU("tanh")),
    "more functions": of(lambda z: (z.abs() + 1).sqrt().exp().clamp(0.1, 4).pow(2).neg().to(z.dtype).contiguous()),
    "prelu": seq(nn.PReLU(CHANNELS), nn.PReLU()),
    "glu": seq(nn.GLU(1)),
    "softmax": seq(nn.Softmax(1), nn.LogSoftmax(1)),
    "softmax over rows": seq(nn.Softmax(2)),
    "sums": twice(lambda z, y: z + 2 * y - z * y, 3, padding=1),
    "quotients": twice(lambda z, y: z / (2 + y) + torch.maximum(z, y).add(y, alpha=0.3), 5, padding=2),
    "chosen": twice(lambda z, y: torch.where(z > y, z, 2 * y) + (z > 0.1), 3, padding=1),
    "cropped": twice(lambda z, y: z[:, :, 1:-1, 1:-1] + y, 3),
    "written in place": twice(lambda z, y: y.add_(z).mul_(0.3).relu_(), 3, padding=1),
    "side by side": twice(lambda z, y: torch.cat([z, torch.tanh(y), z[:, :2]], 1), 3, padding=1),
    "side by side along rows": twice(lambda z, y: torch.cat([z, y], 2), 3, padding=1),
    "stacked": twice(lambda z, y: torch.stack([z, y], 2).flatten(1, 2), 3, padding=1),
    "chunks": of(lambda z: (lambda a, b: a * torch.sigmoid(b))(*z.chunk(2, 1))),
    "parts": of(lambda z: (lambda a, b, c: torch.cat([c, a * b[:, :1], b], 1))(*z.split([2, 5, 1], 1))),
    "unbound": of(lambda z: sum(k * part for k, part in enumerate(z.unbind(1), 1))),  # type: ignore[arg-type, return-value]
    "slices": of(lambda z: z[:, 1:7:2, 2:-3:3, 1:].narrow(3, 0, 9).select(1, 1)),
    "chosen channels": of(lambda z: z[:, [3, 1, 1]] + z.index_select(1, torch.tensor([0, 2, 4]))),
    "chosen pixels": of(lambda z: z[..., [0, 3, 4, 9]]),
    "padded": of(lambda z: F.pad(F.pad(z, (2, -1, 0, 3), value=0.7), (1, 1, 1, 1))),
    "reflected": of(lambda z: F.pad(F.pad(z, (2, 3, 4, 1), mode="reflect"), (1, 0, 2, 2), mode="replicate")),
    "wrapped around": of(lambda z: F.pad(z, (2, 1, 3, 0), mode="circular")),
    "flipped and rolled": of(lambda z: z.flip(3).roll((2, -3), (2, 3))),
    "nearest": of(lambda z: F.interpolate(F.interpolate(z, scale_factor=2), size=(23, 30), mode="nearest")),
    "bilinear": of(lambda z: F.interpolate(F.interpolate(z, (38, 34), mode="bilinear"), (21, 40), mode="bilinear")),
    "bilinear between corners": of(lambda z: F.interpolate(z, (30, 33), mode="bilinear", align_corners=True)),
    "bicubic": of(lambda z: F.interpolate(z, scale_factor=1.5, mode="bicubic")),
    "by a factor": of(lambda z: F.interpolate(z, scale_factor=(2.3, 1.7), mode="bilinear")),
    "pixel shuffle": of(lambda z: F.pixel_unshuffle(F.pixel_shuffle(z, 2)[:, :, 2:, 1:-1], 4)),
    "permuted": of(lambda z: torch.tanh(z.permute(0, 3, 1, 2).transpose(1, 2).movedim(2, 3))),
    "reshaped": of(lambda z: torch.tanh(z.reshape(-1, 2, 4, ROWS * COLUMNS).flatten(1, 2)).unflatten(2, (-1, COLUMNS))),
    "new axes": of(lambda z: z.unsqueeze(1).unsqueeze(4).expand(-1, 3, -1, -1, 2, -1).squeeze(1) * 2),
    "linear": seq(nn.Conv2d(CHANNELS, 4, 1), nn.Flatten(2), nn.Linear(ROWS * COLUMNS, 5), nn.Tanh()),
    "linear over channels": constant(lambda z, c: torch.tanh(F.linear(pixels(z), c)), 5, CHANNELS),
    "matrices": constant(lambda z, c: torch.matmul(c, z.flatten(2)) + (z.flatten(2).transpose(1, 2) @ c.t()).mT, 8, 8),
    "einsum": constant(lambda z, c: torch.tanh(torch.einsum("nchw,kc->nhkw", z, c)), 5, CHANNELS),
    "constants": constant(lambda z, c: (z + c) * c[:, :1], CHANNELS, ROWS, COLUMNS),
    "constants of a column": constant(lambda z, c: torch.where(c > 0, z, c), 1, 1, COLUMNS),
    "constants beside it": constant(lambda z, c: torch.cat([c.expand(len(z), -1, -1, -1), z], 1), 1, 2, ROWS, COLUMNS),
    "means over channels": of(lambda z: z - z.mean(1, keepdim=True) + z.amax(1, keepdim=True) * z.sum(1).unsqueeze(1)),
    "normalised pixels": of(lambda z: F.normalize(z, dim=1)),
    "means over pixels": of(lambda z: torch.tanh(z).mean((2, 3))),
    "means over rows": of(lambda z: torch.tanh(z).mean(2)),
    "sums over pixels": of(lambda z: torch.tanh(z).sum((-1, -2), keepdim=True)),
    "maxima over pixels": of(lambda z: torch.tanh(z).amax((2, 3))),
    "global pools": seq(nn.Tanh(), nn.AdaptiveAvgPool2d(1)),
    "squeeze and excitation": lambda: Excited(),
}  # fmt: skip


class Excited(nn.Module):
    """Channels weighted by their means."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), conv(2, 1), nn.ReLU(), nn.Conv2d(2, CHANNELS, 1), nn.Sigmoid()
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z * self.weights(z)


# The same with the bands as an axis of their own: 8 channels over (6, 19, 17).
DEEP: dict[str, Callable[[], Body]] = {
    "convolutions": seq(
        nn.Conv3d(CHANNELS, 3, (3, 2, 3), stride=(2, 1, 2), padding=(0, 1, 1)), nn.ReLU(), nn.BatchNorm3d(3)
    ),
    "max pools": seq(nn.MaxPool3d((1, 2, 2), ceil_mode=True), nn.ELU()),
    "average pools": seq(nn.AvgPool3d(2, padding=1, count_include_pad=False), nn.Tanh()),
    "bands merged with channels": lambda: nn.Sequential(nn.Flatten(1, 2), nn.Conv2d(CHANNELS * BANDS, 4, 3)),
    "trilinear": of(lambda z: F.interpolate(z[:, :2], scale_factor=(1, 2, 1), mode="trilinear")),
}
# Windows by bands, rows and columns, and strides: boxes, single pixels, single bands, and so many pixels that some
# places behind convolutions read nothing but the baseline's values.
WINDOWS = {
    "boxes": ((2, 2, 3), (2, 2, 2)), "pixels": ((BANDS, 1, 1), (BANDS, 1, 1)), "bands": ((1, 3, 2), (1, 3, 2)),
    "large": ((BANDS, 7, 6), (BANDS, 4, 4)), "half": ((BANDS, 12, 11), (BANDS, 3, 3)),
}  # fmt: skip


@pytest.mark.parametrize(("name", "window"), each_pair(FAMILIES, WINDOWS))
def test_operators_are_followed_and_equal(name: str, window: str) -> None:
    model, hsi = make(FAMILIES[name]), image()
    fast = occlude(model, hsi, *WINDOWS[window])
    plain = occlude(model, hsi, *WINDOWS[window], shortcuts=False)
    assert fast.report.shortcut_evaluations == fast.report.evaluations == plain.report.evaluations
    assert_same(fast, plain)
    # All of these are known, so the flattening and the head are reached, too.
    local, operators = followed(fast)
    assert local == operators >= 3


@pytest.mark.parametrize(("name", "window"), each_pair(DEEP, WINDOWS))
def test_three_axes_are_followed(name: str, window: str) -> None:
    model, hsi = make(DEEP[name], lift=True), image()
    fast = occlude(model, hsi, *WINDOWS[window])
    assert_same(fast, occlude(model, hsi, *WINDOWS[window], shortcuts=False))
    local, operators = followed(fast)
    assert local == operators >= 4


class Spectra(nn.Module):
    """Convolutions along the bands of a mean spectrum, or along the rows of all."""

    def __init__(self, mean: bool) -> None:
        super().__init__()
        self.mean = mean
        self.layers = nn.Sequential(
            nn.Conv1d(1 if mean else BANDS * COLUMNS, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(4, 4, 2, padding="same"), nn.Upsample(scale_factor=2, mode="linear"),
            nn.AvgPool1d(2, ceil_mode=True), nn.ConvTranspose1d(4, 2, 3, stride=2),
        )  # fmt: skip
        self.head = nn.LazyLinear(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = x.mean((2, 3)).unsqueeze(1) if self.mean else x.permute(0, 1, 3, 2).flatten(1, 2)
        return self.head(self.layers(z).flatten(1))


@pytest.mark.parametrize("mean", [True, False])
def test_one_axis_is_followed(mean: bool) -> None:
    torch.manual_seed(3)
    model = Spectra(mean)
    model(torch.rand(2, BANDS, ROWS, COLUMNS))
    model, hsi = model.double().eval(), image()
    for window in ((1, 3, 2), (BANDS, 2, 2)):
        fast = occlude(model, hsi, window, window)
        assert_same(fast, occlude(model, hsi, window, window, shortcuts=False))
        local, operators = followed(fast)
        assert local == operators


NET = seq(
    nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True), nn.MaxPool2d(2), conv(4, 3, padding=1), nn.Hardswish(),
    nn.AvgPool2d(2, ceil_mode=True),
)  # fmt: skip


@pytest.mark.parametrize("window", [((4, 5, 4), (3, 4, 3)), ((BANDS, 11, 9), (BANDS, 4, 3))])
@pytest.mark.parametrize("most", [1, 7, 64, None])
def test_windows_of_several_shapes_and_images_share_a_batch(most: int | None, window: Any) -> None:
    """The last windows of a row are cut at the border, and a batch holds windows of two images."""
    model, images = make(NET), [image(0), image(1), image(2)]
    given: dict[str, Any] = {"perturbations_per_eval": most, "baseline": [0.0, image(7).image, None]}
    fast = occlude(model, images, *window, **given)
    plain = occlude(model, images, *window, shortcuts=False, **given)
    for one, other in zip(fast, plain, strict=True):
        followed(one)
        assert_same(one, other)


def test_all_targets() -> None:
    model = make(NET)
    fast = occlude(model, image(), (3, 4, 4), (3, 2, 2), target="all")
    plain = occlude(model, image(), (3, 4, 4), (3, 2, 2), target="all", shortcuts=False)
    for target in range(3):
        followed(fast[target])
        assert_same(fast[target], plain[target])


def test_masked_windows_are_not_evaluated_here_either() -> None:
    mask = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    mask[:, 6:] = False
    hsi = mt.HSI(image=image().image, wavelengths=list(image().wavelengths), binary_mask=mask)
    model = make(NET)
    fast = occlude(model, hsi, (6, 2, 2), (6, 2, 2), baseline=0)
    plain = occlude(model, hsi, (6, 2, 2), (6, 2, 2), baseline=0, shortcuts=False)
    followed(fast)
    assert fast.report.evaluations_saved == plain.report.evaluations_saved == 63
    assert fast.attributes[:, 6:].eq(0).all()
    assert_same(fast, plain)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layouts_in_memory(layout: torch.memory_format) -> None:
    model = make(NET).to(memory_format=layout)
    fast = occlude(model, image(), (BANDS, 3, 3), (BANDS, 2, 2))
    followed(fast)
    assert_same(fast, occlude(model, image(), (BANDS, 3, 3), (BANDS, 2, 2), shortcuts=False))


@pytest.mark.parametrize("value", [-9999.0, 1e12])
@pytest.mark.parametrize("window", [(2, 3, 3), (BANDS, 2, 2)])
def test_values_that_dwarf_the_others_cost_no_digits(value: float, window: tuple[int, int, int]) -> None:
    """What is followed are values: a pixel without data is in no window, or in one that replaces it."""
    values = image().image.float()
    values[:, 3, 4] = value
    hsi = mt.HSI(image=values, wavelengths=list(image().wavelengths))
    exact_hsi = mt.HSI(image=values.double(), wavelengths=list(image().wavelengths))
    net = seq(nn.Tanh(), conv(4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1))
    given: dict[str, Any] = {"window": window, "stride": (2, 2, 2)}
    exact = occlude(make(net), exact_hsi, **given, shortcuts=False).attributes
    model = make(net, dtype=torch.float32)
    fast, plain = occlude(model, hsi, **given), occlude(model, hsi, **given, shortcuts=False)
    followed(fast)
    error = [float((found.attributes.double() - exact).abs().max()) for found in (fast, plain)]
    assert error[0] <= 2 * error[1] + 1e-7 * float(exact.abs().max())


def test_float32_stays_as_close_to_float64_as_the_plain_path() -> None:
    given: dict[str, Any] = {"window": (6, 3, 3), "stride": (6, 2, 2)}
    exact = occlude(make(NET), image(), **given, shortcuts=False).attributes
    model, hsi = make(NET, dtype=torch.float32), image(0, torch.float32)
    fast, plain = occlude(model, hsi, **given), occlude(model, hsi, **given, shortcuts=False)
    followed(fast)
    error = [float((found.attributes.double() - exact).abs().max()) for found in (fast, plain)]
    assert error[0] <= 2 * error[1]


# Operators that no part can be computed of: what is before them is followed, the rest is run in full.
UNKNOWN: dict[str, Callable[[], Body]] = {
    "fourier": of(lambda z: torch.fft.rfft2(torch.tanh(z)).abs()),
    "attention": of(lambda z: F.scaled_dot_product_attention(*[torch.tanh(z).flatten(2).transpose(1, 2)] * 3)),
    "gram": of(lambda z: (lambda y: y @ y.mT)(torch.tanh(z).flatten(2))),
    "places of maxima": of(
        lambda z: (lambda pooled: F.max_unpool2d(*pooled, 2, output_size=z.shape[2:]))(
            F.max_pool2d(torch.tanh(z), 2, return_indices=True)
        )
    ),
    "windows of the batch": of(lambda z: torch.tanh(z).view(-1, 4, ROWS, COLUMNS).mean((2, 3)).view(-1, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_unknown_ends_what_is_followed(name: str) -> None:
    model = make(UNKNOWN[name])
    fast = occlude(model, image(), (BANDS, 3, 3), (BANDS, 3, 3))
    plain = occlude(model, image(), (BANDS, 3, 3), (BANDS, 3, 3), shortcuts=False)
    local, operators = followed(fast)
    assert 2 <= local < operators
    assert_same(fast, plain)


class Upwards(nn.Module):
    """A transposed convolution of the image itself, and what is not followed."""

    def __init__(self, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose2d(BANDS, 3, kernel, stride=stride, padding=padding)
        self.end = nn.LazyLinear(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(torch.fft.rfft2(self.layer(x)).abs().flatten(1))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 1), (3, 2, 1), (3, 3, 2), (4, 3, 1), (1, 2, 0), (1, 2, 1)]
)
@pytest.mark.parametrize("window", [(2, 1, 2), (BANDS, 1, 1), (BANDS, 2, 3)])
def test_first_and_last_places_of_a_transposed_convolution(window: Any, kernel: int, stride: int, padding: int) -> None:
    """Their results are as large as one another, and lie elsewhere to what they are made of."""
    torch.manual_seed(4)
    model = Upwards(kernel, stride, padding).eval()
    model(torch.rand(1, BANDS, ROWS, COLUMNS))  # gives the lazy end its size
    model.double()
    fast, plain = (occlude(model, image(), window, window, shortcuts=how) for how in ("always", False))
    followed(fast)
    assert_same(fast, plain)


def test_a_window_over_all_is_equal_too() -> None:
    fast = occlude(make(NET), image(), (BANDS, ROWS, COLUMNS), (1, 1, 1))
    assert_same(fast, occlude(make(NET), image(), (BANDS, ROWS, COLUMNS), (1, 1, 1), shortcuts=False))


class Summed(nn.Module):
    """One number for a whole batch, which a batch of one does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.body = make(NET)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)[:, 1].sum().reshape(1)


def test_one_number_for_a_batch_is_declined() -> None:
    given: dict[str, Any] = {"target": None, "window": (6, 4, 4), "stride": (6, 4, 4)}
    fast = occlude(Summed().eval(), image(), **given)
    assert_declined(fast.report, "structure")
    assert_same(fast, occlude(Summed().eval(), image(), **given, shortcuts=False))


BEGINNINGS: dict[str, Callable[[], nn.Module]] = {
    "a convolution": lambda: nn.Sequential(
        nn.Conv2d(BANDS, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 4, 3, stride=2), nn.Tanh(), nn.Flatten(),
        nn.LazyLinear(3),
    ),
    "asymmetric zeros": lambda: nn.Sequential(
        nn.ZeroPad2d((2, 0, 0, 1)), nn.Conv2d(BANDS, 8, (3, 2)), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)
    ),
    "a matrix": lambda: nn.Sequential(
        Moved(), nn.Linear(BANDS, 8), nn.Tanh(), nn.Conv2d(ROWS, 3, 1), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)
    ),
    "a mean": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(BANDS, 8), nn.Tanh(), nn.Linear(8, 3)
    ),
}  # fmt: skip


class Moved(nn.Module):
    """The bands last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.movedim(1, 3)


@pytest.mark.parametrize("zeros", ["everywhere", "in one image", "nowhere"])
@pytest.mark.parametrize("name", BEGINNINGS)
def test_what_some_bands_are_taken_off(name: str, zeros: str) -> None:
    """A box over some of the bands updates sums over all; of a baseline of zeros only the image's values are read."""
    torch.manual_seed(2)
    model = BEGINNINGS[name]().eval()
    with torch.no_grad():
        model(torch.rand(2, BANDS, ROWS, COLUMNS))
    images = [image(0), image(1)]
    baseline = {"everywhere": 0, "in one image": [0, 0.4], "nowhere": 0.4}[zeros]
    found = {
        way: occlude(model.double(), images, (2, 5, 6), (2, 4, 5), shortcuts=way, baseline=baseline)
        for way in ("always", False)
    }
    for fast, plain in zip(found["always"], found[False], strict=True):
        assert_shortcut(fast.report)
        assert_same(fast, plain)
