"""A small image with red, green and blue bands, and results on it, in any orientation."""

from __future__ import annotations

import types
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.hsi import HSI


class Scene:
    """Builds an image and results; its tensors are always given and compared as (bands, height, width).

    ``excluded`` are the pixels outside the image's mask. ``values`` are the attributions of `result`; those of
    `spatial` and `spectral` stand once per segment and superband, from id 0.
    """

    segments = torch.tensor([[1, 1, 2, 2, 2]] * 2 + [[3, 3, 3, 3, 3]] * 2)
    names = types.MappingProxyType({("N", "R"): 1, "G": 2})
    bands = 6

    def __init__(
        self, orientation: str, wavelengths: Sequence[float] = (450.0, 500.0, 550.0, 600.0, 650.0, 700.0)
    ) -> None:
        self.orientation = orientation
        self.wavelengths = list(wavelengths)
        generator = torch.Generator().manual_seed(0)
        self.picture = torch.rand(6, 4, 5, generator=generator)
        self.excluded = torch.zeros(4, 5, dtype=torch.bool)
        self.excluded[0, 0] = True
        self.values = torch.randn(6, 4, 5, generator=generator, dtype=torch.float64)
        self.segment_values = torch.tensor([0.0, 1.0, -2.0, 3.0])
        self.group_values = torch.tensor([0.25, 1.0, -2.0])
        self.band_ids = torch.tensor([0, 1, 1, 2, 2, 2])

    def reverse_bands(self) -> Scene:
        """Turn the order of the bands round, in place."""
        self.wavelengths.reverse()
        self.picture, self.values, self.band_ids = (t.flip(0) for t in (self.picture, self.values, self.band_ids))
        return self

    def turn(self, tensor: torch.Tensor) -> torch.Tensor:
        """From (bands, height, width) to the orientation of the scene."""
        return tensor.permute(["CHW".index(letter) for letter in self.orientation])

    def turn_map(self, tensor: torch.Tensor) -> torch.Tensor:
        """From (height, width) to the scene's order of these axes."""
        return tensor if self.orientation.index("H") < self.orientation.index("W") else tensor.T

    def hsi(self, **kwargs) -> HSI:
        kwargs.setdefault("wavelengths", self.wavelengths)
        return HSI(
            image=self.turn(self.picture).contiguous(),
            orientation=tuple(self.orientation),
            binary_mask=self.turn((~self.excluded).expand(6, 4, 5)).contiguous(),
            **kwargs,
        )

    def result(self, values: torch.Tensor | None = None, **kwargs) -> HSIAttributes:
        values = self.values if values is None else values
        kwargs.setdefault("attribution_method", "Saliency")
        return HSIAttributes(hsi=self.hsi(), attributes=self.turn(values), **kwargs)

    def spatial(self, values: torch.Tensor | None = None, with_mask: bool = True, **kwargs) -> HSIAttributesSpatial:
        values = self.segment_values if values is None else values
        attributes = self.turn(values[self.segments].expand(6, 4, 5))
        mask = self.turn(self.segments.expand(6, 4, 5)) if with_mask else None
        return HSIAttributesSpatial(hsi=self.hsi(), attributes=attributes, mask=mask, **kwargs)

    def spectral(self, values=None, names=None, wavelengths=None, **kwargs) -> HSIAttributesSpectral:
        values = self.group_values if values is None else torch.as_tensor(values)
        return HSIAttributesSpectral(
            hsi=self.hsi(wavelengths=self.wavelengths if wavelengths is None else wavelengths),
            attributes=self.turn(values[self.band_ids][:, None, None].expand(6, 4, 5)),
            mask=self.turn(self.band_ids[:, None, None].expand(6, 4, 5)),
            band_names=dict(self.names) if names is None else names,
            **kwargs,
        )


@pytest.fixture
def scene():
    """A scene in an orientation that shares no axis with the usual one."""
    return Scene("WCH")


@pytest.fixture
def chw():
    """A scene in the usual orientation."""
    return Scene("CHW")


@pytest.fixture
def make_scene():
    """The class itself, for tests that choose its orientation and wavelengths."""
    return Scene


@pytest.fixture(autouse=True)
def close_figures():
    """Leave no figure behind, nor start with one."""
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """Count the calls of ``plt.show``."""
    calls = []
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: calls.append(1))
    return calls
