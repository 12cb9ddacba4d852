from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb, to_rgba

from meteors_c.visualize import (
    visualize_spectral_attributes,
    visualize_spectral_attributes_by_magnitude,
    visualize_spectral_attributes_by_waveband,
)
from meteors_c.visualize.attr_visualize import (
    _merge_band_names_segments,
    calculate_average_magnitudes,
    validate_consistent_band_and_wavelengths,
)

WAVELENGTHS = np.array([450.0, 500, 550, 600, 650, 700])
GROUPS = ["G", "not_included", "N,R"]  # tuple names come last
HALVES = [visualize_spectral_attributes_by_waveband, visualize_spectral_attributes_by_magnitude]


def labels(ax):
    return [label.get_text() for label in ax.get_xticklabels()]


class TestWaveband:
    def test_titles_and_legend(self, scene):
        ax = visualize_spectral_attributes_by_waveband(scene.spectral(), None)
        assert ax is plt.gca()
        texts = (ax.get_title(), ax.get_xlabel(), ax.get_ylabel())
        assert texts == ("Attributions by Waveband", "Wavelength (nm)", "Correlation with Output")
        assert ax.get_legend().get_title().get_text() == "SuperBand"
        assert [text.get_text() for text in ax.get_legend().get_texts()] == GROUPS

    def test_one_scatter_per_group(self, scene):
        ax = visualize_spectral_attributes_by_waveband(scene.spectral(), None, ["red", "lime", "blue"])
        drawn = {points.get_label(): points for points in ax.collections}
        assert list(drawn) == GROUPS
        for name, bands, value, colour in (("not_included", [0], 0.25, "lime"), ("N,R", [1, 2], 1.0, "blue")):
            expected = np.stack([WAVELENGTHS[bands], np.full(len(bands), value)], axis=1)
            np.testing.assert_array_equal(drawn[name].get_offsets(), expected)
            assert tuple(drawn[name].get_facecolor()[0]) == to_rgba(colour)

    def test_several_results_are_a_mean_with_its_range(self, scene):
        results = [scene.spectral([0.0, value, 5.0]) for value in (1.0, 2.0, 6.0)]
        ax = visualize_spectral_attributes_by_waveband(results, None)
        drawn = {container.get_label(): container for container in ax.containers}
        assert list(drawn) == GROUPS
        line, _, (bars,) = drawn["N,R"]
        np.testing.assert_array_equal(line.get_data(), [[500, 550], [3, 3]])
        np.testing.assert_array_equal(bars.get_segments(), [[[x, 1], [x, 6]] for x in (500, 550)])

    def test_groups_and_legend_can_be_left_out(self, chw):
        ax = visualize_spectral_attributes_by_waveband(chw.spectral(), None, None, False, False)
        assert [points.get_label() for points in ax.collections] == ["G", "N,R"]
        assert ax.get_legend() is None

    def test_a_short_palette_is_refused(self, chw):
        for results in (chw.spectral(), [chw.spectral()] * 2):
            with pytest.raises(IndexError, match="color_palette"):
                visualize_spectral_attributes_by_waveband(results, None, ["red", "blue"])


class TestMagnitude:
    def test_titles(self, scene):
        ax = visualize_spectral_attributes_by_magnitude(scene.spectral(), None)
        texts = (ax.get_title(), ax.get_xlabel(), ax.get_ylabel())
        assert texts == ("Attributions by Magnitude", "Group", "Average Attribution Magnitude")
        assert labels(ax) == GROUPS
        assert {label.get_rotation() for label in ax.get_xticklabels()} == {45.0}

    def test_one_bar_per_group(self, scene):
        ax = visualize_spectral_attributes_by_magnitude(scene.spectral(), None)
        assert [bar.get_height() for bar in ax.patches] == [-2.0, 0.25, 1.0]
        assert len({bar.get_facecolor() for bar in ax.patches}) == 3
        assert [text.get_text() for text in ax.texts] == ["-2.00", "0.25", "1.00"]

    def test_no_annotation(self, chw):
        assert not visualize_spectral_attributes_by_magnitude(chw.spectral(), None, annotate_bars=False).texts

    def test_one_box_per_group_for_several_results(self, scene):
        results = [scene.spectral([0.0, value, 5.0]) for value in (1.0, 2.0, 6.0)]
        ax = visualize_spectral_attributes_by_magnitude(results, None, ["red", "lime", "blue"])
        assert labels(ax) == GROUPS
        assert [box.get_facecolor()[:3] for box in ax.patches] == [to_rgb(c) for c in ("red", "lime", "blue")]
        heights = ax.patches[2].get_path().vertices[:, 1]
        assert (heights.min(), heights.max()) == (1.5, 4.0)  # the quartiles of 1, 2, 6

    def test_colours_of_a_short_palette_repeat(self, chw):
        for results in (chw.spectral(), [chw.spectral()] * 2):
            ax = visualize_spectral_attributes_by_magnitude(results, plt.figure().gca(), ["red", "blue"])
            assert [patch.get_facecolor()[:3] for patch in ax.patches] == [to_rgb(c) for c in ("red", "blue", "red")]

    def test_the_excluded_group_can_be_left_out(self, chw):
        for results in (chw.spectral(), [chw.spectral()] * 2):
            ax = visualize_spectral_attributes_by_magnitude(results, plt.figure().gca(), show_not_included=False)
            assert labels(ax) == ["G", "N,R"]
            assert len(ax.patches) == 2

    def test_nan_stays_in_its_group(self, chw):
        with pytest.warns(UserWarning, match="NaN"):
            ax = visualize_spectral_attributes_by_magnitude(chw.spectral([0.5, float("nan"), 2.0]), None)
        np.testing.assert_array_equal([bar.get_height() for bar in ax.patches], [2.0, 0.5, float("nan")])


@pytest.mark.parametrize("half", HALVES)
class TestBothHalves:
    def test_the_given_axes_come_back(self, chw, half):
        ax = plt.subplots(1, 2)[1][0]
        assert half(chw.spectral(), ax) is ax

    def test_a_list_of_one(self, chw, half):
        assert len(half([chw.spectral()], None).get_xticklabels()) > 0

    def test_wrong_types(self, chw, half):
        for value in (None, 3, chw.result(), [chw.spectral(), 3], (chw.spectral(),)):
            with pytest.raises(TypeError, match="HSIAttributesSpectral"):
                half(value, None)

    def test_an_empty_list(self, half):
        with pytest.raises(IndexError, match="empty"):
            half([], None)

    def test_inconsistent_results(self, chw, half):
        with pytest.raises(ValueError, match="Band names"):
            half([chw.spectral(), chw.spectral(names={"X": 1, "G": 2})], None)
        with pytest.raises(ValueError, match="Wavelengths"):
            half([chw.spectral(), chw.spectral(wavelengths=[451.0, 500.0, 550.0, 600.0, 650.0, 700.0])], None)
        other = chw.spectral()
        other.mask = 3 - other.mask  # the same names, but other bands
        with pytest.raises(ValueError, match="masks"):
            half([chw.spectral(), other], None)

    def test_results_are_untouched_and_may_require_grad(self, chw, half):
        result = chw.spectral()
        names = dict(result.band_names)
        result.attributes = result.attributes.clone().requires_grad_()
        half([result, result], None, show_not_included=False)
        assert result.band_names == names


class TestWholeFigure:
    def test_one_result(self, scene):
        figure, axes = visualize_spectral_attributes(scene.spectral())
        assert figure.get_size_inches().tolist() == [15, 5]
        assert [ax.get_title() for ax in axes] == ["Attributions by Waveband", "Attributions by Magnitude"]
        assert figure.texts[0].get_text() == "Spectral Attributes Visualization"
        assert all(ax.get_legend() is None for ax in axes)
        colours = [tuple(points.get_facecolor()[0]) for points in axes[0].collections]
        assert colours == [bar.get_facecolor() for bar in axes[1].patches]

    def test_a_list_adds_the_scores(self, scene):
        results = [scene.spectral(score=score) for score in (0.5, 0.75, None, 1.0)]
        figure, axes = visualize_spectral_attributes(results, title="Mine")
        assert axes.shape == (3,)
        assert figure.texts[0].get_text() == "Mine"
        texts = (axes[2].get_title(), axes[2].get_xlabel(), axes[2].get_ylabel())
        assert texts == ("Distribution of Score Values", "Score", "Frequency")
        assert len(axes[2].patches) == 50
        assert sum(bar.get_height() for bar in axes[2].patches) == 3
        (mean,) = axes[2].lines
        assert mean.get_xdata()[0] == 0.75
        assert mean.get_linestyle() == "--"

    def test_no_scores(self, chw):
        _, axes = visualize_spectral_attributes([chw.spectral(score=None), chw.spectral(score=float("nan"))])
        assert not axes[2].patches

    def test_the_excluded_group_can_be_left_out(self, chw):
        _, axes = visualize_spectral_attributes(chw.spectral(), show_not_included=False)
        assert len(axes[0].collections) == len(axes[1].patches) == 2

    def test_axes_and_pyplot(self, chw, shown):
        axes = plt.subplots(1, 3)[1]
        assert visualize_spectral_attributes(chw.spectral(), axes, use_pyplot=True) is axes
        assert visualize_spectral_attributes([chw.spectral()], axes) is axes
        assert not shown
        assert visualize_spectral_attributes(chw.spectral(), use_pyplot=True) is None
        assert shown == [1]

    def test_other_axes_are_refused(self, chw):
        for axes in (plt.subplots()[1], plt.subplots(2, 2)[1], plt.subplots(1, 2, squeeze=False)[1]):
            with pytest.raises(ValueError, match="2"):
                visualize_spectral_attributes(chw.spectral(), axes)
        with pytest.raises(ValueError, match="3"):
            visualize_spectral_attributes([chw.spectral()], plt.subplots(1, 2)[1])

    def test_errors_leave_no_figure(self, chw):
        with pytest.raises(TypeError):
            visualize_spectral_attributes(3)
        with pytest.raises(IndexError):
            visualize_spectral_attributes([])
        with pytest.raises(IndexError):
            visualize_spectral_attributes(chw.spectral(), color_palette=["red"])
        assert not plt.get_fignums()


def test_merged_names():
    names = {("b", "c"): 2, "a": 1, ("e",): 4, "d": 3}
    assert list(_merge_band_names_segments(names).items()) == [("a", 1), ("d", 3), ("b,c", 2), ("e", 4)]
    assert ("b", "c") in names


def test_consistency(chw):
    result = chw.spectral()
    validate_consistent_band_and_wavelengths(result.band_names, result.hsi.wavelengths, [result, result])
    with pytest.raises(ValueError, match="Band names"):
        validate_consistent_band_and_wavelengths({"a": 1}, result.hsi.wavelengths, [result])
    with pytest.raises(ValueError, match="Wavelengths"):
        validate_consistent_band_and_wavelengths(result.band_names, result.hsi.wavelengths[:-1], [result])


def test_average_magnitudes():
    names, mask = {"a": 0, ("b", "c"): 1, "none": 7}, torch.tensor([0, 1, 1])
    values = torch.tensor([[1.0, 2.0, -6.0], [0.0, 1.0, 2.0]])
    assert calculate_average_magnitudes(names, mask, values[:1]).tolist() == [1.0, -2.0, 0.0]
    assert calculate_average_magnitudes(names, mask, values).tolist() == [[1.0, -2.0, 0.0], [0.0, 1.5, 0.0]]
