"""Scenes of the command line, as their options say."""

from __future__ import annotations

import argparse
import os
from typing import Any

from meteors_c.cli import _values

__all__ = ["open_from"]


def open_from(arguments: argparse.Namespace, **defaults: Any) -> Any:
    """Open the scene lazily; options that were given go before `defaults`."""
    from meteors_c import io

    given = {
        "wavelengths": _values.numbers(arguments.wavelengths, "--wavelengths"),
        "wavelength_unit": arguments.wavelength_unit,
        "bad_bands": arguments.bad_bands,
        "nodata": arguments.nodata,
        "bands": _values.positions(arguments.bands),
        "variable": arguments.variable,
        "scale": arguments.scale,
    }
    options = defaults | {name: value for name, value in given.items() if value is not None}
    scene = arguments.scene
    if ":" not in scene and not scene.startswith("/vsi") and not os.path.exists(scene):
        raise FileNotFoundError(f"there is no scene {scene!r}")
    return io.open_scene(scene, **options)
