"""Writing a report page: one file with everything in it."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np

from meteors_c._files import replacing
from meteors_c._optional import import_optional
from meteors_c.attr._arguments import flag, positive
from meteors_c.attr.attributes import HSIAttributes
from meteors_c.pages import _figures
from meteors_c.pages._contents import MOST_MAP_PIXELS, Contents, contents_of, encode, packed, png
from meteors_c.pages._tables import rows_html, title_of

__all__ = ["MOST_BYTES", "write", "write_maps"]

MOST_BYTES = 16_000_000


def write(
    path: str | os.PathLike[str],
    results: HSIAttributes | Sequence[HSIAttributes],
    titles: str | Sequence[str] | None = None,
    share_scale: bool = False,
    *,
    made: dict[str, Any] | None = None,
    max_bytes: int = MOST_BYTES,
) -> None:
    """Write results, side by side, as one HTML page that works without a network.

    For each result: the scene in colours with the map of attributions over it, the spectrum and the attributions of the
    pixel that is clicked at, attributions by band with the names of spectral regions, what tells how far the result can
    be trusted, and how it was made. A slider sets the opacity of the maps.

    Parameters
    ----------
    path : str or path-like
        The file. One that is there is replaced in one step: after an error it is as it was.
    results : HSIAttributes or sequence of HSIAttributes
        What is shown, in this order; of any orientation.
    titles : str or sequence of str, optional
        One for each result; method and target where None. Shown as they are: markup in them is not.
    share_scale : bool, default False
        Whether the colours of all maps stand for the same numbers from the start. The page has a box for it.
    made : dict, optional
        What else is said of how the results were made, by name, such as the files that they come from.
    max_bytes : int, default 16,000,000
        How many bytes of spectra and attributions of single pixels the page holds, as float32; in the file, compressed,
        they take about two thirds of it. Where there are more pixels, every second, third, ... is kept, and the page
        says so.

    Raises
    ------
    TypeError
        `results`, or something in it, is no HSIAttributes; `titles` have None in them or are none; `made` is no dict.
    ValueError
        There are no results, or another number of titles.
    ImportError
        The package plotly is missing.
    OSError
        The file can't be written.

    Notes
    -----
    Maps of more than a million pixels are averaged over blocks, which the page says too. The colours of a map end at
    the 99 % quantile of its magnitudes. Numbers have four digits, as many as the page shows. Browsers since 2023 show
    it, which can unpack what is in it (``DecompressionStream``).

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> from meteors_c import HSI, attr, pages
    >>> hsi = HSI(image=torch.rand(3, 20, 20), wavelengths=[450.0, 550.0, 650.0])
    >>> result = attr.HSIAttributes(hsi=hsi, attributes=torch.randn(3, 20, 20), attribution_method="Saliency")
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "report.html"
    >>> pages.write(path, [result], titles=["Three bands"])
    """
    shown = _results(results)
    names = _titles(titles, shown)
    _check(share_scale, made)
    offline = import_optional("plotly.offline", "plotly", "report", "report pages")
    share = positive(max_bytes, "max_bytes") // len(shown)
    contents = [
        contents_of(result, name, made, share, MOST_MAP_PIXELS // len(shown))
        for result, name in zip(shown, names, strict=True)
    ]
    _put(path, contents, share_scale, offline)


def write_maps(
    path: str | os.PathLike[str],
    scene: Any,
    maps: Any,
    titles: str | Sequence[str] | None = None,
    share_scale: bool = False,
    *,
    made: dict[str, Any] | None = None,
    max_bytes: int = MOST_BYTES,
) -> None:
    """Write the maps of a whole scene, a panel for each target, as one HTML page that works without a network.

    What the page and this function hold is bounded, whatever the scene is: scene and maps are read in strips, picture
    and map are averaged over blocks to a million pixels in all, and the spectra that a click shows are those of the
    pixels that `explain_scene` kept (``values=10000``), which the page says.

    Parameters
    ----------
    path : str or path-like
        The file, as in `write`.
    scene : xarray.DataArray, HSI, numpy.ndarray or dask array
        What was explained.
    maps : xarray.Dataset
        What `explain_scene` gave, in memory or in a folder.
    titles : str or sequence of str, optional
        One for each target; method and target where None.
    share_scale, made
        As in `write`.
    max_bytes : int, default 16,000,000
        How many bytes of spectra and attributions of single pixels the page holds, as float32.

    Raises
    ------
    TypeError
        `maps` are no such dataset; `titles` have None in them or are none; `made` is no dict.
    ShapeMismatchError
        They are of a scene of another size.
    ValueError
        There is another number of titles.
    ImportError
        The package plotly or xarray is missing.
    OSError
        The file can't be written.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> from meteors_c import HSI, attr, models, pages
    >>> scene = HSI(image=torch.rand(3, 40, 50), wavelengths=[450.0, 550.0, 650.0])
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 5 * 5, 2)).eval()
    >>> explainer = attr.Saliency(models.ExplainableModel(net, "classification"))
    >>> maps = attr.explain_scene(explainer, scene, window=5, target=[0, 1], values=500)
    >>> pages.write_maps(pathlib.Path(tempfile.mkdtemp()) / "report.html", scene, maps)
    """
    from meteors_c.pages._scenes import contents_of_maps, titles_of  # needs packages that other pages do not

    _check(share_scale, made)
    offline = import_optional("plotly.offline", "plotly", "report", "report pages")
    most = positive(max_bytes, "max_bytes")
    names = _named(titles, titles_of(maps))
    _put(path, contents_of_maps(scene, maps, names, made, most, MOST_MAP_PIXELS), share_scale, offline)


def _check(share_scale: Any, made: Any) -> None:
    flag(share_scale, "share_scale")
    if made is not None and not isinstance(made, Mapping):
        raise TypeError(f"made must be a dict of what else is said, by name, or None, not {_kind_of(made)}")


def _put(path: str | os.PathLike[str], contents: list[Contents], share_scale: bool, offline: Any) -> None:
    """Write a page in one step."""
    with replacing(path) as file:
        file.write_text(_page(contents, share_scale, offline.get_plotlyjs()), encoding="utf-8")


def _results(results: Any) -> list[HSIAttributes]:
    wanted = "results must be one HSIAttributes or a sequence of them"
    if isinstance(results, str | bytes | Mapping) or not isinstance(results, HSIAttributes | Iterable):
        raise TypeError(f"{wanted}, not {_kind_of(results)}")
    shown = [results] if isinstance(results, HSIAttributes) else list(results)
    for number, one in enumerate(shown):
        if not isinstance(one, HSIAttributes):
            raise TypeError(f"{wanted}, but results[{number}] is {_kind_of(one)}")
    if not shown:
        raise ValueError(f"{wanted}, but it is empty")
    return shown


def _kind_of(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _titles(titles: Any, results: list[HSIAttributes]) -> list[str]:
    return _named(titles, [title_of(result) for result in results])


def _named(titles: Any, usual: list[str]) -> list[str]:
    if titles is None:
        return usual
    if not isinstance(titles, str) and (isinstance(titles, bytes) or not isinstance(titles, Iterable)):
        raise TypeError(f"titles must be a string or a sequence of them, not {_kind_of(titles)}")
    given = [titles] if isinstance(titles, str) else list(titles)
    for number, title in enumerate(given):
        if title is None:
            raise TypeError(f"titles must be strings, but titles[{number}] is None")
    names = [str(title) for title in given]
    if len(names) != len(usual):
        raise ValueError(f"titles must have one string for each of the {len(usual)} results, not {len(names)}")
    return names


class _Shared:
    """Arrays that several panels show are in the page once."""

    def __init__(self) -> None:
        self.arrays: list[dict[str, Any]] = []
        self._places: dict[tuple[Any, ...], int] = {}

    def place(self, values: np.ndarray) -> int:
        """Return the number of an array in the page; the same for the same values."""
        key = (values.shape, hashlib.blake2b(values.tobytes()).digest())
        if key not in self._places:
            self._places[key] = len(self.arrays)
            self.arrays.append(encode(values))
        return self._places[key]


@functools.lru_cache(maxsize=1)
def _packed_script(script: str) -> str:
    return packed(script.encode())


def _page(contents: list[Contents], share_scale: bool, plotly: str) -> str:
    shared = _Shared()
    panels = [_panel_data(one, number, shared) for number, one in enumerate(contents)]
    data = json.dumps({"panels": panels, "arrays": shared.arrays}, allow_nan=False, default=_plain)
    parts = {
        "title": escape(contents[0].title if len(contents) == 1 else f"{len(contents)} attributions"),
        "style": _resource("page.css"),
        "controls": _controls(contents, share_scale),
        "layout": "single" if len(contents) == 1 else "several",
        "panels": "\n".join(_panel_html(one, number, len(contents) == 1) for number, one in enumerate(contents)),
        "contents": data.replace("<", "\\u003c"),  # else a string could end the script
        "plotly": _packed_script(plotly),
        "script": _resource("page.js"),
    }
    # Split before anything is put in: what is put in may hold braces of its own.
    pieces = _resource("page.html").split("{{")
    return pieces[0] + "".join(parts[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces[1:]))


def _resource(name: str) -> str:
    return resources.files("meteors_c.pages").joinpath(name).read_text(encoding="utf-8").rstrip("\n")


def _plain(value: Any) -> Any:
    """Return what Plotly leaves of NumPy as what JSON has."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} can't be written into a page")


def _panel_data(contents: Contents, number: int, shared: _Shared) -> dict[str, Any]:
    spectra = contents.spectra
    return {
        "number": number,
        "kind": contents.kind,
        "shape": list(contents.shape),
        "mapped": contents.heat is not None,
        "limit": contents.limit,
        "start": list(contents.start),
        "heat": None if contents.heat is None else shared.place(contents.heat),
        "picture": list(contents.picture.shape[:2]),
        "step": None if spectra is None else spectra.step,
        "offset": None if spectra is None else spectra.offset,
        "places": None if spectra is None or spectra.places is None else spectra.places.tolist(),
        "order": np.argsort(contents.wavelengths).tolist(),
        "wavelengths": np.sort(contents.wavelengths).tolist(),
        "positive": _figures.POSITIVE,
        "negative": _figures.NEGATIVE,
        "image": None if spectra is None else shared.place(spectra.image),
        "attributions": None if spectra is None else shared.place(spectra.attributions),
        "figures": {
            "map": _figures.map_figure(contents, png(contents.picture)),
            "pixel": _figures.pixel_figure(contents),
            "bands": _figures.band_figure(contents),
        },
    }


def _controls(contents: list[Contents], share_scale: bool) -> str:
    rows, columns = contents[0].shape
    row, column = contents[0].start
    mapped = any(one.heat is not None for one in contents)
    controls = [
        f'<label>Map opacity <input type="range" id="opacity" min="0" max="100" step="5" value="80"'
        f'{"" if mapped else " disabled"}> <output id="opacity-value" for="opacity">80 %</output></label>',
        f'<label>Row <input type="number" id="row" min="0" max="{rows - 1}" value="{row}"></label>',
        f'<label>Column <input type="number" id="column" min="0" max="{columns - 1}" value="{column}"></label>',
    ]
    if len(contents) > 1:
        checked = " checked" if share_scale else ""
        controls.append(f'<label><input type="checkbox" id="shared"{checked}> Same colour scale</label>')
    return "\n".join(controls)


def _panel_html(contents: Contents, number: int, alone: bool) -> str:
    name = escape(contents.title)
    bands = ""
    if contents.by_band is not None:
        label = f"Bars of the attributions by band of {name}. {_largest_band(contents)}"
        bands = (
            f'<div class="figure"><h3>Attribution by band, {escape(contents.bands_said)}</h3>'
            f'<div class="plot bands" id="bands-{number}" role="img" aria-label="{label}"></div></div>'
        )
    pixel = ""
    if contents.spectra is not None:
        pixel = (
            f'<div class="plot pixel" id="pixel-{number}" role="img" aria-label="Spectrum and attributions of the '
            f'chosen pixel of {name}"></div>'
        )
    return f"""<section class="panel" aria-labelledby="title-{number}">
<h2 id="title-{number}">{name}</h2>
<div class="figures">
<div class="figure"><div class="plot map" id="map-{number}" role="img" aria-label="Map of {name}: the scene with \
attributions over it; a click chooses a pixel, as the fields for row and column do"></div>
<p class="note">{_notes(contents, alone)}</p></div>
<div class="figure">{pixel}
<p class="readout" id="readout-{number}" aria-live="polite"></p></div>
</div>
{bands}
<div class="tables">
<div><h3>Evidence</h3>{rows_html(contents.evidence)}</div>
<div><h3>How it was made</h3>{rows_html(contents.making)}</div>
</div>
</section>"""


def _largest_band(contents: Contents) -> str:
    sums = contents.by_band
    if sums is None or not np.isfinite(sums).any():
        return ""
    band = int(np.nanargmax(np.abs(sums)))
    return f"The largest is {sums[band]:.4g} at {contents.wavelengths[band]:.1f} nm."


def _notes(contents: Contents, alone: bool) -> str:
    """Return what must be known to read the map, as escaped text."""
    notes = contents.notes[:1]
    if contents.heat is not None:
        own = "" if alone else " of its own scale"
        notes.append(f"Colours{own} end at {contents.limit:.4g}, the 99 % quantile of the magnitudes.")
    if contents.block > 1:
        notes.append(f"Picture and map are averaged over {contents.block} x {contents.block} pixels.")
    notes += contents.notes[1:]
    if contents.picture_note is not None:
        notes.append(f"False colours: {contents.picture_note}.")
    return escape(" ".join(notes))
