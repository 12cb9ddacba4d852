"""Interpretable linear models: the solutions of scikit-learn, the protocol of loaders, and what is refused."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import linear_model
from torch.utils.data import DataLoader, TensorDataset

from meteors_c import _core
from meteors_c.models import (
    SkLearnLasso,
    SkLearnLinearModel,
    SkLearnLinearRegression,
    SkLearnLogisticRegression,
    SkLearnRidge,
    SkLearnSGDClassifier,
)

Problem = tuple[np.ndarray, np.ndarray, np.ndarray]
ESTIMATORS = {
    "lasso": (SkLearnLasso, linear_model.Lasso),
    "ridge": (SkLearnRidge, linear_model.Ridge),
    "least_squares": (SkLearnLinearRegression, linear_model.LinearRegression),
}
KINDS = sorted(ESTIMATORS)


def loader(*arrays: Any, batch_size: int = 7, dtype: torch.dtype = torch.float64) -> DataLoader[Any]:
    tensors = [torch.as_tensor(array) for array in arrays]
    floats = [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors]
    # A loader draws from torch's generator unless it has its own.
    return DataLoader(TensorDataset(*floats), batch_size=batch_size, generator=torch.Generator())


def problem(rows: int = 30, features: int = 4, outputs: int = 1, seed: int = 0) -> Problem:
    """Numbers that are determined by their rows, with noise: x, y, weight."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features))
    y = x @ rng.normal(size=(features, outputs)) + 0.3 * rng.normal(size=(rows, outputs)) + 2.0
    return x, y[:, 0] if outputs == 1 else y, rng.uniform(0.2, 2.0, rows)


def fit_core(kind: str, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None, **options: Any) -> Any:
    own = {"alpha": 0.0, "intercept": True, "positive": False, "max_iterations": 0, "tolerance": 0.0, **options}
    return _core.fit_linear(x, y.reshape(len(y), -1), weight, kind, **own)


def close(got: Any, want: Any, tolerance: float) -> bool:
    got, want = np.asarray(got), np.asarray(want)
    return bool(np.abs(got - want).max() <= tolerance * max(np.abs(want).max(), 1e-300))


# ---------------------------------------------------------------- the solutions of scikit-learn

problems = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "rows": st.integers(1, 40),
        "features": st.integers(1, 12),
        "outputs": st.integers(1, 3),
        "weights": st.sampled_from(["none", "counts", "kernel"]),
        "binary": st.booleans(),
        "columns": st.sampled_from(["free", "constant", "collinear"]),
        "intercept": st.booleans(),
        "alpha": st.sampled_from([0.0, 1e-4, 1e-2, 0.3, 10.0]),
        "positive": st.booleans(),
    }
)


def drawn(p: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    x, y, _ = problem(p["rows"], p["features"], p["outputs"], p["seed"])
    rng = np.random.default_rng(p["seed"])
    if p["binary"]:
        x = (x > 0).astype(float)
    if p["columns"] == "constant" and p["features"] > 1:
        x[:, -1] = 0.1
    elif p["columns"] == "collinear" and p["features"] > 2:
        x[:, 0], x[:, 1] = x[:, 2], x[:, 2] + 0.5 * x[:, -1]
    weight = {"none": None, "counts": rng.integers(0, 3, len(x)), "kernel": np.exp(-4 * rng.random(len(x)))}[
        p["weights"]
    ]
    if weight is not None and not weight.any():
        weight[0] = 1
    return x, y.reshape(len(y), -1), None if weight is None else weight.astype(float)


def centred(x: np.ndarray, weight: np.ndarray | None, intercept: bool) -> np.ndarray:
    share = np.full(len(x), 1 / len(x)) if weight is None else weight / weight.sum()
    return np.sqrt(share)[:, None] * (x - share @ x if intercept else x)


def objective(kind: str, alpha: float, rows: np.ndarray, y: np.ndarray, c: np.ndarray, total: float) -> np.ndarray:
    square = ((y - rows @ c.T) ** 2).sum(axis=0)
    penalties = {
        "lasso": (0.5, alpha * np.abs(c).sum(axis=1)),
        "ridge": (1.0, alpha / total * (c**2).sum(axis=1)),
        "least_squares": (1.0, 0.0),
    }
    factor, penalty = penalties[kind]
    return factor * square + penalty


@pytest.mark.parametrize("kind", KINDS)
@given(p=problems)
def test_solutions_are_those_of_sklearn(kind: str, p: dict[str, Any]) -> None:
    x, y, weight = drawn(p)
    positive = p["positive"] and kind == "lasso"
    got, intercepts, rank, converged = fit_core(
        kind, x, y, weight, alpha=p["alpha"], intercept=p["intercept"], positive=positive
    )
    assert converged
    if p["intercept"] and p["features"] > 1 and p["columns"] == "constant":
        # Such a column is 0 but for rounding in scikit-learn, which gives it large coefficients then.
        assert not got[:, -1].any()
        x, got = x[:, :-1], got[:, :-1]
    arguments: dict[str, Any] = {"fit_intercept": p["intercept"]}
    estimator = ESTIMATORS[kind][1]
    if kind == "lasso":
        arguments.update(alpha=p["alpha"], tol=1e-14, max_iter=20_000, positive=positive)
    elif kind == "ridge" and p["alpha"] > 0:
        arguments.update(alpha=p["alpha"])
    else:
        estimator = linear_model.LinearRegression  # its Ridge of collinear columns without a penalty is noise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where scikit-learn would take more sweeps, or asks for another estimator
        theirs = estimator(**arguments).fit(x, y, sample_weight=weight)
    want, intercept = theirs.coef_.reshape(got.shape), np.broadcast_to(theirs.intercept_, intercepts.shape)

    total = float(len(x) if weight is None else weight.sum())
    rows, values = centred(x, weight, p["intercept"]), centred(y, weight, p["intercept"])
    ours = objective(kind, p["alpha"], rows, values, got, total)
    assert (ours <= objective(kind, p["alpha"], rows, values, want, total) + 1e-12 * (values**2).sum(axis=0)).all()

    singular = np.linalg.svd(rows, compute_uv=False)
    full = len(singular) == x.shape[1] and singular[-1] > 1e-3 * singular[0]
    if full or kind != "lasso":
        scale = max(np.abs(want).max(), np.abs(y).max())
        # Scikit-learn reaches 1e-7 in a LASSO, and 1e-8 where its Cholesky factor of collinear columns loses digits.
        assert np.abs(got - want).max() <= 1e-6 * scale
        assert np.abs(intercepts - intercept).max() <= 1e-6 * scale * (1 + np.abs(x).max())
    if kind == "least_squares":
        assert rank == np.linalg.matrix_rank(rows, tol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("intercept", [True, False])
def test_digits_at_full_rank(kind: str, intercept: bool) -> None:
    x, y, weight = problem(200, 20, 2)
    arguments: dict[str, Any] = {} if kind == "least_squares" else {"alpha": 0.05}
    got, intercepts, *_ = fit_core(kind, x, y, weight, intercept=intercept, **arguments)
    if kind == "lasso":
        arguments.update(tol=1e-15, max_iter=100_000)
    theirs = ESTIMATORS[kind][1](fit_intercept=intercept, **arguments).fit(x, y, sample_weight=weight)
    assert close(got, theirs.coef_, 1e-10)
    assert not intercept or close(intercepts, theirs.intercept_, 1e-10)


@pytest.mark.parametrize("kind", ["ridge", "lasso"])
def test_no_penalty_is_least_squares(kind: str) -> None:
    for rows in (30, 5):
        x, y, weight = problem(rows, 8)
        assert close(fit_core(kind, x, y, weight)[0], fit_core("least_squares", x, y, weight)[0], 1e-12)


def test_duplicate_and_constant_columns() -> None:
    a = np.arange(6.0)
    x, y = np.stack([a, a, np.full(6, 0.1)], axis=1), 2 * a + 0.7
    coefficients, intercepts, rank, _ = fit_core("least_squares", x, y, None)
    np.testing.assert_allclose(coefficients, [[1, 1, 0]], atol=1e-13)
    assert coefficients[0, 2] == 0
    np.testing.assert_allclose(intercepts, [0.7], atol=1e-12)
    assert rank == 1


@pytest.mark.parametrize("kind", KINDS)
def test_large_constants_cost_no_digits(kind: str) -> None:
    x = np.round(problem()[0] * 64) / 64
    small = x @ np.array([1.0, 2.0, -3.0, 0.5])
    want = fit_core(kind, x, small, None, alpha=0.1)
    got = fit_core(kind, x, small + 2.0**27, None, alpha=0.1)
    assert close(got[0], want[0], 1e-12)
    np.testing.assert_allclose(got[1] - 2.0**27, want[1], atol=1e-7)


# ---------------------------------------------------------------- the models

COALITIONS = torch.tensor([[1.0, 1], [1, 0], [0, 1], [0, 0]]), torch.tensor([8.0, 6, 7, 5])


def test_two_players() -> None:
    model = SkLearnLinearRegression()
    assert model.linear is None
    assert model.norm is None
    assert model.bias() is None
    assert model.classes() is None
    result = model.fit(loader(*COALITIONS))
    assert set(result) == {"train_time"}
    torch.testing.assert_close(model.get_representation(), torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(model.bias(), torch.tensor([5.0]))
    torch.testing.assert_close(model(COALITIONS[0].double()), COALITIONS[1][:, None])
    assert model.get_representation().dtype == torch.float32
    assert not model.get_representation().requires_grad
    model = SkLearnLinearRegression(fit_intercept=False)
    model.fit(loader(*COALITIONS))
    torch.testing.assert_close(model.get_representation(), torch.tensor([[13 / 3, 16 / 3]]))
    torch.testing.assert_close(model.bias(), torch.tensor([0.0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("weighted", [True, False])
def test_models_are_those_of_sklearn(kind: str, dtype: torch.dtype, outputs: int, weighted: bool) -> None:
    x, y, weight = problem(outputs=outputs)
    ours, theirs = ESTIMATORS[kind]
    arguments = {} if kind == "least_squares" else {"alpha": 0.05}
    model = ours(**arguments)
    state = torch.get_rng_state()
    model.fit(loader(x, y, weight, dtype=dtype) if weighted else loader(x, y, dtype=dtype))
    assert torch.equal(torch.get_rng_state(), state)
    want = theirs(**arguments).fit(x, y, sample_weight=weight if weighted else None)
    assert model.get_representation().shape == (outputs, 4)
    assert close(model.get_representation(), np.atleast_2d(want.coef_), 1e-3 if kind == "lasso" else 1e-5)
    assert model.bias().shape == ((1,) if outputs == 1 else (1, outputs))
    assert close(model(torch.as_tensor(x)).detach(), want.predict(x).reshape(30, outputs), 1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_weights_and_repeated_rows(kind: str) -> None:
    x, y, _ = problem(12)
    counts = np.array([1, 0, 3, 2, 0, 1, 1, 4, 0, 2, 1, 1])
    arguments = {} if kind == "least_squares" else {"alpha": 0.05}
    weighted, repeated = ESTIMATORS[kind][0](**arguments), ESTIMATORS[kind][0](**arguments)
    weighted.fit(loader(x, y, counts))
    repeated.fit(loader(x.repeat(counts, axis=0), y.repeat(counts)))
    assert close(weighted.get_representation(), repeated.get_representation(), 1e-7)
    assert close(weighted.bias(), repeated.bias(), 1e-7)


def test_a_column_of_y_is_one_output() -> None:
    x, y, weight = problem()
    flat, column = SkLearnRidge(), SkLearnRidge()
    flat.fit(loader(x, y, weight))
    column.fit(loader(x, y[:, None], weight[:, None], batch_size=1))
    assert torch.equal(flat.get_representation(), column.get_representation())


@pytest.mark.parametrize("constant", [3.0, 0.1])
@pytest.mark.parametrize("kind", KINDS)
def test_constant_outputs(kind: str, constant: float) -> None:
    model = ESTIMATORS[kind][0]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(loader(problem()[0], np.full(30, constant)))
    assert not model.get_representation().any()
    torch.testing.assert_close(model.bias(), torch.tensor([constant]), rtol=0, atol=0)


def test_a_lasso_that_selects_nothing_warns() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0.0, 0.3])
    model = SkLearnLasso()
    with pytest.warns(UserWarning, match=r"alpha=1\.0.*0\.075"):
        model.fit(loader(x, y))
    assert not model.get_representation().any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SkLearnLasso(alpha=0.0749).fit(loader(x, y))
    with pytest.warns(UserWarning, match="coefficient"):  # by scikit-learn too
        SkLearnLasso(warm_start=True).fit(loader(x, y))
    with pytest.warns(UserWarning, match="coefficient"):
        SkLearnLasso(alpha=0.01, positive=True).fit(loader(x, -y))


def test_a_lasso_that_is_stopped_early_warns() -> None:
    x, y, _ = problem(20, 30)
    with pytest.warns(UserWarning, match="max_iter"):
        SkLearnLasso(alpha=1e-6, max_iter=1).fit(loader(x, y))


def test_inputs_can_be_standardised() -> None:
    x, y, weight = problem()
    x = np.concatenate([5 + 3 * x, np.full((30, 1), 0.1)], axis=1)
    model = SkLearnRidge(alpha=2.0)
    model.fit(loader(x, y, weight), norm_input=True)
    scaled = (x - x.mean(axis=0)) / np.append(x.std(axis=0)[:-1], 1.0)
    want = linear_model.Ridge(alpha=2.0).fit(scaled, y, sample_weight=weight)
    assert close(model.get_representation(), want.coef_[None], 1e-5)
    assert close(model(torch.as_tensor(x)).detach()[:, 0], want.predict(scaled), 1e-5)
    model.fit(loader(x, y, weight))
    assert model.norm is None


def test_weights_may_come_beside_the_loader() -> None:
    x, y, weight = problem()
    inside, beside = SkLearnRidge(), SkLearnRidge()
    inside.fit(loader(x, y, weight))
    beside.fit(loader(x, y), sample_weight=weight)
    assert torch.equal(inside.get_representation(), beside.get_representation())
    with pytest.raises(TypeError, match="sample_weight"):
        beside.fit(loader(x, y, weight), sample_weight=weight)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("model", [SkLearnLasso(alpha=0.01), SkLearnLogisticRegression()])
def test_models_can_be_copied(model: SkLearnLinearModel, copied: Any) -> None:
    x, y, _ = problem()
    copied(model).fit(loader(x, (y > 2).astype(np.int64)), norm_input=True)  # before it is fitted
    fitted = copied(model)
    fitted.fit(loader(x, (y > 2).astype(np.int64)), norm_input=True)
    again = copied(fitted)
    assert torch.equal(again(torch.as_tensor(x)), fitted(torch.as_tensor(x)))
    assert again.construct_kwargs == model.construct_kwargs
    assert (again.classes() is None) == (fitted.classes() is None)


# ---------------------------------------------------------------- classifiers and other estimators


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["LogisticRegression", "SGDClassifier"])
def test_classifiers(name: str, classes: int) -> None:
    x, y, weight = problem()
    labels = np.digitize(y, [1.5, 2.5][: classes - 1])
    arguments = {"random_state": 0}
    model = {"LogisticRegression": SkLearnLogisticRegression, "SGDClassifier": SkLearnSGDClassifier}[name](**arguments)
    model.fit(loader(x, labels, weight))
    want = getattr(linear_model, name)(**arguments).fit(x, labels, sample_weight=weight)
    assert close(model.get_representation(), want.coef_, 1e-6)
    assert close(model(torch.as_tensor(x)).detach().squeeze(1), want.decision_function(x), 1e-5)
    assert model.classes().tolist() == list(range(classes))
    assert not model.classes().is_floating_point()
    assert model.bias().shape == ((1,) if classes == 2 else (1, 3))


def test_other_estimators_of_sklearn() -> None:
    x, y, weight = problem()
    model = SkLearnLinearModel("linear_model.ElasticNet", alpha=0.01)
    model.fit(loader(x, y, weight))
    want = linear_model.ElasticNet(alpha=0.01).fit(x, y, sample_weight=weight)
    assert close(model.get_representation(), want.coef_[None], 1e-6)
    with pytest.warns(UserWarning, match="weights"):
        SkLearnLinearModel("linear_model.Lars").fit(loader(x, y, weight))
    with pytest.raises(TypeError, match="coef_"):
        SkLearnLinearModel("tree.DecisionTreeRegressor").fit(loader(x, y))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("ridge", {"solver": "svd"}),
        ("ridge", {"positive": True}),
        ("ridge", {"alpha": np.array([1.0])}),
        ("least_squares", {"positive": True}),
        ("lasso", {"warm_start": True, "alpha": 0.1}),
    ],
)
def test_arguments_for_sklearn(kind: str, arguments: dict[str, Any]) -> None:
    x, y, weight = problem()
    model = ESTIMATORS[kind][0](**arguments)
    assert model.core_fit() is None
    model.fit(loader(x, y, weight))
    want = ESTIMATORS[kind][1](**arguments).fit(x, y, sample_weight=weight)
    assert close(model.get_representation(), want.coef_[None], 1e-6)


def test_the_core_needs_no_sklearn() -> None:
    script = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import torch, meteors_c.models as m\n"
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "data = DataLoader(TensorDataset(torch.tensor([[0.], [1.]]), torch.tensor([0., 3.])))\n"
        "for model in (m.SkLearnLasso(alpha=.1, selection='random', random_state=0, precompute=True, copy_X=False),\n"
        "              m.SkLearnRidge(solver='auto', max_iter=5, tol=1e-3), m.SkLearnLinearRegression(n_jobs=2)):\n"
        "    model.fit(data)\n"
        "    assert model.get_representation().item() > 0\n"
        "for wrong in (lambda: m.SkLearnLasso(foo=1), m.SkLearnLogisticRegression, m.SkLearnSGDClassifier,\n"
        "              lambda: m.SkLearnRidge(solver='svd').fit(data)):\n"
        "    try:\n"
        "        wrong()\n"
        "    except (ImportError, TypeError) as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    lines = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    ).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["TypeError", "ImportError", "ImportError", "ImportError"]
    assert "foo" in lines[0]
    assert all("meteors_c[sklearn]" in line for line in lines[1:])


# ---------------------------------------------------------------- what a fit by somebody else needs


def test_core_fit_says_what_to_compute() -> None:
    assert SkLearnLasso(alpha=0.5, fit_intercept=False, positive=True, max_iter=9, tol=1e-3).core_fit() == {
        "kind": "lasso",
        "alpha": 0.5,
        "intercept": False,
        "positive": True,
        "max_iterations": 9,
        "tolerance": 1e-3,
    }
    assert SkLearnLasso().core_fit()["alpha"] == 1.0
    assert SkLearnRidge(alpha=np.float32(2)).core_fit() == {
        "kind": "ridge",
        "alpha": 2.0,
        "intercept": True,
        "positive": False,
        "max_iterations": 0,
        "tolerance": 0.0,
    }
    assert SkLearnLinearRegression().core_fit()["kind"] == "least_squares"
    assert SkLearnLogisticRegression().core_fit() is None
    assert SkLearnLinearModel("linear_model.Lasso", alpha=0.1).core_fit() == SkLearnLasso(alpha=0.1).core_fit()


def test_set_fitted_leaves_what_fit_does() -> None:
    x, y, weight = problem(outputs=2)
    fitted, told = SkLearnRidge(), SkLearnRidge()
    fitted.fit(loader(x, y, weight))
    coefficients, intercepts, *_ = fit_core(x=x, y=y, weight=weight, **told.core_fit())
    told.set_fitted(coefficients, intercepts)
    assert torch.equal(told.get_representation(), fitted.get_representation())
    assert torch.equal(told.bias(), fitted.bias())
    with pytest.raises(ValueError, match="float32"):
        told.set_fitted(np.array([[1e300]]), np.array([0.0]))


class OwnForward(SkLearnLasso):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class OwnFit(SkLearnLasso):
    def fit(self, train_data: DataLoader[Any], **kwargs: Any) -> dict[str, float]:
        return super().fit(train_data, **kwargs)


class OwnName(SkLearnLasso):
    pass


def test_subclasses_with_methods_of_their_own_are_left_alone() -> None:
    assert OwnForward(alpha=0.1).core_fit() is None
    assert OwnFit(alpha=0.1).core_fit() is None
    assert OwnName(alpha=0.1).core_fit() is not None
    replaced = SkLearnLasso(alpha=0.1)
    replaced.fit = lambda train_data: None
    assert replaced.core_fit() is None
