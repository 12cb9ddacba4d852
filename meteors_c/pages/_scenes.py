"""The numbers of a report page of a whole scene: what it holds is bounded, whatever the scene is.

Scene and maps are read in strips of rows. The page has the map and the picture at a reduced size, the mean spectra, and
the values of those single pixels that `explain_scene` kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from meteors_c.exceptions import ShapeMismatchError
from meteors_c.hsi import HSI
from meteors_c.pages._contents import Contents, Spectra, averaged, colour_limit, picture_of
from meteors_c.pages._tables import (
    Rows,
    evaluations_said,
    method_said,
    range_said,
    shortcut_said,
    target_said,
    title_said,
    versions,
)
from meteors_c.scenes._source import Scene, scene_of

__all__ = ["contents_of_maps", "titles_of"]

STRIP_BYTES = 16 << 20  # of the scene, or of a map, that are read at once
MOST_CLASSES = 8  # that have a line of their own
_NEEDED = ("map", "mean_spectrum", "pixels")


@dataclass(frozen=True)
class _Seen:
    """A scene in the pixels of its maps."""

    scene: Scene
    shape: tuple[int, int]
    block: int
    picture: np.ndarray
    note: str | None


def titles_of(maps: Any) -> list[str]:
    """Return method and target of each map.

    Raises
    ------
    TypeError
        `maps` are none.
    """
    if not all(name in getattr(maps, "data_vars", {}) for name in _NEEDED):
        raise TypeError(f"maps must be what explain_scene gave, with {', '.join(_NEEDED)}, not {type(maps).__name__}")
    return [title_said(maps.attrs.get("method"), target) for target in _targets(maps)]


def contents_of_maps(
    scene: Any, maps: Any, titles: list[str], made: Any, most_bytes: int, most_map_pixels: int
) -> list[Contents]:
    """Collect what a page shows of maps; values of single pixels take at most `most_bytes` bytes in all.

    Raises
    ------
    ShapeMismatchError
        The maps are of a scene of another size.
    """
    seen = _seen(scene_of(scene), maps, most_map_pixels // maps.sizes["target"])
    spectra = _spectra(maps, most_bytes)
    return [_contents(seen, maps, number, title, made, spectra) for number, title in enumerate(titles)]


def _targets(maps: Any) -> list[Any]:
    told = json.loads(maps.attrs["target"]) if "target" in maps.attrs else maps["target"].values.tolist()
    return list(told)


def _contents(
    seen: _Seen,
    maps: Any,
    number: int,
    title: str,
    made: Any,
    spectra: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
) -> Contents:
    heat, low, high = _heat(maps["map"].isel(target=number), seen)
    by_class, pixels = np.asarray(maps["mean_spectrum"].isel(target=number)), np.asarray(maps["pixels"])
    of_pixels = None
    if spectra is not None:
        places, image, values = spectra
        of_pixels = Spectra(1, 0, image.T[:, :, None], values[number].T[:, :, None], places)
    wavelengths = np.asarray(maps["wavelength"].values, dtype=np.float64)
    names = [str(name) for name in maps["class"].values.tolist()]
    several = len(names) > 1
    largest = sorted(np.argsort(-pixels, kind="stable")[:MOST_CLASSES].tolist()) if several else []
    return Contents(
        title=title,
        shape=seen.shape,
        kind="full",
        wavelengths=wavelengths,
        block=seen.block,
        picture=seen.picture,
        picture_note=seen.note,
        heat=heat,
        by_band=_mean(by_class, pixels),
        bands_said="mean over the explained pixels" + _lines_said(largest, names),
        by_class={f"class {names[at]}": by_class[at] for at in largest},
        limit=colour_limit(heat),
        spectra=of_pixels,
        start=_start(heat, seen, of_pixels),
        evidence=_evidence(maps, low, high),
        making=_making(seen, maps, number, wavelengths, made),
        notes=[
            "Attribution of each pixel, summed over all bands (of groups of them, each group once), on the picture of "
            "the scene.",
            _kept_said(maps, spectra),
        ],
    )


def _lines_said(largest: list[int], names: list[str]) -> str:
    if not largest:
        return ""
    left = len(names) - len(largest)
    return f", and of each class{f' (the {len(largest)} of most pixels; {left} more have none here)' if left else ''}"


def _kept_said(maps: Any, spectra: Any) -> str:
    if spectra is None:
        return "Spectra of single pixels are not in the maps."
    kept, explained = len(spectra[0]), int(maps["pixels"].sum())
    if kept >= explained:
        return "Spectra are there of all explained pixels: the nearest one is shown."
    return (
        f"Spectra are kept of {kept} of the {explained} explained pixels, drawn evenly, so that the page stays small "
        "whatever the scene: the nearest one is shown."
    )


# ---------------------------------------------------------------- maps and pictures


def _strips(shape: tuple[int, int], block: int, bytes_of_pixel: int) -> Iterator[slice]:
    """Yield strips of rows, of whole blocks, of about `STRIP_BYTES`."""
    rows = max(1, STRIP_BYTES // (bytes_of_pixel * shape[1] * block)) * block
    for top in range(0, shape[0], rows):
        yield slice(top, min(top + rows, shape[0]))


def _seen(scene: Scene, maps: Any, most_map_pixels: int) -> _Seen:
    """Read the picture of a scene, in the pixels of its maps."""
    stride = int(maps.attrs.get("stride", 1))
    start = (stride - 1) // 2
    rows, columns = (len(range(start, size, stride)) for size in scene.shape[1:])
    if maps["map"].shape[1:] != (rows, columns):
        raise ShapeMismatchError(
            f"maps have {maps['map'].shape[1]} x {maps['map'].shape[2]} pixels, but those of scene, of "
            f"{scene.shape[1]} x {scene.shape[2]}, would have {rows} x {columns}"
        )
    block = max(1, math.ceil(math.sqrt(rows * columns / most_map_pixels)))
    bands = _picture_bands(scene.wavelengths)
    places = slice(start, None, stride)
    seen = scene.part(bands, places, places)
    strips = []
    for strip in _strips((rows, columns), block, 8 * len(bands)):
        values, used = seen.read(strip, slice(0, columns))
        planes = values.astype(np.float32) if used is None else np.where(used, values, np.float32(np.nan))
        strips.append(np.stack([averaged(torch.from_numpy(plane), block) for plane in planes]))
    small = torch.from_numpy(np.concatenate(strips, axis=1))
    there = small.isfinite()
    image = HSI(image=small.where(there, 0.0), wavelengths=seen.wavelengths, binary_mask=there)
    return _Seen(scene, (rows, columns), block, *picture_of(image))


def _picture_bands(wavelengths: np.ndarray) -> list[int]:
    """Return which bands `HSI.get_picture` would show, each once."""
    # A picture in which each band is bright in a row of its own.
    image = HSI(image=torch.eye(len(wavelengths))[:, :, None], wavelengths=wavelengths)
    picture, _ = image.get_picture(output_channel_axis=0)
    return sorted(set(picture[:, :, 0].argmax(dim=1).tolist()))


def _heat(values: Any, seen: _Seen) -> tuple[np.ndarray, float, float]:
    """Return a map, averaged over blocks, and the least and the largest of its values."""
    strips, low, high = [], math.inf, -math.inf
    for strip in _strips(seen.shape, seen.block, 8):
        part = np.asarray(values.isel(y=strip))
        finite = part[np.isfinite(part)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        strips.append(averaged(torch.from_numpy(part), seen.block))
    return np.concatenate(strips), low, high


# ---------------------------------------------------------------- spectra


def _spectra(maps: Any, most_bytes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return places, spectra and attributions of single pixels, as many as fit; None where there are none."""
    if "pixel_values" not in maps:
        return None
    spectra = np.asarray(maps["pixel_spectra"].values, dtype=np.float32)
    at = np.flatnonzero(np.isfinite(spectra).any(axis=1))
    fitting = max(1, most_bytes // (4 * spectra.shape[1] * (1 + maps.sizes["target"])))
    if len(at) > fitting:
        at = at[np.linspace(0, len(at) - 1, fitting).round().astype(np.int64)]
    if not len(at):
        return None
    places = np.stack([maps["row"].values[at], maps["column"].values[at]], axis=1)
    return places, spectra[at], np.asarray(maps["pixel_values"].values[:, at], dtype=np.float32)


def _mean(by_class: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the mean over the pixels of all classes."""
    there = pixels > 0
    if not there.any():
        return np.full(by_class.shape[1], np.nan)
    return np.average(by_class[there], axis=0, weights=pixels[there])


def _start(heat: np.ndarray, seen: _Seen, spectra: Spectra | None) -> tuple[int, int]:
    """Return the pixel with the largest magnitude, among those whose spectra are there."""
    if spectra is not None and spectra.places is not None:
        sums = np.nan_to_num(np.abs(np.nansum(spectra.attributions[:, :, 0], axis=0)), nan=-1.0)
        row, column = spectra.places[int(sums.argmax())].tolist()
        return row, column
    row, column = divmod(int(np.nan_to_num(np.abs(heat), nan=-1.0).argmax()), heat.shape[1])
    return min(row * seen.block, seen.shape[0] - 1), min(column * seen.block, seen.shape[1] - 1)


# ---------------------------------------------------------------- words


def _evidence(maps: Any, low: float, high: float) -> Rows:
    rows: Rows = [("map", range_said(low, high))] if low <= high else [("map", "no pixel has a value")]
    pixels = {str(name): int(count) for name, count in zip(maps["class"].values, maps["pixels"].values, strict=True)}
    of_classes = ", ".join(f"{count} of class {name}" for name, count in list(pixels.items())[:50])
    said = f"{sum(pixels.values())} of {maps['map'].shape[1]} x {maps['map'].shape[2]}"
    rows.append(("explained pixels", f"{said}: {of_classes}" if len(pixels) > 1 else said))
    report = json.loads(maps.attrs.get("report", "{}"))
    if "evaluations" in report:
        others = {"saved": report.get("evaluations_saved", 0)}
        rows.append(("evaluations", evaluations_said(report["evaluations"], report["model_calls"], others)))
    if report.get("shortcut"):
        rows.append(("shortcut", shortcut_said(report["shortcut"])))
    lost = {name: report.get(f"nonfinite_{name}") for name in ("outputs", "results")}
    if any(lost.values()):
        rows.append(("not finite", ", ".join(f"{count} {name}" for name, count in lost.items() if count)))
    return rows


def _making(seen: _Seen, maps: Any, number: int, wavelengths: np.ndarray, made: Any) -> Rows:
    target, window, stride = _targets(maps)[number], np.ravel(maps.attrs.get("window", 0)), maps.attrs.get("stride", 1)
    bands, rows, columns = seen.scene.shape
    about: Rows = [
        ("method", method_said(maps.attrs.get("method"))),
        ("target", target_said(target)),
        ("scene", f"{bands} bands x {rows} rows x {columns} columns, {seen.scene.dtype}"),
        ("wavelengths", range_said(wavelengths.min(), wavelengths.max(), "nm")),
        ("explained by", "tiles" if window.size < 2 else f"windows of {window[0]} x {window[1]} pixels"),
    ]
    about += [("stride", f"{stride} pixels")] if int(stride) > 1 else []
    about += [("of each window", str(maps.attrs["reduce"]))] if window.size == 2 and "reduce" in maps.attrs else []
    further = {name: str(value) for name, value in (made or {}).items()}
    return [*about, *((f"{name} (given)" if name in dict(about) else name, text) for name, text in further.items()),
            *versions()]  # fmt: skip
