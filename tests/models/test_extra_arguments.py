"""Arguments after the input: passed as they are, or one for each image, and which of the two is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import meteors_c as mt
from meteors_c.attr import (
    AsIs,
    HyperNoiseTunnel,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Occlusion,
    PerImage,
    Saliency,
)
from meteors_c.models import ExplainableModel
from tests.parity.reference import assert_close
from tests.toys import PATHS, convolutional, cube, explainable, smooth

IMAGES = [cube(i) for i in range(3)]
each_path = pytest.mark.parametrize("options", PATHS.values(), ids=PATHS)


def gradients(model: Any, hsi: Any, extra: Any, size: int | None) -> Any:
    return Saliency(model).attribute(hsi, target=1, abs=False, additional_forward_args=extra)


def integrated(model: Any, hsi: Any, extra: Any, size: int | None) -> Any:
    return IntegratedGradients(model).attribute(
        hsi, target=1, additional_forward_args=extra, n_steps=4, internal_batch_size=size
    )


def products(model: Any, hsi: Any, extra: Any, size: int | None) -> Any:
    return InputXGradient(model).attribute(hsi, target=1, additional_forward_args=extra)


def windows(model: Any, hsi: Any, extra: Any, size: int | None) -> Any:
    return Occlusion(model).get_spatial_attributes(
        hsi, 1, 2, 2, additional_forward_args=extra, perturbations_per_eval=size
    )


def noise(model: Any, hsi: Any, extra: Any, size: int | None) -> Any:
    torch.manual_seed(0)
    return NoiseTunnel(Saliency(model)).attribute(
        hsi, 1, additional_forward_args=extra, n_samples=3, steps_per_batch=size
    )


def bands(model: Any, hsi: Any, extra: Any, size: int | None) -> Any:
    torch.manual_seed(0)
    return HyperNoiseTunnel(InputXGradient(model)).attribute(
        hsi, target=1, additional_forward_args=extra, n_samples=3, steps_per_batch=size
    )


# Every method, path and batch size, in pairs rather than all together.
RUNS = [
    (gradients, "shortcut", None),
    (gradients, "python calls", None),
    (integrated, "shortcut", None),
    (integrated, "plain", 1),
    (integrated, "plain", 5),
    (integrated, "python calls", 2),
    (products, "plain", None),
    (products, "python calls", None),
    (windows, "shortcut", 5),
    (windows, "plain", 1),
    (windows, "python calls", None),
    (noise, "plain", 2),
    (noise, "python calls", 1),
    (bands, "shortcut", None),
    (bands, "plain", 5),
]
each_run = pytest.mark.parametrize(("method", "path", "size"), RUNS)


class PerClass(nn.Module):
    """Three outputs, each times its own weight."""

    def __init__(self) -> None:
        super().__init__()
        self.body = convolutional()

    def forward(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return self.body(x) * weights


class PerSample(nn.Module):
    """Three outputs, times a factor of each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.body = convolutional()

    def forward(self, x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        return self.body(x) * factors[:, None]


def assert_all_close(found: list[Any], wanted: list[torch.Tensor]) -> None:
    for one, values in zip(found, wanted, strict=True):
        assert_close(one.attributes, values)


def alone(method: Callable[..., Any], model: nn.Module, extras: list[Any]) -> list[torch.Tensor]:
    """The attributions of each image in a call of its own, where nothing can be confused."""
    return [
        method(explainable(lambda x, extra=extra: model(x, extra)), hsi, None, 1).attributes
        for hsi, extra in zip(IMAGES, extras, strict=True)
    ]


# ---------------------------------------------------------------- said


@each_run
def test_as_is(method: Any, path: str, size: int | None) -> None:
    weights = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    with mt.options(**PATHS[path]):
        found = method(explainable(PerClass()), IMAGES, AsIs(weights), size)
    assert_all_close(found, alone(method, PerClass(), [weights] * 3))


@each_run
def test_per_image(method: Any, path: str, size: int | None) -> None:
    factors = [0.5, -2.0, 3.0]
    with mt.options(**PATHS[path]):
        found = method(explainable(PerSample()), IMAGES, PerImage(torch.tensor(factors)), size)
    assert_all_close(found, alone(method, PerSample(), [torch.tensor([f], dtype=torch.float64) for f in factors]))


@pytest.mark.parametrize("kind", [np.array, list, tuple])
def test_values_per_image_come_in_any_sequence(kind: Any) -> None:
    factors = [0.5, -2.0, 3.0]
    found = integrated(explainable(PerSample()), IMAGES, PerImage(kind(factors)), None)
    assert_all_close(found, alone(integrated, PerSample(), [torch.tensor([f], dtype=torch.float64) for f in factors]))


@pytest.mark.parametrize("native", [True, False])
def test_tensors_in_a_list_are_one_for_each_image(native: bool) -> None:
    rows = [torch.tensor([1.0, 2.0, -1.0]).double() * (i + 1) for i in range(3)]
    with mt.options(native=native):
        found = integrated(explainable(PerClass()), IMAGES, PerImage(rows), 4)
    assert_all_close(found, alone(integrated, PerClass(), rows))


@pytest.mark.parametrize("native", [True, False])
def test_per_image_serves_one_image_too(native: bool) -> None:
    with mt.options(native=native):
        found = integrated(explainable(PerSample()), IMAGES[1], PerImage([2.0]), None)
    assert_close(found.attributes, alone(integrated, PerSample(), [torch.tensor([2.0])] * 3)[1])


def test_wrapped_and_plain_arguments_keep_their_order() -> None:
    body = smooth()

    def model(x: torch.Tensor, factor: torch.Tensor, weights: torch.Tensor, shift: float, word: str) -> torch.Tensor:
        assert word == "kept"
        assert factor.shape == (len(x),)
        assert weights.shape == (3,)
        return body(x * factor[:, None, None, None]) * weights + shift

    weights = torch.tensor([1.0, 10.0, 100.0])
    extras = (PerImage([1.0, 2.0, 3.0]), AsIs(weights), 0.5, AsIs("kept"))
    found = integrated(explainable(model), IMAGES, extras, 3)
    wanted = [
        integrated(explainable(lambda x, f=f: body(x * f) * weights), hsi, None, 3).attributes
        for hsi, f in zip(IMAGES, [1.0, 2.0, 3.0], strict=True)
    ]
    assert_all_close(found, wanted)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("wrong", [[1.0, 2.0], torch.zeros(4, 3), np.zeros(1), torch.tensor(1.0)], ids=str)
def test_another_number_of_values_names_the_argument_and_both_sizes(wrong: Any, native: bool) -> None:
    size = len(wrong) if np.ndim(wrong) else "one"
    with mt.options(native=native), pytest.raises(ValueError, match=rf"additional_forward_args\[1\].*{size}.*3 images"):
        gradients(explainable(lambda x, one, other: smooth()(x)), IMAGES, (0.5, PerImage(wrong)), None)


@pytest.mark.parametrize("wrong", ["words", ["a", "b", "c"], None, [torch.zeros(1), torch.zeros(2), torch.zeros(3)]])
def test_values_that_no_tensor_can_hold(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"additional_forward_args\[0\].*PerImage"):
        gradients(explainable(PerSample()), IMAGES, PerImage(wrong), None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_takes_both() -> None:
    weights, factors = torch.tensor([1.0, 10.0, 100.0]).double(), [0.5, -2.0, 3.0]
    found = integrated(explainable(torch.jit.script(PerClass())), IMAGES, AsIs(weights), 4)
    assert_all_close(found, alone(integrated, PerClass(), [weights] * 3))
    found = integrated(explainable(torch.jit.script(PerSample())), IMAGES, PerImage(factors), 4)
    assert_all_close(found, alone(integrated, PerSample(), [torch.tensor([f]).double() for f in factors]))


@pytest.mark.parametrize("size", [None, 1, 2])
def test_models_on_arrays_take_both(size: int | None) -> None:
    def model(x: np.ndarray, factors: Any, weights: Any) -> np.ndarray:
        assert len(factors) == len(x)
        return x.sum((1, 2, 3))[:, None] * np.asarray(factors)[:, None] * np.asarray(weights)

    explained = ExplainableModel(model, "regression", array_input=True)
    for factors in (np.array([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])):
        for weights in (np.array([1.0, 10.0, 100.0]), torch.tensor([1.0, 10.0, 100.0])):
            for extras in [(PerImage(factors), AsIs(weights)), (factors, weights)]:
                found = windows(explained, IMAGES, extras, size)
                for one, hsi, factor in zip(found, IMAGES, [1, 2, 3], strict=True):
                    total = hsi.image[:, :2, :2].sum() * 10 * factor
                    assert_close(one.attributes[0, 0, 0], total)


# ---------------------------------------------------------------- seen


@each_run
def test_a_tensor_as_long_as_the_list_that_is_meant_as_it_is(method: Any, path: str, size: int | None) -> None:
    weights = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    with mt.options(**PATHS[path]):
        found = method(explainable(PerClass()), IMAGES, weights, size)
    assert_all_close(found, alone(method, PerClass(), [weights] * 3))


@each_run
def test_a_tensor_as_long_as_the_list_that_is_meant_per_image(method: Any, path: str, size: int | None) -> None:
    factors = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    with mt.options(**PATHS[path]):
        found = method(explainable(PerSample()), IMAGES, factors, size)
    assert_all_close(found, alone(method, PerSample(), [f[None] for f in factors]))


@pytest.mark.parametrize("size", [None, 1, 2])
def test_weights_of_three_classes_beside_three_images(size: int | None) -> None:
    """Ones of 3 x 2 x 2, times the weight 10 of class 1: 120 for each image, as meteors 0.2 has it image by image."""
    image = mt.HSI(image=torch.ones(3, 2, 2), wavelengths=[500.0, 600.0, 700.0])
    model = ExplainableModel(lambda x, w: x.sum((1, 2, 3))[:, None].expand(-1, 3) * w, "classification")
    found = integrated(model, [image] * 3, torch.tensor([1.0, 10.0, 100.0]), size)
    assert [float(one.attributes.sum()) for one in found] == pytest.approx([120.0] * 3)


body = smooth()
AS_THEY_ARE: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "weights of outputs": lambda x, w: body(x) * w,
    "a matrix": lambda x, w: body(x) @ w.expand(3, 3),
    "a mean over all": lambda x, w: body(x) * w.mean(),
    "grown outputs": lambda x, w: body(x).sum(1, keepdim=True) * w,
}
PER_IMAGE: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "spread over the input": lambda x, w: body(x * w.reshape(-1, 1, 1, 1)),
    "spread over the output": lambda x, w: body(x) * w[:, None],
    "beside the features": lambda x, w: torch.cat([body(x), w[:, None]], 1)[:, :3] * w[:, None],
    "as many as samples": lambda x, w: body(x) * w[: len(x), None],
    "not read": lambda x, w: body(x),
}


@pytest.mark.parametrize("size", [None, 1, 2])
@pytest.mark.parametrize("model", AS_THEY_ARE.values(), ids=AS_THEY_ARE)
def test_models_that_take_the_whole_tensor(model: Any, size: int | None) -> None:
    weights = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    found = integrated(explainable(model), IMAGES, weights, size)
    wanted = [integrated(explainable(lambda x: model(x, weights)), hsi, None, 1).attributes for hsi in IMAGES]
    assert_all_close(found, wanted)


@pytest.mark.parametrize("size", [None, 1, 2])
@pytest.mark.parametrize("model", PER_IMAGE.values(), ids=PER_IMAGE)
def test_models_that_take_one_entry_for_each_sample(model: Any, size: int | None) -> None:
    factors = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    found = integrated(explainable(model), IMAGES, factors, size)
    wanted = [
        integrated(explainable(lambda x, f=f: model(x, f.expand(len(x)))), hsi, None, 1).attributes
        for hsi, f in zip(IMAGES, factors, strict=True)
    ]
    assert_all_close(found, wanted)


def test_each_doubtful_argument_is_looked_at_by_itself() -> None:
    factors, weights = torch.tensor([0.5, -2.0, 3.0]).double(), torch.tensor([1.0, 10.0, 100.0]).double()

    def model(x: torch.Tensor, factor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return body(x * factor.reshape(-1, 1, 1, 1)) * weight

    found = integrated(explainable(model), IMAGES, (factors, weights), None)
    wanted = [
        integrated(explainable(lambda x, f=f: body(x * f) * weights), hsi, None, 1).attributes
        for hsi, f in zip(IMAGES, factors, strict=True)
    ]
    assert_all_close(found, wanted)


def test_what_the_model_does_not_tell_is_an_error_that_shows_the_way_out() -> None:
    """One number for a whole batch: the tensor spread over the batch looks like one that is read as a whole."""

    def model(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return (body(x)[:, 0] * w).mean()

    factors = torch.tensor([0.5, -2.0, 3.0]).double()
    with pytest.raises(ValueError, match=r"additional_forward_args\[0\].*\(3,\).*3 images.*PerImage.*AsIs"):
        Saliency(explainable(model)).attribute(IMAGES, additional_forward_args=factors)
    found = Saliency(explainable(model)).attribute(IMAGES, abs=False, additional_forward_args=PerImage(factors))
    for one, hsi, factor in zip(found, IMAGES, factors, strict=True):
        wanted = Saliency(explainable(body)).attribute(hsi, target=0, abs=False).attributes
        assert_close(one.attributes, wanted * factor)


def test_looking_leaves_no_trace() -> None:
    """Neither in torch's random numbers, nor in the image, nor in the most samples that the model sees."""
    sizes: list[int] = []

    def model(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        outputs = body(x) * w
        if not torch.is_grad_enabled():  # while it is looked at
            outputs = outputs + torch.rand(1)
            x.mul_(2)
        return outputs

    before = torch.get_rng_state()
    gradients(explainable(model), IMAGES, torch.tensor([1.0, 10.0, 100.0]), None)
    assert len(sizes) > 1
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(hsi.image, cube(i).image) for i, hsi in enumerate(IMAGES))
    sizes.clear()
    integrated(explainable(model), IMAGES, torch.tensor([1.0, 10.0, 100.0]), 1)
    assert set(sizes) == {1}


# ---------------------------------------------------------------- one image


@each_path
@pytest.mark.parametrize("value", [torch.tensor([3.0]), torch.tensor(3.0), torch.tensor([[3.0]]), 3.0], ids=str)
@pytest.mark.parametrize("size", [None, 1])
def test_with_one_image_arguments_go_as_they_are(value: Any, size: int | None, options: Any) -> None:
    seen: list[Any] = []

    def model(x: torch.Tensor, w: Any) -> torch.Tensor:
        seen.append(getattr(w, "shape", None))
        return body(x) * w

    with mt.options(**options):
        found = integrated(explainable(model), IMAGES[0], value, size)
    assert set(seen) == {getattr(value, "shape", None)}
    assert_close(found.attributes, 3 * integrated(explainable(body), IMAGES[0], None, 1).attributes)


@each_path
def test_with_one_image_a_tensor_of_one_entry_is_repeated_where_the_model_fails_otherwise(options: Any) -> None:
    for model, value in [
        (lambda x, w: torch.cat([body(x), w], 1)[:, :3] * w, torch.tensor([[3.0]]).double()),
        (lambda x, w: body(x) * w.reshape(len(x), 1), torch.tensor([3.0]).double()),
    ]:
        with mt.options(**options):
            found = integrated(explainable(model), IMAGES[0], value, None)
        assert_close(found.attributes, 3 * integrated(explainable(body), IMAGES[0], None, 1).attributes)


def test_numbers_and_small_tensors_go_as_they_are_with_several_images() -> None:
    for value in (torch.tensor(3.0), torch.tensor([3.0]), 3.0):
        found = integrated(explainable(lambda x, w: body(x) * w), IMAGES, value, None)
        assert_all_close(found, [3 * integrated(explainable(body), h, None, 1).attributes for h in IMAGES])
