"""What a page says in words: how far a result can be trusted, and how it was made."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from html import escape
from importlib import metadata
from typing import Any

import torch

from meteors_c._version import __version__
from meteors_c.attr.attributes import HSIAttributes, HSIAttributesSpectral
from meteors_c.attr.effects import FeatureEffects
from meteors_c.attr.report import Report
from meteors_c.hsi import HSI

__all__ = [
    "Rows",
    "covered",
    "evaluations_said",
    "evidence",
    "group_names",
    "making",
    "method_said",
    "range_said",
    "rows_html",
    "shortcut_said",
    "target_said",
    "title_of",
    "title_said",
    "versions",
]

Rows = list[tuple[str, str]]
_LIBRARIES = ("torch", "numpy", "plotly")


def title_said(method: str | None, target: Any) -> str:
    """Return method and target, such as ``Saliency, target 3``."""
    return f"{method or 'Attributions'}{'' if target is None else f', target {_plain(target)}'}"


def title_of(result: HSIAttributes) -> str:
    """Return method and target of a result."""
    return title_said(result.attribution_method, result.target)


def method_said(method: str | None) -> str:
    """Return the name of a method."""
    return method or "not said"


def target_said(target: Any) -> str:
    """Return which output was explained."""
    return "the only output" if target is None else _plain(target)


def range_said(low: Any, high: Any, unit: str = "") -> str:
    """Return the least and the largest of some numbers, such as ``400 to 900 nm``."""
    return f"{_number(low)} to {_number(high)}{unit and ' ' + unit}"


def evaluations_said(evaluations: int, calls: int, others: dict[str, int]) -> str:
    """Return what a run evaluated; `others` are further numbers of samples, by what is said of them."""
    further = "".join(f", {count} {name}" for name, count in others.items() if count)
    return f"{evaluations}{further}, in {calls} calls"


def shortcut_said(shortcut: str) -> str:
    """Return the shortcut that was taken."""
    return f"{shortcut}, verified"


def evidence(result: HSIAttributes) -> Rows:
    """Return what tells how far a result can be trusted."""
    return [*_numbers(result), *_score(result), *_effects(result.effects), *_report(result.report)]


def covered(hsi: HSI) -> str:
    """Return how many pixels the mask of an image leaves."""
    part = float(hsi.spatial_binary_mask.double().mean())
    return "all pixels" if part == 1 else f"{100 * part:.1f} % of the pixels"


def making(result: HSIAttributes, further: dict[str, Any] | None = None) -> Rows:
    """Return how a result was made: method, image, versions, and what `further` names."""
    hsi, report = result.hsi, result.report
    wavelengths = hsi.wavelengths.detach().double().cpu()
    rows = [
        ("method", method_said(result.attribution_method)),
        ("target", target_said(result.target)),
    ]
    if isinstance(report, Report):
        rows += [("arguments", report.arguments)] if report.arguments else []
        rows += [("model called as", report.model)]
    shape = " x ".join(f"{size} {name}" for size, name in zip(hsi.image.shape, _axes(hsi.orientation), strict=True))
    rows += [
        ("image", f"{shape}, {_dtype(hsi.image.dtype)}"),
        ("wavelengths", range_said(wavelengths.min(), wavelengths.max(), "nm")),
        ("mask", covered(hsi)),
    ]
    rows += [(name, _plain(value)) for name, value in (further or {}).items()]
    return [*rows, *versions()]


def rows_html(rows: Rows) -> str:
    """Return rows as an HTML table; everything is escaped."""
    lines = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in rows)
    return f"<table><tbody>{lines}</tbody></table>"


def versions() -> Rows:
    """Return which packages a page comes from."""
    return [("versions", ", ".join(_versions()))]


def _axes(orientation: tuple[str, str, str]) -> list[str]:
    return [{"C": "bands", "H": "rows", "W": "columns"}[letter] for letter in orientation]


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _number(value: Any) -> str:
    return f"{float(value):.4g}"


def _plain(value: Any) -> str:
    return str(value.tolist() if isinstance(value, torch.Tensor) else value)


def _versions() -> Iterator[str]:
    yield f"meteors_c {__version__}"
    for name in _LIBRARIES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    yield f"Python {platform.python_version()}"


def _numbers(result: HSIAttributes) -> Iterator[tuple[str, str]]:
    values = result.attributes.detach()
    finite = values.isfinite()
    lost = values.numel() - int(finite.sum())
    if lost < values.numel():
        low, high = torch.aminmax(values[finite])
        yield "attributions", range_said(low, high)
    if lost:
        yield "not finite", f"{lost} of {values.numel()} attributions are NaN or infinite"
    of_features = result.effects is not None and result.effects.standard_errors is not None
    if result.standard_error is not None and not of_features and lost < values.numel():
        worst, largest = float(result.standard_error.detach().max()), float(values[finite].abs().max())
        yield "standard error", f"{_number(worst)} at most{_part(worst, largest, 'the largest attribution')}"


def _part(value: float, whole: float, name: str) -> str:
    return f", {100 * abs(value / whole):.2g} % of {name}" if whole and math.isfinite(value / whole) else ""


def _score(result: HSIAttributes) -> Iterator[tuple[str, str]]:
    """Return what a method without features says of itself."""
    if result.score is None or (result.effects is not None and result.effects.score is not None):
        return
    if result.attribution_method == "Integrated Gradients":
        total = float(result.attributes.detach().double().nansum())
        yield "convergence delta", f"{_number(result.score)}{_part(result.score, total, 'the sum of attributions')}"
    else:
        yield "score", _number(result.score)


def _effects(effects: FeatureEffects | None) -> Iterator[tuple[str, str]]:
    if effects is None:
        return
    yield "features", f"{len(effects.ids)}; left out ones take {effects.missing}"
    if effects.score is not None:
        interval = effects.score_interval
        between = "" if interval is None else f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
        weighted = "" if effects.weighted_score is None else f", weighted {effects.weighted_score:.3f}"
        yield "R2 of the surrogate", f"{effects.score:.3f}{between}{weighted}"
    if effects.effective_samples is not None:
        yield "samples", f"{effects.samples}, worth {effects.effective_samples:.1f} by their weights"
    elif effects.samples:
        yield "samples", f"{effects.samples}{', all there are: the values are exact' if effects.exact else ''}"
    if effects.standard_errors is not None and len(effects.values):
        worst, largest = float(effects.standard_errors.max()), float(effects.values.abs().max())
        yield "standard errors", f"{_number(worst)} at most{_part(worst, largest, 'the largest value')}"
    if effects.output is not None and effects.baseline_output is not None:
        difference = effects.output - effects.baseline_output
        total = float(effects.values.sum())
        yield "completeness", f"the values sum to {_number(total)}, outputs differ by {_number(difference)}"
    yield "seed", str(effects.seed)


def _report(report: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(report, Report):
        return
    others = {
        "saved": report.evaluations_saved,
        "to verify": report.evaluations_verifying,
        "discarded": report.evaluations_discarded,
    }
    yield "evaluations", evaluations_said(report.evaluations, report.model_calls, others)
    if report.samples_used is not None:
        yield "samples used", str(report.samples_used)
    yield "time", f"{report.seconds:.3g} s, {report.seconds_in_model:.3g} s of it in the model"
    if report.shortcut is not None:
        yield "shortcut", f"{shortcut_said(report.shortcut)}; {report.shortcut_evaluations} evaluations"
    else:
        yield "shortcut", f"none: {report.shortcut_declined or 'not offered'}"
    for name, text in (
        ("kernels", report.kernels),
        ("shortcut failed", report.shortcut_failed),
        ("one at a time", report.one_at_a_time),
        ("not finite", report.nonfinite),
    ):
        if text is not None:
            yield name, text


def group_names(result: HSIAttributes) -> list[str] | None:
    """Return the name of each band's superband, for results over superbands."""
    if not isinstance(result, HSIAttributesSpectral):
        return None
    names = {number: name if isinstance(name, str) else ", ".join(name) for name, number in result.band_names.items()}
    return [str(names.get(int(number), int(number))) for number in result.band_mask.tolist()]
