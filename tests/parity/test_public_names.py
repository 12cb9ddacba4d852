"""Every public name of meteors 0.2 is here, under the same path and with the same parameters, and a test uses it.

The names are stored in public_names.json, by tools/public_names.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_names", ROOT / "tools" / "public_names.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TOOL = tool()
NAMES: dict[str, dict[str, Any]] = TOOL.load()

NAMES_ALONE = "names of regions or of a sensor need no mask"
LIMIT = "None lets the engine choose how many samples the model sees at once"
# Parameters that are meant to differ: of each path, the parameter as it is here, and why.
DIFFERENCES: dict[str, dict[str, str]] = {
    "meteors.attr.lime.Lime": {"interpretable_model=None": "a Lasso of its own for each Lime, instead of a shared one"},
    "meteors.attr.lime.Lime.get_spatial_attributes": {"perturbations_per_eval=None": LIMIT},
    "meteors.attr.lime.Lime.get_spectral_attributes": {"perturbations_per_eval=None": LIMIT},
    "meteors.attr.noise_tunnel.HyperNoiseTunnel.attribute": {"steps_per_batch=None": LIMIT},
    "meteors.attr.noise_tunnel.NoiseTunnel.attribute": {"steps_per_batch=None": LIMIT},
    "meteors.attr.occlusion.Occlusion.attribute": {"perturbations_per_eval=None": LIMIT},
    "meteors.attr.occlusion.Occlusion.get_spatial_attributes": {"perturbations_per_eval=None": LIMIT},
    "meteors.attr.occlusion.Occlusion.get_spectral_attributes": {"perturbations_per_eval=None": LIMIT},
    "meteors.visualize.attr_visualize.visualize_spectral_aggregated_attributes": {"band_mask=None": NAMES_ALONE},
}


def found(path: str) -> Any:
    """What has this path here, a descriptor as it stands in its class."""
    parts = path.replace("meteors", "meteors_c", 1).split(".")
    value: Any = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        if inspect.isclass(value):
            value = inspect.getattr_static(value, part)
            continue
        try:
            value = getattr(value, part)
        except AttributeError:
            value = importlib.import_module(".".join(parts[:i]))
    return value


def parameters(value: Any) -> list[str]:
    """Parameters as the store has them, without self and cls."""
    if isinstance(value, staticmethod):
        return TOOL.parameters_of(value.__func__)
    if isinstance(value, classmethod):
        return TOOL.parameters_of(value.__func__)[1:]
    listed = TOOL.parameters_of(value)
    return listed[1:] if listed[:1] == ["self"] else listed


def split(listed: list[str]) -> tuple[list[str], list[str], bool]:
    """Parameters by position, by keyword alone, and whether any other keyword is taken."""
    star = next((i for i, one in enumerate(listed) if one.startswith("*") and not one.startswith("**")), len(listed))
    named = [one for one in listed if not one.startswith("*")]
    by_position = [one for one in listed[:star] if not one.startswith("*")]
    return by_position, named[len(by_position) :], any(one.startswith("**") for one in listed)


def name_of(parameter: str) -> str:
    return parameter.partition("=")[0]


@pytest.mark.parametrize("path", NAMES)
def test_a_name(path: str) -> None:
    entry = NAMES[path]
    if entry["kind"] == "field":
        owner, _, name = path.rpartition(".")
        kind = found(owner)
        assert hasattr(kind, name) or name in inspect.signature(kind).parameters
        return
    value = found(path)
    if entry["kind"] == "module":
        assert isinstance(value, ModuleType)
    elif entry["kind"] == "class":
        assert inspect.isclass(value)
    elif entry["kind"] == "property":
        assert not callable(value)
    if "parameters" not in entry:
        return
    wanted_by_position, wanted_by_keyword, wanted_any = split(entry["parameters"])
    by_position, by_keyword, takes_any = split(parameters(value))
    meant = {name_of(one): one for one in DIFFERENCES.get(path, {})}
    wanted_by_position = [meant.get(name_of(one), one) for one in wanted_by_position]
    assert by_position[: len(wanted_by_position)] == wanted_by_position
    here = {name_of(one): one for one in by_position + by_keyword}
    for one in wanted_by_keyword:
        # One that must be given there may have a default here, and be handed on to a base class.
        assert name_of(one) in here or takes_any
        assert "=" not in one or here.get(name_of(one), one) == one
    assert takes_any or not wanted_any


@pytest.mark.parametrize("path", DIFFERENCES)
def test_a_difference_is_one(path: str) -> None:
    for parameter, why in DIFFERENCES[path].items():
        assert why
        assert parameter not in NAMES[path]["parameters"]
        assert name_of(parameter) in map(name_of, NAMES[path]["parameters"])


def test_every_name_is_used_in_a_test() -> None:
    tests = TOOL.all_tests()
    assert not [path for path in NAMES if not TOOL.tests_of(path, NAMES, tests)]
