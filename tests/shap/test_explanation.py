"""SHAPExplanation: shapes, base values, names of features, and what holds for every result."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import shap
import torch

from meteors_c.exceptions import ShapeMismatchError
from meteors_c.shap import SHAPExplanation
from meteors_c.shap.explainer import ensure_data_type_and_reshape

DATA = np.arange(12.0).reshape(4, 3)


def values(*shape: int, **fields) -> shap.Explanation:
    return shap.Explanation(values=np.arange(1.0, 1 + np.prod(shape)).reshape(shape), **fields)


@pytest.mark.parametrize(
    ("data", "shape", "outputs", "is_local"),
    [
        (DATA, (4, 3), 1, False),
        (DATA, (4, 3, 1), 1, False),
        (DATA, (4, 3, 2), 2, False),
        (DATA[:1], (1, 3), 1, True),
        (DATA[0], (1, 3, 2), 2, True),
        (np.zeros((4, 5, 3)), (4, 5, 3), 1, False),
        (np.zeros((1, 5, 3)), (1, 5, 3, 2), 2, False),
    ],
)
def test_shapes(data, shape, outputs, is_local):
    given = values(*shape)
    explanation = SHAPExplanation(data=data, explanations=given)
    assert explanation.explanations is given
    assert explanation.num_target_outputs == outputs
    assert explanation.is_local_explanation is is_local
    assert explanation.feature_names is None
    assert explanation.explanation_method is None


@pytest.mark.parametrize(
    ("shape", "base_values", "outputs"),
    [((3,), np.float64(7.0), 1), ((3, 1), np.array([7.0]), 1), ((3, 2), np.array([7.0, 8.0]), 2)],
)
def test_one_observation_gets_its_first_axis_and_the_object_given_stays(shape, base_values, outputs):
    given = values(*shape, base_values=base_values, data=DATA[0])
    explanation = SHAPExplanation(data=DATA[0], explanations=given)
    whole = explanation.explanations
    assert whole.values.shape == (1, *shape)
    assert whole.data.shape == (1, 3)
    assert np.shape(whole.base_values) == (1, *np.shape(base_values))
    np.testing.assert_array_equal(whole.values[0], given.values)
    np.testing.assert_array_equal(explanation.base_values_table(), np.reshape(base_values, (1, outputs)))
    assert explanation.is_local_explanation
    assert (given.values.shape, np.shape(given.base_values), given.data.shape) == (shape, np.shape(base_values), (3,))


def test_a_slice_of_an_explanation_is_one_observation():
    whole = values(4, 3, 2, base_values=np.arange(8.0).reshape(4, 2), data=DATA, feature_names=list("abc"))
    explanation = SHAPExplanation(data=DATA[2], explanations=whole[2])
    np.testing.assert_array_equal(explanation.explanations.values, whole.values[2:3])
    np.testing.assert_array_equal(explanation.base_values_table(), [[4.0, 5.0]])
    assert explanation.feature_names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("data", "shape"), [(DATA, (3, 3)), (DATA, (3,)), (DATA, (4, 2)), (DATA[:1], (2,)), (DATA, (4, 3, 2, 2))]
)
def test_other_shapes_are_refused(data, shape):
    with pytest.raises(ShapeMismatchError, match=rf"{shape[0]}.*shape \({len(data)}, 3\)"):
        SHAPExplanation(data=data, explanations=values(*shape))


@pytest.mark.parametrize(
    ("base_values", "shape", "table"),
    [
        (None, (4, 3), None),
        (5.0, (4, 3), [[5], [5], [5], [5]]),
        ([1, 2, 3, 4], (4, 3), [[1], [2], [3], [4]]),
        ([[1], [2], [3], [4]], (4, 3), [[1], [2], [3], [4]]),
        ([1, 2, 3, 4], (4, 3, 1), [[1], [2], [3], [4]]),
        ([1, 2], (4, 3, 2), [[1, 2]] * 4),
        ([[1, 2]], (4, 3, 2), [[1, 2]] * 4),
        ([1, 2, 3, 4], (4, 3, 2), [[1, 1], [2, 2], [3, 3], [4, 4]]),
        ([1, 2, 3, 4], (4, 3, 4), [[1, 2, 3, 4]] * 4),
        (np.arange(8).reshape(4, 2), (4, 3, 2), np.arange(8).reshape(4, 2)),
    ],
)
def test_base_values_of_each_observation_and_output(base_values, shape, table):
    given = np.array(base_values, dtype=float) if np.ndim(base_values) else base_values
    explanation = SHAPExplanation(data=DATA, explanations=values(*shape, base_values=given))
    found = explanation.base_values_table()
    assert found is None if table is None else np.array_equal(found, table)


@pytest.mark.parametrize(("base_values", "shape"), [([1, 2, 3], (4, 3)), ([1, 2, 3], (4, 3, 2)), ([[1, 2]], (4, 3))])
def test_base_values_of_something_else_are_refused(base_values, shape):
    with pytest.raises(ShapeMismatchError, match="base_values"):
        SHAPExplanation(data=DATA, explanations=values(*shape, base_values=np.array(base_values, dtype=float)))


def test_types():
    with pytest.raises(TypeError, match=r"shap\.Explanation"):
        SHAPExplanation(data=DATA, explanations=DATA)
    with pytest.raises(TypeError, match="explanation_method"):
        SHAPExplanation(data=DATA, explanations=values(4, 3), explanation_method=3)
    with pytest.raises(TypeError, match="numeric"):
        SHAPExplanation(data="spectra", explanations=values(4, 3))
    with pytest.raises(TypeError):
        SHAPExplanation(DATA, values(4, 3))  # type: ignore[misc]
    with pytest.warns(UserWarning, match="colour"):
        SHAPExplanation(data=DATA, explanations=values(4, 3), colour="red")


def test_names():
    frame = pd.DataFrame(DATA, columns=["B2", "B3", "B4"])
    assert SHAPExplanation(data=frame, explanations=values(4, 3)).feature_names == ["B2", "B3", "B4"]
    own = SHAPExplanation(data=frame, explanations=values(4, 3, feature_names=np.array(["a", "b", "c"])))
    assert own.feature_names == ["a", "b", "c"]
    assert SHAPExplanation(data=pd.DataFrame(DATA), explanations=values(4, 3)).feature_names is None
    row = pd.Series(DATA[0], index=["B2", "B3", "B4"])
    local = SHAPExplanation(data=row, explanations=values(3))
    assert local.feature_names == ["B2", "B3", "B4"]
    assert local.is_local_explanation


def test_copies_pickles_and_equality():
    fields = {"base_values": np.array([1.0, np.nan, 3.0, 4.0]), "feature_names": ["a", "b", "c"], "data": DATA}
    one = SHAPExplanation(data=DATA, explanations=values(4, 3, **fields), explanation_method="exact")
    for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one)), one.model_copy()):
        assert other is not one
        assert other == one
        other.explanation_method = "kernel"
        assert other != one
    assert one.model_copy().explanations is one.explanations
    assert one != SHAPExplanation(data=DATA, explanations=values(4, 3), explanation_method="exact")
    assert one != SHAPExplanation(data=DATA + 1, explanations=values(4, 3, **fields), explanation_method="exact")
    assert one != "explanation"
    assert repr(one) == "SHAPExplanation(shape=(4, 3), outputs=1, explanation_method='exact')"


# ---------------------------------------------------------------- data


def test_arrays_of_two_dimensions_come_back_as_they_are():
    for dtype in (np.float64, np.float32, np.int16, np.uint8):
        table = DATA.astype(dtype)
        assert ensure_data_type_and_reshape(table) is table


@pytest.mark.parametrize(
    "data",
    [
        DATA[1],
        [3, 4, 5],
        [[3, 4, 5]],
        (3.0, 4.0, 5.0),
        torch.tensor([3.0, 4.0, 5.0], requires_grad=True),
        torch.tensor([[3.0, 4.0, 5.0]], dtype=torch.bfloat16),
        pd.Series([3, 4, 5]),
        pd.DataFrame([[3, 4.0, 5]]),
        pd.DataFrame([[3, 4.0, 5]], dtype=object),
    ],
    ids=lambda data: type(data).__name__,
)
def test_data_of_many_types_becomes_rows(data):
    table = ensure_data_type_and_reshape(data)
    np.testing.assert_array_equal(table, [[3, 4, 5]])
    assert table.dtype.kind in "fi"


@pytest.mark.parametrize(
    "data",
    [
        "spectra",
        ["a", "b"],
        None,
        {"a": 1},
        np.array([True, False]),
        torch.tensor([True]),
        np.array(["1.5"]),
        [[1, 2], [3]],
        np.array([1j]),
        pd.DataFrame({"a": ["x", "y"]}),
    ],
    ids=lambda data: type(data).__name__,
)
def test_what_is_no_number_is_refused(data):
    with pytest.raises(TypeError, match=r"Expected NumPy array \| Torch Tensor \| Pandas DataFrame as data.*numeric"):
        ensure_data_type_and_reshape(data)


def test_a_single_number_is_no_observation():
    with pytest.raises(ValueError, match="single number"):
        ensure_data_type_and_reshape(3.0)
