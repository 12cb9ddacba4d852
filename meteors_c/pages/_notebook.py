"""What a notebook shows of images, results and reports: sections that fold, a small picture, no script.

Everything is in the one string: nothing is loaded, and all that comes from outside is escaped.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

import numpy as np
import torch

from meteors_c.hsi import HSI
from meteors_c.pages._contents import attribution_map, colour_limit, picture_of, png
from meteors_c.pages._tables import Rows, covered, evidence, making, range_said, rows_html, title_of

__all__ = ["hsi_html", "report_html", "result_html"]

_SIDE = 160  # pixels of a thumbnail's longer side, about
_STYLE = """<style>
.meteors-c { font-size: 13px; line-height: 1.4; max-width: 60em; }
.meteors-c > header { display: flex; gap: 1em; align-items: flex-start; padding-bottom: .5em; }
.meteors-c img { image-rendering: pixelated; border: 1px solid rgba(128,128,128,.4); height: 96px; max-width: 192px; }
.meteors-c strong { display: block; font-size: 14px; }
.meteors-c summary { cursor: pointer; padding: .25em 0; border-top: 1px solid rgba(128,128,128,.3); }
.meteors-c summary span { opacity: .7; padding-left: .75em; }
.meteors-c table { font-size: inherit; margin: 0 0 .5em 1.1em; border-collapse: collapse; }
.meteors-c th, .meteors-c td { text-align: left; vertical-align: top; padding: .1em 1em .1em 0; font-weight: normal; }
.meteors-c th { opacity: .7; white-space: nowrap; }
</style>"""

Section = tuple[str, str, str, bool]  # heading, what stands beside it while it is folded, contents, whether open


def hsi_html(hsi: Any) -> str:
    """Return an image for a notebook; see the module."""
    turned = hsi.change_orientation("CHW")
    bands, rows, columns = turned.image.shape
    wavelengths = hsi.wavelengths.detach().double().cpu()
    shape = " x ".join(map(str, hsi.image.shape))
    about: Rows = [
        ("shape", f"{shape} ({''.join(hsi.orientation)})"),
        ("dtype", str(hsi.image.dtype).removeprefix("torch.")),
        ("device", str(hsi.device)),
        ("mask", covered(hsi)),
    ]
    values: Rows = []
    finite = hsi.image.detach()[hsi.binary_mask & hsi.image.isfinite()]
    if finite.numel():
        low, high = torch.aminmax(finite)
        values.append(("values", range_said(low, high)))
    lost = int((~hsi.image.detach().isfinite() & hsi.binary_mask).sum())
    if lost:
        values.append(("not finite", f"{lost} values are NaN or infinite"))
    sections: list[Section] = [
        ("Image", shape, rows_html(about + values), True),
        ("Wavelengths", _range(wavelengths), rows_html(_wavelength_rows(wavelengths)), False),
    ]
    georeference = getattr(hsi, "georeference", None)
    if georeference is not None:
        places = [(name, str(getattr(georeference, name, None))) for name in ("crs", "transform")]
        sections.append(("Georeference", "", rows_html(places), False))
    title = f"{type(hsi).__name__}: {bands} bands, {rows} x {columns} pixels"
    return _box(title, _range(wavelengths), _thumbnail(turned), "the image in colours", sections)


def result_html(result: Any) -> str:
    """Return a result for a notebook; see the module."""
    turned = result.change_orientation("CHW")
    shape = " x ".join(map(str, result.attributes.shape))
    heat = attribution_map(turned)
    picture = _thumbnail(turned.hsi) if heat is None else _coloured(_small(heat).numpy())
    sections: list[Section] = [
        ("Evidence", "", rows_html(evidence(result)), True),
        ("How it was made", "", rows_html(making(result)), False),
    ]
    what = "the image in colours" if heat is None else "the attribution of each pixel, red where it is positive"
    return _box(title_of(result), f"{type(result).__name__}, {shape}", picture, what, sections)


def report_html(report: Any) -> str:
    """Return a report for a notebook; see the module."""
    head, *lines = repr(report).splitlines()
    rows: Rows = [(name, text) for name, text in (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines)]
    fields: Rows = [(name, str(value)) for name, value in report.to_dict().items() if value is not None]
    sections: list[Section] = [
        ("What the run did", "", rows_html(rows), True),
        ("All fields", str(len(fields)), rows_html(fields), False),
    ]
    return _box(head, "", None, "", sections)


def _range(wavelengths: torch.Tensor) -> str:
    return f"{float(wavelengths.min()):.1f} to {float(wavelengths.max()):.1f} nm" if wavelengths.numel() else "none"


def _wavelength_rows(wavelengths: torch.Tensor) -> Rows:
    numbers = ", ".join(f"{float(one):.1f}" for one in wavelengths[:400])
    return [("nm", numbers + (", ..." if len(wavelengths) > 400 else ""))]


def _small(plane: torch.Tensor) -> torch.Tensor:
    """Return every n-th row and column, few enough for a thumbnail."""
    step = max(1, -(-max(plane.shape[:2]) // _SIDE))
    return plane[::step, ::step]


def _thumbnail(hsi: Any) -> np.ndarray:
    """Return a CHW image in colours, small."""
    step = max(1, -(-max(hsi.image.shape[1:]) // _SIDE))
    small = HSI(
        image=hsi.image.detach()[:, ::step, ::step],
        wavelengths=hsi.wavelengths,
        binary_mask=hsi.binary_mask[:, ::step, ::step],
    )
    return picture_of(small)[0]


def _coloured(heat: np.ndarray) -> np.ndarray:
    """Return a map in colours from blue to red, grey where nothing is."""
    from matplotlib import colormaps

    colours = colormaps["RdBu_r"].with_extremes(bad="#9e9e9e")
    scaled = np.ma.masked_invalid(0.5 + 0.5 * np.clip(heat / colour_limit(heat), -1, 1))
    return (colours(scaled)[..., :3] * 255).round().astype(np.uint8)


def _box(title: str, subtitle: str, picture: np.ndarray | None, what: str, sections: list[Section]) -> str:
    image = "" if picture is None else f'<img src="{png(picture)}" alt="{escape(what)}" title="{escape(what)}">'
    folded = "".join(
        f"<details{' open' if opened else ''}><summary>{escape(heading)}<span>{escape(beside)}</span></summary>{inside}"
        "</details>"
        for heading, beside, inside, opened in sections
    )
    return (
        f'{_STYLE}<div class="meteors-c"><header>{image}<div><strong>{escape(title)}</strong>{escape(subtitle)}</div>'
        f"</header>{folded}</div>"
    )
