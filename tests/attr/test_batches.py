"""Samples of one batch that influence each other: each is explained as if it came alone, and the report says so."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import (
    HyperNoiseTunnel,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Occlusion,
    PerImage,
    Saliency,
)
from meteors_c.attr.explainer import _warn
from meteors_c.models import ExplainableModel
from tests.parity.reference import assert_close
from tests.toys import (
    BANDS,
    COLUMNS,
    COMPANY,
    PATHS,
    ROWS,
    Watched,
    assert_declined,
    convolutional,
    cube,
    each_pair,
    evaluated,
    explainable,
    name_of,
    smooth,
    values,
)

each_path = pytest.mark.parametrize("path", PATHS)


def total(x: torch.Tensor) -> torch.Tensor:
    return x.sum((1, 2, 3))[:, None]


def head(x: torch.Tensor) -> torch.Tensor:
    """Two outputs, smooth, of images of any orientation."""
    return torch.stack([x.tanh().mean((1, 2, 3)), (x * x).mean((1, 2, 3))], 1)


def batch_norm(**given: Any) -> nn.Module:
    """Three outputs behind a normalisation whose statistics are those of the batch."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(BANDS, 4, 1), nn.BatchNorm2d(4, **given), nn.Tanh(), nn.Flatten())
    return nn.Sequential(net, nn.Linear(4 * ROWS * COLUMNS, 3)).double()


def scripted_scale(x: torch.Tensor) -> torch.Tensor:
    return (x / x[:, 0].amax()).sum((1, 2, 3))[:, None]


# What they do to a sample depends on the batch that it comes in.
def along_the_batch() -> Callable[[torch.Tensor], torch.Tensor]:
    """Sequences are given as (samples, features), which such a layer reads as (steps, features)."""
    torch.manual_seed(0)
    layer = nn.GRU(BANDS, 3).double()
    return lambda x: layer(x.flatten(1).unflatten(1, (BANDS, -1)).mean(2)[:, None])[0][:, 0]


COUPLED: dict[str, Callable[[], Any]] = {
    "divided by the largest": lambda: lambda x: head(x / x.amax()),
    "centred": lambda: lambda x: head(x - x.mean()),
    "standardised": lambda: lambda x: head((x - x.mean()) / x.std()),
    "half of the mean sample taken off": lambda: lambda x: head(x - x.mean(0, keepdim=True) / 2),
    "the first sample is the scale": lambda: lambda x: head(x) * x[0].square().mean(),
    "behind autograd": lambda: lambda x: head(x * (1 + x.detach().mean())),
    "a stem, then divided by the largest": lambda: (
        lambda net: lambda x: head(net[1](net[0](x) / net[0](x).abs().amax()))
    )(convolutional()),
    "added up from the first on": lambda: lambda x: head(x.cumsum(0)),
    "less the sample before it": lambda: lambda x: head(x - x.roll(1, 0) / 2),
    "the largest so far": lambda: lambda x: head(x.cummax(0).values),
    "its place in the batch": lambda: lambda x: head(x) * torch.arange(1, len(x) + 1)[:, None],
    "a recurrent layer along the batch": along_the_batch,
    "batch norm in train mode": lambda: batch_norm().train(),
    "batch norm without running statistics": lambda: batch_norm(track_running_stats=False).eval(),
}


def alone(model: Callable[..., Any]) -> Callable[..., Any]:
    """The same model, which gives each sample what it gives it in a batch of its own."""
    return lambda x, *more: torch.cat([model(x[i : i + 1], *(one[i : i + 1] for one in more)) for i in range(len(x))])


METHODS: dict[str, Callable[[ExplainableModel], Callable[..., Any]]] = {
    "Saliency": lambda model: Saliency(model).attribute,
    "InputXGradient": lambda model: InputXGradient(model).attribute,
    "IntegratedGradients": lambda model: IntegratedGradients(model).attribute,
    "Occlusion": lambda model: Occlusion(model).get_spatial_attributes,
    "NoiseTunnel": lambda model: NoiseTunnel(Saliency(model)).attribute,
    "HyperNoiseTunnel": lambda model: HyperNoiseTunnel(InputXGradient(model)).attribute,
}


def explain(method: str, model: Any, images: Any, target: Any = 1, **arguments: Any) -> Any:
    torch.manual_seed(8)
    return METHODS[method](ExplainableModel(model, "regression"))(images, target=target, **arguments)


def told(caught: Any) -> list[str]:
    """The warnings that say that the model is slow, not that it is in train mode; each points here."""
    about = [one for one in caught if "train mode" not in str(one.message)]
    assert [one.filename for one in about] == [__file__] * len(about)
    return [str(one.message) for one in about]


@pytest.mark.filterwarnings("ignore:.*train mode")
@pytest.mark.parametrize(("name", "method", "path"), each_pair(COUPLED, METHODS, PATHS), ids=name_of)
def test_each_sample_is_explained_as_if_it_came_alone(name: str, method: str, path: str) -> None:
    images = [cube(0), cube(1), cube(2)]
    with mt.options(**PATHS[path]), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = explain(method, COUPLED[name](), images)
    with mt.options(shortcuts=False):
        wanted = explain(method, alone(COUPLED[name]()), images)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one.attributes, other.attributes, 1e-9)
    report = found[0].report
    assert report.one_at_a_time
    assert len(told(caught)) == 1
    assert report.one_at_a_time in told(caught)[0]
    assert "one sample at a time" in told(caught)[0]
    assert report.one_at_a_time in repr(report)
    assert report.chunk_size == 1
    assert report.shortcut is None
    assert report.evaluations == wanted[0].report.evaluations
    assert wanted[0].report.one_at_a_time is None


def test_the_largest_of_a_batch_is_not_the_scale_of_its_samples() -> None:
    """In one batch the whole image and its windows would all be divided by 9, in sign too."""
    torch.manual_seed(0)
    image = torch.rand(3, 4, 4)
    image[0, 0, 0] = 9
    hsi = mt.HSI(image=image, wavelengths=[500.0, 600.0, 700.0])

    def f(x: Any) -> Any:
        return (x / x.amax()).sum((1, 2, 3))[:, None]

    def g(x: np.ndarray) -> np.ndarray:
        return (x / x.max()).sum((1, 2, 3))[:, None]

    for path, options in PATHS.items():
        # To time it for a shortcut, the window that hides the largest value is evaluated alone: all others agree.
        warns = nullcontext() if path == "shortcut" else pytest.warns(UserWarning, match="one sample at a time")
        with mt.options(**options), warns:
            found = Occlusion(explainable(f)).get_spatial_attributes(hsi, target=0).attributes
        assert float(found[0, 0, 0]) == pytest.approx(-18.105, abs=1e-3)
    with pytest.warns(UserWarning, match="one sample at a time"):
        found = Occlusion(explainable(g, array_input=True)).get_spatial_attributes(hsi, target=0)
    assert float(found.attributes[0, 0, 0]) == pytest.approx(-18.105, abs=1e-3)
    assert found.report.one_at_a_time


def image_with_two_peaks() -> Any:
    """Its first band has its largest value at one place, all bands together at another."""
    torch.manual_seed(0)
    image = torch.rand(3, 6, 6, dtype=torch.float64)
    image[0, 0, 0], image[2, 5, 5] = 9, 20
    return mt.HSI(image=image, wavelengths=[500.0, 600.0, 700.0])


def by_one_band(x: Any, largest: Any) -> Any:
    return (x / (largest(x[:, 0]) + 0.1)).sum((1, 2, 3))[:, None]


# Scales that all samples of a batch share unless a window lies over one place: in one sample's numbers they don't show.
HIDDEN: dict[str, Callable[[Any], Any]] = {
    "one band": lambda x: by_one_band(x, torch.amax),
    "its smallest value": lambda x: total(x - 30 * x[:, 1].amin()),
    "a layer": lambda x: total((x * x).roll(1, 1) / (x * x)[:, :1].amax()),
    "behind autograd": lambda x: total(x / x[:, 0].detach().amax()),
    "a part of the image": lambda x: total(x / (x[:, :, :2, :2].amax() + 0.1)),
    "in Python": lambda x: total(x / float(x[:, 0].amax())),
    "by arrays": lambda x: total(x / torch.from_numpy(x[:, 0].detach().numpy().max(keepdims=True))),
    "scripted": torch.jit.script(scripted_scale),
}


@each_path
@pytest.mark.parametrize("name", HIDDEN)
def test_a_scale_that_most_windows_leave_as_it_is(name: str, path: str) -> None:
    """With the largest value of all bands looked after, these were wrong by as much as the largest attribution."""
    model, hsi = HIDDEN[name], image_with_two_peaks()
    with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="one sample at a time"):
        found = Occlusion(explainable(model)).get_spatial_attributes(hsi, 0, 2, 1)
    assert found.report.one_at_a_time
    wanted = Occlusion(explainable(alone(model))).get_spatial_attributes(hsi, 0, 2, 1)
    assert_close(found.attributes, wanted.attributes, 1e-9)


def test_a_scale_that_most_windows_leave_as_it_is_in_arrays() -> None:
    def model(x: np.ndarray) -> np.ndarray:
        return by_one_band(x, np.max)

    def each(x: np.ndarray) -> np.ndarray:
        return np.concatenate([model(one[None]) for one in x])

    hsi = image_with_two_peaks()
    with pytest.warns(UserWarning, match="beside the same with twice its values"):
        found = Occlusion(explainable(model, array_input=True)).get_spatial_attributes(hsi, 0, 2, 1)
    wanted = Occlusion(explainable(each, array_input=True)).get_spatial_attributes(hsi, 0, 2, 1)
    assert_close(found.attributes, wanted.attributes, 1e-12)


@each_path
def test_two_images_with_a_scale_each(path: str) -> None:
    """The one with the smaller largest value has the larger one in the first band."""
    images = [cube(0), cube(1)]
    images[0].image[2, 0, 0], images[1].image[0, 0, 0] = 20, 10
    with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="one sample at a time"):
        found = explain("Saliency", HIDDEN["one band"], images, 0)
    wanted = explain("Saliency", alone(HIDDEN["one band"]), images, 0)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one.attributes, other.attributes, 1e-12)


def stable_softmax(x: torch.Tensor) -> torch.Tensor:
    """The largest value of the batch is taken off before the exponential, and cancels out."""
    y = (x - x.amax()).exp().flatten(1)
    return y[:, :2] / y.sum(1, keepdim=True)


def valid_pixels(x: torch.Tensor) -> torch.Tensor:
    """Only the pixels of the batch that are not 0, as many as there are."""
    pixels = x.movedim(1, 3)
    used = (pixels != 0).any(3)
    found = torch.zeros(used.shape, dtype=x.dtype)
    found[used] = pixels[used].sum(1).tanh()
    return found.flatten(1)


def one_by_one(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([head(one[None])[0] for one in x])


def first_for_its_shape(x: torch.Tensor) -> torch.Tensor:
    return head(x + torch.ones_like(x[0]))


@pytest.mark.parametrize("model", [stable_softmax, valid_pixels, one_by_one, first_for_its_shape], ids=name_of)
@pytest.mark.parametrize("path", ["plain", "python calls"])
def test_what_only_looks_like_company_costs_little(model: Any, path: str) -> None:
    watched = Watched(model)
    explained = explainable(watched)
    for company in (8, 0):
        watched.sizes.clear()
        with mt.options(**PATHS[path]), warnings.catch_warnings():
            warnings.simplefilter("error")
            report = Occlusion(explained).attribute([cube(0), cube(1)], 0)[0].report
        assert report.one_at_a_time is None
        assert report.evaluations_verifying <= 2 + company + 2 * len(set(watched.sizes))
        assert sum(watched.sizes) == evaluated(report)


def test_a_model_that_refuses_half_of_an_image() -> None:
    def model(x: np.ndarray) -> np.ndarray:
        if not np.isin(x, (0, 1, 2)).all():
            raise ValueError("counts must be 0, 1 or 2")
        return x.sum((1, 2, 3))[:, None]

    counts = torch.randint(0, 3, (3, 6, 6), generator=torch.Generator().manual_seed(0)).double()
    hsi = mt.HSI(image=counts, wavelengths=[500.0, 600.0, 700.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Occlusion(explainable(model, array_input=True)).get_spatial_attributes(hsi, 0, 2, 2)
    assert found.report.one_at_a_time is None
    assert_close(found.attributes[0, 0, 0], counts[:, :2, :2].sum(), 1e-12)


def test_an_interrupt_in_company_is_one() -> None:
    def model(x: np.ndarray) -> np.ndarray:
        if len(x) == 2:
            raise KeyboardInterrupt
        return x.sum((1, 2, 3))[:, None]

    with pytest.raises(KeyboardInterrupt):
        Occlusion(explainable(model, array_input=True)).attribute(cube(), 0, perturbations_per_eval=3)


def test_arrays() -> None:
    def f(x: np.ndarray) -> np.ndarray:
        return np.stack([np.tanh(x / x.max()).mean((1, 2, 3)), ((x - x.mean()) ** 2).mean((1, 2, 3))], 1)

    def each(x: np.ndarray) -> np.ndarray:
        return np.concatenate([f(one[None]) for one in x])

    images = [cube(0), cube(1)]
    with pytest.warns(UserWarning, match="one sample at a time") as caught:
        found = Occlusion(explainable(f, array_input=True)).attribute(images, [0, 1], 2, 1)
    assert len(told(caught)) == 1
    wanted = Occlusion(explainable(each, array_input=True)).attribute(images, [0, 1], 2, 1)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one.attributes, other.attributes, 1e-12)
    assert found[0].report.one_at_a_time
    assert wanted[0].report.one_at_a_time is None
    assert wanted[0].report.evaluations_verifying == 2 + COMPANY["arrays"]


@each_path
def test_several_batches_before_it_is_seen(path: str) -> None:
    """Images so large that the first samples come alone."""
    shape = (16, 128, 128)
    hsi = mt.HSI(image=values(0, shape=shape), wavelengths=list(range(1, 17)))
    with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="one sample at a time"):
        found = explain("Occlusion", COUPLED["centred"](), hsi, sliding_window_shapes=32, strides=32)
    wanted = explain("Occlusion", alone(COUPLED["centred"]()), hsi, sliding_window_shapes=32, strides=32)
    assert_close(found.attributes, wanted.attributes, 1e-9)
    assert found.report.chunk_first == 1


@each_path
def test_arguments_of_each_image_follow_their_samples(path: str) -> None:
    def model(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        return head(x / x.amax()) * factor[:, None]

    images, factors = [cube(0), cube(1), cube(2)], PerImage(torch.tensor([2.0, -3.0, 0.5]))
    for method in ("InputXGradient", "IntegratedGradients", "Occlusion"):
        with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="one sample at a time"):
            found = explain(method, model, images, [0, 1, 0], additional_forward_args=factors)
        wanted = explain(method, alone(model), images, [0, 1, 0], additional_forward_args=factors)
        for one, other in zip(found, wanted, strict=True):
            assert_close(one.attributes, other.attributes, 1e-9)


@each_path
def test_all_targets(path: str) -> None:
    images = [cube(0), cube(1)]
    with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="one sample at a time"):
        found = explain("Occlusion", COUPLED["standardised"](), images, "all", sliding_window_shapes=1, strides=1)
    wanted = explain("Occlusion", alone(COUPLED["standardised"]()), images, "all", sliding_window_shapes=1, strides=1)
    for one, other in zip(found, wanted, strict=True):
        for ours, theirs in zip(one, other, strict=True):
            assert_close(ours.attributes, theirs.attributes, 1e-9)


@each_path
def test_the_error_of_completeness_is_that_of_each_sample(path: str) -> None:
    with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="one sample at a time") as caught:
        found = explain(
            "IntegratedGradients", COUPLED["centred"](), cube(), baseline=0.3, return_convergence_delta=True
        )
    assert len(told(caught)) == 1
    assert abs(found.score) < 1e-6


@each_path
def test_a_model_that_writes_into_its_input(path: str) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        y = COUPLED["centred"]()(x.clone())
        with torch.no_grad():
            x.mul_(0)
        return y

    for method in METHODS:
        with mt.options(**PATHS[path]), pytest.warns(UserWarning, match="one sample at a time"):
            found = explain(method, model, [cube(0), cube(1)])
        wanted = explain(method, alone(COUPLED["centred"]()), [cube(0), cube(1)])
        for one, other in zip(found, wanted, strict=True):
            assert_close(one.attributes, other.attributes, 1e-9)


@pytest.mark.parametrize("path", ["plain", "python calls", "arrays"])
def test_one_number_for_a_batch_is_said_too(path: str) -> None:
    net = smooth(1)

    def of_arrays(x: np.ndarray) -> Any:
        return float(net(torch.from_numpy(x)).detach().mean())

    model = explainable(of_arrays, array_input=True) if path == "arrays" else explainable(lambda x: net(x).mean())
    with mt.options(**PATHS.get(path, {})), pytest.warns(UserWarning, match="one sample at a time") as caught:
        found = Occlusion(model).attribute([cube(0), cube(1)])
    assert len(told(caught)) == 1
    assert "one number" in found[0].report.one_at_a_time
    for one, hsi in zip(found, [cube(0), cube(1)], strict=True):
        assert_close(one.attributes, Occlusion(explainable(net)).attribute(hsi, 0).attributes, 1e-10)


# ---------------------------------------------------------------- what it costs where samples leave each other alone


def independent(path: str) -> tuple[Any, ExplainableModel]:
    net = smooth()
    if path != "arrays":
        watched = Watched(net)
        return watched, explainable(watched)

    class Counts:
        def __init__(self) -> None:
            self.sizes: list[int] = []

        def __call__(self, x: np.ndarray) -> np.ndarray:
            self.sizes.append(len(x))
            return net(torch.from_numpy(x)).detach().numpy()

    counts = Counts()
    return counts, explainable(counts, array_input=True)


@pytest.mark.parametrize("path", ["plain", "python calls", "arrays"])
@pytest.mark.parametrize("most", [1, 2, 7, None])
def test_independent_samples_cost_little_and_nothing_one_at_a_time(path: str, most: int | None) -> None:
    model, explained = independent(path)
    with mt.options(**PATHS.get(path, {})), warnings.catch_warnings():
        warnings.simplefilter("error")
        report = Occlusion(explained).attribute([cube(0), cube(1)], 0, perturbations_per_eval=most)[0].report
    assert report.evaluations == 2 * 61
    # One alone or two copies of it, and the image itself once more for each further size of a batch that is tried.
    company = COMPANY.get(path, 0) if most != 1 else 0
    assert (most != 1) <= report.evaluations_verifying - company <= (most != 1) * (2 + 2 * len(set(model.sizes)))
    assert report.evaluations_discarded == 0
    assert report.one_at_a_time is None
    assert sum(model.sizes) == evaluated(report)


@pytest.mark.parametrize("path", ["plain", "python calls"])
@pytest.mark.parametrize("method", METHODS)
def test_one_sample_or_two_copies_whatever_the_method(method: str, path: str) -> None:
    model = Watched(convolutional())
    with mt.options(**PATHS[path]), warnings.catch_warnings():
        warnings.simplefilter("error")
        report = explain(method, model, [cube(0), cube(1)])[0].report
    assert report.evaluations_verifying == (1 if model.sizes[0] < 16 else 2) + COMPANY.get(path, 0)
    assert sum(model.sizes) == evaluated(report)


class Layers(nn.Module):
    """Layers of many kinds, made and called by a function."""

    def __init__(self, call: Callable[[Any, torch.Tensor], torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(self, x)


def tokens(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).transpose(1, 2)


def attention(layers: Any, x: torch.Tensor) -> torch.Tensor:
    query, key, value = layers.linear(tokens(x)).chunk(3, -1)
    weights = (query @ key.transpose(-2, -1)).softmax(-1)
    return (weights @ value + torch.zeros(len(x), 1, 1)).mean(1)


def heads(layers: Any, x: torch.Tensor) -> torch.Tensor:
    query, key, value = layers.linear(tokens(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    found = nn.functional.scaled_dot_product_attention(query, key, value)
    return layers.norm(found.transpose(1, 2).flatten(2)).amax(1)


def windows(layers: Any, x: torch.Tensor) -> torch.Tensor:
    rolled = layers.conv(x).roll((-1, -2), (2, 3))
    parts = rolled.unflatten(2, (2, -1)).permute(0, 2, 1, 3, 4).flatten(0, 1)  # the samples' parts behind each other
    return layers.linear(parts.tanh().mean((2, 3))).unflatten(0, (len(x), -1)).flatten(1)


def recurrent(layers: Any, x: torch.Tensor) -> torch.Tensor:
    states, _ = layers.gru(tokens(x))
    return torch.cat([states[:, -1], states.cumsum(1).std(1)], 1)


def residual(layers: Any, x: torch.Tensor) -> torch.Tensor:
    z = layers.conv(x).mul_(2)
    z += layers.conv(x)[:, :, :1]
    return torch.stack([z.sort(1).values.mean((2, 3)), layers.norm(z).clamp(-1, 1).flatten(2).norm(dim=2)], 2).sum(2)


SEEN: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: Layers(attention, linear=nn.Linear(BANDS, 12)),
    "heads": lambda: Layers(heads, linear=nn.Linear(BANDS, 12), norm=nn.LayerNorm(4)),
    "windows": lambda: Layers(windows, conv=nn.Conv2d(BANDS, 4, 3, padding=1), linear=nn.Linear(4, 2)),
    "recurrent": lambda: Layers(recurrent, gru=nn.GRU(BANDS, 3, batch_first=True)),
    "residual": lambda: Layers(residual, conv=nn.Conv2d(BANDS, 4, 3, padding=1), norm=nn.GroupNorm(2, 4)),
}


@pytest.mark.parametrize("name", SEEN)
def test_what_works_along_other_axes_needs_no_company(name: str) -> None:
    torch.manual_seed(0)
    with mt.options(**PATHS["plain"]), warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS:
            model = Watched(SEEN[name]())
            report = explain(method, model, [cube(0), cube(1)])[0].report
            assert report.evaluations_verifying == (1 if model.sizes[0] < 16 else 2)


@pytest.mark.parametrize("method", [Saliency, InputXGradient])
def test_one_image_has_nothing_to_be_compared_with(method: Any) -> None:
    model = Watched(smooth())
    assert method(explainable(model)).attribute(cube(), target=0).report.evaluations_verifying == 0
    assert model.sizes == [1]


@each_path
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU], ids=name_of)
def test_rounding_is_no_influence(activation: Any, path: str) -> None:
    """Single precision rounds otherwise in batches of another size, and a rectifier at 0 may open or close."""
    torch.manual_seed(0)
    model = convolutional(activation, torch.float32)

    def cancelled(x: torch.Tensor) -> torch.Tensor:
        return (model(x) + 1e5) - 1e5

    for seed in range(10):
        images = [cube(2 * seed, torch.float32), cube(2 * seed + 1, torch.float32)]
        for method in METHODS:
            for one in (model, cancelled):
                with mt.options(**PATHS[path]), warnings.catch_warnings():
                    warnings.simplefilter("error")
                    assert explain(method, one, images)[0].report.one_at_a_time is None


# ---------------------------------------------------------------- random models


def wide() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(BANDS * ROWS * COLUMNS, 64), nn.Dropout(0.5), nn.Linear(64, 2))


def narrow() -> nn.Module:
    """Few values are dropped or kept: two draws are often the same."""
    return nn.Sequential(nn.Flatten(), nn.Linear(BANDS * ROWS * COLUMNS, 2), nn.Dropout(0.5))


@pytest.mark.filterwarnings("ignore:.*train mode")
@each_path
@pytest.mark.parametrize("build", [wide, narrow], ids=name_of)
def test_dropout_in_train_mode_is_random_and_not_coupled(build: Callable[[], nn.Module], path: str) -> None:
    model = build().double().train()
    for seed in range(20):
        for method in (IntegratedGradients, Occlusion):
            torch.manual_seed(seed)
            with mt.options(**PATHS[path]):
                report = method(ExplainableModel(model, "regression")).attribute(cube(), target=1).report
            assert report.one_at_a_time is None


@pytest.mark.filterwarnings("ignore:.*train mode")
@pytest.mark.parametrize("path", [*PATHS, "where faster"])
def test_a_random_model_draws_the_same_in_every_call_of_a_seed(path: str) -> None:
    """Whatever is asked beside the samples of the job is asked again in the next call."""
    calls: list[Callable[[ExplainableModel], Any]] = [
        lambda model: Occlusion(model).attribute(cube(), target=1, perturbations_per_eval=4),
        lambda model: Occlusion(model).attribute(cube(), target=1),
        lambda model: IntegratedGradients(model).attribute(cube(), target=1, n_steps=60),
    ]
    for call in calls * 5:
        model = ExplainableModel(wide().double().train(), "regression")
        found = []
        for _ in range(3):
            torch.manual_seed(5)
            with mt.options(**PATHS.get(path, {})):
                found.append(call(model).attributes)
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])


@each_path
def test_noise_of_the_model_is_not_coupling(path: str) -> None:
    with mt.options(**PATHS[path]), warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS:
            found = explain(method, lambda x: head(x + 0.1 * torch.rand_like(x)), [cube(0), cube(1)])
            assert found[0].report.one_at_a_time is None


# ---------------------------------------------------------------- behind a shortcut


class Behind(nn.Module):
    """A convolution, behind which samples may influence each other."""

    def __init__(self, couple: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.couple = nn.Conv2d(BANDS, 4, 3, padding=1).double(), couple
        self.head = nn.Linear(4, 3).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.couple(self.stem(x)).tanh().mean((2, 3)))


BEHIND: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "largest": lambda y: y / y.abs().amax(),
    "mean": lambda y: y - y.mean(),
    "spread": lambda y: y / y.std(),
    "first": lambda y: y * y[0].mean(),
    "behind autograd": lambda y: y * (1 + y.detach().mean()),
}


@pytest.mark.parametrize("baseline", [0.0, -2.0])
@pytest.mark.parametrize("name", BEHIND)
def test_a_shortcut_does_not_hide_it(name: str, baseline: float) -> None:
    model, images = Behind(BEHIND[name]).eval(), [cube(0), cube(1)]
    calls: list[Callable[[Any], Any]] = [
        lambda one: IntegratedGradients(one).attribute(images, baseline, 1),
        lambda one: Occlusion(one).attribute(images, 1, (5, 2, 1), (1, 1, 1), baseline),
        lambda one: Occlusion(one).attribute(images, 1, (1, 2, 1), (1, 1, 1), baseline),
        lambda one: HyperNoiseTunnel(Saliency(one)).attribute(images, baseline, 1, n_samples=40),
    ]
    for call in calls:
        torch.manual_seed(4)
        with mt.options(shortcuts="always"), pytest.warns(UserWarning, match="one sample at a time"):
            found = call(explainable(model))
        torch.manual_seed(4)
        wanted = call(explainable(alone(model)))
        for one, other in zip(found, wanted, strict=True):
            assert_close(one.attributes, other.attributes, 1e-9)
        assert found[0].report.shortcut is None
        assert found[0].report.decline_reason != "not_offered"


def test_a_shortcut_that_failed_is_told() -> None:
    """Whatever the numbers are then, they are those of the model; that it took longer is worth a warning."""
    report = Saliency(explainable(smooth())).attribute(cube(), 0).report
    assert report.shortcut_failed is None
    failed = replace(report, shortcut_failed="it gave 1 for sample 3")
    assert "it gave 1 for sample 3" in repr(failed)
    with pytest.warns(UserWarning, match="it gave 1 for sample 3"):
        _warn(failed)


def test_the_reason_is_one_of_the_documented_ones() -> None:
    with mt.options(shortcuts="always"), pytest.warns(UserWarning, match="one sample at a time"):
        found = IntegratedGradients(explainable(Behind(BEHIND["mean"]).eval())).attribute(cube(), target=0)
    assert_declined(found.report, "verification")
