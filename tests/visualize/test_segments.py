"""Ids and borders of segments in the spatial figure."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from meteors_c import HSI
from meteors_c.attr import HSIAttributesSpatial
from meteors_c.visualize import visualize_spatial_attributes


def squares(side: int, size: int) -> np.ndarray:
    """side x side squares of size x size pixels, numbered row by row from 1."""
    return np.kron(np.arange(1, side * side + 1).reshape(side, side), np.ones((size, size), dtype=int))


def draw(mask: np.ndarray, ax=None):
    """The two axes that show the segments of a mask."""
    shape = (3, *mask.shape)
    values = torch.as_tensor(mask % 7 - 3.0).expand(shape)
    hsi = HSI(image=torch.rand(shape), wavelengths=[450.0, 550.0, 650.0])
    result = HSIAttributesSpatial(hsi=hsi, attributes=values, mask=torch.as_tensor(mask).expand(shape))
    drawn = visualize_spatial_attributes(result, ax)
    return (drawn[1] if ax is None else drawn)[1:3]


def written(ax) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.get_position() for text in ax.texts}


def luminance(colour) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    srgb = np.asarray(to_rgb(colour))
    return float(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("side", [1, 3, 6])
def test_every_id_is_written_where_there_is_room(side):
    size = 60 // side
    for ax in draw(squares(side, size)):
        assert list(written(ax)) == [str(i + 1) for i in range(side * side)]
        for text in ax.texts:
            row, column = divmod(int(text.get_text()) - 1, side)
            assert text.get_position() == (column * size + (size - 1) / 2, row * size + (size - 1) / 2)


@pytest.mark.parametrize(("side", "size"), [(20, 10), (50, 4), (100, 2)])
def test_where_there_is_not_every_nth_is_and_none_over_another(side, size):
    mask = squares(side, size)
    axes = draw(mask)
    numbers = np.array([int(label) for label in written(axes[0])])
    assert 20 <= len(numbers) < side * side
    assert np.gcd.reduce(numbers - 1) > 1
    assert list(written(axes[0])) == list(written(axes[1])), "the same ids in both"
    axes[0].figure.canvas.draw()
    for ax in axes:
        boxes = [text.get_window_extent() for text in ax.texts]
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
        for label, (x, y) in written(ax).items():
            assert mask[round(y), round(x)] == int(label)


def test_smaller_axes_have_fewer_ids():
    mask = squares(12, 6)
    counts = []
    for inches in (18, 6, 3, 0.5):
        axes = plt.subplots(1, 3, figsize=(inches, inches / 3))[1]
        counts.append(len(draw(mask, axes)[0].texts))
    assert counts[0] == 144
    assert counts == sorted(counts, reverse=True)
    assert 1 <= counts[-1] < counts[0]


def test_ids_are_as_large_as_their_segments_allow():
    sizes = [draw(squares(side, 60 // side))[0].texts[0].get_fontsize() for side in (2, 10, 15, 30)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1] >= 7


def test_an_outline_contrasts_with_the_hue_of_its_id():
    outlines = set()
    for text in draw(squares(8, 8))[0].texts:
        (outline,) = text.get_path_effects()
        colour = outline._gc["foreground"]
        outlines.add(colour)
        bright, dark = sorted((luminance(text.get_color()), luminance(colour)), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 3
        assert outline._gc["linewidth"] >= 1.5
    assert outlines == {"black", "white"}


def test_the_id_of_a_ring_stands_on_the_ring():
    mask = np.ones((31, 31), dtype=int)
    mask[5:26, 5:26] = 2
    mask[8:23, 8:23] = 3
    for ax in draw(mask):
        for label, (x, y) in written(ax).items():
            assert mask[round(y), round(x)] == int(label)
        # The nearest pixels of the rings are in the middle of one of their sides.
        assert sorted(np.abs(np.subtract(written(ax)["2"], 15))) == [0, 8]
        assert sorted(np.abs(np.subtract(written(ax)["1"], 15))) == [0, 11]
        assert written(ax)["3"] == (15, 15)


def test_ids_need_not_be_numbered_or_whole():
    mask = np.array([[-5.5, -5.5, 7.0], [-5.5, -5.5, 7.0], [1234567, 1234567, 1234567]])
    assert set(written(draw(mask)[0])) == {"-5.5", "7", "1234567"}


def test_borders_lie_between_segments():
    mask = np.array([[1, 1, 2], [1, 1, 2], [3, 3, 3]])
    for ax in draw(mask):
        (borders,) = ax.collections
        edges = {tuple(map(tuple, path.vertices.tolist())) for path in borders.get_paths()}
        assert edges == {
            ((1.5, -0.5), (1.5, 0.5)),
            ((1.5, 0.5), (1.5, 1.5)),
            *(((column - 0.5, 1.5), (column + 0.5, 1.5)) for column in range(3)),
        }
        assert ax.get_xlim() == (-0.5, 2.5)
        assert ax.get_ylim() == (2.5, -0.5)


@pytest.mark.parametrize("mask", [squares(100, 1), np.random.default_rng(0).integers(0, 2, (400, 400))])
def test_borders_that_would_hide_the_map_are_not_drawn(mask):
    for ax in draw(mask):
        assert not ax.collections
        assert ax.texts
