"""HyperSHAP: values against the definition, names, what is refused, and when shap is imported."""

from __future__ import annotations

import importlib
import itertools
import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shap
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression

import meteors_c
from meteors_c.models import ExplainableModel
from meteors_c.shap import HyperSHAP, SHAPExplanation

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = np.array([[2.0, -1.0, 0.5, 3.0], [0.0, 1.0, -4.0, 0.25]]).T  # (features, outputs)


def table(rows: int, features: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, features))


BACKGROUND, ROWS = table(12), table(5, seed=1)


def regression(function) -> ExplainableModel:
    return ExplainableModel(function, "regression")


def values_of(explanation: SHAPExplanation) -> np.ndarray:
    return np.asarray(explanation.explanations.values)


def by_definition(function, background: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Shapley values of one row, (features,): the mean over all orders of the features of what each adds."""
    count = len(row)

    def value(coalition: tuple[int, ...]) -> float:
        mixed = background.copy()
        mixed[:, list(coalition)] = row[list(coalition)]
        return float(function(mixed).mean())

    total = np.zeros(count)
    for order in itertools.permutations(range(count)):
        for place, feature in enumerate(order):
            total[feature] += value(order[: place + 1]) - value(order[:place])
    return total / math.factorial(count)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("explainer_type", ["exact", "EXACT", "kernel"])
def test_a_game_of_three_players_by_hand(explainer_type):
    """With a background of zeros, v is 1 where the first three features are present: a third each."""
    model = regression(lambda x: x[:, 0] * x[:, 1] * x[:, 2])
    explanation = HyperSHAP(model, np.zeros((1, 4)), explainer_type).explain(np.ones(4))
    np.testing.assert_allclose(values_of(explanation), [[1 / 3, 1 / 3, 1 / 3, 0]], atol=1e-10)
    assert explanation.explanation_method == explainer_type.lower()


@pytest.mark.parametrize("explainer_type", ["exact", "kernel"])
def test_the_definition(explainer_type):
    def function(x):
        return np.sin(3 * x[:, 0]) * x[:, 1] + x[:, 2] ** 2 * x[:, 3] * x[:, 0]

    explainer = HyperSHAP(regression(function), BACKGROUND, explainer_type)
    explanation = explainer.explain(ROWS)
    expected = np.stack([by_definition(function, BACKGROUND, row) for row in ROWS])
    np.testing.assert_allclose(values_of(explanation), expected, atol=1e-9)
    np.testing.assert_allclose(explanation.base_values_table(), np.full((5, 1), function(BACKGROUND).mean()))
    np.testing.assert_allclose(
        values_of(explanation).sum(1) + explanation.base_values_table()[:, 0], function(ROWS), atol=1e-9
    )


def linear_models():
    weights, one = WEIGHTS, WEIGHTS[:, 0]
    network = torch.nn.Linear(4, 2, dtype=torch.float64)
    with torch.no_grad():
        network.weight[:] = torch.from_numpy(WEIGHTS.T)
    return {
        "exact": ("exact", lambda x: x @ one),
        "exact, one column": ("exact", lambda x: (x @ one)[:, None]),
        "exact, two outputs": ("exact", lambda x: x @ weights),
        "exact, network": ("exact", network),
        "kernel": ("kernel", lambda x: x @ one),
        "kernel, one column": ("kernel", lambda x: (x @ one)[:, None]),
        "kernel, two outputs": ("kernel", lambda x: x @ weights),
        "kernel, network": ("kernel", network),
        "linear": ("linear", LinearRegression().fit(BACKGROUND, BACKGROUND @ one)),
        "linear, two outputs": ("linear", LinearRegression().fit(BACKGROUND, BACKGROUND @ weights)),
        "exact, estimator": ("exact", LinearRegression().fit(BACKGROUND, BACKGROUND @ one)),
    }


@pytest.mark.parametrize("name", list(linear_models()))
@pytest.mark.parametrize("rows", [1, 5])
def test_linear_models(name, rows):
    """The value of a feature is weight * (x - mean), for every kind of output and number of rows."""
    explainer_type, function = linear_models()[name]
    explanation = HyperSHAP(regression(function), BACKGROUND, explainer_type).explain(ROWS[:rows])
    expected = WEIGHTS * (ROWS[:rows] - BACKGROUND.mean(0))[:, :, None]
    outputs = explanation.num_target_outputs
    assert outputs == (2 if "two" in name or "network" in name else 1)
    found = values_of(explanation).reshape(rows, 4, outputs)
    np.testing.assert_allclose(found, expected[:, :, :outputs], atol=1e-9)
    assert explanation.base_values_table().shape == (rows, outputs)
    assert explanation.is_local_explanation is (rows == 1)


@pytest.mark.parametrize(
    ("model", "outputs"),
    [
        (RandomForestRegressor(4, random_state=0).fit(BACKGROUND, BACKGROUND @ WEIGHTS[:, 0]), 1),
        (RandomForestClassifier(4, random_state=0).fit(BACKGROUND, np.arange(12) % 3), 3),
    ],
    ids=["regressor", "classifier"],
)
@pytest.mark.parametrize("masker", [BACKGROUND, None], ids=["background", "no background"])
def test_trees(model, outputs, masker):
    explanation = HyperSHAP(regression(model), masker, "tree").explain(ROWS)
    assert explanation.num_target_outputs == outputs
    predicted = model.predict_proba(ROWS) if outputs > 1 else model.predict(ROWS)[:, None]
    sums = values_of(explanation).reshape(5, 4, outputs).sum(1) + explanation.base_values_table()
    np.testing.assert_allclose(sums, predicted, atol=1e-9)
    if masker is not None and outputs == 1:
        expected = by_definition(model.predict, BACKGROUND, ROWS[0])
        np.testing.assert_allclose(values_of(explanation)[0], expected, atol=1e-6)  # shap sums in float32


def test_exact_means_all_coalitions_of_up_to_fifteen_features():
    background, rows = table(2, 15), table(1, 15, seed=1)

    def function(x):
        return x[:, 11] * x[:, 12] * x[:, 13] + x[:, 14]

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        explainer = HyperSHAP(regression(function), background)
    assert isinstance(explainer._explainer, shap.explainers.Exact)
    explanation = explainer.explain(rows)
    assert explanation.explanation_method == "exact"

    def of_the_last(x):
        return x[:, 0] * x[:, 1] * x[:, 2] + x[:, 3]

    expected = by_definition(of_the_last, background[:, 11:], rows[0, 11:])
    np.testing.assert_allclose(values_of(explanation)[0, 11:], expected, atol=1e-9)
    np.testing.assert_allclose(values_of(explanation)[0, :11], 0, atol=1e-12)


@pytest.mark.parametrize("features", [16, 300])
def test_more_features_are_sampled_with_a_warning(features):
    background, rows, weights = table(3, features), table(2, features, seed=1), np.arange(1.0, features + 1)
    with pytest.warns(UserWarning, match=f"estimates.*{features}") as caught:
        explainer = HyperSHAP(regression(lambda x: x @ weights), background)
    assert caught[0].filename == __file__
    explanation = explainer.explain(rows)
    assert explanation.explanation_method == "permutation"
    np.testing.assert_allclose(values_of(explanation), weights * (rows - background.mean(0)), atol=1e-8)


def test_kernel_selects_no_features():
    weights = np.arange(1.0, 31)
    background, rows = table(3, 30), table(2, 30, seed=1)
    explanation = HyperSHAP(regression(lambda x: x @ weights), background, "kernel").explain(rows)
    np.testing.assert_allclose(values_of(explanation), weights * (rows - background.mean(0)), atol=1e-9)


@pytest.mark.parametrize("explainer_type", ["exact", "kernel"])
def test_features_equal_to_the_background_get_zero(explainer_type):
    explainer = HyperSHAP(regression(lambda x: np.prod(x + 1, axis=1)), ROWS[:1], explainer_type)
    assert not values_of(explainer.explain(ROWS[0])).any()
    changed = ROWS[0].copy()
    changed[2] += 1
    found = values_of(explainer.explain(changed))[0]
    assert found[2] == pytest.approx(np.prod(changed + 1) - np.prod(ROWS[0] + 1))
    assert not np.delete(found, 2).any()


@pytest.mark.parametrize("explainer_type", ["exact", "linear", "tree", "kernel"])
def test_a_background_of_which_shap_drops_rows_is_warned_of(explainer_type):
    background = table(150)
    estimator = RandomForestRegressor(3) if explainer_type == "tree" else LinearRegression()
    estimator.fit(background, background @ WEIGHTS[:, 0])
    model = regression(estimator.predict if explainer_type in ("exact", "kernel") else estimator)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        HyperSHAP(model, background, explainer_type)
    about = [str(one.message) for one in caught if "of the 150 rows" in str(one.message)]
    assert len(about) == (explainer_type != "kernel")  # which keeps them all

    everything = shap.maskers.Independent(background, max_samples=150)
    if explainer_type in ("exact", "linear"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            explainer = HyperSHAP(model, everything, explainer_type)
        expected = WEIGHTS[:, 0] * (ROWS - background.mean(0))
        np.testing.assert_allclose(values_of(explainer.explain(ROWS)), expected, atol=1e-9)


def test_the_same_twice_and_the_generators_are_left_alone():
    explainer = HyperSHAP(regression(lambda x: x.prod(1)), table(50))
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first, second = explainer.explain(ROWS), explainer.explain(ROWS)
    assert first == second
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


def test_a_network_is_called_in_its_dtype_without_gradients_and_stays_as_it_is():
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh()).eval()
    kept = [parameter.detach().clone() for parameter in network.parameters()]
    seen = []
    network.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].dtype, output.requires_grad)))
    explanation = HyperSHAP(regression(network), torch.tensor(BACKGROUND)).explain(torch.tensor(ROWS))
    assert set(seen) == {(torch.float32, False)}
    assert all(map(torch.equal, kept, network.parameters()))
    assert all(parameter.grad is None for parameter in network.parameters())
    with torch.no_grad():
        outputs = network(torch.tensor(ROWS, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(values_of(explanation).sum(1) + explanation.base_values_table(), outputs, atol=1e-6)


def test_functions_and_methods_that_run_a_network_are_given_arrays():
    class Network(torch.nn.Linear):
        def predict(self, x):
            assert isinstance(x, np.ndarray)
            with torch.no_grad():
                return self(torch.from_numpy(x)).numpy()

    network = Network(4, 2, dtype=torch.float64)
    first = np.arange(2) == 0
    with pytest.warns(UserWarning, match="postprocessing"):
        models = [ExplainableModel(network, "regression", lambda y: y[:, 0] if y.ndim == 2 else y)]
    models += [regression(lambda x: network.predict(x)[:, 0]), regression(lambda x: network.predict(x) @ first)]
    expected = network.weight.detach().numpy()[0] * (ROWS - BACKGROUND.mean(0))
    for model in models:
        np.testing.assert_allclose(values_of(HyperSHAP(model, BACKGROUND).explain(ROWS)), expected, atol=1e-12)
    assert HyperSHAP(regression(network.predict), BACKGROUND).explain(ROWS).num_target_outputs == 2


# ---------------------------------------------------------------- data and names


@pytest.mark.parametrize(
    "convert",
    [
        lambda rows: rows,
        lambda rows: torch.tensor(rows, requires_grad=True),
        lambda rows: rows.tolist(),
        lambda rows: pd.DataFrame(rows),
        lambda rows: np.asfortranarray(rows),
    ],
    ids=["array", "tensor", "list", "frame", "array by columns"],
)
@pytest.mark.parametrize("explainer_type", ["exact", "kernel", "linear"])
def test_types_of_data_make_no_difference(convert, explainer_type):
    model = regression(LinearRegression().fit(BACKGROUND, BACKGROUND @ WEIGHTS[:, 0]))
    if explainer_type != "linear":
        model = regression(model.forward_func.predict)
    explainer = HyperSHAP(model, BACKGROUND, explainer_type)
    rows = ROWS.astype(np.float32).astype(np.float64)
    explanation = explainer.explain(convert(rows))
    assert isinstance(explanation.data, np.ndarray)
    np.testing.assert_allclose(values_of(explanation), values_of(explainer.explain(rows)), atol=1e-12)
    one = explainer.explain(convert(rows)[0] if not hasattr(convert(rows), "iloc") else convert(rows).iloc[0])
    np.testing.assert_allclose(values_of(one), values_of(explanation)[:1], atol=1e-12)


@pytest.mark.parametrize("explainer_type", ["exact", "kernel", "linear", "tree"])
def test_columns_become_names(explainer_type):
    names = ["B2", "B3", "B4", "B8"]
    estimator = LinearRegression() if explainer_type == "linear" else RandomForestRegressor(3, random_state=0)
    estimator.fit(BACKGROUND, BACKGROUND[:, 0])
    model = regression(estimator.predict if explainer_type in ("exact", "kernel") else estimator)
    frame, rows = pd.DataFrame(BACKGROUND, columns=names), pd.DataFrame(ROWS, columns=names)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X has feature names")
        from_masker = HyperSHAP(model, frame, explainer_type)
        from_data = HyperSHAP(model, BACKGROUND, explainer_type)
        for explanation in (
            from_masker.explain(ROWS),
            from_masker.explain(rows),
            from_masker.explain(rows.iloc[0]),
            from_data.explain(rows),
        ):
            assert explanation.feature_names == names
        assert from_data.explain(ROWS).feature_names in (None, [f"Feature {index}" for index in range(4)])


def test_columns_in_another_order_are_refused_and_other_names_warn():
    frame = pd.DataFrame(BACKGROUND, columns=list("abcd"))
    explainer = HyperSHAP(regression(lambda x: np.asarray(x) @ WEIGHTS[:, 0]), frame)
    with pytest.raises(ValueError, match="order"):
        explainer.explain(pd.DataFrame(ROWS, columns=list("bacd")))
    with pytest.warns(UserWarning, match="columns"):
        explanation = explainer.explain(pd.DataFrame(ROWS, columns=list("efgh")))
    assert explanation.feature_names == list("abcd")


def test_names_given_to_shap_are_kept():
    model = regression(lambda x: x @ WEIGHTS[:, 0])
    assert HyperSHAP(model, BACKGROUND, feature_names=np.array(list("pqrs"))).explain(ROWS).feature_names == list(
        "pqrs"
    )
    masker = shap.maskers.Independent(pd.DataFrame(BACKGROUND, columns=list("abcd")), max_samples=5)
    assert HyperSHAP(model, masker).explain(ROWS).feature_names == list("abcd")


# ---------------------------------------------------------------- what is refused


def test_wrong_arguments():
    model = regression(lambda x: x.sum(1))
    with pytest.raises(TypeError, match="ExplainableModel"):
        HyperSHAP(lambda x: x, BACKGROUND)  # type: ignore[arg-type]
    for wrong in ("deep", None, 3, ""):
        with pytest.raises(ValueError, match="exact, tree, kernel, linear"):
            HyperSHAP(model, BACKGROUND, wrong)
    explainer = HyperSHAP(model, BACKGROUND, "Kernel")
    assert (explainer.explainer_type, explainer.explainable_model) == ("kernel", model)
    assert repr(explainer).startswith("HyperSHAP(ExplainableModel(")


def test_what_shap_refuses():
    with pytest.raises(ValueError, match="Could not initialize the linear explainer"):
        HyperSHAP(regression(lambda x: x), BACKGROUND, "linear")
    with pytest.raises(ValueError, match="Could not initialize"):
        HyperSHAP(regression(lambda x: x), None)

    def broken(x):
        raise KeyError("spectra")

    with pytest.raises(ValueError, match=r"Could not generate.*spectra") as caught:
        HyperSHAP(regression(broken), BACKGROUND).explain(ROWS)
    assert isinstance(caught.value.__cause__, KeyError)


def test_interrupts_are_not_errors_of_the_data():
    def interrupted(x):
        raise KeyboardInterrupt

    explainer = HyperSHAP(regression(interrupted), BACKGROUND)
    with pytest.raises(KeyboardInterrupt):
        explainer.explain(ROWS)


@pytest.mark.parametrize("explainer_type", ["exact", "kernel"])
@pytest.mark.parametrize("shape", [(3, 5), (3,), (2, 3), (2, 4, 1)])
def test_other_numbers_of_features_are_refused(explainer_type, shape):
    explainer = HyperSHAP(regression(lambda x: x.sum(1)), BACKGROUND, explainer_type)
    with pytest.raises(ValueError, match=r"Could not generate.*4"):
        explainer.explain(np.ones(shape))


def test_no_observations_are_refused():
    with pytest.raises(ValueError, match="Could not generate"):
        HyperSHAP(regression(lambda x: x.sum(1)), BACKGROUND).explain(np.ones((0, 4)))


@pytest.mark.parametrize("data", ["spectra", None, np.array([True] * 4)])
def test_data_that_is_no_number_is_refused(data):
    with pytest.raises(TypeError, match="Expected NumPy array"):
        HyperSHAP(regression(lambda x: x.sum(1)), BACKGROUND).explain(data)


# ---------------------------------------------------------------- the package


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_heavy_is_imported_before_it_is_used():
    code = (
        "import sys, meteors_c; meteors_c.shap.HyperSHAP; meteors_c.visualize.force; "
        "import meteors_c.shap.shap, meteors_c.shap.explainer, meteors_c.visualize.shap_visualize; "
        "print([name for name in ('shap', 'numba', 'pandas', 'sklearn') if name in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_without_shap_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(ImportError, match=r"pip install \"meteors_c\[shap\]\""):
        HyperSHAP(regression(lambda x: x.sum(1)), BACKGROUND)
    with pytest.raises(ImportError, match=r"meteors_c\[shap\]"):
        SHAPExplanation(data=ROWS, explanations=None)


def test_names_in_modules():
    assert meteors_c.shap is importlib.import_module("meteors_c.shap")
    assert "shap" in dir(meteors_c)
    assert importlib.import_module("meteors_c.shap.explainer").HyperSHAP is HyperSHAP
    assert importlib.import_module("meteors_c.shap.shap").SHAPExplanation is SHAPExplanation
