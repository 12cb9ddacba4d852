"""The figures of a report page, as Plotly draws them."""

from __future__ import annotations

import importlib
from html import escape
from typing import Any

import numpy as np

from meteors_c import spectral
from meteors_c.pages._contents import Contents

__all__ = ["band_figure", "map_figure", "pixel_figure", "regions_of"]

POSITIVE, NEGATIVE, INK, GRID = "#a3182d", "#1f5a94", "#1d2420", "#e4e8e5"
# Width of a letter of a region's name, of the axis of one of two results side by side.
LETTER = 0.0175
CLASSES = ["#2c6e49", "#b8651b", "#6a4c93", "#1d2420", "#00798c", "#c2185b", "#7a6f00", "#4a5a8a"]
# Blue to red; where nothing is attributed, the picture below is seen.
COLOURS = [
    [0.0, "rgba(5,48,97,1)"],
    [0.25, "rgba(67,147,195,0.85)"],
    [0.5, "rgba(255,255,255,0)"],
    [0.75, "rgba(214,96,77,0.85)"],
    [1.0, "rgba(103,0,31,1)"],
]
_AXIS: dict[str, Any] = {
    "gridcolor": GRID,
    "linecolor": "#9aa79f",
    "ticks": "outside",
    "automargin": True,
    "exponentformat": "power",
}
_PIXELS: dict[str, Any] = {**_AXIS, "constrain": "domain", "showgrid": False, "zeroline": False, "ticks": ""}
_SCALE = {"thickness": 12, "len": 0.9, "outlinewidth": 0, "title": {"text": "attribution", "side": "right"}}
_LAYOUT: dict[str, Any] = {
    # Powers of ten: of Plotly's own letters, B and µ, not all are SI's. Axes have theirs below.
    "template": {"data": {"heatmap": [{"colorbar": {"exponentformat": "power"}}]}},
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "hoverlabel": {"bgcolor": "#ffffff", "font": {"color": INK}},
    "showlegend": False,
    "modebar": {"bgcolor": "rgba(255,255,255,0.85)", "color": "#9aa79f", "activecolor": "#2c6e49"},
}

Region = tuple[str, float, float]


def regions_of(wavelengths: np.ndarray) -> list[Region]:
    """Return the named regions that bands lie in, (name, lowest, highest nm), from short to long wavelengths.

    Those that cover the spectrum side by side, and the absorption bands of gases.
    """
    names = [*spectral.groups(wavelengths, "regions"), *spectral.groups(wavelengths, "absorption")]
    ranges = [(name, low, high) for name in names for low, high in spectral.ranges_of(name)]
    inside = [one for one in ranges if ((wavelengths >= one[1]) & (wavelengths <= one[2])).any()]
    return sorted(inside, key=lambda region: region[1:])


def map_figure(contents: Contents, picture: str) -> dict[str, Any]:
    """Return the picture with the map over it; the last trace marks a pixel. The page's script puts the numbers in."""
    go = importlib.import_module("plotly.graph_objects")
    rows, columns = contents.shape
    figure = go.Figure([go.Heatmap(**_heat(contents)), go.Scatter(**_marker(contents.start))])
    figure.update_layout(
        **_LAYOUT,
        margin={"l": 45, "r": 10, "t": 32, "b": 40},  # above stands the mode bar
        dragmode="pan",
        images=[_ground(contents, picture)],
        xaxis={**_PIXELS, "range": [-0.5, columns - 0.5], "title": {"text": "column"}},
        yaxis={**_PIXELS, "range": [rows - 0.5, -0.5], "title": {"text": "row"}, "scaleanchor": "x"},
    )
    return figure.to_dict()


def _heat(contents: Contents) -> dict[str, Any]:
    """Return the map, whose values stand for blocks of pixels; without one, what tells the place of a click."""
    mapped, block = contents.heat is not None, contents.block
    attribution = "<br>attribution %{z:.4g}" if mapped else ""
    return {
        "x0": (block - 1) / 2,
        "dx": block,
        "y0": (block - 1) / 2,
        "dy": block,
        "zmin": -contents.limit,
        "zmax": contents.limit,
        "colorscale": COLOURS,
        "opacity": 0.8 if mapped else 0.0,
        "showscale": mapped,
        "colorbar": _SCALE,
        "hovertemplate": f"row %{{y:.0f}}, column %{{x:.0f}}{attribution}<extra></extra>",
        "hoverongaps": True,
    }


def _marker(place: tuple[int, int]) -> dict[str, Any]:
    """Return the frame around a pixel: a light one in a dark one, to be seen on any ground."""
    frame = {
        "symbol": "square",
        "size": [17, 13],
        "color": "rgba(0,0,0,0)",
        "opacity": 1,
        "line": {"width": 2, "color": ["#111111", "#ffe14d"]},
    }
    return {"x": [place[1]] * 2, "y": [place[0]] * 2, "mode": "markers", "hoverinfo": "skip", "marker": frame}


def _ground(contents: Contents, picture: str) -> dict[str, Any]:
    """Return the picture of the scene, in the pixels of the map."""
    height, width = contents.picture.shape[:2]
    return {
        "source": picture,
        "xref": "x",
        "yref": "y",
        "x": -0.5,
        "y": -0.5,
        "sizex": width * contents.block,
        "sizey": height * contents.block,
        "sizing": "stretch",
        "layer": "below",
    }


def pixel_figure(contents: Contents) -> dict[str, Any] | None:
    """Return the spectrum of a pixel, and below it its attributions; the script of the page fills in the numbers."""
    if contents.spectra is None:
        return None
    go = importlib.import_module("plotly.graph_objects")
    wavelengths = contents.wavelengths
    order = np.argsort(wavelengths)
    empty = np.full(len(wavelengths), np.nan)
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=wavelengths[order],
            y=empty,
            mode="lines+markers" if len(wavelengths) < 60 else "lines",
            line={"color": INK, "width": 1.6},
            hovertemplate="%{x:.1f} nm: %{y:.4g}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Bar(
            x=wavelengths[order],
            y=empty,
            width=_widths(wavelengths[order]),
            marker={"color": POSITIVE, "line": {"width": 0}},
            yaxis="y2",
            hovertemplate="%{x:.1f} nm: %{y:.4g}<extra></extra>",
        )
    )
    figure.update_layout(
        **_LAYOUT,
        margin={"l": 70, "r": 15, "t": 32, "b": 45},
        xaxis={**_AXIS, "title": {"text": "wavelength (nm)"}, "anchor": "y2", "zeroline": False},
        yaxis={**_AXIS, "domain": [0.56, 1], "title": {"text": "spectrum"}, "zeroline": False},
        yaxis2={**_AXIS, "domain": [0, 0.48], "title": {"text": "attribution"}, "zerolinecolor": "#9aa79f"},
    )
    return figure.to_dict()


def band_figure(contents: Contents) -> dict[str, Any] | None:
    """Return bars of the attribution by band, with the names of regions; None where it is the same in all bands.

    Of several classes of pixels each has a line over the bars.
    """
    if contents.by_band is None:
        return None
    go = importlib.import_module("plotly.graph_objects")
    wavelengths, sums, groups = contents.wavelengths, contents.by_band, contents.groups
    order = np.argsort(wavelengths)
    regions = regions_of(wavelengths)
    names = [_names_at(one, regions) for one in wavelengths]
    if groups is not None:
        names = [f"{escape(group)}{f' ({name})' if name else ''}" for group, name in zip(groups, names, strict=True)]
    figure = go.Figure(
        go.Bar(
            x=wavelengths[order],
            y=sums[order],
            width=_widths(wavelengths[order]),
            marker={"color": np.where(sums[order] < 0, NEGATIVE, POSITIVE).tolist(), "line": {"width": 0}},
            customdata=[[int(band), names[band]] for band in order],
            hovertemplate="band %{customdata[0]}, %{x:.1f} nm: %{y:.4g}<br>%{customdata[1]}<extra></extra>",
            name="all",
        )
    )
    for number, (name, values) in enumerate(contents.by_class.items()):
        figure.add_trace(
            go.Scatter(
                x=wavelengths[order],
                y=values[order],
                mode="lines",
                line={"color": CLASSES[number % len(CLASSES)], "width": 1.6},
                name=escape(name),
                hovertemplate=f"{escape(name)}, %{{x:.1f}} nm: %{{y:.4g}}<extra></extra>",
            )
        )
    if contents.by_class:
        figure.update_traces(marker={"opacity": 0.35}, selector={"type": "bar"})
    middles = _middles(regions, wavelengths)
    lanes = _lanes(regions, middles, wavelengths)
    count = max(lanes, default=-1) + 1
    figure.update_layout(
        **{**_LAYOUT, "showlegend": bool(contents.by_class)},
        margin={"l": 70, "r": 15, "t": 32 + 17 * count, "b": 45},
        shapes=[_stripe(region, lane) for region, lane in zip(regions, lanes, strict=True)],
        annotations=[_label(*one) for one in zip(regions, lanes, middles, strict=True)],
        xaxis={**_AXIS, "title": {"text": "wavelength (nm)"}, "zeroline": False, "range": _ends(wavelengths)},
        yaxis={**_AXIS, "title": {"text": "attribution"}, "zerolinecolor": "#9aa79f"},
    )
    return figure.to_dict()


def _widths(sorted_wavelengths: np.ndarray) -> np.ndarray:
    """Return bars as wide as the nearer neighbour is away, so that gaps in the spectrum stay gaps."""
    if len(sorted_wavelengths) < 2:
        return np.full(len(sorted_wavelengths), 10.0)
    gaps = np.diff(sorted_wavelengths)
    nearest = np.minimum(np.append(gaps, gaps[-1]), np.append(gaps[0], gaps))
    return 0.92 * np.maximum(nearest, 1e-3 * max(float(np.ptp(sorted_wavelengths)), 1e-6))


def _ends(wavelengths: np.ndarray) -> list[float]:
    """Return where the axis ends: half a bar beyond the bands, however far their regions reach."""
    order = np.sort(wavelengths)
    half = _widths(order)[[0, -1]] / 1.8
    return [float(order[0] - half[0]), float(order[-1] + half[1])]


def _names_at(wavelength: float, regions: list[Region]) -> str:
    return escape(", ".join(name for name, low, high in regions if low <= wavelength <= high))


def _half(name: str, wavelengths: np.ndarray) -> float:
    """Return half the width of a name and of the space behind it, in nm."""
    return LETTER * (float(np.ptp(wavelengths)) or 1.0) * (len(name) + 1) / 2


def _middles(regions: list[Region], wavelengths: np.ndarray) -> list[float]:
    """Return for each region where its name stands: about the middle of what is seen of it, and within the figure."""
    first, last = _ends(wavelengths)
    middles = []
    for name, low, high in regions:
        half = _half(name, wavelengths)
        middle = (max(low, float(wavelengths.min())) + min(high, float(wavelengths.max()))) / 2
        middles.append(max(min(middle, last - half), first + half))
    return middles


def _lanes(regions: list[Region], middles: list[float], wavelengths: np.ndarray) -> list[int]:
    """Return for each region the line of text on which its name overlaps no other."""
    ends: list[float] = []
    lanes = []
    for (name, _, _), middle in zip(regions, middles, strict=True):
        half = _half(name, wavelengths)
        lane = next((number for number, end in enumerate(ends) if end <= middle - half), len(ends))
        ends[lane : lane + 1] = [middle + half]
        lanes.append(lane)
    return lanes


def _stripe(region: Region, lane: int) -> dict[str, Any]:
    return {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": region[1],
        "x1": region[2],
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "line": {"width": 0},
        "fillcolor": "rgba(44,110,73,0.07)" if lane % 2 == 0 else "rgba(200,150,40,0.09)",
    }


def _label(region: Region, lane: int, middle: float) -> dict[str, Any]:
    return {
        "text": escape(region[0]),
        "x": middle,
        "xref": "x",
        "y": 1,
        "yref": "paper",
        "yanchor": "bottom",
        "yshift": 2 + 17 * lane,
        "showarrow": False,
        "font": {"size": 11, "color": "#5e6a63"},
    }
