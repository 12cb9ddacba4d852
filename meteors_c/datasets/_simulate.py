"""Simulated fields in the manner of the HYPERVIEW challenge, with targets that depend on known bands.

One field is a crop over soil, seen by a 150-band sensor:

- **Canopy**: plants cover part of each pixel, mixed linearly with bare soil: a layer that absorbs and scatters
  over a reflecting ground: Kubelka's exact two-flux solution [1]_, used for plant canopies by Allen and
  Richardson [2]_. Absorption is the sum of pigments and water, each a sum of Gaussian bands at published peak positions
  (table ``ABSORPTION``; chlorophyll and carotenoids [3]_, anthocyanins [4]_, long-wave chlorophyll forms of
  photosystem I [5]_, water [6]_). Their heights are set so that the average pixel resembles fields of the challenge.
- **Soil**: a line rising with the wavelength, cut by the ferric bands of goethite at 480, 650 and 910 nm [7]_ and
  darkened by water films after Angstrom [8]_.
- **Sensor**: shot and read noise; whole numbers on the challenge's scale (10000 times reflectance).

The four targets carry the challenge's names and lie in its ranges, but **the links are made up**, so that the truth is
known. Each target drives one absorber, and the four absorbers share no bands:

=======  =========================================  ==============
target   drives                                     peaks at
=======  =========================================  ==============
``P``    anthocyanins (more when P is short)        550 nm
``K``    leaf water                                 970 nm (wing)
``Mg``   long-wave chlorophyll forms (red edge)     712 nm
``pH``   goethite in the soil (less when pH rises)  480 nm
=======  =========================================  ==============

.. [1] P. Kubelka, J. Opt. Soc. Am. 38, 448 (1948), eq. 18.
.. [2] W. A. Allen, A. J. Richardson, J. Opt. Soc. Am. 58, 1023 (1968).
.. [3] H. K. Lichtenthaler, Methods Enzymol. 148, 350 (1987); shapes in vivo as in PROSPECT-5, J.-B. Feret et al.,
       Remote Sens. Environ. 112, 3030 (2008).
.. [4] A. A. Gitelson et al., Photochem. Photobiol. 74, 38 (2001).
.. [5] B. Gobets, R. van Grondelle, Biochim. Biophys. Acta 1507, 80 (2001).
.. [6] J. A. Curcio, C. C. Petty, J. Opt. Soc. Am. 41, 302 (1951).
.. [7] D. M. Sherman, T. D. Waite, Am. Mineral. 70, 1262 (1985).
.. [8] A. Angstrom, Geogr. Ann. 7, 323 (1925).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Band centres in nm: the 150 bands of the challenge (to 0.01 nm), evenly spaced.
WAVELENGTHS: Array = np.round(np.linspace(462.08, 938.37, 150), 2)

TARGET_NAMES = ("P", "K", "Mg", "pH")
#: Lowest and highest value of each target (mg/kg; pH has no unit), (4, 2).
TARGET_RANGES: Array = np.array([[20.0, 120.0], [100.0, 400.0], [60.0, 260.0], [5.6, 7.8]])
#: Counts per unit of reflectance.
SCALE = 10000.0

#: Gaussian bands of each absorber: centre (nm), standard deviation (nm), height (absorption over scattering).
ABSORPTION: dict[str, tuple[tuple[float, float, float], ...]] = {
    "chlorophyll": (
        (435.0, 25.0, 13.0),
        (470.0, 20.0, 6.0),
        (560.0, 60.0, 2.5),
        (620.0, 20.0, 3.0),
        (650.0, 14.0, 4.5),
        (677.0, 14.0, 11.0),
    ),
    "carotenoids": ((450.0, 15.0, 4.0), (480.0, 14.0, 4.0)),
    "anthocyanins": ((550.0, 14.0, 4.0),),
    "long-wave chlorophylls": ((712.0, 9.0, 0.8),),
    "water": ((970.0, 28.0, 0.55),),
    "goethite 480": ((480.0, 11.0, 0.55),),
    "goethite": ((650.0, 40.0, 0.06), (910.0, 45.0, 0.08)),
}

READ_NOISE = 6.0  #: standard deviation in counts
SHOT_NOISE = 0.12  #: standard deviation in counts over the square root of counts


class Field(NamedTuple):
    """Fields drawn by :func:`simulate_fields`.

    Attributes
    ----------
    data : ndarray of int16, (n, 150, rows, columns)
        10000 times reflectance; 0 outside the field.
    inside : ndarray of bool, (n, rows, columns)
        True inside the field.
    targets : ndarray of float64, (n, 4)
        P, K, Mg (mg/kg) and pH of each field.
    """

    data: NDArray[np.int16]
    inside: NDArray[np.bool_]
    targets: Array


class Scene(NamedTuple):
    """What the reflectance of pixels depends on: arrays without a band axis that broadcast together.

    Attributes
    ----------
    level : array, (4, ...)
        Targets as fractions of their ranges, in the order of `TARGET_NAMES`.
    cover, leaf_area, chlorophyll : array
        Fraction of the ground under plants, their leaf area index, their chlorophyll relative to the average leaf.
    brightness, wetness, light : array
        Soil brightness (relative), wetness of the soil (0 to 1), light that reaches the pixel (relative).
    """

    level: Array
    cover: Array
    leaf_area: Array
    chlorophyll: Array
    brightness: Array
    wetness: Array
    light: Array


def absorption(name: str) -> Array:
    """Absorption spectrum of one entry of `ABSORPTION`, (150,)."""
    centre, width, height = np.array(ABSORPTION[name]).T[:, :, None]
    return (height * np.exp(-0.5 * ((WAVELENGTHS - centre) / width) ** 2)).sum(axis=0)


def reflectance(scene: Scene) -> Array:
    """Reflectance of soil under a canopy, (..., 150) for a scene of shape (...)."""
    phosphorus, potassium, magnesium, acidity = (np.asarray(level)[..., None] for level in scene.level)
    cover, leaf_area, chlorophyll, brightness, wetness, light = (np.asarray(part)[..., None] for part in scene[1:])

    # Soil: the optical depth of goethite falls as pH rises. A water film of index 1.33 traps light (Angstrom).
    line = 0.13 + 0.17 * (WAVELENGTHS - 460.0) / 480.0
    dry = brightness * line * np.exp(-(1.0 - acidity) * absorption("goethite 480") - absorption("goethite"))
    wet = dry / (1.33**2 * (1.0 - dry) + dry)
    soil = dry + wetness * (wet - dry)

    # Canopy: absorption over scattering, then Kubelka's layer of optical thickness 0.45 per unit of leaf area.
    ratio = (
        0.25
        + chlorophyll * (absorption("chlorophyll") + absorption("carotenoids"))
        + (0.15 + 1.0 - phosphorus) * absorption("anthocyanins")
        + (0.15 + magnesium) * absorption("long-wave chlorophylls")
        + (0.15 + potassium) * absorption("water")
    )
    a = 1.0 + ratio
    b = np.sqrt(a * a - 1.0)
    b_coth = b / np.tanh(b * 0.45 * leaf_area)
    plants = (1.0 - soil * (a - b_coth)) / (a - soil + b_coth)
    return np.asarray(light * (cover * plants + (1.0 - cover) * soil))


def average_scene(level: Array) -> Scene:
    """Average pixels, with the targets at these fractions of their ranges, (4, ...)."""
    average = map(np.asarray, (0.55, 1.8, 1.0, 1.0, 0.3, 0.75))
    return Scene(level, *average)


def reference_spectrum() -> Array:
    """Spectrum of the average pixel with every target in the middle of its range, in counts, (150,)."""
    return SCALE * reflectance(average_scene(np.full(4, 0.5)))


def band_response() -> Array:
    """Change of the average pixel's counts when one target goes from its lowest to its highest value, (4, 150).

    The other targets stay in the middle of their ranges.
    """
    step = 0.5 * np.eye(4)
    return SCALE * (reflectance(average_scene(0.5 + step)) - reflectance(average_scene(0.5 - step)))


def known_bands(fraction: float = 0.2) -> NDArray[np.bool_]:
    """Bands that each target acts on: at least this fraction of its largest response, (4, 150)."""
    response = np.abs(band_response())
    return np.asarray(response >= fraction * response.max(axis=1, keepdims=True))


def _textures(random: np.random.RandomState, count: int, fields: int, size: int, scale: float) -> Array:
    """Smooth random maps, (count, fields, size, size): unit variance each, correlated over about `scale` pixels."""
    frequency = np.fft.fftfreq(size)[:, None] ** 2 + np.fft.rfftfreq(size)[None, :] ** 2
    spectrum = np.fft.rfft2(random.standard_normal((count, fields, size, size)))
    maps = np.fft.irfft2(spectrum * (frequency + 1.0 / scale**2) ** -0.75, s=(size, size))
    maps -= maps.mean(axis=(-2, -1), keepdims=True)
    return np.asarray(maps / maps.std(axis=(-2, -1), keepdims=True))


def _outlines(random: np.random.RandomState, fields: int, size: int) -> NDArray[np.bool_]:
    """Irregular, star-shaped field outlines, (fields, size, size): True inside."""
    axis = (np.arange(size) + 0.5) / size - 0.5
    row, column = axis[:, None], axis[None, :]
    angle, distance = np.arctan2(row, column), np.hypot(row, column)
    order = np.arange(1, 6)[:, None, None, None]
    phase = random.uniform(0.0, 2.0 * np.pi, (5, fields, 1, 1))
    height = random.uniform(0.02, 0.09, (5, fields, 1, 1)) / np.sqrt(order)
    radius = 0.45 + (height * np.cos(order * angle + phase)).sum(axis=0)
    return np.asarray(distance < radius)


def simulate_fields(seed: int, fields: int, size: int, levels: Array | None = None) -> Field:
    """Draw random fields.

    Parameters
    ----------
    seed : int
        The same seed gives the same fields, bit for bit. (`RandomState`: its streams never change, unlike those of
        NumPy's newer generators.)
    fields, size : int
        Number of fields; rows and columns of each.
    levels : ndarray, (fields, 4), optional
        Targets as fractions of their ranges; drawn uniformly and independently when left out.

    Returns
    -------
    Field
    """
    random = np.random.RandomState(seed)
    drawn = random.uniform(size=(fields, 4))
    levels = drawn if levels is None else np.asarray(levels, dtype=np.float64)
    if levels.shape != (fields, 4):
        raise ValueError(f"levels must have the shape ({fields}, 4), got {levels.shape}")
    targets = TARGET_RANGES[:, 0] + levels * np.diff(TARGET_RANGES).T[0]

    def per_field(low: float, high: float) -> Array:
        return random.uniform(low, high, (fields, 1, 1))

    inside = _outlines(random, fields, size)
    growth, ground, damp, relief, *local = _textures(random, 8, fields, size, scale=12.0)
    axis = np.arange(size)
    turn = per_field(0.0, np.pi)
    rows = np.cos(2.0 * np.pi / 6.0 * (axis[:, None] * np.cos(turn) + axis * np.sin(turn)))  # drill rows 6 pixels apart
    # Targets vary a little inside a field, about the field's value: 3 % of the range.
    variation = 0.03 * np.stack(local)
    variation -= (variation * inside).sum((2, 3), keepdims=True) / inside.sum((1, 2))[None, :, None, None]
    scene = Scene(
        level=levels.T[:, :, None, None] + variation,
        cover=np.clip(per_field(0.45, 0.65) + 0.12 * growth + 0.1 * rows, 0.05, 0.95),
        leaf_area=per_field(1.5, 2.1) * np.exp(0.1 * growth),
        chlorophyll=per_field(0.85, 1.15) * np.exp(0.05 * growth),
        brightness=per_field(0.85, 1.15) * np.exp(0.08 * ground),
        wetness=np.clip(per_field(0.15, 0.45) + 0.12 * damp, 0.0, 1.0),
        light=per_field(0.7, 0.8) * np.exp(0.03 * relief),
    )
    counts = SCALE * np.moveaxis(reflectance(scene), -1, 1)
    counts += np.sqrt(READ_NOISE**2 + SHOT_NOISE**2 * counts) * random.standard_normal(counts.shape)
    data = np.rint(np.clip(counts, 1.0, 32767.0)) * inside[:, None]
    return Field(data.astype(np.int16), inside, targets)


#: The embedded field: its seed, size, and targets as fractions of their ranges. Each target is well away from the
#: middle of its range, so that every attribution has something to explain.
DEMO_SEED, DEMO_SIZE, DEMO_LEVELS = 20260, 96, (0.2, 0.8, 0.8, 0.2)


def demo_field() -> dict[str, NDArray[Any]]:
    """The embedded field as the arrays of its file.

    Returns
    -------
    dict
        ``data`` (150, 96, 96) int16 and ``mask`` (150, 96, 96) bool as in the challenge (True = outside the field);
        ``wavelengths`` (150,); ``targets`` (4,); ``response`` (4, 150), see :func:`band_response`; ``known_bands``
        (4, 150), see :func:`known_bands`; ``reference`` (150,), see :func:`reference_spectrum`.
    """
    field = simulate_fields(DEMO_SEED, 1, DEMO_SIZE, np.array([DEMO_LEVELS]))
    data = field.data[0]
    return {
        "data": data,
        "mask": np.broadcast_to(~field.inside[0], data.shape),
        "wavelengths": WAVELENGTHS,
        "targets": field.targets[0],
        "response": np.round(band_response(), 6),
        "known_bands": known_bands(),
        "reference": np.round(reference_spectrum(), 6),
    }
