"""Images: what they hold, whatever their memory, and what turning them changes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from meteors_c.attr import InputXGradient, IntegratedGradients, Occlusion, Saliency
from tests.properties.strategies import Image, assert_near, images, orientations, windows
from tests.toys import explainable


@given(image=images())
def test_an_image_holds_the_numbers_that_it_was_given(image: Image) -> None:
    hsi = image.hsi
    shown = hsi.get_image()
    assert shown.dtype == hsi.image.dtype
    assert torch.equal(shown.to(image.masked.dtype), image.masked)
    assert torch.equal(hsi.binary_mask, image.mask)
    assert torch.equal(hsi.spatial_binary_mask, image.mask.select(hsi.spectral_axis, 0))
    assert torch.equal(torch.where(image.mask, hsi.get_image(apply_mask=False), 0), shown)


@given(image=images(), orientation=orientations)
def test_turning_is_a_permutation_of_views(image: Image, orientation: str) -> None:
    hsi = image.hsi
    turned = hsi.change_orientation(orientation)
    order = [hsi.orientation.index(letter) for letter in orientation]
    assert turned.orientation == tuple(orientation)
    assert torch.equal(turned.image, hsi.image.permute(order))
    assert turned.image.data_ptr() == hsi.image.data_ptr()
    assert torch.equal(turned.binary_mask, image.mask.permute(order))
    assert torch.equal(turned.get_image(), hsi.get_image().permute(order))
    assert turned.change_orientation(hsi.orientation) == hsi


def symmetric(x: torch.Tensor) -> torch.Tensor:
    """It does not know one place from another."""
    return torch.tanh(x).sum((1, 2, 3)) + x.mean((1, 2, 3)).sin()


@given(data=st.data(), image=images(), orientation=orientations)
def test_turning_commutes_with_attribution(data: st.DataObject, image: Image, orientation: str) -> None:
    hsi, model, size = image.hsi, explainable(symmetric), float(image.masked.numel())
    turned = hsi.change_orientation(orientation)
    for explain in (
        lambda of: Saliency(model).attribute(of),
        lambda of: InputXGradient(model).attribute(of),
        lambda of: IntegratedGradients(model).attribute(of, 0.5, n_steps=4),
        lambda of: Occlusion(model).get_spectral_attributes(of, None, 1, 1, 0.5),
    ):
        wanted, found = explain(hsi).change_orientation(orientation), explain(turned)
        assert_near(found.attributes, wanted.attributes, image.masked.dtype, size)
    sizes = dict(zip(hsi.orientation, hsi.image.shape, strict=True))
    window, stride = data.draw(windows([sizes["H"], sizes["W"]]), "window and stride")
    letters = [letter for letter in hsi.orientation if letter != "C"]
    for_letter = {"H": (window[0], stride[0]), "W": (window[1], stride[1])}
    other = [letter for letter in orientation if letter != "C"]
    found, wanted = (
        Occlusion(model).get_spatial_attributes(
            of, None, tuple(for_letter[a][0] for a in order), tuple(for_letter[a][1] for a in order)
        )
        for of, order in ((turned, other), (hsi, letters))
    )
    assert_near(found.attributes, wanted.change_orientation(orientation).attributes, image.masked.dtype, size)
