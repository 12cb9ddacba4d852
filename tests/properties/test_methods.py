"""Every method against plain torch, on images, masks, models, targets and baselines of every kind."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import assume, event, given, settings
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
    floating,
    image_lists,
    limits,
    networks,
    paths,
    plain,
    plain_baseline,
    seeds,
    targets,
    windows,
)
from tests.properties.strategies import images as images_of
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
    if len(images) == 1 or data.draw(st.booleans(), "one baseline for all"):
        given = data.draw(baselines(shape), "baseline")
        return given, [plain_baseline(given, dtype)] * len(images)
    each = [data.draw(baselines(shape), "baseline") for _ in images]
    return each, [plain_baseline(one, dtype) for one in each]


def targets_of(data: st.DataObject, model: Model, images: list[Image]) -> tuple[Any, list[Any]]:
    """A target for all images, or one for each, and each in the words of the reference."""
    each = [data.draw(targets(model.outputs), "target") for _ in images]
    if len(images) == 1 or data.draw(st.booleans(), "one target for all"):
        return each[0], [model.plain(each[0])] * len(images)
    return each, [model.plain(one) for one in each]


def check_report(report: Any, most: int | None, told: list[tuple[int, int]] | None = None) -> None:
    """What a report and what was told on the way say must fit together."""
    event(f"shortcut: {report.shortcut}")
    assert most is None or report.chunk_largest <= most
    assert report.shortcut_evaluations <= report.evaluations
    assert report.shortcut is None or report.shortcut_evaluations > 0
    if told is not None:
        done = [one for one, _ in told]
        assert done == sorted(set(done))
        assert {of for _, of in told} == {done[-1]}


# ---------------------------------------------------------------- gradients


@given(data=st.data(), images=image_lists(), path=paths)
def test_saliency_and_input_x_gradient(data: st.DataObject, images: list[Image], path: str) -> None:
    model, signed = model_of(data, images), data.draw(st.booleans(), "signed")
    given_target, plain_targets = targets_of(data, model, images)
    with mt.options(**PATHS[path]):
        slopes = Saliency(model.explained).attribute(call_of(images), target=given_target, abs=not signed)
        products = InputXGradient(model.explained).attribute(call_of(images), target=given_target)
    for image, target, slope, product in zip(images, plain_targets, listed(slopes), listed(products), strict=True):
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
    n_steps=st.integers(2, 20),
    product=st.booleans(),
)
def test_integrated_gradients(
    data: st.DataObject, images: list[Image], path: str, most: int | None, method: str, n_steps: int, product: bool
) -> None:
    model = model_of(data, images)
    given_baseline, starts = baselines_of(data, images)
    given_target, plain_targets = targets_of(data, model, images)
    told: list[tuple[int, int]] = []
    with mt.options(**PATHS[path]):
        found = IntegratedGradients(model.explained, product).attribute(
            call_of(images),
            given_baseline,
            given_target,
            n_steps=n_steps,
            method=method,
            internal_batch_size=most,
            return_convergence_delta=True,
            show_progress=lambda *pair: told.append(pair),
        )
    for image, start, target, one in zip(images, starts, plain_targets, listed(found), strict=True):
        x, dtype = image.masked.double(), image.masked.dtype
        mean = reference.mean_gradient(model.exact, x, start, target, n_steps=n_steps, method=method)
        largest = float(mean.abs().max())
        wanted = (x - start) * mean if product else mean
        assert_near(one.attributes, wanted, dtype, largest)
        delta = convergence_delta(model.exact, wanted, x, start, target)
        size = largest * x.numel() + model.largest(image.masked, start)
        assert abs(one.score - delta) <= (1e-10 if dtype == torch.float64 else 1e-5) * size
        check_report(one.report, most, told)


# ---------------------------------------------------------------- occlusion

CALLS = ["attribute", "get_spatial_attributes", "get_spectral_attributes"]


@given(data=st.data(), images=image_lists(9, most=2), path=paths, most=limits, name=st.sampled_from(CALLS))
def test_occlusion(data: st.DataObject, images: list[Image], path: str, most: int | None, name: str) -> None:
    model = model_of(data, images, kinks=True)
    given_baseline, starts = baselines_of(data, images)
    given_target, plain_targets = targets_of(data, model, images)
    hsi = images[0].hsi
    shape, spectral = tuple(hsi.image.shape), hsi.spectral_axis
    axes = {"attribute": [0, 1, 2], "get_spectral_attributes": [spectral]}.get(name, sorted({0, 1, 2} - {spectral}))
    window, stride = data.draw(windows([shape[axis] for axis in axes]), "window and stride")
    whole_window, whole_stride = list(shape), list(shape)
    for axis, size, step in zip(axes, window, stride, strict=True):
        whole_window[axis], whole_stride[axis] = size, step
    assume(math.prod(n // s + 1 for n, s in zip(shape, whole_stride, strict=True)) <= 250)
    if len(axes) == 1 or (len(set(window)) == len(set(stride)) == 1 and data.draw(st.booleans(), "one int for all")):
        window, stride = window[0], stride[0]
    told: list[tuple[int, int]] = []
    with mt.options(**PATHS[path]):
        found = getattr(Occlusion(model.explained), name)(
            call_of(images),
            given_target,
            window,
            stride,
            given_baseline,
            perturbations_per_eval=most,
            show_progress=lambda *pair: told.append(pair),
        )
    for image, start, target, one in zip(images, starts, plain_targets, listed(found), strict=True):
        x = image.masked.double()
        wanted = occlusion(model.exact, x, whole_window, whole_stride, start, target)
        assert_near(one.attributes, wanted, image.masked.dtype, model.largest(image.masked, start))
        check_report(one.report, most, told)


@given(data=st.data(), most=limits, dtype=floating, seed=seeds)
def test_small_windows_of_larger_images(data: st.DataObject, most: int | None, dtype: torch.dtype, seed: int) -> None:
    """Where a window changes a part of what the layers give: the plain path's numbers and the reference's."""
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(5, 11), st.integers(5, 11)), "shape")
    image = data.draw(images_of(shape=shape, orientation="CHW", dtype=dtype), "image")
    model = data.draw(networks(shape, dtype, kinks=True, name="layers", written="module"), "model")
    window = data.draw(st.tuples(st.integers(1, shape[0]), st.integers(1, 3), st.integers(1, 3)), "window")
    stride = tuple(data.draw(st.integers(max(1, size - 1), size), "stride") for size in window)
    assume(math.prod(n // s + 1 for n, s in zip(shape, stride, strict=True)) <= 200)
    given_baseline = data.draw(baselines(shape), "baseline")
    explainer = Occlusion(model.explained)
    found = explainer.attribute(image.hsi, 1, window, stride, given_baseline, perturbations_per_eval=most)
    with mt.options(shortcuts=False):
        rendered = explainer.attribute(image.hsi, 1, window, stride, given_baseline, perturbations_per_eval=most)
    start = plain_baseline(given_baseline, dtype)
    wanted = occlusion(model.exact, image.masked.double(), window, stride, start, 1)
    largest = model.largest(image.masked, start)
    assert_near(found.attributes, wanted, dtype, largest)
    assert_near(rendered.attributes, wanted, dtype, largest)
    assert found.report.evaluations_saved == rendered.report.evaluations_saved
    check_report(found.report, most)


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
                assert_near(one.attributes, alone.attributes, image.masked.dtype, model.largest(image.masked, 0.0))


# ---------------------------------------------------------------- noise tunnels

INNERS = {of.__name__: of for of in (Saliency, InputXGradient, IntegratedGradients, Occlusion)}


@st.composite
def parts_of(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int | slice, ...]:
    """An index for some of the axes of an image."""
    number = draw(st.integers(0, 3))
    return tuple(draw(st.one_of(st.integers(-n, n - 1), st.slices(n))) for n in shape[:number])


@given(
    data=st.data(),
    images=image_lists(3, most=2, smallest=st.sampled_from([1, 2])),
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
@settings(max_examples=3 * settings.default.max_examples)  # it has the most arguments
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
    given_target, plain_targets = targets_of(data, model, images)
    hsi, dtype = images[0].hsi, images[0].masked.dtype
    shape = tuple(hsi.image.shape)
    given_baseline: Any = None
    starts: list[Any] = [0.0] * len(images)
    if kind is NoiseTunnel:
        each = [data.draw(st.sampled_from([0.0, 0.25, 1, 3.5]), "stdev") for _ in images]
        arguments: dict[str, Any] = {"stdevs": each if len(images) > 1 else each[0]}
        arguments["perturbation_axis"] = data.draw(st.none() | parts_of(shape), "axis")
    else:
        given_baseline, starts = baselines_of(data, images)
        arguments = {"perturbation_prob": data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]), "probability")}
        exact = data.draw(st.none() | st.integers(0, shape[hsi.spectral_axis]), "exact")
        arguments["num_perturbed_bands"] = exact
    called = dict(arguments)
    if kind is HyperNoiseTunnel:
        called["baseline"] = given_baseline
    error = method != "vargrad" and n_samples > 1 and data.draw(st.booleans(), "standard error")
    keep = data.draw(st.booleans(), "keep gradient")
    told: list[tuple[int, int]] = []
    torch.manual_seed(seed)
    with mt.options(**PATHS[path]):
        found = kind(INNERS[name](model.explained)).attribute(
            call_of(images),
            target=given_target,
            n_samples=n_samples,
            method=method,
            steps_per_batch=most,
            standard_error=error,
            keep_gradient=keep,
            show_progress=lambda *pair: told.append(pair),
            **called,
        )
    for i, (image, start, target, one) in enumerate(zip(images, starts, plain_targets, listed(found), strict=True)):
        if kind is NoiseTunnel:
            arguments["stdevs"] = each[i]
        drawn = samples_of(kind, image, start, n_samples, seed, arguments)
        drawn = torch.where(image.mask, drawn, 0.0).double()
        alone = torch.stack([inner(name, model.exact, target)(sample) for sample in drawn])
        size = max(float(alone.abs().max()), 1e-30)
        outputs = model.largest(image.masked, 0.0, *drawn)
        size = size if name != "Occlusion" else max(size, outputs)
        assert_near(one.attributes.detach(), moment(method, alone), dtype, size if method == "smoothgrad" else size**2)
        if error:
            spread = (alone if method == "smoothgrad" else alone**2).std(0) / math.sqrt(n_samples)
            # A variance is known within the rounding of what is squared.
            rounding = size if method == "smoothgrad" else size**2
            assert_near(one.standard_error, spread, dtype, rounding * (1e4 if dtype == torch.float64 else 1e2))
        assert one.attributes.requires_grad == (keep and name in ("InputXGradient", "IntegratedGradients"))
        assert one.report.samples_used == n_samples
        check_report(one.report, most, told)


def samples_of(
    kind: type, image: Image, start: Any, n_samples: int, seed: int, arguments: dict[str, Any]
) -> torch.Tensor:
    """What `perturb_input` gives, in the image's own axes; bands are its first axis there."""
    whole = image.hsi.image
    torch.manual_seed(seed)
    if kind is NoiseTunnel:
        drawn = NoiseTunnel.perturb_input(whole, n_samples, **arguments)
        chosen = torch.zeros(whole.shape, dtype=torch.bool)
        chosen.numpy()[arguments["perturbation_axis"] or ()] = True
        kept = plain(whole).to(drawn.dtype)
        assert torch.equal(torch.where(chosen, kept, drawn), kept.expand_as(drawn))
        return drawn
    level = torch.as_tensor(start, dtype=torch.float64).expand(whole.shape).to(image.masked.dtype)
    axis = image.hsi.spectral_axis
    drawn = HyperNoiseTunnel.perturb_input(whole.movedim(axis, 0), level.movedim(axis, 0), n_samples, **arguments)
    return drawn.movedim(1, axis + 1)


# ---------------------------------------------------------------- results


@given(data=st.data(), images=image_lists(4, most=1), name=st.sampled_from(["IntegratedGradients", *CALLS]))
def test_results_are_restored_as_they_were(data: st.DataObject, images: list[Image], name: str) -> None:
    model, image = model_of(data, images), images[0]
    target, _ = targets_of(data, model, images)
    if name == "IntegratedGradients":
        result = IntegratedGradients(model.explained).attribute(
            image.hsi, target=target, n_steps=2, return_convergence_delta=True
        )
    else:
        result = getattr(Occlusion(model.explained), name)(image.hsi, target)
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
