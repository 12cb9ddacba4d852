"""Methods by their names on the command line, and calls of them."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from meteors_c import attr
from meteors_c.attr._registry import METHODS
from meteors_c.attr.explainer import Explainer
from meteors_c.attr.lime import Lime
from meteors_c.attr.noise_tunnel import BaseNoiseTunnel
from meteors_c.cli import _values
from meteors_c.cli._errors import UsageError
from meteors_c.cli._models import Loaded
from meteors_c.hsi import HSI

__all__ = ["Plan", "describe", "plan", "resolve"]

ALIASES = {
    "ig": "integrated-gradients",
    "ixg": "input-x-gradient",
    "gradient": "saliency",
    "smoothgrad": "noise-tunnel",
    "ablation": "feature-ablation",
    "shap": "kernel-shap",
    "shapley": "shapley-value-sampling",
}
# What attributions can be found for, the default first; by the name of the class that a method derives from.
_BY: dict[str, tuple[str, ...]] = {
    "Occlusion": ("bands", "pixels", "values"),
    "FeatureAblation": ("bands", "superpixels"),
    "Lime": ("bands", "superpixels"),
    "KernelShap": ("bands", "superpixels"),
    "ShapleyValueSampling": ("bands", "superpixels"),
}
_CALLS = {"values": "attribute", "pixels": "get_spatial_attributes", "bands": "get_spectral_attributes"}
_OUTPUTS_ALONE = frozenset(_BY)
_PROGRESS = ("show_progress", "verbose")
_GROUPS, _SUPERPIXELS = 10, 50
# Not to be given by --option: they have options of their own, or no way to be written down.
_OWN = {"self", "hsi", "target", "additional_forward_args", "per_target", "keep_gradient", "continue_from", *_PROGRESS}
_OWN |= {"band_mask", "band_names", "segmentation_mask", "feature_mask", "kwargs", "own", "segmentation_method_params"}


@dataclass
class Plan:
    """What is called, and with what.

    Attributes
    ----------
    explainer : Explainer
    call : str
        The method of the explainer.
    arguments : dict
        Of that call, but for the image and the target.
    by : str
        What attributions are found for.
    groups, superpixels : str or None, int or None
        How bands are grouped, and how many superpixels there are; masks are made of the image.
    making : dict
        What else the superpixels are made with.
    batch : int or None
        The most samples that the model may see at once.
    said : dict
        The choices, for people.
    """

    explainer: Explainer
    call: str
    arguments: dict[str, Any]
    by: str
    groups: str | None = None
    superpixels: int | None = None
    making: dict[str, Any] = field(default_factory=dict)
    batch: int | None = None
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def function(self) -> Callable[..., Any]:
        """The bound call."""
        function: Callable[..., Any] = getattr(self.explainer, self.call)
        return function

    def masks(self, hsi: HSI) -> dict[str, Any]:
        """Return the arguments that say which values go together in an image."""
        ablation = isinstance(self.explainer, attr.FeatureAblation)
        if self.superpixels is not None:
            method = self.making.get("segmentation_method", "slic")
            options: dict[str, Any] = {"num_interpret_features": self.superpixels} if method == "slic" else {}
            mask = Lime.get_segmentation_mask(hsi, **(options | {"segmentation_method": method} | self.making))
            if ablation:
                return {"feature_mask": mask.squeeze(hsi.spectral_axis)}
            return {"segmentation_mask": mask}
        if self.by != "bands":
            return {}
        if isinstance(self.explainer, attr.Occlusion):
            return {} if self.groups is None else {"band_names": _listed(self.groups)}
        bands = hsi.image.shape[hsi.spectral_axis]
        if self.groups is None and ablation:
            return {}
        names: Any
        if self.groups is None or self.groups.isdecimal():
            names, mask = _neighbours(hsi, min(int(self.groups or _GROUPS), bands))
        else:
            mask, names = Lime.get_band_mask(hsi, band_names=_listed(self.groups))
            mask = mask.movedim(hsi.spectral_axis, 0)[:, 0, 0]
        return {"feature_mask": mask} if ablation else {"band_mask": mask, "band_names": names}


def _listed(groups: str) -> Any:
    """Return names as they are given to the library: one by itself, several as a list."""
    names = [name.strip() for name in groups.split(",")]
    return names if len(names) > 1 else names[0]


def _neighbours(hsi: HSI, count: int) -> tuple[dict[str, int], torch.Tensor]:
    """Return so many groups of bands that follow each other in wavelength, as even as can be, and their names."""
    wavelengths = hsi.wavelengths.detach().double().cpu()
    bands = len(wavelengths)
    mask = torch.empty(bands, dtype=torch.int64)
    mask[torch.argsort(wavelengths)] = torch.arange(bands) * count // bands
    names = {}
    for group in range(count):
        inside = wavelengths[mask == group]
        names[f"{float(inside.min()):.0f} to {float(inside.max()):.0f} nm"] = group
    if len(names) < count:  # wavelengths so near to each other that their names are the same
        names = {f"group {group}": group for group in range(count)}
    return names, mask


def resolve(name: str) -> type[Explainer]:
    """Return the class of a method by its name, such as ``integrated-gradients``, ``ig`` or ``IntegratedGradients``."""
    known = {_dashed(kind): kind for kind in METHODS.values()}
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    wanted = ALIASES.get(wanted, wanted)
    found = known.get(wanted) or {key.replace("-", ""): kind for key, kind in known.items()}.get(
        wanted.replace("-", "")
    )
    if found is None:
        short = ", ".join(f"{short} ({long})" for short, long in ALIASES.items())
        raise UsageError(f"--method must be one of {', '.join(known)}, or {short}, not {name!r}")
    return found


def _dashed(kind: type[Explainer]) -> str:
    return kind.get_name().lower().replace(" ", "-")


def plan(arguments: argparse.Namespace, loaded: Loaded) -> Plan:
    """Read the options of a method; UsageError for those that it lacks."""
    kind = resolve(arguments.method)
    explainer = _explainer(kind, arguments.around, loaded)
    by = _by(kind, arguments.by)
    ablation = issubclass(kind, attr.FeatureAblation)
    call = "attribute" if ablation else "get_spatial_attributes" if by == "superpixels" else _CALLS[by]
    found = Plan(explainer, call, {}, by)
    parameters = inspect.signature(found.function).parameters
    taken = set(parameters) | set(getattr(kind, "_own", {}))
    given = {
        "baseline": ("--baseline", _values.baseline(arguments.baseline)),
        "n_steps": ("--steps", arguments.steps),
        "n_samples": ("--samples", _samples(arguments.samples, kind)),
        "sliding_window_shapes": ("--box", _values.sizes(arguments.box, "--box")),
        "strides": ("--box-stride", _values.sizes(arguments.box_stride, "--box-stride")),
    }
    for name, (option, value) in given.items():
        if value is not None:
            if name not in taken:
                raise UsageError(f"{option}: {kind.get_name()} takes none")
            found.arguments[name] = value
    if arguments.box is not None and arguments.box_stride is None:  # boxes side by side
        found.arguments["strides"] = found.arguments["sliding_window_shapes"]
    defaults = {name: parameter.default for name, parameter in parameters.items()} | getattr(kind, "_own", {})
    options = _options(arguments.option, kind, taken, by == "superpixels", defaults)
    found.making = {name: options.pop(name) for name in [*options] if name not in taken - {"segmentation_method"}}
    found.arguments |= options
    found.batch = arguments.batch if loaded.most is None else min(loaded.most, arguments.batch or loaded.most)
    _features(found, arguments, kind)
    found.said = {"by": by, **found.arguments, **found.making}
    found.said |= {
        name: value for name, value in (("groups", found.groups), ("batch", found.batch)) if value is not None
    }
    return found


def _by(kind: type[Explainer], by: str | None) -> str:
    choices = next((_BY[base.__name__] for base in kind.__mro__ if base.__name__ in _BY), ("values",))
    if by is not None and by not in choices:
        raise UsageError(f"--by: {kind.get_name()} goes by {', '.join(choices)}, not by {by}")
    return by or choices[0]


def _explainer(kind: type[Explainer], around: str | None, loaded: Loaded) -> Explainer:
    inner = resolve(around or "saliency") if issubclass(kind, BaseNoiseTunnel) else None
    if around is not None and inner is None:
        raise UsageError(f"--around: {kind.get_name()} runs around no other method")
    asked = kind if inner is None else inner
    if not loaded.gradients and asked.__name__ not in _OUTPUTS_ALONE:
        others = ", ".join(_dashed(METHODS[name]) for name in METHODS if name in _OUTPUTS_ALONE)
        raise UsageError(
            f"--method: {asked.get_name()} needs gradients, which a model of the kind {loaded.kind} has none of; "
            f"methods by outputs alone are {others}"
        )
    make: Callable[..., Explainer] = kind
    return make(loaded.model if inner is None else _made(inner, loaded))


def _made(kind: Callable[..., Explainer], loaded: Loaded) -> Explainer:
    return kind(loaded.model)


def _options(
    given: list[str], kind: type[Explainer], taken: set[str], superpixels: bool, defaults: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of --option NAME=VALUE; what makes superpixels may have any name."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise UsageError(f"--option must be NAME=VALUE, not {text!r}")
        if name in _OWN or (name not in taken and not superpixels):
            raise UsageError(f"--option: {kind.get_name()} has no {name}; it takes {', '.join(sorted(taken - _OWN))}")
        found[name] = _values.literal(value)
        if isinstance(defaults.get(name), bool) and not isinstance(found[name], bool):
            raise UsageError(f"--option {name} must be True or False, not {value!r}")
    return found


def _samples(text: str | None, kind: type[Explainer]) -> int | str | None:
    found = _values.samples(text)
    if found == "auto" and not issubclass(kind, Lime):
        raise UsageError(f"--samples auto: {kind.get_name()} takes a number; how many are enough, only Lime finds out")
    return found


def _features(found: Plan, arguments: argparse.Namespace, kind: type[Explainer]) -> None:
    if arguments.groups is not None:
        if found.by != "bands":
            raise UsageError(
                f"--groups is for methods over bands (--by bands), not for {kind.get_name()} by {found.by}"
            )
        if arguments.groups.isdecimal() and int(arguments.groups) == 0:
            raise UsageError("--groups must be a positive number of groups, or names, not 0")
        if issubclass(kind, attr.Occlusion):
            if arguments.groups.isdecimal():
                raise UsageError(f"--groups: {kind.get_name()} takes names of groups; windows of N bands are --box N")
            if arguments.box is not None or arguments.box_stride is not None:
                raise UsageError("--groups stand instead of windows: leave out --box and --box-stride")
        found.groups = arguments.groups
    if arguments.superpixels is not None and found.by != "superpixels":
        raise UsageError(f"--superpixels needs --by superpixels, which {kind.get_name()} by {found.by} is not")
    if found.by == "superpixels":
        found.superpixels = arguments.superpixels or _SUPERPIXELS


def describe(name: str | None) -> None:
    """Print the methods, or the options of one."""
    if name is not None:
        _describe_one(resolve(name))
        return
    short = {long: short for short, long in ALIASES.items()}
    rows = [("method", "short", "needs", "attributions of")]
    for kind in METHODS.values():
        dashed = _dashed(kind)
        needs = "outputs" if kind.__name__ in _OUTPUTS_ALONE else "gradients"
        needs = "its inner method's" if issubclass(kind, BaseNoiseTunnel) else needs
        rows.append((dashed, short.get(dashed, ""), needs, ", ".join(_BY.get(kind.__name__, ("values",)))))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip())


def _describe_one(kind: type[Explainer]) -> None:
    print(f"{_dashed(kind)}: {(inspect.getdoc(kind) or '').splitlines()[0]}")
    choices = _BY.get(kind.__name__, ("values",))
    for by in choices:
        call = "attribute" if issubclass(kind, attr.FeatureAblation) else _CALLS.get(by, "get_spatial_attributes")
        print(f"\n--by {by}, --option NAME=VALUE:" if len(choices) > 1 else "\n--option NAME=VALUE:")
        defaults = {
            parameter.name: parameter.default
            for parameter in inspect.signature(getattr(kind, call)).parameters.values()
            if parameter.name not in _OWN
        } | getattr(kind, "_own", {})
        for option, default in defaults.items():
            print(f"  {option} = {default!r}")
