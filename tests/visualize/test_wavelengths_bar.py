"""Bars of Shapley values over wavelengths, by hand, and the mappings that they need."""

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import shap
from matplotlib.colors import ListedColormap, to_rgba

from meteors_c import visualize
from meteors_c.models import ExplainableModel
from meteors_c.shap import HyperSHAP, SHAPExplanation
from meteors_c.visualize.shap_visualize import validate_mapping_dict

EXPLAINER = HyperSHAP(ExplainableModel(lambda x: x.sum(1), "regression"), np.zeros((1, 5)))


def stacks(ax) -> dict[float, list[tuple[float, float, tuple]]]:
    """The pieces of the bar at each wavelength, from below: bottom, height and colour."""
    found: dict[float, list[tuple[float, float, tuple]]] = {}
    for patch in ax.patches:
        middle = round(patch.get_x() + patch.get_width() / 2, 6)
        found.setdefault(middle, []).append((patch.get_y(), patch.get_height(), patch.get_facecolor()))
    return {middle: sorted(pieces) for middle, pieces in found.items()}


def lines(ax) -> list[np.ndarray]:
    """The lines that separate the pieces of bars."""
    return [segment.round(6) for some in ax.collections for segment in some.get_segments()]


HAND = SHAPExplanation(
    data=np.zeros((2, 5)),
    explanations=shap.Explanation(values=np.array([[1.0, -2.0, 3.0, 0.0, -5.0], [-3.0, 2.0, 1.0, 0.0, -1.0]])),
)  # the mean absolute values are 2, 2, 2, 0, 3
WAVELENGTHS = {"800": [4], 500: [0, 1, 3], 650.5: 2}
TRANSFORMATIONS = {"mean": [0, 2], "slope": [4, 1], "depth": 3}


def test_heights_by_hand():
    ax = visualize.wavelengths_bar(
        EXPLAINER, HAND, None, WAVELENGTHS, TRANSFORMATIONS, cmap=ListedColormap(["r", "g", "b"])
    )
    red, green, blue = map(to_rgba, ("r", "g", "b"))
    assert stacks(ax) == {
        500.0: [(0, 2, red), (2, 2, green), (4, 0, blue)],
        650.5: [(0, 2, red)],
        800.0: [(0, 3, green)],
    }
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Wavelengths (nm)", "mean(|SHAP value|)")
    assert ax.get_title() == "SHAP explanations"
    legend = ax.get_legend()
    assert legend.get_title().get_text() == "Transformations"
    assert [text.get_text() for text in legend.get_texts()] == ["mean", "slope", "depth"]
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > 4


def test_without_transformations_there_is_one_colour_and_no_legend():
    ax = visualize.wavelengths_bar(EXPLAINER, HAND, None, WAVELENGTHS)
    assert len({patch.get_facecolor() for patch in ax.patches}) == 1
    assert ax.get_legend() is None
    assert {at: sum(height for _, height, _ in pieces) for at, pieces in stacks(ax).items()} == {
        500.0: 4,
        650.5: 2,
        800.0: 3,
    }


def test_averaged_across_the_same_bands():
    ax = visualize.wavelengths_bar(EXPLAINER, HAND, 0, WAVELENGTHS, TRANSFORMATIONS, average_the_same_bands=True)
    heights = {at: [round(height, 9) for _, height, _ in pieces] for at, pieces in stacks(ax).items()}
    assert heights == {500.0: [round(2 / 3, 9), round(2 / 3, 9), 0], 650.5: [2], 800.0: [3]}
    assert ax.get_title() == "SHAP explanations (averaged across the same bands)"


def test_titles_name_the_target():
    values = np.stack([-HAND.explanations.values, 10 * HAND.explanations.values], axis=-1)
    explanation = SHAPExplanation(data=HAND.data, explanations=shap.Explanation(values=values))
    ax = visualize.wavelengths_bar(EXPLAINER, explanation, 1, WAVELENGTHS)
    assert ax.get_title() == "SHAP explanations for target 1"
    assert stacks(ax)[800.0][0][1] == 30
    ax = visualize.wavelengths_bar(EXPLAINER, explanation, 0, WAVELENGTHS, average_the_same_bands=True)
    assert ax.get_title() == "SHAP explanations for target 0 (averaged across the same bands)"
    assert stacks(ax)[800.0][0][1] == 3


def test_features_are_separated_or_merged():
    one = {"all": [0, 1, 2, 3, 4]}
    apart = visualize.wavelengths_bar(EXPLAINER, HAND, None, WAVELENGTHS, one)
    assert [height for _, height, _ in stacks(apart)[500.0]] in ([2, 2, 0], [2, 0, 2], [0, 2, 2])
    assert [segment.tolist() for segment in lines(apart)] == [[[440.2, 2], [559.8, 2]]]  # the neighbours are 149.5 away
    merged = visualize.wavelengths_bar(EXPLAINER, HAND, None, WAVELENGTHS, one, separate_features=False)
    assert [(bottom, height) for bottom, height, _ in stacks(merged)[500.0]] == [(0, 4)]
    assert len(merged.patches) == 3
    assert lines(merged) == []


def test_bars_do_not_overlap_and_can_be_seen():
    ax = visualize.wavelengths_bar(EXPLAINER, HAND, None, WAVELENGTHS)
    edges = sorted({(patch.get_x(), patch.get_x() + patch.get_width()) for patch in ax.patches})
    assert all(one[1] < two[0] for one, two in itertools.pairwise(edges))
    close = {400: [0, 1], 400.001: [2], 2500: [3, 4]}
    ax = visualize.wavelengths_bar(EXPLAINER, HAND, None, close)
    assert min(patch.get_width() for patch in ax.patches) > 5
    ax = visualize.wavelengths_bar(EXPLAINER, HAND, None, {500: [0, 1, 2, 3, 4]})
    assert {patch.get_width() for patch in ax.patches} == {1.0}


def test_colours():
    names = {f"t{index}": index for index in range(5)}
    ax = visualize.wavelengths_bar(EXPLAINER, HAND, None, WAVELENGTHS, names, cmap="viridis")
    assert len({patch.get_facecolor() for patch in ax.patches}) == 5
    with pytest.raises(ValueError, match="cmap has 2 colours.*5 transformations"):
        visualize.wavelengths_bar(EXPLAINER, HAND, None, WAVELENGTHS, names, cmap=ListedColormap(["r", "g"]))


def test_the_mapping_must_be_given():
    with pytest.raises(ValueError, match="Wavelengths mapping must be provided"):
        visualize.wavelengths_bar(EXPLAINER, HAND)
    with pytest.raises(ValueError, match="Not all features"):
        visualize.wavelengths_bar(EXPLAINER, HAND, None, {500: 0})
    with pytest.raises(TypeError, match="Expected str as key"):
        visualize.wavelengths_bar(EXPLAINER, HAND, None, WAVELENGTHS, WAVELENGTHS)
    assert plt.get_fignums() == []


TABLE = np.zeros((2, 3))


def test_mappings_are_brought_into_one_form():
    given = {"550": 0, 600: np.int64(1), np.float32(700): [2]}
    found = validate_mapping_dict(given, TABLE)
    assert found == {550.0: [0], 600: [1], 700.0: [2]}
    assert all(type(index) is int for indices in found.values() for index in indices)
    assert given == {"550": 0, 600: 1, 700.0: [2]}
    assert validate_mapping_dict({"550": 0, "b": [2, 1]}, TABLE, wavelengths=False) == {"550": [0], "b": [2, 1]}


@pytest.mark.parametrize(
    ("mapping", "error", "words"),
    [
        ([0, 1, 2], TypeError, "Expected dict as mapping"),
        ({"red": [0, 1, 2]}, ValueError, "Expected numeric as key in wavelengths"),
        ({"nan": [0, 1, 2]}, ValueError, "Expected numeric as key in wavelengths"),
        ({(1,): [0, 1, 2]}, TypeError, "Expected numeric as key in wavelengths"),
        ({None: [0, 1, 2]}, TypeError, "Expected numeric as key in wavelengths"),
        ({True: [0, 1, 2]}, TypeError, "Expected numeric as key in wavelengths"),
        ({500: "0"}, TypeError, "Expected list or a single integer as value in mapping"),
        ({500: 0.0}, TypeError, "Expected list or a single integer as value in mapping"),
        ({500: {0, 1, 2}}, TypeError, "Expected list or a single integer as value in mapping"),
        ({500: [0, "1", 2]}, TypeError, "Expected int as feature index in mapping"),
        ({500: [0, True, 2]}, TypeError, "Expected int as feature index in mapping"),
        ({500: [0, 1, 3]}, ValueError, "Feature index out of bounds"),
        ({500: [0, 1, -1]}, ValueError, "Feature index out of bounds"),
        ({500: [0, 1], 600: [1, 2]}, ValueError, "Feature index 1 already used in another entry"),
        ({500: [0, 2, 1, 2]}, ValueError, "Feature index 2 already used in another entry"),
        ({500: [0, 1]}, ValueError, "Not all features are used in the mapping"),
        ({}, ValueError, "Not all features are used in the mapping"),
        ({500: [0, 1], "500": [2]}, ValueError, "twice"),
    ],
)
def test_wrong_mappings(mapping, error, words):
    with pytest.raises(error, match=words):
        validate_mapping_dict(mapping, TABLE)


def test_wrong_arguments_of_the_mapping():
    with pytest.raises(TypeError, match="Expected np.ndarray as explantion_values"):
        validate_mapping_dict({500: [0]}, [[1.0]])
    with pytest.raises(TypeError, match="Expected str as key in mapping"):
        validate_mapping_dict({500: [0, 1, 2]}, TABLE, wavelengths=False)
