from __future__ import annotations

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from meteors_c import HSI
from meteors_c.attr import HSIAttributes
from meteors_c.exceptions import MaskCreationError, ShapeMismatchError
from meteors_c.visualize import (
    visualize_aggregated_attributes,
    visualize_spatial_aggregated_attributes,
    visualize_spectral_aggregated_attributes,
)
from meteors_c.visualize._heat_map import scale_heat_map


def drawn_map(axes):
    return np.asarray(axes[1].images[0].get_array())


def heights(axes):
    return [bar.get_height() for bar in axes[1].patches]


def segment_means(scene, function=torch.mean):
    """The value of each pixel after aggregation over all bands and pixels of its segment."""
    expected = torch.empty(4, 5, dtype=torch.float64)
    for label in (1, 2, 3):
        expected[scene.segments == label] = function(scene.values[:, scene.segments == label])
    return scale_heat_map(expected.numpy())


class TestSpatial:
    def test_a_2d_mask_spans_the_bands(self, scene):
        figure, axes = visualize_spatial_aggregated_attributes(scene.result(), scene.turn_map(scene.segments))
        assert figure.texts[0].get_text() == "Spatial Attributes Visualization Aggregated"
        assert [ax.get_title() for ax in axes] == ["Original image", "Attribution Map", "Mask"]
        np.testing.assert_allclose(drawn_map(axes), segment_means(scene))
        np.testing.assert_array_equal(axes[2].images[0].get_array(), scene.segments.numpy())

    def test_3d_masks_in_every_form(self, scene):
        full = scene.turn(scene.segments.expand(6, 4, 5))
        for mask in (full, full.numpy(), full / 2, full.select(scene.orientation.index("C"), 0)):
            _, axes = visualize_spatial_aggregated_attributes(scene.result(), mask)
            np.testing.assert_allclose(drawn_map(axes), segment_means(scene))

    def test_masks_may_vary_along_the_bands(self, chw):
        mask = chw.segments.expand(6, 4, 5).clone()
        mask[1:] += 10
        _, axes = visualize_spatial_aggregated_attributes(chw.result(), mask)
        first_band = torch.empty(4, 5, dtype=torch.float64)
        for label in (1, 2, 3):
            first_band[chw.segments == label] = chw.values[0, chw.segments == label].mean()
        np.testing.assert_allclose(drawn_map(axes), scale_heat_map(first_band.numpy()))

    def test_another_aggregation(self, chw):
        _, axes = visualize_spatial_aggregated_attributes(
            chw.result(), chw.segments, aggregate_func=torch.max, title="Mine"
        )
        np.testing.assert_allclose(drawn_map(axes), segment_means(chw, torch.max))
        assert axes[0].figure.texts[0].get_text() == "Mine"

    def test_integer_attributions_that_torch_cannot_average(self, chw):
        values = torch.arange(120).reshape(6, 4, 5)
        visualize_spatial_aggregated_attributes(chw.result(values), chw.segments)

    @pytest.mark.parametrize("orientation", ["CHW", "CWH", "HCW", "HWC", "WCH", "WHC"])
    def test_a_2d_mask_gets_the_axis_of_the_bands_where_it_belongs(self, make_scene, orientation):
        """Also where the bands are as many as the rows, so that a wrong axis would fit."""
        scene = make_scene(orientation, [450.0, 500.0, 550.0, 600.0])
        scene.picture, scene.values = scene.picture[:4], scene.values[:4]
        hsi = HSI(
            image=scene.turn(scene.picture).contiguous(),
            wavelengths=scene.wavelengths,
            orientation=tuple(orientation),
        )
        result = HSIAttributes(hsi=hsi, attributes=scene.turn(scene.values))
        _, axes = visualize_spatial_aggregated_attributes(result, scene.turn_map(scene.segments))
        np.testing.assert_allclose(drawn_map(axes), segment_means(scene))
        np.testing.assert_array_equal(axes[2].images[0].get_array(), scene.segments.numpy())

    @pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.float32])
    def test_dtypes_of_masks(self, chw, dtype):
        mask = chw.segments == 2
        _, axes = visualize_spatial_aggregated_attributes(chw.result(), mask.to(dtype))
        expected = torch.empty(4, 5, dtype=torch.float64)
        for inside in (mask, ~mask):
            expected[inside] = chw.values[:, inside].mean()
        np.testing.assert_allclose(drawn_map(axes), scale_heat_map(expected.numpy()))
        assert {text.get_text() for text in axes[2].texts} == {"0", "1"}

    def test_every_kind_of_result(self, chw):
        for result in (chw.spatial(), chw.spectral(), chw.result()):
            values = result.attributes.double()
            _, axes = visualize_spatial_aggregated_attributes(result, chw.segments)
            expected = torch.empty(4, 5, dtype=torch.float64)
            for label in (1, 2, 3):
                expected[chw.segments == label] = values[:, chw.segments == label].mean()
            np.testing.assert_allclose(drawn_map(axes), scale_heat_map(expected.numpy()), rtol=1e-5)

    def test_missing_values_are_left_out_by_nanmean(self, chw):
        values = chw.values.clone()
        values[2, 3, 3] = float("nan")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _, axes = visualize_spatial_aggregated_attributes(
                chw.result(values), chw.segments, aggregate_func=torch.nanmean
            )
        chw.values = values
        np.testing.assert_allclose(drawn_map(axes), segment_means(chw, torch.nanmean))
        with pytest.warns(UserWarning, match="^10 of 20"):
            visualize_spatial_aggregated_attributes(chw.result(values), chw.segments)

    def test_axes_and_pyplot(self, chw, shown):
        axes = plt.subplots(1, 4)[1]
        assert visualize_spatial_aggregated_attributes(chw.result(), chw.segments, axes, use_pyplot=True) is axes
        assert axes[0].figure.texts[0].get_text() == "Spatial Attributes Visualization Aggregated"
        assert not shown
        assert visualize_spatial_aggregated_attributes(chw.result(), chw.segments, use_pyplot=True) is None
        assert shown == [1]
        for wrong in (plt.subplots()[1], plt.subplots(1, 2)[1], plt.subplots(1, 3, squeeze=False)[1]):
            with pytest.raises(ValueError, match="3"):
                visualize_spatial_aggregated_attributes(chw.result(), chw.segments, wrong)

    def test_what_does_not_fit(self, chw):
        for mask in (torch.ones(4, 4), torch.ones(6, 4, 4), torch.ones(1, 1, 1, 1)):
            with pytest.raises(ShapeMismatchError, match="aggregated_mask"):
                visualize_spatial_aggregated_attributes(chw.result(), mask)
        with pytest.raises(TypeError, match="aggregated_mask"):
            visualize_spatial_aggregated_attributes(chw.result(), [[1]])
        with pytest.raises(TypeError, match="HSIAttributes"):
            visualize_spatial_aggregated_attributes([chw.result()], chw.segments)


class TestSpectral:
    def expected(self, scene, values=None):
        values = scene.values if values is None else values
        return [values[scene.band_ids == label].mean().item() for label in (2, 0, 1)]

    def test_each_superband_gets_its_mean(self, scene):
        names = dict(scene.names)
        for mask in (scene.band_ids, scene.band_ids.numpy(), scene.band_ids / 1):
            figure, axes = visualize_spectral_aggregated_attributes(scene.result(), names, mask)
            np.testing.assert_allclose(heights(axes), self.expected(scene))
        assert figure.texts[0].get_text() == "Spectral Attributes Visualization"
        assert names == dict(scene.names)

    def test_each_of_several_results_is_aggregated(self, chw):
        results = [chw.result(k * chw.values, score=k) for k in (1.0, 3.0)]
        _, axes = visualize_spectral_aggregated_attributes(results, dict(chw.names), chw.band_ids)
        expected = np.array(self.expected(chw))
        for box, one, three in zip(axes[1].patches, expected, 3 * expected, strict=True):
            edges = sorted(np.unique(box.get_path().vertices[:, 1]))
            np.testing.assert_allclose([edges[0], edges[-1]], np.quantile([one, three], [0.25, 0.75]))
        assert sum(bar.get_height() for bar in axes[2].patches) == 2

    def test_spectra_of_several_results_are_those_of_each(self, chw):
        """By waveband, several results are drawn as their mean with the range between them."""
        results = [chw.result(k * chw.values) for k in (1.0, 3.0)]
        _, axes = visualize_spectral_aggregated_attributes(results, dict(chw.names), chw.band_ids)
        means = [chw.values[chw.band_ids == label].mean().item() for label in chw.band_ids]
        drawn = {float(x): float(y) for bars in axes[0].containers for x, y in zip(*bars[0].get_data(), strict=True)}
        np.testing.assert_allclose([drawn[wavelength] for wavelength in chw.wavelengths], np.multiply(2, means))

    @pytest.mark.parametrize("orientation", ["CHW", "CWH", "HCW", "HWC", "WCH", "WHC"])
    def test_masks_with_one_two_and_three_axes(self, make_scene, orientation):
        scene = make_scene(orientation)
        along = scene.turn(scene.band_ids[:, None, None])  # size 1 along rows and columns
        axis = orientation.index("C")
        masks = [
            scene.band_ids,
            scene.band_ids.numpy(),
            along.squeeze(0) if axis == 2 else along.squeeze(2),
            along,
            along.expand(scene.hsi().image.shape).numpy(),
            scene.band_ids.to(torch.uint8),
        ]
        for mask in masks:
            _, axes = visualize_spectral_aggregated_attributes(scene.result(), dict(scene.names), mask)
            np.testing.assert_allclose(heights(axes), self.expected(scene))
            plt.close("all")

    def test_axes_and_pyplot(self, chw, shown):
        names = dict(chw.names)
        axes = plt.subplots(1, 3)[1]
        assert visualize_spectral_aggregated_attributes(chw.result(), names, chw.band_ids, axes, True) is axes
        assert visualize_spectral_aggregated_attributes([chw.result()] * 2, names, chw.band_ids, axes, True) is axes
        assert axes[0].figure.texts[0].get_text() == "Spectral Attributes Visualization"
        assert not shown
        assert visualize_spectral_aggregated_attributes(chw.result(), names, chw.band_ids, use_pyplot=True) is None
        assert shown == [1]
        for count, results in ((2, chw.result()), (3, [chw.result()])):
            with pytest.raises(ValueError, match=str(count)):
                visualize_spectral_aggregated_attributes(results, names, chw.band_ids, plt.subplots(1, count - 1)[1])

    def test_options_are_passed_on(self, chw):
        _, axes = visualize_spectral_aggregated_attributes(
            chw.result(),
            dict(chw.names),
            chw.band_ids,
            color_palette=["red", "blue"],
            show_not_included=False,
            aggregate_func=torch.sum,
            title="Mine",
        )
        sums = [chw.values[chw.band_ids == label].sum().item() for label in (2, 1)]
        np.testing.assert_allclose(heights(axes), sums)
        assert axes[0].figure.texts[0].get_text() == "Mine"

    def test_what_does_not_fit(self, chw):
        with pytest.raises(MaskCreationError):
            visualize_spectral_aggregated_attributes(chw.result(), {"a": 9}, chw.band_ids)
        with pytest.raises(ShapeMismatchError):
            visualize_spectral_aggregated_attributes(chw.result(), dict(chw.names), chw.band_ids[:-1])
        with pytest.raises(TypeError, match="band_mask"):
            visualize_spectral_aggregated_attributes(chw.result(), dict(chw.names), chw.band_ids.tolist())
        with pytest.raises(TypeError, match="HSIAttributes"):
            visualize_spectral_aggregated_attributes([3], dict(chw.names), chw.band_ids)
        with pytest.raises(IndexError):
            visualize_spectral_aggregated_attributes([], dict(chw.names), chw.band_ids)
        with pytest.raises(IndexError):
            visualize_spectral_aggregated_attributes(chw.result(), dict(chw.names), chw.band_ids, color_palette=["red"])
        with pytest.raises(ShapeMismatchError, match="spectral mask"):
            visualize_spectral_aggregated_attributes(chw.result(), dict(chw.names), torch.ones(1, 1, 1, 1))

    def test_results_on_other_wavelengths_are_not_drawn_together(self, chw, make_scene):
        other = make_scene("CHW", [451.0, 500.0, 550.0, 600.0, 650.0, 700.0])
        with pytest.raises(ValueError, match="(?i)wavelengths"):
            visualize_spectral_aggregated_attributes([chw.result(), other.result()], dict(chw.names), chw.band_ids)


class TestEither:
    def test_names_decide(self, chw):
        spatial = visualize_aggregated_attributes(chw.result(), chw.segments)
        assert spatial[0].texts[0].get_text() == "Spatial Attributes Visualization Aggregated"
        spectral = visualize_aggregated_attributes(chw.result(), chw.band_ids, dict(chw.names), title="Mine")
        assert spectral[0].texts[0].get_text() == "Mine"
        assert len(spectral[1]) == 2

    def test_lists_are_for_the_spectral_figure(self, chw):
        with pytest.raises(AssertionError, match="list"):
            visualize_aggregated_attributes([chw.result()], chw.segments)
        assert len(visualize_aggregated_attributes([chw.result()], chw.band_ids, dict(chw.names))[1]) == 3

    def test_axes_and_pyplot(self, chw, shown):
        axes = plt.subplots(1, 3)[1]
        assert visualize_aggregated_attributes(chw.result(), chw.segments, ax=axes) is axes
        assert visualize_aggregated_attributes(chw.result(), chw.band_ids, dict(chw.names), ax=axes) is axes
        assert visualize_aggregated_attributes(chw.result(), chw.segments, use_pyplot=True) is None
        assert shown == [1]

    def test_the_result_is_untouched_and_may_require_grad(self, scene):
        result = scene.result(scene.values.clone().requires_grad_() * 1)
        attributes, before = result.attributes, result.attributes.clone()
        visualize_aggregated_attributes(result, scene.turn_map(scene.segments))
        visualize_aggregated_attributes(result, scene.band_ids, dict(scene.names))
        assert result.attributes is attributes
        assert torch.equal(attributes, before)
        assert result.mask is None
        assert result.orientation == tuple(scene.orientation)
