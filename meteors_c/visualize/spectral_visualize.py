"""Figures of the attributions of superbands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from meteors_c.attr.attributes import HSIAttributesSpectral
from meteors_c.visualize._axes import Canvas, blank_non_finite, check_type, hsv_palette, setup_visualization, to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from meteors_c.attr._fields import BandNames
    from meteors_c.visualize._axes import Drawn

__all__ = [
    "calculate_average_magnitudes",
    "validate_consistent_band_and_wavelengths",
    "visualize_spectral_attributes",
    "visualize_spectral_attributes_by_magnitude",
    "visualize_spectral_attributes_by_waveband",
]


def merge_band_names_segments(band_names: BandNames) -> dict[str, int]:
    """Join the parts of tuple names with commas and move these names to the end.

    Examples
    --------
    >>> merge_band_names_segments({("B", "G"): 1, "R": 2})
    {'R': 2, 'B,G': 1}
    """
    single = {name: label for name, label in band_names.items() if isinstance(name, str)}
    joined = {",".join(name): label for name, label in band_names.items() if not isinstance(name, str)}
    return {**single, **joined}


def validate_consistent_band_and_wavelengths(
    band_names: BandNames, wavelengths: torch.Tensor, spectral_attributes: list[HSIAttributesSpectral]
) -> None:
    """Check that all results have the same superbands and wavelengths.

    Parameters
    ----------
    band_names : dict
        The id of each superband.
    wavelengths : torch.Tensor
        The wavelengths, ``(bands,)``.
    spectral_attributes : list of HSIAttributesSpectral
        The results.

    Raises
    ------
    ValueError
        A result has others.

    Examples
    --------
    >>> validate_consistent_band_and_wavelengths(spectral.band_names, hsi.wavelengths, [spectral, spectral])
    """
    merged, expected = merge_band_names_segments(band_names), to_numpy(wavelengths)
    for index, result in enumerate(spectral_attributes):
        if merge_band_names_segments(result.band_names) != merged:
            raise ValueError(
                f"Band names are inconsistent among spectral attributes: result {index} has {result.band_names}, "
                f"the first one {band_names}"
            )
        if not np.array_equal(to_numpy(result.hsi.wavelengths), expected):
            raise ValueError(f"Wavelengths are inconsistent among spectral attributes: result {index} has others")


def calculate_average_magnitudes(
    band_names: BandNames | dict[str, int], band_mask: torch.Tensor, attribution_map: torch.Tensor
) -> torch.Tensor:
    """Average the attributions (with their signs) over each superband.

    Parameters
    ----------
    band_names : dict
        The id of each superband.
    band_mask : torch.Tensor
        The id of each band, ``(bands,)``.
    attribution_map : torch.Tensor
        The attribution of each band in each result, ``(results, bands)``.

    Returns
    -------
    torch.Tensor
        The means, ``(names,)`` for one result and ``(results, names)`` for several; 0 for an id without bands.

    Examples
    --------
    >>> names, mask = {"blue": 1, "green and red": 2}, torch.tensor([1, 2, 2])
    >>> calculate_average_magnitudes(names, mask, torch.tensor([[0.5, -1.0, -3.0]]))
    tensor([ 0.5000, -2.0000])
    """
    zero = attribution_map.new_zeros(len(attribution_map))
    means = [
        attribution_map[:, members].mean(dim=1) if bool((members := band_mask == label).any()) else zero
        for label in band_names.values()
    ]
    averages = torch.stack(means, dim=1) if means else attribution_map.new_zeros(len(attribution_map), 0)
    return averages[0] if len(averages) == 1 else averages


class _Groups:
    """What the spectral figures draw: the superbands of one or several results, after all checks.

    Attributes: ``names`` (merged, without the excluded one), ``mask`` ``(bands,)``, ``wavelengths`` ``(bands,)``,
    ``values`` ``(results, bands)`` with NaN for what is not finite, ``colours``, one per name or those of a palette.
    """

    def __init__(
        self,
        results: HSIAttributesSpectral | list[HSIAttributesSpectral],
        color_palette: Sequence[Any] | None,
        show_not_included: bool,
    ) -> None:
        listed = results if isinstance(results, list) else [results]
        for result in listed:
            check_type(result, HSIAttributesSpectral, "spectral_attributes, or each in a list of them,")
        if not listed:
            raise IndexError("spectral_attributes is an empty list")
        first = listed[0]
        validate_consistent_band_and_wavelengths(first.band_names, first.hsi.wavelengths, listed)
        masks = np.stack([to_numpy(result.band_mask) for result in listed])
        if (masks != masks[0]).any():
            raise ValueError("Band masks are inconsistent among spectral attributes: the ids of some bands differ")
        self.names = merge_band_names_segments(first.band_names)
        if not show_not_included:
            self.names.pop("not_included", None)
        self.mask = first.band_mask.detach().cpu()
        self.wavelengths = to_numpy(first.hsi.wavelengths)
        values = np.stack([to_numpy(result.flattened_attributes) for result in listed])
        self.values = blank_non_finite(values, "the attributions")
        self.colours: Sequence[Any] = hsv_palette(len(self.names)) if color_palette is None else color_palette

    def require_colours(self) -> None:
        if len(self.colours) < len(self.names):
            raise IndexError(f"color_palette has {len(self.colours)} colours, but there are {len(self.names)} groups")


def _draw_by_waveband(ax: Axes | None, groups: _Groups, show_legend: bool) -> Axes:
    ax = setup_visualization(ax, "Attributions by Waveband", "Wavelength (nm)", "Correlation with Output")

    values = np.ma.masked_invalid(groups.values)
    mean, low, high = (part.filled(np.nan) for part in (values.mean(axis=0), values.min(axis=0), values.max(axis=0)))
    for (name, label), colour in zip(groups.names.items(), groups.colours, strict=False):
        members = (groups.mask == label).numpy()
        wavelengths, means = groups.wavelengths[members], mean[members]
        if len(values) == 1:
            ax.scatter(wavelengths, means, color=colour, label=name)
        else:
            # Rounding may leave the mean of equal values a hair outside them.
            bars = np.stack([means - low[members], high[members] - means]).clip(min=0)
            ax.errorbar(wavelengths, means, yerr=bars, fmt="o", markersize=4, color=colour, label=name)
    if show_legend:
        ax.legend(title="SuperBand")
    return ax


def _draw_by_magnitude(ax: Axes | None, groups: _Groups, annotate_bars: bool) -> Axes:
    ax = setup_visualization(ax, "Attributions by Magnitude", "Group", "Average Attribution Magnitude")

    averages = calculate_average_magnitudes(groups.names, groups.mask, torch.from_numpy(groups.values)).numpy()
    labels, positions = list(groups.names), np.arange(len(groups.names))
    colours = [groups.colours[position % len(groups.colours)] for position in positions] if len(groups.colours) else []
    if averages.ndim == 1:
        bars = ax.bar(positions, averages, color=colours or None)
        if annotate_bars:
            ax.bar_label(bars, fmt="%.2f", padding=3)
            ax.margins(y=0.1)
    elif labels:
        finite = [group[np.isfinite(group)] for group in averages.T]
        boxes = ax.boxplot(finite, positions=positions, patch_artist=True, widths=0.6)
        for box, colour in zip(boxes["boxes"], colours, strict=False):
            box.set_facecolor(colour)
        for median in boxes["medians"]:
            median.set_color("black")
    ax.set_xticks(positions, labels, rotation=45, ha="right", rotation_mode="anchor")
    return ax


def visualize_spectral_attributes_by_waveband(
    spectral_attributes: HSIAttributesSpectral | list[HSIAttributesSpectral],
    ax: Axes | None,
    color_palette: Sequence[Any] | None = None,
    show_not_included: bool = True,
    show_legend: bool = True,
) -> Axes:
    """Draw the attribution of each band against its wavelength, one colour per superband.

    Parameters
    ----------
    spectral_attributes : HSIAttributesSpectral or list of HSIAttributesSpectral
        The results; for several, their mean with bars from the smallest to the largest.
    ax : Axes or None
        Where to draw; None for the current axes.
    color_palette : sequence of colours, optional
        One colour per superband; hues by default.
    show_not_included : bool, default True
        Whether to draw the superband called ``"not_included"``.
    show_legend : bool, default True
        Whether to name the colours.

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    TypeError
        ``spectral_attributes`` holds anything else.
    ValueError
        The results have different superbands or wavelengths.
    IndexError
        The list is empty, or the palette too short.

    Notes
    -----
    Here and in the figures by magnitude NaN and infinity are left out, with one warning that says how many they are.

    Examples
    --------
    >>> import torch
    >>> from meteors_c import HSI, attr, visualize
    >>> hsi = HSI(image=torch.rand(3, 20, 20), wavelengths=[450.0, 550.0, 650.0])
    >>> result = attr.HSIAttributesSpectral(
    ...     hsi=hsi,
    ...     attributes=torch.tensor([0.5, -1.0, -3.0]).reshape(3, 1, 1).expand(3, 20, 20),
    ...     mask=torch.tensor([1, 2, 2]).reshape(3, 1, 1).expand(3, 20, 20),
    ...     band_names={"blue": 1, "green and red": 2},
    ... )
    >>> ax = visualize.visualize_spectral_attributes_by_waveband(result, None)
    """
    groups = _Groups(spectral_attributes, color_palette, show_not_included)
    groups.require_colours()
    return _draw_by_waveband(ax, groups, show_legend)


def visualize_spectral_attributes_by_magnitude(
    spectral_attributes: HSIAttributesSpectral | list[HSIAttributesSpectral],
    ax: Axes | None,
    color_palette: Sequence[Any] | None = None,
    annotate_bars: bool = True,
    show_not_included: bool = True,
) -> Axes:
    """Draw the mean attribution of each superband: as bars, or for several results as box plots.

    Parameters
    ----------
    spectral_attributes : HSIAttributesSpectral or list of HSIAttributesSpectral
        The results.
    color_palette : sequence of colours, optional
        The colours, repeated if there are more superbands; hues by default.
    annotate_bars : bool, default True
        Whether to write the value at each bar.
    ax, show_not_included
        As in `visualize_spectral_attributes_by_waveband`.

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    TypeError
        ``spectral_attributes`` holds anything else.
    ValueError
        The results have different superbands or wavelengths.
    IndexError
        The list is empty.

    Examples
    --------
    >>> ax = visualize_spectral_attributes_by_magnitude(spectral, None)
    >>> len(ax.patches) == len(spectral.band_names)
    True
    """
    groups = _Groups(spectral_attributes, color_palette, show_not_included)
    return _draw_by_magnitude(ax, groups, annotate_bars)


def _draw_scores(ax: Axes, results: list[HSIAttributesSpectral]) -> None:
    """Draw the histogram of the scores; results without one are left out."""
    setup_visualization(ax, "Distribution of Score Values", "Score", "Frequency")
    scores = np.array([result.score for result in results if result.score is not None], dtype=float)
    scores = scores[np.isfinite(scores)]
    if scores.size:
        ax.hist(scores, bins=50, color="steelblue", alpha=0.7)
        ax.axvline(scores.mean(), color="darkred", linestyle="dashed")


def visualize_spectral_attributes(
    spectral_attributes: HSIAttributesSpectral | list[HSIAttributesSpectral],
    ax: np.ndarray | None = None,
    use_pyplot: bool = False,
    color_palette: Sequence[Any] | None = None,
    show_not_included: bool = True,
    title: str | None = None,
) -> Drawn:
    """Draw the attributions of superbands by waveband and by magnitude and, for a list, the distribution of the scores.

    Parameters
    ----------
    spectral_attributes : HSIAttributesSpectral or list of HSIAttributesSpectral
        The results; any orientation.
    ax : numpy.ndarray of Axes, optional
        A row of at least two axes to draw on, three for a list.
    use_pyplot : bool, default False
        Whether to show the figure; not used with ``ax``.
    color_palette, show_not_included
        As in `visualize_spectral_attributes_by_waveband`.
    title : str, optional
        Title of the figure, ``"Spectral Attributes Visualization"`` by default.

    Returns
    -------
    tuple of Figure and numpy.ndarray, numpy.ndarray or None
        The figure and its axes; ``ax`` if it was given; None if shown.

    Raises
    ------
    TypeError
        ``spectral_attributes`` holds anything else.
    ValueError
        The results have different superbands or wavelengths, or ``ax`` is not a 1-D array of enough axes.
    IndexError
        The list is empty, or the palette too short.

    Examples
    --------
    >>> figure, axes = visualize_spectral_attributes([spectral, spectral])
    """
    # All checks come before the first figure is made.
    groups = _Groups(spectral_attributes, color_palette, show_not_included)
    groups.require_colours()
    is_list = isinstance(spectral_attributes, list)
    canvas = Canvas(ax, (3 if is_list else 2,), (15, 5), title or "Spectral Attributes Visualization")
    _draw_by_waveband(canvas.axes[0], groups, show_legend=False)
    _draw_by_magnitude(canvas.axes[1], groups, annotate_bars=True)
    if isinstance(spectral_attributes, list):
        _draw_scores(canvas.axes[2], spectral_attributes)
    return canvas.finish(use_pyplot)
