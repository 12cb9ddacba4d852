"""The shortcut for windows of models that look at each pixel by itself, and take a mean, sum or maximum over all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import Lime, Occlusion
from meteors_c.models.linear import SkLearnLinearRegression
from tests.toys import assert_shortcut, each_pair, explainable, occlude

BANDS, ROWS, COLUMNS, CLASSES = 6, 10, 8, 3
ALL = (BANDS, ROWS, COLUMNS)
NAME = "pixel sums"
Function = Callable[[torch.Tensor], torch.Tensor]


def image(seed: int = 0, dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = ALL) -> mt.HSI:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return mt.HSI(image=values, wavelengths=torch.linspace(400, 900, shape[0]))


class Counted(nn.Module):
    """How many samples the model was given."""

    samples = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.samples += len(x)
        return self.answer(x)


class Maps(Counted):
    """Convolutions of one pixel, at every other one from the second on, and an upsampling."""

    def __init__(self, end: Function = lambda y: y.mean((2, 3))) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(BANDS, 8, 1), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 6, 1, stride=2),
            nn.Upsample(scale_factor=2), nn.Softmax(1), nn.Conv2d(6, CLASSES, 1),
        )  # fmt: skip
        self.end = end

    def answer(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(self.layers(x))


def rows_of(x: torch.Tensor) -> torch.Tensor:
    """The spectra of all pixels, (samples * pixels, bands)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


class Spectra(Counted):
    """A network on each spectrum, and the mean over the pixels."""

    def __init__(self, kind: str, between: Function = lambda rows: rows) -> None:
        super().__init__()
        self.kind, self.between = kind, between
        self.layers = nn.Sequential(
            nn.Conv1d(1, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(),
            nn.Linear(4 * (BANDS // 2), CLASSES),
        )  # fmt: skip
        recurrent = {"GRU": nn.GRU, "LSTM": nn.LSTM, "RNN": nn.RNN}.get(kind)
        self.read = recurrent(1, 4, batch_first=True, num_layers=2, bidirectional=kind == "LSTM") if recurrent else None
        self.head = nn.LazyLinear(CLASSES)

    def answer(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.between(rows_of(x))
        if self.read is None:
            found = self.layers(rows.unsqueeze(1))
        else:
            found = self.head(self.read(rows.unsqueeze(2))[0][:, -1])
        return found.view(len(x), -1, CLASSES).mean(1)


ENDS: dict[str, Function] = {
    "mean": lambda y: y.mean((2, 3)),
    "sum": lambda y: y.flatten(2).sum(2),
    "maximum": lambda y: y.amax((2, 3)),
    "pool": lambda y: nn.functional.adaptive_avg_pool2d(y, 1).flatten(1),
    "both": lambda y: torch.cat([y.mean((2, 3)), y.amax((2, 3))], 1).tanh(),
    "mirrored": lambda y: y.flip(3).transpose(2, 3).exp().mean((2, 3)),
}
MODELS: dict[str, Callable[[], Counted]] = {
    **{name: lambda end=end: Maps(end) for name, end in ENDS.items()},
    **{name: lambda name=name: Spectra(name) for name in ("CNN", "GRU", "LSTM", "RNN")},
}
WINDOWS = {
    "all bands": ((BANDS, 3, 4), (BANDS, 2, 2)),
    "some bands": ((3, 4, 3), (2, 3, 2)),
    "a pixel": ((BANDS, 1, 1), (BANDS, 1, 1)),
}


def made(name: str, dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(1)
    model = MODELS[name]()
    model(torch.rand(2, *ALL))
    model.samples = 0
    return model.to(dtype).eval()


def assert_same(fast: Any, plain: Any, tolerance: float = 1e-11) -> None:
    scale = plain.attributes.abs().max()
    assert scale > 0
    assert (fast.attributes - plain.attributes).abs().max() <= tolerance * scale


def lime(model: Any, hsi: Any, mask: Any, shortcuts: Any, **arguments: Any) -> Any:
    torch.manual_seed(2)
    with mt.options(shortcuts=shortcuts):
        method = Lime(explainable(model), SkLearnLinearRegression())
        return method.get_spatial_attributes(hsi, mask, target=1, **arguments)


@pytest.mark.parametrize(("name", "window"), each_pair(MODELS, WINDOWS))
def test_the_plain_numbers(name: str, window: str) -> None:
    model, hsi = made(name), image()
    fast = occlude(model, hsi, *WINDOWS[window])
    assert (fast.report.shortcut or "").startswith(NAME), fast.report
    assert_same(fast, occlude(model, hsi, *WINDOWS[window], shortcuts=False))


@pytest.mark.parametrize("name", MODELS)
def test_float32_is_as_exact_as_the_plain_path(name: str) -> None:
    exact = occlude(made(name), image(), *WINDOWS["all bands"], shortcuts=False).attributes
    model, hsi = made(name, torch.float32), image(0, torch.float32)
    fast, plain = (occlude(model, hsi, *WINDOWS["all bands"], shortcuts=how).attributes for how in ("always", False))
    assert (fast - exact).abs().max() <= 2 * (plain - exact).abs().max() + 1e-6 * exact.abs().max()


@pytest.mark.parametrize("name", ["mean", "CNN", "GRU"])
def test_few_evaluations_serve_all_windows(name: str) -> None:
    model = made(name)
    fast = occlude(model, image(), (BANDS, 2, 2), (BANDS, 1, 1))
    windows = (ROWS - 1) * (COLUMNS - 1)
    assert fast.report.evaluations >= windows
    assert fast.report.shortcut == f"pixel sums: 2 evaluations for {fast.report.evaluations}"
    assert model.samples <= 8, "the model's own calls only record and verify"


def test_images_of_a_list_have_their_own_values() -> None:
    model, images = made("CNN"), [image(seed) for seed in range(3)]
    baselines = [0.0, image(7).image, None]
    fast = occlude(model, images, *WINDOWS["some bands"], baseline=baselines)
    plain = occlude(model, images, *WINDOWS["some bands"], baseline=baselines, shortcuts=False)
    for one, other in zip(fast, plain, strict=True):
        assert (one.report.shortcut or "").startswith(NAME)
        assert_same(one, other)


def test_no_data_values_cost_no_digits() -> None:
    """What is added up are values in front of the pool, not differences of images."""
    hsi = image()
    hsi.image[:, 2:4, 1:5] = -9999.0
    model = made("mean")
    fast = occlude(model, hsi, *WINDOWS["all bands"])
    assert_shortcut(fast.report)
    assert_same(fast, occlude(model, hsi, *WINDOWS["all bands"], shortcuts=False), 1e-10)


def test_bands_may_lie_along_any_axis() -> None:
    values = image().image

    class Last(Counted):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(BANDS, CLASSES).double()

        def answer(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).sigmoid().square().mean((1, 2))

    torch.manual_seed(1)
    model = Last().eval()
    hsi = mt.HSI(
        image=values.permute(1, 2, 0).contiguous(), wavelengths=torch.linspace(400, 900, BANDS), orientation="HWC"
    )
    found = []
    for how in ("always", False):
        with mt.options(shortcuts=how):
            found.append(Occlusion(explainable(model)).get_spatial_attributes(hsi, target=1, sliding_window_shapes=3))
    assert (found[0].report.shortcut or "").startswith(NAME), found[0].report
    assert_same(*found)


def by_sample(function: Function) -> Function:
    return lambda rows: function(rows.view(-1, ROWS * COLUMNS, BANDS)).reshape(-1, BANDS)


MIXED: dict[str, Function] = {
    "centred": lambda rows: rows - rows.mean(0, keepdim=True),
    "turned around": lambda rows: rows.flip(0) * rows,
    "rolled": lambda rows: rows.roll(1, 0) * rows,
    "softmax": lambda rows: rows.softmax(0) * len(rows),
    "running sums": lambda rows: rows.cumsum(0) / len(rows),
    "sorted": lambda rows: rows.sort(0).values * rows,
    "folded": lambda rows: rows.view(-1, 2, BANDS).flip(1).reshape(-1, BANDS) * rows,
    "transposed": lambda rows: rows.t().contiguous().view(-1, BANDS).sin(),
    "centred in each sample": by_sample(lambda rows: rows - rows.mean(1, keepdim=True)),
    "turned around in each sample": by_sample(lambda rows: rows.flip(1) * rows),
    "rolled in each sample": by_sample(lambda rows: rows.roll(1, 1) * rows),
    "softmax in each sample": by_sample(lambda rows: rows.softmax(1) * ROWS * COLUMNS),
    "attention": by_sample(lambda rows: (rows @ rows.transpose(1, 2)).softmax(2) @ rows),
}


@pytest.mark.parametrize("kind", ["CNN", "GRU"])
@pytest.mark.parametrize("name", MIXED)
def test_rows_that_meet_each_other_are_never_told_apart(name: str, kind: str) -> None:
    """Whatever is taken instead, windows and superpixels have the plain numbers."""
    torch.manual_seed(1)
    model = Spectra(kind, MIXED[name])
    model(torch.rand(1, *ALL))
    model, hsi = model.double().eval(), image()
    one = {"perturbations_per_eval": 1}  # rows of several samples meet, too, in some
    fast, plain = (occlude(model, hsi, *WINDOWS["all bands"], shortcuts=how, **one) for how in ("always", False))
    assert not (fast.report.shortcut or "").startswith(NAME), fast.report
    assert_same(fast, plain)
    mask = torch.arange(ROWS)[None, :, None] // 5 * 2 + torch.arange(COLUMNS) // 4
    found = [lime(model, hsi, mask, how, n_samples=20, **one) for how in ("always", False)]
    assert_same(*found)


@pytest.mark.parametrize("kind", ["CNN", "GRU", "LSTM", "RNN"])
def test_superpixels_of_spectra_are_taken_together(kind: str) -> None:
    model, hsi = made(kind), image()
    mask = torch.arange(ROWS)[None, :, None] // 2 * 2 + torch.arange(COLUMNS) // 4
    found = [lime(model, hsi, mask, how, n_samples=60) for how in ("always", False)]
    assert (found[0].report.shortcut or "").startswith("superpixel sums: 2 evaluations for"), found[0].report
    assert_same(*found)


def test_wider_windows_of_the_model_leave_it_to_incremental_inference() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(BANDS, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    fast = occlude(model.double().eval(), image(), *WINDOWS["all bands"])
    assert (fast.report.shortcut or "").startswith("incremental inference"), fast.report
