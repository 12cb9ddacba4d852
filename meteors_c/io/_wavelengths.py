"""Wavelengths as files write them: units by their many spellings, lists in texts, and what only one unit can be."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

__all__ = [
    "guess_unit",
    "guessed_words",
    "is_unit",
    "missing",
    "numbers_in",
    "tensor_in_nm",
    "to_nm",
    "wavelength_in_text",
]

# How many nm one of each is.
_NANOMETRES = {
    1e-1: "angstrom angstroms angstroem ångström ångströms å a",
    1.0: "nm nanometer nanometers nanometre nanometres nanom",
    1e3: "um µm μm micron microns micrometer micrometers micrometre micrometres mum micro-meters micro-metres",
    1e6: "mm millimeter millimeters millimetre millimetres",
    1e7: "cm centimeter centimeters centimetre centimetres",
    1e9: "m meter meters metre metres",
}
_FACTORS = {name: factor for factor, names in _NANOMETRES.items() for name in names.split()}
_WAVENUMBERS = "cm-1 cm^-1 cm**-1 1/cm cm⁻¹ wavenumber wavenumbers kayser".split()
_FREQUENCIES = "hz khz mhz ghz thz".split()
_NO_UNIT = {"", "unknown", "index", "none", "unitless", "1"}
_TEXT = re.compile(r"(?<![\w.])(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*([A-Za-zµμÅåö]+)(?![\w])")


def _spelled(unit: str) -> str:
    """Bring a unit to the spelling of the tables: small letters, the one Greek mu, no decoration."""
    text = unit.strip().strip("[](){}.\"'").strip()
    text = text.replace("\N{MICRO SIGN}", "μ").replace("\N{ANGSTROM SIGN}", "å")

    return re.sub(r"\s+", "", text).lower()


def is_unit(unit: str | None) -> bool:
    """Tell whether a text says anything of a unit: ``"Unknown"``, ``"Index"`` and empty ones do not."""
    return unit is not None and _spelled(unit) not in _NO_UNIT


def factor_of(unit: str) -> float:
    """Return how many nm a unit has; ValueError for those that are unknown or not of length."""
    if not isinstance(unit, str):
        raise TypeError(f"a wavelength unit must be a string such as 'nm' or 'um', not {type(unit).__name__}")
    spelled = _spelled(unit)
    if spelled in _FACTORS:
        return _FACTORS[spelled]
    if spelled in _WAVENUMBERS:
        raise ValueError(
            f"wavelength unit {unit!r} is one of wavenumbers, not of wavelengths: give 1e7 / wavenumber, in nm"
        )
    if spelled in _FREQUENCIES:
        raise ValueError(f"wavelength unit {unit!r} is one of frequencies, not of wavelengths: give wavelengths in nm")
    raise ValueError(
        f"wavelength unit {unit!r} is unknown: the units are nm, um, angstrom, mm, cm and m, in their usual spellings"
    )


def to_nm(values: Any, unit: str) -> np.ndarray:
    """Convert wavelengths to nm.

    Parameters
    ----------
    values : array of numbers
        Wavelengths in `unit`.
    unit : str
        In any of its spellings, such as ``"um"``, ``"µm"`` or ``"Micrometers"``.

    Returns
    -------
    numpy.ndarray of float64
        Wavelengths in nm, without the last digit's noise: 0.57 um are 570.

    Raises
    ------
    ValueError
        The unit is unknown, or one of wavenumbers or frequencies.

    Examples
    --------
    >>> to_nm([0.57, 2.3], "Micrometers")
    array([ 570., 2300.])
    """
    factor = factor_of(unit)
    numbers = np.asarray(values, dtype=np.float64)
    return numbers.copy() if factor == 1.0 else np.round(numbers * factor, 9)


def tensor_in_nm(values: torch.Tensor, unit: str) -> torch.Tensor:
    """Convert a tensor of wavelengths to nm: floats keep their dtype, whole numbers become float64 where they must."""
    factor = factor_of(unit)
    if factor == 1.0:
        return values
    wide = torch.round(values.detach().to("cpu", torch.float64) * factor, decimals=9)
    if not values.is_floating_point():
        return wide
    # In the precision of the values, so that the float32 nearest to 0.4 um gives 400 nm.
    return (values.detach().cpu() * factor) if values.dtype != torch.float64 else wide


def guess_unit(values: Any) -> str | None:
    """Return the unit of length where only one is possible, ``"nm"`` or ``"um"``, else None.

    Optical sensors image from 0.2 to 20 um. From 200 to 3000 only nm remain: angstrom would be X rays, um radio waves.
    Below 20, numbers with fractions are um; whole ones may count the bands. Whoever asks says to the user what was
    guessed: wavenumbers in cm-1 and energies in eV lie in the same ranges, and are no wavelengths.
    """
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return None
    low, high = float(numbers.min()), float(numbers.max())
    if low >= 200 and high <= 3000:
        return "nm"
    if low >= 0.2 and high <= 20 and not np.array_equal(numbers, np.floor(numbers)):
        return "um"
    return None


def guessed_words(low: float, high: float, unit: str) -> str:
    """Return what is said of wavelengths whose unit was guessed."""
    other = "wavenumbers (cm-1)" if unit == "nm" else "energies (eV)"
    return f"the wavelengths have no unit; {low:g} to {high:g} are taken for {unit}, and would be wrong as {other}"


def missing(values: Sequence[float] | np.ndarray) -> list[int]:
    """Return the positions of wavelengths that are none: NaN, infinite, zero or negative."""
    return [i for i, value in enumerate(values) if not (math.isfinite(value) and value > 0)]


def numbers_in(text: str) -> list[float]:
    """Read a list of numbers as headers write it, ``"{1, 2.5}"``; what is no number becomes NaN."""
    body = text.strip().strip("{}[]()").strip()
    return [_number(part) for part in re.split(r"[,;\s]+", body) if part] if body else []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def wavelength_in_text(text: str | None) -> tuple[float, str] | None:
    """Find the one wavelength in a description such as ``"Band 12 (0.55 Micrometers)"``; None without exactly one."""
    found = [(float(number), unit) for number, unit in _TEXT.findall(text or "") if _spelled(unit) in _FACTORS]
    # "a" and "m" are too short to be told from words.
    found = [(number, unit) for number, unit in found if len(unit) > 1]
    return found[0] if len(found) == 1 else None
