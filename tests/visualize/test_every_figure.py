"""What holds for every figure: orientations, order and range of bands, no-data values, values that are not finite."""

from __future__ import annotations

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from meteors_c import HSI, visualize
from meteors_c.attr import HSIAttributes, HSIAttributesSpatial

FIGURES = {
    "hsi": lambda s: visualize.visualize_hsi(s.hsi(), title="Original image"),
    "attributes": lambda s: visualize.visualize_attributes(s.result())[1],
    "spatial": lambda s: visualize.visualize_spatial_attributes(s.spatial())[1],
    "spatial without mask": lambda s: visualize.visualize_spatial_attributes(s.spatial(with_mask=False))[1],
    "bands": lambda s: visualize.visualize_bands_spatial_attributes(s.result())[1],
    "spatial aggregated": lambda s: visualize.visualize_spatial_aggregated_attributes(
        s.result(), s.turn_map(s.segments)
    )[1],
    "aggregated": lambda s: visualize.visualize_aggregated_attributes(s.result(), s.turn(s.segments.expand(1, 4, 5)))[
        1
    ],
    "spectral": lambda s: visualize.visualize_spectral_attributes(s.spectral())[1],
    "spectral list": lambda s: visualize.visualize_spectral_attributes([s.spectral(score=1.0), s.spectral()])[1],
    "spectral aggregated": lambda s: visualize.visualize_spectral_aggregated_attributes(
        [s.result(), s.result(2 * s.values)], dict(s.names), s.band_ids
    )[1],
    "by waveband": lambda s: visualize.visualize_spectral_attributes_by_waveband(s.spectral(), None),
    "by magnitude": lambda s: visualize.visualize_spectral_attributes_by_magnitude([s.spectral()] * 2, None),
}
WITH_PICTURE = ["hsi", "spatial", "spatial without mask", "bands", "spatial aggregated", "aggregated"]
WITH_ATTRIBUTIONS = [name for name in FIGURES if name != "hsi"]


def drawn(axes):
    """Everything on the axes as arrays; points in the order of their x, which follows that of the bands."""
    arrays = []
    for ax in np.ravel(axes):
        arrays += [np.ma.filled(image.get_array(), np.nan) for image in ax.images]
        points = [collection.get_offsets() for collection in ax.collections]
        points += [line.get_xydata() for line in ax.lines]
        arrays += [np.asarray(some)[np.argsort(np.asarray(some)[:, 0], kind="stable")] for some in points]
        arrays += [patch.get_path().vertices for patch in ax.patches]
    return arrays


def assert_same(axes, others):
    for one, other in zip(drawn(axes), drawn(others), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def pictures(axes):
    """The axes of the picture and what is drawn there."""
    ax = np.ravel(axes)[0]
    return ax, np.asarray(ax.images[0].get_array())


@pytest.mark.parametrize(
    ("orientation", "descending"), [("CWH", True), ("HCW", False), ("HWC", True), ("WCH", False), ("WHC", False)]
)
def test_orientation_and_the_order_of_the_bands_make_no_difference(make_scene, orientation, descending):
    for draw in FIGURES.values():
        other = make_scene(orientation)
        assert_same(draw(other.reverse_bands() if descending else other), draw(make_scene("CHW")))
        plt.close("all")


@pytest.mark.parametrize(
    ("name", "orientation", "descending"),
    [
        ("hsi", "HWC", False),
        ("hsi", "CWH", True),
        ("attributes", "CWH", False),
        ("spatial", "HWC", True),
        ("spatial without mask", "CWH", False),
        ("bands", "CWH", True),
        ("spatial aggregated", "HWC", False),
        ("aggregated", "CWH", False),
        ("spectral", "HWC", True),
        ("spectral list", "CWH", False),
        ("spectral aggregated", "HWC", False),
        ("by waveband", "CWH", True),
        ("by magnitude", "HWC", False),
    ],
)
def test_no_figure_needs_red_green_and_blue(make_scene, name, orientation, descending):
    near_infrared = make_scene(orientation, [1000.0, 1100.0, 1200.0, 1300.0, 1400.0, 1600.0])
    if descending:
        near_infrared.reverse_bands()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = FIGURES[name](near_infrared)
        np.ravel(axes)[0].figure.canvas.draw()
    if name in WITH_PICTURE:
        ax, pixels = pictures(axes)
        picture, note = near_infrared.hsi().change_orientation("HWC").get_picture(output_channel_axis=2)
        assert "nm" in note
        assert ax.get_title() == f"Original image ({note})"
        np.testing.assert_allclose(pixels, picture.numpy(), rtol=1e-6)
        assert pixels.min() == 0
        assert pixels.max() == 1
        assert pixels.std(axis=2).any(), "three different bands"


def test_the_title_is_plain_where_there_is_red_green_and_blue(make_scene):
    for name in WITH_PICTURE:
        assert pictures(FIGURES[name](make_scene("HWC")))[0].get_title() == "Original image"
        plt.close("all")


@pytest.mark.parametrize("bands", [1, 2, 3])
def test_few_bands(make_scene, bands):
    hsi = make_scene("CHW").hsi()
    few = type(hsi)(image=hsi.image[:bands], wavelengths=[1000.0, 1300.0, 1600.0][:bands])
    ax = visualize.visualize_hsi(few)
    assert "1000" in ax.get_title()
    assert pictures(ax)[1].shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("name", "orientation", "no_data", "wavelengths"),
    [
        ("hsi", "HWC", -9999.0, range(450, 750, 50)),
        ("hsi", "CWH", float("nan"), range(1000, 1600, 100)),
        ("spatial", "CWH", -9999.0, range(1000, 1600, 100)),
        ("bands", "HWC", float("inf"), range(450, 750, 50)),
        ("spatial aggregated", "CHW", -9999.0, range(1500, 900, -100)),
        ("aggregated", "HWC", float("nan"), range(700, 400, -50)),
    ],
)
def test_values_under_the_mask_do_not_dim_the_picture(make_scene, name, orientation, no_data, wavelengths):
    scene = make_scene(orientation, wavelengths)
    scene.excluded[1] = True
    _, before = pictures(FIGURES[name](scene))
    plt.close("all")
    scene.picture = scene.picture.masked_fill(scene.excluded, no_data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, after = pictures(FIGURES[name](scene))
    np.testing.assert_array_equal(after, before)
    inside = after[~scene.excluded.numpy()]
    assert inside.min() == 0
    assert inside.max() == 1
    assert not after[scene.excluded.numpy()].any()


@pytest.mark.parametrize(("name", "value"), [("attributes", 1e6), ("spatial", float("nan")), ("bands", float("-inf"))])
def test_attributions_under_the_mask_do_not_set_the_scale(make_scene, name, value):
    scene = make_scene("HWC")
    scene.excluded[:2, :2] = True  # all of segment 1
    heat_map = {"attributes": 0}.get(name, 1)
    before = np.ravel(FIGURES[name](scene))[heat_map].images[0].get_array()
    scene.values[:, :2, :2] = value
    scene.segment_values[1] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = np.ravel(FIGURES[name](scene))[heat_map].images[0].get_array()
    included = ~scene.excluded.numpy()
    np.testing.assert_array_equal(after[included], before[included])


@pytest.mark.parametrize("name", WITH_ATTRIBUTIONS)
def test_values_that_are_not_finite_are_blank_and_counted_in_one_warning(make_scene, name):
    scene = make_scene("HWC")
    scene.values[2, 1, 1], scene.values[3, 3, 3] = float("nan"), float("inf")
    scene.segment_values[2] = float("-inf")
    scene.group_values[1] = float("nan")
    with pytest.warns(UserWarning, match=r"^\d+ of \d+ ") as caught:
        axes = FIGURES[name](scene)
    np.ravel(axes)[0].figure.canvas.draw()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for ax in np.ravel(axes):
        assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()
        assert (
            np.isfinite(np.ma.compressed(np.ma.masked_invalid(ax.images[0].get_array()))).all() if ax.images else True
        )


def test_how_many_are_not_finite(make_scene):
    scene = make_scene("CHW")
    scene.values[2, 1, 1], scene.values[3, 1, 1] = float("nan"), float("inf")
    with pytest.warns(UserWarning, match="^2 of 120"):
        axes = visualize.visualize_attributes(scene.result())[1]
    assert np.argwhere(np.ma.getmaskarray(np.ma.masked_invalid(axes[0, 0].images[0].get_array()))).tolist() == [[1, 1]]
    sums = scene.values.nan_to_num(0.0, 0.0, 0.0).sum((1, 2))
    np.testing.assert_allclose(axes[1, 0].collections[0].get_offsets()[:, 1], sums)
    scene.segment_values[3] = float("inf")
    with pytest.warns(UserWarning, match="^10 of 20"):
        visualize.visualize_spatial_attributes(scene.spatial())


def test_a_band_without_a_finite_value_has_no_point(make_scene):
    scene = make_scene("CHW")
    scene.values[4] = float("nan")
    with pytest.warns(UserWarning, match="^19 of 120"):  # one pixel is excluded
        axes = visualize.visualize_attributes(scene.result())[1]
    for ax in axes[1]:
        assert ax.collections[0].get_offsets()[:, 0].tolist() == [450.0, 500.0, 550.0, 600.0, 700.0]


def test_results_that_are_finite_are_drawn_beside_others(make_scene):
    scene = make_scene("CHW")
    results = [scene.spectral([value, value, value]) for value in (1.0, 2.0, float("inf"))]
    with pytest.warns(UserWarning, match="^6 of 18"):
        axes = visualize.visualize_spectral_attributes(results)[1]
    for container in axes[0].containers:
        assert set(container[0].get_ydata()) == {1.5}
    for box in axes[1].patches:
        assert set(box.get_path().vertices[:, 1]) == {1.25, 1.75}


def test_pixels_that_are_not_finite_do_not_dim_the_picture(make_scene):
    scene = make_scene("CHW")
    scene.picture[:, 2, 2], scene.picture[:, 3, 3] = float("nan"), float("inf")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax, pixels = pictures(visualize.visualize_hsi(scene.hsi()))
        ax.figure.canvas.draw()
    assert pixels.min() == 0
    assert pixels.max() == 1
    assert not pixels[[2, 3], [2, 3]].any()


@pytest.mark.parametrize("shape", [(40, 60), (60, 20)])
def test_nothing_lies_outside_the_figure(shape):
    hsi = HSI(image=torch.rand(3, *shape), wavelengths=[450.0, 550.0, 650.0])
    values = torch.rand(3, *shape)
    spatial = HSIAttributesSpatial(hsi=hsi, attributes=values, mask=torch.ones(3, *shape))
    for figure, _ in (
        visualize.visualize_attributes(HSIAttributes(hsi=hsi, attributes=values)),
        visualize.visualize_spatial_attributes(spatial),
        visualize.visualize_bands_spatial_attributes(spatial),
    ):
        figure.canvas.draw()
        box = figure.get_tightbbox()
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.get_figwidth()
        assert box.y1 <= figure.get_figheight()


def test_missing_values_do_not_look_like_zero(make_scene):
    scene = make_scene("CHW")
    scene.values[0, 1, 1] = float("nan")
    with pytest.warns(UserWarning, match="NaN"):
        axes = visualize.visualize_attributes(scene.result())[1]
    for ax in axes[0]:
        missing, zero = ax.images[0].cmap([np.nan, 0.5 if ax is axes[0, 0] else 0.0])
        assert np.abs(missing - zero).max() > 0.1
