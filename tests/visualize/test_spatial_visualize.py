from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from meteors_c.visualize import visualize_bands_spatial_attributes, visualize_spatial_attributes
from meteors_c.visualize._heat_map import scale_heat_map


def drawn(ax):
    (image,) = ax.images
    return np.asarray(image.get_array())


class TestSpatial:
    def test_titles_and_sizes(self, scene):
        figure, axes = visualize_spatial_attributes(scene.spatial())
        assert figure.get_size_inches().tolist() == [15, 5]
        assert [ax.get_title() for ax in axes] == ["Original image", "Attribution Map", "Mask"]
        assert figure.texts[0].get_text() == "Spatial Attributes Visualization"
        assert not any(ax.axison for ax in axes)

        figure, axes = visualize_spatial_attributes(scene.spatial(with_mask=False), title="Mine")
        assert figure.get_size_inches().tolist() == [10, 4]
        assert [ax.get_title() for ax in axes] == ["Original image", "Attribution Map"]
        assert figure.texts[0].get_text() == "Mine"

    def test_map_and_mask_are_upright(self, scene):
        _, axes = visualize_spatial_attributes(scene.spatial())
        values = torch.tensor([0.0, 1.0, -2.0, 3.0])[scene.segments].double().numpy()
        np.testing.assert_allclose(drawn(axes[1]), scale_heat_map(values))
        np.testing.assert_array_equal(drawn(axes[2]), scene.segments.numpy())
        assert axes[1].images[0].get_clim() == (-1, 1)
        assert axes[2].images[0].get_cmap().name == "gray"

    def test_ids_stand_at_the_centres_in_their_colours(self, scene):
        _, axes = visualize_spatial_attributes(scene.spatial())
        for ax in axes[1:]:
            written = {text.get_text(): text.get_position() for text in ax.texts}
            assert written == {"1": (0.5, 0.5), "2": (3.0, 0.5), "3": (2.0, 2.5)}
            assert len({text.get_color() for text in ax.texts}) == 3
        colours = [[text.get_color() for text in ax.texts] for ax in axes[1:]]
        assert colours[0] == colours[1]

    def test_float_masks(self, chw):
        result = chw.spatial()
        result.mask = result.mask / 2
        _, axes = visualize_spatial_attributes(result)
        assert [text.get_text() for text in axes[2].texts] == ["0.5", "1", "1.5"]

    def test_a_mask_of_one_id(self, chw):
        result = chw.spatial()
        result.mask = result.mask * 0
        _, axes = visualize_spatial_attributes(result)
        assert [text.get_text() for text in axes[2].texts] == ["0"]

    def test_all_zero_draws_and_warns(self, chw):
        with pytest.warns(UserWarning, match="zero"):
            figure, axes = visualize_spatial_attributes(chw.spatial(torch.zeros(4)))
        figure.canvas.draw()
        assert not drawn(axes[1]).any()

    def test_given_axes_come_back(self, chw, shown):
        figure, axes = plt.subplots(1, 5)  # more than are needed
        assert visualize_spatial_attributes(chw.spatial(), axes, use_pyplot=True) is axes
        assert figure.texts[0].get_text() == "Spatial Attributes Visualization"
        assert not shown

    def test_two_axes_suffice_without_a_mask(self, chw):
        axes = plt.subplots(2, 1)[1]
        assert visualize_spatial_attributes(chw.spatial(with_mask=False), axes) is axes

    def test_pyplot_shows_and_gives_nothing(self, chw, shown):
        assert visualize_spatial_attributes(chw.spatial(), use_pyplot=True) is None
        assert shown == [1]

    def test_single_or_too_few_axes_and_2d_ones_are_refused(self, chw):
        for axes in (plt.subplots()[1], plt.subplots(1, 2)[1], plt.subplots(1, 3, squeeze=False)[1], "text"):
            figures = len(plt.get_fignums())
            with pytest.raises(ValueError, match="3"):
                visualize_spatial_attributes(chw.spatial(), axes)
            assert len(plt.get_fignums()) == figures

    def test_other_types_are_refused(self, chw):
        for value in (None, chw.result(), chw.spectral()):
            with pytest.raises(TypeError, match="HSIAttributesSpatial"):
                visualize_spatial_attributes(value)

    def test_the_result_is_untouched(self, scene):
        result = scene.spatial()
        result.attributes = result.attributes.clone().requires_grad_()
        attributes, mask, hsi = result.attributes, result.mask, result.hsi
        before = attributes.clone()
        visualize_spatial_attributes(result)
        assert result.attributes is attributes
        assert torch.equal(attributes, before)
        assert result.mask is mask
        assert result.hsi is hsi
        assert hsi.orientation == tuple(scene.orientation)


class TestBands:
    def test_all_bands_by_default(self, scene):
        figure, axes = visualize_bands_spatial_attributes(scene.result())
        assert figure.get_size_inches().tolist() == [10, 4]
        assert [ax.get_title() for ax in axes] == ["Original image", "Attribution Map"]
        assert figure.texts[0].get_text() == "Spatial Attributes Visualization"
        np.testing.assert_allclose(drawn(axes[1]), scale_heat_map(scene.values.mean(0).numpy()))

    @pytest.mark.parametrize("indices", [[1, 4], (1, 4), torch.tensor([1, 4]), np.array([1, 4])])
    def test_by_index(self, scene, indices):
        _, axes = visualize_bands_spatial_attributes(scene.result(), indices)
        np.testing.assert_allclose(drawn(axes[1]), scale_heat_map(scene.values[[1, 4]].mean(0).numpy()))

    @pytest.mark.parametrize("wavelengths", [[500.0, 650.0], [500, 650], torch.tensor([500.0, 650.0])])
    def test_by_wavelength(self, scene, wavelengths):
        _, axes = visualize_bands_spatial_attributes(scene.result(), spectral_wavelengths=wavelengths)
        np.testing.assert_allclose(drawn(axes[1]), scale_heat_map(scene.values[[1, 4]].mean(0).numpy()))

    def test_one_band_without_a_list(self, chw):
        expected = scale_heat_map(chw.values[1].numpy())
        np.testing.assert_allclose(drawn(visualize_bands_spatial_attributes(chw.result(), 1)[1][1]), expected)
        by_wavelength = visualize_bands_spatial_attributes(chw.result(), spectral_wavelengths=500.0)
        np.testing.assert_allclose(drawn(by_wavelength[1][1]), expected)

    def test_indices_win(self, chw):
        _, axes = visualize_bands_spatial_attributes(chw.result(), [0], [500.0, 123.0])
        np.testing.assert_allclose(drawn(axes[1]), scale_heat_map(chw.values[0].numpy()))

    def test_wavelengths_are_found_in_the_precision_of_the_image(self, chw):
        result = chw.result()
        result.hsi.wavelengths = torch.tensor([450.0, 500.43, 550.0, 600.0, 650.0, 700.0])
        _, axes = visualize_bands_spatial_attributes(result, spectral_wavelengths=[500.43])
        np.testing.assert_allclose(drawn(axes[1]), scale_heat_map(chw.values[1].numpy()))

    def test_fractions_are_not_found_among_whole_wavelengths(self, chw):
        result = chw.result()
        result.hsi.wavelengths = torch.tensor([450, 500, 550, 600, 650, 700])
        visualize_bands_spatial_attributes(result, spectral_wavelengths=[500])
        with pytest.raises(ValueError, match=r"500\.5"):
            visualize_bands_spatial_attributes(result, spectral_wavelengths=[500.5])

    def test_an_index_out_of_range(self, chw):
        for indices in ([6], [-1], [0, 99]):
            with pytest.raises(IndexError, match=str(indices[-1])):
                visualize_bands_spatial_attributes(chw.result(), indices)

    def test_other_selections_are_refused(self, chw):
        with pytest.raises(ValueError, match="501"):
            visualize_bands_spatial_attributes(chw.result(), spectral_wavelengths=[500.0, 501.0])
        with pytest.raises(TypeError, match="spectral_indexes"):
            visualize_bands_spatial_attributes(chw.result(), [1.5])
        with pytest.raises(ValueError, match="spectral_"):
            visualize_bands_spatial_attributes(chw.result(), [])
        with pytest.raises(ValueError, match="spectral_"):
            visualize_bands_spatial_attributes(chw.result(), spectral_wavelengths=[])
        assert not plt.get_fignums()

    def test_integer_attributions(self, chw):
        values = torch.arange(120).reshape(6, 4, 5)
        _, axes = visualize_bands_spatial_attributes(chw.result(values), [0, 1])
        np.testing.assert_allclose(drawn(axes[1]), scale_heat_map(values[:2].double().mean(0).numpy()), rtol=1e-6)

    def test_all_zero_draws_and_warns(self, chw):
        with pytest.warns(UserWarning, match="zero"):
            assert visualize_bands_spatial_attributes(chw.result(torch.zeros(6, 4, 5)))[1].shape == (2,)

    def test_axes_and_pyplot(self, chw, shown):
        axes = plt.subplots(1, 2)[1]
        assert visualize_bands_spatial_attributes(chw.result(), ax=axes) is axes
        assert visualize_bands_spatial_attributes(chw.result(), use_pyplot=True) is None
        assert shown == [1]
        with pytest.raises(ValueError, match="2"):
            visualize_bands_spatial_attributes(chw.result(), ax=plt.subplots()[1])

    def test_every_kind_of_result_that_may_require_grad(self, chw):
        for result in (chw.spatial(), chw.spectral(), chw.result(chw.values.clone().requires_grad_())):
            assert visualize_bands_spatial_attributes(result)[1].shape == (2,)
        with pytest.raises(TypeError, match="HSIAttributes"):
            visualize_bands_spatial_attributes(chw.hsi())
