from __future__ import annotations

import types
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from meteors_c import visualize
from meteors_c.visualize import visualize_interactions


def interactions(features: int, diagonal: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(features).standard_normal((features, features))
    values = values + values.T
    np.fill_diagonal(values, diagonal)
    return values


def names_on(ax) -> list[list[str]]:
    """The names of the columns and of the rows, at the middle of which they stand."""
    for axis in (ax.xaxis, ax.yaxis):
        assert np.array_equal(axis.get_ticklocs(), np.round(axis.get_ticklocs()))
    return [[label.get_text() for label in axis.get_ticklabels()] for axis in (ax.xaxis, ax.yaxis)]


def test_the_matrix_is_drawn_around_zero():
    values = interactions(4)
    figure, ax = visualize_interactions(values)
    assert figure.texts[0].get_text() == "Shapley Interactions"
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), values)
    assert image.get_clim() == (-np.abs(values).max(), np.abs(values).max())
    np.testing.assert_allclose(image.cmap(0.5)[:3], 1, atol=0.05)
    low, high = image.cmap(0.0), image.cmap(1.0)
    assert low[0] > low[2], "red below zero"
    assert high[2] > high[0], "blue above zero"
    assert image.colorbar.ax.get_ylabel() == "Interaction"
    assert names_on(ax) == [["0", "1", "2", "3"]] * 2


def test_the_diagonal_does_not_fade_the_interactions():
    values = interactions(5, diagonal=1000.0)
    image = visualize_interactions(values)[1].images[0]
    assert image.get_clim()[1] == np.abs(interactions(5)).max()
    assert image.colorbar.extend == "both"
    assert visualize_interactions(interactions(5))[1].images[0].colorbar.extend == "neither"


@pytest.mark.parametrize("noise", [0.0, 1e-15])
def test_without_interactions_the_diagonal_is_seen_and_rounding_is_not(noise):
    _, ax = visualize_interactions(np.diag([1.0, -2.0, 0.5]) + noise)
    assert ax.images[0].get_clim() == pytest.approx((-2, 2))
    assert [text.get_text() for text in ax.texts] == ["1", "0", "0", "0", "-2", "0", "0", "0", "0.5"]


@pytest.mark.parametrize("values", [np.zeros((3, 3)), np.zeros((1, 1)), np.full((2, 2), np.nan)])
@pytest.mark.filterwarnings("ignore:.*NaN:UserWarning")
def test_a_matrix_without_any_value_is_white_or_blank(values):
    figure, ax = visualize_interactions(values)
    figure.canvas.draw()
    low, high = ax.images[0].get_clim()
    assert low == -high < 0


@pytest.mark.parametrize(
    "form",
    [
        np.ndarray.tolist,
        lambda values: torch.tensor(values, requires_grad=True),
        lambda values: torch.tensor(values, dtype=torch.float32),
        lambda values: values.astype(np.float16),
        np.asfortranarray,
    ],
)
def test_forms_of_the_matrix(form):
    values = interactions(3)
    given = form(values)
    _, ax = visualize_interactions(given)
    np.testing.assert_allclose(ax.images[0].get_array(), values, rtol=2e-3)


@pytest.mark.parametrize("features", [1, 2, 12])
def test_values_stand_in_their_cells_and_contrast_with_them(features):
    values = interactions(features, diagonal=0.25)
    figure, ax = visualize_interactions(values, [f"superband {i}" for i in range(features)])
    assert len(ax.texts) == features**2
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    for text in ax.texts:
        column, row = text.get_position()
        assert float(text.get_text()) == pytest.approx(values[row, column], rel=0.01)
        cell = np.asarray(ax.images[0].to_rgba(values)[row, column][:3])
        assert np.abs(cell - to_rgb(text.get_color())).max() > 0.4
    assert {"black", "white"} >= {text.get_color() for text in ax.texts}


@pytest.mark.parametrize("features", [3, 12, 30, 90])
def test_names_do_not_lie_over_each_other(features):
    figure, ax = visualize_interactions(interactions(features), [f"red edge {i}" for i in range(features)])
    assert bool(ax.texts) is (features <= 12)
    figure.canvas.draw()
    for axis in (ax.xaxis, ax.yaxis):
        labels = axis.get_ticklabels()
        assert len(labels) > features / 4
        # Of turned text, the distance between the lines counts: that of neighbours, at a right angle to the text.
        angle = np.radians(labels[0].get_rotation())
        places = axis.get_ticklocs()
        cell = ax.get_window_extent().height / features * 72 / figure.dpi
        gap = (places[1] - places[0]) * cell
        if axis is ax.xaxis:
            gap *= np.sin(angle)
        assert gap >= labels[0].get_fontsize()
        for place, label in zip(places, labels, strict=True):
            assert label.get_text() == f"red edge {int(place)}"
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) >= -0.01
    assert box.x1 <= figure.get_figwidth() + 0.01


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["a", "b", "c"], ["a", "b", "c"]),
        (("a", ("N", "R"), 7), ["a", "N,R", "7"]),
        ({"c": 3, ("N", "R"): -1, "b": 2}, ["N,R", "b", "c"]),
        ((f"s{i}" for i in range(3)), ["s0", "s1", "s2"]),
    ],
)
def test_names(names, shown):
    assert names_on(visualize_interactions(interactions(3), names)[1]) == [shown, shown]


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, ["0", "1", "2"]),
        ({"band_names": {"R": 2, "B": 0, "G": 1}}, ["B", "G", "R"]),
        ({"band_names": None, "ids": torch.tensor([4, 7, 9])}, ["4", "7", "9"]),
        ({"mask": torch.tensor([[5, 5], [2, 11]])}, ["2", "5", "11"]),
    ],
)
def test_results_that_hold_interactions(fields, shown):
    values = interactions(3)
    result = types.SimpleNamespace(interactions=torch.tensor(values), **fields)
    _, ax = visualize_interactions(result)
    np.testing.assert_array_equal(ax.images[0].get_array(), values)
    assert names_on(ax)[0] == shown
    assert names_on(visualize_interactions(result, ["x", "y", "z"])[1])[1] == ["x", "y", "z"]


def test_values_that_are_not_finite_are_blank_and_counted():
    values = interactions(3)
    values[0, 1] = values[1, 0] = np.nan
    values[2, 2] = np.inf
    with pytest.warns(UserWarning, match="^3 of 9") as caught:
        _, ax = visualize_interactions(values)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert len(ax.texts) == 6
    assert ax.images[0].get_clim()[1] == max(abs(values[0, 2]), abs(values[1, 2]))


def test_axes_title_and_pyplot(shown):
    figure, axes = plt.subplots(1, 2)
    assert visualize_interactions(interactions(3), ax=axes[1], use_pyplot=True) is axes[1]
    assert figure.texts[0].get_text() == "Shapley Interactions"
    assert not axes[0].images
    assert not shown
    assert visualize_interactions(interactions(3), title="Mine")[0].texts[0].get_text() == "Mine"
    assert visualize_interactions(interactions(3), use_pyplot=True) is None
    assert shown == [1]


def test_without_a_warning_and_without_a_change():
    values = interactions(4)
    before = values.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure, _ = visualize_interactions(values)
        figure.canvas.draw()
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"matrix": np.zeros((2, 3))}, ValueError, r"matrix.*\(2, 3\)"),
        ({"matrix": np.zeros(3)}, ValueError, r"matrix.*\(3,\)"),
        ({"matrix": np.zeros((0, 0))}, ValueError, r"matrix.*\(0, 0\)"),
        ({"matrix": [[0.0, 1.0], [2.0, 0.0]]}, ValueError, "symmetric"),
        ({"matrix": [[0.0, np.nan], [2.0, 0.0]]}, ValueError, "symmetric"),
        ({"matrix": "text"}, TypeError, "matrix.*str"),
        ({"matrix": None}, TypeError, "matrix.*NoneType"),
        ({"matrix": np.zeros((2, 2), dtype=complex)}, TypeError, "matrix"),
        ({"matrix": torch.zeros(2, 2, dtype=torch.complex64)}, TypeError, "matrix.*Tensor"),
        ({"matrix": types.SimpleNamespace(interactions=None)}, TypeError, "matrix.*SimpleNamespace"),
        ({"names": ["a", "b"]}, ValueError, "names.*3.*2"),
        ({"names": "abc"}, TypeError, "names.*'abc'"),
        ({"names": 3}, TypeError, "names.*3"),
        ({"ax": "text"}, TypeError, "ax.*Axes.*str"),
        ({"ax": np.zeros(3, dtype=object)}, TypeError, "ax.*Axes.*ndarray"),
    ],
)
def test_wrong_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        visualize_interactions(**{"matrix": interactions(3), **arguments})
    assert not plt.get_fignums()


def test_it_is_a_public_figure():
    assert "visualize_interactions" in visualize.__all__
