"""The numbers of a report page: picture, map, sums by band and the spectra of pixels of one result."""

from __future__ import annotations

import base64
import io
import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpatial, HSIAttributesSpectral
from meteors_c.hsi import HSI
from meteors_c.pages._tables import Rows, evidence, group_names, making

__all__ = [
    "Contents",
    "Spectra",
    "attribution_map",
    "averaged",
    "colour_limit",
    "contents_of",
    "encode",
    "packed",
    "picture_of",
    "png",
]

MOST_MAP_PIXELS = 1_000_000  # of one map; larger ones are averaged over blocks
QUANTILE = 0.99  # of the magnitudes of a map: where its colours end
DIGITS = 13  # binary ones that a number of a page keeps behind its first: four decimal ones, as many as the page shows
_KINDS = {
    "full": "Attribution summed over all bands, on the picture of the scene.",
    "spatial": "Attribution of each superpixel or window, the same in all bands, on the picture of the scene.",
    "spectral": "The scene; attributions are the same in all pixels.",
}


@dataclass(frozen=True)
class Spectra:
    """Spectra and attributions of the pixels of an image, or of every `step`-th one of both axes.

    Attributes
    ----------
    step, offset : int
        Pixel ``(offset + step * i, offset + step * j)`` of the image is the one at ``(i, j)``.
    places : numpy.ndarray or None
        (pixels, 2), rows and columns of the image, where the pixels lie in no grid: the one at ``(i, 0)`` is there.
    image : numpy.ndarray of float32, (bands, rows, columns)
        NaN under the mask.
    attributions : numpy.ndarray of float32
        The same, with size 1 along axes on which they do not depend.
    """

    step: int
    offset: int
    image: np.ndarray
    attributions: np.ndarray
    places: np.ndarray | None = None


@dataclass(frozen=True)
class Contents:
    """What a page shows of one result.

    Attributes
    ----------
    title : str
        Method and target.
    shape : tuple of int
        Rows and columns.
    kind : {"full", "spatial", "spectral"}
        What the attributions depend on.
    wavelengths : numpy.ndarray of float64, (bands,)
        nm.
    block : int
        Picture and map are averaged over so many rows and columns.
    picture : numpy.ndarray of uint8, (rows, columns, 3)
    picture_note : str or None
        Which bands are shown where the colours are false.
    heat : numpy.ndarray of float32, (rows, columns), or None
        Attribution of each pixel: over all bands for ``"full"``. None for ``"spectral"``.
    by_band : numpy.ndarray of float64, (bands,), or None
        Attribution of each band: over all pixels for ``"full"``. None for ``"spatial"``.
    bands_said : str
        What `by_band` is.
    by_class : dict
        The same for each class of pixels, by its name, where there are several.
    limit : float
        Where the colours of the map end.
    spectra : Spectra or None
        None where nothing is known of single pixels.
    start : tuple of int
        Row and column of the pixel that is shown first: the largest magnitude.
    evidence, making : Rows
        What tells how far the result can be trusted, and how it was made.
    notes : list of str
        What must be known to read the map, in sentences.
    groups : list of str or None
        The name of each band's superband.
    """

    title: str
    shape: tuple[int, int]
    kind: str
    wavelengths: np.ndarray
    block: int
    picture: np.ndarray
    picture_note: str | None
    heat: np.ndarray | None
    by_band: np.ndarray | None
    limit: float
    spectra: Spectra | None
    start: tuple[int, int]
    evidence: Rows
    making: Rows
    notes: list[str]
    groups: list[str] | None = None
    bands_said: str = "summed over all pixels"
    by_class: dict[str, np.ndarray] = field(default_factory=dict)


def contents_of(result: HSIAttributes, title: str, made: Any, most_bytes: int, most_map_pixels: int) -> Contents:
    """Collect what a page shows of a result; its spectra take at most `most_bytes` bytes."""
    turned = result.change_orientation("CHW")
    _, rows, columns = turned.hsi.image.shape
    block = max(1, math.ceil(math.sqrt(rows * columns / most_map_pixels)))
    whole = attribution_map(turned)
    heat = None if whole is None else averaged(whole, block)
    picture, note = picture_of(turned.hsi, block)
    spectra = _spectra(turned, most_bytes)
    kind = _kind(turned)
    notes = [_KINDS[kind]]
    if spectra.step > 1:
        notes.append(
            f"Spectra are kept of one in {spectra.step} x {spectra.step} pixels, so that the page stays small: the "
            "nearest one is shown."
        )
    return Contents(
        title=title,
        shape=(rows, columns),
        kind=kind,
        wavelengths=turned.hsi.wavelengths.detach().double().cpu().numpy(),
        block=block,
        picture=picture,
        picture_note=note,
        heat=heat,
        by_band=_by_band(turned),
        limit=1.0 if heat is None else colour_limit(heat),
        spectra=spectra,
        start=_start(whole, spectra, (rows, columns)),
        evidence=evidence(turned),
        making=making(turned, made),
        notes=notes,
        groups=group_names(turned),
        bands_said="of each group of bands" if kind == "spectral" else "summed over all pixels",
    )


def _kind(result: HSIAttributes) -> str:
    if isinstance(result, HSIAttributesSpatial):
        return "spatial"
    return "spectral" if isinstance(result, HSIAttributesSpectral) else "full"


def _valid(hsi: HSI) -> torch.Tensor:
    """Return where a CHW image has values, (bands or 1, rows, columns)."""
    mask = hsi.binary_mask.detach().cpu()
    return mask[:1] if mask.stride(0) == 0 else mask


def _counted(result: HSIAttributes) -> torch.Tensor:
    """Return the attributions with NaN under the mask and where they are infinite; themselves where none is."""
    values = result.attributes.detach().cpu()
    if values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    counted = _valid(result.hsi) & values.isfinite()
    return values if bool(counted.all()) else values.where(counted, math.nan)


def _sum(values: torch.Tensor, axes: int | tuple[int, ...]) -> torch.Tensor:
    """Return sums over the values that are there, NaN where none is."""
    return values.nansum(axes, dtype=torch.float64).where((~values.isnan()).sum(axes) > 0, math.nan)


def attribution_map(result: HSIAttributes) -> torch.Tensor | None:
    """Return the attribution of each pixel of a CHW result, float64 (rows, columns), NaN under the mask.

    Sums over the bands are those of the finite values. None where all pixels have the same attributions.
    """
    kind = _kind(result)
    if kind == "spectral":
        return None
    if kind == "spatial":
        return result.attributes.detach().cpu().double()[0].where(_valid(result.hsi)[0], math.nan)
    return _sum(_counted(result), 0)


def _by_band(result: HSIAttributes) -> np.ndarray | None:
    """Return the attribution of each band of a CHW result; NaN for a band without a finite value."""
    kind = _kind(result)
    if kind == "spatial":
        return None
    if kind == "spectral":
        return result.attributes.detach().cpu().double()[:, 0, 0].numpy()
    return _sum(_counted(result), (1, 2)).numpy()


def averaged(values: torch.Tensor, block: int) -> np.ndarray:
    """Return the means over blocks of the values that are finite; NaN where none is."""
    if block == 1:
        return values.float().numpy()
    finite = values.isfinite()
    planes = torch.stack([values.where(finite, 0.0), finite.to(values.dtype)])[:, None]
    sums = functional.avg_pool2d(planes, block, ceil_mode=True, count_include_pad=False)[:, 0]
    return (sums[0] / sums[1]).float().numpy()  # 0 / 0 is NaN


def colour_limit(heat: np.ndarray) -> float:
    """Return the magnitude at which colours end; 1 where there is nothing but zeros."""
    magnitudes = np.abs(heat[np.isfinite(heat)])
    limit = float(np.quantile(magnitudes, QUANTILE)) if magnitudes.size else 0.0
    return limit or float(magnitudes.max(initial=0.0)) or 1.0


def picture_of(hsi: HSI, block: int = 1) -> tuple[np.ndarray, str | None]:
    """Return a CHW image in colours, uint8 (rows, columns, 3), averaged over blocks, and a note on false colours."""
    picture, note = hsi.get_picture(output_channel_axis=2)
    planes = picture.detach().cpu().float().nan_to_num(0.0, 0.0, 0.0).permute(2, 0, 1)[None]
    if block > 1:
        planes = functional.avg_pool2d(planes, block, ceil_mode=True, count_include_pad=False)
    return (planes[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy(), note


def _spectra(result: HSIAttributes, most_bytes: int) -> Spectra:
    """Take as many pixels as fit into `most_bytes`, evenly over the image."""
    bands, rows, columns = result.hsi.image.shape
    kind = _kind(result)
    bytes_of_pixel = 4 * bands * (2 if kind == "full" else 1)
    step = 1
    while bytes_of_pixel * -(-rows // step) * -(-columns // step) > most_bytes and step < max(rows, columns):
        step += 1
    offset = min(step // 2, min(rows, columns) - 1)
    taken = (slice(None), slice(offset, None, step), slice(offset, None, step))
    valid = _valid(result.hsi)[taken]
    image = result.hsi.image.detach().cpu()[taken].float().where(valid, math.nan)
    attributes = result.attributes.detach().cpu()
    if kind == "spectral":
        attributes = attributes[:, :1, :1].float()
    else:
        attributes = attributes[taken][: 1 if kind == "spatial" else None].float()
        attributes = attributes.where(valid[: attributes.shape[0]], math.nan)
    return Spectra(step, offset, image.numpy(), attributes.numpy())


def _start(whole: torch.Tensor | None, spectra: Spectra, shape: tuple[int, int]) -> tuple[int, int]:
    """Return the pixel with the largest magnitude among those whose spectra are there; else the one in the middle."""
    if whole is None or not whole.isfinite().any():
        return shape[0] // 2, shape[1] // 2
    places = slice(spectra.offset, None, spectra.step)
    seen = whole[places, places].abs().nan_to_num(-1.0)
    row, column = divmod(int(seen.argmax()), seen.shape[1])
    return spectra.offset + spectra.step * row, spectra.offset + spectra.step * column


def png(picture: np.ndarray) -> str:
    """Return a picture, uint8 (rows, columns, 3 or 4), as the address of an image inside a page."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, picture, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def packed(contents: bytes) -> str:
    """Return bytes as what the script of the page unpacks: compressed, in base64."""
    return base64.b64encode(zlib.compress(contents, 9)).decode("ascii")


def encode(values: np.ndarray) -> dict[str, Any]:
    """Return float32 values as what the script of the page reads: with four decimal digits, and compressed.

    Numbers are rounded to `DIGITS` binary digits, so that small ones keep as many as large ones; whole numbers below
    16,384 stay as they are. Of all numbers the first bytes stand together, then the second ones, and so on: those of
    signs and exponents repeat, the last ones are 0.
    """
    little = np.ascontiguousarray(values, dtype="<f4")
    bits = np.where(np.isnan(little), np.float32(np.nan), little).astype("<f4").view("<u4").ravel()
    lost = 23 - DIGITS
    largest = np.uint32(
        0x7F800000 - (1 << lost)
    )  # rounded to, the next one would be infinite; NaN and infinite are above
    fixed = (bits & np.uint32(0x7FFFFFFF)) >= largest
    rounded = (bits + np.where(fixed, 0, (1 << lost) >> 1).astype("<u4")) & np.uint32((0xFFFFFFFF >> lost) << lost)
    planes = rounded.view(np.uint8).reshape(-1, 4).T
    return {"packed": packed(np.ascontiguousarray(planes).tobytes()), "shape": list(values.shape)}
