"""Bands by name: the ranges of wavelengths that names such as ``"R"`` stand for, and the bands of spectral indices."""

from __future__ import annotations

from collections.abc import Sequence

from meteors_c import _core
from meteors_c.exceptions import BandSelectionError
from meteors_c.spectral import bands_of_index

__all__ = ["BAND_RANGES", "extract_bands_from_spyndex", "make_band_names_indexable"]

# The bands of spyndex's table, nm, ends included; spyndex itself is needed for spectral indices alone.
BAND_RANGES = _core.band_ranges


def make_band_names_indexable(segment_name: list[str] | tuple[str, ...] | str) -> tuple[str, ...] | str:
    """Turn a list of names into a tuple, which can be a key; a string stays.

    Parameters
    ----------
    segment_name : str, list or tuple of str
        One name or several.

    Returns
    -------
    str or tuple of str

    Raises
    ------
    TypeError
        Anything else.

    Examples
    --------
    >>> make_band_names_indexable(["R", "G"])
    ('R', 'G')
    """
    if isinstance(segment_name, str):
        return segment_name
    if isinstance(segment_name, list | tuple) and all(isinstance(name, str) for name in segment_name):
        return tuple(segment_name)
    raise TypeError(f"a label must be the name of a band, or a list or tuple of names, not {segment_name!r}")


def extract_bands_from_spyndex(segment_name: Sequence[str] | str) -> tuple[str, ...] | str:
    """Look up the bands that names stand for.

    Parameters
    ----------
    segment_name : str, or list or tuple of str
        Names of bands (``"R"``), which stand for themselves, and of spyndex's spectral indices (``"NDVI"``), which
        stand for the bands in their formula; the other symbols of a formula, such as ``L`` in that of EVI, are left
        out.

    Returns
    -------
    str or tuple of str
        The name where it is one band, a tuple where there are several: each once, in the order in which they come up.

    Raises
    ------
    BandSelectionError
        A name that spyndex does not know, an index of other measurements than bands, no name at all.
    TypeError
        A name that is no string.
    ImportError
        spyndex is missing, and a name is not that of a band.

    Examples
    --------
    >>> extract_bands_from_spyndex(["R", "NDVI"])
    ('R', 'N')
    """
    label = make_band_names_indexable(segment_name)  # type: ignore[arg-type]
    names = (label,) if isinstance(label, str) else label
    bands = list(dict.fromkeys(band for name in names for band in _bands_of(name)))
    if not bands:
        raise BandSelectionError("a label must have at least one band name, but an empty list came")
    return bands[0] if len(bands) == 1 else tuple(bands)


def _bands_of(name: str) -> list[str]:
    """Return the bands of one name."""
    return [name] if name in BAND_RANGES else bands_of_index(name)
