"""Every method against plain torch, on images, masks, models, targets and baselines of every kind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

import meteors_c as mt
from meteors_c.attr import (
    HSIAttributes,
    HyperNoiseTunnel,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from tests.parity import reference
from tests.parity.reference import convergence_delta
from tests.parity.reference_perturbation import inner, moment, occlusion
from tests.properties.strategies import (
    Image,
    Model,
    assert_near,
    baselines,
    image_lists,
    limits,
    networks,
    paths,
    plain_baseline,
    plain_target,
    seeds,
    windows,
)
from tests.toys import METHODS, PATHS

# ---------------------------------------------------------------- what the tests share


def call_of(images: list[Image]) -> Any:
    """What is explained: a list, or the only image as it is."""
    return [image.hsi for image in images] if len(images) > 1 else images[0].hsi


def listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


def model_of(data: st.DataObject, images: list[Image], kinks: bool = False) -> Model:
    first = images[0].masked
    return data.draw(networks(tuple(first.shape), first.dtype, kinks), "model")


def baselines_of(data: st.DataObject, images: list[Image]) -> tuple[Any, list[Any]]:
    """A baseline for all images, or one for each, and each in the words of the reference."""
    first = images[0].masked
    shape, dtype = tuple(first.shape), first.dtype
    if data.draw(st.booleans(), "one baseline for all"):
        given = data.draw(baselines(shape), "baseline")
        return given, [plain_baseline(given, dtype)] * len(images)
    each = [data.draw(baselines(shape), "baseline") for _ in images]
    return each, [plain_baseline(one, dtype) for one in each]


def size_of(model: Model, image: Image) -> float:
    """How large outputs are, which float32 rounds before they are subtracted."""
    with torch.no_grad():
        return float(model.exact(image.masked.double()[None]).abs().max())


# ---------------------------------------------------------------- gradients


@given(data=st.data(), images=image_lists(), path=paths)
def test_saliency_and_input_x_gradient(data: st.DataObject, images: list[Image], path: str) -> None:
    model, signed = model_of(data, images), data.draw(st.booleans(), "signed")
    target = plain_target(model)
    with mt.options(**PATHS[path]):
        slopes = Saliency(model.explained).attribute(call_of(images), target=model.target, abs=not signed)
        products = InputXGradient(model.explained).attribute(call_of(images), target=model.target)
    for image, slope, product in zip(images, listed(slopes), listed(products), strict=True):
        wanted = reference.gradient(model.exact, image.masked.double(), target)
        assert slope.hsi is product.hsi is image.hsi
        assert_near(slope.attributes, wanted if signed else wanted.abs(), image.masked.dtype)
        assert_near(product.attributes, wanted * image.masked, image.masked.dtype)


@given(
    data=st.data(),
    images=image_lists(),
    path=paths,
    most=limits,
    method=st.sampled_from(METHODS),
    n_steps=st.integers(2, 12),
    product=st.booleans(),
)
def test_integrated_gradients(
    data: st.DataObject, images: list[Image], path: str, most: int | None, method: str, n_steps: int, product: bool
) -> None:
    model = model_of(data, images)
    given_baseline, starts = baselines_of(data, images)
    target = plain_target(model)
    with mt.options(**PATHS[path]):
        found = IntegratedGradients(model.explained, product).attribute(
            call_of(images),
            given_baseline if len(images) > 1 or not isinstance(given_baseline, list) else given_baseline[0],
            model.target,
            n_steps=n_steps,
            method=method,
            internal_batch_size=most,
            return_convergence_delta=True,
        )
    for image, start, one in zip(images, starts, listed(found), strict=True):
        x, dtype = image.masked.double(), image.masked.dtype
        mean = reference.mean_gradient(model.exact, x, start, target, n_steps=n_steps, method=method)
        largest = float(mean.abs().max())
        wanted = (x - start) * mean if product else mean
        assert_near(one.attributes, wanted, dtype, largest)
        delta = convergence_delta(model.exact, wanted, x, start, target)
        size = largest * x.numel() + size_of(model, image)
        assert abs(one.score - delta) <= (1e-10 if dtype == torch.float64 else 1e-5) * size
        assert most is None or one.report.chunk_largest <= most


# ---------------------------------------------------------------- occlusion

CALLS = ["attribute", "get_spatial_attributes", "get_spectral_attributes"]


@given(data=st.data(), images=image_lists(5, most=2), path=paths, most=limits, name=st.sampled_from(CALLS))
def test_occlusion(data: st.DataObject, images: list[Image], path: str, most: int | None, name: str) -> None:
    model = model_of(data, images, kinks=True)
    given_baseline, starts = baselines_of(data, images)
    hsi = images[0].hsi
    shape, spectral = tuple(hsi.image.shape), hsi.spectral_axis
    axes = {"attribute": [0, 1, 2], "get_spectral_attributes": [spectral]}.get(name, sorted({0, 1, 2} - {spectral}))
    window, stride = data.draw(windows([shape[axis] for axis in axes]), "window and stride")
    whole_window, whole_stride = list(shape), list(shape)
    for axis, size, step in zip(axes, window, stride, strict=True):
        whole_window[axis], whole_stride[axis] = size, step
    if len(axes) == 1 or (len(set(window)) == len(set(stride)) == 1 and data.draw(st.booleans(), "one int for all")):
        window, stride = window[0], stride[0]
    with mt.options(**PATHS[path]):
        found = getattr(Occlusion(model.explained), name)(
            call_of(images),
            model.target,
            window,
            stride,
            given_baseline if len(images) > 1 or not isinstance(given_baseline, list) else given_baseline[0],
            perturbations_per_eval=most,
        )
    for image, start, one in zip(images, starts, listed(found), strict=True):
        x = image.masked.double()
        wanted = occlusion(model.exact, x, whole_window, whole_stride, start, plain_target(model))
        assert_near(one.attributes, wanted, image.masked.dtype, size_of(model, image))
        assert most is None or one.report.chunk_largest <= most


@given(data=st.data(), images=image_lists(4, most=2), path=paths, most=limits)
def test_all_outputs_from_one_sweep(data: st.DataObject, images: list[Image], path: str, most: int | None) -> None:
    """As one call for each output, on the same path."""
    model = model_of(data, images, kinks=True)
    explainer = Occlusion(model.explained)
    with mt.options(**PATHS[path]):
        every = explainer.attribute(call_of(images), "all", 2 if min(images[0].masked.shape) > 1 else 1, 1)
        every = every if len(images) > 1 else [every]
        for of_image, image in zip(every, images, strict=True):
            for one in of_image:
                alone = explainer.attribute(
                    image.hsi,
                    one.target,
                    2 if min(image.masked.shape) > 1 else 1,
                    1,
                    perturbations_per_eval=most,
                )
                assert_near(one.attributes, alone.attributes, image.masked.dtype, size_of(model, image))


# ---------------------------------------------------------------- noise tunnels

INNERS = {of.__name__: of for of in (Saliency, InputXGradient, IntegratedGradients, Occlusion)}
parts = st.one_of(
    st.integers(-2, 1), st.builds(slice, st.none() | st.integers(-3, 3), st.none() | st.integers(-3, 3), st.none())
)


@given(
    data=st.data(),
    images=image_lists(3, most=2),
    path=paths,
    most=limits,
    kind=st.sampled_from([NoiseTunnel, HyperNoiseTunnel]),
    name=st.sampled_from(
        ["Saliency", "Saliency", "InputXGradient", "InputXGradient", "IntegratedGradients", "Occlusion"]
    ),
    method=st.sampled_from(["smoothgrad", "smoothgrad_sq", "vargrad"]),
    n_samples=st.integers(1, 5),
    seed=seeds,
)
def test_noise_tunnels(
    data: st.DataObject,
    images: list[Image],
    path: str,
    most: int | None,
    kind: type,
    name: str,
    method: str,
    n_samples: int,
    seed: int,
) -> None:
    """The moment over the samples that `perturb_input` draws under the same seed."""
    model = model_of(data, images)
    hsi, dtype = images[0].hsi, images[0].masked.dtype
    shape = tuple(hsi.image.shape)
    given_baseline: Any = None
    starts: list[Any] = [0.0] * len(images)
    if kind is NoiseTunnel:
        arguments: dict[str, Any] = {"stdevs": data.draw(st.sampled_from([0.0, 0.25, 1, 3.5]), "stdevs")}
        inside = [n for n in shape if n > 1]
        axis = data.draw(st.none() | st.lists(parts, max_size=3).map(tuple), "axis") if len(inside) == 3 else None
        arguments["perturbation_axis"] = axis
    else:
        given_baseline, starts = baselines_of(data, images)
        arguments = {"perturbation_prob": data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]), "probability")}
        exact = data.draw(st.none() | st.integers(0, shape[hsi.spectral_axis]), "exact")
        arguments["num_perturbed_bands"] = exact
    called = dict(arguments)
    if kind is HyperNoiseTunnel:
        alone = isinstance(given_baseline, list) and len(images) == 1
        called["baseline"] = given_baseline[0] if alone else given_baseline
    torch.manual_seed(seed)
    with mt.options(**PATHS[path]):
        found = kind(INNERS[name](model.explained)).attribute(
            call_of(images), target=model.target, n_samples=n_samples, method=method, steps_per_batch=most, **called
        )
    for image, start, one in zip(images, starts, listed(found), strict=True):
        drawn = samples_of(kind, image, start, n_samples, seed, arguments)
        drawn = torch.where(image.mask, drawn, 0.0).double()
        each = torch.stack([inner(name, model.exact, plain_target(model))(sample) for sample in drawn])
        size = max(float(each.abs().max()), 1e-30)
        outputs = max(size_of(model, image), *(size_of_tensor(model, sample) for sample in drawn))
        size = size if name != "Occlusion" else max(size, outputs)
        assert_near(one.attributes, moment(method, each), dtype, size if method == "smoothgrad" else size**2)
        assert one.report.samples_used == n_samples
        assert most is None or one.report.chunk_largest <= most


def size_of_tensor(model: Model, x: torch.Tensor) -> float:
    with torch.no_grad():
        return float(model.exact(x[None]).abs().max())


def samples_of(
    kind: type, image: Image, start: Any, n_samples: int, seed: int, arguments: dict[str, Any]
) -> torch.Tensor:
    """What `perturb_input` gives, in the image's own axes; bands are its first axis there."""
    whole = image.hsi.image
    torch.manual_seed(seed)
    if kind is NoiseTunnel:
        return NoiseTunnel.perturb_input(whole, n_samples, **arguments)
    level = torch.as_tensor(start, dtype=torch.float64).expand(whole.shape).to(image.masked.dtype)
    axis = image.hsi.spectral_axis
    drawn = HyperNoiseTunnel.perturb_input(whole.movedim(axis, 0), level.movedim(axis, 0), n_samples, **arguments)
    return drawn.movedim(1, axis + 1)


# ---------------------------------------------------------------- results


@given(data=st.data(), images=image_lists(4, most=1), name=st.sampled_from(["IntegratedGradients", *CALLS]))
def test_results_are_restored_as_they_were(data: st.DataObject, images: list[Image], name: str) -> None:
    model, image = model_of(data, images), images[0]
    if name == "IntegratedGradients":
        result = IntegratedGradients(model.explained).attribute(
            image.hsi, target=model.target, n_steps=2, return_convergence_delta=True
        )
    else:
        result = getattr(Occlusion(model.explained), name)(image.hsi, model.target)
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder) / "result")
        again = HSIAttributes.load(Path(folder) / "result")
    assert type(again) is type(result)
    assert again == result
    assert again.hsi == result.hsi
    for field in ("attributes", "mask"):
        before, after = getattr(result, field), getattr(again, field)
        assert (before is None) == (after is None)
        if before is not None:
            assert before.dtype == after.dtype
            assert torch.equal(before, after)
    for field in ("score", "target", "report", "attribution_method", "orientation"):
        assert getattr(again, field) == getattr(result, field)
    assert getattr(again, "band_names", None) == getattr(result, "band_names", None)
