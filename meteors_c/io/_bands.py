"""The bands of a file: what it says of each, and which of them are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meteors_c.io._wavelengths import guess_unit, guessed_words, is_unit, missing, to_nm
from meteors_c.utils import warn_caller

__all__ = ["BandTable", "Chosen", "choose"]


@dataclass
class BandTable:
    """What a file says of its bands.

    Attributes
    ----------
    count : int
        Bands of the file.
    wavelengths, fwhm : numpy.ndarray or None
        One number for each band in `unit`, NaN where there is none; None where no band has one.
    unit : str or None
        As the file spells it.
    bad : numpy.ndarray of bool or None
        Which bands are marked as bad.
    origin : str
        Where the wavelengths stand, for messages.
    """

    count: int
    wavelengths: np.ndarray | None = None
    unit: str | None = None
    fwhm: np.ndarray | None = None
    bad: np.ndarray | None = None
    origin: str = "the file"

    @property
    def marked(self) -> str:
        """How many bands are marked as bad, in words."""
        return f" ({int(self.bad.sum())} marked bad)" if self.bad is not None and self.bad.any() else ""


@dataclass
class Chosen:
    """The bands that are taken.

    Attributes
    ----------
    indices : numpy.ndarray of int
        Positions in the file, from 0.
    wavelengths, fwhm : numpy.ndarray
        In nm; `fwhm` may be None.
    good : numpy.ndarray of bool
        Which of them are not marked as bad.
    dropped : list of int
        Bands that were left out because they are marked as bad.
    unit : str
        Of the wavelengths as they were given.
    notes : list of str
        What was done, in sentences.
    """

    indices: np.ndarray
    wavelengths: np.ndarray
    fwhm: np.ndarray | None
    good: np.ndarray
    dropped: list[int]
    unit: str
    notes: list[str] = field(default_factory=list)


def choose(
    table: BandTable, name: str, wavelengths: Any, wavelength_unit: str | None, bad_bands: str, bands: Any
) -> Chosen:
    """Choose bands and find their wavelengths; see `open_scene`. ``name`` is the file's, for messages."""
    if bad_bands not in ("drop", "keep"):
        raise ValueError(f"bad_bands must be 'drop' or 'keep', not {bad_bands!r}")
    bad = np.zeros(table.count, dtype=bool) if table.bad is None else table.bad
    notes: list[str] = []
    if wavelengths is not None:
        values, unit = _given(wavelengths, table, bad, bad_bands, name), wavelength_unit or "nm"
        origin = "wavelengths"
        if wavelength_unit is None and guess_unit(np.delete(values, missing(values))) == "um":
            warn_caller(
                f"{name!r}: wavelengths from {np.nanmin(values):g} to {np.nanmax(values):g} look like micrometres, but "
                "are taken for nm: give wavelength_unit='um', or 'nm' where they are"
            )
    else:
        values, unit = _written(table, name, wavelength_unit, notes)
        origin = table.origin
    keep = np.ones(table.count, dtype=bool) if bad_bands == "keep" else ~bad
    known = np.array([i not in set(missing(values)) for i in range(table.count)])
    nm = np.full(table.count, np.nan)
    nm[known] = to_nm(values[known], unit)
    indices = _positions(bands, nm, table.count)
    dropped = [int(i) for i in indices if not keep[i]]
    indices = indices[keep[indices]]
    if not len(indices):
        raise ValueError(f"{name!r}: none of its {table.count} bands{table.marked} is left")
    lacking = [int(i) for i in indices if not known[i]]
    if lacking:
        raise ValueError(
            f"{name!r}: {_bands(lacking)} of {table.count} (counted from 0) lacks a wavelength above 0 in {origin}: "
            "give wavelengths="
        )
    if dropped:
        notes.append(f"{len(dropped)} of {table.count} bands are marked bad and left out")
    fwhm = None if table.fwhm is None or wavelengths is not None else table.fwhm
    if fwhm is not None:
        fwhm = to_nm(fwhm, unit)[indices]
    return Chosen(indices, nm[indices], fwhm, ~bad[indices], dropped, unit, notes)


def _bands(indices: Sequence[int]) -> str:
    shown = ", ".join(map(str, indices[:5])) + (f" and {len(indices) - 5} more" if len(indices) > 5 else "")
    return f"band {shown}" if len(indices) == 1 else f"each of the bands {shown}"


def _given(wavelengths: Any, table: BandTable, bad: np.ndarray, bad_bands: str, name: str) -> np.ndarray:
    """Return the caller's wavelengths, one for each band of the file; NaN for bad ones that they leave out."""
    if isinstance(wavelengths, str):
        raise TypeError(f"wavelengths must be numbers, one for each band, not {wavelengths!r}")
    values = np.asarray(wavelengths, dtype=np.float64)
    if values.shape == (table.count,):
        return values
    good = int((~bad).sum())
    if bad_bands == "drop" and values.shape == (good,):
        whole = np.full(table.count, np.nan)
        whole[~bad] = values
        return whole
    raise ValueError(
        f"{name!r}: wavelengths has the shape {values.shape}, but the file has {table.count} bands{table.marked}"
    )


def _written(table: BandTable, name: str, unit: str | None, notes: list[str]) -> tuple[np.ndarray, str]:
    """Return the file's wavelengths and their unit."""
    if table.wavelengths is None:
        raise ValueError(f"{name!r} says nothing of the wavelengths of its {table.count} bands: give wavelengths=")
    if len(table.wavelengths) != table.count:
        raise ValueError(
            f"{name!r}: {table.origin} has {len(table.wavelengths)} wavelengths, but the file has {table.count} "
            f"bands{table.marked}: give wavelengths="
        )
    if unit is not None:
        return table.wavelengths, unit
    if is_unit(table.unit):
        try:
            to_nm([], table.unit)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}; or give wavelength_unit=") from None
        return table.wavelengths, table.unit  # type: ignore[return-value]
    guessed = guess_unit(np.delete(table.wavelengths, missing(table.wavelengths)))
    low, high = np.nanmin(table.wavelengths), np.nanmax(table.wavelengths)
    if guessed is None:
        raise ValueError(
            f"{name!r}: the wavelengths have no unit, and {low:g} to {high:g} could be several: give wavelength_unit="
        )
    said = guessed_words(low, high, guessed)
    notes.append(said)
    warn_caller(f"{name!r}: {said}. wavelength_unit={guessed!r} says so without this warning.")
    return table.wavelengths, guessed


def _positions(bands: Any, nm: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of bands that were asked for: all, by index, by mask, or by the name of a region."""
    if bands is None:
        return np.arange(count)
    if isinstance(bands, slice):
        return np.arange(count)[bands]
    if isinstance(bands, str) or (isinstance(bands, (list, tuple)) and any(isinstance(band, str) for band in bands)):
        from meteors_c.spectral import bands_in

        known = np.flatnonzero(np.isfinite(nm))
        return known[bands_in(nm[known], list(bands) if isinstance(bands, tuple) else bands)]
    indices = np.asarray(bands)
    if indices.dtype == bool and indices.shape == (count,):
        return np.flatnonzero(indices)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise TypeError(f"bands must be indices from 0, a slice, bools or names of spectral regions, not {bands!r}")
    wrong = [int(i) for i in indices if not 0 <= i < count]
    if wrong:
        raise IndexError(f"bands has {wrong[0]}, but the file has the bands 0 to {count - 1}")
    return indices.astype(np.int64)
