"""LIME's fits: what scikit-learn finds, degenerate ones, scores, and interpretable models of the user's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso, Ridge
from sklearn.metrics import r2_score

from meteors_c.attr import Lime
from meteors_c.models.linear import (
    SkLearnLasso,
    SkLearnLinearModel,
    SkLearnLinearRegression,
    SkLearnLogisticRegression,
    SkLearnRidge,
    SkLearnSGDClassifier,
)
from tests.attr.surrogates import Recorder, every_sample, least_squares
from tests.toys import (
    COLUMNS,
    ROWS,
    Linear,
    cube,
    explainable,
    smooth,
)

MODEL = smooth()
ROWS_OF_PIXELS = torch.arange(ROWS)[:, None].expand(ROWS, COLUMNS)


# ---------------------------------------------------------------- fits and scores


def fitted(surrogate: Any, model: Any = None, n_samples: int = 25, **arguments: Any) -> tuple[Any, Any]:
    """A result, and what a recording model gets in the same call."""
    recorder, results = Recorder(), []
    for one in (surrogate, recorder):
        torch.manual_seed(9)
        explainer = Lime(explainable(model or MODEL), one)
        results.append(
            explainer.get_spatial_attributes(cube(), ROWS_OF_PIXELS, target=0, n_samples=n_samples, **arguments)
        )
    return results[0], tuple(part.double().numpy() for part in recorder.fits[0])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: SkLearnLasso(alpha=0.003), Lasso(alpha=0.003, tol=1e-12, max_iter=100_000)),
        (lambda: SkLearnRidge(alpha=0.7), Ridge(alpha=0.7)),
        (lambda: SkLearnLasso(alpha=0.003, fit_intercept=False), Lasso(alpha=0.003, tol=1e-12, fit_intercept=False)),
        (lambda: SkLearnLasso(alpha=0.001, positive=True), Lasso(alpha=0.001, tol=1e-12, positive=True)),
    ],
    ids=["lasso", "ridge", "without intercept", "positive"],
)
def test_fits_are_those_of_scikit_learn(ours: Any, theirs: Any) -> None:
    result, (x, y, w) = fitted(ours())
    theirs.fit(x, y, sample_weight=w)
    np.testing.assert_allclose(result.effects.values, theirs.coef_, rtol=0, atol=1e-6)
    assert theirs.coef_.any()
    assert result.effects.intercept == pytest.approx(theirs.intercept_, abs=1e-6)
    predicted = theirs.predict(x)
    assert result.score == pytest.approx(r2_score(y, predicted), abs=1e-5)
    assert result.effects.weighted_score == pytest.approx(r2_score(y, predicted, sample_weight=w), abs=1e-5)


@pytest.mark.parametrize("constant", [3.0, 0.1, 0.0, 1e8 + 0.1])
@pytest.mark.parametrize(
    "surrogate", [SkLearnLinearRegression, SkLearnRidge, lambda: SkLearnLasso(alpha=0.08), Recorder]
)
def test_constant_outputs(surrogate: Any, constant: float) -> None:
    """Exactly 0 and a score of 1, whatever the constant; only a fit of the user's may miss it, and scores 0 then."""
    result, _ = fitted(surrogate(), lambda x: x.new_full((len(x), 2), constant))
    if surrogate is not Recorder:
        assert not result.attributes.any()
        assert result.score == result.effects.weighted_score == 1.0
        assert result.effects.intercept == constant
    assert result.score in (0.0, 1.0)
    assert result.effects.weighted_score in (0.0, 1.0)


def test_a_constant_that_is_missed_scores_0() -> None:
    class Wrong(Recorder):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x),), 5.0)

    result, _ = fitted(Wrong(), lambda x: x.new_full((len(x), 1), 0.1))
    assert (result.score, result.effects.weighted_score) == (0.0, 0.0)


@pytest.mark.parametrize("surrogate", [SkLearnLinearRegression, lambda: SkLearnLasso(alpha=0.08), Recorder])
def test_one_sample_has_no_score(surrogate: Any) -> None:
    with pytest.warns(UserWarning, match="samples"):
        result, _ = fitted(surrogate(), n_samples=1)
    assert np.isnan(result.score)
    assert np.isnan(result.effects.weighted_score)
    assert result.attributes.isfinite().all()


def test_a_lasso_that_keeps_nothing_warns() -> None:
    """y = 0.3 x is zero for every alpha from 0.075 on."""

    def model(x: torch.Tensor) -> torch.Tensor:
        return 0.3 * (x[:, 0, 0, 0] != 0).double()

    hsi, mask = cube(), torch.zeros(ROWS, COLUMNS, dtype=torch.long)
    explainer = Lime(explainable(model), perturb_func=every_sample(1, 2))
    with pytest.warns(UserWarning, match="alpha"):
        result = explainer.get_spatial_attributes(hsi, mask, n_samples=4)
    assert not result.attributes.any()


def test_too_few_samples_warn() -> None:
    with pytest.warns(UserWarning, match="take more samples"):
        Lime(explainable(MODEL)).get_spatial_attributes(cube(), torch.arange(12).reshape(ROWS, COLUMNS), target=0)


def test_underdetermined_fits_are_the_shortest() -> None:
    """Two features that are always alike share."""
    rows = torch.tensor([[1, 1], [0, 0], [1, 1], [0, 0]])

    def perturb(original: torch.Tensor, **named: Any) -> Any:
        yield from rows[:, None]

    mask = (ROWS_OF_PIXELS > 1).long()
    explainer = Lime(explainable(Linear()), SkLearnLinearRegression(), perturb_func=perturb)
    with pytest.warns(UserWarning, match="samples"):
        result = explainer.get_spatial_attributes(cube(), mask, target=0, n_samples=4)
    both = float((Linear().weight[0] * cube().image).sum())
    torch.testing.assert_close(result.effects.values, torch.full((2,), both / 2, dtype=torch.float64))


@pytest.mark.parametrize(("intercept", "wanted"), [(True, (1, 2)), (False, (13 / 3, 16 / 3))])
def test_intercepts_are_never_penalised(intercept: bool, wanted: tuple[float, float]) -> None:
    """Rows [1, 1], [1, 0], [0, 1], [0, 0] with 8, 6, 7, 5."""

    def model(x: torch.Tensor) -> torch.Tensor:
        kept = x[:, 0, [0, 3], 0] != 0
        return 5 + kept[:, 0] + 2.0 * kept[:, 1]

    for surrogate in (SkLearnLinearRegression(fit_intercept=intercept), SkLearnRidge(alpha=0, fit_intercept=intercept)):
        explainer = Lime(explainable(model), surrogate, lambda *images, **named: 1.0, perturb_func=every_sample(2))
        result = explainer.get_spatial_attributes(cube(), ROWS_OF_PIXELS // 2, n_samples=4)
        torch.testing.assert_close(result.effects.values, torch.tensor(wanted, dtype=torch.float64))
        assert result.effects.intercept == pytest.approx(5 if intercept else 0)


@pytest.mark.parametrize("surrogate", [SkLearnLinearRegression, lambda: SkLearnRidge(alpha=0.4), Recorder])
def test_integer_weights_are_repeated_rows(surrogate: Any) -> None:
    rows = torch.tensor(
        [[1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    )
    counts = torch.tensor([3, 1, 0, 2, 1, 4, 2])

    def found(samples: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        left = iter(weights.tolist())
        explainer = Lime(
            explainable(MODEL),
            surrogate(),
            lambda *images, **named: next(left),
            lambda original, **named: iter(samples),
        )
        return explainer.get_spatial_attributes(cube(), ROWS_OF_PIXELS, target=0, n_samples=len(samples)).attributes

    repeated = rows.repeat_interleave(counts, dim=0)
    torch.testing.assert_close(found(rows, counts), found(repeated, torch.ones(len(repeated))), rtol=0, atol=1e-8)


# ---------------------------------------------------------------- interpretable models


def test_every_lime_has_a_model_of_its_own() -> None:
    first, second = Lime(explainable(MODEL)), Lime(explainable(MODEL))
    assert isinstance(first.interpretable_model, SkLearnLasso)
    assert first.interpretable_model is not second.interpretable_model
    assert first.interpretable_model.construct_kwargs == {"alpha": 0.08}
    mine = SkLearnRidge(alpha=1.0)
    assert Lime(explainable(MODEL), mine).interpretable_model is mine


@pytest.mark.parametrize(
    "surrogate",
    [lambda: SkLearnRidge(alpha=0.1), Recorder, lambda: SkLearnLinearModel("linear_model.ElasticNet", alpha=1e-4)],
)
def test_the_model_holds_the_last_fit(surrogate: Any) -> None:
    explainer = Lime(explainable(MODEL), surrogate())
    result = explainer.get_spatial_attributes([cube(), cube(1)], ROWS_OF_PIXELS, target=0, n_samples=40)[1]
    found = explainer.interpretable_model.get_representation().double().reshape(-1)
    torch.testing.assert_close(found, result.effects.values, rtol=1e-6, atol=1e-7)


def test_the_protocol_of_interpretable_models() -> None:
    """One loader with one float32 batch for each image and output; then the representation and predictions."""
    recorder = Recorder()
    result = Lime(explainable(MODEL), recorder).get_spatial_attributes(
        [cube(), cube(1)], ROWS_OF_PIXELS, target="all", n_samples=40
    )
    assert len(recorder.fits) == 6
    for (x, y, w), one in zip(recorder.fits, [one for of in result for one in of], strict=True):
        values, intercept = least_squares(x, y, w)
        torch.testing.assert_close(one.effects.values, values, rtol=0, atol=1e-9)
        predicted = (x.double() @ values + intercept).numpy()
        assert one.score == pytest.approx(r2_score(y.numpy(), predicted), abs=1e-6)
        assert one.effects.weighted_score == pytest.approx(r2_score(y, predicted, sample_weight=w), abs=1e-6)


@pytest.mark.parametrize(
    ("representation", "predicted", "words"),
    [(torch.ones(1, 5), None, "coefficient"), (None, torch.ones(3), "samples")],
)
def test_interpretable_models_of_another_shape(representation: Any, predicted: Any, words: str) -> None:
    class Other(Recorder):
        def get_representation(self) -> torch.Tensor:
            return self.solution if representation is None else representation

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return super().__call__(x) if predicted is None else predicted

    with pytest.raises(ValueError, match=words):
        fitted(Other())


def test_outputs_that_float32_can_not_hold_warn() -> None:
    with pytest.warns(UserWarning, match="float32"):
        fitted(Recorder(), lambda x: MODEL(x) + 1e8)


@pytest.mark.parametrize(
    "surrogate", [lambda: SkLearnLogisticRegression(C=5.0), lambda: SkLearnSGDClassifier(random_state=0)]
)
def test_classifiers_of_scikit_learn(surrogate: Any) -> None:
    """For models that give classes: the first row decides, and has the largest coefficient."""

    def model(x: torch.Tensor) -> torch.Tensor:
        return (x[:, :, 0].abs().sum((1, 2)) > 1e-9).double()

    explainer = Lime(explainable(model), surrogate())
    result = explainer.get_spatial_attributes(cube(), ROWS_OF_PIXELS, n_samples=80)
    assert result.effects.ranking()[0] == 0
    assert result.effects.values[0] > 2 * result.effects.values[1:].abs().max()
    assert explainer.interpretable_model.classes().tolist() == [0, 1]


def test_arguments_that_the_core_does_not_take_go_to_scikit_learn() -> None:
    own, _ = fitted(SkLearnLasso(alpha=0.003))
    other, _ = fitted(SkLearnLasso(alpha=0.003, warm_start=True, tol=1e-10))
    torch.testing.assert_close(other.attributes, own.attributes, rtol=0, atol=1e-5)
    assert other.score == pytest.approx(own.score, abs=1e-4)


def test_something_else_as_interpretable_model() -> None:
    with pytest.raises(TypeError, match="interpretable_model"):
        Lime(explainable(MODEL), Lasso())
