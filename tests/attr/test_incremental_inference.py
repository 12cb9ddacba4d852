"""Windows followed through the first layers of a model, bands through its first convolution: the plain numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import meteors_c as mt
from tests.toys import assert_declined, assert_shortcut, each_pair, each_value, explainable

BANDS, ROWS, COLUMNS = 6, 19, 17


def image(seed: int = 0) -> mt.HSI:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(BANDS, ROWS, COLUMNS, generator=generator, dtype=torch.float64) - 0.3
    return mt.HSI(image=values, wavelengths=torch.linspace(400, 900, BANDS))


class Lifted(nn.Module):
    """Layers that read the bands as an axis of their own, then a head."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.head = nn.Sequential(*layers), head()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x.unsqueeze(1)))


def head() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def flat(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Sequential(*layers), head())


def conv(before: int, after: int, *given: Any, **more: Any) -> nn.Module:
    return nn.Conv2d(before, after, *given, **more)


# The model, and through how many layers a small window is followed; batch norm behind a convolution joins it.
FOLLOWED = {
    "one convolution": (lambda: flat(conv(BANDS, 3, 3, padding=1), nn.Softmax(1)), 1),
    "three, with padding": (
        lambda: flat(
            conv(BANDS, 4, 3, padding=1), nn.ReLU(), conv(4, 3, 3, padding=1), nn.Tanh(), conv(3, 2, 1), nn.Sigmoid()
        ),
        6,
    ),
    "no padding": (lambda: flat(conv(BANDS, 4, 3), nn.ReLU(), conv(4, 3, 2), nn.ReLU()), 4),
    "strides": (
        lambda: flat(conv(BANDS, 4, 3, stride=2, padding=1), nn.SiLU(), conv(4, 3, 3, stride=(1, 2), padding=2)), 3
    ),
    "stride beyond the kernel": (lambda: flat(conv(BANDS, 4, 1, stride=3), nn.ReLU()), 2),
    "dilation": (lambda: flat(conv(BANDS, 4, 2, dilation=3), nn.GELU(), conv(4, 3, 2, dilation=(1, 2))), 3),
    "batch norm": (
        lambda: flat(
            conv(BANDS, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
            conv(4, 3, 1), nn.BatchNorm2d(3, affine=False), nn.ELU(0.7),
        ),
        4,
    ),
    "batch norm behind a function": (
        lambda: flat(conv(BANDS, 4, 3, padding=1), nn.LeakyReLU(0.2), nn.BatchNorm2d(4), nn.Hardtanh(-0.2, 0.4)), 4
    ),
    "pools": (
        lambda: flat(
            conv(BANDS, 4, 3, padding=1), nn.ReLU6(), nn.MaxPool2d(2), conv(4, 3, 3, padding=1), nn.Hardswish(),
        ),
        5,
    ),
    "pools that overlap": (lambda: flat(conv(BANDS, 4, 1), nn.MaxPool2d(3, stride=2, padding=1), nn.ReLU()), 3),
    "pools with gaps": (lambda: flat(conv(BANDS, 4, 1), nn.MaxPool2d(2, stride=3), nn.ReLU()), 3),
    "pools with dilation": (lambda: flat(conv(BANDS, 4, 1), nn.MaxPool2d(2, stride=1, dilation=2), nn.ReLU()), 3),
    "a pool that rounds up ends it": (lambda: flat(conv(BANDS, 4, 1), nn.MaxPool2d(2, ceil_mode=True)), 1),
    "an average pool ends it": (lambda: flat(conv(BANDS, 4, 1), nn.ReLU(), nn.AvgPool2d(2)), 2),
    "groups end it": (lambda: flat(conv(BANDS, 4, 1), nn.ReLU(), conv(4, 4, 3, groups=2)), 2),
    "transposed convolution ends it": (lambda: flat(conv(BANDS, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2)), 2),
    "reflected padding ends it": (
        lambda: flat(conv(BANDS, 4, 1), nn.ReLU(), conv(4, 2, 3, padding=1, padding_mode="reflect")), 2
    ),
    "written in place behind batch norm": (
        lambda: flat(conv(BANDS, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)), 2
    ),
    "written in place": (
        lambda: flat(
            conv(BANDS, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), conv(4, 3, 1), nn.ReLU(inplace=True)
        ),
        5,
    ),
    "bands as an axis": (
        lambda: Lifted(nn.Conv3d(1, 2, (3, 3, 3), stride=(2, 1, 1)), nn.ReLU(), nn.Conv3d(2, 3, (1, 3, 3)), nn.ReLU()),
        4,
    ),
    "bands as an axis, pooled": (
        lambda: Lifted(nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2), nn.ReLU(), nn.MaxPool3d((1, 2, 2))), 3
    ),
}  # fmt: skip


def make(build: Any) -> nn.Module:
    torch.manual_seed(4)
    model = build()
    model(torch.rand(2, BANDS, ROWS, COLUMNS))  # gives the lazy head its size
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model.double().eval()


def occlude(model: nn.Module, hsi: Any, window: Any, stride: Any, shortcuts: bool | str = "always", **more: Any) -> Any:
    more = {"target": 1, "baseline": 0.4, **more}
    with mt.options(shortcuts=shortcuts):
        return mt.attr.Occlusion(explainable(model)).attribute(
            hsi, sliding_window_shapes=window, strides=stride, **more
        )


def assert_same(fast: Any, plain: Any) -> None:
    scale = float(plain.attributes.abs().max())
    assert scale > 0
    torch.testing.assert_close(fast.attributes, plain.attributes, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize(("name", "most"), each_value(FOLLOWED, [None, 1, 7, 64]))
def test_followed_and_equal(name: str, most: int | None) -> None:
    build, layers = FOLLOWED[name]
    model, hsi = make(build), image()
    for window, stride in [((2, 2, 3), (2, 2, 2)), ((6, 1, 1), (6, 1, 1)), ((1, 3, 2), (1, 3, 2))]:
        fast = occlude(model, hsi, window, stride, perturbations_per_eval=most)
        plain = occlude(model, hsi, window, stride, shortcuts=False, perturbations_per_eval=most)
        assert fast.report.shortcut_evaluations == fast.report.evaluations == plain.report.evaluations
        assert_same(fast, plain)
    report = occlude(model, hsi, (6, 1, 1), (6, 1, 1), perturbations_per_eval=most).report
    assert_shortcut(report, f"incremental inference, {layers} layer{'s' * (layers > 1)}")


def test_windows_that_reach_everything_stop_at_the_first_convolution() -> None:
    model = make(FOLLOWED["three, with padding"][0])
    fast = occlude(model, image(), (1, ROWS, COLUMNS), (1, ROWS, COLUMNS))
    assert_declined(fast.report, "little_work")
    found = occlude(model, [image(0), image(1)], (1, ROWS, 9), (1, ROWS, 4))
    assert_shortcut(found[0].report, "incremental inference, 1 layer")


def test_images_of_a_list_and_all_targets() -> None:
    model, images = make(FOLLOWED["pools"][0]), [image(0), image(1), image(2)]
    given: dict[str, Any] = {"target": "all", "perturbations_per_eval": 5}
    baselines = [0.0, image(7).image, None]
    fast = occlude(model, images, (3, 4, 4), (3, 2, 2), baseline=baselines, **given)
    plain = occlude(model, images, (3, 4, 4), (3, 2, 2), shortcuts=False, baseline=baselines, **given)
    for one, other in zip(fast, plain, strict=True):
        for target in range(3):
            assert_shortcut(one[target].report, "incremental inference, 5 layers")
            assert_same(one[target], other[target])


def test_masked_windows_are_not_evaluated_here_either() -> None:
    mask = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    mask[:, 6:] = False
    hsi = mt.HSI(image=image().image, wavelengths=list(image().wavelengths), binary_mask=mask)
    model = make(FOLLOWED["three, with padding"][0])
    fast = occlude(model, hsi, (6, 2, 2), (6, 2, 2), baseline=0)
    plain = occlude(model, hsi, (6, 2, 2), (6, 2, 2), baseline=0, shortcuts=False)
    assert_shortcut(fast.report)
    assert fast.report.evaluations_saved == plain.report.evaluations_saved == 63
    assert fast.report.shortcut_evaluations == fast.report.evaluations == 1 + 27
    assert fast.attributes[:, 6:].eq(0).all()
    assert_same(fast, plain)


def test_the_choice_of_batches_changes_no_more_than_rounding() -> None:
    model = make(FOLLOWED["pools"][0])
    found = [occlude(model, image(), (2, 3, 3), (2, 2, 2), perturbations_per_eval=n) for n in (1, 3, 64)]
    for other in found[1:]:
        assert_same(other, found[0])


class Functional(nn.Module):
    """Functions in place of modules: what they compute must be known, or is computed."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.one, self.two, self.head, self.body = conv(BANDS, 4, 3), conv(4, 4, 3), head(), body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self, x))


OTHERS = {
    "functions": (lambda m, x: m.two(F.max_pool2d(F.relu(m.one(x)), 2)), "incremental inference, 4 layers"),
    "residual": (
        lambda m, x: (lambda z: F.relu(m.two(z)) + z[:, :, 1:-1, 1:-1])(F.relu(m.one(x))),
        "incremental inference, 1 layer",
    ),
    "residual behind a module": (
        lambda m, x: (lambda z: F.relu(m.two(z)) + z[:, :, 1:-1, 1:-1])(m.one(x)), "incremental inference, 1 layer"
    ),
    "written in place": (lambda m, x: m.two(m.one(x).relu_()), "failure"),
    "first layer without a module": (lambda m, x: m.two(F.conv2d(x, m.one.weight)), "incremental inference, 2 layers"),
    "read behind autograd": (lambda m, x: m.two(F.relu(m.one(x))) * (2 + x.detach().mean()), "structure"),
    "a layer read behind autograd": (
        lambda m, x: (lambda z: m.two(F.relu(z)) * (2 + z.detach().mean()))(m.one(x)), "structure"
    ),
    "the input scaled first": (lambda m, x: m.two(F.relu(m.one(2 * x))), "structure"),
    "a layer used twice": (lambda m, x: m.two(F.relu(m.two(m.one(x)))), "incremental inference, 1 layer"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_written_in_other_ways(name: str) -> None:
    body, told = OTHERS[name]
    model, hsi = make(lambda: Functional(body)), image()
    fast = occlude(model, hsi, (6, 2, 2), (6, 1, 1))
    if told.startswith("incremental inference"):
        assert_shortcut(fast.report, told)
    else:
        assert_declined(fast.report, told)
    assert_same(fast, occlude(model, hsi, (6, 2, 2), (6, 1, 1), shortcuts=False))


def test_float32_stays_as_close_to_float64_as_the_plain_path() -> None:
    model = make(FOLLOWED["pools"][0])
    exact = occlude(model, image(), (6, 3, 3), (6, 2, 2), shortcuts=False).attributes
    hsi = mt.HSI(image=image().image.float(), wavelengths=list(image().wavelengths))
    model = model.float()
    error = [
        float((occlude(model, hsi, (6, 3, 3), (6, 2, 2), shortcuts=on).attributes.double() - exact).abs().max())
        for on in ("always", False)
    ]
    assert error[0] <= 2 * error[1]


class Summed(nn.Module):
    """One number for a whole batch, which a batch of one does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.body = make(FOLLOWED["three, with padding"][0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)[:, 1].sum().reshape(1)


def test_one_number_for_a_batch_is_declined() -> None:
    given: dict[str, Any] = {"target": None, "window": (6, 4, 4), "stride": (6, 4, 4)}
    fast = occlude(Summed().eval(), image(), **given)
    assert_declined(fast.report, "structure")
    assert_same(fast, occlude(Summed().eval(), image(), **given, shortcuts=False))


@pytest.mark.parametrize("value", [-9999.0, 1e30])
def test_single_values_that_dwarf_the_others_are_not_followed(value: float) -> None:
    """What is left of the others after a difference would be rounding."""
    values = image().image.float()
    values[:, 3, 4] = value
    hsi = mt.HSI(image=values, wavelengths=list(image().wavelengths))
    model = make(FOLLOWED["three, with padding"][0]).float()
    given: dict[str, Any] = {"window": (6, 2, 2), "stride": (6, 1, 1)}
    fast, plain = occlude(model, hsi, **given), occlude(model, hsi, **given, shortcuts=False)
    assert_declined(fast.report, "values")
    assert torch.equal(fast.attributes, plain.attributes)


def test_a_field_of_which_most_is_dark_is_followed() -> None:
    values = image().image.clone()
    values[:, 4:] = 0
    hsi = mt.HSI(image=values, wavelengths=list(image().wavelengths))
    model = make(FOLLOWED["three, with padding"][0])
    fast = occlude(model, hsi, (6, 2, 2), (6, 1, 1), baseline=0)
    assert_shortcut(fast.report)
    assert_same(fast, occlude(model, hsi, (6, 2, 2), (6, 1, 1), baseline=0, shortcuts=False))


# ---- bands


BANDS_OF = {
    "channels": lambda: flat(conv(BANDS, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), conv(4, 2, 3), nn.Tanh()),
    "an axis": lambda: Lifted(nn.Conv3d(1, 2, 3, padding=1), nn.Tanh(), nn.Conv3d(2, 2, 3), nn.Tanh()),
}


def tunnel(model: nn.Module, hsi: Any, shortcuts: bool | str = "always", **more: Any) -> Any:
    torch.manual_seed(5)
    explainer = mt.attr.HyperNoiseTunnel(mt.attr.Saliency(explainable(model)))
    with mt.options(shortcuts=shortcuts):
        return explainer.attribute(hsi, target=1, **{"n_samples": 20, "baseline": 0.4, **more})


@pytest.mark.parametrize(("name", "most", "probability"), each_pair(BANDS_OF, [None, 1, 6], [0.2, 0.9, 1.0]))
def test_bands_taken_and_equal(name: str, most: int | None, probability: float) -> None:
    model = make(BANDS_OF[name])
    given = {"perturbation_prob": probability, "steps_per_batch": most}
    fast, plain = tunnel(model, image(), **given), tunnel(model, image(), shortcuts=False, **given)
    assert_shortcut(fast.report, "affine prefix", 20)
    assert_same(fast, plain)


@pytest.mark.parametrize("name", BANDS_OF)
def test_a_seed_gives_the_same_bytes_whatever_the_batches_and_the_order(name: str) -> None:
    """In float64: torch's float32 kernels round otherwise in other batches, with the shortcut and without."""
    model, images = make(BANDS_OF[name]), [image(0), image(1), image(2)]
    wanted = tunnel(model, images, steps_per_batch=1, n_samples=70)
    for most in (2, 7, 64, None):
        found = tunnel(model, images[::-1], steps_per_batch=most, n_samples=70)
        for one, other in zip(found[::-1], wanted, strict=True):
            assert_shortcut(one.report, "affine prefix")
            assert torch.equal(one.attributes, other.attributes)


def test_bands_of_a_list() -> None:
    model, images = make(BANDS_OF["channels"]), [image(0), image(1), image(2)]
    fast, plain = tunnel(model, images, steps_per_batch=7), tunnel(model, images, shortcuts=False)
    for one, other in zip(fast, plain, strict=True):
        assert_shortcut(one.report, "affine prefix")
        assert_same(one, other)


@pytest.mark.parametrize("more", [{"standard_error": True}, {"tolerance": 0.5}, {"method": "vargrad"}])
def test_samples_that_count_one_by_one_take_no_shortcut(more: dict[str, Any]) -> None:
    assert_declined(tunnel(make(BANDS_OF["channels"]), image(), **more).report, "nothing_shared")
