from __future__ import annotations

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from meteors_c.visualize import attr_visualize, visualize_attributes
from meteors_c.visualize._heat_map import scale_heat_map


def heat_map(ax):
    (image,) = ax.images
    return image


def test_titles_labels_and_size(scene):
    figure, axes = visualize_attributes(scene.result())
    assert figure.get_size_inches().tolist() == [9, 7]
    assert axes.shape == (2, 2)
    assert [ax.get_title() for ax in axes.flat] == [
        "Attribution Heatmap",
        "Attribution Module Values",
        "Spectral Attribution",
        "Spectral Attribution Absolute Values",
    ]
    assert [ax.get_xlabel() for ax in axes[1]] == ["Wavelength", "Wavelength"]
    assert [ax.get_ylabel() for ax in axes[1]] == ["Attribution", "Attribution Absolute Value"]
    assert figure.texts[0].get_text() == "HSI Attributes of: Saliency"


def test_maps_hold_the_scaled_sum_over_bands(scene):
    _, axes = visualize_attributes(scene.result())
    expected = scale_heat_map(scene.values.sum(0).numpy())
    signed, absolute = heat_map(axes[0, 0]), heat_map(axes[0, 1])
    np.testing.assert_allclose(signed.get_array(), expected, rtol=1e-10)
    np.testing.assert_allclose(absolute.get_array(), np.abs(expected), rtol=1e-10)
    assert signed.get_clim() == (-1, 1)
    assert absolute.get_clim() == (0, 1)
    assert absolute.get_cmap().name == "Blues"
    np.testing.assert_allclose(
        signed.get_cmap()([0.0, 0.5, 1.0])[:, :3], [[1, 0, 0], [1, 1, 1], [0, 0.5, 0]], atol=5e-3
    )


def test_each_map_has_a_horizontal_colour_bar_below(chw):
    figure, axes = visualize_attributes(chw.result())
    figure.canvas.draw()
    bars = [ax for ax in figure.axes if ax not in axes.ravel()]
    assert len(bars) == 2
    for ax, bar in zip(axes[0], bars, strict=True):
        above, below = ax.get_position(), bar.get_position()
        assert below.y1 < above.y0
        assert below.height / above.height == pytest.approx(0.05, rel=1e-3)
        assert below.width == pytest.approx(above.width)


def test_spectra_hold_the_sums_over_pixels(scene):
    _, axes = visualize_attributes(scene.result())
    for ax, values, colour in ((axes[1, 0], scene.values, "red"), (axes[1, 1], scene.values.abs(), "blue")):
        (points,) = ax.collections
        expected = np.stack([[450.0, 500, 550, 600, 650, 700], values.sum((1, 2)).numpy()], axis=1)
        np.testing.assert_allclose(points.get_offsets(), expected, rtol=1e-6)
        assert tuple(points.get_facecolor()[0]) == plt.matplotlib.colors.to_rgba(colour)


def test_all_zero_warns_and_draws_nothing(chw):
    with pytest.warns(UserWarning, match="zero"):
        assert visualize_attributes(chw.result(torch.zeros(6, 4, 5))) is None
    assert not plt.get_fignums()


def test_bands_that_cancel_draw_flat_and_warn(chw):
    values = torch.ones(6, 4, 5)
    values[::2] = -1
    with pytest.warns(UserWarning, match="zero"):
        _, axes = visualize_attributes(chw.result(values))
    assert not heat_map(axes[0, 0]).get_array().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_any_dtype_is_drawn(chw, dtype):
    figure, _ = visualize_attributes(chw.result((10 * chw.values).to(dtype)))
    figure.canvas.draw()


def test_given_axes_come_back_with_their_title(chw):
    figure, axes = plt.subplots(3, 3)
    assert visualize_attributes(chw.result(), ax=axes, use_pyplot=True, title="Mine") is axes
    assert figure.texts[0].get_text() == "Mine"
    assert axes[0, 0].get_title() == "Attribution Heatmap"
    assert axes[2, 2].get_title() == ""
    assert plt.get_fignums() == [figure.number]


def test_pyplot_shows_and_gives_nothing(chw, shown):
    assert visualize_attributes(chw.result(), use_pyplot=True) is None
    assert shown == [1]
    visualize_attributes(chw.result(), ax=plt.subplots(2, 2)[1], use_pyplot=True)
    assert shown == [1]


@pytest.mark.parametrize("shape", [(1, 4), (4,), (2, 2, 2), ()])
def test_other_axes_are_refused(chw, shape):
    axes = np.array([plt.subplots()[1] for _ in range(int(np.prod(shape)))]).reshape(shape)
    with pytest.raises(ValueError, match="2 x 2"):
        visualize_attributes(chw.result(), ax=axes[()])


def test_other_types_are_refused(chw):
    for value in (None, 3, chw.hsi(), [chw.result()]):
        with pytest.raises(TypeError, match="HSIAttributes"):
            visualize_attributes(value)


def test_the_result_is_untouched_and_may_require_grad(scene):
    result = scene.result(scene.values.clone().requires_grad_() * 1)
    attributes, before, hsi, orientation = result.attributes, result.attributes.clone(), result.hsi, result.orientation
    visualize_attributes(result)
    assert result.attributes is attributes
    assert torch.equal(attributes, before)
    assert result.hsi is hsi
    assert (result.orientation, hsi.orientation) == (orientation, orientation)


def test_spatial_and_spectral_results_are_results_too(chw):
    for result in (chw.spatial(), chw.spectral()):
        assert visualize_attributes(result)[1].shape == (2, 2)


def test_setup_visualization():
    ax = plt.subplots(1, 2)[1][0]
    assert attr_visualize.setup_visualization(ax, "t", "x", "y") is ax
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("t", "x", "y")
    assert attr_visualize.setup_visualization(None, "t", "x", "y") is plt.gca()
    with pytest.raises(AttributeError):
        attr_visualize.setup_visualization([1], "t", "x", "y")


def test_importing_does_not_import_matplotlib():
    code = "import sys, meteors_c.visualize.attr_visualize; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
