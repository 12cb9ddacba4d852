"""LIME's samples: how they are drawn, rendered, weighted and counted."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from meteors_c import HSI, options
from meteors_c.attr import Background, Lime
from meteors_c.attr.lime_base import ExpKernelSimilarity, get_exp_kernel_similarity_function
from meteors_c.models.linear import SkLearnLinearRegression
from tests.attr.surrogates import Exact, Recorder, features_of, masked_cube, rendered, whole_cube
from tests.toys import (
    ORIENTATIONS,
    PATHS,
    ROWS,
    SHAPE,
    WAVELENGTHS,
    Watched,
    cube,
    each_pair,
    evaluated,
    explainable,
    smooth,
    values,
)

KINDS = ["spatial", "spectral"]
PIXELS = torch.arange(ROWS)[:, None].expand(SHAPE[1:])  # a superpixel each row
MODEL = smooth()  # made once, because it sets torch's seed


def recorded(kind: str, hsi: HSI, orientation: str = "CHW", similarity: Any = None, **arguments: Any) -> Any:
    """The batch that the interpretable model gets, and the numbers of the features."""
    call, name, mask, numbered = features_of(kind, orientation)
    recorder = Recorder()
    explainer = Lime(explainable(MODEL), recorder, similarity)
    getattr(explainer, call)(hsi, **{name: mask, "target": 1, "n_samples": 40, **arguments})
    return numbered, recorder.fits[0]


def weights_by_hand(image: torch.Tensor, images: torch.Tensor, distance: str, width: float) -> torch.Tensor:
    whole = image.flatten()[None]
    if distance == "cosine":
        d = 1 - functional.cosine_similarity(whole, images.flatten(1), dim=1)
    else:
        d = (images.flatten(1) - whole).norm(dim=1)
    return torch.exp(-(d**2) / (2 * width**2))


CASES = each_pair(
    KINDS,
    ORIENTATIONS,
    [("cosine", 1.0), ("euclidean", 1.0), ("cosine", 0.25), ("euclidean", 7.0)],
    [0.0, 0.4, "image"],
)


@pytest.mark.parametrize(("kind", "orientation", "kernel", "baseline"), CASES, ids=str)
def test_samples_by_hand(kind: str, orientation: str, kernel: tuple[str, float], baseline: Any) -> None:
    """Weights, rendering and outputs in plain torch, on a masked image."""
    hsi = masked_cube(orientation)
    other = values(8).permute(["CHW".index(c) for c in orientation]) if baseline == "image" else baseline
    similarity = None if kernel == ("cosine", 1.0) else get_exp_kernel_similarity_function(*kernel)
    numbered, (x, y, w) = recorded(kind, hsi, orientation, similarity, baseline=other)
    assert (x.dtype, y.dtype, w.dtype) == (torch.float32,) * 3
    assert (x.shape, y.shape, w.shape) == ((40, 3), (40,), (40,))
    assert ((x == 0) | (x == 1)).all()
    left_out = torch.where(hsi.binary_mask, torch.as_tensor(other), 0)  # what the mask hides stays 0
    images = rendered(hsi.get_image(), numbered, x, left_out)
    with torch.no_grad():
        torch.testing.assert_close(y, MODEL(images)[:, 1].float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(w, weights_by_hand(hsi.get_image(), images, *kernel).float(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("distance", "width"), [("cosine", 0.3), ("euclidean", 2.0)])
def test_the_core_computes_the_kernel_as_the_function_does(distance: str, width: float) -> None:
    kernel = get_exp_kernel_similarity_function(distance, width)
    torch.manual_seed(1)
    _, inside = recorded("spatial", masked_cube(), similarity=kernel)
    torch.manual_seed(1)
    _, outside = recorded("spatial", masked_cube(), similarity=lambda *images, **named: kernel(*images, **named))
    for one, other in zip(inside, outside, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_kernels_by_hand() -> None:
    image, sample = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 0.0]])
    assert get_exp_kernel_similarity_function()(image, sample, None) == pytest.approx(np.exp(-(0.4**2) / 2))
    euclidean = get_exp_kernel_similarity_function("euclidean", 2.0)
    assert euclidean(image, sample, None, feature_mask=1) == pytest.approx(np.exp(-16 / 8))
    assert euclidean(image, image, None) == 1.0
    assert get_exp_kernel_similarity_function() == ExpKernelSimilarity()
    assert get_exp_kernel_similarity_function()(torch.zeros(2), torch.ones(2), None) == pytest.approx(np.exp(-0.5))


@pytest.mark.parametrize(
    "arguments",
    [("manhattan",), (None,), ("cosine", 0.0), ("cosine", -1.0), ("cosine", float("nan")), ("cosine", "wide")],
    ids=str,
)
def test_bad_kernels(arguments: Any) -> None:
    with pytest.raises(ValueError, match="distance_mode|kernel_width"):
        get_exp_kernel_similarity_function(*arguments)
    with pytest.raises(ValueError, match="distance_mode|kernel_width"):
        ExpKernelSimilarity(*arguments)


def test_a_derived_kernel_is_called() -> None:
    class Flat(ExpKernelSimilarity):
        def __call__(self, *images: Any, **named: Any) -> float:
            return 0.125

    _, (_, _, w) = recorded("spatial", cube(), similarity=Flat())
    assert (w == 0.125).all()


def test_an_image_of_zeros_has_cosine_0() -> None:
    hsi = cube(image=torch.zeros(SHAPE, dtype=torch.float64))
    _, (x, _, w) = recorded("spatial", hsi, baseline=0.3)
    torch.testing.assert_close(w, torch.full_like(w, np.exp(-0.5)))
    assert x.std(0).all(), "features that differ from the baseline vary"


def test_values_whose_squares_overflow_are_refused() -> None:
    for kernel in ("cosine", "euclidean"):
        with pytest.raises(ValueError, match="too large"):
            recorded("spatial", cube(image=values() * 1e200), similarity=get_exp_kernel_similarity_function(kernel))


def test_a_narrow_kernel_does_not_underflow() -> None:
    """Weights are relative to the largest where all would be 0; with few that count there is a warning."""
    hsi = cube(image=values() * 1e4)
    recorder = Recorder()
    explainer = Lime(explainable(MODEL), recorder, get_exp_kernel_similarity_function("euclidean", 1e-3))

    def without_the_image(original: torch.Tensor, num_interp_features: int, **named: Any) -> Any:
        for k in range(30):
            yield torch.tensor([[k % 2, k // 2 % 2, k // 4 % 2, 0]])

    explainer.perturb_func = without_the_image
    with pytest.warns(UserWarning, match="samples"):
        result = explainer.get_spatial_attributes(hsi, PIXELS, target=0, n_samples=30)
    w = recorder.fits[0][2]
    assert w.max() == 1
    assert w.isfinite().all()
    assert result.attributes.isfinite().all()
    assert result.effects.effective_samples < 4


# ---------------------------------------------------------------- drawing


def single_pixels(rows: int, columns: int) -> tuple[HSI, torch.Tensor]:
    image = 1 + torch.rand(2, rows, columns, dtype=torch.float64)
    return HSI(image=image, wavelengths=[500.0, 600.0]), torch.arange(rows * columns).reshape(rows, columns)


def test_each_feature_is_dropped_with_probability_one_half() -> None:
    """More features than a word has bits; means and correlations within what 4,000 samples allow."""
    hsi, mask = single_pixels(10, 13)
    recorder = Recorder()
    Lime(explainable(lambda x: x.sum((1, 2, 3))), recorder).get_spatial_attributes(hsi, mask, n_samples=4000)
    x = recorder.fits[0][0].double()
    z = (2 * x - 1).sum(0) / 4000**0.5
    assert z.abs().max() < 5
    assert 0.7 < z.square().mean() < 1.4, "as random as independent samples are"
    pairs = (2 * x - 1).T @ (2 * x - 1) / 4000**0.5
    assert pairs.fill_diagonal_(0).abs().max() < 6
    counts = x.sum(1)
    assert abs(float(counts.var()) / (130 / 4) - 1) < 0.15, "features are independent of each other"


def test_a_seed_repeats_a_call_and_another_does_not() -> None:
    def call() -> Any:
        return recorded("spatial", masked_cube())[1][0]

    torch.manual_seed(5)
    first, second = call(), call()
    torch.manual_seed(5)
    assert torch.equal(call(), first)
    assert torch.equal(call(), second)
    assert not torch.equal(first, second)


def test_other_generators_are_left_alone() -> None:
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.manual_seed(5)
    recorded("spatial", masked_cube())
    after = torch.rand(3)
    torch.manual_seed(5)
    recorded("spatial", masked_cube(), n_samples=500)
    assert torch.equal(torch.rand(3), after), "a call takes as much from torch's generator, whatever it samples"
    assert random.getstate() == python_state
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))  # noqa: NPY002


def test_images_of_a_call_have_samples_of_their_own() -> None:
    recorder = Recorder()
    Lime(explainable(MODEL), recorder).get_spatial_attributes([cube(), cube()], PIXELS, target=0, n_samples=50)
    first, second = (fit[0] for fit in recorder.fits)
    assert not torch.equal(first, second)


# ---------------------------------------------------------------- rendering


@pytest.mark.parametrize(("path", "kind"), each_pair(PATHS, KINDS))
def test_values_are_selected_bit_by_bit(path: str, kind: str) -> None:
    """Never multiplied and added: kept values are the image's, dropped ones the baseline's, -0.0 and subnormals too."""
    call, name, mask, numbered = features_of(kind)
    image, baseline = values(), values(2)
    image[:, 0, 0], baseline[:, 1, 1], image[0, 3, :] = 5e-324, -0.0, 1e100
    seen: list[torch.Tensor] = []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.clone())
        return x.flatten(1)[:, :2].clamp(-1, 1)

    hsi = HSI(image=image, wavelengths=WAVELENGTHS)
    with options(**PATHS[path]):
        getattr(Lime(explainable(model)), call)(hsi, **{name: mask, "target": 0, "n_samples": 30, "baseline": baseline})
    allowed = {
        one.numpy().tobytes()
        for one in rendered(image, numbered, torch.cartesian_prod(*[torch.tensor([0, 1])] * 3), baseline)
    }
    allowed.add((image / 2).numpy().tobytes())  # of a model whose way of computing is not seen
    drawn = {one.numpy().tobytes() for one in torch.cat(seen)}
    assert drawn <= allowed
    assert len(drawn) > 4


# ---------------------------------------------------------------- what the model is asked


def exact_call(**arguments: Any) -> tuple[Any, Watched]:
    hsi, model = whole_cube(dtype=torch.float32), Watched(Exact())
    torch.manual_seed(3)
    explainer = Lime(explainable(model), SkLearnLinearRegression())
    return explainer.get_spatial_attributes(hsi, PIXELS, **{"target": 0, "n_samples": 60, **arguments}), model


@pytest.mark.parametrize("limit", [1, 2, 7, 16, 60, 10**6])
def test_chunks_make_no_difference_and_are_no_larger_than_asked(limit: int) -> None:
    result, model = exact_call(perturbations_per_eval=limit)
    assert result == exact_call()[0]
    assert max(model.sizes) <= limit
    assert sum(model.sizes) == evaluated(result.report)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_make_no_difference(threads: int) -> None:
    before = torch.get_num_threads()
    wanted, _ = exact_call(standard_errors=40)
    try:
        torch.set_num_threads(threads)
        assert exact_call(standard_errors=40)[0] == wanted
    finally:
        torch.set_num_threads(before)


def test_a_limit_above_the_samples_makes_one_call() -> None:
    result, model = exact_call(perturbations_per_eval=1000)
    assert result.report.model_calls == 1
    assert max(model.sizes) == result.report.evaluations


def test_one_budget_of_rows_for_all_images_and_outputs() -> None:
    images = [whole_cube(seed) for seed in range(3)]
    backgrounds = Background(values(9, shape=(2, len(WAVELENGTHS))).round())
    model = Watched(Exact())
    results = Lime(explainable(model)).get_spatial_attributes(
        images, PIXELS, target="all", n_samples=30, baseline=backgrounds, perturbations_per_eval=5
    )
    assert max(model.sizes) <= 5
    coalitions = sum(len(of[0].effects.coalitions) for of in results)
    assert results[0][0].report.evaluations == 2 * coalitions
    assert sum(model.sizes) == evaluated(results[0][0].report)


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-3, ValueError), (2.5, TypeError), ("4", TypeError)])
def test_bad_limits(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="perturbations_per_eval"):
        exact_call(perturbations_per_eval=limit)


def test_equal_samples_are_evaluated_once() -> None:
    result, model = exact_call(n_samples=1000)
    coalitions = result.effects.coalitions
    assert len(coalitions) == len(coalitions.unique(dim=0)) == 2**ROWS
    assert result.report.evaluations == 2**ROWS
    assert result.report.evaluations_saved == 1000 - 2**ROWS
    assert result.effects.samples == 1000
    assert sum(model.sizes) == evaluated(result.report)


def test_the_model_runs_without_gradients() -> None:
    modes = []

    def model(x: torch.Tensor) -> torch.Tensor:
        modes.append((torch.is_grad_enabled(), x.requires_grad))
        return x.sum((1, 2, 3))

    Lime(explainable(model)).get_spatial_attributes(cube(), torch.zeros(SHAPE[1:], dtype=torch.long))
    assert set(modes) == {(False, False)}
    assert torch.is_grad_enabled()


def test_features_that_hold_the_baseline_have_exactly_0() -> None:
    """They are as in the image, so no sample without them is asked for."""
    hsi = cube()
    hsi.image[:, 1] = 0.5
    explainer = Lime(explainable(MODEL), SkLearnLinearRegression())
    result = explainer.get_spatial_attributes(hsi, PIXELS, target=0, n_samples=200, baseline=0.5)
    assert result.effects.values[1] == 0
    assert result.effects.values[[0, 2, 3]].all()
    assert result.report.evaluations == 2 ** (ROWS - 1)


def test_no_array_of_all_samples_is_made() -> None:
    """The engine's buffers do not grow with the number of samples."""
    hsi, mask = single_pixels(12, 12)
    model = explainable(lambda x: x.sum((1, 2, 3)))
    peaks = []
    for n in (200, 2000):
        result = Lime(model).get_spatial_attributes(hsi, mask, n_samples=n, perturbations_per_eval=8)
        peaks.append(result.report.peak_bytes)
    assert peaks[1] == peaks[0]


# ---------------------------------------------------------------- functions of the user's


def test_perturb_func_is_called_as_captum_does() -> None:
    seen: list[Any] = []

    def perturb(original: torch.Tensor, **named: Any) -> torch.Tensor:
        seen.append((original, named))
        return torch.tensor([[1, 0, 1]])

    hsi = masked_cube()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all samples are the same
        x = recorded_with(perturb, hsi)
    _, _, _, numbered = features_of("spatial")
    assert len(seen) == 12
    original, named = seen[0]
    assert torch.equal(original, hsi.get_image()[None])
    assert set(named) == {"feature_mask", "baselines", "num_interp_features"}
    assert torch.equal(named["feature_mask"], numbered[None])
    assert named["feature_mask"].dtype == torch.int64
    assert named["num_interp_features"] == 3
    assert named["baselines"] == 0
    assert x.tolist() == [[1, 0, 1]] * 12


def recorded_with(perturb: Any, hsi: HSI, n_samples: int = 12) -> torch.Tensor:
    recorder = Recorder()
    call, name, mask, _ = features_of("spatial")
    getattr(Lime(explainable(MODEL), recorder, perturb_func=perturb), call)(
        hsi, **{name: mask, "target": 0, "n_samples": n_samples}
    )
    return recorder.fits[0][0]


ALL = [[float(bit) for bit in f"{k:03b}"] for k in range(8)]


def test_generators_of_samples() -> None:
    def endless(original: torch.Tensor, **named: Any) -> Any:
        k = 0
        while True:
            yield torch.tensor([ALL[k % 8]])
            k += 1

    def function_that_returns_one(original: torch.Tensor, **named: Any) -> Any:
        return endless(original, **named)

    for perturb in (endless, function_that_returns_one):
        assert recorded_with(perturb, cube(), 10).tolist() == ALL + ALL[:2]


def test_a_generator_that_ends_early_warns() -> None:
    def short(original: torch.Tensor, **named: Any) -> Any:
        yield from (torch.tensor([row]) for row in ALL[:5])

    with pytest.warns(UserWarning, match="5 of 12"):
        assert recorded_with(short, cube()).tolist() == ALL[:5]


@pytest.mark.filterwarnings("ignore:perturb_func ended")
@pytest.mark.parametrize(
    ("sample", "error", "words"),
    [
        (torch.ones(1, 4), ValueError, r"\(1, 3\)"),
        (torch.full((1, 3), 0.5), ValueError, "0 and 1"),
        (torch.full((1, 3), float("nan")), ValueError, "0 and 1"),
        (iter([]), ValueError, "no sample"),
    ],
    ids=str,
)
def test_bad_samples(sample: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        recorded_with(lambda original, **named: sample, cube())


def test_errors_of_user_functions_come_through() -> None:
    def fails(*images: Any, **named: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        recorded_with(fails, cube())
    with pytest.raises(KeyError, match="mine"):
        recorded("spatial", cube(), similarity=fails)


def test_similarity_func_is_called_as_captum_does() -> None:
    seen: list[Any] = []

    def similarity(original: torch.Tensor, perturbed: torch.Tensor, sample: torch.Tensor, **named: Any) -> Any:
        seen.append((original, perturbed, sample, named))
        return torch.tensor([0.25]) if len(seen) % 2 else 0.5

    hsi, baseline = masked_cube(), values(6)
    numbered, (x, _, w) = recorded("spectral", hsi, similarity=similarity, baseline=baseline)
    assert len(seen) == 40
    assert w.tolist() == [0.25, 0.5] * 20
    for row, (original, perturbed, sample, named) in zip(x, seen, strict=True):
        assert torch.equal(original, hsi.get_image()[None])
        assert torch.equal(
            perturbed, rendered(hsi.get_image(), numbered, row[None], torch.where(hsi.binary_mask, baseline, 0))
        )
        assert torch.equal(sample, row[None].long())
        assert torch.equal(named["feature_mask"], numbered[None])
        assert named["num_interp_features"] == 3
        assert torch.equal(named["baselines"], baseline)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0, 0.0])
def test_bad_weights(weight: float) -> None:
    with pytest.raises(ValueError, match="similarity_func"):
        recorded("spatial", cube(), similarity=lambda *images, **named: weight)


def test_zero_weights_drop_samples() -> None:
    """Those that the function gives 0 have no part in the coefficients."""
    hsi = cube()

    def mostly(original: torch.Tensor, perturbed: torch.Tensor, sample: torch.Tensor, **named: Any) -> float:
        return float(sample[0, 0])  # only those that keep the first row

    torch.manual_seed(2)
    explainer = Lime(explainable(MODEL), SkLearnLinearRegression(), mostly)
    result = explainer.get_spatial_attributes(hsi, PIXELS, target=0, n_samples=80)
    assert result.effects.values[0] == pytest.approx(0, abs=1e-12)
    assert result.effects.values[1:].abs().min() > 1e-6


@pytest.mark.parametrize("given", ["perturb_func", "similarity_func"])
def test_what_user_functions_can_not_have(given: str) -> None:
    explainer = Lime(explainable(MODEL), **{given: lambda *images, **named: torch.ones(1, 3)})
    call, name, mask, _ = features_of("spatial")
    with pytest.raises(ValueError, match="auto"):
        getattr(explainer, call)(cube(), **{name: mask, "target": 0, "n_samples": "auto"})


def test_functions_must_be_callable() -> None:
    for name in ("similarity_func", "perturb_func"):
        with pytest.raises(TypeError, match=name):
            Lime(explainable(MODEL), **{name: 3})
