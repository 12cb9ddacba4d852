"""Figures of Shapley values: what they show, what they refuse, and where they draw."""

from __future__ import annotations

import contextlib
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import shap
from matplotlib.figure import Figure

from meteors_c import visualize
from meteors_c.models import ExplainableModel
from meteors_c.shap import HyperSHAP, SHAPExplanation
from meteors_c.visualize import shap_visualize
from meteors_c.visualize.shap_visualize import validate_observation_index, validate_target

NAMES = ["B2", "B3", "B4", "ndvi"]
DATA = np.random.default_rng(0).random((6, 4)) + 0.5
VALUES = np.random.default_rng(1).normal(size=(6, 4, 2))
BASE = np.array([[10.0, 20.0], [11.0, 21.0], [12.0, 22.0], [13.0, 23.0], [14.0, 24.0], [15.0, 25.0]])
EXPLAINER = HyperSHAP(ExplainableModel(lambda x: x.sum(1), "regression"), DATA)


def explain(outputs: int | None = 2, rows: int = 6, names: list[str] | None = NAMES, **fields) -> SHAPExplanation:
    """An explanation whose base values differ for each observation and output; None for no axis of outputs."""
    values, base = VALUES[:rows, :, : outputs or 1], BASE[:rows, : outputs or 1]
    if outputs is None:
        values, base = values[..., 0], base[:, 0]
    fields = {"values": values, "base_values": base, "data": DATA[:rows], "feature_names": names, **fields}
    return SHAPExplanation(data=DATA[:rows], explanations=shap.Explanation(**fields))


MAPPING = {550.0: [0, 1], 700.0: [2], 800.0: [3]}
# Every figure, for one target of an explanation of several observations.
FIGURES = {
    "force": lambda e, target=None, **kw: visualize.force(EXPLAINER, e, target, 2, **kw),
    "beeswarm": lambda e, target=None, **kw: visualize.beeswarm(EXPLAINER, e, target, **kw),
    "dependence": lambda e, target=None, **kw: visualize.dependence_plot(1, EXPLAINER, e, target, **kw),
    "waterfall": lambda e, target=None, **kw: visualize.waterfall(EXPLAINER, e, target, 2, **kw),
    "heatmap": lambda e, target=None, **kw: visualize.heatmap(EXPLAINER, e, target, **kw),
    "bar": lambda e, target=None, **kw: visualize.bar(EXPLAINER, e, target, **kw),
    "bar of one": lambda e, target=None, **kw: visualize.bar(EXPLAINER, e, target, 2, **kw),
    "wavelengths": lambda e, target=None, **kw: visualize.wavelengths_bar(EXPLAINER, e, target, MAPPING, **kw),
}
ON_AXES = ["beeswarm", "dependence", "heatmap", "bar", "bar of one", "wavelengths"]
GLOBAL_ONLY = {
    "beeswarm": "does not support local explanations",
    "dependence": "The dependence plot requires a global explanation",
    "heatmap": "does not support local explanations",
}


def figure_of(drawn) -> Figure:
    return drawn if isinstance(drawn, Figure) else drawn.figure


def texts(drawn) -> list[str]:
    """Every text on the axes of a figure."""
    figure = figure_of(drawn)
    figure.canvas.draw()
    found = []
    for ax in figure.axes:
        found += [ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), *(text.get_text() for text in ax.texts)]
        found += [label.get_text() for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels(which="both")]
    return [text for text in found if text]


def widths(ax) -> dict[str, float]:
    """The bar of each feature in ``bar``."""
    labels = [label.get_text().split(" = ")[-1] for label in ax.get_yticklabels()]
    return dict(zip(labels, (patch.get_width() for patch in ax.patches), strict=False))


# ---------------------------------------------------------------- what is shown


@pytest.mark.parametrize("name", list(FIGURES))
@pytest.mark.parametrize("outputs", [None, 1, 2])
def test_every_figure_draws_every_kind_of_output(name, outputs):
    explanation = explain(outputs)
    before = explanation.explanations.values.copy(), explanation.explanations.base_values.copy()
    drawn = FIGURES[name](explanation, 1 if outputs == 2 else None)
    figure = figure_of(drawn)
    figure.canvas.draw()
    assert plt.get_fignums() == [figure.number]
    assert plt.gcf() is figure
    assert drawn is figure.axes[0] or name == "force"
    np.testing.assert_array_equal(explanation.explanations.values, before[0])
    np.testing.assert_array_equal(explanation.explanations.base_values, before[1])


@pytest.mark.parametrize("name", list(FIGURES))
def test_target_zero_of_a_single_output_is_no_target(name):
    plain = texts(FIGURES[name](explain(None)))
    assert texts(FIGURES[name](explain(1), 0)) == plain
    assert texts(FIGURES[name](explain(None), np.int64(0))) == plain


@pytest.mark.parametrize("name", list(FIGURES))
def test_nothing_lies_outside_the_figure(name):
    long = ["absorption depth of water at 1450 nm", "B3", "B4", "slope between 680 nm and 760 nm"]
    figure = figure_of(FIGURES[name](explain(2, names=long), 0))
    figure.canvas.draw()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= figure.get_figwidth()
    assert box.y1 <= figure.get_figheight()


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("observation", [0, 4])
def test_base_values_are_those_of_the_observation_and_the_target(target, observation):
    base, values = BASE[observation, target], VALUES[observation, :, target]
    for outputs in (2, 1, None) if target == 0 else (2,):
        figure = visualize.force(EXPLAINER, explain(outputs), target, observation)
        assert f"{base + values.sum():.2f}" in texts(figure)
        ax = visualize.waterfall(EXPLAINER, explain(outputs), target, observation)
        assert f"$ = {base:g}$" in "".join(texts(ax))
        assert f"$ = {base + values.sum():.3f}".rstrip("0") in "".join(texts(ax))


def test_base_values_of_explanations_that_have_one_for_all():
    for base in (7.25, np.array([7.25, 1.0])):
        explanation = explain(2, base_values=base)
        assert f"{7.25 + VALUES[3, :, 0].sum():.2f}" in texts(visualize.force(EXPLAINER, explanation, 0, 3))


@pytest.mark.parametrize("name", ["force", "waterfall"])
def test_figures_that_start_from_base_values_need_them(name):
    with pytest.raises(ValueError, match="base values"):
        FIGURES[name](explain(2, base_values=None), 0)
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in ("force", "waterfall")])
def test_other_figures_need_no_base_values_nor_data(name):
    FIGURES[name](explain(2, base_values=None, data=None), 0)


@pytest.mark.parametrize("name", ["force", "waterfall", "bar of one"])
def test_values_of_features_are_written(name):
    shown = " ".join(texts(FIGURES[name](explain(), 1)))
    largest = int(np.abs(VALUES[2, :, 1]).argmax())
    assert NAMES[largest] in shown
    assert str(DATA[2, largest])[:4] in shown


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "wavelengths"])
def test_names_of_features(name):
    shown = " ".join(texts(FIGURES[name](explain(names=None), 0)))
    assert "Feature 1" in shown
    assert "B3" in " ".join(texts(FIGURES[name](explain(), 0)))


def test_columns_become_names():
    frame = pd.DataFrame(DATA, columns=NAMES)
    explanation = HyperSHAP(ExplainableModel(lambda x: np.asarray(x) @ [4, 3, 2, 1], "regression"), frame).explain(DATA)
    found = widths(visualize.bar(EXPLAINER, explanation))
    deviations = np.abs(DATA - DATA.mean(0)).mean(0) * [4, 3, 2, 1]
    assert [found[name] for name in NAMES] == pytest.approx(deviations.tolist())


def test_bar_shows_means_or_one_observation():
    for outputs, target in ((2, 1), (2, 0), (1, None), (None, None)):
        found = widths(visualize.bar(EXPLAINER, explain(outputs), target))
        expected = np.abs(VALUES[:, :, target or 0]).mean(0)
        assert [found[name] for name in NAMES] == pytest.approx(expected.tolist())
        found = widths(visualize.bar(EXPLAINER, explain(outputs), target, 3))
        assert [found[name] for name in NAMES] == pytest.approx(VALUES[3, :, target or 0].tolist())
    assert visualize.bar(EXPLAINER, explain(), 0).get_xlabel() == "mean(|SHAP value|)"


def test_bar_takes_options_of_shap():
    assert len(visualize.bar(EXPLAINER, explain(), 0, max_display=2).patches) == 2


def test_beeswarm_has_a_point_per_feature_and_observation():
    ax = visualize.beeswarm(EXPLAINER, explain(), 1)
    points = np.concatenate([np.asarray(some.get_offsets()) for some in ax.collections])
    found = np.unique(points[:, 0].round(9))
    np.testing.assert_allclose(found, np.sort(VALUES[:, :, 1].ravel()), atol=1e-8)


def test_dependence_draws_values_against_the_feature():
    for feature in (2, "B4", np.int64(2)):
        ax = visualize.dependence_plot(
            feature, EXPLAINER, explain(), 1, interaction_index="ndvi", title="Red", xmin=0, xmax=2, ymin=-4, ymax=4
        )
        points = np.concatenate([np.asarray(some.get_offsets()) for some in ax.collections])
        expected = {(round(x, 6), round(y, 6)) for x, y in zip(DATA[:, 2], VALUES[:, 2, 1], strict=True)}
        assert {(round(x, 6), round(y, 6)) for x, y in points.tolist()} >= expected
        assert (ax.get_xlabel(), ax.get_title(), ax.get_xlim(), ax.get_ylim()) == ("B4", "Red", (0, 2), (-4, 4))
        assert ax.figure.axes[1].get_ylabel() == "ndvi"
        plt.close("all")


def test_dependence_without_interaction_and_by_rank():
    ax = visualize.dependence_plot(0, EXPLAINER, explain(), 0, interaction_index=None)
    assert len(ax.figure.axes) == 1
    largest = NAMES[int(np.abs(VALUES[:, :, 0]).mean(0).argmax())]
    assert visualize.dependence_plot("rank(0)", EXPLAINER, explain(), 0).get_xlabel() == largest


def test_dependence_writes_display_features():
    shown = np.full(DATA.shape, "water", dtype=object)
    shown[3:] = "soil"
    for features in (shown, pd.DataFrame(shown)):
        ax = visualize.dependence_plot(0, EXPLAINER, explain(), 0, display_features=features, interaction_index=None)
        assert {"water", "soil"} <= set(texts(ax))
        plt.close("all")


def test_heatmap_takes_options_of_shap():
    shown = texts(visualize.heatmap(EXPLAINER, explain(names=None), 1, max_display=3))
    assert "Feature 0" in shown or "Feature 1" in shown
    assert any("Sum of" in text for text in shown)


@pytest.mark.parametrize("name", list(FIGURES))
def test_values_that_are_not_finite_are_counted_in_a_warning(name):
    values = VALUES.copy()
    values[0, 0, 0] = np.nan
    values[1, 2, 1] = np.inf
    explanation = explain(2, values=values)
    with (
        pytest.warns(UserWarning, match="^2 of 48") as caught,
        pytest.raises(ValueError, match="NaN or infinite") if name == "heatmap" else contextlib.nullcontext(),
    ):
        figure_of(FIGURES[name](explanation, 0)).canvas.draw()
    assert caught[0].filename == __file__


def test_figures_leave_the_global_generator_alone():
    for name in ("beeswarm", "dependence"):
        before = np.random.get_state()  # noqa: NPY002
        FIGURES[name](explain(), 0)
        after = np.random.get_state()  # noqa: NPY002
        assert np.array_equal(before[1], after[1])
        assert before[2] == after[2]


# ---------------------------------------------------------------- one observation


@pytest.mark.parametrize("name", list(FIGURES))
@pytest.mark.parametrize("outputs", [None, 1, 2])
def test_one_observation_is_drawn_or_refused(name, outputs):
    explanation, target = explain(outputs, rows=1), 1 if outputs == 2 else None
    if name in GLOBAL_ONLY:
        with pytest.raises(ValueError, match=GLOBAL_ONLY[name]):
            FIGURES[name](explanation, target)
    else:
        functions = {"force": visualize.force, "waterfall": visualize.waterfall, "bar": visualize.bar}
        if name in functions:
            shown = [texts(functions[name](EXPLAINER, explanation, target, index)) for index in (None, 0)]
            assert shown[0] == shown[1]
            with pytest.raises(ValueError, match="observation_index"):
                functions[name](EXPLAINER, explanation, target, 1)
        elif name == "wavelengths":
            FIGURES[name](explanation, target)


@pytest.mark.parametrize("name", ["force", "waterfall"])
def test_one_of_several_observations_has_to_be_chosen(name):
    with pytest.raises(ValueError, match="single observation"):
        getattr(visualize, name)(EXPLAINER, explain(), 0)


def test_beeswarm_refuses_any_observation():
    for index in (0, 3, 100):
        with pytest.raises(ValueError, match="does not support local explanations"):
            visualize.beeswarm(EXPLAINER, explain(), 0, index)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", list(FIGURES))
def test_wrong_targets(name):
    with pytest.raises(ValueError, match="requires a single target"):
        FIGURES[name](explain())
    for wrong in (2, -1):
        with pytest.raises(ValueError, match=f"target is {wrong}"):
            FIGURES[name](explain(), wrong)
    with pytest.raises(ValueError, match="target is 1"):
        FIGURES[name](explain(None), 1)
    for wrong in ("0", 0.0, True, [0]):
        with pytest.raises(TypeError, match="Expected int or None as target"):
            FIGURES[name](explain(), wrong)
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", ["force", "waterfall", "bar"])
def test_wrong_observations(name):
    function = getattr(visualize, name)
    for wrong in (6, -1):
        with pytest.raises(ValueError, match=f"observation_index is {wrong}"):
            function(EXPLAINER, explain(), 0, wrong)
    for wrong in ("0", 1.0, False):
        with pytest.raises(TypeError, match="Expected int or None as observation_index"):
            function(EXPLAINER, explain(), 0, wrong)


@pytest.mark.parametrize("name", ["force", "beeswarm", "waterfall", "heatmap", "bar", "wavelengths_bar"])
def test_wrong_types(name):
    function = getattr(visualize, name)
    with pytest.raises(TypeError, match="HyperSHAP"):
        function("explainer", explain())
    with pytest.raises(TypeError, match="SHAPExplanation"):
        function(EXPLAINER, explain().explanations)


def test_wrong_arguments_of_the_dependence_plot():
    def plot(feature=0, explainer=EXPLAINER, explanation=None, **kwargs):
        return visualize.dependence_plot(feature, explainer, explanation or explain(), 0, **kwargs)

    for wrong in ({"explainer": None}, {"explanation": 3}):
        with pytest.raises(TypeError, match="must be an instance"):
            plot(**wrong)
    for feature in (None, 1.5, [1], True):
        with pytest.raises(TypeError, match="Expected int or str as feature"):
            plot(feature)
    for index in (1.5, [1]):
        with pytest.raises(TypeError, match="Expected str or int as interaction_index"):
            plot(interaction_index=index)
    for shown in ("shown", DATA.tolist()):
        with pytest.raises(TypeError, match=r"Expected pd.DataFrame or np.ndarray as display_features"):
            plot(display_features=shown)
    with pytest.raises(ValueError, match=r"\(5, 4\)"):
        plot(display_features=DATA[:5])
    for feature in (4, -1, "B9", "rank(4)"):
        with pytest.raises(ValueError, match="feature is"):
            plot(feature)
        with pytest.raises(ValueError, match="interaction_index is"):
            plot(interaction_index=feature)
    assert plt.get_fignums() == []


def test_data_of_other_dimensions_has_no_figure():
    data = np.zeros((4, 5, 3))
    explanation = SHAPExplanation(data=data, explanations=shap.Explanation(values=data, base_values=np.zeros(4)))
    for name in FIGURES:
        with pytest.raises(ValueError, match=r"\(observations, features\)"):
            FIGURES[name](explanation)


def test_validators_return_the_value():
    local, scalar = explain(rows=1), explain(None)
    assert validate_observation_index(5, explain()) == 5
    assert validate_observation_index(None, explain()) is None
    assert validate_observation_index(None, local, require_local_explanation=True) is None
    assert validate_observation_index(0, local, True, "force plot") == 0
    assert validate_target(1, explain()) == 1
    assert validate_target(None, explain()) is None
    assert validate_target(0, scalar) is validate_target(0, explain(1)) is None
    with pytest.raises(ValueError, match="The rose requires a single observation"):
        validate_observation_index(None, explain(), True, "rose")
    with pytest.raises(ValueError, match="The rose requires a single target"):
        validate_target(None, explain(), True, "rose")
    shap_visualize.validate_explanations_and_explainer_type(EXPLAINER, local)


# ---------------------------------------------------------------- where it is drawn


@pytest.mark.parametrize("name", list(FIGURES))
def test_use_pyplot_shows_and_gives_nothing(name, shown):
    assert FIGURES[name](explain(), 0, use_pyplot=True) is None
    assert shown == [1]
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", ON_AXES)
def test_axes_that_are_given_are_drawn_on(name, shown):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    other = plt.figure()
    empty = other.subplots(1, 2)
    plt.sca(empty[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert FIGURES[name](explain(), 0, ax=left) is left
    assert left.has_data()
    assert not any(ax.has_data() for ax in (right, *empty))
    assert plt.get_fignums() == [figure.number, other.number]
    assert plt.gcf() is other
    assert plt.gca() is empty[0]
    assert figure.get_size_inches().tolist() == [10, 4]
    assert len(other.axes) == 2
    assert shown == []


@pytest.mark.parametrize("name", ON_AXES)
def test_axes_beside_the_current_ones(name):
    figure, (left, right) = plt.subplots(1, 2)
    plt.sca(right)
    FIGURES[name](explain(), 0, ax=left)
    assert plt.gcf() is figure
    assert plt.gca() is right
    assert not right.has_data()


@pytest.mark.parametrize("name", ON_AXES)
def test_axes_of_a_figure_that_pyplot_does_not_know(name):
    ax = Figure().subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert FIGURES[name](explain(), 0, ax=ax) is ax
    assert ax.has_data()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", list(FIGURES))
def test_a_new_figure_leaves_others_alone(name):
    mine, ax = plt.subplots()
    drawn = FIGURES[name](explain(), 0)
    assert figure_of(drawn) is not mine
    assert not ax.has_data()
    assert len(mine.axes) == 1
    assert len(plt.get_fignums()) == 2


@pytest.mark.parametrize("name", ["heatmap", "bar", "force"])
def test_an_error_while_drawing_leaves_no_figure(name):
    mine = plt.figure()
    with pytest.raises(TypeError):
        FIGURES[name](explain(), 0, no_such_option=1)
    assert plt.get_fignums() == [mine.number]
    assert plt.gcf() is mine


def test_without_shap_the_error_says_what_to_install(monkeypatch):
    explanation = explain()
    monkeypatch.setitem(sys.modules, "shap", None)
    for name in FIGURES:
        with pytest.raises(ImportError, match=r"meteors_c\[shap\]"):
            FIGURES[name](explanation, 0)


def test_the_submodule_has_every_name():
    for name in ("force", "beeswarm", "dependence_plot", "waterfall", "heatmap", "bar", "wavelengths_bar"):
        assert getattr(shap_visualize, name) is getattr(visualize, name)
        assert name in visualize.__all__
