"""Masks of superbands: which bands of an image belong together, from names, wavelengths or indices.

A mask holds an id for each band, 0 for those in no superband.
"""

from __future__ import annotations

import itertools
import logging
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from meteors_c import _core
from meteors_c.attr._band_formats import (
    Label,
    adjust_and_validate_segment_ranges,
    validate_band_format,
    validate_band_names,
    validate_segment_format,
)
from meteors_c.attr._band_names import extract_bands_from_spyndex, make_band_names_indexable
from meteors_c.exceptions import BandSelectionError, MaskCreationError
from meteors_c.hsi import HSI
from meteors_c.spectral import Ranges, group_names, groups, parts_of
from meteors_c.utils import expand_spectral_mask, warn_caller

__all__ = [
    "BandMasks",
    "adjust_and_validate_segment_ranges",
    "validate_band_format",
    "validate_band_names",
    "validate_segment_format",
]

_logger = logging.getLogger("meteors_c")

Indices = dict[Label, list[int]]
Ids = dict[Label, int]


# ---------------------------------------------------------------- wavelengths and indices


def _in_nm(wavelengths: torch.Tensor) -> np.ndarray:
    return wavelengths.detach().cpu().to(torch.float64).numpy()


def _rounded(value: float, wavelengths: torch.Tensor) -> float:
    """Return a number of nm rounded as the image's wavelengths are, so that the same decimals compare equal."""
    return torch.tensor(value, dtype=wavelengths.dtype).item() if wavelengths.is_floating_point() else value


def _inside(wavelengths: torch.Tensor, low: float, high: float) -> np.ndarray:
    """Tell for each band whether its wavelength is in [low, high]."""
    numbers = _in_nm(wavelengths)
    return (numbers >= _rounded(low, wavelengths)) & (numbers <= _rounded(high, wavelengths))


def _covered(wavelengths: torch.Tensor) -> str:
    numbers = _in_nm(wavelengths)
    return f"{numbers.min():g}-{numbers.max():g} nm" if len(numbers) else "no band"


def _convert_wavelengths_to_indices(
    wavelengths: torch.Tensor, ranges: list[tuple[float, float]] | tuple[float, float]
) -> list[tuple[int, int]]:
    """Turn ranges of wavelengths, both ends included, into half-open ranges of indices.

    Where wavelengths neither ascend nor descend, one range may give several. One without any band gives an empty one.
    """
    found = []
    for low, high in [ranges] if isinstance(ranges, tuple) else ranges:
        steps = np.diff(np.concatenate([[False], _inside(wavelengths, low, high), [False]]).astype(np.int8))
        starts, ends = np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist()
        below = int(np.count_nonzero(_in_nm(wavelengths) < _rounded(low, wavelengths)))
        found += list(zip(starts, ends, strict=True)) or [(below, below)]
    return found


def _get_indices_from_wavelength_indices_range(
    wavelengths: torch.Tensor, ranges: list[tuple[int, int]] | tuple[int, int]
) -> list[int]:
    """Return the indices in half-open ranges, each once, in no order."""
    whole = adjust_and_validate_segment_ranges(wavelengths, validate_segment_format(ranges))
    return list(set(itertools.chain.from_iterable(itertools.starmap(range, whole))))


def _convert_wavelengths_list_to_indices(wavelengths: torch.Tensor, ranges: list[float]) -> list[int]:
    """Return the index of each wavelength; the image must have it exactly once."""
    wanted = np.array([_rounded(float(value), wavelengths) for value in ranges], dtype=np.float64)
    equal = _in_nm(wavelengths)[None, :] == wanted[:, None]
    for value, count in zip(ranges, equal.sum(1), strict=True):
        if count != 1:
            times = "no band" if count == 0 else f"{count} bands"
            raise ValueError(f"{value} nm must be one band of the image ({_covered(wavelengths)}), but is {times}")
    return equal.argmax(1).tolist() if len(ranges) else []


def _get_band_wavelengths_indices_from_band_names(
    wavelengths: torch.Tensor, band_names: list[str | list[str]] | dict[Label, int] | str
) -> tuple[Indices, Ids]:
    """Return the bands of each label and its id; a label may have no band."""
    indices, ids, _ = _bands_by_name(wavelengths, band_names)
    return indices, ids


def _bands_by_name(wavelengths: torch.Tensor, band_names: Any) -> tuple[Indices, Ids, dict[str, Ranges]]:
    """Return the bands of each label, its id, and by name what the image does not have."""
    if isinstance(band_names, str):
        band_names = [band_names]
    if isinstance(band_names, dict):
        ids = {make_band_names_indexable(label): segment_id for label, segment_id in band_names.items()}
    elif isinstance(band_names, list):
        labels = dict.fromkeys(map(make_band_names_indexable, band_names))
        ids = {label: i for i, label in enumerate(labels, start=1)}
    else:
        raise TypeError(f"band_names must be a list or a dict, not {type(band_names).__name__}")
    indices: Indices = {}
    absent: dict[str, Ranges] = {}
    for label in ids:
        names = (label,) if isinstance(label, str) else label
        if not names:
            raise BandSelectionError("a label must have at least one band name, but an empty list came")
        found = set()
        for band, ranges in {part: ranges for name in names for part, ranges in parts_of(name).items()}.items():
            inside = {i for low, high in ranges for i in np.flatnonzero(_inside(wavelengths, low, high)).tolist()}
            found |= inside
            if not inside:
                absent[band] = ranges
        indices[label] = list(found)
    return indices, ids, absent


def _get_band_indices_from_band_wavelengths(wavelengths: torch.Tensor, band_wavelengths: dict[Label, Any]) -> Indices:
    """Return the bands of each label from wavelengths in nm."""
    if not isinstance(band_wavelengths, dict):
        raise TypeError(f"band_wavelengths must be a dictionary, not {type(band_wavelengths).__name__}")
    found = {}
    for label, value in band_wavelengths.items():
        try:
            found[label] = _bands_at(wavelengths, value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Problem with segment {_written(label)}: {error}") from error
    return found


def _bands_at(wavelengths: torch.Tensor, value: Any) -> list[int]:
    """Return the bands at a wavelength, at several, or in one or several ranges."""
    values = value if isinstance(value, list) else [value]
    if not any(isinstance(item, tuple) for item in values):
        return _convert_wavelengths_list_to_indices(wavelengths, [_in_kind(item, wavelengths) for item in values])
    kind = float if wavelengths.is_floating_point() else int
    ranges = [(_in_kind(low, wavelengths), _in_kind(high, wavelengths)) for low, high in values]
    for low, high in validate_segment_format(ranges, kind):
        if not _inside(wavelengths, low, high).any():
            raise ValueError(f"the image has no band at {low}-{high} nm: it covers {_covered(wavelengths)}")
    return _get_indices_from_wavelength_indices_range(wavelengths, _convert_wavelengths_to_indices(wavelengths, ranges))


def _in_kind(value: Any, wavelengths: torch.Tensor) -> float | int:
    """Return a number of nm as a float, or as an int where the image's wavelengths are whole numbers."""
    number = float(value)
    if wavelengths.is_floating_point():
        return number
    if not number.is_integer():
        raise ValueError(
            f"{value} nm would lose its fraction, since the image's wavelengths are whole numbers "
            f"({wavelengths.dtype}): give a whole number, or make the wavelengths of the image floats"
        )
    return int(number)


def _get_band_indices_from_input_band_indices(
    wavelengths: torch.Tensor, input_band_indices: dict[Label, Any]
) -> Indices:
    """Return the bands of each label from indices; single ones are not compared with the number of bands yet."""
    if not isinstance(input_band_indices, dict):
        raise TypeError(f"band_indices must be a dictionary, not {type(input_band_indices).__name__}")
    found = {}
    for label, value in input_band_indices.items():
        values = value if isinstance(value, list) else [value]
        try:
            if any(isinstance(item, tuple) for item in values):
                ranges = [tuple(map(operator.index, pair)) for pair in values]
                found[label] = _get_indices_from_wavelength_indices_range(wavelengths, ranges)  # type: ignore[arg-type]
            else:
                found[label] = list(map(operator.index, values))
        except (TypeError, ValueError) as error:
            raise ValueError(f"Problem with segment {_written(label)}: {error}") from error
    return found


# ---------------------------------------------------------------- from indices to masks


def _written(label: Any) -> str:
    return "/".join(label) if isinstance(label, tuple) else str(label)


def _several(words: Iterable[str], most: int = 5) -> str:
    """Join words, only the first of many."""
    words = list(words)
    more = [f"{len(words) - most} more"] if len(words) > most else []
    return ", ".join(words[:most] + more)


def _check_overlapping_segments(dict_labels_to_indices: Indices) -> None:
    """Warn, once, of labels that share bands."""
    sets = {label: set(indices) for label, indices in dict_labels_to_indices.items()}
    pairs = [
        f"{_written(one)} and {_written(other)}"
        for one, other in itertools.combinations(sets, 2)
        if not sets[one].isdisjoint(sets[other])
    ]
    if pairs:
        warn_caller(f"Segments overlap, and the first of them keeps the bands that they share: {_several(pairs)}")


def _validate_and_create_dict_labels_to_segment_ids(
    dict_labels_to_segment_ids: Ids | None, segment_labels: list[Label]
) -> Ids:
    """Return an id for each label, 1, 2, ... where none are given."""
    if dict_labels_to_segment_ids is None:
        return {label: i for i, label in enumerate(segment_labels, start=1)}
    ids = dict_labels_to_segment_ids
    if not isinstance(ids, dict):
        raise TypeError(f"dict_labels_to_segment_ids must be a dict or None, not {type(ids).__name__}")
    if len(ids) != len(segment_labels):
        raise ValueError(f"dict_labels_to_segment_ids has {len(ids)} labels, but there are {len(segment_labels)}")
    missing = [_written(label) for label in segment_labels if label not in ids]
    if missing:
        raise ValueError(f"dict_labels_to_segment_ids has no id for the labels: {_several(missing)}")
    wrong = [number for number in ids.values() if not isinstance(number, int | np.integer)]
    if wrong:
        raise TypeError(f"dict_labels_to_segment_ids must have ints as ids, not {wrong[0]!r}")
    numbers = {label: int(number) for label, number in ids.items()}
    if len(set(numbers.values())) != len(numbers):
        raise ValueError(f"dict_labels_to_segment_ids must have unique ids, not {list(numbers.values())}")
    return numbers


def _create_single_dim_band_mask(
    hsi: HSI, dict_labels_to_indices: Indices, dict_labels_to_segment_ids: Ids, device: str | torch.device
) -> torch.Tensor:
    """Return the id of each band, ``(bands,)``; of labels that share a band the first one has it."""
    mask = np.zeros(hsi.image.shape[hsi.spectral_axis], dtype=np.int64)
    for label, indices in reversed(dict_labels_to_indices.items()):
        at = np.asarray(indices) if len(indices) else np.empty(0, dtype=np.int64)
        if at.dtype.kind not in "iu":
            raise TypeError(f"the indices of segment {_written(label)} must be ints, not {at.dtype}")
        if len(at) and (at.min() < 0 or at.max() >= len(mask)):
            raise ValueError(
                f"the indices of segment {_written(label)} must be from 0 to {len(mask) - 1}, "
                f"but reach from {at.min()} to {at.max()}"
            )
        mask[at] = dict_labels_to_segment_ids[label]
    return torch.from_numpy(mask).to(device)


def _create_tensor_band_mask(
    hsi: HSI,
    dict_labels_to_indices: Indices,
    dict_labels_to_segment_ids: Ids | None = None,
    device: str | torch.device | None = None,
    repeat_dimensions: bool = False,
    return_dict_labels_to_segment_ids: bool = True,
) -> Any:
    """Return the mask in the image's axes, and the id of each label where that is wanted."""
    if not isinstance(hsi, HSI):
        raise TypeError(f"hsi must be an HSI, not {type(hsi).__name__}")
    device = hsi.device if device is None else _core._hsi_device(device)
    ids = _validate_and_create_dict_labels_to_segment_ids(dict_labels_to_segment_ids, list(dict_labels_to_indices))
    _check_overlapping_segments(dict_labels_to_indices)
    bands = _create_single_dim_band_mask(hsi, dict_labels_to_indices, ids, device)
    mask = expand_spectral_mask(hsi, bands, repeat_dimensions)
    return (mask, ids) if return_dict_labels_to_segment_ids else mask


def _select_bands(
    wavelengths: torch.Tensor, band_names: Any, band_indices: Any, band_wavelengths: Any
) -> tuple[Indices, Ids]:
    """Return the bands of each label, at least one, and its id; see `BandMasks.get_band_mask`."""
    given = {"band_names": band_names, "band_wavelengths": band_wavelengths, "band_indices": band_indices}
    present = [name for name, value in given.items() if value is not None]
    if not present:
        raise ValueError("one of band_names, band_wavelengths and band_indices must be given")
    used, *ignored = present
    if ignored:
        _logger.info("Only %s is used to create the band mask; ignored: %s", used, ", ".join(ignored))
    ids: Ids | None = None
    absent: dict[str, Ranges] = {}
    if used == "band_names":
        if isinstance(band_names, str) and group_names(band_names) is not None:
            # What the image lacks of a whole table needs no warning.
            whole: Indices = {}
            whole.update(groups(wavelengths, band_names))
            if not whole:
                raise BandSelectionError(f"the image ({_covered(wavelengths)}) has no band of {band_names!r}")
            return whole, {label: i for i, label in enumerate(whole, start=1)}
        names = [band_names] if isinstance(band_names, str) else band_names
        validate_band_names(names)
        indices, ids, absent = _bands_by_name(wavelengths, names)
    elif used == "band_wavelengths":
        validate_band_format(band_wavelengths, used)
        indices = _get_band_indices_from_band_wavelengths(wavelengths, band_wavelengths)
    else:
        validate_band_format(band_indices, used)
        indices = _get_band_indices_from_input_band_indices(wavelengths, band_indices)
    return _without_empty_labels(wavelengths, indices, ids, absent)


def _without_empty_labels(
    wavelengths: torch.Tensor, indices: Indices, ids: Ids | None, absent: dict[str, Ranges]
) -> tuple[Indices, Ids]:
    """Leave out labels without a band, with one warning that also names the bands that the image does not have."""
    ids = _validate_and_create_dict_labels_to_segment_ids(ids, list(indices))
    empty = [label for label, at in indices.items() if not at]
    told = []
    if absent:
        named = (f"{band} ({', '.join(f'{low:g}-{high:g}' for low, high in at)} nm)" for band, at in absent.items())
        told.append(f"The image ({_covered(wavelengths)}) has no wavelength in {_several(named, len(absent))}.")
    if empty:
        told.append(f"Labels without any band are dropped: {_several(map(_written, empty), len(empty))}.")
    if len(empty) == len(indices):
        raise BandSelectionError(" ".join(told) + " No label is left." if told else "no label was given")
    if told:
        warn_caller(" ".join(told))
    kept = {label: at for label, at in indices.items() if at}
    return kept, {label: ids[label] for label in kept}


def _without_covered_labels(indices: Indices, ids: Ids, bands: int) -> Ids:
    """Leave out labels that earlier ones left no band, and warn of them, and of an id that all other bands have too."""
    seen: set[int] = set()
    covered = []
    for label, at in indices.items():
        if seen.issuperset(at):
            covered.append(label)
        seen.update(at)
    if covered:
        warn_caller(f"Labels whose bands all belong to earlier ones are dropped: {_several(map(_written, covered))}")
    zero = [_written(label) for label, number in ids.items() if number == 0]
    if zero and len(seen) < bands:
        warn_caller(f"The id of {zero[0]}, 0, is also that of the {bands - len(seen)} bands that have no label")
    return {label: number for label, number in ids.items() if label not in covered}


class BandMasks:
    """The part of `Lime` that makes masks of superbands: one call for users, and its steps."""

    _make_band_names_indexable = staticmethod(make_band_names_indexable)
    _extract_bands_from_spyndex = staticmethod(extract_bands_from_spyndex)
    _convert_wavelengths_to_indices = staticmethod(_convert_wavelengths_to_indices)
    _get_indices_from_wavelength_indices_range = staticmethod(_get_indices_from_wavelength_indices_range)
    _convert_wavelengths_list_to_indices = staticmethod(_convert_wavelengths_list_to_indices)
    _get_band_wavelengths_indices_from_band_names = staticmethod(_get_band_wavelengths_indices_from_band_names)
    _get_band_indices_from_band_wavelengths = staticmethod(_get_band_indices_from_band_wavelengths)
    _get_band_indices_from_input_band_indices = staticmethod(_get_band_indices_from_input_band_indices)
    _check_overlapping_segments = staticmethod(_check_overlapping_segments)
    _validate_and_create_dict_labels_to_segment_ids = staticmethod(_validate_and_create_dict_labels_to_segment_ids)
    _create_single_dim_band_mask = staticmethod(_create_single_dim_band_mask)
    _create_tensor_band_mask = staticmethod(_create_tensor_band_mask)

    @staticmethod
    def get_band_mask(
        hsi: HSI,
        band_names: str | list[str | list[str]] | dict[Label, int] | None = None,
        band_indices: dict[Label, Any] | None = None,
        band_wavelengths: dict[Label, Any] | None = None,
        device: str | torch.device | None = None,
        repeat_dimensions: bool = False,
    ) -> tuple[torch.Tensor, Ids]:
        """Make a mask of superbands, groups of bands that are switched on and off together.

        Of names, wavelengths and indices the first that is given is used, in this order.

        Parameters
        ----------
        hsi : HSI
            The image, in any orientation; its wavelengths may stand in any order.
        band_names : str, list or dict, optional
            Names of bands (``"R"``), of spectral indices (``"NDVI"``: the bands in its formula), of regions (``"red
            edge"``) or of bands of a sensor (``"sentinel2a B5"``); see `meteors_c.spectral`. A list inside the list is
            one superband, whose label is a tuple. A dict gives the id of each label. ``"regions"``, ``"absorption"``
            or a sensor alone (``"sentinel2a"``) stand for all of theirs, each a superband.
        band_indices : dict, optional
            By label: an index, a list of indices, a half-open range ``(start, end)`` or a list of such ranges. Ranges
            are cut to the image's bands.
        band_wavelengths : dict, optional
            By label, in nm: a wavelength of the image, a list of those, a range ``(low, high)`` with both ends included
            or a list of such ranges. Values are compared in the dtype of the image's wavelengths; where that is one of
            whole numbers, fractions are refused.
        device : str or torch.device, optional
            Where the mask goes; None: ``hsi.device``.
        repeat_dimensions : bool, default False
            Whether the mask is expanded to the image's shape (a view).

        Returns
        -------
        mask : torch.Tensor of int64
            The id of each band, 0 for those without a label; the two spatial axes have size 1. Bands with several
            labels have the id of the first, with a warning.
        ids : dict
            The id of each label: 1, 2, ... in order, or those given. Labels without a band, because the image does not
            cover it or earlier labels have it, are left out with a warning.

        Raises
        ------
        TypeError
            `hsi` is no HSI.
        MaskCreationError
            Everything else; the cause says what: an unknown name (`BandSelectionError`), wavelengths that the image
            does not have, indices out of range, repeated ids, no label left, spyndex missing where it is needed.

        Examples
        --------
        >>> mask, ids = Lime.get_band_mask(hsi, ["NDVI", ["B", "G"]])
        >>> ids
        {'NDVI': 1, ('B', 'G'): 2}
        >>> mask, ids = Lime.get_band_mask(hsi, band_wavelengths={"red edge": (690.0, 760.0), "water": 938.37})
        """
        if not isinstance(hsi, HSI):
            raise TypeError(f"hsi must be an HSI, not {type(hsi).__name__}")
        try:
            indices, ids = _select_bands(hsi.wavelengths, band_names, band_indices, band_wavelengths)
            mask, ids = _create_tensor_band_mask(hsi, indices, ids, device, repeat_dimensions)
        except Exception as error:
            raise MaskCreationError(f"Error creating band mask: {error}") from error
        return mask, _without_covered_labels(indices, ids, hsi.image.shape[hsi.spectral_axis])
