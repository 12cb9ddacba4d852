"""How certain LIME's coefficients are, runs that stop by themselves, and runs that go on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from meteors_c.attr import Background, KernelShap, Lime, ShapleyValueSampling
from meteors_c.attr.effects import FeatureEffects
from meteors_c.attr.lime_base import get_exp_kernel_similarity_function
from meteors_c.models.linear import SkLearnLasso, SkLearnLinearRegression, SkLearnRidge
from tests.attr.surrogates import GROUPS, SEGMENTS, Exact, Recorder, whole_cube
from tests.toys import (
    COLUMNS,
    ROWS,
    SHAPE,
    WAVELENGTHS,
    Linear,
    Watched,
    convolutional,
    cube,
    evaluated,
    explainable,
    smooth,
    values,
)

MODEL, EXACT = smooth(), Exact()
PIXELS = torch.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) // 2  # six superpixels


def lime(n_samples: Any = 40, seed: int | None = None, model: Any = MODEL, **arguments: Any) -> Any:
    if seed is not None:
        torch.manual_seed(seed)
    hsi, mask = arguments.pop("hsi", None), arguments.pop("mask", PIXELS)
    surrogate = arguments.pop("surrogate", SkLearnRidge(alpha=0.1))
    return Lime(explainable(model), surrogate).get_spatial_attributes(
        cube() if hsi is None else hsi, mask, **{"target": 0, "n_samples": n_samples, **arguments}
    )


# ---------------------------------------------------------------- standard errors and intervals


@pytest.mark.parametrize(
    "surrogate", [SkLearnLinearRegression, lambda: SkLearnRidge(alpha=1.0), lambda: SkLearnLasso(alpha=1e-4)]
)
def test_standard_errors_are_the_spread_over_seeds(surrogate: Any) -> None:
    runs = [lime(120, seed, surrogate=surrogate(), standard_errors=100) for seed in range(150)]
    values = torch.stack([run.effects.values for run in runs])
    errors = torch.stack([run.effects.standard_errors for run in runs])
    spread = values.std(0)
    ratio = errors.mean(0) / spread
    assert (spread > 1e-6).all()
    assert ((ratio > 0.75) & (ratio < 1.35)).all(), ratio


def test_intervals_hold_most_scores() -> None:
    """The score of a much longer run lies in about 95 of 100 intervals."""
    truth = lime(20_000, 1).score
    intervals = [lime(100, seed, standard_errors=100).effects.score_interval for seed in range(100)]
    assert all(low <= high for low, high in intervals)
    inside = sum(low <= truth <= high for low, high in intervals)
    assert inside > 75


def test_a_linear_model_has_no_errors() -> None:
    result = lime(200, 3, Linear(), surrogate=SkLearnLinearRegression(), standard_errors=True)
    assert result.effects.standard_errors.max() < 1e-9
    assert result.effects.score_interval == pytest.approx((1.0, 1.0))


def test_one_sample_tells_nothing_of_errors() -> None:
    with pytest.warns(UserWarning, match="samples"):
        effects = lime(1, 3, standard_errors=20).effects
    assert effects.standard_errors.isnan().all()
    assert all(map(np.isnan, effects.score_interval))


def test_errors_are_spread_over_the_image() -> None:
    result = lime(60, 3, mask=SEGMENTS, standard_errors=30)
    errors = result.effects.standard_errors
    assert torch.equal(result.standard_errors, errors)
    for n, number in enumerate(result.effects.ids):
        assert (result.standard_error[:, number == SEGMENTS] == errors[n]).all()
    assert (result.standard_error[:, SEGMENTS < 0] == 0).all()
    assert result.standard_error.shape == SHAPE
    assert result.interactions is None


def test_errors_cost_no_evaluations_and_change_no_value() -> None:
    plain, with_errors, again = exact(seed=2), exact(seed=2, standard_errors=True), exact(seed=2, standard_errors=True)
    assert plain.standard_error is None
    assert plain.effects.standard_errors is None
    assert plain.effects.score_interval is None
    assert torch.equal(plain.attributes, with_errors.attributes)
    assert plain.report.evaluations == with_errors.report.evaluations
    assert with_errors == again, "the resamples are of the same seed"


def test_outputs_have_errors_of_their_own() -> None:
    every = exact(seed=2, standard_errors=50, target="all")
    for target, result in enumerate(every):
        assert result == exact(seed=2, standard_errors=50, target=target)


# ---------------------------------------------------------------- until a tolerance is reached


def exact(n_samples: Any = 40, seed: int | None = None, model: Any = EXACT, **arguments: Any) -> Any:
    """A call on whole numbers, whose bits can be compared."""
    arguments.setdefault("hsi", whole_cube())
    return lime(n_samples, seed, model, **arguments)


@pytest.mark.parametrize("tolerance", [0.2, 0.05, None])
def test_auto_samples_until_it_is_precise_enough(tolerance: float | None) -> None:
    result = exact("auto", 5, tolerance=tolerance)
    effects = result.effects
    precision = effects.standard_errors.max() / effects.values.abs().max()
    assert precision <= (0.05 if tolerance is None else tolerance)
    assert 64 <= effects.samples < 10_000
    assert result.score == effects.score


def test_a_smaller_tolerance_takes_more_samples() -> None:
    samples = [exact("auto", 5, tolerance=tolerance).effects.samples for tolerance in (0.5, 0.1, 0.03)]
    assert samples[0] < samples[1] < samples[2]


def test_auto_is_one_long_run() -> None:
    found = exact("auto", 5, tolerance=0.1)
    same = exact(found.effects.samples, 5, standard_errors=50)
    assert torch.equal(found.attributes, same.attributes)
    assert torch.equal(found.effects.standard_errors, same.effects.standard_errors)
    assert found.report.evaluations == same.report.evaluations


def test_auto_stops_at_once_where_nothing_is_uncertain() -> None:
    assert exact("auto", model=Linear(), surrogate=SkLearnLinearRegression()).effects.samples == 64
    constant = exact("auto", model=lambda x: x.new_ones(len(x), 1))
    assert constant.effects.samples == 64
    assert not constant.attributes.any()


def test_auto_ends_at_ten_thousand_samples() -> None:
    noisy = exact("auto", 5, model=lambda x: (x.sum((1, 2, 3)) * 1e6).sin()[:, None], tolerance=1e-4)
    assert noisy.effects.samples == 10_000
    assert noisy.report.evaluations <= 2**6


def test_each_image_stops_by_itself() -> None:
    flat = cube(image=torch.full(SHAPE, 0.01, dtype=torch.float64))
    results = lime("auto", 5, hsi=[cube(), flat], model=lambda x: x.sum((1, 2, 3))[:, None].exp(), tolerance=0.02)
    samples = [one.effects.samples for one in results]
    assert samples[0] > samples[1] >= 64
    for one in results:
        assert one.effects.standard_errors.max() <= 0.02 * one.effects.values.abs().max()


# ---------------------------------------------------------------- going on


def going_on(first: int = 15, then: int = 60, **arguments: Any) -> tuple[Any, Any, Any]:
    """An earlier run, what continues it, and one long run."""
    arguments.setdefault("standard_errors", 20)
    earlier = exact(first, 7, **arguments)
    later = exact(then, **arguments, continue_from=earlier)
    return earlier, later, exact(then, 7, **arguments)


def flat(results: Any) -> list[Any]:
    return [one for part in results for one in flat(part)] if isinstance(results, list) else [results]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"target": "all"},
        {"target": [2, -3], "per_target": True},
        {"hsi": [whole_cube(), whole_cube(1)], "target": [0, 2]},
        {"hsi": [whole_cube(), whole_cube(1)], "target": "all"},
        {"hsi": [whole_cube()], "mask": [SEGMENTS]},
        {"baseline": 2.0},
        {"baseline": whole_cube(4).image},
        {"surrogate": Recorder(), "standard_errors": False},
        {"surrogate": SkLearnLasso(alpha=0.01)},
        {"model": lambda x: EXACT(x)[:, :1], "target": "all"},
        {"model": lambda x: EXACT(x)[:, 0], "target": None},
        {"model": lambda x: EXACT(x)[:, 0], "target": "all"},
        {"perturbations_per_eval": 3},
    ],
    ids=lambda arguments: ", ".join(map(str, arguments)),
)
def test_what_goes_on_is_one_long_run(arguments: dict[str, Any]) -> None:
    earlier, later, long = map(flat, going_on(**arguments))
    assert len(later) == len(long) == len(earlier)
    for one, other in zip(later, long, strict=True):
        assert one == other
        assert (one.effects.samples, one.effects.seed) == (60, other.effects.seed)
    images = len(arguments.get("hsi", [None]))
    new = sum(
        len(long[i * len(long) // images].effects.coalitions) - len(earlier[i * len(long) // images].effects.coalitions)
        for i in range(images)
    )
    assert later[0].report.evaluations == new > 0
    assert later[0].report.evaluations_verifying >= images


def test_only_new_samples_are_asked_for() -> None:
    model = Watched(EXACT)
    earlier = exact(15, 7, model)
    before = sum(model.sizes)
    later = exact(60, model=model, continue_from=earlier)
    assert sum(model.sizes) - before == evaluated(later.report)
    assert later.report.evaluations == len(later.effects.coalitions) - len(earlier.effects.coalitions)


def test_it_goes_on_more_than_once() -> None:
    runs = [exact(1, 7)]
    for n in (2, 3, 20, 60):
        runs.append(exact(n, continue_from=runs[-1]))
    assert runs[-1] == exact(60, 7)


def test_superbands_go_on_and_so_do_user_weights() -> None:
    kernel = get_exp_kernel_similarity_function("euclidean", 3.0)
    for similarity in (None, lambda *images, **named: kernel(*images, **named)):
        explainer = Lime(explainable(EXACT), SkLearnRidge(alpha=0.1), similarity)
        torch.manual_seed(4)
        earlier = explainer.get_spectral_attributes(whole_cube(), GROUPS, target=0, n_samples=5)
        later = explainer.get_spectral_attributes(whole_cube(), GROUPS, target=0, n_samples=50, continue_from=earlier)
        torch.manual_seed(4)
        assert later == explainer.get_spectral_attributes(whole_cube(), GROUPS, target=0, n_samples=50)


def test_until_a_tolerance() -> None:
    earlier = exact(100, 7)
    later = exact("auto", continue_from=earlier, tolerance=0.05)
    assert torch.equal(later.attributes, exact("auto", 7, tolerance=0.05).attributes)


def test_fewer_samples_are_those_of_a_shorter_run() -> None:
    shorter = exact(10, continue_from=exact(60, 7))
    assert torch.equal(shorter.attributes, exact(10, 7).attributes)
    assert shorter.effects.samples == 10


def test_the_same_mask_in_another_dtype_goes_on() -> None:
    assert torch.equal(
        exact(60, mask=PIXELS.to(torch.uint8), continue_from=exact(15, 7)).attributes, exact(60, 7).attributes
    )


def test_backgrounds_go_on() -> None:
    backgrounds = Background(values(9, shape=(3, len(WAVELENGTHS))).round())
    earlier, later, long = going_on(baseline=backgrounds)
    assert later == long
    assert later.report.evaluations == 3 * (len(long.effects.coalitions) - len(earlier.effects.coalitions))


def test_images_with_nan_under_their_mask_go_on() -> None:
    mask = torch.arange(12).reshape(1, ROWS, COLUMNS) > 0
    images = [cube(image=whole_cube().image.masked_fill(~mask, float("nan")), binary_mask=mask) for _ in range(2)]
    torch.manual_seed(7)
    earlier = exact(15, hsi=images[0])
    later, long = exact(60, hsi=images[1], continue_from=earlier), exact(60, 7, hsi=images[0])
    assert torch.equal(later.attributes, long.attributes)
    assert later.effects == long.effects


def test_global_random_numbers_are_not_needed() -> None:
    earlier = exact(15, 7)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    exact(30, continue_from=earlier)
    assert torch.equal(torch.get_rng_state(), state)


def other_model(x: torch.Tensor) -> torch.Tensor:
    return EXACT(x) * 1.1


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"hsi": whole_cube(1)}, ValueError, "image"),
        ({"hsi": cube(binary_mask=torch.arange(12).reshape(1, ROWS, COLUMNS) > 0)}, ValueError, "image"),
        ({"mask": PIXELS // 2}, ValueError, "features"),
        ({"mask": PIXELS.flip(0)}, ValueError, "features"),
        ({"mask": PIXELS + 1}, ValueError, "features"),
        ({"target": 1}, ValueError, "target"),
        ({"target": "all"}, ValueError, "target|outputs"),
        ({"target": [0, 1], "per_target": True}, ValueError, "target"),
        ({"baseline": 0.5}, ValueError, "0.5"),
        ({"baseline": values(5)}, ValueError, "image"),
        ({"model": other_model}, ValueError, "model"),
        ({"hsi": [whole_cube(), whole_cube()]}, ValueError, "2 images"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else None,
)
def test_another_call_is_refused(changed: dict[str, Any], error: type[Exception], words: str) -> None:
    earlier = exact(15, 7)
    with pytest.raises(error, match=words):
        exact(30, continue_from=earlier, **changed)


@pytest.mark.parametrize("method", [Lime, KernelShap, ShapleyValueSampling])
def test_an_image_that_holds_the_baseline_goes_on(method: Any) -> None:
    hsi = cube(image=torch.zeros(SHAPE, dtype=torch.float64))
    explainer = method(explainable(EXACT))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one sample
        earlier = explainer.get_spatial_attributes(hsi, PIXELS, target=0)
        later = explainer.get_spatial_attributes(hsi, PIXELS, target=0, continue_from=earlier)
    assert later == earlier
    assert later.report.evaluations == 0
    assert not later.attributes.any()


def test_a_baseline_of_the_same_kind_is_told_apart() -> None:
    """By its outputs: two spectra have the same name."""
    earlier = exact(15, 7, baseline=values(4))
    with pytest.raises(ValueError, match="baseline"):
        exact(30, baseline=values(5), continue_from=earlier)


def test_orders_of_outputs_are_told_apart() -> None:
    earlier = exact(15, 7, target=[2, 1, 0], per_target=True)
    with pytest.raises(ValueError, match="target"):
        exact(30, target="all", continue_from=earlier)
    same = exact(15, 7, target=[0, 1, 2], per_target=True)
    assert exact(30, target="all", continue_from=same) == exact(30, 7, target="all")


def test_results_of_other_methods_and_calls() -> None:
    hsi = whole_cube()
    for method in (KernelShap, ShapleyValueSampling):
        other = method(explainable(EXACT)).get_spatial_attributes(hsi, PIXELS, target=0)
        with pytest.raises(ValueError, match="Shap"):
            exact(30, continue_from=other)
    with pytest.raises(ValueError, match="different calls"):
        exact(30, hsi=[whole_cube(), whole_cube()], continue_from=[exact(15, 7), exact(15, 8)])
    without = exact(15, 7)
    without.effects = None
    with pytest.raises(TypeError, match="continue_from"):
        exact(30, continue_from=without)


def test_samples_of_the_user_do_not_go_on() -> None:
    explainer = Lime(explainable(EXACT), perturb_func=lambda original, **named: torch.ones(1, 6))
    with pytest.raises(ValueError, match="perturb_func"):
        explainer.get_spatial_attributes(whole_cube(), PIXELS, target=0, continue_from=exact(15, 7))


def test_float32_models_may_round_in_other_batches() -> None:
    torch.manual_seed(7)
    explainer = Lime(explainable(convolutional(dtype=torch.float32)), SkLearnRidge(alpha=0.1))
    hsi = cube(dtype=torch.float32)
    torch.manual_seed(7)
    earlier = explainer.get_spatial_attributes(hsi, PIXELS, target=0, n_samples=25, perturbations_per_eval=7)
    later = explainer.get_spatial_attributes(hsi, PIXELS, target=0, n_samples=60, continue_from=earlier)
    torch.manual_seed(7)
    long = explainer.get_spatial_attributes(hsi, PIXELS, target=0, n_samples=60)
    torch.testing.assert_close(later.attributes, long.attributes, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- what results say of their features


def test_effects_of_a_call() -> None:
    result = lime(40, 3, mask=SEGMENTS, standard_errors=20)
    effects = result.effects
    assert effects.ids.tolist() == [0, 5, 7]
    assert effects.values.dtype == torch.float64
    for n, number in enumerate(effects.ids):
        assert (result.attributes[:, number == SEGMENTS] == effects.values[n]).all()
    assert (effects.score, effects.exact, effects.samples) == (result.score, False, 40)
    assert (effects.interactions, effects.baseline_output, effects.output) == (None, None, None)
    assert effects.coalitions.dtype == torch.uint8
    kept = torch.cat([effects.coalitions.bool(), torch.ones(len(effects.coalitions), 1, dtype=torch.bool)], dim=1)
    number = torch.tensor([0, 0, 1, 0, 1, 1, 3, 1, 2, 2, 2, 2]).reshape(ROWS, COLUMNS)
    with torch.no_grad():
        outputs = MODEL(torch.where(kept[:, number][:, None], cube().image, 0.0))[:, 0]
    torch.testing.assert_close(effects.outputs, outputs, rtol=0, atol=1e-12)


def test_effective_samples_count_weights() -> None:
    """Kish: equal weights count each distinct sample once."""
    explainer = Lime(explainable(MODEL), SkLearnRidge(alpha=0.1), lambda *images, **named: 0.5)
    effects = explainer.get_spatial_attributes(cube(), PIXELS // 3, target=0, n_samples=500).effects
    counts = 500 / effects.effective_samples
    assert 1 / 4 <= counts / 500 <= 1 / 3.8, "four coalitions, about as often each"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert lime(1).effects.effective_samples == pytest.approx(1)


def made(**fields: Any) -> FeatureEffects:
    return FeatureEffects(
        **{"ids": torch.tensor([3, 5, 9]), "values": torch.tensor([0.5, -2.0, 0.5], dtype=torch.float64), **fields}
    )


def test_ranking() -> None:
    assert made().ranking().tolist() == [5, 3, 9]
    effects = lime(40, 3).effects
    assert torch.equal(effects.ranking(), effects.ids[np.argsort(-effects.values.abs().numpy(), kind="stable")])


def test_words() -> None:
    text = repr(lime(40, 3, standard_errors=20).effects)
    assert "6 features" in text
    assert "40 samples" in text
    assert "R2" in text
    assert "take 0" in text
    assert "exact" not in text
    assert "exact" in repr(made(exact=True))
    assert "\n" not in text


def test_equality() -> None:
    assert made() == made()
    assert made() != made(samples=2)
    assert made(score=float("nan")) == made(score=float("nan"))
    assert made() != "effects"
    assert set(made().to_dict()) >= {"ids", "values", "coalitions", "outputs", "missing"}
    with pytest.raises(TypeError):
        hash(made())
