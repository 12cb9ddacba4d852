"""What must hold between attributions, whatever their values: the axioms, and how they follow changes of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import meteors_c as mt
from meteors_c.attr import (
    HyperNoiseTunnel,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from tests.properties.strategies import Image, assert_near, images, paths, plain_baseline, seeds, windows
from tests.properties.strategies import baselines as baseline_of
from tests.toys import METHODS, PATHS, Linear, Quadratic, explainable

exact_images = images(dtype=torch.float64)


def tunnel(kind: type, of: type, model: Any, hsi: Any, **more: Any) -> Any:
    torch.manual_seed(3)
    return kind(of(model)).attribute(hsi, n_samples=3, **more)


# Each gives attributions that are linear in the model.
LINEAR: dict[str, Callable[[Any, Any], Any]] = {
    "saliency": lambda model, hsi: Saliency(model).attribute(hsi, abs=False),
    "input x gradient": lambda model, hsi: InputXGradient(model).attribute(hsi),
    "integrated gradients": lambda model, hsi: IntegratedGradients(model).attribute(hsi, 0.5, n_steps=5),
    "mean gradient": lambda model, hsi: IntegratedGradients(model, False).attribute(hsi, 0.5, n_steps=5),
    "boxes": lambda model, hsi: Occlusion(model).attribute(hsi, None, 1, 1, 0.5),
    "pixels": lambda model, hsi: Occlusion(model).get_spatial_attributes(hsi, None, 1, 1, 0.5),
    "bands": lambda model, hsi: Occlusion(model).get_spectral_attributes(hsi, None, 1, 1, 0.5),
    "noise": lambda model, hsi: tunnel(NoiseTunnel, InputXGradient, model, hsi),
    "noisy bands": lambda model, hsi: tunnel(HyperNoiseTunnel, Saliency, model, hsi, baseline=0.5),
}
methods = st.sampled_from(sorted(LINEAR))
small_images = images(dtype=torch.float64).filter(lambda image: image.masked.numel() <= 60)


class Score(nn.Module):
    """One output for each sample: a quadratic form whose first layer is a convolution over the first axis."""

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(shape[0], 3, 1).double().eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.stem(x)).square().sum((1, 2, 3)) + self.stem(x).sum((1, 2, 3))


class Combined(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.first(x) - 3 * self.second(x)


@given(image=small_images, name=methods, path=paths, seed=seeds)
def test_linear_in_the_model(image: Image, name: str, path: str, seed: int) -> None:
    shape = tuple(image.masked.shape)
    first, second = Score(shape, seed), Score(shape, seed + 1)
    with mt.options(**PATHS[path]):
        found, of_first, of_second = (
            LINEAR[name](explainable(model), image.hsi).attributes for model in (Combined(first, second), first, second)
        )
    size = max(float(of_first.abs().max()), float(of_second.abs().max()), 1.0)
    assert_near(found, 2 * of_first - 3 * of_second, torch.float64, size)


class Chosen(nn.Module):
    """A model that is given the bands in another order, or some of them alone."""

    def __init__(self, body: nn.Module, bands: list[int], axis: int) -> None:
        super().__init__()
        self.body, self.axis = body, axis
        self.register_buffer("bands", torch.tensor(bands))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x.index_select(self.axis + 1, self.bands))


@given(data=st.data(), image=small_images, name=methods, path=paths, seed=seeds)
def test_an_order_of_bands_is_only_an_order(data: st.DataObject, image: Image, name: str, path: str, seed: int) -> None:
    """Noise is drawn for a place, so it is left out."""
    if name in ("noise", "noisy bands"):
        name = "bands"
    hsi, axis = image.hsi, image.hsi.spectral_axis
    bands = hsi.image.shape[axis]
    order = data.draw(st.permutations(range(bands)), "order")
    back = sorted(range(bands), key=order.__getitem__)
    body = Score(tuple(image.masked.shape), seed)
    index = torch.tensor(order)
    turned = mt.HSI(
        image=hsi.image.index_select(axis, index),
        wavelengths=hsi.wavelengths[index],
        orientation=hsi.orientation,
        binary_mask=hsi.binary_mask.index_select(axis, index),
    )
    with mt.options(**PATHS[path]):
        wanted = LINEAR[name](explainable(body), hsi).attributes
        found = LINEAR[name](explainable(Chosen(body, back, axis)), turned).attributes
    assert_near(found, wanted.index_select(axis, index), torch.float64, 1.0)


@given(data=st.data(), image=small_images, name=methods, path=paths, seed=seeds)
def test_a_band_that_is_not_read_gets_nothing(
    data: st.DataObject, image: Image, name: str, path: str, seed: int
) -> None:
    if name == "pixels":  # its windows hold all bands
        name = "bands"
    hsi, axis = image.hsi, image.hsi.spectral_axis
    bands = hsi.image.shape[axis]
    read = sorted(data.draw(st.sets(st.integers(0, bands - 1), min_size=1), "read"))
    shape = [len(read) if a == axis else n for a, n in enumerate(image.masked.shape)]
    model = Chosen(Score(tuple(shape), seed), read, axis)
    with mt.options(**PATHS[path]):
        found = LINEAR[name](explainable(model), hsi).attributes
    ignored = torch.tensor([band not in read for band in range(bands)])
    silent = found.movedim(axis, 0)[ignored]
    assert float(silent.abs().max()) <= 1e-13 if silent.numel() else True


@given(
    data=st.data(),
    image=exact_images,
    path=paths,
    method=st.sampled_from(METHODS),
    n_steps=st.integers(2, 9),
    seed=seeds,
)
def test_completeness(data: st.DataObject, image: Image, path: str, method: str, n_steps: int, seed: int) -> None:
    """Two Gauss nodes are exact for a quadratic model; the score is what is left over for every rule and model."""
    shape = tuple(image.masked.shape)
    given_baseline = data.draw(baseline_of(shape), "baseline")
    start = torch.zeros(shape, dtype=torch.float64) + plain_baseline(given_baseline, torch.float64)
    for model in (Score(shape, seed), Quadratic(1, shape)):
        with mt.options(**PATHS[path]):
            found = IntegratedGradients(explainable(model)).attribute(
                image.hsi, given_baseline, n_steps=n_steps, method=method, return_convergence_delta=True
            )
        with torch.no_grad():
            ends = model(torch.stack([image.masked, start])).flatten()
        left = float(found.attributes.sum() - (ends[0] - ends[1]))
        size = float(found.attributes.abs().sum() + ends.abs().sum())
        assert abs(found.score - left) <= 1e-12 * size
        if isinstance(model, Quadratic) and method == "gausslegendre":
            assert abs(left) <= 1e-12 * size


@given(data=st.data(), image=exact_images, path=paths, seed=seeds)
def test_windows_that_do_not_overlap_add_up(data: st.DataObject, image: Image, path: str, seed: int) -> None:
    """On a linear model: to the difference of the outputs, and each to its own part of it."""
    shape = tuple(image.masked.shape)
    window, _ = data.draw(windows(shape), "window")
    given_baseline = data.draw(baseline_of(shape), "baseline")
    start = torch.zeros(shape, dtype=torch.float64) + plain_baseline(given_baseline, torch.float64)
    model = Linear(1, shape)
    with mt.options(**PATHS[path]):
        found = Occlusion(explainable(model)).attribute(image.hsi, None, window, window, given_baseline).attributes
    lost = model.weight[0].detach() * (image.masked - start)
    size = float(lost.abs().sum())
    wanted = torch.zeros_like(lost)
    total = 0.0
    for corner in torch.cartesian_prod(*(torch.arange(0, n, w) for n, w in zip(shape, window, strict=True))):
        box = tuple(slice(int(at), int(at) + w) for at, w in zip(corner, window, strict=True))
        wanted[box] = lost[box].sum()
        total += float(found[box].flatten()[0])
    assert_near(found, wanted, torch.float64, size)
    assert abs(total - float(lost.sum())) <= 1e-11 * size


@given(data=st.data(), image=exact_images, path=paths, seed=seeds)
def test_a_window_over_everything_is_the_difference_of_outputs(
    data: st.DataObject, image: Image, path: str, seed: int
) -> None:
    shape = tuple(image.masked.shape)
    given_baseline, model = data.draw(baseline_of(shape), "baseline"), Score(shape, seed)
    start = torch.zeros(shape, dtype=torch.float64) + plain_baseline(given_baseline, torch.float64)
    with mt.options(**PATHS[path]):
        found = Occlusion(explainable(model)).attribute(image.hsi, None, shape, 1, given_baseline).attributes
    with torch.no_grad():
        ends = model(torch.stack([image.masked, start]))
    assert_near(found, (ends[0] - ends[1]).expand(shape), torch.float64, float(ends.abs().max()))


@given(image=small_images, name=methods, path=paths, seed=seeds, most=st.integers(1, 9))
def test_a_result_is_that_of_its_image_alone(image: Image, name: str, path: str, seed: int, most: int) -> None:
    """Whatever else is in the call, and in whatever order."""
    shape = tuple(image.masked.shape)
    model = explainable(Score(shape, seed))
    others = [
        mt.HSI(image=image.masked * factor, wavelengths=image.hsi.wavelengths, orientation=image.hsi.orientation)
        for factor in (0.5, -1.0)
    ]
    limit = most * image.masked.numel() * 8 * 8
    with mt.options(**PATHS[path]):
        alone = LINEAR[name](model, image.hsi).attributes
        with mt.options(memory_limit=limit):
            first, *_ = LINEAR[name](model, [image.hsi, *others])
            *_, last = LINEAR[name](model, [*others, image.hsi])
    for found in (first, last):
        assert found.hsi is image.hsi
        assert_near(found.attributes, alone, torch.float64, 1.0)
