from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from meteors_c.visualize import visualize_hsi


def drawn(ax):
    (image,) = ax.images
    return np.asarray(image.get_array())


def test_the_rgb_bands_are_drawn_upright(scene):
    hsi = scene.hsi()
    ax = visualize_hsi(hsi, plt.subplots()[1])
    stretched = torch.stack([hsi.extract_band_by_name(name) for name in "RGB"], dim=-1)
    if scene.orientation.index("W") < scene.orientation.index("H"):
        stretched = stretched.transpose(0, 1)
    assert drawn(ax).shape == (4, 5, 3)
    np.testing.assert_allclose(drawn(ax), stretched.numpy(), rtol=1e-6)
    assert not ax.axison
    assert ax.get_title() == ""


def test_the_mask_blacks_out_unless_told_otherwise(scene):
    assert not drawn(visualize_hsi(scene.hsi(), plt.subplots()[1]))[0, 0].any()
    assert drawn(visualize_hsi(scene.hsi(), plt.subplots()[1], use_mask=False))[0, 0].any()


def test_a_result_stands_for_its_image(scene):
    result = scene.result()
    of_result = visualize_hsi(result, plt.subplots()[1], title="A field")
    assert of_result.get_title() == "A field"
    np.testing.assert_array_equal(drawn(of_result), drawn(visualize_hsi(result.hsi, plt.subplots()[1])))


def test_the_given_axes_come_back_and_the_default_is_the_current_one(chw):
    ax = plt.subplots(1, 2)[1][0]
    assert visualize_hsi(chw.hsi(), ax) is ax
    assert visualize_hsi(chw.hsi()) is plt.gca()


def test_the_image_is_untouched(scene):
    hsi = scene.hsi()
    image, before, orientation = hsi.image, hsi.image.clone(), hsi.orientation
    visualize_hsi(hsi)
    assert torch.equal(hsi.image, before)
    assert hsi.image.data_ptr() == image.data_ptr()
    assert hsi.orientation == orientation


def test_images_that_require_grad_can_be_drawn(chw):
    hsi = chw.hsi()
    hsi.image = hsi.image.clone().requires_grad_()
    assert drawn(visualize_hsi(hsi)).shape == (4, 5, 3)


def test_other_types_are_refused():
    for value in (None, 3, "text", [], torch.ones(3, 4, 5)):
        with pytest.raises(TypeError, match="HSI"):
            visualize_hsi(value)


def test_a_list_is_no_axes(chw):
    with pytest.raises(AttributeError):
        visualize_hsi(chw.hsi(), [1])
